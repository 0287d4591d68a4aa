//! A gateway in this process, on a socket and in a folder of its own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use toolgate::authn::Credential;
use toolgate::domain::call::{CallRequest, Entrance, ToolRef};
use toolgate::domain::clock::{Clock, ManualClock, SystemClock};
use toolgate::domain::id::{EventId, RequestId};
use toolgate::domain::json::Json;
use toolgate::domain::outcome::Carried;
use toolgate::domain::principal::Surface;
use toolgate::domain::secret::Secret;
use toolgate::gateway::control::Command;
use toolgate::gateway::sources::{Place, Sources};
use toolgate::gateway::{Gateway, Leaving, NewKey, OpenError, Opening};
use toolgate::http::{self, Deadlines};
use toolgate::store::StoreError;

use super::{Client, FakeUpstream, PROGRAM, SOON, eventually, soon};

/// How long a gateway may take to stop; nothing that a test leaves behind may need more.
const GRACE: Duration = Duration::from_secs(10);

/// What a gateway is made of.
pub(crate) struct Setup {
    folder: Arc<TempDir>,
    config: String,
    around: Around,
}

/// What a gateway is opened with besides its files.
#[derive(Clone)]
struct Around {
    admin_key: Option<String>,
    deadlines: Deadlines,
    clock: Arc<dyn Clock>,
}

impl Setup {
    /// No backends, the shipped profiles and policies.
    pub(crate) fn new() -> Self {
        let folder = Arc::new(TempDir::new().unwrap());
        let around = Around { admin_key: None, deadlines: Deadlines::default(), clock: Arc::new(SystemClock) };
        Self { folder, config: String::new(), around }
    }

    /// Where its files are.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// In front of one backend under the name `up`.
    pub(crate) fn with(upstream: &FakeUpstream) -> Self {
        Self::new().config(&upstream.section("up", ""))
    }

    /// In front of the demo servers of the program.
    pub(crate) fn demo() -> Self {
        let server =
            |name: &str| format!("[servers.{name}]\ncommand = \"{PROGRAM}\"\nargs = [\"demo-server\", \"{name}\"]\n");
        Self::new().config(&server("github")).config(&server("database"))
    }

    /// Adds to `toolgate.toml`.
    pub(crate) fn config(mut self, toml: &str) -> Self {
        self.config.push_str(toml);
        self.config.push('\n');
        self
    }

    /// Adds to `profiles.toml`; the first one replaces the shipped file.
    pub(crate) fn profile(self, name: &str, body: &str) -> Self {
        let path = self.folder.path().join("profiles.toml");
        let mut text = std::fs::read_to_string(&path).unwrap_or_else(|_| shipped_profiles());
        text.push_str(&format!("\n[profiles.{name}]\n{body}\n"));
        std::fs::write(path, text).unwrap();
        self
    }

    /// Takes the place of the shipped `profiles.toml`.
    pub(crate) fn profiles(self, text: &str) -> Self {
        std::fs::write(self.folder.path().join("profiles.toml"), text).unwrap();
        self
    }

    /// Adds a policy file; the first one replaces the shipped folder.
    pub(crate) fn policy(self, name: &str, text: &str) -> Self {
        let folder = self.folder.path().join("policies");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(format!("{name}.cedar")), text).unwrap();
        self
    }

    /// Copies the shipped policies, so that more can be added.
    pub(crate) fn shipped_policies(self) -> Self {
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies");
        let mut setup = self;
        for entry in std::fs::read_dir(shipped).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            setup = setup.policy(&name, &std::fs::read_to_string(&path).unwrap());
        }
        setup
    }

    pub(crate) fn admin_key(mut self, key: &str) -> Self {
        self.around.admin_key = Some(key.to_owned());
        self
    }

    /// How long connections may take, where a test cannot wait that long.
    pub(crate) fn deadlines(mut self, deadlines: Deadlines) -> Self {
        self.around.deadlines = deadlines;
        self
    }

    /// Time that moves only when it is told to.
    pub(crate) fn clock(mut self, clock: &ManualClock) -> Self {
        self.around.clock = Arc::new(clock.clone());
        self
    }

    /// Starts it, and waits until every backend has been listed or has failed.
    pub(crate) async fn start(self) -> TestGateway {
        let gateway = self.start_unsettled().await;
        gateway.settled().await;
        gateway
    }

    /// Starts it without waiting for anybody.
    pub(crate) async fn start_unsettled(self) -> TestGateway {
        std::fs::write(self.folder.path().join("toolgate.toml"), &self.config).unwrap();
        TestGateway::open(self.folder, self.around).await
    }
}

fn shipped_profiles() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("profiles.toml")).unwrap()
}

/// A key of a test.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    pub(crate) id: String,
    pub(crate) text: String,
}

/// The running gateway. It has to be ended with [`TestGateway::finish`], which looks whether it is in good order.
pub(crate) struct TestGateway {
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) address: SocketAddr,
    folder: Arc<TempDir>,
    around: Around,
    finished: bool,
}

impl TestGateway {
    async fn open(folder: Arc<TempDir>, around: Around) -> Self {
        let path = |name: &str| folder.path().join(name);
        let place = |name: &str| Place { path: path(name), named: false };
        let opening = || Opening {
            sources: Sources {
                config: Place { path: path("toolgate.toml"), named: true },
                profiles: place("profiles.toml"),
                policies: place("policies"),
                program: PROGRAM.to_owned(),
                lookup: |name| (name == "TEST_TOKEN").then(|| "a-secret-of-the-gateway".to_owned()),
                environment: std::env::vars_os().collect(),
            },
            data: path("data"),
            admin_key: around.admin_key.clone().map(toolgate::domain::secret::Secret::new),
            clock: Arc::clone(&around.clock),
            serve: true,
            backends: true,
        };
        // The store of a gateway that has just stopped is freed when its last task is gone.
        let gateway = eventually("a gateway opens", async || match Gateway::open(opening()).await {
            Ok(opened) => Some(opened),
            Err(OpenError::Store(StoreError::HeldElsewhere(_))) => None,
            Err(error) => panic!("{error}"),
        })
        .await;
        let mut listening = http::Listening::on(([127, 0, 0, 1], 0).into()).await.unwrap();
        listening.deadlines = around.deadlines;
        let address = listening.address;
        gateway.tasks().spawn(http::serve(Arc::clone(&gateway), listening));
        Self { gateway, address, folder, around, finished: false }
    }

    /// Waits until every backend has been listed or has failed.
    pub(crate) async fn settled(&self) {
        eventually("the gateway settles", async || self.gateway.settled().then_some(())).await;
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Changes a file of the configuration as editors do, by renaming.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.file(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let other = path.with_extension("new");
        std::fs::write(&other, text).unwrap();
        std::fs::rename(other, path).unwrap();
    }

    pub(crate) async fn create(&self, key: NewKey) -> Key {
        let (text, record) = self.gateway.keys().create(key).await.unwrap();
        Key { id: record.id.to_string(), text: text.expose().to_owned() }
    }

    /// A key with this profile that holds the role `writer`.
    pub(crate) async fn writer(&self, profile: &str) -> Key {
        self.create(NewKey { roles: vec!["writer".into()], ..key(profile) }).await
    }

    /// A key with this profile and no roles.
    pub(crate) async fn key(&self, profile: &str) -> Key {
        self.create(key(profile)).await
    }

    pub(crate) fn client(&self, key: &Key) -> Client {
        Client::new(self.address, Some(&key.text))
    }

    /// A bare client with a fresh key of the profile `agent` and the role `writer`.
    pub(crate) async fn agent(&self) -> Client {
        self.client(&self.writer("agent").await)
    }

    pub(crate) fn stranger(&self) -> Client {
        Client::new(self.address, None)
    }

    /// A call as a door hands it over.
    pub(crate) async fn carry(&self, key: &Key, tool: ToolRef, arguments: Option<&Value>) -> Carried {
        let credential = Credential::Key(Secret::new(key.text.clone()));
        let principal = self.gateway.admit(&credential, Entrance::Mcp, None, &RequestId::fresh()).await.unwrap();
        let request = CallRequest {
            id: RequestId::fresh(),
            event: EventId::fresh(),
            entrance: Entrance::Mcp,
            tool,
            arguments: arguments.map(Json::of),
            jwt: None,
            trace: Vec::new(),
            surface: Surface::Search,
            source: None,
            timeout: None,
            metered: true,
        };
        let line = self.gateway.line(None, None);
        soon("a call ends", self.gateway.carry(principal, request, line, Leaving::Cancels)).await
    }

    pub(crate) async fn control(&self, command: Command) -> Value {
        self.gateway.control(command).await.unwrap()
    }

    /// Every record of the audit log but those of the gateway itself, oldest first.
    pub(crate) async fn records(&self) -> Vec<Value> {
        let command = Command::AuditExport { after: 0, limit: 5000, csv: false };
        let page = self.control(command).await;
        let lines = page["lines"].as_array().unwrap().iter();
        let records = lines.map(|line| serde_json::from_str::<Value>(line.as_str().unwrap()).unwrap());
        records.filter(|record| !record["key"].is_null() || record["decision"] != "allow").collect()
    }

    /// The record with this id, once it is there.
    pub(crate) async fn record(&self, id: &str) -> Value {
        eventually("the record is written", async || self.records().await.into_iter().find(|record| record["id"] == id))
            .await
    }

    /// Stops it and opens it anew in the same folder.
    pub(crate) async fn restart(mut self) -> Self {
        self.end().await;
        let (folder, around) = (Arc::clone(&self.folder), self.around.clone());
        drop(self);
        let again = Self::open(folder, around).await;
        again.settled().await;
        again
    }

    /// Looks whether everything is in good order, and stops it.
    pub(crate) async fn finish(mut self) {
        self.end().await;
    }

    async fn end(&mut self) {
        self.finished = true;
        eventually("every record is closed", async || (self.gateway.open_entries() == 0).then_some(())).await;
        self.verify().await;
        let stopping = async {
            self.gateway.stop(GRACE).await;
            assert!(self.gateway.tasks().is_empty(), "tasks were still running at the end of the grace period");
        };
        assert!(tokio::time::timeout(SOON, stopping).await.is_ok(), "the gateway does not stop");
    }

    /// The chain of the audit log holds.
    async fn verify(&self) {
        let step = Command::AuditVerify { seq: 0, head: None, limit: 50_000 };
        let answer = soon("the chain is verified", self.control(step)).await;
        assert_eq!(answer["step"]["fault"], Value::Null, "{answer}");
        assert_eq!(answer["step"]["done"], true, "{answer}");
    }
}

impl Drop for TestGateway {
    fn drop(&mut self) {
        assert!(self.finished || std::thread::panicking(), "end a TestGateway with `finish`");
    }
}

/// A key with this profile and nothing else.
fn key(profile: &str) -> NewKey {
    NewKey { name: "test".into(), profile: profile.into(), user: "tester".into(), ..NewKey::default() }
}
