//! The gateway's own no: policy, roles, approval.

use serde_json::json;

use crate::support::{FakeUpstream, Setup};

#[tokio::test]
async fn a_denial_names_its_policy_and_reason() {
    let upstream = FakeUpstream::legacy().await;
    let forbid = "@id(\"no-writes-on-up\")\n@reason(\"up is frozen until Monday\")\nforbid (principal, action in Toolgate::Action::\"write\", resource in Toolgate::Server::\"up\");\n";
    let gateway = Setup::with(&upstream).shipped_policies().policy("frozen", forbid).start().await;
    let client = gateway.agent().await;
    for client in [client.clone(), client.legacy().await, client.modern()] {
        let refused = client.invoke("up", "write", "{}").await;
        assert_eq!((refused.status, refused.denied().as_str()), (200, "policy_denied"));
        assert!(refused.told().starts_with("Denied by policy no-writes-on-up ("), "{}", refused.told());
        assert!(refused.told().contains("Up is frozen until Monday."), "{}", refused.told());
        let error = refused.result()["structuredContent"]["error"].clone();
        assert_eq!(
            (error["policy"].clone(), error["reason"].clone()),
            (json!("no-writes-on-up"), json!("up is frozen until Monday"))
        );
        assert_eq!(error["policies"][0]["line"], 1);
        let governance = refused.governance();
        assert_eq!(
            (governance["decision"].clone(), governance["policy"].clone()),
            (json!("deny"), json!("no-writes-on-up"))
        );
        assert_eq!(governance["audit_event_id"], refused.header("toolgate-audit-id").unwrap());
        let record = gateway.record(refused.header("toolgate-audit-id").unwrap()).await;
        assert_eq!(record["decision"], "deny");
        assert_eq!(record["outcome"], "refused");
        assert_eq!(record["policies"][0], "no-writes-on-up");
        assert_eq!(record["reason"], "up is frozen until Monday");
        assert_eq!((record["server"].clone(), record["tool"].clone()), (json!("up"), json!("write")));
    }
    assert_eq!(client.invoke("up", "read", "{}").await.governance()["policy"], "default-allow-read");
    assert_eq!(upstream.calls().len(), 1);
    gateway.finish().await;
}

#[tokio::test]
async fn roles_permit_their_holders_and_nobody_else() {
    let upstream = FakeUpstream::legacy().await;
    let rows = "[servers.up.tools.write]\nallowed_roles = [\"finance\"]\n[servers.up.tools.read]\nallowed_roles = [\"finance\"]";
    let gateway = Setup::new().config(&upstream.section("up", rows)).start().await;
    let (writer, reader) = (gateway.agent().await, gateway.client(&gateway.key("agent").await));
    let finance = toolgate::gateway::NewKey {
        name: "f".into(),
        profile: "agent".into(),
        user: "f".into(),
        roles: vec!["finance".into()],
        ..Default::default()
    };
    let finance = gateway.client(&gateway.create(finance).await);
    for (client, tool) in [(&writer, "write"), (&reader, "write"), (&writer, "read"), (&reader, "read")] {
        let refused = client.invoke("up", tool, "{}").await;
        assert_eq!(refused.denied(), "policy_denied", "{tool}");
        assert_eq!(refused.governance()["policy"], format!("roles:up:{tool}"));
    }
    for tool in ["write", "read"] {
        let answer = finance.invoke("up", tool, "{}").await;
        assert_eq!(answer.told(), "done");
        assert_eq!(answer.governance()["policy"], format!("roles:up:{tool}"));
    }
    assert_eq!(upstream.calls().len(), 2);
    gateway.finish().await;
}

#[tokio::test]
async fn what_needs_approval_is_refused_until_there_is_one() {
    let upstream = FakeUpstream::legacy().await;
    let gateway = Setup::with(&upstream).start().await;
    let client = gateway.agent().await;
    let refused = client.invoke("up", "destroy", "{}").await;
    assert_eq!(refused.denied(), "approval_required");
    let governance = refused.governance();
    assert_eq!(
        (governance["decision"].clone(), governance["policy"].clone()),
        (json!("approval"), json!("destructive-needs-approval"))
    );
    let record = gateway.record(refused.header("toolgate-audit-id").unwrap()).await;
    assert_eq!((record["decision"].clone(), record["outcome"].clone()), (json!("approval"), json!("refused")));
    let reader = gateway.client(&gateway.key("agent").await);
    assert_eq!(reader.invoke("up", "destroy", "{}").await.denied(), "default_deny");
    assert_eq!(upstream.calls().len(), 0);
    gateway.finish().await;
}

/// The policies that ship, on what arguments would do.
#[tokio::test]
async fn effects_of_arguments_are_seen() {
    let upstream = FakeUpstream::legacy().await;
    let gateway = Setup::with(&upstream).start().await;
    let client = gateway.agent().await;
    for (tool, arguments, policy) in [
        ("write", r#"{"sql":"DROP TABLE invoices"}"#, "block-sql-drop"),
        ("write", r#"{"sql":"select 1; truncate table x"}"#, "block-sql-drop"),
        ("write", r#"{"sql":"this is not sql"}"#, "block-sql-drop"),
        ("read", r#"{"query":"drop table x"}"#, "block-sql-drop"),
        ("destroy", r#"{"sql":"drop table x"}"#, "block-sql-drop"),
    ] {
        let refused = client.invoke("up", tool, arguments).await;
        assert_eq!(refused.denied(), "policy_denied", "{tool} {arguments}");
        assert_eq!(refused.governance()["policy"], policy, "{tool} {arguments}");
    }
    for (tool, arguments) in [
        ("write", r#"{"sql":"insert into x values (1)"}"#),
        ("write", r#"{"text":"drop table x"}"#),
        ("read", r#"{"query":"how do I drop a table?"}"#),
    ] {
        assert_eq!(client.invoke("up", tool, arguments).await.told(), "done", "{tool} {arguments}");
    }
    gateway.finish().await;
}

/// A policy that cannot be evaluated denies; it is never skipped.
#[tokio::test]
async fn an_error_while_judging_is_a_deny() {
    let upstream = FakeUpstream::legacy().await;
    let mut counted = crate::support::tool("count", &json!({"readOnlyHint": true}));
    counted["inputSchema"] = json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]});
    upstream.set_tools(json!([counted, crate::support::tool("read", &json!({"readOnlyHint": true}))]));
    let overflow = "@id(\"sums\")\nforbid (principal, action == Toolgate::Action::\"up:count\", resource) when { context.input.n + 9223372036854775807 > 0 };\n";
    let gateway = Setup::with(&upstream).shipped_policies().policy("sums", overflow).start().await;
    let client = gateway.agent().await;
    let refused = client.invoke("up", "count", r#"{"n":1}"#).await;
    assert_eq!(refused.denied(), "policy_error");
    assert_eq!(refused.governance()["decision"], "deny");
    assert_eq!(client.invoke("up", "count", r#"{"n":-9223372036854775807}"#).await.told(), "done");
    assert_eq!(client.invoke("up", "read", r#"{"n":1}"#).await.told(), "done", "another tool is not concerned");
    assert_eq!(upstream.calls().len(), 2);
    gateway.finish().await;
}
