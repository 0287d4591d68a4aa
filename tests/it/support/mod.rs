//! What the tests are made with: a gateway that checks itself, clients of every kind, backends that do as they are told.

mod channel;
mod client;
mod gateway;
mod host;
mod issuer;
mod program;
mod stream;
mod upstream;

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub(crate) use channel::{Act, FakeChannel, result};
pub(crate) use client::{Client, Draft, MODERN, Response, hello, invoke_params, modern_meta};
pub(crate) use gateway::{Key, Setup, TestGateway};
pub(crate) use host::Host;
pub(crate) use issuer::{Issuer, now};
pub(crate) use program::{PROGRAM, Program, children_of, command, groups_alive, is_alive, toolgate, toolgate_in};
pub(crate) use stream::{Event, Stream};
pub(crate) use upstream::{FakeUpstream, Say, Seen, tool};

/// How long anything may take that does happen.
pub(crate) const SOON: Duration = Duration::from_secs(15);

/// Asks `probe` until it has an answer.
pub(crate) async fn eventually<T>(what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let asking = async {
        loop {
            if let Some(answer) = probe().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(SOON, asking).await.unwrap_or_else(|_| panic!("never came about: {what}"))
}

/// Waits for a future that must end.
pub(crate) async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    tokio::time::timeout(SOON, future).await.unwrap_or_else(|_| panic!("took too long: {what}"))
}

/// A text with the digits of its made-up ids replaced, so that texts can be compared.
pub(crate) fn without_ids(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = ["evt_", "req_", "key_"].iter().filter_map(|mark| rest.find(mark)).min() {
        let digits = rest[at + 4..].bytes().take_while(u8::is_ascii_hexdigit).count();
        out.push_str(&rest[..at + 4]);
        if digits == 32 {
            out.push('…');
            rest = &rest[at + 36..];
        } else {
            rest = &rest[at + 4..];
        }
    }
    out + rest
}

/// Sends exactly this text on a connection of its own, and gives what comes back until the gateway closes or is silent.
pub(crate) async fn raw(address: std::net::SocketAddr, request: &str) -> String {
    let mut stream = soon("a connection", TcpStream::connect(address)).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    while !String::from_utf8_lossy(&answer).contains("\r\n\r\n") {
        match soon("an answer", stream.read(&mut piece)).await {
            Ok(count @ 1..) => answer.extend_from_slice(&piece[..count]),
            _ => break,
        }
    }
    String::from_utf8(answer).unwrap()
}

/// The status of a GET on a connection of its own; `None` where nobody takes it.
pub(crate) async fn raw_status(address: std::net::SocketAddr, path: &str) -> Option<u16> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").as_bytes()).await.ok()?;
    let mut piece = [0; 4096];
    let count = soon("an answer", stream.read(&mut piece)).await.ok()?;
    std::str::from_utf8(&piece[..count]).ok()?.split(' ').nth(1)?.parse().ok()
}
