//! What prompts, resources and completions hold.

use rmcp::ErrorData;
use rmcp::model::{
    CompleteRequestParams, CompleteResult, CompletionInfo, ContentBlock, GetPromptRequestParams, GetPromptResponse,
    GetPromptResult, PromptMessage, ReadResourceResponse, ReadResourceResult, ResourceContents, Role,
};
use rmcp::service::{RequestContext, RoleServer};
use serde_json::{Value, json};

use crate::ask::{Asked, ask, form};
use crate::fixture::WATCHED;

/// A red point.
pub(crate) const PNG: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg==";
/// Silence.
pub(crate) const WAV: &str = "UklGRiYAAABXQVZFZm10IBAAAAABAAEAQB8AAAB9AAACABAAZGF0YQIAAAAAAA==";

/// A prompt's messages, after what the user is asked first.
pub(crate) async fn prompt(
    params: &GetPromptRequestParams,
    context: &RequestContext<RoleServer>,
) -> Result<GetPromptResponse, ErrorData> {
    let argument = |name: &str| {
        let given = params.arguments.as_ref().and_then(|arguments| arguments.get(name)).and_then(Value::as_str);
        given.ok_or_else(|| ErrorData::invalid_params(format!("the argument `{name}` is missing"), None))
    };
    let messages = match &*params.name {
        "test_simple_prompt" => vec![ContentBlock::text("This is a simple prompt for testing.")],
        "test_prompt_with_arguments" => {
            let (first, second) = (argument("arg1")?, argument("arg2")?);
            vec![ContentBlock::text(format!("Prompt with arguments: arg1='{first}', arg2='{second}'"))]
        }
        "test_prompt_with_embedded_resource" => {
            let embedded = ResourceContents::text("Embedded resource content for testing.", argument("resourceUri")?);
            vec![
                ContentBlock::resource(embedded.with_mime_type("text/plain")),
                ContentBlock::text("Please process the embedded resource above."),
            ]
        }
        "test_prompt_with_image" => {
            vec![ContentBlock::image(PNG, "image/png"), ContentBlock::text("Please analyze the image above.")]
        }
        "test_input_required_result_prompt" => {
            let properties = json!({"context": {"type": "string"}});
            let question = ("user_context", form("What context should the prompt use?", &properties, &["context"]));
            match ask(context, params.input_responses.as_ref(), &[question], None).await? {
                Asked::Answered(answers) => vec![ContentBlock::text(format!("The context: {}", json!(answers)))],
                Asked::Required(required) => return Ok(GetPromptResponse::InputRequired(required)),
            }
        }
        "test_passing_prompt" => vec![ContentBlock::text("Still here.")],
        name => return Err(ErrorData::invalid_params(format!("unknown prompt: {name}"), None)),
    };
    let messages = messages.into_iter().map(|content| PromptMessage::new(Role::User, content)).collect();
    Ok(GetPromptResult::new(messages).into())
}

/// A resource's contents.
pub(crate) fn resource(uri: &str) -> Result<ReadResourceResponse, ErrorData> {
    let text = |text: &str, mime: &str| ResourceContents::text(text, uri).with_mime_type(mime);
    let id = uri.strip_prefix("test://template/").and_then(|rest| rest.strip_suffix("/data"));
    let contents = match (uri, id) {
        ("test://static-text", _) => text("This is the content of the static text resource.", "text/plain"),
        ("test://static-binary", _) => ResourceContents::blob(PNG, uri).with_mime_type("image/png"),
        (WATCHED, _) => text("Watched resource content", "text/plain"),
        (_, Some(id)) => {
            let data = json!({"id": id, "templateTest": true, "data": format!("Data for ID: {id}")});
            text(&data.to_string(), "application/json")
        }
        _ => {
            let at = json!({"uri": uri});
            return Err(ErrorData::resource_not_found(format!("resource not found: {uri}"), Some(at)));
        }
    };
    Ok(ReadResourceResult::new(vec![contents]).into())
}

/// The values that begin as what was typed does.
pub(crate) fn completion(request: &CompleteRequestParams) -> Result<CompleteResult, ErrorData> {
    let values = ["paris", "park", "party", "testValue1", "testValue2", "123"];
    let typed = &request.argument.value;
    let fitting = values.into_iter().filter(|value| value.starts_with(typed.as_str())).map(str::to_owned).collect();
    let completion = CompletionInfo::with_all_values(fitting);
    completion.map(CompleteResult::new).map_err(|error| ErrorData::internal_error(error, None))
}
