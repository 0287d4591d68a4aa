//! What a governed request of the transparent route asks for, and what of it travels on as it came.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::domain::call::{Errand, ToolRef};
use crate::domain::id::{EventId, ServerName};
use crate::domain::json::{Json, canonical, sha256_hex};
use crate::domain::tool::Kind;
use crate::wire::envelope::call_params;
use crate::wire::era::Era;
use crate::wire::hop::{self, Onward};

/// What a governed request asks for.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) tool: ToolRef,
    pub(super) arguments: Option<Json>,
    /// What is asked in place of the call.
    pub(super) errand: Option<Errand>,
    /// Members of the params that are judged, and put in by whoever sends them.
    judged: &'static [&'static str],
    /// Members that were made anew of what is judged, each with a comma before it.
    anew: String,
    /// What is asked, whoever asks and however often.
    pub(super) digest: String,
}

impl Wanted {
    /// Reads the params of `tools/call`, `prompts/get`, `resources/read` or `completion/complete`.
    ///
    /// # Errors
    /// A sentence for the client.
    pub(super) fn read(method: &str, server: &ServerName, params: Option<&Json>) -> Result<Self, String> {
        match method {
            "completion/complete" => Self::completion(server, params),
            "resources/read" => {
                let uri = hop::member(params, "uri").and_then(|uri| uri.decode::<String>().ok());
                let uri = uri.ok_or("`params.uri` is required: the resource to read")?;
                Ok(Self::plain(method, ToolRef::Resource { server: server.to_string(), uri }, None, &["uri"]))
            }
            _ => {
                let call = call_params(params)?;
                let server = server.to_string();
                let tool = match method {
                    "prompts/get" => ToolRef::Prompt { server, name: call.name },
                    _ => ToolRef::Exact { server, tool: call.name },
                };
                Ok(Self::plain(method, tool, call.arguments, &["name", "arguments"]))
            }
        }
    }

    fn plain(method: &str, tool: ToolRef, arguments: Option<Json>, judged: &'static [&'static str]) -> Self {
        let text = arguments.as_ref().map(|arguments| canonical(&arguments.value())).unwrap_or_default();
        let digest = sha256_hex(format!("{method}\n{tool:?}\n{text}").as_bytes());
        Self { tool, arguments, errand: None, judged, anew: String::new(), digest }
    }

    /// What completes an argument is judged as the prompt with the arguments that are there, or as the resource that the
    /// template comes to with them: they say what is looked through.
    fn completion(server: &ServerName, params: Option<&Json>) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Params {
            #[serde(rename = "ref")]
            reference: Reference,
            argument: Argument,
            #[serde(default)]
            context: Context,
        }
        #[derive(Deserialize)]
        struct Reference {
            #[serde(rename = "type")]
            kind: String,
            name: Option<String>,
            uri: Option<String>,
        }
        #[derive(Deserialize, Serialize)]
        struct Argument {
            name: String,
            value: String,
        }
        #[derive(Deserialize, Default)]
        struct Context {
            #[serde(default)]
            arguments: Option<BTreeMap<String, String>>,
        }
        let wrong =
            "`params.ref` names a prompt or a resource, `params.argument` is an argument of it: a name and a value";
        let Params { reference, argument, context } =
            params.and_then(|params| params.decode().ok()).ok_or_else(|| wrong.to_owned())?;
        let server = server.to_string();
        let mut anew = format!(",\"argument\":{}", json!(argument));
        if let Some(arguments) = &context.arguments {
            anew.push_str(&format!(",\"context\":{}", json!({"arguments": arguments})));
        }
        let mut all = context.arguments.unwrap_or_default();
        all.insert(argument.name, argument.value);
        let (tool, member, name) = match (reference.kind.as_str(), reference.name, reference.uri) {
            ("ref/prompt", Some(name), _) => (ToolRef::Prompt { server, name: name.clone() }, "name", name),
            ("ref/resource", _, Some(template)) => {
                (ToolRef::Resource { server, uri: filled(&template, &all) }, "uri", template)
            }
            _ => return Err(wrong.to_owned()),
        };
        let reference = format!("\"ref\":{}", json!({"type": reference.kind, member: name}));
        let arguments = (tool.kind() == Kind::Prompt).then(|| Json::of(&all));
        let plain = Self::plain("completion/complete", tool, arguments, &["ref", "argument", "context"]);
        Ok(Self { errand: Some(Errand::Complete { reference }), anew, ..plain })
    }

    /// To be told of changes of a resource, or no more.
    pub(super) fn follow(server: &ServerName, uri: &str, on: bool, sends: bool) -> Self {
        let tool = ToolRef::Resource { server: server.to_string(), uri: uri.to_owned() };
        let errand = Errand::Follow { on, sends };
        Self { errand: Some(errand.clone()), ..Self::plain(errand.method(), tool, None, &["uri"]) }
    }

    /// About a task that a call of `tool` began.
    pub(super) fn task(server: &ServerName, tool: String, method: &'static str, id: String) -> Self {
        let tool = ToolRef::Exact { server: server.to_string(), tool };
        Self { errand: Some(Errand::Task { method, id }), ..Self::plain(method, tool, None, &["taskId"]) }
    }

    /// Whether what was asked for before, by the call of this record, may go on.
    pub(super) fn going_on(self, event: EventId) -> Self {
        let method = match self.tool.kind() {
            Kind::Tool => "tools/call",
            Kind::Resource => "resources/read",
            Kind::Prompt | Kind::Entity => "prompts/get",
        };
        Self { errand: Some(Errand::GoOn { method, event }), ..self }
    }

    /// What of the params travels on beside what is judged.
    ///
    /// # Errors
    /// A sentence for the client.
    pub(super) fn onward(
        &self,
        params: Option<&Json>,
        (from, to): (Era, Era),
        state: Option<Json>,
    ) -> Result<Onward, String> {
        let mut judged = self.judged.to_vec();
        // What the gateway takes up itself; only from one modern end to the other: a legacy client's answers are put in by
        // whoever asks it.
        if (from, to) != (Era::Modern, Era::Modern) {
            judged.push("inputResponses");
        }
        judged.push("requestState");
        let mut onward = hop::onward(params, &judged)?;
        if let Some(Errand::Task { method, .. }) = &self.errand {
            // Beside its id a task takes its answers: what else stood there nobody has judged, or approved.
            let answers = hop::member(params, "inputResponses").filter(|_| *method == "tasks/update");
            onward.rest = answers.map(|text| format!(",\"inputResponses\":{}", text.as_str())).unwrap_or_default();
        }
        onward.rest.push_str(&self.anew);
        if let Some(state) = state {
            onward.rest.push_str(",\"requestState\":");
            onward.rest.push_str(state.as_str());
        }
        Ok(onward)
    }
}

/// A template of URIs (RFC 6570) with some of its variables put in, as they are written. An expression of which none is
/// known stays.
fn filled(template: &str, values: &BTreeMap<String, String>) -> String {
    let mut out = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, (expression, after))) =
        rest.split_once('{').and_then(|(before, tail)| Some((before, tail.split_once('}')?)))
    {
        out.push_str(before);
        out.push_str(&expanded(expression, values).unwrap_or_else(|| format!("{{{expression}}}")));
        rest = after;
    }
    out.push_str(rest);
    out
}

/// What an expression comes to: `name`, `+name`, `/a,b`, `?q`.
fn expanded(expression: &str, values: &BTreeMap<String, String>) -> Option<String> {
    let operator = expression.chars().next().filter(|first| "+#./;?&".contains(*first));
    let names = operator.map_or(expression, |operator| expression.trim_start_matches(operator)).split(',');
    let plain = |name: &str| name.trim_end_matches('*').split(':').next().unwrap_or_default().to_owned();
    let pairs: Vec<(String, &String)> =
        names.map(plain).filter_map(|name| values.get(&name).map(|value| (name, value))).collect();
    let named = |(name, value): &(String, &String)| format!("{name}={value}");
    let bare = |(_, value): &(String, &String)| (*value).clone();
    let (first, between) = match operator {
        None | Some('+') => ("", ","),
        Some('#') => ("#", ","),
        Some('.') => (".", "."),
        Some('/') => ("/", "/"),
        Some(';') => (";", ";"),
        Some('?') => ("?", "&"),
        _ => ("&", "&"),
    };
    let parts: Vec<String> = match operator {
        Some(';' | '?' | '&') => pairs.iter().map(named).collect(),
        _ => pairs.iter().map(bare).collect(),
    };
    (!parts.is_empty()).then(|| format!("{first}{}", parts.join(between)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_told_its_answers_and_nothing_else_whatever_the_era_of_its_server() {
        let server: ServerName = "up".parse().unwrap();
        let params = Json::of(&json!({
            "taskId": "sealed", "inputResponses": {"1": {"action": "accept"}}, "amount": 7, "_meta": {"vendor/x": 1},
        }));
        let answers = r#","inputResponses":{"1":{"action":"accept"}}"#;
        for (method, rest) in [("tasks/update", answers), ("tasks/get", ""), ("tasks/cancel", "")] {
            let wanted = Wanted::task(&server, "slow".into(), method, "raw".into());
            for era in [Era::Legacy, Era::Modern] {
                let onward = wanted.onward(Some(&params), (Era::Modern, era), None).unwrap();
                assert_eq!((&*onward.rest, &*onward.meta), (rest, r#","vendor/x":1"#), "{method}");
            }
        }
    }

    #[test]
    fn a_completion_of_a_template_is_judged_as_the_resource_that_it_comes_to() {
        let server: ServerName = "up".parse().unwrap();
        for (template, uri) in [
            ("file:///public/{dir}/{path}", "file:///public/../etc/pass"),
            ("file:///public/{+path}", "file:///public/etc/pass"),
            ("file:///{dir,path}", "file:///..,etc/pass"),
            ("file:///public{/dir,path*}", "file:///public/../etc/pass"),
            ("https://h/a{?path,q}", "https://h/a?path=etc/pass"),
            ("x://{other}/{path:3}{", "x://{other}/etc/pass{"),
        ] {
            let params = Json::of(&json!({
                "ref": {"type": "ref/resource", "uri": template}, "argument": {"name": "path", "value": "etc/pass"},
                "context": {"arguments": {"dir": ".."}},
            }));
            let wanted = Wanted::read("completion/complete", &server, Some(&params)).unwrap();
            assert_eq!(wanted.tool, ToolRef::Resource { server: "up".into(), uri: uri.into() });
            let reference = format!("\"ref\":{}", json!({"type": "ref/resource", "uri": template}));
            assert_eq!(wanted.errand, Some(Errand::Complete { reference }), "its server is asked about the template");
        }
    }

    #[test]
    fn a_completion_is_made_anew_of_what_is_judged() {
        let server: ServerName = "up".parse().unwrap();
        let params = Json::of(&json!({
            "ref": {"type": "ref/prompt", "name": "p", "Name": "q"}, "argument": {"name": "a", "value": "x", "Value": "y"},
            "context": {"arguments": {"b": "z"}, "Arguments": {}}, "vendor": 1.5,
        }));
        let wanted = Wanted::read("completion/complete", &server, Some(&params)).unwrap();
        assert_eq!(wanted.tool, ToolRef::Prompt { server: "up".into(), name: "p".into() });
        assert_eq!(wanted.arguments.as_ref().unwrap().as_str(), r#"{"a":"x","b":"z"}"#);
        let rest = wanted.onward(Some(&params), (Era::Legacy, Era::Legacy), None).unwrap().rest;
        assert_eq!(rest, r#","vendor":1.5,"argument":{"name":"a","value":"x"},"context":{"arguments":{"b":"z"}}"#);
        let params = Json::of(&json!({"name": "t", "inputResponses": {"a": {}}}));
        let wanted = Wanted::read("tools/call", &server, Some(&params)).unwrap();
        for (from, passes) in [(Era::Modern, true), (Era::Legacy, false)] {
            let rest = wanted.onward(Some(&params), (from, Era::Modern), None).unwrap().rest;
            assert_eq!(rest.contains("inputResponses"), passes, "{from:?}");
        }
        for wrong in [json!({}), json!({"ref": {"type": "ref/prompt"}, "argument": {"name": "a", "value": "x"}})] {
            assert!(Wanted::read("completion/complete", &server, Some(&Json::of(&wrong))).is_err());
        }
    }
}
