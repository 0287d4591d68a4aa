//! One path: whichever door a call comes through, it is decided alike and leaves the same record.

use serde_json::{Value, json};
use toolgate::domain::approval::Decision;
use toolgate::gateway::ApprovalsCommand;
use toolgate::gateway::control::Command;

use crate::support::{Client, FakeUpstream, Response, Say, Setup, TestGateway, tool};

/// What differs between two calls by nature.
const OWN: [&str; 9] = ["id", "time", "request_id", "entrance", "latency_ms", "prev", "hash", "seq", "era"];
const KEY: &str = "the admin key of this very test: 0123456789";
/// A case whose call is approved before each door.
const APPROVED: &str = "an approved call";
/// Of the machine's owner, whose calls come by the command line; the admin key has it too.
const PROFILES: &str = r#"
[profiles.admin]
scopes = ["tools:read", "tools:invoke", "policy:simulate", "keys:admin"]
allowed_tools = ["up:read", "up:write", "up:destroy", "up:strict", "up:limited"]
"#;

#[derive(Debug, Clone, Copy)]
enum Door {
    Bare,
    Session,
    Modern,
    Meta,
    Invoke,
    Mcps,
    Call,
    CommandLine,
}

const DOORS: [Door; 8] =
    [Door::Bare, Door::Session, Door::Modern, Door::Meta, Door::Invoke, Door::Mcps, Door::Call, Door::CommandLine];

/// What an answer says of itself: the id of its record, and the governance where the shape has a place for it.
struct Told {
    id: String,
    governance: Option<Value>,
}

impl Told {
    fn of(answer: &Response) -> Self {
        let body = answer.json();
        let meta = body["result"]["_meta"].get("toolgate/governance");
        let governance = body.get("governance").or(meta).cloned();
        let id = answer.header("toolgate-audit-id").unwrap_or_else(|| panic!("no audit id: {}", answer.text));
        Self { id: id.to_owned(), governance }
    }
}

struct Bench {
    gateway: TestGateway,
    bare: Client,
    session: Client,
}

impl Bench {
    async fn send(&self, door: Door, name: &str, arguments: &Value) -> Told {
        let id = format!("up:{name}");
        let bare = &self.bare;
        match door {
            Door::Bare => Told::of(&bare.call(&id, arguments).await),
            Door::Session => Told::of(&self.session.call(&id, arguments).await),
            Door::Modern => Told::of(&bare.modern().call(&id, arguments).await),
            Door::Meta => Told::of(&bare.invoke("up", name, &arguments.to_string()).await),
            Door::Invoke => {
                let body = json!({"serverId": "up", "toolName": name, "arguments": arguments});
                Told::of(&bare.post("/api/v1/mcp/invoke").json(&body).send().await)
            }
            Door::Mcps => {
                let body = json!({"input": arguments});
                Told::of(&bare.post(&format!("/v1/mcps/{id}/invoke")).json(&body).send().await)
            }
            Door::Call => {
                let body = json!({"tool": id, "arguments": arguments});
                Told::of(&bare.post("/api/mcp/call").json(&body).send().await)
            }
            Door::CommandLine => {
                let command = Command::Call { tool: id, arguments: arguments.clone() };
                let answer = self.gateway.control(command).await;
                let id = answer["governance"]["audit_event_id"].as_str().unwrap().to_owned();
                Told { id, governance: Some(answer["governance"].clone()) }
            }
        }
    }

    /// Has a call approved by the machine's owner.
    async fn approve(&self, name: &str, arguments: &Value) {
        let asked = self.bare.call(&format!("up:{name}"), arguments).await.result();
        let id = asked["structuredContent"]["error"]["approval"]["id"].as_str().unwrap().to_owned();
        let decision = ApprovalsCommand::Decide { id, decision: Decision::Approve, comment: None };
        assert_eq!(self.gateway.control(Command::Approvals(decision)).await["state"], "approved");
    }

    /// The record of a call, without what is its own.
    async fn facts(&self, id: &str) -> Value {
        let mut record = self.gateway.record(id).await;
        let strip = |object: &mut Value| {
            if let Some(members) = object.as_object_mut() {
                members.retain(|name, _| !OWN.contains(&name.as_str()));
            }
        };
        strip(&mut record);
        strip(&mut record["intent"]);
        // Of what became of it at the backend, the times.
        for attempt in record["backend"]["attempts"].as_array_mut().into_iter().flatten() {
            attempt.as_object_mut().unwrap().retain(|name, _| !name.ends_with("_ms"));
        }
        // The seconds to wait grow fewer meanwhile.
        if let Some((before, _)) = record["reason"].as_str().and_then(|reason| reason.split_once("try again in")) {
            record["reason"] = json!(before);
        }
        for policies in ["/policies", "/intent/policies"] {
            for policy in record.pointer_mut(policies).and_then(Value::as_array_mut).into_iter().flatten() {
                if policy.as_str().is_some_and(|policy| policy.starts_with("approval:apr_")) {
                    *policy = json!("approval:…");
                }
            }
        }
        record
    }
}

fn cases() -> Vec<(&'static str, &'static str, Value, Say, [&'static str; 2])> {
    let done = || Say::text("done");
    let failing = Say::Result(r#"{"content":[{"type":"text","text":"no"}],"isError":true}"#.into());
    vec![
        ("an allowed read", "read", json!({"q": "x", "n": 1}), done(), ["allow", "answered"]),
        ("an allowed write", "write", json!({"title": "x"}), done(), ["allow", "answered"]),
        ("denied by policy", "write", json!({"sql": "drop table x"}), done(), ["deny", "refused"]),
        ("approval needed", "destroy", json!({}), done(), ["approval", "refused"]),
        (APPROVED, "destroy", json!({"n": 1}), done(), ["allow", "answered"]),
        ("bad arguments", "strict", json!({"m": 1}), done(), ["error", "refused"]),
        ("an unknown tool", "nothing", json!({}), done(), ["deny", "refused"]),
        ("outside the profile", "hidden", json!({}), done(), ["deny", "refused"]),
        ("over a limit", "limited", json!({}), done(), ["deny", "refused"]),
        ("a backend that is down", "write", json!({}), Say::Status(502), ["allow", "failed"]),
        ("a backend that is broken", "read", json!({}), Say::Body("<html>".into()), ["allow", "failed"]),
        ("a tool's own error", "read", json!({"q": "y"}), failing, ["allow", "answered"]),
    ]
}

#[tokio::test]
async fn every_door_decides_and_records_alike() {
    let upstream = FakeUpstream::legacy().await;
    let hints = json!({"readOnlyHint": true});
    let mut strict = tool("strict", &hints);
    strict["inputSchema"] = json!({"type": "object", "required": ["n"]});
    let (write, destroy) = (tool("write", &json!({})), tool("destroy", &json!({"destructiveHint": true})));
    let reads = ["read", "hidden", "limited"].map(|name| tool(name, &hints));
    upstream.set_tools(json!([&[strict, write, destroy][..], &reads].concat()));
    let rows = "[servers.up.tools.limited]\nrate_limit = \"1/h\"";
    let gateway = Setup::new().config(&upstream.section("up", rows)).profiles(PROFILES).admin_key(KEY).start().await;
    let bare = gateway.stranger().with_key(Some(KEY));
    let session = bare.legacy().await;
    let bench = Bench { gateway, bare, session };
    bench.send(Door::Bare, "limited", &json!({})).await;
    for (what, name, arguments, say, [decision, outcome]) in cases() {
        let mut first: Option<(Value, Value)> = None;
        for door in DOORS {
            // A success before each, so that the breaker never opens.
            upstream.on_call(|_| Say::text("done"));
            bench.send(Door::Bare, "read", &json!({})).await;
            if what == APPROVED {
                bench.approve(name, &arguments).await;
            }
            let say = say.clone();
            upstream.on_call(move |_| say.clone());
            let told = bench.send(door, name, &arguments).await;
            let facts = bench.facts(&told.id).await;
            assert_eq!(
                (&facts["decision"], &facts["outcome"]),
                (&json!(decision), &json!(outcome)),
                "{what}: {door:?}"
            );
            let mut governance = told.governance.unwrap_or_default();
            if let Some(members) = governance.as_object_mut() {
                assert_eq!(members.remove("audit_event_id"), Some(json!(told.id)), "{what}: {door:?}");
            }
            let (known, said) = first.get_or_insert_with(|| (facts.clone(), governance.clone()));
            assert_eq!(&facts, known, "{what}: {door:?}");
            // A JSON-RPC error has no place for it.
            if said.is_null() {
                *said = governance;
            } else if !governance.is_null() {
                assert_eq!(&governance, said, "{what}: {door:?}");
            }
        }
        let (facts, governance) = first.unwrap();
        assert_eq!(facts["key"], "key_admin", "{what}");
        assert_eq!((&facts["server"], &facts["tool"]), (&json!("up"), &json!(name)), "{what}");
        assert_eq!(governance["decision"], decision, "{what}");
        let writes = name == "write" || name == "destroy";
        assert_eq!(facts["intent"].is_object(), outcome != "refused" && writes, "{what}");
        assert_eq!(facts.to_string().contains("approval:…"), what == APPROVED, "{what}");
    }
    bench.gateway.finish().await;
}
