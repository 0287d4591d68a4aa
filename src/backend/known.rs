//! What a server last listed, in the form in which it is kept over a restart.

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::status::era_word;
use crate::domain::json::Json;
use crate::wire::era::Era;

/// A server's tools as it sent them, and what it said of itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct Known {
    pub era: Option<Era>,
    pub title: Option<String>,
    pub instructions: Option<String>,
    pub definitions: Vec<Json>,
}

impl Known {
    /// `{"era":…,"title":…,"instructions":…,"tools":[…]}`, the definitions byte for byte.
    pub(crate) fn json(&self) -> Json {
        let tools: Vec<&str> = self.definitions.iter().map(Json::as_str).collect();
        let text = format!(
            r#"{{"era":{},"title":{},"instructions":{},"tools":[{}]}}"#,
            Value::from(self.era.map(era_word)),
            Value::from(self.title.as_deref()),
            Value::from(self.instructions.as_deref()),
            tools.join(",")
        );
        Json::from_parts(text)
    }

    /// Reads what [`Self::json`] wrote; `None` where it is something else.
    pub(crate) fn read(json: &Json) -> Option<Self> {
        #[derive(Deserialize)]
        struct Kept<'a> {
            era: Option<String>,
            title: Option<String>,
            instructions: Option<String>,
            #[serde(borrow)]
            tools: Vec<&'a RawValue>,
        }
        let kept: Kept<'_> = serde_json::from_slice(json.bytes()).ok()?;
        Some(Self {
            era: [Era::Legacy, Era::Modern].into_iter().find(|era| kept.era.as_deref() == Some(era_word(*era))),
            title: kept.title,
            instructions: kept.instructions,
            definitions: kept.tools.into_iter().map(|tool| Json::slice_of(json.bytes(), tool)).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_is_kept_byte_for_byte() {
        let known = Known {
            era: Some(Era::Legacy),
            title: Some("a \"b\"".into()),
            instructions: None,
            definitions: vec![Json::from_parts(r#"{ "name":"x", "n":1.50e2 }"#.into())],
        };
        let read = Known::read(&known.json()).unwrap();
        assert_eq!(read.definitions, known.definitions);
        assert_eq!((read.era, read.title, read.instructions), (known.era, known.title, known.instructions));
        assert!(Known::read(&Json::from_parts("[]".into())).is_none());
    }
}
