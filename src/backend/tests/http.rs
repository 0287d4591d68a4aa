//! Backends over HTTP: both eras, their faults, and what is told of them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;

use super::peer::{Peer, Say, Seen, backends, call, eventually, tool};
use crate::backend::{Aside, BreakerState, SendOptions, ServerState, asides};
use crate::config::Transport;
use crate::domain::id::KeyId;
use crate::domain::json::Json;
use crate::domain::outcome::UpstreamFault;
use crate::domain::secret::Secret;
use crate::domain::tool::ToolSettings;

fn on_call(script: impl Fn(&Seen) -> Say + Send + Sync + 'static) -> impl Fn(&Seen) -> Option<Say> + Send + Sync {
    move |seen| (seen.method() == "tools/call").then(|| script(seen))
}

const RESULT: &str = r#"{ "content":[{"type":"text","text":"a"}, {"type":"new","x":1.50e2}],"structuredContent":null,"vendor":{"b":1,"a":2},"_meta":{"k":0.10} }"#;

#[tokio::test]
async fn a_modern_call_is_relayed_byte_for_byte() {
    let peer = Peer::start(true, on_call(|seen| Say::result(seen, RESULT))).await;
    let mut settings = peer.settings();
    let url = format!("http://{}/mcp?x=1", peer.address).parse().unwrap();
    let headers = vec![(http::HeaderName::from_static("authorization"), Secret::new("Bearer abc"))];
    settings.transport = Transport::Http { url, headers };
    let backends = backends(settings).await;
    let arguments = Json::from_parts(r#"{ "n": 1.50e2, "z":null, "n2":10000000000000000000000 }"#.into());
    let trace = [("traceparent", String::from("00-x"))];
    let options = SendOptions { trace: &trace, ..SendOptions::default() };
    let answer = backends.dispatch(&tool(&backends, "write"), Some(&arguments), options).await.unwrap();
    assert_eq!(answer.result.as_str(), RESULT);
    assert!(!answer.is_error);

    let seen = peer.seen();
    let sent = seen.iter().find(|seen| seen.method() == "tools/call").unwrap();
    assert!(sent.raw.contains(&format!("\"arguments\":{}", arguments.as_str())), "{}", sent.raw);
    assert_eq!(sent.body["params"]["_meta"]["traceparent"], "00-x");
    assert_eq!(sent.body["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"], "2026-07-28");
    let header = |name: &str| sent.headers.get(name).map(String::as_str);
    assert_eq!(header("mcp-protocol-version"), Some("2026-07-28"));
    assert_eq!(header("mcp-method"), Some("tools/call"));
    assert_eq!(header("mcp-name"), Some("write"));
    assert_eq!(header("authorization"), Some("Bearer abc"));
    assert_eq!(header("accept"), Some("application/json, text/event-stream"));
    assert_eq!(header("accept-encoding"), Some("identity"));
    assert_eq!(header("host"), Some(peer.address.to_string().as_str()));
    assert_eq!(header("mcp-session-id"), None);
    let status = backends.status();
    assert_eq!((status[0].era, status[0].state, status[0].tools), (Some("modern"), ServerState::Ready, 2));
    assert_eq!(status[0].title.as_deref(), Some("peer"));
}

#[tokio::test]
async fn a_legacy_call_carries_its_session_and_no_modern_keys() {
    let peer = Peer::start(false, on_call(|seen| Say::result(seen, RESULT))).await;
    let backends = backends(peer.settings()).await;
    let answer = backends.dispatch(&tool(&backends, "write"), None, SendOptions::default()).await.unwrap();
    assert_eq!(answer.result.as_str(), RESULT);
    let seen = peer.seen();
    let sent = seen.iter().find(|seen| seen.method() == "tools/call").unwrap();
    assert_eq!(sent.headers["mcp-session-id"], "session-1");
    assert_eq!(sent.headers["mcp-protocol-version"], "2025-11-25");
    assert!(!sent.raw.contains("_meta") && !sent.raw.contains("arguments"), "{}", sent.raw);
    assert!(!sent.headers.keys().any(|name| name.starts_with("mcp-name") || name.starts_with("mcp-method")));
    assert_eq!(backends.catalog().servers()[0].instructions.as_deref(), Some("be nice"));
}

#[tokio::test]
async fn answers_in_any_legal_form_are_understood() {
    let response =
        |seen: &Seen| format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{"content":[],"isError":true}}}}"#, seen.id());
    type Form = Box<dyn Fn(&Seen) -> Say + Send + Sync>;
    let forms: Vec<Form> = vec![
        Box::new(move |seen| Say::Events(vec![format!("data: {}\n\n", response(seen))])),
        Box::new(move |seen| {
            Say::Events(vec![
                "\u{feff}: hi\r\n\r\nid: 1\r\ndata:\r\n\r\n".into(),
                "event: message\rdata: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{}}\r\r"
                    .into(),
                format!("data: {}\n", response(seen)),
                "\n".into(),
            ])
        }),
        Box::new(move |seen| {
            Say::Events(
                response(seen)
                    .split_inclusive(',')
                    .map(|part| format!("data: {part}\r\n"))
                    .chain(["\r\n".into()])
                    .collect(),
            )
        }),
        Box::new(move |seen| {
            let body = response(seen);
            Say::Raw(format!("HTTP/1.1 201 Created\r\nContent-Type: Application/JSON ;charset=UTF-8\r\n\r\n{body}"))
        }),
        Box::new(move |seen| {
            let all = format!("data: {}\n\n", response(seen));
            Say::Events(all.chars().map(String::from).collect())
        }),
    ];
    let count = forms.len();
    let turn = AtomicUsize::new(0);
    let peer = Peer::start(true, on_call(move |seen| forms[turn.fetch_add(1, Ordering::SeqCst)](seen))).await;
    let backends = backends(peer.settings()).await;
    for form in 0..count {
        let answer = call(&backends, "write").await.unwrap_or_else(|error| panic!("form {form}: {error}"));
        assert!(answer.is_error);
        assert_eq!(answer.result.value(), json!({"content":[],"isError":true}));
    }
}

/// Responses that are none, each with the fault that it stands for; `ID` becomes the id asked for.
fn no_answers() -> Vec<(Say, UpstreamFault)> {
    let json = |status: &str, body: &str| {
        Say::Raw(format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        ))
    };
    let good = r#"{"jsonrpc":"2.0","id":ID,"result":{}}"#;
    vec![
        (json("200 OK", "garbage"), UpstreamFault::Garbled),
        (json("200 OK", ""), UpstreamFault::Garbled),
        (json("200 OK", r#"{"jsonrpc":"2.0","id":999999,"result":{}}"#), UpstreamFault::Garbled),
        (json("200 OK", r#"{"jsonrpc":"2.0","result":{}}"#), UpstreamFault::Garbled),
        (json("200 OK", r#"{"jsonrpc":"2.0","id":"ID","result":{}}"#), UpstreamFault::Garbled),
        (json("200 OK", &format!("{good}{good}")), UpstreamFault::Garbled),
        (json("200 OK", &format!("[{good}]")), UpstreamFault::Garbled),
        (json("200 OK", r#"{"jsonrpc":"2.0","id":ID,"result":{},"error":{"code":1}}"#), UpstreamFault::Garbled),
        (json("200 OK", r#"{"id":ID,"result":{}}"#), UpstreamFault::Garbled),
        (json("200 OK", r#"{"jsonrpc":"2.0","id":ID,"result":{"a":NaN}}"#), UpstreamFault::Garbled),
        (json("200 OK", r#"{"jsonrpc":"2.0","id":ID,"result":[]}"#), UpstreamFault::Garbled),
        (
            json("200 OK", r#"{"jsonrpc":"2.0","id":ID,"result":{"isError":true,"isError":false}}"#),
            UpstreamFault::Garbled,
        ),
        (
            json("200 OK", r#"{"jsonrpc":"2.0","id":ID,"result":{"resultType":"input_required"}}"#),
            UpstreamFault::Garbled,
        ),
        (Say::Raw("HTTP/1.1 200 OK\r\ncontent-type: text/html\r\n\r\n<html>".into()), UpstreamFault::Garbled),
        (Say::Raw("HTTP/1.1 200 OK\r\n\r\n{}".into()), UpstreamFault::Garbled),
        (
            Say::Raw(format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-type: text/plain\r\n\r\n{good}"
            )),
            UpstreamFault::Garbled,
        ),
        (
            Say::Raw(format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-encoding: gzip\r\n\r\n{good}"
            )),
            UpstreamFault::Garbled,
        ),
        (
            Say::Raw("HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n".into()),
            UpstreamFault::Garbled,
        ),
        (Say::status("204 No Content"), UpstreamFault::Garbled),
        (Say::status("202 Accepted"), UpstreamFault::Garbled),
        (Say::Events(vec![format!("data: {good}\n\ndata: {good}\n\n")]), UpstreamFault::Garbled),
        (Say::Events(vec!["data: {\n\n".into()]), UpstreamFault::Garbled),
        (Say::Events(vec![]), UpstreamFault::Down),
        (
            Say::Raw(format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 999\r\n\r\n{good}")),
            UpstreamFault::Down,
        ),
        (json("500 Oops", "secret stack trace"), UpstreamFault::Down),
        (Say::status("401 Unauthorized"), UpstreamFault::Down),
        (Say::Close, UpstreamFault::Down),
        (Say::Raw("garbage garbage garbage\r\n\r\n".into()), UpstreamFault::Down),
        (Say::Raw("HTTP/1.1 429 Slow\r\nretry-after: 7\r\ncontent-length: 0\r\n\r\n".into()), UpstreamFault::Busy),
    ]
}

#[tokio::test]
async fn what_is_no_answer_is_a_fault_and_nothing_of_it_gets_through() {
    let cases = no_answers();
    let count = cases.len();
    let says: Vec<Say> = cases.iter().map(|(say, _)| say.clone()).collect();
    let turn = AtomicUsize::new(0);
    let peer = Peer::start(
        false,
        on_call(move |seen| {
            let put = |text: &str| text.replace("ID", &seen.id());
            match &says[turn.fetch_add(1, Ordering::SeqCst)] {
                Say::Raw(raw) => {
                    let (head, body) = raw.split_once("\r\n\r\n").unwrap();
                    let body = put(body);
                    let head = if head.contains("999") {
                        head.to_owned()
                    } else {
                        head.lines().filter(|line| !line.starts_with("content-length")).collect::<Vec<_>>().join("\r\n")
                    };
                    Say::Raw(format!("{head}\r\nconnection: close\r\n\r\n{body}"))
                }
                Say::Events(pieces) => Say::Events(pieces.iter().map(|piece| put(piece)).collect()),
                other => other.clone(),
            }
        }),
    )
    .await;
    let backends = backends(peer.settings()).await;
    for (case, (say, fault)) in cases.iter().enumerate() {
        backends.hub.servers.load().values().for_each(|server| server.breaker.reset());
        let error = call(&backends, "write").await.err().unwrap_or_else(|| panic!("case {case}: {say:?} was answered"));
        assert_eq!(error.fault, *fault, "case {case}: {say:?}");
        assert!(error.message.contains("`s") && !error.message.contains("stack"), "{}", error.message);
        assert!(!error.retryable || *fault == UpstreamFault::Busy, "case {case}: a write is not repeatable");
    }
    assert_eq!(peer.count("tools/call"), count, "no write was sent twice");
}

#[tokio::test]
async fn a_json_rpc_error_passes_as_it_came() {
    let error = r#"{"code":-32602,"message":"no","data":{"x":1.0},"vendor":true}"#;
    for raw in [false, true] {
        let peer = Peer::start(
            true,
            on_call(move |seen| {
                let Say::Body(body) = Say::error(seen, error) else { unreachable!() };
                if raw {
                    Say::Raw(format!(
                        "HTTP/1.1 400 Bad\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                        body.len()
                    ))
                } else {
                    Say::Body(body)
                }
            }),
        )
        .await;
        let backends = backends(peer.settings()).await;
        for _ in 0..10 {
            let told = call(&backends, "read").await.unwrap_err();
            assert_eq!(told.fault, UpstreamFault::Rpc(Json::from_parts(error.into())));
        }
        assert_eq!(peer.count("tools/call"), 10, "an error is an answer: nothing is repeated, no breaker opens");
    }
}

#[tokio::test]
async fn only_repeatable_calls_are_sent_again_and_once() {
    for say in [Say::Close, Say::status("503 Unavailable")] {
        let failing = say.clone();
        let peer = Peer::start(true, on_call(move |_| failing.clone())).await;
        let backends = backends(peer.settings()).await;
        assert!(call(&backends, "read").await.unwrap_err().retryable);
        assert_eq!(peer.count("tools/call"), 2, "{say:?}");
        assert!(!call(&backends, "write").await.unwrap_err().retryable);
        assert_eq!(peer.count("tools/call"), 3, "{say:?}");
    }
}

#[tokio::test]
async fn the_breaker_opens_and_names_the_wait() {
    let peer = Peer::start(true, on_call(|_| Say::status("500 Oops"))).await;
    let backends = backends(peer.settings()).await;
    for _ in 0..5 {
        assert_eq!(call(&backends, "write").await.unwrap_err().fault, UpstreamFault::Down);
    }
    let refused = call(&backends, "write").await.unwrap_err();
    assert_eq!((refused.breaker, refused.retryable), ("open", true));
    assert_eq!(refused.retry_after, Some(1));
    assert_eq!(peer.count("tools/call"), 5);
    let view = backends.breaker(&"s".parse().unwrap()).unwrap();
    assert_eq!((view.state, view.failures), (BreakerState::Open, 5));
}

#[tokio::test]
async fn silence_ends_at_the_timeout_and_the_backend_is_told() {
    let peer = Peer::start(true, on_call(|_| Say::Hang)).await;
    let mut settings = peer.settings();
    settings.timeout = Duration::from_millis(80);
    let modern = backends(settings).await;
    assert_eq!(call(&modern, "read").await.unwrap_err().fault, UpstreamFault::Timeout);
    peer.hung_up().await;
    assert_eq!(peer.count("tools/call"), 1, "a timeout is not repeated");

    let peer = Peer::start(false, on_call(|_| Say::Hang)).await;
    let mut settings = peer.settings();
    settings.timeout = Duration::from_millis(80);
    let legacy = backends(settings).await;
    assert_eq!(call(&legacy, "read").await.unwrap_err().fault, UpstreamFault::Timeout);
    peer.hung_up().await;
    legacy.stop(Duration::from_secs(2)).await;
    assert_eq!(peer.count("notifications/cancelled"), 1);
    let seen = peer.seen();
    let called = seen.iter().find(|seen| seen.method() == "tools/call").unwrap();
    let told = seen.iter().find(|seen| seen.method() == "notifications/cancelled").unwrap();
    assert_eq!(told.body["params"]["requestId"], called.body["id"]);
}

#[tokio::test]
async fn an_impatient_caller_does_not_open_the_breaker() {
    let peer = Peer::start(true, on_call(|_| Say::Hang)).await;
    let backends = backends(peer.settings()).await;
    for _ in 0..6 {
        let options = SendOptions { timeout: Some(Duration::from_millis(10)), ..SendOptions::default() };
        let error = backends.dispatch(&tool(&backends, "write"), None, options).await.unwrap_err();
        assert_eq!((error.fault, error.breaker), (UpstreamFault::Timeout, "closed"));
    }
}

#[tokio::test]
async fn progress_is_passed_on_and_forged_progress_is_not() {
    let peer = Peer::start(true, on_call(|seen| {
        let token = seen.body["params"]["_meta"]["progressToken"].clone();
        let progress = |token: &serde_json::Value, n: u32| {
            format!("data: {}\n\n", json!({"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":token,"progress":n}}))
        };
        let Say::Body(answer) = Say::result(seen, "{}") else { unreachable!() };
        Say::Events(vec![progress(&token, 1), progress(&json!(4711), 2), progress(&token, 1), progress(&token, 3), format!("data: {answer}\n\n")])
    })).await;
    let backends = backends(peer.settings()).await;
    let (sink, mut told) = asides(8);
    let options = SendOptions { progress: Some(sink), ..SendOptions::default() };
    backends.dispatch(&tool(&backends, "write"), None, options).await.unwrap();
    let mut seen = Vec::new();
    while let Some(Aside::Notification { params: Some(params), .. }) = told.recv().await {
        seen.push(params.value()["progress"].as_u64().unwrap());
    }
    assert_eq!(seen, [1, 3]);
    call(&backends, "write").await.unwrap();
    assert!(peer.seen().last().unwrap().body["params"]["_meta"].get("progressToken").is_none());
}

#[tokio::test]
async fn a_lost_session_is_renewed_and_only_repeatable_calls_go_on() {
    let peer = Peer::start(false, |seen| {
        let first = seen.headers.get("mcp-session-id").is_some_and(|id| id == "session-1");
        (first && seen.method() == "tools/call").then(|| Say::status("404 Not Found"))
    })
    .await;
    let backends = backends(peer.settings()).await;
    call(&backends, "read").await.unwrap();
    assert_eq!((peer.count("initialize"), peer.count("tools/call")), (2, 2));

    let peer = Peer::start(false, |seen| {
        let first = seen.headers.get("mcp-session-id").is_some_and(|id| id == "session-1");
        (first && seen.method() == "tools/call").then(|| Say::status("404 Not Found"))
    })
    .await;
    let backends = super::peer::backends(peer.settings()).await;
    assert!(call(&backends, "write").await.unwrap_err().retryable);
    assert_eq!((peer.count("initialize"), peer.count("tools/call")), (2, 1));
    call(&backends, "write").await.unwrap();
}

#[tokio::test]
async fn requests_of_a_legacy_backend_are_answered() {
    let peer = Peer::start(
        false,
        on_call(|seen| {
            let Say::Body(answer) = Say::result(seen, "{}") else { unreachable!() };
            Say::Events(vec![
                "data: {\"jsonrpc\":\"2.0\",\"id\":\"p\",\"method\":\"ping\"}\n\n".into(),
                "data: {\"jsonrpc\":\"2.0\",\"id\":9,\"method\":\"sampling/createMessage\",\"params\":{}}\n\n".into(),
                format!("data: {answer}\n\n"),
            ])
        }),
    )
    .await;
    let backends = backends(peer.settings()).await;
    call(&backends, "write").await.unwrap();
    backends.stop(Duration::from_secs(2)).await;
    let seen = peer.seen();
    let answer = |id: serde_json::Value| {
        seen.iter().find(|seen| seen.body["id"] == id && seen.method().is_empty()).unwrap().body.clone()
    };
    assert_eq!(answer(json!("p"))["result"], json!({}));
    assert_eq!(answer(json!(9))["error"]["code"], -32601);
    assert!(seen.iter().any(|seen| seen.verb == "DELETE"), "the session is ended");
}

#[tokio::test]
async fn changes_of_the_tools_reach_the_catalogue() {
    for modern in [true, false] {
        let peer = Peer::start(modern, move |seen| {
            let changed = "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/tools/list_changed\"}\n\n";
            match (seen.verb.as_str(), seen.method()) {
                ("POST", "server/discover") if modern => Some(Say::result(
                    seen,
                    r#"{"supportedVersions":["2026-07-28"],"capabilities":{"tools":{"listChanged":true}}}"#,
                )),
                ("POST", "initialize") if !modern => Some(Say::result(
                    seen,
                    r#"{"protocolVersion":"2025-06-18","capabilities":{"tools":{"listChanged":true}},"serverInfo":{}}"#,
                )),
                ("POST", "subscriptions/listen") | ("GET", _) => Some(Say::Events(vec![changed.into()])),
                _ => None,
            }
        })
        .await;
        peer.set_tools(json!([{"name":"one"}]));
        let backends = backends(peer.settings()).await;
        let epoch = backends.catalog().epoch();
        peer.set_tools(json!([{"name":"one"},{"name":"two"}]));
        eventually(&backends, |backends| backends.catalog().get("s", "two").is_some()).await;
        assert!(backends.catalog().epoch() > epoch);
        let listen =
            peer.seen().into_iter().find(|seen| seen.verb == "GET" || seen.method() == "subscriptions/listen").unwrap();
        if modern {
            assert_eq!(listen.body["params"]["notifications"]["toolsListChanged"], true);
        }
    }
}

#[tokio::test]
async fn an_endless_list_ends() {
    let peer = Peer::start(true, |seen| {
        let page = seen.body["params"]["cursor"].as_str().map_or(0, |cursor| cursor.parse::<u32>().unwrap());
        (seen.method() == "tools/list")
            .then(|| Say::result(seen, &format!(r#"{{"tools":[{{"name":"t{page}"}}],"nextCursor":"{}"}}"#, page + 1)))
    })
    .await;
    let backends = backends(peer.settings()).await;
    let status = &backends.status()[0];
    assert_eq!((status.state, status.tools), (ServerState::Ready, 200));
    assert!(status.warnings[0].contains("pages"), "{:?}", status.warnings);
}

#[tokio::test]
async fn arguments_are_mirrored_where_the_schema_says_so() {
    let peer = Peer::start(true, |_| None).await;
    peer.set_tools(json!([
        {"name":"é","inputSchema":{"properties":{"region":{"type":"string","x-mcp-header":"Region"}}}},
        {"name":"evil","inputSchema":{"properties":{"a":{"type":"string","x-mcp-header":"A\r\nAuthorization"}}}},
    ]));
    let backends = backends(peer.settings()).await;
    assert!(backends.catalog().get("s", "evil").is_none());
    let arguments = Json::from_parts(r#"{"region":"eu"}"#.into());
    backends.dispatch(&tool(&backends, "é"), Some(&arguments), SendOptions::default()).await.unwrap();
    let sent = peer.seen().pop().unwrap();
    assert_eq!(sent.headers["mcp-param-region"], "eu");
    assert_eq!(sent.headers["mcp-name"], "=?base64?w6k=?=");
}

#[tokio::test]
async fn results_are_kept_until_something_is_written() {
    let peer = Peer::start(true, |_| None).await;
    let mut settings = peer.settings();
    settings.default_tool = Arc::new(ToolSettings { cache: Some(Duration::from_secs(60)), ..ToolSettings::default() });
    let backends = backends(settings).await;
    let kept = || SendOptions { cache_digest: Some("d".into()), ..SendOptions::default() };
    let (read, write) = (tool(&backends, "read"), tool(&backends, "write"));
    assert!(!backends.dispatch(&read, None, kept()).await.unwrap().cached);
    assert!(backends.dispatch(&read, None, kept()).await.unwrap().cached);
    assert!(!backends.dispatch(&read, None, SendOptions::default()).await.unwrap().cached);
    assert!(!backends.dispatch(&write, None, kept()).await.unwrap().cached);
    assert!(!backends.dispatch(&write, None, kept()).await.unwrap().cached, "a write is never answered from the cache");
    assert!(!backends.dispatch(&read, None, kept()).await.unwrap().cached);
}

#[tokio::test]
async fn connections_are_kept() {
    let peer = Peer::start(true, |_| None).await;
    let backends = backends(peer.settings()).await;
    for _ in 0..20 {
        call(&backends, "read").await.unwrap();
    }
    assert_eq!(peer.connections(), 1);
}

#[tokio::test]
async fn calls_over_the_limit_wait_for_a_place() {
    let peer = Peer::start(true, |_| None).await;
    let mut settings = peer.settings();
    settings.concurrency = 2;
    let backends = backends(settings).await;
    let tool = tool(&backends, "read");
    let calls = (0..30).map(|_| backends.dispatch(&tool, None, SendOptions::default()));
    let answers = futures_util::future::join_all(calls).await;
    assert!(answers.iter().all(Result::is_ok));
    assert!(peer.connections() <= 2);
}

#[tokio::test]
async fn a_server_that_comes_late_is_listed_when_it_comes() {
    let place = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = place.local_addr().unwrap();
    drop(place);
    let url = format!("http://{address}/mcp").parse().unwrap();
    let settings =
        crate::config::ServerSettings::new("s".parse().unwrap(), Transport::Http { url, headers: Vec::new() });
    let backends = backends(settings).await;
    assert_eq!(backends.status()[0].state, ServerState::Down);
    assert!(backends.status()[0].last_error.as_ref().unwrap().contains("cannot connect"));
    let kept = Json::from_parts(r#"{"era":"modern","title":"t","instructions":null,"tools":[{"name":"read"}]}"#.into());
    assert!(backends.seed(&[("s".parse().unwrap(), kept)]).is_empty());
    assert!(backends.catalog().get("s", "read").unwrap().stale);
    let error = call(&backends, "read").await.unwrap_err();
    assert_eq!((error.fault, error.retryable), (UpstreamFault::Down, true));
    let peer = Peer::start_at(address, true, |_| None).await;
    eventually(&backends, |backends| backends.status()[0].state == ServerState::Ready).await;
    assert!(!backends.catalog().get("s", "read").unwrap().stale);
    assert!(call(&backends, "read").await.is_ok());
    let listing = backends.listing(&"s".parse().unwrap()).unwrap();
    assert_eq!(listing.value()["tools"].as_array().unwrap().len(), 2);
    drop(peer);
}

#[tokio::test]
async fn a_reload_keeps_what_it_can() {
    let peer = Peer::start(true, |_| None).await;
    let settings = peer.settings();
    let backends = backends(settings.clone()).await;
    let name = settings.name.clone();
    let same = BTreeMap::from([(name.clone(), Arc::new(settings.clone()))]);
    backends.apply(&same).unwrap();
    let mut rows = settings.clone();
    rows.tools.insert("read".into(), Arc::new(ToolSettings { public: true, ..ToolSettings::default() }));
    rows.permissions = crate::config::Permissions::Explicit;
    backends.apply(&BTreeMap::from([(name.clone(), Arc::new(rows))])).unwrap();
    assert!(tool(&backends, "read").settings.public);
    assert!(backends.catalog().get("s", "write").is_none());
    assert_eq!(peer.count("server/discover"), 1, "the connection was kept");

    let other = Peer::start(true, |_| None).await;
    let mut moved = settings.clone();
    moved.transport = other.settings().transport;
    backends.apply(&BTreeMap::from([(name, Arc::new(moved))])).unwrap();
    assert!(backends.catalog().get("s", "write").unwrap().stale, "known tools stay until the new server is listed");
    backends.wait_settled().await;
    call(&backends, "write").await.unwrap();
    assert_eq!((peer.count("tools/call"), other.count("tools/call")), (0, 1));
    backends.apply(&BTreeMap::new()).unwrap();
    assert!(backends.catalog().entries().is_empty());
    backends.stop(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn a_kept_listing_serves_before_the_server_is_there_and_spares_the_probe() {
    let peer = Peer::start(false, |_| None).await;
    let kept =
        Json::from_parts(r#"{"era":"legacy","title":null,"instructions":null,"tools":[{"name":"read"}]}"#.into());
    let backends = crate::backend::Backends::new(Arc::new(crate::domain::clock::SystemClock), Vec::new());
    let name: crate::domain::id::ServerName = "s".parse().unwrap();
    assert_eq!(backends.seed(&[(name.clone(), kept), ("t".parse().unwrap(), Json::from_parts("1".into()))]).len(), 1);
    backends.apply(&BTreeMap::from([(name, Arc::new(peer.settings()))])).unwrap();
    assert!(backends.catalog().get("s", "read").unwrap().stale);
    call(&backends, "read").await.unwrap();
    assert_eq!((peer.count("server/discover"), peer.count("initialize")), (0, 1));
}

#[tokio::test]
async fn https_is_spoken_with_the_systems_roots() {
    let peer = Peer::start(true, |_| None).await;
    let mut settings = peer.settings();
    let url = format!("https://{}/mcp", peer.address).parse().unwrap();
    settings.transport = Transport::Http { url, headers: Vec::new() };
    let backends = backends(settings).await;
    assert_eq!(backends.status()[0].state, ServerState::Down);
    assert!(peer.seen().is_empty(), "nothing was said in the clear");
}

#[tokio::test]
async fn a_relist_waits_for_the_list() {
    let peer = Peer::start(true, |_| None).await;
    let backends = backends(peer.settings()).await;
    peer.set_tools(json!([{"name":"fresh"}]));
    backends.relist(&["s".parse().unwrap(), "nobody".parse().unwrap()], Duration::from_secs(10)).await;
    assert!(backends.catalog().get("s", "fresh").is_some());
}

#[tokio::test]
async fn a_client_whose_sessions_cannot_be_opened_tries_seldom() {
    let greeted = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&greeted);
    let peer = Peer::start(false, move |seen| {
        let again = seen.method() == "initialize" && count.fetch_add(1, Ordering::SeqCst) > 0;
        again.then_some(Say::status("500 Internal Server Error"))
    })
    .await;
    let backends = backends(peer.settings()).await;
    let tool = tool(&backends, "read");
    let user = Arc::from("user");
    let of = |key: &str| Some(Arc::new(crate::backend::Peer::silent(&KeyId::from(key), &user)));
    for _ in 0..10 {
        let options = SendOptions { peer: of("ann"), ..SendOptions::default() };
        assert!(backends.dispatch(&tool, None, options).await.is_err());
    }
    let tried = greeted.load(Ordering::SeqCst) - 1;
    // Each opening greets twice: as before, and as if the server had changed.
    assert!((1..=6).contains(&tried), "{tried} greetings for ten calls");
    let options = SendOptions { peer: of("bob"), ..SendOptions::default() };
    assert!(backends.dispatch(&tool, None, options).await.is_err());
    assert!(greeted.load(Ordering::SeqCst) - 1 > tried, "another client is not kept waiting");
}

/// What becomes of a call is not known where its stream broke off, whatever is said to whoever wants to take it up.
#[tokio::test]
async fn a_stream_that_is_not_taken_up_again_leaves_open_whether_the_call_was_done() {
    let lost = r#"{"jsonrpc":"2.0","error":{"code":-32001,"message":"Session not found"},"id":null}"#;
    let head = "content-type: application/json\r\nconnection: close";
    let told = Say::Raw(format!("HTTP/1.1 404 No\r\n{head}\r\ncontent-length: {}\r\n\r\n{lost}", lost.len()));
    let statuses = ["404 Not Found", "429 Slow", "503 Unavailable"].map(|status| Some(Say::status(status)));
    for refusal in statuses.into_iter().chain([Some(told), None]) {
        let (refuses, called) = (refusal.clone(), Mutex::new(String::new()));
        let peer = Peer::start(false, move |seen| {
            let resumes = seen.headers.get("last-event-id").is_some_and(|id| id == "1");
            if seen.method() == "tools/call" {
                *called.lock().unwrap() = seen.id();
                return Some(Say::Events(vec!["retry: 1\nid: 1\ndata:\n\n".into()]));
            }
            let answer = || format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{}}}}"#, called.lock().unwrap());
            let answered = || Say::Events(vec![format!("data: {}\n\n", answer())]);
            (seen.verb == "GET" && resumes).then(|| refuses.clone().unwrap_or_else(answered))
        })
        .await;
        let backends = backends(peer.settings()).await;
        match (call(&backends, "write").await, refusal) {
            (Ok(_), None) => {}
            (Err(error), Some(refusal)) => {
                let told = (&error.fault, error.retryable, error.without_effect);
                assert_eq!(told, (&UpstreamFault::Down, false, false), "{refusal:?}");
            }
            (answer, refusal) => panic!("{refusal:?}: {answer:?}"),
        }
        assert_eq!(peer.count("tools/call"), 1);
    }
}

/// The greeting of a new session is not what the caller asked for.
#[tokio::test]
async fn what_is_said_to_a_greeting_is_no_answer_to_the_call_before_it() {
    for moves in [true, false] {
        let moved = Arc::new(AtomicBool::new(false));
        let now = Arc::clone(&moved);
        let peer = Peer::start(false, move |seen| match seen.method() {
            _ if !now.load(Ordering::SeqCst) => None,
            "initialize" if moves => Some(Say::error(seen, r#"{"code":-32601,"message":"no"}"#)),
            "initialize" => Some(Say::status("500 Oops")),
            "server/discover" if moves => {
                Some(Say::result(seen, r#"{"supportedVersions":["2026-07-28"],"capabilities":{"tools":{}}}"#))
            }
            _ => seen.headers.contains_key("mcp-session-id").then(|| Say::status("404 Not Found")),
        })
        .await;
        let backends = backends(peer.settings()).await;
        moved.store(true, Ordering::SeqCst);
        let error = call(&backends, "write").await.unwrap_err();
        assert_eq!((error.fault, error.retryable, error.without_effect), (UpstreamFault::Down, true, true));
        if moves {
            eventually(&backends, |backends| backends.status()[0].era == Some("modern")).await;
            call(&backends, "write").await.unwrap();
        }
    }
}

#[tokio::test]
async fn the_stream_of_notifications_goes_on_where_it_stopped() {
    let (greetings, streams) = (AtomicUsize::new(1), AtomicUsize::new(0));
    let third = Arc::new(tokio::sync::Notify::new());
    let heard = Arc::clone(&third);
    let peer = Peer::start(false, move |seen| match (&*seen.verb, seen.method()) {
        ("POST", "initialize") => {
            let hello = r#"{"protocolVersion":"2025-11-25","capabilities":{"tools":{"listChanged":true}}}"#;
            let Say::Body(body) = Say::result(seen, hello) else { unreachable!() };
            let (session, length) = (greetings.fetch_add(1, Ordering::SeqCst), body.len());
            let head = format!("mcp-session-id: session-{session}\r\ncontent-length: {length}\r\nconnection: close");
            Some(Say::Raw(format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n{head}\r\n\r\n{body}")))
        }
        ("GET", _) => Some(match streams.fetch_add(1, Ordering::SeqCst) {
            0 => Say::Events(vec!["id: 5\nretry: 1\ndata:\n\n".into()]),
            1 => Say::status("404 Not Found"),
            _ => {
                heard.notify_one();
                Say::Hang
            }
        }),
        _ => None,
    })
    .await;
    let backends = backends(peer.settings()).await;
    tokio::time::timeout(Duration::from_secs(20), third.notified()).await.unwrap();
    let opened: Vec<_> = peer.seen().into_iter().filter(|seen| seen.verb == "GET").collect();
    let of = |at: usize, name: &str| opened[at].headers.get(name).map(String::as_str);
    let ids = [0, 1, 2].map(|at| (of(at, "mcp-session-id"), of(at, "last-event-id")));
    let (first, second) = (Some("session-1"), Some("session-2"));
    assert_eq!(ids, [(first, None), (first, Some("5")), (second, None)], "a new session knows no old event");
    drop(backends);
}

#[tokio::test]
async fn a_backend_that_tells_of_no_changes_is_listed_now_and_then() {
    let lists = AtomicUsize::new(0);
    let peer = Peer::start(false, move |seen| {
        let listed = || if lists.fetch_add(1, Ordering::SeqCst) == 0 { "first" } else { "later" };
        (seen.method() == "tools/list")
            .then(|| Say::result(seen, &json!({"tools": [{"name": listed()}], "ttlMs": 45_000}).to_string()))
    })
    .await;
    let backends = backends(peer.settings()).await;
    assert_eq!(backends.tools_ttl(&"s".parse().unwrap()), Some(45_000));
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(59)).await;
    tokio::time::resume();
    eventually(&backends, |backends| backends.catalog().get("s", "later").is_some()).await;
    assert_eq!(peer.count("tools/list"), 2);
}

#[tokio::test]
async fn another_place_of_a_server_answers_for_itself() {
    let (peer, other) = (Peer::start(true, |_| None).await, Peer::start(true, |_| None).await);
    let mut settings = peer.settings();
    settings.default_tool = Arc::new(ToolSettings { cache: Some(Duration::from_secs(60)), ..ToolSettings::default() });
    let mut moved = settings.clone();
    moved.transport = other.settings().transport;
    let backends = backends(settings.clone()).await;
    let read = async || {
        let options = SendOptions { cache_digest: Some("d".into()), ..SendOptions::default() };
        backends.dispatch(&tool(&backends, "read"), None, options).await.unwrap().cached
    };
    assert_eq!((read().await, read().await), (false, true));
    for settings in [moved, settings] {
        backends.apply(&BTreeMap::from([(settings.name.clone(), Arc::new(settings))])).unwrap();
        backends.wait_settled().await;
        assert!(!read().await, "what the other gave is not its own");
    }
    assert_eq!((peer.count("tools/call"), other.count("tools/call")), (2, 1));
}
