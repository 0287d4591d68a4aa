//! What is known of a server: what it said of itself, and what it listed.

use std::sync::Arc;

use super::definition::Indexed;
use super::probe::Hello;
use crate::domain::clock::Moment;
use crate::domain::json::Json;
use crate::wire::era::Era;

#[derive(Debug)]
pub(crate) struct Facts {
    pub since: Moment,
    pub era: Option<Era>,
    pub version: Option<String>,
    pub title: Option<String>,
    pub instructions: Option<String>,
    pub greeting: Option<Greeting>,
    pub last_error: Option<String>,
    pub warning: Option<String>,
    /// As the backend listed them.
    pub definitions: Vec<Json>,
    /// How long that list may be kept, in milliseconds, where the backend says so.
    pub ttl_ms: Option<u64>,
    pub tools: Vec<Arc<Indexed>>,
    pub warnings: Vec<String>,
    pub stale: bool,
    /// It has been listed since it was configured.
    pub listed: bool,
}

/// What a backend says of itself to whoever connects.
#[derive(Debug, Clone)]
pub struct Greeting {
    pub era: Era,
    /// The revision that it speaks with the gateway.
    pub version: String,
    /// `serverInfo`, an object.
    pub info: Json,
    /// An object.
    pub capabilities: Json,
    pub instructions: Option<String>,
}

/// How often each of a server's lists has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ListVersions {
    pub tools: u64,
    pub prompts: u64,
    pub resources: u64,
}

impl Facts {
    pub(crate) fn new(since: Moment) -> Self {
        Self {
            since,
            era: None,
            version: None,
            title: None,
            instructions: None,
            greeting: None,
            last_error: None,
            warning: None,
            definitions: Vec::new(),
            ttl_ms: None,
            tools: Vec::new(),
            warnings: Vec::new(),
            stale: true,
            listed: false,
        }
    }

    /// Takes what a backend said when it was greeted.
    pub(crate) fn greeted(&mut self, hello: &Hello) {
        self.era = Some(hello.era);
        self.version = Some(hello.version.clone());
        self.title.clone_from(&hello.title);
        self.instructions.clone_from(&hello.instructions);
        self.greeting = Some(Greeting {
            era: hello.era,
            version: hello.version.clone(),
            info: hello.info.clone(),
            capabilities: hello.capabilities.clone(),
            instructions: hello.instructions.clone(),
        });
        self.last_error = None;
    }
}
