//! Backends that another implementation of MCP makes.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, ListToolsResult, PaginatedRequestParams,
    ProgressNotificationParam, ProtocolVersion, ServerCapabilities, ServerConfig, SubscriptionFilter, Tool,
};
use rmcp::service::{RequestContext, SubscriptionContext};
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{ErrorData, RoleServer, ServerHandler};
use serde_json::json;
use tokio::sync::Notify;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::peer::{backends, eventually, tool};
use crate::backend::{Aside, SendOptions, ServerState, asides};
use crate::config::{ServerSettings, Transport};
use crate::domain::json::Json;
use crate::domain::outcome::UpstreamFault;

#[derive(Clone)]
struct Real {
    modern: bool,
    grown: Arc<AtomicBool>,
    grew: Arc<Notify>,
}

impl ServerHandler for Real {
    fn supported_protocol_versions(&self) -> Cow<'static, [ProtocolVersion]> {
        Cow::Borrowed(if self.modern { &[ProtocolVersion::V_2026_07_28] } else { &[ProtocolVersion::V_2025_11_25] })
    }

    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().enable_tool_list_changed().build())
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let schema = || Arc::new(json!({"type":"object"}).as_object().unwrap().clone());
        let mut tools = vec![Tool::new("echo", "says it back", schema()), Tool::new("grow", "one more tool", schema())];
        if self.grown.load(Ordering::SeqCst) {
            tools.push(Tool::new("more", "is there now", schema()));
        }
        Ok(ListToolsResult::with_all_items(tools))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        match &*request.name {
            "echo" => {
                if let Some(token) = context.meta.get_progress_token() {
                    for step in 1..=3 {
                        let told = ProgressNotificationParam::new(token.clone(), f64::from(step));
                        context.peer.notify_progress(told).await.unwrap();
                    }
                }
                let text = serde_json::to_string(&request.arguments).unwrap();
                Ok(CallToolResult::success(vec![ContentBlock::text(text)]).into())
            }
            "grow" => {
                self.grown.store(true, Ordering::SeqCst);
                self.grew.notify_one();
                if !self.modern {
                    context.peer.notify_tool_list_changed().await.unwrap();
                }
                Ok(CallToolResult::success(Vec::new()).into())
            }
            _ => Err(ErrorData::invalid_params("no such tool", None)),
        }
    }

    fn accepted_subscription_filter(&self, requested: &SubscriptionFilter) -> Option<SubscriptionFilter> {
        Some(requested.supported_by(&self.get_info().capabilities))
    }

    async fn listen(&self, context: SubscriptionContext) -> Result<(), ErrorData> {
        self.grew.notified().await;
        context.sink().notify_tool_list_changed().await.unwrap();
        context.cancelled().await;
        Ok(())
    }
}

async fn serve(modern: bool, json: bool) -> (ServerSettings, DropGuard) {
    let stop = CancellationToken::new();
    let real = Real { modern, grown: Arc::default(), grew: Arc::default() };
    let config =
        StreamableHttpServerConfig::default().with_json_response(json).with_cancellation_token(stop.child_token());
    let service: StreamableHttpService<Real, LocalSessionManager> =
        StreamableHttpService::new(move || Ok(real.clone()), Arc::default(), config);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap()).parse().unwrap();
    let router = axum::Router::new().nest_service("/mcp", service);
    let end = stop.clone();
    TaskTracker::new().spawn(end.run_until_cancelled_owned(async move { axum::serve(listener, router).await }));
    let mut settings = ServerSettings::new("s".parse().unwrap(), Transport::Http { url, headers: Vec::new() });
    settings.timeout = Duration::from_secs(10);
    (settings, stop.drop_guard())
}

#[tokio::test]
async fn rmcp_servers_of_both_eras_are_called_and_followed() {
    for (modern, json) in [(true, true), (true, false), (false, true), (false, false)] {
        let (settings, _server) = serve(modern, json).await;
        let backends = backends(settings).await;
        let status = &backends.status()[0];
        assert_eq!(status.state, ServerState::Ready, "{status:#?}");
        assert_eq!(status.era, Some(if modern { "modern" } else { "legacy" }));

        let arguments = Json::from_parts(r#"{"a":[1,null]}"#.into());
        let (sink, mut told) = asides(8);
        let options = SendOptions { progress: Some(sink), ..SendOptions::default() };
        let answer = backends.dispatch(&tool(&backends, "echo"), Some(&arguments), options).await.unwrap();
        assert_eq!(answer.result.value()["content"][0]["text"], r#"{"a":[1,null]}"#);
        let mut steps = Vec::new();
        while let Some(Aside::Notification { params: Some(params), .. }) = told.recv().await {
            steps.push(params.value()["progress"].as_f64().unwrap());
        }
        assert_eq!(steps, [1.0, 2.0, 3.0], "modern {modern}, json {json}");

        backends.dispatch(&tool(&backends, "grow"), None, SendOptions::default()).await.unwrap();
        eventually(&backends, |backends| backends.catalog().get("s", "more").is_some()).await;
        let error = backends.dispatch(&tool(&backends, "more"), None, SendOptions::default()).await.unwrap_err();
        assert!(matches!(error.fault, UpstreamFault::Rpc(_)), "{error:?}");
        backends.stop(Duration::from_secs(2)).await;
        assert!(backends.apply(&BTreeMap::new()).is_err());
    }
}
