//! Calls that a person has to approve: what is approved, by whom, and that it happens once.

mod beside;
mod binding;
mod deciding;
mod doors;
mod hooks;
mod rest;
mod surviving;

use serde_json::{Value, json};
use toolgate::authn::Credential;
use toolgate::domain::approval::Decision;
use toolgate::domain::call::Entrance;
use toolgate::domain::clock::ManualClock;
use toolgate::domain::id::{ApprovalId, RequestId};
use toolgate::domain::principal::Principal;
use toolgate::domain::secret::Secret;
use toolgate::gateway::control::{Actor, Command};
use toolgate::gateway::{ApprovalsCommand, NewKey, Undecided};

use crate::support::{Client, FakeUpstream, Key, Setup, TestGateway};

/// A gateway whose one backend can destroy things, and an agent of `alice` who may ask for that.
pub(super) struct Bench {
    pub(super) upstream: FakeUpstream,
    pub(super) gateway: TestGateway,
    pub(super) agent: Key,
    pub(super) client: Client,
}

pub(super) fn holder(profile: &str, user: &str, roles: &[&str]) -> NewKey {
    let roles = roles.iter().map(ToString::to_string).collect();
    NewKey { name: user.into(), profile: profile.into(), user: user.into(), roles, ..NewKey::default() }
}

impl Bench {
    pub(super) async fn start() -> Self {
        Self::with(|setup| setup).await
    }

    pub(super) async fn with(change: impl FnOnce(Setup) -> Setup) -> Self {
        let upstream = FakeUpstream::legacy().await;
        let setup = change(Setup::with(&upstream));
        Self::over(upstream, setup).await
    }

    pub(super) async fn at(clock: &ManualClock) -> Self {
        Self::with(|setup| setup.clock(clock)).await
    }

    pub(super) async fn over(upstream: FakeUpstream, setup: Setup) -> Self {
        let gateway = setup.start().await;
        let agent = gateway.create(holder("agent", "alice", &["writer"])).await;
        let client = gateway.client(&agent);
        Self { upstream, gateway, agent, client }
    }

    /// Asks for the call; gives the id of the approval that it waits for.
    pub(super) async fn ask(&self, arguments: &Value) -> String {
        asked(&self.client, arguments).await
    }

    /// Makes the call, which must go through.
    pub(super) async fn run(&self, arguments: &Value) -> Value {
        let answer = self.client.call("up:destroy", arguments).await;
        assert_eq!(answer.told(), "done", "{}", answer.text);
        answer.governance()
    }

    pub(super) async fn principal(&self, key: &Key) -> Principal {
        let credential = Credential::Key(Secret::new(key.text.clone()));
        self.gateway.gateway.admit(&credential, Entrance::Rest, None, &RequestId::fresh()).await.unwrap()
    }

    /// Decides as the holder of a key.
    pub(super) async fn decide(&self, key: &Key, id: &str, approve: bool) -> Result<Value, Undecided> {
        let decision = if approve { Decision::Approve } else { Decision::Deny };
        let by = self.principal(key).await;
        let actor = Actor::holder(&by, &RequestId::fresh());
        self.gateway.gateway.decide_approval(&actor, Some(&by), &ApprovalId::from(id), decision, None).await
    }

    /// Approves as the machine's owner.
    pub(super) async fn approve(&self, id: &str) {
        let decided =
            self.command(ApprovalsCommand::Decide { id: id.into(), decision: Decision::Approve, comment: None }).await;
        assert_eq!(decided["state"], "approved", "{decided}");
    }

    pub(super) async fn command(&self, command: ApprovalsCommand) -> Value {
        self.gateway.control(Command::Approvals(command)).await
    }

    pub(super) async fn show(&self, id: &str) -> Value {
        self.command(ApprovalsCommand::Show { id: id.into() }).await
    }

    pub(super) async fn state(&self, id: &str) -> String {
        self.show(id).await["state"].as_str().unwrap().to_owned()
    }

    pub(super) async fn finish(self) {
        self.gateway.finish().await;
    }
}

/// The id of the approval that a call waits for.
pub(super) async fn asked(client: &Client, arguments: &Value) -> String {
    let answer = client.call("up:destroy", arguments).await;
    assert_eq!(answer.denied(), "approval_required", "{}", answer.text);
    let approval = &answer.result()["structuredContent"]["error"]["approval"];
    assert_eq!(approval["state"], json!("pending"));
    approval["id"].as_str().unwrap().to_owned()
}
