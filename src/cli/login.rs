//! `toolgate servers login`: shows where to go, and waits on this machine until the person comes back.

use std::time::Duration;

use anyhow::{Context, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::ask::{Desk, Need};
use super::{Common, Ended, print};
use crate::gateway::control::Command;

/// How long a person may take.
const PATIENCE: Duration = Duration::from_secs(600);
/// How long a connection may take to say what it wants.
const HEAD_DEADLINE: Duration = Duration::from_secs(10);
/// Bytes of a request head.
const MAX_HEAD: usize = 16 << 10;
const PATH: &str = "/callback";

/// Logs in at a server.
pub(super) async fn run(common: &Common, name: &str, port: u16) -> anyhow::Result<Ended> {
    let listener = TcpListener::bind(("127.0.0.1", port)).await.context("cannot listen for the way back")?;
    let redirect = format!("http://{}{PATH}", listener.local_addr()?);
    let desk = Desk::open(common, Need::Backends).await?;
    let logged_in = log_in(common, &desk, name, &listener, redirect).await;
    desk.close().await;
    logged_in
}

async fn log_in(
    common: &Common,
    desk: &Desk,
    name: &str,
    listener: &TcpListener,
    redirect: String,
) -> anyhow::Result<Ended> {
    let begun = desk.ask(Command::ServersLogin { name: name.to_owned(), redirect: redirect.clone() }).await?;
    print::note(&print::clean(&format!("open this page, and log in:\n\n  {}\n", print::text(&begun, "page"))));
    let base = redirect.strip_suffix(PATH).unwrap_or(&redirect);
    let waiting = async {
        loop {
            let (mut stream, _) = listener.accept().await?;
            let Some(target) = target(&mut stream).await else { continue };
            if !target.starts_with(PATH) {
                respond(&mut stream, "404 Not Found", "there is nothing here").await;
                continue;
            }
            // One that is wrong, from whatever page, does not end the wait.
            match desk.ask(Command::ServersCallback { name: name.to_owned(), url: format!("{base}{target}") }).await {
                Ok(answer) => {
                    respond(&mut stream, "200 OK", "logged in: you can close this page").await;
                    return Ok::<_, std::io::Error>(answer);
                }
                Err(error) => {
                    print::note(&print::clean(&format!("not logged in: {error:#}")));
                    respond(&mut stream, "400 Bad Request", "not logged in: the terminal says why").await;
                }
            }
        }
    };
    let Ok(answer) = tokio::time::timeout(PATIENCE, waiting).await else { bail!("nobody came back in time") };
    print::answer(common, &answer?, &format!("logged in at `{name}`"));
    Ok(Ended::Well)
}

/// The path and query of a `GET`, as a browser sends it.
async fn target(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    let mut piece = [0; 2048];
    let reading = async {
        while !head.windows(4).any(|end| end == b"\r\n\r\n") && head.len() < MAX_HEAD {
            let count = stream.read(&mut piece).await.ok().filter(|count| *count > 0)?;
            head.extend_from_slice(piece.get(..count)?);
        }
        Some(())
    };
    tokio::time::timeout(HEAD_DEADLINE, reading).await.ok()??;
    let line = std::str::from_utf8(head.split(|byte| *byte == b'\r').next()?).ok()?;
    line.strip_prefix("GET ")?.split(' ').next().map(str::to_owned)
}

async fn respond(stream: &mut TcpStream, status: &str, text: &str) {
    let answer = format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/plain\r\ncontent-length: {}\r\nreferrer-policy: no-referrer\r\nconnection: close\r\n\r\n{text}",
        text.len()
    );
    if stream.write_all(answer.as_bytes()).await.is_ok() {
        drop(stream.shutdown().await);
    }
}
