//! What a call passes before and after its backend, piece by piece: `cargo bench`.

#![expect(clippy::unwrap_used, reason = "a benchmark may stop where its own data is wrong")]

use std::collections::BTreeMap;
use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use serde_json::json;
use toolgate::domain::json::Json;
use toolgate::policy::effects::recognise;
use toolgate::scan::Scanner;
use toolgate::search::{Index, SearchOptions, ToolText};
use toolgate::wire::envelope::{Message, call_params, decode};
use toolgate::wire::splice::{Additions, splice};

const CALL: &[u8] = br#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"gateway_invoke","arguments":{"server":"github","tool":"list_repos","arguments":{"limit":5,"sort":"updated"}}}}"#;

fn wire(criterion: &mut Criterion) {
    let body = Bytes::from_static(CALL);
    criterion.bench_function("decode a call", |bencher| {
        bencher.iter(|| match decode(black_box(&body)).unwrap() {
            Message::Request { params, .. } => call_params(params.as_ref()).unwrap(),
            other => unreachable!("{other:?}"),
        });
    });
    let governance = [("toolgate/governance", r#"{"decision":"allow","policy":"default-allow-read"}"#)];
    for (name, size) in [("1 KiB", 1 << 10), ("1 MiB", 1 << 20)] {
        let result = Json::of(&json!({"content": [{"type": "text", "text": "x".repeat(size)}], "isError": false}));
        let additions = Additions { members: &[], meta: &governance };
        criterion.bench_function(&format!("splice a result of {name}"), |bencher| {
            bencher.iter(|| splice(black_box(&result), additions));
        });
    }
}

fn effects(criterion: &mut Criterion) {
    let plain = json!({"owner": "acme", "limit": 5});
    let sql = json!({"sql": "SELECT id, total FROM invoices WHERE customer = 7 ORDER BY id LIMIT 20"});
    for (name, arguments) in [("plain arguments", &plain), ("SQL", &sql)] {
        criterion.bench_function(&format!("recognise the effects of {name}"), |bencher| {
            bencher.iter(|| recognise(black_box(arguments), &BTreeMap::new()));
        });
    }
}

fn search(criterion: &mut Criterion) {
    const VERBS: [&str; 8] = ["list", "get", "create", "update", "delete", "search", "send", "export"];
    const NOUNS: [&str; 10] =
        ["invoice", "customer", "repository", "issue", "message", "file", "calendar", "user", "report", "ticket"];
    let schema = json!({"type": "object", "properties": {"id": {"type": "string", "description": "Which one"}}});
    let pairs = NOUNS.iter().flat_map(|noun| VERBS.iter().map(move |verb| (verb, noun)));
    let names: Vec<(String, String)> =
        pairs.map(|(verb, noun)| (format!("{verb}_{noun}"), format!("{verb} one {noun} of the account"))).collect();
    let servers: Vec<String> = (0..50).map(|number| format!("server{number}")).collect();
    let texts = servers.iter().flat_map(|server| {
        names.iter().map(|(name, description)| ToolText {
            server,
            server_text: "",
            name,
            title: None,
            description,
            input_schema: &schema,
        })
    });
    let index = Index::build(texts);
    let options = SearchOptions { limit: 8, server: None };
    criterion.bench_function(&format!("search {} tools", index.len()), |bencher| {
        bencher.iter(|| index.search(black_box("create a ticket for the customer"), &options, |_| true));
    });
}

fn dlp(criterion: &mut Criterion) {
    let scanner = Scanner::default();
    let rows: Vec<_> = (0..4000)
        .map(|row| json!({"id": row, "name": format!("repo-{row}"), "about": "lists orders for the billing team", "updated_at": "2026-07-28T12:00:00Z", "sha": format!("{:040x}", row * 7_919)}))
        .collect();
    let tokens = r#"{\"tokens\": 12, \"next_page_token\": \"CAUQAA\", \"by\": \"@ann\"}"#.repeat(8000);
    let texts = [
        (
            "prose",
            json!({"text": "The gateway carries each call to its server and back again. ".repeat(16_000)}).to_string(),
        ),
        ("rows", json!({"rows": rows}).to_string()),
        ("JSON in JSON", json!({"text": json!({"rows": rows}).to_string()}).to_string()),
        ("what looks like findings", json!({"text": tokens}).to_string()),
    ];
    let mut group = criterion.benchmark_group("scan");
    for (name, text) in &texts {
        assert!(scanner.scan(text.as_bytes()).findings.is_empty());
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function(*name, |bencher| bencher.iter(|| scanner.scan(black_box(text.as_bytes()))));
    }
    group.finish();
    let small = json!({"owner": "acme", "repo": "widgets", "limit": 5}).to_string();
    criterion
        .bench_function("scan small arguments", |bencher| bencher.iter(|| scanner.scan(black_box(small.as_bytes()))));
}

criterion_group!(benches, wire, effects, search, dlp);
criterion_main!(benches);
