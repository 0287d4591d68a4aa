//! `toolgate serve`.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, bail};
use tokio::signal::unix::{SignalKind, signal};

use super::ask::SOCKET;
use super::{Common, Ended, environment, print};
use crate::config::reachable;
use crate::domain::clock::SystemClock;
use crate::domain::secret::Secret;
use crate::gateway::{FirstKeys, Gateway, Opening};
use crate::http::{Listening, control, serve, serve_socket};

/// Shortest admin key that is taken from the environment.
const SHORTEST_ADMIN_KEY: usize = 32;

pub(super) async fn run(common: &Common, listen: SocketAddr) -> anyhow::Result<Ended> {
    let opening = Opening {
        sources: common.sources(),
        data: common.data_dir.clone(),
        admin_key: admin_key()?,
        serve: true,
        backends: true,
        clock: Arc::new(SystemClock),
    };
    // The address first: one that is taken, or open to all, must not cost a first start its keys.
    if !listen.ip().is_loopback() && opening.sources.read()?.settings.gateway.allowed_hosts.is_empty() {
        bail!(
            "`{listen}` can be reached from other machines: set `allowed_hosts` under `[gateway]` to the names that clients use"
        );
    }
    let listening = Listening::on(listen).await.with_context(|| format!("cannot listen on {listen}"))?;
    let gateway = Gateway::open(opening).await?;
    let settings = Arc::clone(&gateway.state().settings);
    let address = listening.address;
    welcome(&gateway.first_keys().await?, &settings.gateway.base_url(&address.to_string()));
    if gateway.is_demo().await {
        print::note("no configuration file found: serving the demo servers `github` and `database`");
    }
    let socket = common.data_dir.join(SOCKET);
    let local = Arc::clone(&gateway);
    // A certificate names the public URL, if anything.
    let secure = settings.gateway.tls.is_some();
    let base = settings.gateway.base_url(&address.to_string());
    let url = if secure { base } else { format!("http://{}", reachable(address)) };
    let door = gateway.tasks().spawn(async move {
        if let Err(error) = serve_socket(Arc::clone(&local), &socket, control::router(local, url)).await {
            tracing::error!(%error, "the command socket cannot be used: commands on this machine will not reach the server");
        }
    });
    let serving = gateway.tasks().spawn(serve(Arc::clone(&gateway), listening));
    let scheme = if settings.gateway.tls.is_some() { "https" } else { "http" };
    // Whoever reads the line may ask to stop at once.
    let told = told_to_stop()?;
    print::line(&format!("listening on {scheme}://{address}"));
    told.await;
    tracing::info!("stopping: calls in flight may end");
    let again = told_to_stop()?;
    tokio::select! {
        () = gateway.stop(settings.gateway.drain) => {}
        // Whoever asks twice means at once.
        () = again => bail!("stopped at once: calls in flight were given up"),
    }
    drop((door, serving));
    Ok(Ended::Well)
}

/// The admin key that the environment sets, compared as it is.
fn admin_key() -> anyhow::Result<Option<Secret>> {
    match environment("TOOLGATE_ADMIN_KEY") {
        None => Ok(None),
        Some(key) if key.len() < SHORTEST_ADMIN_KEY => {
            bail!("`TOOLGATE_ADMIN_KEY` must have at least {SHORTEST_ADMIN_KEY} characters")
        }
        Some(key) if looks_weak(&key) => {
            bail!("`TOOLGATE_ADMIN_KEY` has too few different characters: use a random one")
        }
        Some(key) => Ok(Some(Secret::new(key))),
    }
}

fn looks_weak(key: &str) -> bool {
    let mut bytes: Vec<u8> = key.bytes().collect();
    bytes.sort_unstable();
    bytes.dedup();
    bytes.len() < 8
}

/// Completes on a SIGTERM or SIGINT after this call.
pub(super) fn told_to_stop() -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// The first start's keys, each once, with what to paste.
fn welcome(first: &FirstKeys, base: &str) {
    for (name, key) in &first.keys {
        let key = key.expose();
        print::note(&format!("{name} key (shown this once): {key}"));
        print::note(&format!(
            "  curl -s {base}/v1/mcp -H 'Content-Type: application/json' -H 'X-API-Key: {key}' -d '{LIST}'"
        ));
    }
    if let Some((_, key)) = first.keys.iter().find(|(name, _)| *name == "mcp_readonly") {
        print::note("\nfor Claude Desktop (claude_desktop_config.json), with the read-only key:");
        print::note(&desktop_block(base, key.expose()));
        print::note("");
    }
}

const LIST: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{}}"#;

fn desktop_block(base: &str, key: &str) -> String {
    let block = serde_json::json!({"mcpServers": {"toolgate": {
        "command": "npx",
        "args": ["-y", "mcp-remote", format!("{base}/v1/mcp"), "--header", "X-API-Key:${TOOLGATE_KEY}"],
        "env": {"TOOLGATE_KEY": key},
    }}});
    serde_json::to_string_pretty(&block).unwrap_or_default()
}
