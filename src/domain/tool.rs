//! A tool as its backend describes it, with what the operator says about it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::dlp::DlpModes;
use super::id::ToolId;
use super::json::Json;
use super::uri;

/// What is judged. Tools, prompts and resources are resolved, decided, charged, sent and recorded alike; entities are
/// judged alone, by type and by field, for what a query may show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Tool,
    Prompt,
    Resource,
    Entity,
}

impl Kind {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tool => "tool",
            Self::Prompt => "prompt",
            Self::Resource => "resource",
            Self::Entity => "entity",
        }
    }
}

/// What a call of the tool may do to the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Risk {
    Read,
    Write,
    Destructive,
}

impl Risk {
    /// `read` where `readOnlyHint` is true, `destructive` where `destructiveHint` is explicitly true, else `write`.
    #[must_use]
    pub fn from_hints(hints: Hints) -> Self {
        match hints {
            Hints { read_only: Some(true), .. } => Self::Read,
            Hints { destructive: Some(true), .. } => Self::Destructive,
            _ => Self::Write,
        }
    }

    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Read, Self::Write, Self::Destructive].into_iter().find(|risk| risk.as_str() == text)
    }

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Destructive => "destructive",
        }
    }
}

/// The annotations of a tool (MCP `ToolAnnotations`): claims of its backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Hints {
    pub read_only: Option<bool>,
    pub destructive: Option<bool>,
    pub idempotent: Option<bool>,
    pub open_world: Option<bool>,
}

/// What a string argument is, where the operator or its name says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ArgumentKind {
    Sql,
    Shell,
    Url,
    Path,
}

impl ArgumentKind {
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "sql" => Some(Self::Sql),
            "shell" => Some(Self::Shell),
            "url" => Some(Self::Url),
            "path" => Some(Self::Path),
            _ => None,
        }
    }
}

/// At most `count` calls in any `window`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rate {
    pub count: u32,
    pub window: Duration,
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.window.as_millis() {
            60_000 => write!(f, "{}/min", self.count),
            1_000 => write!(f, "{}/s", self.count),
            3_600_000 => write!(f, "{}/h", self.count),
            millis if millis % 1_000 == 0 => write!(f, "{}/{}s", self.count, millis / 1_000),
            millis => write!(f, "{}/{millis}ms", self.count),
        }
    }
}

/// What `[servers.X.tools.Y]` says, with the server's defaults filled in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ToolSettings {
    /// Replaces the risk that the hints give.
    pub risk: Option<Risk>,
    /// Permits the tool to holders of one of the roles and forbids it to everybody else.
    pub allowed_roles: Option<Vec<Arc<str>>>,
    /// Listed without a key.
    pub public: bool,
    pub rate_limit: Option<Rate>,
    /// How long a result may be reused; only ever for read-only tools.
    pub cache: Option<Duration>,
    /// Argument name to what it holds.
    pub effects: BTreeMap<String, ArgumentKind>,
    pub tags: Vec<Arc<str>>,
    pub timeout: Option<Duration>,
    /// What is done about secrets and personal data.
    pub dlp: DlpModes,
}

/// One tool of one backend. Immutable: a change of the catalogue makes new ones. A prompt or a resource is governed as a
/// tool that only reads: see [`Tool::readable`].
#[derive(Debug)]
pub struct Tool {
    pub kind: Kind,
    /// The name of a prompt and the URI of a resource stand where a tool's name does.
    pub id: ToolId,
    /// `server:tool`, kept because every judgement compares it.
    pub label: Arc<str>,
    pub title: Option<String>,
    pub description: String,
    /// The definition as the backend sent it, byte for byte.
    pub definition: Json,
    pub input_schema: Arc<Value>,
    pub hints: Hints,
    pub risk: Risk,
    /// SHA-256 in hexadecimal over the canonical definition.
    pub digest: Arc<str>,
    pub settings: Arc<ToolSettings>,
}

impl Tool {
    /// A prompt or a resource. Nothing is known of it but its name: backends make them up as they are asked.
    #[must_use]
    pub fn readable(kind: Kind, id: ToolId) -> Self {
        Self {
            kind,
            label: id.to_string().into(),
            id,
            title: None,
            description: String::new(),
            definition: Json::of(&json!({})),
            input_schema: Arc::default(),
            hints: Hints { read_only: Some(true), destructive: Some(false), idempotent: Some(true), open_world: None },
            risk: Risk::Read,
            digest: Arc::default(),
            settings: Arc::default(),
        }
    }

    /// A type of entities, or a field of one.
    #[must_use]
    pub fn entity(entity_type: &str, field: Option<&str>) -> Self {
        let name = field.map_or_else(|| entity_type.to_owned(), |field| format!("{entity_type}.{field}"));
        Self { label: name.as_str().into(), ..Self::readable(Kind::Entity, ToolId::own(&name)) }
    }

    /// Its label as the log shows it: of a resource without what stands in its URI for credentials and searches.
    #[must_use]
    pub fn shown(&self) -> Cow<'_, str> {
        match self.kind {
            Kind::Resource => format!("{}:{}", self.id.server, uri::shown(&self.id.tool)).into(),
            Kind::Tool | Kind::Prompt | Kind::Entity => Cow::Borrowed(&self.label),
        }
    }

    /// Whether sending the same call twice does no more than sending it once.
    #[must_use]
    pub fn repeatable(&self) -> bool {
        self.risk == Risk::Read || self.hints.idempotent == Some(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_shows_no_credentials_of_a_uri() {
        let id = |name: &str| ToolId::new("b".parse().unwrap(), name);
        let read = Tool::readable(Kind::Resource, id("https://u:PASSWORD@h/p?token=SECRET"));
        assert_eq!(read.shown(), "b:https://[redacted 10 chars]@h/p?[redacted 12 chars]");
        let prompt = Tool::readable(Kind::Prompt, id("what?now"));
        assert_eq!(prompt.shown(), "b:what?now");
    }
}
