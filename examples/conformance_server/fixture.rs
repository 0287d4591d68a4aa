//! The server: each request is counted, then answered from the other modules.

use std::borrow::Cow;
use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use rmcp::model::*;
use rmcp::service::{NotificationContext, Peer, RequestContext, RoleServer, ServiceError, SubscriptionContext};
use rmcp::{ErrorData, ServerHandler};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use crate::shared::{Change, Era, Shared};
use crate::tools::Call;
use crate::{catalogue, contents, tools};

/// The resource that can be watched.
pub(crate) const WATCHED: &str = "test://watched-resource";

/// One session of the legacy era, one request of the modern one over HTTP, or all there is over stdio.
pub(crate) struct Fixture {
    shared: Arc<Shared>,
    session: Arc<Session>,
    /// What was announced since a `subscriptions/listen` came: acknowledged is only what is already followed.
    followed: Mutex<VecDeque<Receiver<Change>>>,
}

/// What a legacy client has set.
#[derive(Default)]
pub(crate) struct Session {
    pub(crate) level: Mutex<Option<LoggingLevel>>,
    watched: Mutex<BTreeSet<String>>,
}

impl Fixture {
    /// A session that has set nothing.
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, session: Arc::default(), followed: Mutex::default() }
    }
}

impl ServerHandler for Fixture {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder()
            .enable_logging()
            .enable_completions()
            .enable_prompts()
            .enable_prompts_list_changed()
            .enable_resources()
            .enable_resources_subscribe()
            .enable_tools()
            .enable_tool_list_changed()
            .enable_tasks()
            .build();
        ServerConfig::new(capabilities)
            .with_server_info(Implementation::new("conformance-fixture", "1.0.0").with_title("Conformance fixture"))
            .with_instructions("Everything that the conformance suite calls.")
    }

    fn supported_protocol_versions(&self) -> Cow<'static, [ProtocolVersion]> {
        Cow::Borrowed(match self.shared.era {
            Era::Both => ProtocolVersion::KNOWN_VERSIONS,
            Era::Legacy => ProtocolVersion::known_up_to(&ProtocolVersion::V_2025_11_25),
            Era::Modern => &[ProtocolVersion::V_2026_07_28],
        })
    }

    async fn on_initialized(&self, context: NotificationContext<RoleServer>) {
        self.shared.count("notifications/initialized", "");
        let (mut changes, session) = (self.shared.changes.subscribe(), Arc::clone(&self.session));
        self.shared.tracker.spawn(async move {
            while let Ok(change) = changes.recv().await {
                if told(&context.peer, change, &session).await.is_err() {
                    break;
                }
            }
        });
    }

    async fn ping(&self, _: RequestContext<RoleServer>) -> Result<(), ErrorData> {
        self.shared.count("ping", "");
        Ok(())
    }

    async fn discover(&self, _: RequestContext<RoleServer>) -> Result<DiscoverResult, ErrorData> {
        self.shared.count("server/discover", "");
        Ok(DiscoverResult::from_server_info(self.supported_protocol_versions().into_owned(), self.get_info()))
    }

    async fn set_level(&self, request: SetLevelRequestParams, _: RequestContext<RoleServer>) -> Result<(), ErrorData> {
        self.shared.count("logging/setLevel", "");
        *self.session.level.lock().unwrap_or_else(PoisonError::into_inner) = Some(request.level);
        Ok(())
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        self.shared.count("tools/list", "");
        Ok(ListToolsResult::with_all_items(catalogue::tools(&self.shared)))
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        catalogue::tools(&self.shared).into_iter().find(|tool| tool.name == name)
    }

    async fn call_tool(
        &self,
        params: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        self.shared.count("tools/call", &params.name);
        let (shared, session) = (Arc::clone(&self.shared), Arc::clone(&self.session));
        tools::call(&Call { shared, session, params, context }).await
    }

    async fn list_prompts(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        self.shared.count("prompts/list", "");
        Ok(ListPromptsResult::with_all_items(catalogue::prompts(&self.shared)))
    }

    async fn get_prompt(
        &self,
        params: GetPromptRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        self.shared.count("prompts/get", &params.name);
        contents::prompt(&params, &context).await
    }

    async fn list_resources(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        self.shared.count("resources/list", "");
        Ok(ListResourcesResult::with_all_items(catalogue::resources()))
    }

    async fn list_resource_templates(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        self.shared.count("resources/templates/list", "");
        Ok(ListResourceTemplatesResult::with_all_items(catalogue::templates()))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        self.shared.count("resources/read", &request.uri);
        contents::resource(&request.uri)
    }

    async fn subscribe(&self, request: SubscribeRequestParams, _: RequestContext<RoleServer>) -> Result<(), ErrorData> {
        self.shared.count("resources/subscribe", &request.uri);
        self.session.watched.lock().unwrap_or_else(PoisonError::into_inner).insert(request.uri);
        Ok(())
    }

    async fn unsubscribe(
        &self,
        request: UnsubscribeRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.shared.count("resources/unsubscribe", &request.uri);
        self.session.watched.lock().unwrap_or_else(PoisonError::into_inner).remove(&request.uri);
        Ok(())
    }

    fn accepted_subscription_filter(&self, requested: &SubscriptionFilter) -> Option<SubscriptionFilter> {
        let follower = self.shared.changes.subscribe();
        self.followed.lock().unwrap_or_else(PoisonError::into_inner).push_back(follower);
        Some(requested.clone())
    }

    async fn listen(&self, context: SubscriptionContext) -> Result<(), ErrorData> {
        self.shared.count("subscriptions/listen", "");
        let waiting = self.followed.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let mut changes = waiting.unwrap_or_else(|| self.shared.changes.subscribe());
        loop {
            let change = tokio::select! {
                () = context.cancelled() => return Ok(()),
                change = changes.recv() => change,
            };
            let sink = context.sink();
            // What this stream did not ask for is refused by the sink.
            let sent = match change {
                Ok(Change::Tools) => sink.notify_tool_list_changed().await,
                Ok(Change::Prompts) => sink.notify_prompt_list_changed().await,
                Ok(Change::WatchedResource) => sink.notify_resource_updated(WATCHED).await,
                Err(RecvError::Lagged(_)) => continue,
                Err(RecvError::Closed) => return Ok(()),
            };
            drop(sent);
        }
    }

    async fn complete(
        &self,
        request: CompleteRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<CompleteResult, ErrorData> {
        self.shared.count("completion/complete", &request.argument.name);
        contents::completion(&request)
    }

    async fn get_task(
        &self,
        request: GetTaskParams,
        _: RequestContext<RoleServer>,
    ) -> Result<GetTaskResult, ErrorData> {
        self.shared.count("tasks/get", "");
        self.shared.tasks.get_task(&request.task_id).map(GetTaskResult::new)
    }

    async fn update_task(&self, request: UpdateTaskParams, _: RequestContext<RoleServer>) -> Result<(), ErrorData> {
        self.shared.count("tasks/update", "");
        self.shared.tasks.update_task(&request.task_id, request.input_responses)
    }

    async fn cancel_task(&self, request: CancelTaskParams, _: RequestContext<RoleServer>) -> Result<(), ErrorData> {
        self.shared.count("tasks/cancel", "");
        self.shared.tasks.cancel_task(&request.task_id)
    }

    async fn on_cancelled(&self, _: CancelledNotificationParam, _: NotificationContext<RoleServer>) {
        self.shared.count("notifications/cancelled", "");
    }

    async fn on_roots_list_changed(&self, _: NotificationContext<RoleServer>) {
        self.shared.count("notifications/roots/list_changed", "");
    }
}

/// Tells a legacy client of a change.
async fn told(peer: &Peer<RoleServer>, change: Change, session: &Session) -> Result<(), ServiceError> {
    match change {
        Change::Tools => peer.notify_tool_list_changed().await,
        Change::Prompts => peer.notify_prompt_list_changed().await,
        Change::WatchedResource => {
            let watches = session.watched.lock().unwrap_or_else(PoisonError::into_inner).contains(WATCHED);
            if watches {
                peer.notify_resource_updated(ResourceUpdatedNotificationParam::new(WATCHED)).await
            } else {
                Ok(())
            }
        }
    }
}
