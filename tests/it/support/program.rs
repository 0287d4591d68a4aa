//! The real program, where the process itself matters.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio_util::task::TaskTracker;

use super::{Client, eventually, soon};

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_toolgate");

/// A command that has ended.
#[derive(Debug, Clone)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ended {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// The program with these arguments in `folder`, with nothing of this process's environment.
pub(crate) fn command(folder: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(arguments).current_dir(folder).env_clear().envs(environment.iter().copied()).stdin(Stdio::null());
    // A child that outlives its test is a fault, not a leftover.
    command.kill_on_drop(true);
    command
}

/// Runs the program in a folder of its own.
pub(crate) async fn toolgate(arguments: &[&str]) -> Ended {
    let folder = TempDir::new().unwrap();
    toolgate_in(folder.path(), arguments, &[]).await
}

/// Runs the program to its end in `folder`.
pub(crate) async fn toolgate_in(folder: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Ended {
    let output = soon(&format!("toolgate {}", arguments.join(" ")), command(folder, arguments, environment).output())
        .await
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ended { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

/// `toolgate serve`, on a port of its own.
pub(crate) struct Program {
    child: Child,
    folder: Arc<TempDir>,
    out: Lines,
    err: Lines,
    pub(crate) address: std::net::SocketAddr,
}

type Lines = Arc<Mutex<Vec<String>>>;

impl Program {
    /// Starts with the demo backends in a new folder.
    pub(crate) async fn start() -> Self {
        Self::start_in(Arc::new(TempDir::new().unwrap()), &[]).await
    }

    pub(crate) async fn start_in(folder: Arc<TempDir>, environment: &[(&str, &str)]) -> Self {
        Self::start_at(folder, ([127, 0, 0, 1], 0).into(), environment).await
    }

    /// Starts on this address.
    pub(crate) async fn start_at(
        folder: Arc<TempDir>,
        address: std::net::SocketAddr,
        environment: &[(&str, &str)],
    ) -> Self {
        let mut command = command(folder.path(), &["serve", "--listen", &address.to_string()], environment);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (out, err) = (follow(child.stdout.take().unwrap()), follow(child.stderr.take().unwrap()));
        let address = eventually("the program listens", async || {
            if let Some(status) = child.try_wait().unwrap() {
                panic!("the program ended with {status}: {:?}", err.lock().unwrap());
            }
            out.lock()
                .unwrap()
                .iter()
                .find_map(|line| line.strip_prefix("listening on ")?.split_once("://")?.1.parse().ok())
        })
        .await;
        Self { child, folder, out, err, address }
    }

    pub(crate) fn folder(&self) -> Arc<TempDir> {
        Arc::clone(&self.folder)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id().unwrap()
    }

    pub(crate) fn out(&self) -> Vec<String> {
        self.out.lock().unwrap().clone()
    }

    pub(crate) fn err(&self) -> Vec<String> {
        self.err.lock().unwrap().clone()
    }

    /// The keys of the first start, as `name key (shown this once): KEY`.
    pub(crate) fn keys(&self) -> Vec<(String, String)> {
        let read = |line: &String| {
            line.split_once(" key (shown this once): ").map(|(name, key)| (name.to_owned(), key.to_owned()))
        };
        self.err().iter().filter_map(read).collect()
    }

    /// A client with the first start's key of this name.
    pub(crate) fn client(&self, name: &str) -> Client {
        let key = self
            .keys()
            .into_iter()
            .find(|(other, _)| other == name)
            .unwrap_or_else(|| panic!("no key {name}: {:?}", self.err()));
        Client::new(self.address, Some(&key.1))
    }

    /// Waits until every backend has been listed.
    pub(crate) async fn ready(&self) {
        let client = Client::new(self.address, None);
        eventually("the program is ready", async || (client.get("/readyz").send().await.status == 200).then_some(()))
            .await;
    }

    /// The ids of the processes that the program has started and that still run.
    pub(crate) fn children(&self) -> Vec<u32> {
        children_of(self.id())
    }

    /// Another command in the same folder.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Ended {
        toolgate_in(self.folder.path(), arguments, &[]).await
    }

    /// Sends a signal: `TERM`, `INT`, `KILL`, `HUP`.
    pub(crate) fn signal(&self, name: &str) {
        let signal = match name {
            "TERM" => rustix::process::Signal::TERM,
            "INT" => rustix::process::Signal::INT,
            "HUP" => rustix::process::Signal::HUP,
            "KILL" => rustix::process::Signal::KILL,
            other => panic!("no signal {other}"),
        };
        let id = rustix::process::Pid::from_raw(i32::try_from(self.id()).unwrap()).unwrap();
        rustix::process::kill_process(id, signal).unwrap();
    }

    /// Waits for its end.
    pub(crate) async fn ended(mut self) -> Option<i32> {
        soon("the program ends", self.child.wait()).await.unwrap().code()
    }

    /// Stops it as an operator does.
    pub(crate) async fn stop(self) {
        self.signal("TERM");
        assert_eq!(self.ended().await, Some(0));
    }
}

/// The live processes whose parent is `parent`.
pub(crate) fn children_of(parent: u32) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    ids.filter(|id| stat(*id).is_some_and(|stat| stat.parent == parent && stat.state != "Z")).collect()
}

/// The live processes in the groups that these lead.
pub(crate) fn groups_alive(leaders: &[u32]) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    ids.filter(|id| stat(*id).is_some_and(|stat| leaders.contains(&stat.group) && stat.state != "Z")).collect()
}

/// Whether a process is there and no zombie.
pub(crate) fn is_alive(id: u32) -> bool {
    stat(id).is_some_and(|stat| stat.state != "Z")
}

struct Stat {
    state: String,
    parent: u32,
    group: u32,
}

fn stat(id: u32) -> Option<Stat> {
    let text = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let mut rest = text.rsplit_once(") ")?.1.split(' ');
    Some(Stat { state: rest.next()?.to_owned(), parent: rest.next()?.parse().ok()?, group: rest.next()?.parse().ok()? })
}

fn follow(stream: impl AsyncRead + Unpin + Send + 'static) -> Lines {
    let lines = Lines::default();
    let kept = Arc::clone(&lines);
    TaskTracker::new().spawn(async move {
        let mut reader = BufReader::new(stream).lines();
        while let Ok(Some(line)) = reader.next_line().await {
            kept.lock().unwrap().push(line);
        }
    });
    lines
}
