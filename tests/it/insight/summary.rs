//! `observability.summary`.

use serde_json::{Value, json};
use toolgate::domain::clock::{ManualClock, Moment};

use super::{at_the_command_line, structure};
use crate::support::{FakeUpstream, Say, Setup, eventually};

const SUMMARY: &str = "observability.summary";
/// A whole hour.
const NOON: i64 = 1_800_000_000_000;
const MINUTE: i64 = 60_000;

/// The row of a list that is named so.
fn row(summary: &Value, list: &str, what: &str, name: &str) -> Value {
    let rows = summary[list].as_array().unwrap();
    rows.iter().find(|row| row[what] == name).cloned().unwrap_or_else(|| panic!("no {name} in {summary}"))
}

#[tokio::test]
async fn a_window_is_summed_up_by_whatever_one_asks() {
    let upstream = FakeUpstream::legacy().await;
    let rows = "[servers.up.tools.read]\ncache = \"60s\"\n[servers.up.tools.write]\nrate_limit = \"1/min\"";
    let gateway = Setup::new().config(&upstream.section("up", rows)).start().await;
    let key = gateway.writer("operator").await;
    let client = gateway.client(&key);
    client.invoke("up", "read", "{}").await;
    client.invoke("up", "read", "{}").await;
    client.invoke("up", "write", "{}").await;
    client.invoke("up", "write", "{}").await;
    client.invoke("up", "destroy", "{}").await;
    client.invoke("up", "made_up", "{}").await;
    client.invoke("nowhere", "made_up_too", "{}").await;
    upstream.on_call(|_| Say::Error(r#"{"code":1,"message":"no"}"#.into()));
    client.invoke("up", "again", "{}").await;

    let summary = structure(&client.call(SUMMARY, &json!({})).await);
    let figures = |row: &Value| {
        let number = |name: &str| row[name].as_u64().unwrap();
        (number("calls"), number("errors"), number("refused"), number("limited"), number("cached"))
    };
    assert_eq!(figures(&summary["total"]), (8, 1, 4, 1, 1), "{summary}");
    assert_eq!(figures(&row(&summary, "servers", "server", "up")), (6, 1, 2, 1, 1));
    assert_eq!(figures(&row(&summary, "servers", "server", "(unknown)")), (2, 0, 2, 0, 0));
    assert_eq!(figures(&row(&summary, "tools", "tool", "up:read")), (2, 0, 0, 0, 1));
    assert_eq!(figures(&row(&summary, "tools", "tool", "up:again")), (1, 1, 0, 0, 0));
    assert_eq!(figures(&row(&summary, "keys", "key", &key.id)), (8, 1, 4, 1, 1));
    assert_eq!(figures(&row(&summary, "decisions", "decision", "allow")), (4, 1, 0, 0, 1));
    assert_eq!(figures(&row(&summary, "decisions", "decision", "approval")), (1, 0, 1, 0, 0));
    for (rule, calls) in [("destructive-needs-approval", 1), ("limit:tool `up:write`", 1), ("unknown_tool", 2)] {
        assert_eq!(row(&summary, "refusals", "rule", rule)["calls"], calls, "{rule}");
    }
    let total = &summary["total"];
    let (p50, p99) = (total["p50_ms"].as_f64().unwrap(), total["p99_ms"].as_f64().unwrap());
    assert!(p50 > 0.0 && p50 <= p99, "{total}");
    assert_eq!(row(&summary, "decisions", "decision", "approval")["p50_ms"], Value::Null, "nothing was waited for");
    assert_eq!((summary["not_counted_yet"].clone(), summary["truncated"].clone()), (json!(0), json!(false)));

    // The same through every door; what was asked meanwhile is counted, too.
    let of_up = json!({"server": "up", "window": "30m"});
    let bare = structure(&client.call(SUMMARY, &of_up).await);
    let (legacy, modern) = (client.legacy().await, client.modern());
    for same in [
        structure(&legacy.call("observability_summary", &of_up).await),
        structure(&modern.call("observability_summary", &of_up).await),
        at_the_command_line(&gateway, SUMMARY, &of_up).await,
    ] {
        for list in ["total", "servers", "tools", "keys", "decisions", "refusals", "breakers", "left_out"] {
            assert_eq!(same[list], bare[list], "{list}");
        }
    }
    // Lists are bounded, and say so.
    let short = structure(&client.call(SUMMARY, &json!({"limit": 1})).await);
    assert_eq!(short["tools"].as_array().unwrap().len(), 1);
    assert!(short["left_out"]["tools"].as_u64().unwrap() >= 3, "{short}");
    let none = structure(&client.call(SUMMARY, &json!({"tool": "up:nothing"})).await);
    assert_eq!((none["total"]["calls"].clone(), none["tools"].clone()), (json!(0), json!([])));
    assert_eq!(structure(&client.call(SUMMARY, &json!({"key": key.id, "tool": "up:read"})).await)["total"]["calls"], 2);
    gateway.finish().await;
}

#[tokio::test]
async fn a_window_has_edges_on_whole_buckets() {
    let clock = ManualClock::at(Moment(NOON + 10 * MINUTE + 30_000));
    let upstream = FakeUpstream::legacy().await;
    let gateway = Setup::with(&upstream).clock(&clock).start().await;
    let client = gateway.client(&gateway.writer("operator").await);
    client.invoke("up", "read", "{}").await;
    let calls = async |window: &str| {
        let summary = structure(&client.call(SUMMARY, &json!({"window": window, "server": "up"})).await);
        (summary["total"]["calls"].as_u64().unwrap(), summary["since"].as_str().unwrap().to_owned())
    };
    let at = |millis: i64| Moment(NOON + millis).rfc3339();
    assert_eq!(calls("1m").await, (1, at(9 * MINUTE)));
    // A minute and a half later the bucket of the call lies just before the window.
    clock.advance(90_000);
    assert_eq!(calls("1m").await, (0, at(11 * MINUTE)));
    assert_eq!(calls("2m").await, (1, at(10 * MINUTE)));
    // Long windows are made of hours.
    assert_eq!(calls("6h").await, (1, at(12 * MINUTE - 6 * 60 * MINUTE)));
    assert_eq!(calls("7h").await, (1, at(-7 * 60 * MINUTE)));
    clock.advance(8 * 60 * MINUTE);
    assert_eq!(calls("6h").await.0, 0);
    assert_eq!(calls("9h").await.0, 1);
    assert_eq!(calls("30d").await.0, 1);
    clock.advance(31 * 24 * 60 * MINUTE);
    assert_eq!(calls("30d").await.0, 0);
    gateway.finish().await;
}

#[tokio::test]
async fn breakers_have_a_history() {
    let (sick, well) = (FakeUpstream::legacy().await, FakeUpstream::legacy().await);
    let gateway = Setup::new().config(&sick.section("sick", "")).config(&well.section("well", "")).start().await;
    sick.on_call(|_| Say::Status(500));
    let client = gateway.client(&gateway.writer("operator").await);
    for _ in 0..6 {
        client.invoke("sick", "write", "{}").await;
    }
    let opened = eventually("the opening is kept", async || {
        let summary = structure(&client.call(SUMMARY, &json!({})).await);
        (!summary["breakers"]["history"].as_array().unwrap().is_empty()).then_some(summary)
    })
    .await;
    let history = |summary: &Value| -> Vec<(String, String)> {
        let changes = summary["breakers"]["history"].as_array().unwrap().iter();
        changes
            .map(|change| (change["server"].as_str().unwrap().into(), change["state"].as_str().unwrap().into()))
            .collect()
    };
    assert_eq!(history(&opened), [("sick".into(), "open".into())]);
    assert_eq!(opened["breakers"]["history"][0]["why"], "http_status");
    assert_eq!(opened["breakers"]["open"], json!(["sick"]));
    sick.on_call(|_| Say::text("recovered"));
    eventually("the breaker closes", async || {
        (client.invoke("sick", "read", "{}").await.told() == "recovered").then_some(())
    })
    .await;
    eventually("the closing is kept", async || {
        let summary = structure(&client.call(SUMMARY, &json!({})).await);
        (history(&summary).first() == Some(&("sick".into(), "closed".into()))).then_some(())
    })
    .await;
    // It outlives the process.
    let gateway = gateway.restart().await;
    let client = gateway.client(&gateway.writer("operator").await);
    let summary = structure(&client.call(SUMMARY, &json!({"server": "sick"})).await);
    assert!(history(&summary).len() >= 2, "{summary}");
    assert_eq!(summary["breakers"]["open"], json!([]));
    let other = structure(&client.call(SUMMARY, &json!({"server": "well"})).await);
    assert_eq!(other["breakers"]["history"], json!([]));
    gateway.finish().await;
}

#[tokio::test]
async fn odd_windows_are_told() {
    let gateway = Setup::new().start().await;
    let client = gateway.client(&gateway.writer("operator").await);
    for arguments in [
        json!({"window": ""}),
        json!({"window": "30s"}),
        json!({"window": "31d"}),
        json!({"window": "1y"}),
        json!({"window": "-1h"}),
        json!({"window": "9".repeat(500)}),
        json!({"window": 5}),
        json!({"limit": 0}),
        json!({"limit": 101}),
        json!({"server": {}}),
        json!({"nonsense": 1}),
    ] {
        let answer = client.call(SUMMARY, &arguments).await;
        assert!(
            answer.json()["error"].is_object() || answer.result()["isError"] == true,
            "{arguments}: {}",
            answer.text
        );
    }
    let hostile = structure(&client.call(SUMMARY, &json!({"server": "' OR 1=1 --", "key": "\u{202e}"})).await);
    assert_eq!(hostile["total"]["calls"], 0);
    gateway.finish().await;
}
