//! `/openapi.json` says what is so: every route, and what the doors really answer.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};
use toolgate::http::{Access, ROUTES};

use super::asked::{brain, calls, evaluations, others, shield, watched};
use crate::support::{Client, FakeUpstream, Response, Say, Setup, TestGateway};

async fn document(gateway: &TestGateway) -> Value {
    let answer = gateway.stranger().get("/openapi.json").send().await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    answer.json()
}

/// Every operation: method, path, what is said of it.
fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let mut found = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            found.push((method.to_uppercase(), path.clone(), operation.clone()));
        }
    }
    found
}

/// The shapes that a schema names, and those that they name in turn.
fn named(document: &Value, schema: &Value) -> Map<String, Value> {
    let (mut found, mut open) = (Map::new(), vec![schema.clone()]);
    while let Some(next) = open.pop() {
        match next {
            Value::Object(members) => {
                let reference = members.get("$ref").and_then(Value::as_str).unwrap_or_default();
                if let Some(name) =
                    reference.strip_prefix("#/components/schemas/").filter(|name| !found.contains_key(*name))
                {
                    let shape = document["components"]["schemas"][name].clone();
                    open.push(shape.clone());
                    found.insert(name.to_owned(), shape);
                }
                open.extend(members.into_iter().map(|(_, value)| value));
            }
            Value::Array(items) => open.extend(items),
            _ => {}
        }
    }
    found
}

/// A schema of the document, strict: a member that is not described does not fit.
fn fits(document: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    let mut shapes = named(document, schema);
    for shape in shapes.values_mut().filter(|shape| shape["properties"].is_object()) {
        shape["additionalProperties"] = json!(false);
    }
    let mut whole = schema.clone();
    whole["components"] = json!({"schemas": shapes});
    let validator = jsonschema::validator_for(&whole).unwrap();
    let faults: Vec<String> =
        validator.iter_errors(value).map(|fault| format!("{}: {fault}", fault.instance_path())).collect();
    if faults.is_empty() { Ok(()) } else { Err(faults.join("; ")) }
}

#[tokio::test]
async fn it_lists_every_route_and_nothing_else() {
    let gateway = Setup::new().start().await;
    let document = document(&gateway).await;
    assert_eq!(document["openapi"], "3.1.0");
    let listed: BTreeSet<String> =
        operations(&document).iter().map(|(method, path, _)| format!("{method} {path}")).collect();
    let routes: BTreeSet<String> =
        ROUTES.iter().map(|route| format!("{} {}", route.method, route.path.replace("{*", "{"))).collect();
    assert_eq!(listed, routes);
    let mut names = BTreeSet::new();
    for (method, path, operation) in operations(&document) {
        let name = format!("{method} {path}");
        assert!(operation["summary"].as_str().is_some_and(|text| !text.is_empty()), "{name}");
        assert!(names.insert(operation["operationId"].as_str().unwrap().to_owned()), "{name}: its name stands twice");
        let tags: Vec<&str> = operation["tags"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        let known = |tag: &&str| document["tags"].as_array().unwrap().iter().any(|other| other["name"] == **tag);
        assert!(tags.len() == 1 && tags.iter().all(known), "{name}: {tags:?}");
        let variables: Vec<&str> = path.split('{').skip(1).map(|rest| rest.split('}').next().unwrap()).collect();
        let described = operation["parameters"].as_array().cloned().unwrap_or_default();
        let described = described.iter().filter(|one| one["in"] == "path" && one["required"] == true);
        let described: Vec<&str> = described.map(|one| one["name"].as_str().unwrap()).collect();
        assert_eq!(described, variables, "{name}");
        let route =
            ROUTES.iter().find(|route| route.method == method && route.path.replace("{*", "{") == path).unwrap();
        let wants_key = matches!(route.access, Access::Key | Access::Scope(_) | Access::Call(_));
        let ways = match route.access {
            Access::Public => 0,
            Access::Token => 1,
            Access::Key | Access::Scope(_) | Access::Call(_) => 2,
            Access::Local => 3,
        };
        assert_eq!(operation["security"].as_array().unwrap().len(), ways, "{name}");
        assert!(!wants_key || operation["responses"]["401"].is_object(), "{name}");
    }
    gateway.finish().await;
}

#[tokio::test]
async fn its_examples_fit_its_shapes() {
    let gateway = Setup::new().start().await;
    let document = document(&gateway).await;
    let mut count = 0;
    let mut check = |what: &str, schema: &Value, example: &Value| {
        if !example.is_null() {
            count += 1;
            assert_eq!(fits(&document, schema, example), Ok(()), "{what}: {example}");
        }
    };
    for (name, shape) in document["components"]["schemas"].as_object().unwrap() {
        check(name, &json!({"$ref": format!("#/components/schemas/{name}")}), &shape["example"]);
    }
    for (method, path, operation) in operations(&document) {
        let name = format!("{method} {path}");
        for media in operation["requestBody"]["content"].as_object().into_iter().flat_map(|all| all.values()) {
            check(&name, &media["schema"], &media["example"]);
        }
        for answer in operation["responses"].as_object().unwrap().values() {
            for media in answer["content"].as_object().into_iter().flat_map(|all| all.values()) {
                check(&name, &media["schema"], &media["example"]);
            }
        }
    }
    assert!(count >= 9, "{count} examples");
    gateway.finish().await;
}

/// Whether an answer is one that the document foresees.
fn check(document: &Value, method: &str, path: &str, answer: &Response) {
    let name = format!("{method} {path}: {} {}", answer.status, answer.text);
    let pointer = format!("/paths/{}/{}", path.replace('/', "~1"), method.to_lowercase());
    let operation = document.pointer(&pointer).unwrap_or_else(|| panic!("{name}"));
    let told = &operation["responses"][answer.status.to_string()];
    assert!(told.is_object(), "{name}: this status is not described");
    for header in ["x-ratelimit-limit", "retry-after", "toolgate-audit-id", "www-authenticate"] {
        let names = told["headers"].as_object().into_iter().flat_map(|all| all.keys());
        let described = names.into_iter().any(|name| name.eq_ignore_ascii_case(header));
        assert!(described || answer.header(header).is_none(), "{name}: {header}");
    }
    let Some(media) = answer.header("content-type").map(|text| text.split(';').next().unwrap()) else {
        assert!(told["content"].is_null(), "{name}: no body");
        return;
    };
    let schema = &told["content"][media]["schema"];
    assert!(schema.is_object(), "{name}: {media} is not described");
    if media == "application/json" {
        assert_eq!(fits(document, schema, &answer.json()), Ok(()), "{name}");
    }
}

pub(super) type Asked = (&'static str, &'static str, &'static str, Value);

pub(super) const KEYS: &str = "/v1/beta/users/{user}/keys";

#[tokio::test]
async fn what_the_doors_answer_is_described() {
    let upstream = FakeUpstream::legacy().await;
    upstream.on_call(|seen| match seen.json["params"]["arguments"]["do"].as_str() {
        Some("error") => Say::Result(r#"{"content":[{"type":"text","text":"no"}],"isError":true}"#.into()),
        Some("garbage") => Say::Body("<html>".into()),
        Some("image") => Say::Result(
            r#"{"content":[{"type":"image","data":"eA==","mimeType":"image/png"}],"structuredContent":{"n":1}}"#.into(),
        ),
        _ => Say::text("done"),
    });
    let rows = "[servers.up.tools.read]\npublic = true";
    let gateway = Setup::new()
        .config(&upstream.section("up", rows))
        .config("[servers.gone]\nurl = \"http://127.0.0.1:9/mcp\"\n[plans.tight]\nrequests_per_minute = 1000")
        .config("[providers.example]\nauthorize_url = \"http://127.0.0.1:9/a\"\ntoken_url = \"http://127.0.0.1:9/t\"\nclient_id = \"x\"")
        .profile("none", "scopes = []\nallowed_tools = [\"*\"]")
        .start()
        .await;
    let document = document(&gateway).await;
    let admin = gateway.client(&gateway.writer("admin").await);
    let none = gateway.client(&gateway.key("none").await);
    let stranger = gateway.stranger();
    let requests = [calls(), others(), shield(), watched(), brain(), evaluations()].concat();
    let asked: BTreeSet<String> = requests.iter().map(|(method, path, _, _)| format!("{method} {path}")).collect();
    let all: BTreeSet<String> =
        operations(&document).iter().map(|(method, path, _)| format!("{method} {path}")).collect();
    assert_eq!(asked, all, "each operation is asked at least once");
    let mut made = None;
    for (method, path, rest, body) in &requests {
        let begin = path.split("/{").next().unwrap();
        let target = if path.contains('{') { format!("{begin}{rest}") } else { format!("{path}{rest}") };
        let ask = async |client: &Client| {
            let draft = client.draft(method, &target);
            let draft =
                if body.is_null() { draft } else { draft.header("content-type", "application/json").json(body) };
            draft.send().await
        };
        for client in [&admin, &none, &stranger] {
            let answer = ask(client).await;
            check(&document, method, path, &answer);
            if answer.status == 201 && *path == KEYS {
                made = Some(answer.json());
            }
        }
        if !body.is_null() {
            let plain = admin.draft(method, &target).header("content-type", "text/plain").text("{}").send().await;
            check(&document, method, path, &plain);
        }
    }
    // A key with a plan: its headers, and its end.
    let made = made.unwrap();
    let planned = stranger.with_key(made["key"].as_str());
    let answer = planned.post("/api/v1/mcp/invoke").json(&json!({"serverId": "up", "toolName": "read"})).send().await;
    assert!(answer.header("x-ratelimit-limit").is_some());
    check(&document, "POST", "/api/v1/mcp/invoke", &answer);
    let revoked = admin.delete(&format!("/v1/beta/users/ana/keys/{}", made["id"].as_str().unwrap())).send().await;
    assert_eq!(revoked.status, 204);
    check(&document, "DELETE", "/v1/beta/users/{user}/keys/{id}", &revoked);
    gateway.finish().await;
}

/// The page shows every operation, and asks nobody else for anything.
#[tokio::test]
async fn the_page_needs_nothing_from_elsewhere() {
    let gateway = Setup::new().start().await;
    let document = document(&gateway).await;
    let page = gateway.stranger().get("/docs").send().await;
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    assert!(page.header("content-security-policy").unwrap().starts_with("default-src 'none'"));
    for (method, path, _) in operations(&document) {
        assert!(page.text.contains(&format!("{method}</b> <code>{path}</code>")), "{method} {path}");
    }
    for shape in document["components"]["schemas"].as_object().unwrap().keys() {
        assert!(page.text.contains(&format!("id=\"{shape}\"")), "{shape}");
    }
    for word in ["<script", "src=", "url(", "href=\"http", "@import"] {
        assert!(!page.text.contains(word), "{word}");
    }
    gateway.finish().await;
}
