//! A backend's process: started without a shell, in a process group of its own, ended as a whole with all that it started.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio_util::sync::CancellationToken;

use super::kin::{Kin, MARK};
use crate::backend::fault::{Fault, FaultKind};
use crate::domain::plain::plain;
use crate::domain::secret::Secret;

/// Variables that a child inherits from the gateway's own environment, besides those that its configuration sets.
/// Nothing else: the gateway's environment may hold other servers' credentials.
const INHERITED: [&str; 13] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "TERM",
    "LANG",
    "LANGUAGE",
    "TZ",
    "TMPDIR",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "NODE_EXTRA_CA_CERTS",
];
const INHERITED_PREFIXES: [&str; 2] = ["LC_", "XDG_"];
/// Lines of standard error that are kept, and how long one may be.
const TAIL_LINES: usize = 50;
const TAIL_LINE: usize = 500;
/// How long a child may take to end after its input has been closed, and again after SIGTERM.
const PATIENCE: Duration = Duration::from_secs(2);

/// The last lines that a child wrote to standard error.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tail(Arc<Mutex<VecDeque<String>>>);

impl Tail {
    /// The lines, oldest first, without control characters.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    fn push(&self, line: &[u8]) {
        let text = String::from_utf8_lossy(line.get(..TAIL_LINE).unwrap_or(line));
        let text: String = text.trim_end().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let text = plain(text);
        if text.is_empty() {
            return;
        }
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() >= TAIL_LINES {
            lines.pop_front();
        }
        lines.push_back(text);
    }

    /// Reads standard error to its end, however much there is of it.
    pub(crate) async fn drain(self, mut stderr: ChildStderr) {
        let mut line: Vec<u8> = Vec::new();
        let mut piece = [0_u8; 4096];
        while let Ok(count @ 1..) = stderr.read(&mut piece).await {
            for part in piece.get(..count).unwrap_or_default().split_inclusive(|b| *b == b'\n') {
                line.extend_from_slice(part.get(..TAIL_LINE).unwrap_or(part));
                line.truncate(TAIL_LINE);
                if part.ends_with(b"\n") {
                    self.push(&line);
                    line.clear();
                }
            }
        }
        self.push(&line);
    }
}

/// What to run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Program<'a> {
    pub command: &'a str,
    pub args: &'a [String],
    pub env: &'a BTreeMap<String, Secret>,
    pub cwd: Option<&'a Path>,
    /// The gateway's own environment, of which a little is passed on.
    pub inherited: &'a [(OsString, OsString)],
    /// Bytes of one message, where they are others than usual.
    pub limit: Option<usize>,
}

/// A process that runs, the group that it leads, and what has left that group.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    group: Option<Pid>,
    kin: Kin,
}

/// Both ends of a child's conversation.
#[derive(Debug)]
pub(crate) struct Pipes {
    pub stdin: ChildStdin,
    pub stdout: ChildStdout,
    pub stderr: ChildStderr,
}

impl Program<'_> {
    /// Starts the program.
    pub(crate) fn start(&self) -> Result<(Process, Pipes), Fault> {
        let mut command = Command::new(self.command);
        command.args(self.args).env_clear();
        for (name, value) in self.inherited {
            let passes = name.to_str().is_some_and(|name| {
                INHERITED.contains(&name) || INHERITED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
            });
            if passes {
                command.env(name, value);
            }
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value.expose())));
        let kin = Kin::new();
        command.env(MARK, kin.mark());
        if let Some(cwd) = self.cwd {
            command.current_dir(cwd);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.process_group(0).kill_on_drop(true);
        let mut child = command
            .spawn()
            .map_err(|error| Fault::new(FaultKind::Connect, format!("cannot start `{}`: {error}", self.command)))?;
        let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        match (child.stdin.take(), child.stdout.take(), child.stderr.take()) {
            (Some(stdin), Some(stdout), Some(stderr)) => {
                Ok((Process { child, group, kin }, Pipes { stdin, stdout, stderr }))
            }
            _ => Err(Fault::new(FaultKind::Connect, "the child has no pipes")),
        }
    }
}

impl Process {
    /// Waits for the end; what is left of its kin is killed then.
    pub(crate) async fn wait(&mut self) -> String {
        let status = self.child.wait().await;
        self.signal(Signal::KILL).await;
        describe(status)
    }

    /// Ends it with its kin: once its input has been closed it has a while to leave by itself, then SIGTERM, then SIGKILL.
    pub(crate) async fn end(&mut self, closing: &CancellationToken) -> String {
        // While it lives: afterwards nobody can tell who was its own.
        self.look().await;
        closing.cancel();
        if let Ok(status) = tokio::time::timeout(PATIENCE, self.child.wait()).await {
            self.signal(Signal::KILL).await;
            return describe(status);
        }
        self.signal(Signal::TERM).await;
        if let Ok(status) = tokio::time::timeout(PATIENCE, self.child.wait()).await {
            self.signal(Signal::KILL).await;
            return describe(status);
        }
        self.kill().await
    }

    /// Kills all of them at once.
    pub(crate) async fn kill(&mut self) -> String {
        self.signal(Signal::KILL).await;
        describe(self.child.wait().await)
    }

    /// Sees who is there.
    async fn look(&self) {
        let (kin, child) = (self.kin.clone(), self.living());
        drop(tokio::task::spawn_blocking(move || kin.find(child)).await);
    }

    async fn signal(&self, signal: Signal) {
        self.look().await;
        self.signal_group(signal);
        let (kin, child) = (self.kin.clone(), self.living());
        drop(tokio::task::spawn_blocking(move || kin.signal(child, signal)).await);
    }

    /// The child itself; none once it has been waited for, since its number may be another's then.
    fn living(&self) -> Option<Pid> {
        self.child.id().and(self.group)
    }

    fn signal_group(&self, signal: Signal) {
        if let Some(group) = self.group
            && let Err(error) = kill_process_group(group, signal)
        {
            tracing::trace!(%error, "no process group to signal");
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Only reached with a live child where its task was dropped: nothing may outlive the gateway.
        if matches!(self.child.try_wait(), Ok(None)) {
            self.kin.find(self.group);
            self.signal_group(Signal::KILL);
            self.kin.signal(self.group, Signal::KILL);
        }
    }
}

fn describe(status: std::io::Result<ExitStatus>) -> String {
    status.map_or_else(|error| format!("ended: {error}"), |status| format!("ended with {status}"))
}

/// Reads lines of at most `cap` bytes.
#[derive(Debug)]
pub(crate) struct Lines<R> {
    source: R,
    buffer: bytes::BytesMut,
    /// Bytes at the start of the buffer that hold no line feed.
    searched: usize,
    cap: usize,
}

/// Why no line came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoLine {
    End,
    TooLong,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    pub(crate) fn new(source: R, cap: usize) -> Self {
        Self { source, buffer: bytes::BytesMut::with_capacity(16 << 10), searched: 0, cap }
    }

    /// The next line without its ending, sharing memory with what was read.
    pub(crate) async fn next(&mut self) -> Result<bytes::Bytes, NoLine> {
        loop {
            let rest = self.buffer.get(self.searched..).unwrap_or_default();
            if let Some(at) = memchr::memchr(b'\n', rest) {
                let line = self.buffer.split_to(self.searched + at + 1).freeze();
                self.searched = 0;
                let end = line.len() - if line.ends_with(b"\r\n") { 2 } else { 1 };
                return Ok(line.slice(..end));
            }
            self.searched = self.buffer.len();
            if self.searched > self.cap {
                return Err(NoLine::TooLong);
            }
            self.buffer.reserve(16 << 10);
            match self.source.read_buf(&mut self.buffer).await {
                Ok(0) | Err(_) => return Err(NoLine::End),
                Ok(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_cut_and_capped() {
        let mut lines = Lines::new(&b"one\r\n\ntwo\nrest"[..], 100);
        assert_eq!(lines.next().await.unwrap(), "one");
        assert_eq!(lines.next().await.unwrap(), "");
        assert_eq!(lines.next().await.unwrap(), "two");
        assert_eq!(lines.next().await, Err(NoLine::End));
        let long = vec![b'x'; 100_000];
        assert_eq!(Lines::new(&long[..], 50_000).next().await, Err(NoLine::TooLong));
    }

    #[test]
    fn the_tail_is_bounded_and_plain() {
        let tail = Tail::default();
        for n in 0..200 {
            tail.push(format!("line {n} \u{1b}[31m").as_bytes());
        }
        tail.push(&vec![b'x'; 10_000]);
        let lines = tail.lines();
        assert_eq!(lines.len(), TAIL_LINES);
        assert!(lines.iter().all(|line| line.len() <= TAIL_LINE && !line.contains('\u{1b}')));
    }
}
