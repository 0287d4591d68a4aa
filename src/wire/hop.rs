//! What changes of a message between a client and the one server that it speaks to: each hop has its own ids, tokens,
//! revision and capabilities; everything else passes as the bytes that came.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::era::Era;
use super::mcp::SERVER_INFO_KEY;
use super::reply::{self, ResultType};
use super::splice::{Additions, splice};
use crate::domain::json::{Json, folded};
use crate::domain::net::is_here;
use crate::domain::strict;

/// The members of an object, in their order, each as the text that came.
#[derive(Debug, Default)]
struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Members<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some((name, value)) = map.next_entry::<Name<'de>, &'de RawValue>()? {
                    members.push((name.0, value));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Reader)
    }
}

#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

fn members(json: &Json) -> Members<'_> {
    serde_json::from_slice(json.bytes()).unwrap_or_default()
}

/// `,"name":value` for every member that `keep` wants.
fn joined(members: &Members<'_>, keep: impl Fn(&str) -> bool) -> String {
    let mut out = String::new();
    for (name, value) in members.0.iter().filter(|(name, _)| keep(name)) {
        out.push(',');
        out.push_str(&Value::from(&**name).to_string());
        out.push(':');
        out.push_str(value.get());
    }
    out
}

/// What of a client's params travels on beside what is judged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Onward {
    /// Members of the params, each with a comma before it.
    pub rest: String,
    /// Members of `_meta`, in the same form.
    pub meta: String,
}

/// Members that the gateway reads or writes itself, in whichever request. Readers that take no notice of case, and let the
/// last of several count, would take another spelling for them (CVE-2026-27896).
const OWN_MEMBERS: [&str; 13] = [
    "name",
    "arguments",
    "uri",
    "taskId",
    "requestState",
    "inputResponses",
    "_meta",
    "ref",
    "argument",
    "context",
    "cursor",
    "level",
    "notifications",
];

/// Reads what travels on of `params`; members in `judged` are put in by whoever sends them.
///
/// # Errors
/// A sentence for the client, where a member is spelled almost like one that the gateway reads itself.
pub fn onward(params: Option<&Json>, judged: &[&str]) -> Result<Onward, String> {
    let Some(params) = params else { return Ok(Onward::default()) };
    let all = members(params);
    for (name, _) in &all.0 {
        let plain = folded(name);
        let alike = |own: &&&str| ***own != **name && own.eq_ignore_ascii_case(&plain);
        if let Some(own) = OWN_MEMBERS.iter().find(alike) {
            let name: String = name.chars().take(100).collect();
            return Err(format!("the member `{name}` of `params` is spelled almost like `{own}`: leave it out"));
        }
    }
    let rest = joined(&all, |name| name != "_meta" && !judged.contains(&name));
    let meta = all.0.iter().find(|(name, _)| name == "_meta").map(|(_, value)| {
        let inner: Members<'_> = serde_json::from_str(value.get()).unwrap_or_default();
        joined(&inner, |name| !hop_by_hop(&folded(name)))
    });
    Ok(Onward { rest, meta: meta.unwrap_or_default() })
}

/// Members of `_meta`, folded, that belong to one hop or are for the gateway itself.
fn hop_by_hop(name: &str) -> bool {
    matches!(name, "progresstoken" | "traceparent" | "tracestate" | "baggage")
        || name.starts_with("io.modelcontextprotocol/")
        || name.starts_with("toolgate/")
}

/// A member of a client's params, as it came.
#[must_use]
pub fn member(params: Option<&Json>, name: &str) -> Option<Json> {
    let params = params?;
    let all = members(params);
    let (_, value) = all.0.iter().find(|(found, _)| found == name)?;
    Some(Json::slice_of(params.bytes(), value))
}

/// A result with one member replaced, or added.
#[must_use]
pub fn with_member(result: &Json, name: &str, value: &str) -> Json {
    let all = members(result);
    let mut out = String::with_capacity(result.bytes().len() + value.len() + 32);
    let mut done = false;
    for (found, text) in &all.0 {
        out.push(',');
        out.push_str(&Value::from(&**found).to_string());
        out.push(':');
        out.push_str(if found == name { value } else { text.get() });
        done |= found == name;
    }
    if !done {
        out.push_str(&format!(",{}:{value}", Value::from(name)));
    }
    Json::from_parts(format!("{{{}}}", out.strip_prefix(',').unwrap_or_default()))
}

/// An object without one of its members.
#[must_use]
pub fn without_member(object: &Json, name: &str) -> Json {
    let kept = joined(&members(object), |found| found != name);
    Json::from_parts(format!("{{{}}}", kept.strip_prefix(',').unwrap_or_default()))
}

/// A server's result as a client of this era knows it: `info` is what the server calls itself, `keep` for how many
/// milliseconds a modern client may keep what a legacy server says nothing about.
#[must_use]
pub fn result_for(result: &Json, era: Era, info: &Json, keep: Option<u64>) -> Json {
    let kind = reply::scan(result.as_str()).map(|shape| shape.kind).unwrap_or_default();
    match (era, kind) {
        (Era::Modern, ResultType::Absent) => {
            let ttl = keep.unwrap_or_default().to_string();
            let all = [("resultType", "\"complete\""), ("ttlMs", ttl.as_str()), ("cacheScope", "\"private\"")];
            let members = if keep.is_some() { &all[..] } else { all.get(..1).unwrap_or_default() };
            splice(result, Additions { members, meta: &[(SERVER_INFO_KEY, info.as_str())] })
        }
        (Era::Legacy, ResultType::Complete) => splice(result, Additions::default()),
        _ => result.clone(),
    }
}

/// A server's error as a client of this era knows it: "resource not found" has a number of its own in the old one.
#[must_use]
pub fn error_for(error: &Json, era: Era, method: &str) -> Json {
    #[derive(Deserialize)]
    struct Code {
        code: i64,
    }
    let code = error.decode::<Code>().map(|error| error.code).ok();
    match (era, code, method) {
        (Era::Modern, Some(-32002), _) => with_member(error, "code", "-32602"),
        (Era::Modern, Some(-32042), _) => with_member(error, "code", "-32603"),
        (Era::Legacy, Some(-32602), "resources/read") => with_member(error, "code", "-32002"),
        _ => error.clone(),
    }
}

/// The params of a question, without the token of the hop that it comes from.
#[must_use]
pub fn of_question(params: Option<&Json>) -> Option<Json> {
    let params = params?;
    let Some(meta) = member(Some(params), "_meta").filter(|meta| meta.as_str().contains("progressToken")) else {
        return Some(params.clone());
    };
    Some(match without_member(&meta, "progressToken") {
        empty if empty.as_str() == "{}" => without_member(params, "_meta"),
        rest => with_member(params, "_meta", rest.as_str()),
    })
}

/// A result that asks a modern client: key, method and params of each question.
#[must_use]
pub fn asks_for_input(questions: &[(String, String, Option<Json>)], state: &str) -> Json {
    let asked: Vec<String> = questions
        .iter()
        .map(|(key, method, params)| {
            let params = params.as_ref().map(|params| format!(",\"params\":{}", params.as_str()));
            let (key, method) = (Value::from(key.as_str()), Value::from(method.as_str()));
            format!("{key}:{{\"method\":{method}{}}}", params.unwrap_or_default())
        })
        .collect();
    let (asked, state) = (asked.join(","), Value::from(state));
    Json::from_parts(format!(
        "{{\"resultType\":\"input_required\",\"inputRequests\":{{{asked}}},\"requestState\":{state}}}"
    ))
}

/// What a legacy server wants the user to visit before it does what it was asked (error -32042, MCP 2025-11-25); a modern
/// client is asked for it.
#[must_use]
pub fn url_elicitations(error: &Json) -> Option<Vec<(String, String, Option<Json>)>> {
    strict::check(error.as_str()).ok()?;
    let code: i64 = member(Some(error), "code")?.decode().ok()?;
    let wanted = member(Some(&member(Some(error), "data")?), "elicitations")?;
    let items: Vec<&RawValue> = (code == -32042).then(|| serde_json::from_slice(wanted.bytes()).ok())??;
    let items = items.into_iter().map(|item| Json::slice_of(wanted.bytes(), item));
    let asks: Vec<Json> = items.filter(|item| leads_to_a_page(&item.value())).take(MAX_PAGES).collect();
    let asks = asks.into_iter().enumerate();
    let asks: Vec<_> = asks.map(|(at, params)| ((at + 1).to_string(), ELICITATION.to_owned(), Some(params))).collect();
    (!asks.is_empty()).then_some(asks)
}

const ELICITATION: &str = "elicitation/create";
/// Pages that one error asks to be visited.
const MAX_PAGES: usize = 16;

/// Whether the params of an elicitation ask for a page to be visited, and nothing else.
fn leads_to_a_page(params: &Value) -> bool {
    let url = params.get("url").and_then(Value::as_str).and_then(|url| url::Url::parse(url).ok());
    params.get("mode").and_then(Value::as_str) == Some("url")
        && url.is_some_and(|url| url.scheme() == "https" || (url.scheme() == "http" && is_here(&url)))
}

/// Whether a client that declared these capabilities may be asked so (MCP 2025-11-25 and 2026-07-28, client features).
#[must_use]
pub fn may_ask(capabilities: &Value, method: &str, params: Option<&Json>) -> bool {
    let declared = |name: &str| capabilities.get(name).filter(|value| !value.is_null());
    let text = |name: &str| member(params, name).and_then(|value| value.decode::<String>().ok());
    match method {
        "roots/list" => declared("roots").is_some(),
        ELICITATION => declared("elicitation").is_some_and(|ways| match text("mode").as_deref() {
            Some("url") => ways.get("url").is_some(),
            // A client of before there were two ways declares none of them.
            Some("form") | None => ways.get("form").is_some() || ways.get("url").is_none(),
            Some(_) => false,
        }),
        "sampling/createMessage" => declared("sampling").is_some_and(|sampling| {
            let tools = member(params, "tools").is_some() || member(params, "toolChoice").is_some();
            !tools || sampling.get("tools").is_some()
        }),
        _ => false,
    }
}

/// The HTTP status that goes with a server's error (MCP 2026-07-28, basic/transports/streamable-http).
#[must_use]
pub fn status_of(error: &Json, era: Era) -> u16 {
    let code = member(Some(error), "code").and_then(|code| code.decode::<i64>().ok());
    match (era, code) {
        (Era::Modern, Some(-32022..=-32020)) => 400,
        (Era::Modern, Some(-32601)) => 404,
        _ => 200,
    }
}

/// A server's capabilities as a client of this era is told: what the way in between carries, and nothing else.
#[must_use]
pub fn capabilities_for(capabilities: &Json, era: Era, server: Era) -> Value {
    let Value::Object(all) = capabilities.value() else { return json!({}) };
    let mut told = Map::new();
    for (name, value) in all {
        match name.as_str() {
            "tools" | "prompts" | "resources" | "completions" | "logging" => drop(told.insert(name, value)),
            "extensions" => told.extend(carried(&value, era, server).map(|kept| (name, kept))),
            _ => {}
        }
    }
    Value::Object(told)
}

/// Of the extensions that one end declares those that the way to the other carries, if any.
fn carried(extensions: &Value, client: Era, server: Era) -> Option<Value> {
    let carries = |name: &str| name == UI || (name == TASKS && (client, server) == (Era::Modern, Era::Modern));
    let kept = extensions.as_object()?.iter().filter(|(name, _)| carries(name));
    let kept: Map<String, Value> = kept.map(|(name, value)| (name.clone(), value.clone())).collect();
    (!kept.is_empty()).then_some(Value::Object(kept))
}

/// The extension of interfaces: nothing but resources to read.
const UI: &str = "io.modelcontextprotocol/ui";
/// The extension of tasks.
pub const TASKS: &str = "io.modelcontextprotocol/tasks";

/// A client's capabilities as they are declared to its server, of whichever era: what can be carried back to the client. A
/// server that takes up more would act, and its answer be lost.
#[must_use]
pub fn client_capabilities(capabilities: Option<&Value>, client: Era) -> Json {
    let Some(Value::Object(all)) = capabilities else { return Json::of(&json!({})) };
    let kept = |(name, value): (&String, &Value)| match name.as_str() {
        "sampling" | "elicitation" | "roots" => Some((name.clone(), value.clone())),
        "extensions" => Some((name.clone(), carried(value, client, client)?)),
        _ => None,
    };
    Json::of(&all.iter().filter_map(kept).collect::<Map<String, Value>>())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn json(text: &str) -> Json {
        Json::from_parts(text.to_owned())
    }

    #[test]
    fn what_is_not_judged_and_not_of_the_hop_travels_on_as_it_came() {
        let params = json(
            r#"{"name":"x","arguments":{"n":1.0},"task":{ "ttl":1e3 },"_meta":{"progressToken":7,"vendor/x": [1.50],"io.modelcontextprotocol/protocolVersion":"y","toolgate/jwt":"z"}}"#,
        );
        let onward = onward(Some(&params), &["name", "arguments"]).unwrap();
        assert_eq!(onward.rest, r#","task":{ "ttl":1e3 }"#);
        assert_eq!(onward.meta, r#","vendor/x":[1.50]"#);
        assert_eq!(member(Some(&params), "task").unwrap().as_str(), r#"{ "ttl":1e3 }"#);
        assert_eq!(super::onward(None, &[]), Ok(Onward::default()));
    }

    #[test]
    fn another_spelling_of_what_is_judged_never_travels_on() {
        for name in
            ["Name", "NAME", "argument\u{17f}", "_Meta", "_META", "uRI", "ur\u{131}", "Tas\u{212a}Id", "RequestState"]
        {
            let params = Json::of(&json!({"name": "x", name: "y"}));
            assert!(onward(Some(&params), &["name"]).is_err(), "{name}");
        }
        let params = json(
            r#"{"_meta":{"ProgressToken":7,"IO.modelcontextprotocol/protocolVersion":"y","Toolgate/jwt":"z","Vendor":1}}"#,
        );
        assert_eq!(onward(Some(&params), &[]).unwrap().meta, r#","Vendor":1"#);
    }

    #[test]
    fn a_result_is_told_in_the_client_s_era() {
        let info = json(r#"{"name":"up"}"#);
        let legacy = json(r#"{"content":[],"n":1.0}"#);
        let modern = json(r#"{"resultType":"complete","content":[],"ttlMs":5,"n":1.0}"#);
        assert_eq!(result_for(&legacy, Era::Legacy, &info, None), legacy);
        assert_eq!(result_for(&modern, Era::Modern, &info, Some(5)), modern);
        assert_eq!(result_for(&modern, Era::Legacy, &info, Some(5)).as_str(), r#"{"content":[],"n":1.0}"#);
        insta::assert_snapshot!(result_for(&legacy, Era::Modern, &info, None).as_str(), @r#"{"resultType":"complete","content":[],"n":1.0,"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"up"}}}"#);
    }

    #[test]
    fn what_a_modern_client_may_keep_is_said_where_the_server_did_not() {
        let told = result_for(&json(r#"{"contents":[]}"#), Era::Modern, &json("{}"), Some(0)).value();
        assert_eq!((&told["ttlMs"], &told["cacheScope"]), (&json!(0), &json!("private")));
    }

    #[test]
    fn the_number_of_a_missing_resource_follows_the_era() {
        let legacy = json(r#"{"code":-32002,"message":"x","data":{"uri":"a"}}"#);
        let modern = json(r#"{"code":-32602,"message":"x","data":{"uri":"a"}}"#);
        assert_eq!(error_for(&legacy, Era::Modern, "resources/read"), modern);
        assert_eq!(error_for(&modern, Era::Legacy, "resources/read"), legacy);
        assert_eq!(error_for(&modern, Era::Legacy, "tools/call"), modern);
    }

    #[test]
    fn what_a_legacy_server_wants_visited_becomes_a_question() {
        let error = json(
            r#"{"code":-32042,"message":"x","data":{"elicitations":[{"mode":"url","url":"https://a.example","elicitationId":"1","message":"m"}]}}"#,
        );
        let asked = asks_for_input(&url_elicitations(&error).unwrap(), "s").value();
        let params = json!({"mode": "url", "url": "https://a.example", "elicitationId": "1", "message": "m"});
        let question = json!({"method": "elicitation/create", "params": params});
        let expected = json!({"resultType": "input_required", "inputRequests": {"1": question}, "requestState": "s"});
        assert_eq!(asked, expected);
        assert!(url_elicitations(&json(r#"{"code":-32602,"message":"x"}"#)).is_none());
        // What is no page to visit is not asked, and what can be read in two ways is not read.
        for item in [
            r#"{"mode":"form","message":"your password"}"#,
            r#"{"mode":"url","url":"javascript:alert(1)"}"#,
            r#"{"mode":"url","url":"http://elsewhere.example/"}"#,
            r#"{"$serde_json::private::RawValue":"\"smuggled\""}"#,
        ] {
            let error = json(&format!(r#"{{"code":-32042,"message":"x","data":{{"elicitations":[{item}]}}}}"#));
            assert!(url_elicitations(&error).is_none(), "{item}");
        }
        assert!(error_for(&error, Era::Modern, "tools/call").as_str().contains("-32603"));
    }

    #[test]
    fn a_client_is_asked_in_the_ways_that_it_declared() {
        let asked =
            |capabilities: Value, method: &str, params: &str| may_ask(&capabilities, method, Some(&json(params)));
        for (capabilities, form, url) in [
            (json!({}), false, false),
            (json!({"elicitation": {}}), true, false),
            (json!({"elicitation": {"form": {}}}), true, false),
            (json!({"elicitation": {"url": {}}}), false, true),
            (json!({"elicitation": {"form": {}, "url": {}}}), true, true),
        ] {
            assert_eq!(asked(capabilities.clone(), ELICITATION, "{}"), form, "{capabilities}");
            assert_eq!(asked(capabilities.clone(), ELICITATION, r#"{"mode":"form"}"#), form, "{capabilities}");
            assert_eq!(asked(capabilities.clone(), ELICITATION, r#"{"mode":"url"}"#), url, "{capabilities}");
            assert!(!asked(capabilities, ELICITATION, r#"{"mode":"other"}"#));
        }
        let sampling = |capabilities, params| asked(capabilities, "sampling/createMessage", params);
        assert!(sampling(json!({"sampling": {}}), "{}") && !sampling(json!({"sampling": {}}), r#"{"tools":[]}"#));
        assert!(sampling(json!({"sampling": {"tools": {}}}), r#"{"tools":[]}"#));
        assert!(!asked(json!({"roots": null}), "roots/list", "{}") && asked(json!({"roots": {}}), "roots/list", "{}"));
    }

    #[test]
    fn a_question_leaves_the_token_of_its_hop_behind() {
        let params = json(r#"{"_meta":{"progressToken":0},"message":"m"}"#);
        assert_eq!(of_question(Some(&params)).unwrap().as_str(), r#"{"message":"m"}"#);
        let params = json(r#"{"_meta":{"progressToken":0,"v":1.0},"message":"m"}"#);
        assert_eq!(of_question(Some(&params)).unwrap().as_str(), r#"{"_meta":{"v":1.0},"message":"m"}"#);
    }

    #[test]
    fn only_what_the_way_carries_is_advertised() {
        let all = json(
            r#"{"tools":{"listChanged":true},"tasks":{},"experimental":{"x":{}},"extensions":{"io.modelcontextprotocol/ui":{},"io.modelcontextprotocol/tasks":{},"vendor/x":{}}}"#,
        );
        let told = |era, server| capabilities_for(&all, era, server);
        let plain = json!({"tools": {"listChanged": true}, "extensions": {UI: {}}});
        assert_eq!(told(Era::Legacy, Era::Legacy), plain);
        assert_eq!(told(Era::Modern, Era::Legacy), plain);
        assert_eq!(told(Era::Modern, Era::Modern)["extensions"][TASKS], json!({}));
        let declared = json!({"sampling":{"tools":{}},"vendor":{},"extensions":{UI:{"a":1},TASKS:{},"vendor/x":{}}});
        for (client, extensions) in
            [(Era::Legacy, json!({UI: {"a": 1}})), (Era::Modern, json!({UI: {"a": 1}, TASKS: {}}))]
        {
            let told = client_capabilities(Some(&declared), client).value();
            assert_eq!(told, json!({"sampling": {"tools": {}}, "extensions": extensions}), "{client:?}");
        }
        let vendor = json!({"extensions": {"vendor/x": {}}});
        assert_eq!(client_capabilities(Some(&vendor), Era::Modern).as_str(), "{}");
    }

    proptest! {
        #[test]
        fn any_result_keeps_its_members(pairs in prop::collection::btree_map("[a-z]{1,5}", any::<f64>().prop_filter("finite", |n| n.is_finite()), 0..6)) {
            let text = serde_json::to_string(&pairs).unwrap();
            let changed = with_member(&json(&text), "requestState", "\"s\"").value();
            for (name, value) in &pairs {
                prop_assert_eq!(changed[name].as_f64(), Some(*value));
            }
            prop_assert_eq!(&changed["requestState"], "s");
        }
    }
}
