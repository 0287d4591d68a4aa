//! Suites and answers that would cost too much cost little.

use std::time::Duration;

use serde_json::{Value, json};

use super::{failures, run, with_suite};
use crate::support::{FakeUpstream, Say, Setup, toolgate_in};

/// An answer that is large, deep or wide, under assertions that look at all of it, many times over.
#[tokio::test]
async fn judging_ends_soon_whatever_comes() {
    let upstream = FakeUpstream::legacy().await;
    upstream.on_call(|seen| {
        let wide =
            || Value::Array((0..40_000).map(|n| json!({"n": n, "t": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!"})).collect());
        let text = match seen.json["params"]["arguments"]["what"].as_str() {
            Some("wide") => json!({"content": [], "structuredContent": {"items": wide()}}).to_string(),
            Some("deep") => {
                format!(
                    r#"{{"content":[],"structuredContent":{{"x":{}1{}}}}}"#,
                    "[".repeat(100_000),
                    "]".repeat(100_000)
                )
            }
            Some("long") => json!({"content": [{"type": "text", "text": "x".repeat(3 << 20)}]}).to_string(),
            _ => json!({"content": [{"type": "text", "text": "[1,2,3]"}]}).to_string(),
        };
        Say::Result(text)
    });
    let checks = r#"
[cases.expect]
jsonpath = [{ path = "$..*", count = 1 }, { path = "$.items[?search(@.t, '^(a|a)*$')]", count = 0 }, { path = "$[?$[*]]" }]
[cases.expect.schema]
additionalProperties = { items = { properties = { t = { pattern = "^(a|aa)+$" } } } }
"#;
    let case = |what: &str| {
        format!("[[cases]]\nname = \"{what}\"\ntool = \"up:read\"\narguments = {{ what = \"{what}\" }}\n{checks}")
    };
    let suite = format!("id = 7\nname = \"hostile\"\n{}{}{}", case("wide"), case("deep"), case("long"));
    let plain = "[[cases]]\nname = \"plain\"\ntool = \"up:read\"\nexpect = { equals = [1, 2, 3] }\n";
    let gateway = with_suite(Setup::with(&upstream), "hostile.toml", &(suite + plain)).start().await;
    let admin = gateway.client(&gateway.writer("admin").await);
    let ran = tokio::time::timeout(Duration::from_secs(12), run(&gateway, &admin, 7)).await.expect("it ends soon");
    let failed = failures(&ran);
    assert_eq!(
        failed.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
        ["wide", "deep", "long"],
        "{failed:?}"
    );
    assert!(failed[0].1.contains("too many for this path"), "{failed:?}");
    assert!(failed[2].1.contains("are not judged"), "{failed:?}");
    let kept = ran.to_string().len();
    assert!(kept < 20_000, "{kept} bytes are kept of it");
    gateway.finish().await;
}

/// Files that are no suites are faults, soon.
#[tokio::test]
async fn a_file_that_is_no_suite_is_a_fault() {
    let folder = tempfile::TempDir::new().unwrap();
    std::fs::create_dir(folder.path().join("evals")).unwrap();
    let head = "id = 7\nname = \"n\"\n[[cases]]\nname = \"c\"\ntool = \"t:u\"\n";
    for (text, fault) in [
        (format!("{head}expect = {{ jsonpath = [{{ path = \"$..*..*..*..*\" }}] }}\n"), "evals/a.toml:6:"),
        (format!("{head}expect = {{ schema = {{ \"$ref\" = \"http://127.0.0.1:9/x\" }} }}\n"), "evals/a.toml:6:"),
        (
            format!("{head}expect = {{ jsonpath = [{{ path = \"$[?{}@{}]\" }}] }}\n", "(".repeat(90), ")".repeat(90)),
            "evals/a.toml:6:",
        ),
        (format!("id = 7\nx = {}\n", "[".repeat(200_000)), "evals/a.toml:2:"),
        (format!("{head}arguments = {{ x = \"{}\" }}\n", "x".repeat(600_000)), "a suite has at most"),
        (
            format!("id = 7\nname = \"n\"\n{}", "[[cases]]\nname = \"c\"\ntool = \"t:u\"\n".repeat(5000)),
            "at most 200 are taken",
        ),
    ] {
        std::fs::write(folder.path().join("evals/a.toml"), text).unwrap();
        let ended = toolgate_in(folder.path(), &["eval", "list"], &[]).await;
        assert_eq!(ended.code, Some(1), "{fault}: {ended:?}");
        assert!(ended.err.contains(fault) && ended.err.len() < 20_000, "{fault}: {ended:?}");
    }
}
