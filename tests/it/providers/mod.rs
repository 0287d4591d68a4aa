//! `[providers]`: accounts that users connect, with which servers are asked in their name.

mod accounts;
mod connect;
mod idp;
mod preflight;

use serde_json::{Value, json};
use toolgate::gateway::NewKey;

use self::idp::Idp;
use crate::support::{Client, FakeUpstream, Response, Say, Setup, TestGateway, tool};

const PROVIDERS: &str = "/v1/providers";

/// Who may connect accounts and call tools.
const MEMBER: &str = "scopes = [\"tools:read\", \"tools:invoke\", \"providers:connect\"]\nallowed_tools = [\"*\"]";

/// A server whose tool says whose account it was asked with, and the gateway in front of it.
struct Bench {
    idp: Idp,
    upstream: FakeUpstream,
    gateway: TestGateway,
}

impl Bench {
    async fn start() -> Self {
        let upstream = FakeUpstream::legacy().await;
        Self::with(upstream, "").await
    }

    async fn with(upstream: FakeUpstream, more: &str) -> Self {
        let idp = Idp::start().await;
        let setup = setup(&idp, &upstream, more);
        let gateway = setup.start().await;
        Self { idp, upstream, gateway }
    }

    /// A client of this user.
    async fn user(&self, user: &str) -> Client {
        self.client(user, "member").await
    }

    async fn client(&self, user: &str, profile: &str) -> Client {
        let key = NewKey { name: "k".into(), profile: profile.into(), user: user.into(), ..NewKey::default() };
        self.gateway.client(&self.gateway.create(key).await)
    }

    /// Where the user is sent to.
    async fn page(&self, client: &Client) -> String {
        data(&client.post("/v1/providers/example/connect").send().await)["url"].as_str().unwrap().to_owned()
    }

    /// Connects this account for the user; gives the page at the end.
    async fn connect(&self, client: &Client, account: &str) -> Response {
        let back = self.idp.agree(&self.page(client).await, account).await;
        self.land(&back).await
    }

    /// Comes back from the provider, and goes on where the page asks; gives the page at the end.
    async fn land(&self, back: &str) -> Response {
        let asked = self.gateway.stranger().get(back).send().await;
        if asked.text.contains("<form") { self.go_on(back).await } else { asked }
    }

    /// Sends what the form of the page sends.
    async fn go_on(&self, back: &str) -> Response {
        let (path, query) = back.split_once('?').unwrap();
        let draft = self.gateway.stranger().post(path).header("content-type", "application/x-www-form-urlencoded");
        draft.text(query).send().await
    }

    /// How the account of a user stands.
    async fn standing(&self, client: &Client) -> Value {
        data(&client.get(PROVIDERS).send().await)[0].clone()
    }
}

fn setup(idp: &Idp, upstream: &FakeUpstream, more: &str) -> Setup {
    upstream
        .set_tools(json!([tool("who", &json!({"readOnlyHint": true})), tool("kept", &json!({"readOnlyHint": true})),]));
    let account = idp.account_of();
    upstream.on_call(move |seen| match account(&seen.headers) {
        Some(account) => Say::text(&account),
        None => Say::Status(401),
    });
    let rows = format!("provider = \"example\"\n{more}\n[servers.up.tools.kept]\ncache = \"1h\"");
    Setup::new().config(&idp.section("example", "")).config(&upstream.section("up", &rows)).profile("member", MEMBER)
}

fn data(answer: &Response) -> Value {
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()["data"].clone()
}

async fn who(client: &Client) -> String {
    client.call("up:who", &json!({})).await.told()
}
