//! What a stream is to tell of, and the messages that do.

use std::collections::HashSet;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::relayed::notification;
use super::subscribe::ACKNOWLEDGED;
use super::told::event;
use crate::domain::json::Json;
use crate::gateway::{MAX_FOLLOWED, UPDATED};
use crate::wire::hop;

const SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";

/// What a subscription asks for; what is not offered stays out of the acknowledgement.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Filter {
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    tools_list_changed: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    prompts_list_changed: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    resources_list_changed: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) resource_subscriptions: Vec<String>,
}

/// Of which lists something is said.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Lists {
    pub(super) tools: bool,
    pub(super) prompts: bool,
    pub(super) resources: bool,
}

impl Lists {
    pub(super) const ALL: Self = Self { tools: true, prompts: true, resources: true };
}

impl Filter {
    /// A legacy session hears of every list.
    pub(super) const EVERYTHING: Self = Self {
        tools_list_changed: true,
        prompts_list_changed: true,
        resources_list_changed: true,
        resource_subscriptions: Vec::new(),
    };

    /// The same, for these resources.
    pub(super) fn following(self, resource_subscriptions: Vec<String>) -> Self {
        Self { resource_subscriptions, ..self }
    }

    /// What the params of `subscriptions/listen` ask for.
    pub(super) fn read(params: Option<&Json>) -> Option<Self> {
        hop::member(params, "notifications")?.decode().ok()
    }

    /// Of what is wanted, what a server offers.
    pub(super) fn offered(self, capabilities: &Value) -> Self {
        let tells =
            |list: &str, what: &str| capabilities.get(list).and_then(|list| list.get(what)) == Some(&Value::Bool(true));
        let mut followed = self.resource_subscriptions.clone();
        followed.truncate(if tells("resources", "subscribe") { MAX_FOLLOWED } else { 0 });
        let mut seen = HashSet::new();
        followed.retain(|uri| seen.insert(uri.clone()));
        let told = |list: &str| tells(list, "listChanged");
        let lists = Lists { tools: told("tools"), prompts: told("prompts"), resources: told("resources") };
        Self { resource_subscriptions: followed, ..self }.of(lists)
    }

    /// The same, but of no other lists than these.
    pub(super) fn of(self, lists: Lists) -> Self {
        Self {
            tools_list_changed: self.tools_list_changed && lists.tools,
            prompts_list_changed: self.prompts_list_changed && lists.prompts,
            resources_list_changed: self.resources_list_changed && lists.resources,
            ..self
        }
    }

    /// The events that say that lists have changed, for those that are wanted.
    pub(super) fn changed(&self, lists: Lists, tag: Option<&Value>) -> Vec<Bytes> {
        let params = Json::of(&tag.map_or_else(|| json!({}), |tag| json!({"_meta": {SUBSCRIPTION: tag}})));
        let all = [
            (self.tools_list_changed && lists.tools, "notifications/tools/list_changed"),
            (self.prompts_list_changed && lists.prompts, "notifications/prompts/list_changed"),
            (self.resources_list_changed && lists.resources, "notifications/resources/list_changed"),
        ];
        let told = all.into_iter().filter(|(told, _)| *told);
        told.map(|(_, method)| event(&notification(method, Some(&params)))).collect()
    }

    /// The first event of a subscription.
    pub(super) fn acknowledged(&self, tag: &Value) -> Bytes {
        let params = Json::of(&json!({"notifications": self, "_meta": {SUBSCRIPTION: tag}}));
        event(&notification(ACKNOWLEDGED, Some(&params)))
    }
}

/// What the result of a subscription says.
pub(super) fn over(tag: &Value) -> Json {
    Json::of(&json!({"_meta": {SUBSCRIPTION: tag}}))
}

/// The event that says that a resource has changed.
pub(super) fn updated(tag: Option<&Value>, params: Json) -> Bytes {
    event(&notification(UPDATED, tagged(tag, Some(params)).as_ref()))
}

/// The resource that such a notification names.
pub(super) fn uri_of(params: &Json) -> Option<String> {
    hop::member(Some(params), "uri")?.decode().ok()
}

/// A subscription's messages carry its own id; a legacy session's none.
pub(super) fn tagged(tag: Option<&Value>, params: Option<Json>) -> Option<Json> {
    let meta = hop::member(params.as_ref(), "_meta");
    match (tag, params, meta) {
        (Some(tag), params, meta) => {
            let meta = meta.unwrap_or_else(|| Json::from_parts(String::from("{}")));
            let meta = hop::with_member(&meta, SUBSCRIPTION, &tag.to_string());
            let params = params.unwrap_or_else(|| Json::from_parts(String::from("{}")));
            Some(hop::with_member(&params, "_meta", meta.as_str()))
        }
        (None, Some(params), Some(meta)) if meta.as_str().contains(SUBSCRIPTION) => {
            match hop::without_member(&meta, SUBSCRIPTION) {
                empty if empty.as_str() == "{}" => Some(hop::without_member(&params, "_meta")),
                rest => Some(hop::with_member(&params, "_meta", rest.as_str())),
            }
        }
        (None, params, _) => params,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(events: &[Bytes]) -> Vec<String> {
        let text = |event: &Bytes| String::from_utf8(event.to_vec()).unwrap();
        let value =
            |event: &Bytes| -> Value { serde_json::from_str(text(event).strip_prefix("data: ").unwrap()).unwrap() };
        events.iter().map(|event| value(event)["method"].as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn what_is_not_offered_is_neither_acknowledged_nor_told() {
        let params = json!({"notifications": {
            "toolsListChanged": true, "promptsListChanged": true, "resourceSubscriptions": ["x://a", "x://b", "x://a"],
        }});
        let filter = Filter::read(Some(&Json::of(&params))).unwrap();
        let offered = filter.clone().offered(&json!({"tools": {"listChanged": true}, "prompts": {}, "resources": {}}));
        assert_eq!(json!(offered), json!({"toolsListChanged": true}));
        let offered =
            filter.clone().offered(&json!({"prompts": {"listChanged": true}, "resources": {"subscribe": true}}));
        assert_eq!(json!(offered), json!({"promptsListChanged": true, "resourceSubscriptions": ["x://a", "x://b"]}));
        let tools = filter.of(Lists { tools: true, ..Lists::default() });
        assert_eq!(told(&tools.changed(Lists::ALL, None)), ["notifications/tools/list_changed"]);
        assert!(Filter::read(Some(&Json::of(&json!({"notifications": 1})))).is_none() && Filter::read(None).is_none());
    }

    #[test]
    fn tools_are_told_first_and_under_the_subscription_s_own_id() {
        let events = Filter::EVERYTHING.changed(Lists::ALL, Some(&json!("7")));
        let methods = ["tools", "prompts", "resources"].map(|list| format!("notifications/{list}/list_changed"));
        assert_eq!(told(&events), methods);
        assert!(events[0].ends_with(b"\"params\":{\"_meta\":{\"io.modelcontextprotocol/subscriptionId\":\"7\"}}}\n\n"));
        let theirs = Json::of(&json!({"uri": "x://a", "_meta": {SUBSCRIPTION: 3, "x": 1}}));
        let ours = tagged(Some(&json!("7")), Some(theirs.clone())).unwrap().value();
        assert_eq!(ours, json!({"uri": "x://a", "_meta": {SUBSCRIPTION: "7", "x": 1}}));
        assert_eq!(tagged(None, Some(theirs)).unwrap().value(), json!({"uri": "x://a", "_meta": {"x": 1}}));
    }
}
