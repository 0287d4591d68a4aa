//! `/v1/audit`: the log over HTTP.

use std::io::Read;

use serde_json::{Value, json};
use toolgate::gateway::control::Command;

use super::{all, code, data};
use crate::support::{Client, FakeUpstream, Say, Setup, TestGateway, tool};

const EVENTS: &str = "/v1/audit/events";

/// A gateway with one call of each kind behind it, and a reader of its log.
async fn busy() -> (TestGateway, FakeUpstream, Client) {
    let upstream = FakeUpstream::legacy().await;
    let gateway = Setup::with(&upstream).start().await;
    let reader = gateway.client(&gateway.writer("operator").await);
    let agent = gateway.agent().await;
    upstream.on_call(|seen| if seen.tool() == "again" { Say::Status(500) } else { Say::text("done") });
    for (tool, arguments) in [
        ("read", "{}"),
        ("write", "{}"),
        ("write", r#"{"sql":"drop table x"}"#),
        ("destroy", "{}"),
        ("again", "{}"),
        ("none", "{}"),
    ] {
        agent.invoke("up", tool, arguments).await;
    }
    (gateway, upstream, reader)
}

fn tools(records: &[Value]) -> Vec<&str> {
    records.iter().map(|record| record["tool"].as_str().unwrap_or("-")).collect()
}

#[tokio::test]
async fn filters_find_what_they_name() {
    let (gateway, _upstream, reader) = busy().await;
    let list =
        async |query: &str| data(&reader.get(&format!("{EVENTS}{query}")).send().await).as_array().unwrap().clone();
    let everything = list("?server=up").await;
    assert_eq!(tools(&everything), ["none", "again", "destroy", "write", "write", "read"], "newest first");
    for member in [
        "id",
        "time",
        "request_id",
        "entrance",
        "key",
        "user",
        "agent",
        "server",
        "tool",
        "decision",
        "outcome",
        "policies",
        "policy_version",
        "dlp_result",
        "latency_ms",
        "arguments_digest",
        "arguments",
        "prev",
        "hash",
    ] {
        assert!(!everything[3][member].is_null(), "{member}: {}", everything[3]);
    }
    let (narrowed, whole) = (list("?tool=up:write").await, list("?tool=write&server=up").await);
    assert_eq!((tools(&narrowed), &narrowed), (vec!["write", "write"], &whole));
    for spelling in ["up/write", "up.write", "up__write"] {
        assert_eq!(list(&format!("?tool={spelling}")).await, whole, "{spelling}");
    }
    assert_eq!(tools(&list("?tool=up.none").await), ["none"], "a tool that is not there has records too");
    assert_eq!(tools(&list("?decision=deny&server=up").await), ["none", "write"]);
    assert_eq!(tools(&list("?decision=approval").await), ["destroy"]);
    assert_eq!(tools(&list("?outcome=failed").await), ["again"]);
    let key = everything[0]["key"].as_str().unwrap();
    assert_eq!(list(&format!("?key={key}")).await.len(), 6);
    assert_eq!(list("?key=key_nobody").await, Vec::<Value>::new());
    let time = everything[2]["time"].as_str().unwrap();
    let (late, early) = (list(&format!("?server=up&from={time}")).await, list(&format!("?server=up&to={time}")).await);
    assert!(late.len() >= 3 && early.len() <= 3 && late.len() + early.len() == 6, "{time}: {late:?}");
    assert_eq!(list("?to=2020-01-01").await, Vec::<Value>::new());
    assert_eq!(list("?server=up&from=2020-01-01").await.len(), 6);
    for bad in [
        "?from=soon",
        "?to=2020-13-01",
        "?decision=maybe",
        "?outcome=x",
        "?limit=1000",
        "?since=2020-01-01",
        "?cursor=YQ",
    ] {
        assert_eq!(code(&reader.get(&format!("{EVENTS}{bad}")).send().await), (400, "invalid_request".into()), "{bad}");
    }
    gateway.finish().await;
}

/// What is recorded meanwhile comes before the first page and moves nothing.
#[tokio::test]
async fn cursors_hold_while_records_come() {
    let (gateway, _upstream, reader) = busy().await;
    let agent = gateway.agent().await;
    let (expected, _) = all(&reader, "/v1/audit/events?server=up", 50).await;
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let answer = reader.get(&format!("{EVENTS}?server=up&limit=2&cursor={cursor}")).send().await;
        seen.extend(data(&answer).as_array().unwrap().clone());
        agent.invoke("up", "read", "{}").await;
        match answer.json()["meta"]["next_cursor"].as_str() {
            Some(next) => cursor = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(seen, expected);
    gateway.finish().await;
}

#[tokio::test]
async fn one_record_is_told_as_the_list_tells_it() {
    let (gateway, _upstream, reader) = busy().await;
    let listed = data(&reader.get(EVENTS).send().await)[0].clone();
    let id = listed["id"].as_str().unwrap();
    assert_eq!(data(&reader.get(&format!("{EVENTS}/{id}")).send().await), listed);
    assert_eq!(code(&reader.get(&format!("{EVENTS}/evt_none")).send().await), (404, "not_found".into()));
    let agent = gateway.agent().await;
    for path in ["/v1/audit/events", "/v1/audit/events/evt_none", "/v1/audit/export"] {
        let refused = agent.get(path).send().await;
        assert_eq!(code(&refused), (403, "insufficient_scope".into()), "{path}");
        assert_eq!(refused.error()["details"], json!({"scope": "audit:read"}));
    }
    gateway.finish().await;
}

fn unzipped(bytes: &[u8]) -> String {
    let mut text = String::new();
    flate2::read::GzDecoder::new(bytes).read_to_string(&mut text).unwrap();
    text
}

/// Over HTTP and at the command line an export is the same text.
#[tokio::test]
async fn an_export_is_the_whole_log() {
    let (gateway, _upstream, reader) = busy().await;
    for csv in [false, true] {
        let format = if csv { "csv" } else { "jsonl" };
        let page = gateway.control(Command::AuditExport { after: 0, limit: 5000, csv }).await;
        let answer = reader.get(&format!("/v1/audit/export?format={format}")).send().await;
        assert_eq!(answer.status, 200);
        let kind = if csv { "text/csv; charset=utf-8" } else { "application/x-ndjson" };
        assert_eq!((answer.header("content-type"), answer.header("content-encoding")), (Some(kind), None));
        let mut expected: Vec<String> = page["header"].as_str().map(str::to_owned).into_iter().collect();
        expected.extend(page["lines"].as_array().unwrap().iter().map(|line| line.as_str().unwrap().to_owned()));
        assert_eq!(answer.text.lines().collect::<Vec<_>>(), expected);
        for draft in [
            reader.get(&format!("/v1/audit/export?format={format}&gzip=true&server=up")),
            reader.get(&format!("/v1/audit/export?format={format}&server=up")).header("accept-encoding", "br, gzip"),
        ] {
            let (status, headers, bytes) = draft.send_bytes().await;
            assert_eq!((status, headers["content-encoding"].as_bytes()), (200, &b"gzip"[..]));
            let lines = unzipped(&bytes);
            let of_server = |line: &&String| line.contains(if csv { ",up," } else { "\"server\":\"up\"" });
            assert_eq!(
                lines.lines().skip(usize::from(csv)).collect::<Vec<_>>(),
                expected.iter().filter(of_server).collect::<Vec<_>>()
            );
        }
    }
    assert_eq!(code(&reader.get("/v1/audit/export?format=xml").send().await), (400, "invalid_request".into()));
    assert_eq!(code(&reader.get("/v1/audit/export?gzip=1").send().await), (400, "invalid_request".into()));
    let exports = gateway.records().await.into_iter().filter(|record| record["tool"] == "audit.export").count();
    assert_eq!(exports, 6, "an export is recorded");
    gateway.finish().await;
}

/// What JSON says of a record, CSV says too.
#[tokio::test]
async fn a_record_is_whole_as_csv_too() {
    let (gateway, _upstream, reader) = busy().await;
    let (json, csv) =
        (reader.get("/v1/audit/export").send().await, reader.get("/v1/audit/export?format=csv").send().await);
    let mut table = csv::Reader::from_reader(csv.text.as_bytes());
    let columns: Vec<String> = table.headers().unwrap().iter().map(str::to_owned).collect();
    let rows: Vec<csv::StringRecord> = table.records().map(Result::unwrap).collect();
    let mut seen = std::collections::BTreeSet::new();
    for line in json.text.lines() {
        let record: Value = serde_json::from_str(line).unwrap();
        let row = rows.iter().find(|row| row.get(0) == record["id"].as_str()).unwrap();
        let cell = |name: &str| row.get(columns.iter().position(|column| column == name).unwrap()).unwrap().to_owned();
        for name in ["code", "rule", "trace_id", "phase", "dlp_result"] {
            assert_eq!(cell(name), record[name].as_str().unwrap_or_default(), "{name} of {record}");
            seen.extend(record[name].is_string().then(|| name.to_owned()));
        }
        assert_eq!(cell("backend_transport"), record["backend"]["transport"].as_str().unwrap_or_default());
        let attempts: Vec<&str> = record["backend"]["attempts"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|attempt| attempt["ended"].as_str().unwrap())
            .collect();
        assert_eq!(cell("backend_attempts"), attempts.join("; "));
        seen.extend(attempts.into_iter().map(str::to_owned));
        assert_eq!(cell("intent_seq"), record["intent"]["seq"].as_i64().map(|seq| seq.to_string()).unwrap_or_default());
    }
    for name in ["code", "rule", "phase", "ok"] {
        assert!(seen.contains(name), "{name} stands in no record: {seen:?}");
    }
    gateway.finish().await;
}

/// More records than one read takes, filtered and not.
#[tokio::test]
async fn a_long_log_is_exported_whole() {
    let upstream = FakeUpstream::legacy().await;
    upstream
        .set_tools(json!([tool("read", &json!({"readOnlyHint": true})), tool("rare", &json!({"readOnlyHint": true}))]));
    let gateway = Setup::with(&upstream).start().await;
    let reader = gateway.client(&gateway.writer("operator").await);
    let agent = gateway.agent().await;
    for n in 0..700 {
        agent.invoke("up", if n % 100 == 50 { "rare" } else { "read" }, "{}").await;
    }
    let lines = |text: &str| text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect::<Vec<_>>();
    let whole = lines(&reader.get("/v1/audit/export?server=up").send().await.text);
    assert_eq!(whole.len(), 700);
    assert!(whole.windows(2).all(|pair| pair[0]["seq"].as_i64() < pair[1]["seq"].as_i64()));
    assert_eq!(lines(&reader.get("/v1/audit/export?tool=up:rare").send().await.text).len(), 7);
    let from = whole[650]["time"].as_str().unwrap();
    let late = lines(&reader.get(&format!("/v1/audit/export?server=up&from={from}")).send().await.text);
    assert!(
        (1..=60).contains(&late.len()) && late.iter().all(|record| record["time"].as_str().unwrap() >= from),
        "{}",
        late.len()
    );
    let (rare, _) = all(&reader, "/v1/audit/events?tool=rare", 3).await;
    assert_eq!(rare.len(), 7);
    gateway.finish().await;
}
