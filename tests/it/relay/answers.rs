//! What a client answers to a server's question is scanned as arguments are, and a question can be taken back.

use serde_json::{Value, json};

use crate::support::{Client, FakeUpstream, Say, Setup, Stream, TestGateway, eventually, hello, soon};

const ROUTE: &str = "/v1/mcp/servers/up";
const ASKS: &str = r#"{"jsonrpc":"2.0","id":"q","method":"elicitation/create","params":{"message":"who?"}}"#;
const TAKES_BACK: &str =
    r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"q","reason":"too late"}}"#;
const DONE: &str = r#"{"content":[{"type":"text","text":"done"}]}"#;

/// A key as Stripe makes them, put together here so that no file holds one.
fn key() -> String {
    ["sk", "live", "4eC39HqLyjWDarjtT1zdp7dcQx"].join("_")
}

/// A legacy client that can be asked.
async fn asked(gateway: &TestGateway) -> Client {
    let client = gateway.agent().await.at(ROUTE);
    let mut params = hello("2025-11-25");
    params["capabilities"] = json!({"elicitation": {}, "roots": {}});
    let session = client.rpc("initialize", &params).await.header("mcp-session-id").unwrap().to_owned();
    client.in_session(&session)
}

async fn answers(client: &Client, id: &Value, member: &str, answer: &Value) {
    let told = client.post(ROUTE).json(&json!({"jsonrpc": "2.0", "id": id, member: answer})).send().await;
    assert_eq!(told.status, 202, "{}", told.text);
}

/// The next message that is a request or a notification of this method.
async fn hears(stream: &mut Stream, method: &str) -> Value {
    loop {
        let message = soon("a message", stream.data()).await.expect("the stream goes on");
        if message["method"] == method {
            return message;
        }
    }
}

fn accepts(text: &str) -> Value {
    json!({"action": "accept", "content": {"note": text}})
}

fn secret() -> Value {
    accepts(&format!("it is {}", key()))
}

#[tokio::test]
async fn what_a_legacy_client_answers_is_scanned_as_its_arguments_are() {
    for (mode, expected, noted) in [
        ("off", secret(), "passed"),
        ("observe", secret(), "flagged"),
        ("redact", accepts("it is [redacted:stripe-key]"), "redacted"),
        ("block", json!({"action": "cancel"}), "blocked"),
    ] {
        let upstream = FakeUpstream::modern().await;
        upstream.on_call(|seen| match seen.json["params"].get("inputResponses") {
            Some(_) => Say::Result(DONE.into()),
            None => Say::Result(
                r#"{"resultType":"input_required","inputRequests":{"a":{"method":"elicitation/create","params":{"message":"who?"}}}}"#
                    .into(),
            ),
        });
        let section = upstream.section("up", &format!("dlp = {{ arguments = \"{mode}\" }}"));
        let gateway = Setup::new().config(&section).start().await;
        let client = asked(&gateway).await;
        let mut stream = client.request("tools/call", r#"{"name":"read"}"#).open().await;
        let question = hears(&mut stream, "elicitation/create").await;
        answers(&client, &question["id"], "result", &secret()).await;
        let answer = soon("the answer", stream.data()).await.unwrap();
        assert_eq!(answer["result"]["content"][0]["text"], "done", "{answer}");
        assert_eq!(upstream.calls()[1].json["params"]["inputResponses"]["a"], expected, "{mode}");
        let records = gateway.records().await;
        let record = records.iter().find(|record| record["tool"] == "read").unwrap();
        assert_eq!(record["dlp_result"], noted, "{mode}: {record}");
        let notes = record["notes"].to_string();
        assert_eq!(notes.contains("stripe-key ×1"), mode != "off", "{notes}");
        gateway.finish().await;
    }
}

/// Questions outside of any call have no record; what may not travel does not all the same.
#[tokio::test]
async fn an_answer_outside_of_a_call_is_scanned_too() {
    let upstream = FakeUpstream::legacy().await;
    upstream.script(|seen| match (&*seen.verb, seen.method()) {
        ("GET", _) => Some(Say::EventsThenHang(vec![ASKS.into()])),
        _ => None,
    });
    let section = upstream.section("up", "dlp = { arguments = \"block\" }");
    let gateway = Setup::new().config(&section).start().await;
    let client = asked(&gateway).await;
    let mut stream = client.get(ROUTE).header("accept", "text/event-stream").open().await;
    client.call("read", &json!({})).await;
    let question = hears(&mut stream, "elicitation/create").await;
    answers(&client, &question["id"], "result", &secret()).await;
    eventually("the server is told", async || {
        upstream.seen().into_iter().find(|seen| seen.json["id"] == "q" && seen.text.contains("may not travel"))
    })
    .await;
    assert!(!upstream.seen().iter().any(|seen| seen.text.contains(&key())));
    gateway.finish().await;
}

#[tokio::test]
async fn a_secret_goes_nowhere_in_the_uri_of_a_resource() {
    for (mode, travels, noted) in
        [("observe", true, "flagged"), ("redact", false, "blocked"), ("block", false, "blocked")]
    {
        let upstream = FakeUpstream::legacy().await;
        upstream.script(|seen| match seen.method() {
            "initialize" => Some(Say::Result(
                json!({
                    "protocolVersion": "2025-11-25", "capabilities": {"resources": {"subscribe": true}},
                    "serverInfo": {"name": "x", "version": "1"},
                })
                .to_string(),
            )),
            "resources/read" => Some(Say::Result(json!({"contents": []}).to_string())),
            "resources/subscribe" | "logging/setLevel" => Some(Say::Result("{}".into())),
            _ => None,
        });
        let section = upstream.section("up", &format!("dlp = {{ arguments = \"{mode}\" }}"));
        let gateway = Setup::new().config(&section).start().await;
        let client = asked(&gateway).await;
        for method in ["resources/read", "resources/subscribe"] {
            let answer = client.rpc(method, &json!({"uri": format!("x://{}", key())})).await;
            assert_eq!(answer.json().get("result").is_some(), travels, "{mode} {method}: {}", answer.text);
            assert!(client.rpc(method, &json!({"uri": "x://plain"})).await.json().get("result").is_some());
            let seen = upstream.seen().iter().any(|seen| seen.method() == method && seen.text.contains(&key()));
            assert_eq!(seen, travels, "{mode} {method}");
        }
        let records = gateway.records().await;
        let found = records.iter().filter(|record| record["dlp_result"] == noted).count();
        assert_eq!(found, 2, "{mode}: {records:?}");
        // What is said beside the level travels as little.
        let level = client.rpc("logging/setLevel", &json!({"level": "info", "more": key()})).await;
        assert_eq!(level.json().get("result").is_some(), travels, "{mode}: {}", level.text);
        gateway.finish().await;
    }
}

#[tokio::test]
async fn a_client_hears_that_its_question_is_taken_back() {
    let upstream = FakeUpstream::legacy().await;
    upstream.on_call(|_| Say::Events(vec![ASKS.into(), TAKES_BACK.into()], DONE.into()));
    let gateway = Setup::with(&upstream).start().await;
    let client = asked(&gateway).await;
    let mut stream = client.request("tools/call", r#"{"name":"read"}"#).open().await;
    let question = hears(&mut stream, "elicitation/create").await;
    let back = hears(&mut stream, "notifications/cancelled").await;
    // The ids of the server's hop are nothing to the client.
    assert_eq!(back["params"], json!({"requestId": question["id"], "reason": "too late"}));
    answers(&client, &question["id"], "result", &accepts("late")).await;
    assert_eq!(soon("the answer", stream.data()).await.unwrap()["result"]["content"][0]["text"], "done");
    gateway.finish().await;
    assert!(
        !upstream.seen().iter().any(|seen| seen.json["id"] == "q"),
        "a question that was taken back is not answered"
    );
}

#[tokio::test]
async fn a_modern_client_is_not_asked_what_was_taken_back() {
    let upstream = FakeUpstream::legacy().await;
    upstream.on_call(|_| Say::Events(vec![ASKS.into(), TAKES_BACK.into()], DONE.into()));
    let gateway = Setup::with(&upstream).start().await;
    let client = gateway.agent().await.at(ROUTE).modern();
    let meta = json!({"io.modelcontextprotocol/clientCapabilities": {"elicitation": {}}});
    let asked = client.rpc("tools/call", &json!({"name": "read", "_meta": meta})).await.result();
    assert_eq!((&asked["resultType"], &asked["inputRequests"]), (&json!("input_required"), &json!({})));
    let again = json!({"name": "read", "_meta": meta, "requestState": asked["requestState"]});
    assert_eq!(client.rpc("tools/call", &again).await.told(), "done");
    assert!(!upstream.seen().iter().any(|seen| seen.json["id"] == "q"));
    gateway.finish().await;
}
