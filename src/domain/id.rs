//! Names and identifiers: each is checked once, where it is parsed.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The server that the gateway's own tools belong to.
pub const OWN_SERVER: &str = "toolgate";

/// Between server and tool where a format cannot hold `:`.
pub const FLAT_SEPARATOR: &str = "__";

/// A text as flat names hold it: every other character as `_`.
#[must_use]
pub fn flat(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' || c == '-' { c } else { '_' }).collect()
}

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a server name: 1 to 64 of `A-Z a-z 0-9 _ . -`")]
pub struct BadName {
    text: String,
}

/// The name a backend server is registered under: `[A-Za-z0-9_.-]{1,64}`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct ServerName(Arc<str>);

impl ServerName {
    /// The server of the gateway's own tools, `toolgate`.
    #[must_use]
    pub fn own() -> Self {
        Self(OWN_SERVER.into())
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    #[must_use]
    pub fn is_own(&self) -> bool {
        &*self.0 == OWN_SERVER
    }

    /// Whether a flat name `server__tool` of the one could be read as the other's. Where no such prefix begins with
    /// another one, a flat name belongs to one server alone.
    #[must_use]
    pub fn collides_with(&self, other: &Self) -> bool {
        let prefix = |name: &Self| flat(name.as_str()) + FLAT_SEPARATOR;
        let (one, other) = (prefix(self), prefix(other));
        one.starts_with(&other) || other.starts_with(&one)
    }
}

impl From<&ServerName> for Arc<str> {
    fn from(name: &ServerName) -> Self {
        Self::clone(&name.0)
    }
}

impl FromStr for ServerName {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let fits = (1..=64).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
        if fits { Ok(Self(text.into())) } else { Err(BadName { text: text.chars().take(80).collect() }) }
    }
}

impl fmt::Display for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `server:tool`, the canonical name of a tool. The tool's own name is whatever its backend says.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ToolId {
    pub server: ServerName,
    pub tool: Arc<str>,
}

impl ToolId {
    #[must_use]
    pub fn new(server: ServerName, tool: &str) -> Self {
        Self { server, tool: tool.into() }
    }

    /// A tool of the gateway itself, `toolgate:NAME`.
    #[must_use]
    pub fn own(tool: &str) -> Self {
        Self::new(ServerName::own(), tool)
    }
}

impl fmt::Display for ToolId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.server, self.tool)
    }
}

impl Serialize for ToolId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// A fresh one: the prefix and 32 hexadecimal digits, ordered by the time they were made.
            #[must_use]
            pub fn fresh() -> Self {
                let mut text = [0; $prefix.len() + uuid::fmt::Simple::LENGTH];
                let (prefix, digits) = text.split_at_mut($prefix.len());
                prefix.copy_from_slice($prefix.as_bytes());
                uuid::Uuid::now_v7().simple().encode_lower(digits);
                Self(std::str::from_utf8(&text).unwrap_or_default().into())
            }

            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&$name> for Arc<str> {
            fn from(id: &$name) -> Self {
                Self::clone(&id.0)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.into())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_id!(
    /// Names a key in lists, records and revocations; says nothing about the secret.
    KeyId, "key_"
);
text_id!(
    /// One request, from the first byte to the last; the same in logs, answers and records.
    RequestId, "req_"
);
text_id!(
    /// One audit record.
    EventId, "evt_"
);
text_id!(
    /// One call that a person has to approve.
    ApprovalId, "apr_"
);
text_id!(
    /// One run of an evaluation.
    RunId, "run_"
);
impl RunId {
    /// The run that a call makes: it has the digits of the call's record.
    #[must_use]
    pub fn of_call(event: &EventId) -> Self {
        let digits = event.as_str().strip_prefix("evt_").unwrap_or(event.as_str());
        Self(format!("run_{digits}").into())
    }
}

text_id!(
    /// One trace that a client brings: digits alone, as W3C Trace Context has them.
    TraceId, ""
);
text_id!(
    /// The tokens that a key was exchanged for.
    GrantId, "grant_"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_that_could_be_mistaken_are_found() {
        let collide = |one: &str, other: &str| {
            let (one, other): (ServerName, ServerName) = (one.parse().unwrap(), other.parse().unwrap());
            assert_eq!(one.collides_with(&other), other.collides_with(&one));
            one.collides_with(&other)
        };
        for (one, other) in [("a.b", "a_b"), ("a", "a__b"), ("a", "a_"), ("x-y.z", "x-y_z")] {
            assert!(collide(one, other), "{one} {other}");
        }
        for (one, other) in [("a", "b"), ("a", "ab"), ("a", "a_b"), ("github", "github2")] {
            assert!(!collide(one, other), "{one} {other}");
        }
    }
}
