//! A server with everything that the official conformance suite calls, in both eras of the protocol: what the suites put
//! behind the gateway to show that nothing is lost on the way. It is made with the official SDK, not with the gateway.
//!
//! ```text
//! conformance_server --listen 127.0.0.1:0 [--era both|legacy|modern]
//! conformance_server --stdio [--era …] [--counts FILE]
//! ```
//!
//! What it was asked can be counted afterwards, since some checks of the suite also pass where nothing was called:
//! `GET /counts` tells, and with `--counts` each request adds a line to a file (several children may share it).
#![expect(deprecated, reason = "sampling, roots and logging leave the protocol, but clients still speak them")]

mod ask;
mod catalogue;
mod contents;
mod fixture;
mod shared;
mod tasks;
mod tools;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use axum::Json;
use axum::routing::get;
use clap::Parser;
use rmcp::ServiceExt as _;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};

use crate::fixture::Fixture;
use crate::shared::{Era, Shared};

/// A server for the official conformance suite.
#[derive(Debug, Parser)]
struct Arguments {
    /// Serves Streamable HTTP at /mcp of this address.
    #[arg(long, value_name = "ADDRESS", required_unless_present = "stdio", conflicts_with = "stdio")]
    listen: Option<SocketAddr>,
    /// Serves the standard streams.
    #[arg(long)]
    stdio: bool,
    /// Which revisions it speaks.
    #[arg(long, value_enum, default_value_t = Era::Both)]
    era: Era,
    /// Adds a line to this file for each request.
    #[arg(long, value_name = "FILE")]
    counts: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let shared = Arc::new(Shared::new(arguments.era, arguments.counts.as_deref())?);
    match arguments.listen {
        Some(address) => over_http(address, shared).await,
        None => over_stdio(shared).await,
    }
}

async fn over_http(address: SocketAddr, shared: Arc<Shared>) -> anyhow::Result<()> {
    let config = StreamableHttpServerConfig::default().enforce_origin_validation().with_allowed_origins([
        "http://localhost:*",
        "http://127.0.0.1:*",
        "http://[::1]:*",
    ]);
    let each = Arc::clone(&shared);
    let service: StreamableHttpService<Fixture, LocalSessionManager> =
        StreamableHttpService::new(move || Ok(Fixture::new(Arc::clone(&each))), Arc::default(), config);
    let router =
        axum::Router::new().nest_service("/mcp", service).route("/counts", get(async move || Json(shared.counts())));
    let listener = tokio::net::TcpListener::bind(address).await.context("the address cannot be listened on")?;
    println!("listening on http://{}/mcp", listener.local_addr()?);
    Ok(axum::serve(listener, router).await?)
}

async fn over_stdio(shared: Arc<Shared>) -> anyhow::Result<()> {
    eprintln!("serving the standard streams");
    let running = Fixture::new(shared).serve(rmcp::transport::stdio()).await?;
    running.waiting().await?;
    Ok(())
}
