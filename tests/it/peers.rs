//! Independent peers on both sides: the official Rust SDK as a backend over HTTP and as a host.

use std::sync::Arc;

use rmcp::handler::server::router::tool::ToolRouter;
use rmcp::handler::server::wrapper::{Json, Parameters};
use rmcp::model::{CallToolRequestParams, ClientConfig, ProgressNotificationParam, ServerCapabilities, ServerConfig};
use rmcp::schemars::JsonSchema;
use rmcp::service::{RequestContext, RoleClient, RoleServer, RunningService};
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::transport::{StreamableHttpClientTransport, TokioChildProcess};
use rmcp::{ClientLifecycleMode, ClientServiceExt, ServerHandler, tool, tool_handler, tool_router};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::support::{Key, Setup, TestGateway, command, soon};

#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(crate = "rmcp::schemars")]
struct Sum {
    /// The first number.
    a: i64,
    /// The second number.
    b: i64,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(crate = "rmcp::schemars")]
struct Total {
    total: i64,
}

#[derive(Debug, Clone)]
struct Calculator {
    tool_router: ToolRouter<Self>,
}

#[tool_router]
impl Calculator {
    fn new() -> Self {
        Self { tool_router: Self::tool_router() }
    }

    #[tool(description = "Add two numbers", annotations(read_only_hint = true))]
    async fn add(&self, Parameters(sum): Parameters<Sum>, context: RequestContext<RoleServer>) -> Json<Total> {
        if let Some(token) = context.meta.get_progress_token() {
            let told = context.peer.notify_progress(ProgressNotificationParam::new(token, 1.0)).await;
            assert!(told.is_ok());
        }
        Json(Total { total: sum.a + sum.b })
    }

    #[tool(description = "Fail", annotations(read_only_hint = true))]
    async fn fail(&self) -> Result<Json<Total>, String> {
        Err("it does not work".to_owned())
    }
}

#[tool_handler(router = self.tool_router)]
impl ServerHandler for Calculator {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }
}

/// The calculator over HTTP: with sessions of the legacy era, or without any.
async fn calculator(sessions: bool) -> (String, DropGuard) {
    let stop = CancellationToken::new();
    let config = StreamableHttpServerConfig::default()
        .with_legacy_session_mode(sessions)
        .with_json_response(!sessions)
        .with_cancellation_token(stop.child_token());
    let service: StreamableHttpService<Calculator, LocalSessionManager> =
        StreamableHttpService::new(|| Ok(Calculator::new()), Arc::default(), config);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    let router = axum::Router::new().nest_service("/mcp", service);
    let serving = async move { axum::serve(listener, router).await.unwrap() };
    TaskTracker::new().spawn(stop.clone().run_until_cancelled_owned(serving));
    (url, stop.drop_guard())
}

async fn gateway_before(url: &str) -> TestGateway {
    Setup::new().config(&format!("[servers.calc]\nurl = \"{url}\"\n")).start().await
}

#[tokio::test]
async fn a_backend_made_with_the_official_sdk() {
    for sessions in [true, false] {
        let (url, _running) = calculator(sessions).await;
        let gateway = gateway_before(&url).await;
        let client = gateway.agent().await;
        let sum = client.invoke("calc", "add", r#"{"a":2,"b":40}"#).await;
        assert_eq!(sum.result()["structuredContent"], json!({"total": 42}), "{}", sum.text);
        let failed = client.invoke("calc", "fail", "{}").await.result();
        assert_eq!(
            (failed["isError"].clone(), failed["content"][0]["text"].clone()),
            (json!(true), json!("it does not work"))
        );
        assert_eq!(client.invoke("calc", "add", r#"{"a":"x","b":1}"#).await.denied(), "invalid_arguments");
        let found = client.call("gateway_search_tools", &json!({"query": "add numbers"})).await.result();
        assert_eq!(found["structuredContent"]["tools"][0]["id"], "calc:add");
        gateway.finish().await;
    }
}

type Host = RunningService<RoleClient, ClientConfig>;

/// The SDK's client, connected with a key.
async fn host(gateway: &TestGateway, key: &Key, mode: ClientLifecycleMode) -> Host {
    // The SDK's HTTP client wants somebody to have chosen the cryptography, even for plain HTTP.
    rustls::crypto::ring::default_provider().install_default().ok();
    let config = StreamableHttpClientTransportConfig::with_uri(format!("http://{}/v1/mcp", gateway.address))
        .auth_header(&key.text);
    let transport = StreamableHttpClientTransport::from_config(config);
    let connecting = Box::pin(ClientConfig::default().serve_with_lifecycle(transport, mode));
    soon("the SDK connects", connecting).await.unwrap()
}

fn arguments(value: Value) -> rmcp::model::JsonObject {
    serde_json::from_value(value).unwrap()
}

/// The SDK's client, which starts `toolgate stdio` with a key.
async fn starting_host(gateway: &TestGateway, key: &Key, mode: ClientLifecycleMode) -> Host {
    let url = format!("http://{}", gateway.address);
    let command = command(&std::env::temp_dir(), &["stdio", "--url", &url], &[("TOOLGATE_KEY", &key.text)]);
    let connecting =
        Box::pin(ClientConfig::default().serve_with_lifecycle(TokioChildProcess::new(command).unwrap(), mode));
    soon("the SDK connects", connecting).await.unwrap()
}

fn modes() -> [ClientLifecycleMode; 2] {
    let preferred_versions = vec![rmcp::model::ProtocolVersion::V_2026_07_28];
    [ClientLifecycleMode::Initialize, ClientLifecycleMode::Discover { preferred_versions }]
}

#[tokio::test]
async fn a_host_made_with_the_official_sdk() {
    let (url, _running) = calculator(true).await;
    let gateway = gateway_before(&url).await;
    let key = gateway.writer("agent").await;
    for (mode, starts) in modes().into_iter().zip([false, false]).chain(modes().into_iter().zip([true, true])) {
        let host = match starts {
            false => Box::pin(host(&gateway, &key, mode)).await,
            true => Box::pin(starting_host(&gateway, &key, mode)).await,
        };
        let tools = soon("the list", host.list_all_tools()).await.unwrap();
        let names: Vec<&str> = tools.iter().map(|tool| &*tool.name).collect();
        assert_eq!(names, ["gateway_search_tools", "gateway_invoke", "policy_simulate"]);
        assert!(soon("prompts", host.list_all_prompts()).await.unwrap().is_empty());
        assert!(soon("resources", host.list_all_resources()).await.unwrap().is_empty());
        let question = json!({"server": "calc", "tool": "add", "arguments": {"a": 1, "b": 2}});
        let call = CallToolRequestParams::new("gateway_invoke").with_arguments(arguments(question));
        let answer = soon("the call", host.call_tool(call)).await.unwrap();
        assert_eq!(answer.structured_content, Some(json!({"total": 3})));
        let call =
            CallToolRequestParams::new("policy_simulate").with_arguments(arguments(json!({"action": "calc.add"})));
        let report = soon("the simulation", host.call_tool(call)).await.unwrap().structured_content.unwrap();
        assert_eq!(report["decision"], "allow");
        let unknown = soon("an unknown tool", host.call_tool(CallToolRequestParams::new("nowhere"))).await;
        assert!(unknown.is_err());
        soon("the SDK leaves", host.cancel()).await.unwrap();
    }
    gateway.finish().await;
}
