//! Which arguments a tool wants repeated in headers, learnt from the lists that pass by (SEP-2243).

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use http::{HeaderName, HeaderValue};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::domain::json::Json;
use crate::wire::mirror::{self, Mirror};

/// Tools that are remembered at most.
const MAX_TOOLS: usize = 10_000;

/// The tools with such arguments.
#[derive(Debug, Default)]
pub(super) struct Annotated(Mutex<HashMap<String, Vec<Mirror>>>);

#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow)]
    tools: Vec<&'a RawValue>,
    #[serde(rename = "nextCursor")]
    next: Option<String>,
}

#[derive(Deserialize)]
struct Tool<'a> {
    name: String,
    #[serde(borrow, rename = "inputSchema")]
    schema: Option<&'a RawValue>,
}

impl Annotated {
    /// Reads the result of `tools/list`; gives the cursor of the next page.
    pub(super) fn learn(&self, result: &Json) -> Option<String> {
        let page: Page<'_> = serde_json::from_str(result.as_str()).ok()?;
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for tool in page.tools.iter().filter_map(|tool| serde_json::from_str::<Tool<'_>>(tool.get()).ok()) {
            let schema = tool.schema.filter(|schema| schema.get().contains(mirror::ANNOTATION));
            let schema = schema.and_then(|schema| Json::slice_of(result.bytes(), schema).tree().ok());
            match schema.and_then(|schema| mirror::mirrors(&schema).ok()).filter(|mirrors| !mirrors.is_empty()) {
                Some(mirrors) if known.len() < MAX_TOOLS => drop(known.insert(tool.name, mirrors)),
                _ => drop(known.remove(&tool.name)),
            }
        }
        page.next
    }

    /// The headers for a call of the tool `name`.
    pub(super) fn headers(&self, name: &str, arguments: Option<&Json>) -> Vec<(HeaderName, HeaderValue)> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(name).map(|mirrors| mirror::headers(mirrors, arguments)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_learnt_and_forgotten_tool_by_tool() {
        let annotated = Annotated::default();
        let list = |header: &str| {
            Json::from_parts(format!(
                r#"{{"tools":[{{"name":"a","inputSchema":{{"properties":{{"r":{{"type":"string"{header}}}}}}}}},{{"name":7}}],"nextCursor":""}}"#
            ))
        };
        let arguments = Json::from_parts(r#"{"r":"x"}"#.into());
        assert_eq!(annotated.learn(&list(r#","x-mcp-header":"Region""#)).as_deref(), Some(""));
        let headers = annotated.headers("a", Some(&arguments));
        assert_eq!(headers.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["mcp-param-region"]);
        assert!(annotated.headers("b", Some(&arguments)).is_empty());
        annotated.learn(&list(""));
        assert!(annotated.headers("a", Some(&arguments)).is_empty());
        assert_eq!(annotated.learn(&Json::from_parts("[]".into())), None);
    }
}
