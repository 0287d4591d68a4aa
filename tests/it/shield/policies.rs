//! `/v1/policies`: read, made, replaced and removed while calls go on.

use serde_json::{Value, json};
use toolgate::gateway::control::Command;

use super::{all, code, data};
use crate::support::{Client, FakeUpstream, Program, Response, Setup, TestGateway, eventually, toolgate_in};

const POLICIES: &str = "/v1/policies";
const NO_READS: &str = "@id(\"no-reads\") @reason(\"reads are off\")\nforbid (principal, action == Toolgate::Action::\"up:read\", resource);";

async fn start() -> (TestGateway, FakeUpstream, Client) {
    let upstream = FakeUpstream::legacy().await;
    let gateway = Setup::with(&upstream).shipped_policies().start().await;
    let writer = gateway.client(&gateway.writer("operator").await);
    (gateway, upstream, writer)
}

async fn create(client: &Client, body: &Value) -> Response {
    client.post(POLICIES).json(body).send().await
}

async fn put(client: &Client, name: &str, body: &Value) -> Response {
    let path = format!("{POLICIES}/{name}");
    client.draft("PUT", &path).header("content-type", "application/json").json(body).send().await
}

async fn read(client: &Client) -> u16 {
    client.post("/v1/mcps/up:read/invoke").text("{}").send().await.status
}

#[tokio::test]
async fn a_policy_counts_from_the_answer_on() {
    let (gateway, _upstream, writer) = start().await;
    let agent = gateway.agent().await;
    assert_eq!(read(&agent).await, 200);
    let before = writer.get(POLICIES).send().await.json()["meta"]["policy_version"].clone();
    let made = create(&writer, &json!({"text": NO_READS})).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let policy = data(&made);
    assert_eq!(
        (&policy["id"], &policy["version"], &policy["source"], &policy["effect"], &policy["text"]),
        (&json!("no-reads"), &json!(1), &json!("api"), &json!("forbid"), &json!(NO_READS))
    );
    assert_eq!((&policy["file"], &policy["line"]), (&json!("api:no-reads"), &json!(1)));
    assert_ne!(policy["policy_version"], before);
    let denied = agent.post("/v1/mcps/up:read/invoke").text("{}").send().await;
    assert_eq!(code(&denied), (403, "policy_denied".into()));
    assert_eq!(denied.error()["details"], json!({"policy": "no-reads", "reason": "reads are off"}));
    let shown = agent.simulate(&json!({"action": "up.read"})).await;
    assert_eq!((&shown["policies"][0]["file"], &shown["decision"]), (&json!("api:no-reads"), &json!("deny")));
    let softer = NO_READS.replace("@id", "@mode(\"shadow\") @id");
    let replaced = data(&put(&writer, "no-reads", &json!({"text": softer, "version": 1})).await);
    assert_eq!((&replaced["version"], &replaced["mode"]), (&json!(2), &json!("shadow")));
    assert_eq!(read(&agent).await, 200);
    assert_eq!(
        code(&put(&writer, "no-reads", &json!({"text": NO_READS, "version": 1})).await),
        (409, "conflict".into())
    );
    data(&put(&writer, "no-reads", &json!({"text": NO_READS})).await);
    assert_eq!(read(&agent).await, 403);
    let removed = data(&writer.delete("/v1/policies/no-reads").send().await);
    assert_eq!((&removed["id"], &removed["deleted"]), (&json!("no-reads"), &json!(true)));
    assert_eq!(removed["policy_version"], before, "the same policies have the same version");
    assert_eq!(read(&agent).await, 200);
    for gone in [
        writer.get("/v1/policies/no-reads").send().await,
        writer.delete("/v1/policies/no-reads").send().await,
        put(&writer, "no-reads", &json!({"text": NO_READS})).await,
    ] {
        assert_eq!(code(&gone), (404, "not_found".into()));
    }
    let again = data(&create(&writer, &json!({"text": NO_READS})).await);
    assert_eq!(again["version"], 5, "versions go on");
    gateway.finish().await;
}

/// Where the operator says so, whoever may make policies cannot let themselves do more.
#[tokio::test]
async fn an_api_that_forbids_permits_nothing() {
    const FREE: &str = "permit (principal, action, resource);";
    let upstream = FakeUpstream::legacy().await;
    let gateway = Setup::with(&upstream).shipped_policies().start().await;
    let operator = gateway.client(&gateway.key("operator").await);
    let destroy = async || operator.post("/v1/mcps/up:destroy/invoke").text("{}").send().await.status;
    assert_eq!(create(&operator, &json!({"name": "mine", "text": FREE})).await.status, 201);
    assert_eq!(destroy().await, 200, "as good as every tool");
    let reload = async |api: &str| {
        gateway.write("toolgate.toml", &format!("{}\n[policies]\napi = \"{api}\"\n", upstream.section("up", "")));
        eventually("the configuration is read", async || {
            let taken = gateway.gateway.state().settings.api_policies;
            (format!("{taken:?}").to_lowercase() == api).then_some(())
        })
        .await;
    };
    reload("forbid").await;
    assert_eq!(destroy().await, 403, "what was made before counts no longer");
    let refused = create(&operator, &json!({"name": "other", "text": FREE})).await;
    assert_eq!(code(&refused), (403, "policy_denied".into()));
    assert!(refused.error()["message"].as_str().unwrap().contains("`[policies]`"), "{}", refused.text);
    assert_eq!(code(&put(&operator, "mine", &json!({"text": FREE})).await), (403, "policy_denied".into()));
    let shadow = format!("@mode(\"shadow\") {FREE}");
    for (name, text) in [("no-reads", NO_READS), ("watched", shadow.as_str())] {
        assert_eq!(create(&operator, &json!({"name": name, "text": text})).await.status, 201, "{name}");
    }
    assert_eq!((read(&gateway.agent().await).await, destroy().await), (403, 403));
    let gateway = gateway.restart().await;
    let again = gateway.client(&gateway.key("operator").await);
    assert_eq!(again.post("/v1/mcps/up:destroy/invoke").text("{}").send().await.status, 403);
    assert_eq!(again.delete("/v1/policies/mine").send().await.status, 200, "it can be taken out");
    gateway.finish().await;
}

#[tokio::test]
async fn every_change_is_recorded() {
    let (gateway, _upstream, writer) = start().await;
    create(&writer, &json!({"text": NO_READS})).await;
    put(&writer, "no-reads", &json!({"text": "nonsense"})).await;
    writer.delete("/v1/policies/no-reads").send().await;
    let acts: Vec<Value> =
        gateway.records().await.into_iter().filter(|record| record["server"] == "toolgate").collect();
    let told: Vec<_> =
        acts.iter().map(|act| (act["tool"].as_str().unwrap(), act["outcome"].as_str().unwrap())).collect();
    assert_eq!(
        told,
        [("policies.create", "answered"), ("policies.replace", "failed"), ("policies.remove", "answered")]
    );
    for act in &acts {
        assert!(act["intent"].is_object() && act["key"].is_string() && act["entrance"] == "rest", "{act}");
        assert!(act["notes"].to_string().contains("no-reads"), "{act}");
    }
    assert!(acts[0]["notes"].to_string().contains("text sha256:"), "{}", acts[0]);
    gateway.finish().await;
}

#[tokio::test]
async fn what_does_not_fit_is_never_active() {
    let (gateway, _upstream, writer) = start().await;
    let version = writer.get(POLICIES).send().await.json()["meta"]["policy_version"].clone();
    let syntax = create(
        &writer,
        &json!({"name": "a", "text": "// why\nforbid (principal, action, resource)\n  when { context.effects. };"}),
    )
    .await;
    assert_eq!(code(&syntax), (400, "invalid_request".into()));
    let fault = syntax.error()["details"]["faults"][0].clone();
    assert_eq!((&fault["file"], &fault["line"]), (&json!("api:a"), &json!(3)), "{fault}");
    let schema = create(
        &writer,
        &json!({"name": "a", "text": "forbid (principal, action, resource)\nwhen { context.nonsense };"}),
    )
    .await;
    assert_eq!(code(&schema), (400, "invalid_request".into()));
    let fault = schema.error()["details"]["faults"][0].clone();
    assert_eq!((&fault["line"], &fault["policy"]), (&json!(2), &json!("a")), "{fault}");
    assert!(schema.error()["message"].as_str().unwrap().starts_with("api:a:2:"), "{}", schema.text);
    let unqualified =
        create(&writer, &json!({"name": "a", "text": "forbid (principal, action == Action::\"up:read\", resource);"}))
            .await;
    assert_eq!(unqualified.error()["details"]["faults"][0]["hint"], "write `Toolgate::Action::\"up:read\"`");
    for body in [
        json!({}),
        json!({"name": "a"}),
        json!({"text": 7}),
        json!({"name": "a", "text": ""}),
        json!({"name": "a/b", "text": NO_READS}),
        json!({"name": "simulate", "text": "forbid (principal, action, resource);"}),
        json!({"name": "default-deny", "text": "forbid (principal, action, resource);"}),
        json!({"name": "other", "text": NO_READS}),
        json!({"text": "forbid (principal, action, resource);"}),
        json!({"text": NO_READS, "force": true}),
        json!({"text": format!("{NO_READS}\n{NO_READS}")}),
        json!([NO_READS]),
    ] {
        assert_eq!(code(&create(&writer, &body).await), (400, "invalid_request".into()), "{body}");
    }
    for (name, text) in [
        ("default-allow-read", NO_READS.replace("no-reads", "default-allow-read")),
        ("block-sql-drop", "forbid (principal, action, resource);".into()),
    ] {
        assert_eq!(code(&create(&writer, &json!({"name": name, "text": text})).await), (409, "conflict".into()));
        assert_eq!(code(&put(&writer, name, &json!({"text": text})).await), (409, "conflict".into()));
        assert_eq!(code(&writer.delete(&format!("{POLICIES}/{name}")).send().await), (409, "conflict".into()));
    }
    assert_eq!(create(&writer, &json!({"text": NO_READS})).await.status, 201);
    assert_eq!(code(&create(&writer, &json!({"text": NO_READS})).await), (409, "conflict".into()));
    writer.delete("/v1/policies/no-reads").send().await;
    assert_eq!(writer.get(POLICIES).send().await.json()["meta"]["policy_version"], version);
    gateway.finish().await;
}

#[tokio::test]
async fn files_and_the_api_are_one_bundle() {
    let (gateway, _upstream, writer) = start().await;
    let agent = gateway.agent().await;
    let pending =
        json!({"name": "later", "text": "forbid (principal, action == Toolgate::Action::\"up:unheard\", resource);"});
    let made = data(&create(&writer, &pending).await);
    assert!(made["warnings"][0]["message"].as_str().unwrap().contains("pending"), "{made}");
    assert_eq!(
        made["text"],
        "@id(\"later\") forbid (principal, action == Toolgate::Action::\"up:unheard\", resource);"
    );
    create(&writer, &json!({"text": NO_READS})).await;
    let (listed, _) = all(&writer, POLICIES, 2).await;
    let ids: Vec<&str> = listed.iter().map(|policy| policy["id"].as_str().unwrap()).collect();
    assert_eq!(
        ids,
        [
            "allow-write-to-writers",
            "block-sql-drop",
            "default-allow-read",
            "destructive-needs-approval",
            "later",
            "no-reads"
        ]
    );
    let file = data(&writer.get("/v1/policies/block-sql-drop").send().await);
    assert_eq!((&file["source"], &file["version"]), (&json!("file"), &Value::Null));
    assert!(file["text"].as_str().unwrap().contains("forbid"), "{file}");
    // A file that changes leaves the API's policies where they are.
    gateway.write(
        "policies/more.cedar",
        "@id(\"more\") forbid (principal, action == Toolgate::Action::\"up:again\", resource);",
    );
    eventually("the new file counts", async || {
        let again = agent.post("/v1/mcps/up:again/invoke").text("{}").send().await;
        (again.status == 403).then_some(())
    })
    .await;
    assert_eq!(read(&agent).await, 403);
    let check = gateway.control(Command::PolicyCheck { policies: vec![("x.cedar".into(), NO_READS.into())] }).await;
    assert_eq!(check["report"]["faults"], json!([]), "{check}");
    assert!(check["report"]["warnings"].to_string().contains("it counts as `api:no-reads`"), "{check}");
    let gateway = gateway.restart().await;
    assert_eq!(read(&gateway.agent().await).await, 403, "it is stored");
    let removed = gateway.control(Command::PolicyRemove { name: "no-reads".into() }).await;
    assert_eq!(removed["deleted"], true);
    assert_eq!(read(&gateway.agent().await).await, 200);
    gateway.finish().await;
}

/// Whoever makes policies over the API keeps nobody from putting one into a file.
#[tokio::test]
async fn files_have_room_and_names_whatever_the_api_holds() {
    let (gateway, _upstream, writer) = start().await;
    let agent = gateway.agent().await;
    let full = |at: usize| {
        let text = format!(
            "@id(\"full-{at}\") forbid (principal, action == Toolgate::Action::\"up:read\", resource) when {{ false }};"
        );
        json!({"text": format!("// {}\n{text}", "x".repeat((32 << 10) - text.len() - 4))})
    };
    let long =
        json!({"name": "long", "text": format!("// {}\nforbid (principal, action, resource);", "x".repeat(32 << 10))});
    assert_eq!(code(&create(&writer, &long).await), (400, "invalid_request".into()));
    for at in 0..32 {
        assert_eq!(create(&writer, &full(at)).await.status, 201, "{at}");
    }
    assert_eq!(code(&create(&writer, &full(32)).await), (409, "conflict".into()));
    assert_eq!(read(&agent).await, 200);
    gateway.write("policies/p.cedar", &NO_READS.replace("no-reads", "full-7"));
    eventually("the file counts", async || (read(&agent).await == 403).then_some(())).await;
    let ids = async || {
        let (listed, _) = all(&writer, POLICIES, 100).await;
        listed.iter().map(|policy| policy["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let listed = ids().await;
    assert!(listed.contains(&"full-7".to_owned()) && listed.contains(&"api:full-7".to_owned()), "{listed:?}");
    let file = data(&writer.get("/v1/policies/full-7").send().await);
    assert_eq!(file["source"], "file");
    // What was made over the API goes by the name that it was given.
    let removed = writer.delete("/v1/policies/full-7").send().await;
    assert_eq!(removed.status, 200, "{}", removed.text);
    let listed = ids().await;
    assert!(listed.contains(&"full-7".to_owned()) && !listed.contains(&"api:full-7".to_owned()), "{listed:?}");
    assert_eq!(read(&agent).await, 403);
    gateway.finish().await;
}

/// A policy of the API is taken out where the configuration cannot be used: it may be what is wrong with it.
#[tokio::test]
async fn a_policy_is_removed_whatever_the_files_say() {
    let program = Program::start().await;
    let operator = program.client("admin");
    assert_eq!(create(&operator, &json!({"text": NO_READS})).await.status, 201);
    let folder = program.folder();
    program.stop().await;
    let run = async |arguments: &[&str]| toolgate_in(folder.path(), arguments, &[]).await;
    std::fs::create_dir(folder.path().join("policies")).unwrap();
    std::fs::write(folder.path().join("policies/p.cedar"), "forbid (principal, action").unwrap();
    assert_eq!(run(&["policy", "list"]).await.code, Some(1));
    let removed = run(&["policy", "remove", "no-reads"]).await;
    assert_eq!((removed.code, removed.out.trim()), (Some(0), "removed no-reads"), "{removed:?}");
    assert!(removed.err.starts_with("going by what ships"), "{removed:?}");
    let again = run(&["policy", "remove", "no-reads"]).await;
    assert!(again.code == Some(1) && again.err.contains("there is no policy `no-reads`"), "{again:?}");
    std::fs::remove_file(folder.path().join("policies/p.cedar")).unwrap();
    let list = run(&["policy", "list", "--json"]).await;
    assert!(list.code == Some(0) && !list.out.contains("no-reads"), "{list:?}");
}

#[tokio::test]
async fn each_scope_opens_its_part() {
    let upstream = FakeUpstream::legacy().await;
    let gateway = Setup::with(&upstream)
        .profile("looks", "scopes = [\"policy:read\"]")
        .profile("asks", "scopes = [\"policy:simulate\"]")
        .start()
        .await;
    let looks = gateway.client(&gateway.key("looks").await);
    let asks = gateway.client(&gateway.key("asks").await);
    let no = (403, "insufficient_scope".to_owned());
    assert_eq!(looks.get(POLICIES).send().await.status, 200);
    assert_eq!(looks.get("/v1/policies/default-allow-read").send().await.status, 200);
    let body = json!({"text": NO_READS});
    assert_eq!(code(&create(&looks, &body).await), no);
    assert_eq!(code(&put(&looks, "x", &body).await), no);
    assert_eq!(code(&looks.delete("/v1/policies/x").send().await), no);
    assert_eq!(code(&looks.post("/v1/policies/simulate").json(&json!({"action": "up.read"})).send().await), no);
    assert_eq!(code(&asks.get(POLICIES).send().await), no);
    assert_eq!(asks.post("/v1/policies/simulate").json(&json!({"action": "up.read"})).send().await.status, 200);
    gateway.finish().await;
}

/// What simulate says over REST is what it says over MCP, and nothing is called.
#[tokio::test]
async fn simulate_is_the_same_question() {
    let (gateway, upstream, _) = start().await;
    let agent = gateway.agent().await;
    for question in [
        json!({"action": "up.read", "params": {}}),
        json!({"server": "up", "tool": "write", "arguments": {"sql": "drop table x"}}),
        json!({"action": "up:destroy"}),
        json!({"action": "nowhere.tool", "params": {"command": "rm -rf /"}}),
        json!({"agent_id": "somebody", "action": "up.write"}),
    ] {
        let answer = agent.post("/v1/policies/simulate").json(&question).send().await;
        assert_eq!(data(&answer), agent.simulate(&question).await, "{question}");
        let record = gateway.record(answer.header("toolgate-audit-id").unwrap()).await;
        assert_eq!((&record["entrance"], &record["tool"]), (&json!("rest"), &json!("policy.simulate")));
    }
    for body in [json!({}), json!({"action": 7}), json!({"wat": 1}), json!([])] {
        let answer = agent.post("/v1/policies/simulate").json(&body).send().await;
        assert_eq!(code(&answer), (400, "invalid_request".into()), "{body}");
    }
    assert!(upstream.calls().is_empty());
    gateway.finish().await;
}
