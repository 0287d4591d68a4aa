//! Asking the client, in its own era: at once on a legacy session, by `input_required` and a retry on 2026-07-28.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use rmcp::ErrorData;
use rmcp::model::{
    CallToolResponse, ClientCapabilities, InputRequest, InputRequiredResult, InputResponses, ProtocolVersion,
    ServerRequest,
};
use rmcp::service::{RequestContext, RoleServer};
use serde_json::{Value, json};

use crate::tools::{Answer, Call, text};

/// What the client is asked, under the key of its answer.
pub(crate) type Question = (&'static str, Value);

/// The client's answers, or what is to be returned to get them.
pub(crate) enum Asked {
    Answered(BTreeMap<String, Value>),
    Required(InputRequiredResult),
}

/// Whether the request came on 2026-07-28.
pub(crate) fn is_modern(context: &RequestContext<RoleServer>) -> bool {
    context.protocol_version().is_some_and(|version| version >= ProtocolVersion::V_2026_07_28)
}

/// Asks everything, with a state that a modern client gives back.
pub(crate) async fn ask(
    context: &RequestContext<RoleServer>,
    given: Option<&InputResponses>,
    questions: &[Question],
    state: Option<String>,
) -> Result<Asked, ErrorData> {
    declared(context, questions)?;
    let requests = questions.iter().map(|(key, request)| {
        let request = serde_json::from_value::<InputRequest>(request.clone());
        request.map(|request| ((*key).to_owned(), request))
    });
    let requests: BTreeMap<_, _> =
        requests.collect::<Result<_, _>>().map_err(|error| ErrorData::internal_error(error.to_string(), None))?;
    if !is_modern(context) {
        // All at once, as a client of 2026-07-28 is asked.
        let asked =
            requests.into_iter().map(|(key, request)| async move { Ok((key, at_once(context, request).await?)) });
        let answers: Result<BTreeMap<_, _>, ErrorData> = join_all(asked).await.into_iter().collect();
        return answers.map(Asked::Answered);
    }
    let fitting = |(key, _): &Question| Some((*key).to_owned()).zip(given?.get(*key).filter(|it| it.is_object()));
    let answers: BTreeMap<_, _> = questions.iter().filter_map(fitting).map(|(key, it)| (key, it.clone())).collect();
    if answers.len() == questions.len() {
        return Ok(Asked::Answered(answers));
    }
    Ok(Asked::Required(InputRequiredResult::new(Some(requests), state)))
}

/// A request of the server's own, on a legacy session.
async fn at_once(context: &RequestContext<RoleServer>, request: InputRequest) -> Result<Value, ErrorData> {
    let request = match request {
        InputRequest::CreateMessage(request) => ServerRequest::CreateMessageRequest(request),
        InputRequest::Elicitation(request) => ServerRequest::ElicitRequest(request),
        InputRequest::ListRoots(request) => ServerRequest::ListRootsRequest(request),
        _ => return Err(ErrorData::internal_error("a request that is not known", None)),
    };
    let answer = context
        .peer
        .send_request(request)
        .await
        .map_err(|error| ErrorData::internal_error(format!("the client did not answer: {error}"), None))?;
    serde_json::to_value(answer).map_err(|error| ErrorData::internal_error(error.to_string(), None))
}

/// Nothing may be asked that the client has not declared.
fn declared(context: &RequestContext<RoleServer>, questions: &[Question]) -> Result<(), ErrorData> {
    let declared = context.client_capabilities().unwrap_or_default();
    for (_, request) in questions {
        let (missing, needed) = match request.get("method").and_then(Value::as_str) {
            Some("sampling/createMessage") => (declared.sampling.is_none(), json!({"sampling": {}})),
            Some("elicitation/create") => (declared.elicitation.is_none(), json!({"elicitation": {}})),
            _ => (declared.roots.is_none(), json!({"roots": {}})),
        };
        if missing {
            return Err(lacking(needed));
        }
    }
    Ok(())
}

/// The refusal of a client that has not declared what is needed.
pub(crate) fn lacking(needed: Value) -> ErrorData {
    let needed = serde_json::from_value::<ClientCapabilities>(needed).unwrap_or_default();
    ErrorData::missing_required_client_capability(needed)
}

/// An elicitation by a form.
pub(crate) fn form(message: &str, properties: &Value, required: &[&str]) -> Value {
    let schema = json!({"type": "object", "properties": properties, "required": required});
    json!({"method": "elicitation/create",
           "params": {"mode": "form", "message": message, "requestedSchema": schema}})
}

/// A question to the client's model.
pub(crate) fn sampling(prompt: &str, max_tokens: u32) -> Value {
    let content = json!({"type": "text", "text": prompt});
    json!({"method": "sampling/createMessage",
           "params": {"messages": [{"role": "user", "content": content}], "maxTokens": max_tokens}})
}

fn roots() -> Value {
    json!({"method": "roots/list"})
}

fn a_name(message: &str) -> Value {
    form(message, &json!({"name": {"type": "string"}}), &["name"])
}

fn a_confirmation() -> Value {
    form("Please confirm", &json!({"ok": {"type": "boolean"}}), &["ok"])
}

/// The tools that only ask. Any other is unknown.
pub(crate) async fn call(call: &Call) -> Answer {
    match call.name() {
        "test_sampling" => {
            let question = ("answer", sampling(call.argument("prompt"), 100));
            say(call, &[question], None, |answers| format!("LLM response: {}", sampled(answers, "answer"))).await
        }
        "test_elicitation" => {
            let properties = json!({"username": {"type": "string", "description": "User's response"},
                                    "email": {"type": "string", "description": "User's email address"}});
            let question = ("answer", form(call.argument("message"), &properties, &["username", "email"]));
            say(call, &[question], None, |answers| format!("User response: <{}>", elicited(answers, ": "))).await
        }
        "test_elicitation_sep1034_defaults" => choose(call, &defaults()).await,
        "test_elicitation_sep1330_enums" => choose(call, &enums()).await,
        "test_input_required_result_elicitation" | "test_streaming_elicitation" => {
            let question = ("user_name", a_name("What is your name?"));
            say(call, &[question], None, |answers| format!("Hello, {}!", named(answers, "user_name"))).await
        }
        "test_input_required_result_sampling" => {
            let question = ("capital_question", sampling("What is the capital of France?", 100));
            say(call, &[question], None, |answers| sampled(answers, "capital_question")).await
        }
        "test_input_required_result_list_roots" => {
            say(call, &[("client_roots", roots())], None, |answers| format!("{}", json!(answers))).await
        }
        "test_input_required_result_request_state" | "test_input_required_result_tampered_state" => {
            let question = ("confirm", a_confirmation());
            say(call, &[question], Some("confirm"), |_| "state-ok".to_owned()).await
        }
        "test_input_required_result_multiple_inputs" => {
            let questions = [
                ("user_name", a_name("What is your name?")),
                ("greeting", sampling("Generate a greeting", 50)),
                ("client_roots", roots()),
            ];
            say(call, &questions, Some("several"), |answers| format!("{}", json!(answers))).await
        }
        "test_input_required_result_multi_round" => in_rounds(call).await,
        "test_input_required_result_capabilities" => what_is_declared(call).await,
        name => Err(ErrorData::invalid_params(format!("unknown tool: {name}"), None)),
    }
}

/// Asks, and says what the answers were. A state must come back as it was sent.
async fn say(
    call: &Call,
    questions: &[Question],
    state: Option<&str>,
    said: impl FnOnce(&BTreeMap<String, Value>) -> String,
) -> Answer {
    if state.is_some() {
        returned(call)?;
    }
    let state = state.map(|state| call.shared.seal(state));
    Ok(match ask(&call.context, call.params.input_responses.as_ref(), questions, state).await? {
        Asked::Answered(answers) => text(said(&answers)),
        Asked::Required(required) => CallToolResponse::InputRequired(required),
    })
}

/// The state that the client gives back, none in the first round.
fn returned(call: &Call) -> Result<Option<String>, ErrorData> {
    let Some(sealed) = call.params.request_state.as_deref() else {
        return match call.params.input_responses {
            Some(_) => Err(ErrorData::invalid_params("`requestState` is missing", None)),
            None => Ok(None),
        };
    };
    let state = call.shared.open(sealed);
    state.map(Some).ok_or_else(|| ErrorData::invalid_params("`requestState` is not what was sent", None))
}

async fn choose(call: &Call, properties: &Value) -> Answer {
    let question = ("answer", form("Please choose", properties, &[]));
    say(call, &[question], None, |answers| format!("Elicitation completed: {}", elicited(answers, "="))).await
}

/// Two rounds on 2026-07-28, the first one's answer carried in the state; two requests on a legacy session.
async fn in_rounds(call: &Call) -> Answer {
    let first = ("step1", a_name("Step 1: What is your name?"));
    let colour = form("Step 2: What is your favorite color?", &json!({"color": {"type": "string"}}), &["color"]);
    let second = ("step2", colour);
    let given = call.params.input_responses.as_ref();
    let name = match returned(call)?.as_deref().and_then(|state| state.strip_prefix("name:")) {
        Some(name) => name.to_owned(),
        None => match ask(&call.context, given, &[first], Some(call.shared.seal("asked"))).await? {
            Asked::Answered(answers) => named(&answers, "step1"),
            Asked::Required(required) => return Ok(CallToolResponse::InputRequired(required)),
        },
    };
    let state = call.shared.seal(&format!("name:{name}"));
    Ok(match ask(&call.context, given, &[second], Some(state)).await? {
        Asked::Answered(answers) => text(format!("{name} likes {}", answer(&answers, "step2", "/content/color"))),
        Asked::Required(required) => CallToolResponse::InputRequired(required),
    })
}

/// Asks no more than the client has declared.
async fn what_is_declared(call: &Call) -> Answer {
    let declared = call.context.client_capabilities().unwrap_or_default();
    let questions = [
        declared.sampling.map(|_| ("sampled", sampling("Generate a greeting", 50))),
        declared.elicitation.map(|_| ("elicited", a_name("What is your name?"))),
        declared.roots.map(|_| ("roots", roots())),
    ];
    let questions: Vec<Question> = questions.into_iter().flatten().collect();
    say(call, &questions, None, |answers| format!("{}", json!(answers))).await
}

fn answer(answers: &BTreeMap<String, Value>, key: &str, pointer: &str) -> String {
    let found = answers.get(key).and_then(|answer| answer.pointer(pointer));
    found.and_then(Value::as_str).unwrap_or("nothing").to_owned()
}

/// The name in a form's answer.
pub(crate) fn named(answers: &BTreeMap<String, Value>, key: &str) -> String {
    answer(answers, key, "/content/name")
}

fn sampled(answers: &BTreeMap<String, Value>, key: &str) -> String {
    answer(answers, key, "/content/text")
}

fn elicited(answers: &BTreeMap<String, Value>, between: &str) -> String {
    let content = answers.get("answer").and_then(|answer| answer.get("content")).cloned().unwrap_or(Value::Null);
    format!("action{between}{}, content{between}{content}", answer(answers, "answer", "/action"))
}

fn defaults() -> Value {
    json!({
        "name": {"type": "string", "default": "John Doe"},
        "age": {"type": "integer", "default": 30},
        "score": {"type": "number", "default": 95.5},
        "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
        "verified": {"type": "boolean", "default": true},
    })
}

fn enums() -> Value {
    let titled = |noun: &str| {
        let one = |value: &str, ordinal: &str| json!({"const": value, "title": format!("{ordinal} {noun}")});
        json!([one("value1", "First"), one("value2", "Second"), one("value3", "Third")])
    };
    let plain = ["option1", "option2", "option3"];
    json!({
        "untitledSingle": {"type": "string", "enum": plain},
        "titledSingle": {"type": "string", "oneOf": titled("Option")},
        "legacyEnum": {"type": "string", "enum": ["opt1", "opt2", "opt3"],
                       "enumNames": ["Option One", "Option Two", "Option Three"]},
        "untitledMulti": {"type": "array", "items": {"type": "string", "enum": plain}},
        "titledMulti": {"type": "array", "items": {"anyOf": titled("Choice")}},
    })
}
