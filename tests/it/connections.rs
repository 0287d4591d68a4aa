//! What a connection may cost: time, memory, and the places of others.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use toolgate::http::Deadlines;

use crate::support::{FakeUpstream, Key, Say, Setup, TestGateway, eventually, invoke_params, raw_status, soon};

const SHORT: Duration = Duration::from_millis(200);
/// More than the kernel keeps for a reader that does not read.
const LARGE: usize = 12 << 20;

/// A connection from this address of the loopback net.
async fn connect(from: Ipv4Addr, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.bind((from, 0).into()).unwrap();
    soon("a connection", socket.connect(to)).await.unwrap()
}

/// Sends one call and reads nothing of the answer. The connection holds its place as long as it lives.
async fn call_and_read_nothing(gateway: &TestGateway, key: &Key, headers: &str, params: &str) -> TcpStream {
    let mut stream = connect(Ipv4Addr::LOCALHOST, gateway.address).await;
    let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{params}}}"#);
    let head = format!(
        "POST /v1/mcp HTTP/1.1\r\nhost: localhost\r\nx-api-key: {}\r\ncontent-type: application/json\r\n{headers}content-length: {}\r\n\r\n",
        key.text,
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    stream
}

/// Whether the gateway closes a connection without a word or with one.
async fn is_closed(stream: &mut TcpStream) -> bool {
    let mut rest = Vec::new();
    matches!(soon("the end of a connection", stream.read_to_end(&mut rest)).await, Ok(_) | Err(_))
}

async fn closed(gateway: &TestGateway) -> serde_json::Value {
    eventually("the record is closed", async || gateway.records().await.into_iter().find(|it| it["tool"] == "read"))
        .await
}

/// One place in all: whoever has it must not keep it by not reading.
fn one_place(upstream: &FakeUpstream) -> Setup {
    Setup::with(upstream)
        .config("[gateway]\nmax_connections = 1")
        .deadlines(Deadlines { write: SHORT, ..Deadlines::default() })
}

#[tokio::test]
async fn a_reader_that_stands_still_loses_its_connection() {
    let upstream = FakeUpstream::legacy().await;
    upstream.on_call(|_| Say::text(&"x".repeat(LARGE)));
    let gateway = one_place(&upstream).start().await;
    let key = gateway.writer("agent").await;
    let _idle = call_and_read_nothing(&gateway, &key, "", &invoke_params("up", "read", "{}")).await;
    assert_eq!(closed(&gateway).await["outcome"], "answered");
    assert_eq!(raw_status(gateway.address, "/healthz").await, Some(200), "the place is free again");
    gateway.finish().await;
}

/// The same for events; the call ends and is recorded whether anybody reads or not.
#[tokio::test]
async fn a_stalled_stream_loses_its_connection_and_its_call_is_recorded() {
    let upstream = FakeUpstream::legacy().await;
    upstream.on_call(|seen| {
        let token = &seen.json["params"]["_meta"]["progressToken"];
        let notice = json!({"jsonrpc": "2.0", "method": "notifications/progress",
            "params": {"progressToken": token, "progress": 1, "message": "x".repeat(16 << 10)}});
        Say::Events(vec![notice.to_string(); 20], format!(r#"{{"content":[],"filler":"{}"}}"#, "x".repeat(LARGE)))
    });
    let gateway = one_place(&upstream).start().await;
    let key = gateway.writer("agent").await;
    let params = r#"{"name":"up:read","arguments":{},"_meta":{"progressToken":"t"}}"#;
    let _idle = call_and_read_nothing(&gateway, &key, "accept: text/event-stream\r\n", params).await;
    assert_eq!(closed(&gateway).await["outcome"], "answered");
    assert_eq!(raw_status(gateway.address, "/healthz").await, Some(200), "the place is free again");
    gateway.finish().await;
}

/// A stream on which nothing waits may be quiet for longer than any write may stand still.
#[tokio::test]
async fn a_quiet_stream_stays_open() {
    let upstream = FakeUpstream::modern().await;
    let gateway = Setup::with(&upstream).deadlines(Deadlines { write: SHORT, ..Deadlines::default() }).start().await;
    let client = gateway.agent().await.at("/v1/mcp?surface=direct").legacy().await;
    let mut stream = client.get("/v1/mcp?surface=direct").header("accept", "text/event-stream").open().await;
    stream.next().await.unwrap();
    tokio::time::sleep(SHORT * 2).await;
    upstream.set_tools(json!([]));
    upstream.tell_changed();
    assert_eq!(stream.data().await.unwrap()["method"], "notifications/tools/list_changed");
    drop(stream);
    gateway.finish().await;
}

/// Nothing, half a head, or nothing after an answer: silence ends the connection.
#[tokio::test]
async fn silent_connections_are_closed() {
    let gateway = Setup::new().deadlines(Deadlines { head: SHORT, ..Deadlines::default() }).start().await;
    for said in [
        "",
        "GET /healthz HT",
        "GET /healthz HTTP/1.1\r\nhost: localhost\r\n",
        "GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n",
    ] {
        let mut stream = connect(Ipv4Addr::LOCALHOST, gateway.address).await;
        stream.write_all(said.as_bytes()).await.unwrap();
        assert!(is_closed(&mut stream).await, "{said}");
    }
    gateway.finish().await;
}

/// One address has a quarter of all places; what it asks for beyond is closed, and what all ask for beyond waits.
#[tokio::test]
async fn connections_are_bounded_for_each_address_and_in_all() {
    let gateway = Setup::new().config("[gateway]\nmax_connections = 8").start().await;
    let address = |last: u8| Ipv4Addr::new(127, 0, 0, last);
    let mut held = Vec::new();
    for last in 1..=4 {
        for _ in 0..2 {
            let mut stream = connect(address(last), gateway.address).await;
            // An answer shows that it has been accepted.
            stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
            assert!(matches!(soon("an answer", stream.read(&mut [0; 1024])).await, Ok(1..)), "{last}");
            held.push(stream);
        }
        if last < 4 {
            let mut third = connect(address(last), gateway.address).await;
            assert!(is_closed(&mut third).await, "one address has no more than its part");
        }
    }
    let mut late = connect(address(5), gateway.address).await;
    late.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut piece = [0; 1024];
    assert!(tokio::time::timeout(SHORT, late.read(&mut piece)).await.is_err(), "it waits");
    held.pop();
    assert!(matches!(soon("an answer", late.read(&mut piece)).await, Ok(1..)), "until a place is free");
    drop((held, late));
    gateway.finish().await;
}
