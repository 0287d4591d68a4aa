//! Backends that ask while they work, in all four cells of the two eras: every answer reaches its asker and nobody else.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::join_all;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ClientCapabilities, ClientConfig, ContentBlock,
    ElicitRequestParams, ElicitResult, ElicitationAction, InputRequest, InputRequiredResult, ListToolsResult,
    PaginatedRequestParams, ProtocolVersion, ServerCapabilities, ServerConfig, ServerRequest, Tool,
};
use rmcp::service::{RequestContext, RoleClient, RoleServer, RunningService};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{ClientHandler, ClientLifecycleMode, ClientServiceExt, ErrorData, ServerHandler};
use serde_json::{Value, json};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::support::{FakeUpstream, Key, Say, Setup, TestGateway, eventually, soon};

/// A server whose one tool asks the client for its name.
#[derive(Debug, Clone)]
struct Asker {
    modern: bool,
}

fn question(n: &Value) -> InputRequest {
    let schema = json!({"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]});
    let params = json!({"mode": "form", "message": format!("question {n}"), "requestedSchema": schema});
    serde_json::from_value(json!({"method": "elicitation/create", "params": params})).unwrap()
}

fn said(answer: &Value) -> CallToolResult {
    CallToolResult::success(vec![ContentBlock::text(answer["content"]["name"].as_str().unwrap_or("nobody"))])
}

impl ServerHandler for Asker {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }

    fn supported_protocol_versions(&self) -> Cow<'static, [ProtocolVersion]> {
        Cow::Owned(vec![if self.modern { ProtocolVersion::V_2026_07_28 } else { ProtocolVersion::V_2025_11_25 }])
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}}});
        let definition = json!({"name": "ask", "inputSchema": schema, "annotations": {"readOnlyHint": true}});
        Ok(ListToolsResult::with_all_items(vec![serde_json::from_value::<Tool>(definition).unwrap()]))
    }

    async fn call_tool(
        &self,
        params: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let n = params.arguments.unwrap_or_default().get("n").cloned().unwrap_or_default();
        if !self.modern {
            let InputRequest::Elicitation(request) = question(&n) else { panic!("an elicitation") };
            let answer = context.peer.send_request(ServerRequest::ElicitRequest(request)).await;
            let answer = answer.map_err(|error| ErrorData::internal_error(error.to_string(), None))?;
            return Ok(said(&serde_json::to_value(answer).unwrap()).into());
        }
        match params.input_responses.as_ref().and_then(|answers| answers.get("who")) {
            Some(answer) => {
                // The state is the server's own again, byte for byte.
                assert_eq!(params.request_state.as_deref(), Some(format!("state {n}").as_str()));
                Ok(said(answer).into())
            }
            None => {
                let asks = BTreeMap::from([("who".to_owned(), question(&n))]);
                Ok(InputRequiredResult::new(Some(asks), Some(format!("state {n}"))).into())
            }
        }
    }
}

async fn asker(modern: bool) -> (String, DropGuard) {
    let stop = CancellationToken::new();
    let config = StreamableHttpServerConfig::default().with_cancellation_token(stop.child_token());
    let service: StreamableHttpService<Asker, LocalSessionManager> =
        StreamableHttpService::new(move || Ok(Asker { modern }), Arc::default(), config);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    let router = axum::Router::new().nest_service("/mcp", service);
    let serving = async move { axum::serve(listener, router).await.unwrap() };
    TaskTracker::new().spawn(stop.clone().run_until_cancelled_owned(serving));
    (url, stop.drop_guard())
}

/// A person who answers with their own name and what they were asked.
#[derive(Debug, Clone)]
struct Person(&'static str);

impl ClientHandler for Person {
    fn get_info(&self) -> ClientConfig {
        let capabilities = ClientCapabilities::builder().enable_elicitation().build();
        let mut config = ClientConfig::default();
        config.capabilities = capabilities;
        config
    }

    async fn create_elicitation(
        &self,
        request: ElicitRequestParams,
        _: RequestContext<RoleClient>,
    ) -> Result<ElicitResult, ErrorData> {
        let ElicitRequestParams::FormElicitationParams { message, .. } = request else { panic!("a form") };
        let mut answer = ElicitResult::new(ElicitationAction::Accept);
        answer.content = Some(json!({"name": format!("{} to {message}", self.0)}));
        Ok(answer)
    }
}

async fn connect(
    gateway: &TestGateway,
    key: &Key,
    person: Person,
    mode: ClientLifecycleMode,
) -> RunningService<RoleClient, Person> {
    rustls::crypto::ring::default_provider().install_default().ok();
    let url = format!("http://{}/v1/mcp/servers/asker", gateway.address);
    let config = StreamableHttpClientTransportConfig::with_uri(url).auth_header(&key.text);
    let transport = StreamableHttpClientTransport::from_config(config);
    soon("the SDK connects", Box::pin(person.serve_with_lifecycle(transport, mode))).await.unwrap()
}

fn modern() -> ClientLifecycleMode {
    ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] }
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_questions_at_once_each_reach_their_asker_in_every_cell() {
    for server in [false, true] {
        let (url, _running) = asker(server).await;
        let gateway = Setup::new().config(&format!("[servers.asker]\nurl = \"{url}\"\n")).start().await;
        for mode in [ClientLifecycleMode::Initialize, modern()] {
            let mut people = Vec::new();
            for name in ["ann", "bob"] {
                let key = gateway.writer("agent").await;
                people.push((name, Box::pin(connect(&gateway, &key, Person(name), mode.clone())).await));
            }
            let calls = people.iter().flat_map(|(name, person)| {
                (0..25).map(move |n| async move {
                    let arguments = serde_json::from_value(json!({"n": n})).unwrap();
                    let call = CallToolRequestParams::new("ask").with_arguments(arguments);
                    let answer = person.call_tool(call).await.unwrap();
                    let text = serde_json::to_value(&answer.content).unwrap()[0]["text"].clone();
                    assert_eq!(text, format!("{name} to question {n}"));
                })
            });
            soon("every answer", join_all(calls)).await;
            for (_, person) in people {
                soon("the SDK leaves", person.cancel()).await.unwrap();
            }
        }
        assert_eq!(gateway.gateway.parked_calls(), 0);
        gateway.finish().await;
    }
}

const ASKS: &str = r#"{"jsonrpc":"2.0","id":"q","method":"elicitation/create","params":{"message":"who?"}}"#;

fn wants_form() -> Value {
    json!({"io.modelcontextprotocol/clientCapabilities": {"elicitation": {"form": {}}}})
}

/// A modern client's call of `read`, its params with these members besides.
fn call(more: &Value) -> Value {
    let mut params = json!({"name": "read", "arguments": {"n": 1}, "_meta": wants_form()});
    for (name, value) in more.as_object().unwrap() {
        params[name] = value.clone();
    }
    params
}

#[tokio::test]
async fn a_parked_call_is_its_client_s_alone_and_taken_up_once() {
    let upstream = FakeUpstream::legacy().await;
    upstream.on_call(|_| Say::EventsThenHang(vec![ASKS.into()]));
    let gateway = Setup::with(&upstream).start().await;
    let (ann, bob) = (gateway.agent().await, gateway.agent().await);
    let [ann, bob] = [ann, bob].map(|client| client.modern().at("/v1/mcp/servers/up"));
    let asked = ann.rpc("tools/call", &call(&json!({}))).await.result();
    assert_eq!(asked["resultType"], "input_required");
    assert_eq!(asked["inputRequests"]["1"], json!({"method": "elicitation/create", "params": {"message": "who?"}}));
    assert_eq!(gateway.gateway.parked_calls(), 1);
    let again = json!({"requestState": asked["requestState"], "inputResponses": {"1": {"action": "decline"}}});
    // Neither another principal, nor other arguments, nor an altered state take it up.
    let mut other = call(&again);
    other["arguments"]["n"] = json!(2);
    let altered = json!({"requestState": format!("{}A", asked["requestState"].as_str().unwrap())});
    for refused in [
        bob.rpc("tools/call", &call(&again)).await,
        ann.rpc("tools/call", &other).await,
        ann.rpc("tools/call", &call(&altered)).await,
    ] {
        assert_eq!(refused.json()["error"]["code"], -32602, "{}", refused.text);
    }
    assert_eq!(gateway.gateway.parked_calls(), 1);
    let taken = ann.request("tools/call", &call(&again).to_string());
    let taking = TaskTracker::new().spawn(async move { taken.try_send().await.is_some() });
    let answered = eventually("the answer goes to the backend", async || {
        upstream.seen().into_iter().find(|seen| seen.json["id"] == "q" && seen.json.get("result").is_some())
    });
    assert_eq!(answered.await.json["result"], json!({"action": "decline"}));
    let twice = ann.rpc("tools/call", &call(&again)).await;
    assert_eq!(twice.json()["error"]["code"], -32602, "{}", twice.text);
    let records = gateway.records().await;
    let taken_up = records.iter().find(|record| record["notes"].to_string().contains("taken up again")).unwrap();
    assert!(taken_up["notes"].to_string().contains("answers sha256:"), "{taken_up}");
    taking.abort();
    gateway.finish().await;
}

/// Between a question and its answer the rules may have changed: what waits is judged again before it goes on.
#[tokio::test]
async fn a_parked_call_that_would_be_refused_now_does_not_go_on() {
    let upstream = FakeUpstream::legacy().await;
    upstream.on_call(|_| Say::EventsThenHang(vec![ASKS.into()]));
    let permit = "permit(principal, action, resource);";
    let gateway = Setup::with(&upstream).policy("all", permit).start().await;
    let client = gateway.agent().await.modern().at("/v1/mcp/servers/up");
    let asked = client.rpc("tools/call", &call(&json!({}))).await.result();
    let before = gateway.gateway.state().policies.bundle().version().clone();
    gateway.write("policies/late.cedar", "@id(\"late\")\nforbid (principal, action, resource);\n");
    eventually("the policy is active", async || {
        (*gateway.gateway.state().policies.bundle().version() != before).then_some(())
    })
    .await;
    upstream.forget();
    let again = json!({"requestState": asked["requestState"], "inputResponses": {"1": {"action": "accept"}}});
    let refused = client.rpc("tools/call", &call(&again)).await;
    assert!(refused.text.contains("late"), "{}", refused.text);
    assert_eq!(gateway.gateway.parked_calls(), 0);
    eventually("the call is cancelled", async || {
        upstream.seen().into_iter().find(|seen| seen.method() == "notifications/cancelled")
    })
    .await;
    assert!(!upstream.seen().iter().any(|seen| seen.text.contains("accept")));
    let records = gateway.records().await;
    let late = records.iter().find(|record| record["notes"].to_string().contains("taken up again"));
    assert_eq!(late.map(|record| &record["decision"]), Some(&json!("deny")), "{records:?}");
    gateway.finish().await;
}

#[tokio::test]
async fn what_a_client_did_not_declare_is_never_asked_of_it() {
    let upstream = FakeUpstream::modern().await;
    upstream.on_call(|_| {
        Say::Result(r#"{"resultType":"input_required","inputRequests":{"a":{"method":"roots/list"}}}"#.into())
    });
    let gateway = Setup::with(&upstream).start().await;
    let client = gateway.agent().await.modern().at("/v1/mcp/servers/up");
    let answer = client.rpc("tools/call", &call(&json!({}))).await;
    assert_eq!(answer.result()["isError"], true, "{}", answer.text);
    assert!(!answer.text.contains("roots/list"));
    gateway.finish().await;
}
