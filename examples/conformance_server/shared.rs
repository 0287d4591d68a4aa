//! What all sessions of the fixture share: counts, tasks, announcements, the key that seals states.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use rmcp::task_manager::TaskManager;
use tokio::sync::broadcast;
use tokio_util::task::TaskTracker;

/// Which revisions of the protocol are spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Era {
    /// All of them.
    Both,
    /// Only those that begin with `initialize`.
    Legacy,
    /// Only 2026-07-28.
    Modern,
}

/// What sessions and streams are told.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Change {
    Tools,
    Prompts,
    WatchedResource,
}

/// What all sessions share.
pub(crate) struct Shared {
    pub(crate) era: Era,
    pub(crate) tasks: TaskManager,
    pub(crate) changes: broadcast::Sender<Change>,
    pub(crate) tracker: TaskTracker,
    /// Whether the lists have the tool and the prompt that come and go.
    pub(crate) more_tools: AtomicBool,
    pub(crate) more_prompts: AtomicBool,
    key: hmac::Key,
    counts: Mutex<BTreeMap<String, u64>>,
    lines: Option<File>,
}

impl Shared {
    /// The state of a server that was asked nothing yet.
    pub(crate) fn new(era: Era, lines: Option<&Path>) -> anyhow::Result<Self> {
        let random = ring::rand::SystemRandom::new();
        Ok(Self {
            era,
            tasks: TaskManager::new(),
            changes: broadcast::channel(64).0,
            tracker: TaskTracker::new(),
            more_tools: AtomicBool::new(false),
            more_prompts: AtomicBool::new(false),
            key: hmac::Key::generate(hmac::HMAC_SHA256, &random).map_err(|_| anyhow::anyhow!("no randomness"))?,
            counts: Mutex::default(),
            lines: lines.map(|path| File::options().create(true).append(true).open(path)).transpose()?,
        })
    }

    /// Counts a request: its method, and of what it asks.
    pub(crate) fn count(&self, method: &str, of: &str) {
        let what = format!("{method} {of}");
        let what = what.trim_end();
        if let Some(mut file) = self.lines.as_ref() {
            // One write a line, so that lines of several processes do not mix.
            if let Err(error) = file.write_all(format!("{what}\n").as_bytes()) {
                eprintln!("the count is lost: {error}");
            }
        }
        *self.locked().entry(what.to_owned()).or_default() += 1;
    }

    /// How often each request came.
    pub(crate) fn counts(&self) -> BTreeMap<String, u64> {
        self.locked().clone()
    }

    fn locked(&self) -> MutexGuard<'_, BTreeMap<String, u64>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a change, and tells everybody who listens.
    pub(crate) fn announce(&self, change: Change) {
        match change {
            Change::Tools => drop(self.more_tools.fetch_not(Ordering::SeqCst)),
            Change::Prompts => drop(self.more_prompts.fetch_not(Ordering::SeqCst)),
            Change::WatchedResource => {}
        }
        // Nobody may be listening.
        drop(self.changes.send(change));
    }

    /// A state that a client may carry and cannot change.
    pub(crate) fn seal(&self, state: &str) -> String {
        let tag = hmac::sign(&self.key, state.as_bytes());
        format!("{}.{}", URL_SAFE_NO_PAD.encode(state), URL_SAFE_NO_PAD.encode(tag))
    }

    /// The state that was sealed, unless somebody changed it.
    pub(crate) fn open(&self, sealed: &str) -> Option<String> {
        let (state, tag) = sealed.split_once('.')?;
        let (state, tag) = (URL_SAFE_NO_PAD.decode(state).ok()?, URL_SAFE_NO_PAD.decode(tag).ok()?);
        hmac::verify(&self.key, &state, &tag).ok()?;
        String::from_utf8(state).ok()
    }
}
