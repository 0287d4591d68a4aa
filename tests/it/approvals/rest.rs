//! `/v1/approvals`: the list, the decision, and the page that a person sees in a browser.

use serde_json::{Value, json};
use toolgate::gateway::NewKey;

use super::{Bench, holder};
use crate::support::{Client, Response, Setup};

const PAGE: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";

async fn keyed(bench: &Bench, profile: &str, user: &str) -> Client {
    bench.gateway.client(&bench.gateway.create(holder(profile, user, &[])).await)
}

#[tokio::test]
async fn the_list_has_pages_and_everybody_sees_their_own() {
    let bench = Bench::start().await;
    let mut ids = Vec::new();
    for n in 0..3 {
        ids.insert(0, bench.ask(&json!({"n": n, "what": "secret words"})).await);
    }
    let bob = keyed(&bench, "operator", "bob").await;
    let list = async |client: &Client, query: &str| client.get(&format!("/v1/approvals{query}")).send().await;
    let page = list(&bob, "?limit=2").await.json();
    let of = |page: &Value| -> Vec<String> {
        page["data"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!((of(&page), &page["meta"]["limit"]), (ids[..2].to_vec(), &json!(2)));
    let cursor = page["meta"]["next_cursor"].as_str().unwrap();
    let rest = list(&bob, &format!("?limit=2&cursor={cursor}")).await.json();
    assert_eq!((of(&rest), &rest["meta"]["next_cursor"]), (ids[2..].to_vec(), &json!(null)));
    assert!(!list(&bob, "").await.text.contains("secret words"), "a list holds no arguments");
    bench.approve(&ids[0]).await;
    assert_eq!(of(&list(&bob, "?state=approved").await.json()), ids[..1]);
    assert_eq!(list(&bob, "?state=odd").await.status, 400);
    // Who may not decide sees the requests of their own user alone.
    let (alice, carol) = (keyed(&bench, "mcp_readonly", "alice").await, keyed(&bench, "mcp_readonly", "carol").await);
    assert_eq!((of(&list(&alice, "").await.json()).len(), of(&list(&carol, "").await.json()).len()), (3, 0));
    let one = async |client: &Client| client.get(&format!("/v1/approvals/{}", ids[1])).send().await;
    // Another key of that user does not see what is sent, but for one that decides.
    let (other, own) = (one(&alice).await, keyed(&bench, "operator", "alice").await);
    assert_eq!(other.json()["data"]["preview"], json!({"n": 1, "what": "[redacted 12 chars]"}));
    assert!(other.json()["data"].get("arguments").is_none() && !other.text.contains("secret words"), "{}", other.text);
    assert_eq!(one(&own).await.json()["data"]["arguments"], json!({"n": 1, "what": "secret words"}));
    assert_eq!(one(&bob).await.json()["data"]["may_decide"], json!(true));
    assert_eq!((one(&carol).await.status, one(&bench.client).await.status), (404, 403));
    bench.finish().await;
}

#[tokio::test]
async fn decisions_over_rest() {
    let bench = Bench::start().await;
    let id = bench.ask(&json!({})).await;
    let (bob, alice) = (keyed(&bench, "operator", "bob").await, keyed(&bench, "operator", "alice").await);
    let decide = async |client: &Client, act: &str, body: &Value| {
        client.post(&format!("/v1/approvals/{id}/{act}")).json(body).send().await
    };
    let refused = |answer: &Response| (answer.status, answer.error()["code"].as_str().unwrap().to_owned());
    let expect = |status: u16, code: &str| (status, code.to_owned());
    assert_eq!(refused(&decide(&alice, "approve", &json!({})).await), expect(403, "policy_denied"));
    assert_eq!(refused(&decide(&bench.client, "approve", &json!({})).await), expect(403, "insufficient_scope"));
    assert_eq!(refused(&decide(&bob, "approve", &json!({"coment": "x"})).await), expect(400, "invalid_request"));
    assert_eq!(
        refused(&decide(&bob, "approve", &json!({"comment": "x".repeat(1001)})).await),
        expect(400, "invalid_request")
    );
    let stranger = bench.gateway.stranger();
    assert_eq!(decide(&stranger, "approve", &json!({})).await.status, 401);
    let missing = bob.post("/v1/approvals/apr_0/approve").json(&json!({})).send().await;
    assert_eq!(refused(&missing), expect(404, "not_found"));
    let done = decide(&bob, "approve", &json!({"comment": "as agreed"})).await;
    let data = &done.json()["data"];
    assert_eq!((done.status, &data["state"], &data["comment"]), (200, &json!("approved"), &json!("as agreed")));
    let late = decide(&bob, "deny", &json!({})).await;
    assert_eq!(refused(&late), expect(409, "conflict"));
    assert_eq!(late.error()["details"]["state"], "approved");
    bench.run(&json!({})).await;
    // No body is a decision too.
    let other = bench.ask(&json!({"n": 2})).await;
    let bare = bob.draft("POST", &format!("/v1/approvals/{other}/deny")).send().await;
    assert_eq!((bare.status, &bare.json()["data"]["state"]), (200, &json!("denied")));
    bench.finish().await;
}

/// The page as a browser asks for it, and its forms as a browser sends them.
struct Browser<'a> {
    client: Client,
    path: String,
    bench: &'a Bench,
}

impl Browser<'_> {
    async fn open(&self) -> Response {
        self.client.get(&self.path).header("accept", PAGE).send().await
    }

    async fn send(&self, act: &str, fields: &[(&str, &str)]) -> Response {
        let body: String = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let origin = format!("http://{}", self.bench.gateway.address);
        let draft = self.client.draft("POST", &format!("{}{act}", self.path));
        let draft = draft.header("content-type", "application/x-www-form-urlencoded").header("accept", PAGE);
        draft.header("origin", &origin).text(&body).send().await
    }
}

#[tokio::test]
async fn a_person_decides_in_a_browser() {
    let bench = Bench::start().await;
    let evil = "</pre><script>alert(1)</script>\u{202e}";
    let call = json!({"what": evil});
    let id = bench.ask(&call).await;
    let bob = bench.gateway.create(holder("operator", "bob", &[])).await;
    let browser = Browser { client: bench.gateway.stranger(), path: format!("/v1/approvals/{id}"), bench: &bench };
    // Without a key there is nothing to see.
    let door = browser.open().await;
    assert_eq!((door.status, door.header("content-type")), (401, Some("text/html; charset=utf-8")));
    let policy = door.header("content-security-policy").unwrap();
    assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{policy}");
    assert_eq!(door.header("cache-control"), Some("no-store"));
    assert!(door.text.contains("type=\"password\"") && !door.text.contains("up:destroy"), "{}", door.text);
    let wrong = browser.send("", &[("key", "inv_live_wrong")]).await;
    assert_eq!(wrong.status, 401);
    assert!(!wrong.text.contains("up:destroy") && !wrong.text.contains("inv_live_wrong"), "{}", wrong.text);
    assert_eq!(browser.send("", &[]).await.status, 401);
    let stranger = bench.gateway.create(holder("mcp_readonly", "carol", &[])).await;
    assert_eq!(browser.send("", &[("key", &stranger.text)]).await.status, 404);
    // The requester looks, and has nothing to decide.
    let own = bench.gateway.create(holder("operator", "alice", &[])).await;
    let looked = browser.send("", &[("key", &own.text)]).await;
    assert!(looked.status == 200 && !looked.text.contains("/approve\""), "{}", looked.text);
    let tried = browser.send("/approve", &[("key", &own.text)]).await;
    assert!(tried.status == 403 && tried.text.contains("another person has to"), "{}", tried.text);
    // Who may decide sees what it is about, as text.
    let shown = browser.send("", &[("key", &bob.text)]).await;
    assert!(
        shown.status == 200 && shown.text.contains("up:destroy") && shown.text.contains("/approve\""),
        "{}",
        shown.text
    );
    assert!(shown.text.contains("&lt;script&gt;") && shown.text.contains("\\u{202e}"), "{}", shown.text);
    assert!(!shown.text.contains("<script") && !shown.text.contains(&bob.text), "{}", shown.text);
    let done = browser.send("/approve", &[("key", &bob.text), ("comment", "<b>fine</b>")]).await;
    assert!(done.status == 200 && done.text.contains("You have approved this call."), "{}", done.text);
    assert!(done.text.contains("&lt;b&gt;fine&lt;/b&gt;") && !done.text.contains("/approve\""), "{}", done.text);
    let late = browser.send("/deny", &[("key", &bob.text)]).await;
    assert!(late.status == 409 && late.text.contains("is approved and cannot be decided"), "{}", late.text);
    assert_eq!(bench.client.call("up:destroy", &call).await.told(), "done");
    // A program that sends its key in a header gets JSON, or the page where it asks for that.
    let keyed = bench.gateway.client(&bob);
    assert_eq!(keyed.get(&browser.path).send().await.json()["data"]["state"], "used");
    let page = keyed.get(&browser.path).header("accept", PAGE).send().await;
    assert!(page.status == 200 && page.text.contains("up:destroy"), "{}", page.text);
    assert_eq!(keyed.get("/v1/approvals/apr_%2e%2e").header("accept", PAGE).send().await.status, 404);
    let large = browser.send("/deny", &[("key", &"x".repeat(20_000))]).await;
    assert_eq!(large.status, 413);
    bench.finish().await;
}

/// The page keeps to the plan of whose key stands in the form, and says how it stands.
#[tokio::test]
async fn the_page_counts_and_says_so() {
    let bench = Bench::with(|setup: Setup| setup.config("[plans.tight]\nrequests_per_minute = 1")).await;
    let id = bench.ask(&json!({})).await;
    let bob = NewKey { plan: Some("tight".into()), ..holder("operator", "bob", &[]) };
    let bob = bench.gateway.create(bob).await;
    let browser = Browser { client: bench.gateway.stranger(), path: format!("/v1/approvals/{id}"), bench: &bench };
    let shown = browser.send("", &[("key", &bob.text)]).await;
    assert_eq!((shown.status, shown.header("x-ratelimit-remaining")), (200, Some("0")), "{}", shown.text);
    let over = browser.send("/approve", &[("key", &bob.text)]).await;
    assert_eq!((over.status, over.header("x-ratelimit-limit")), (429, Some("1")), "{}", over.text);
    let wait: u64 = over.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=61).contains(&wait), "{wait}");
    assert_eq!(bench.state(&id).await, "pending");
    bench.finish().await;
}

/// Forms of the gateway's own page come back to it; those of other pages do not come in.
#[tokio::test]
async fn only_its_own_page_sends_forms() {
    let public =
        "[gateway]\npublic_url = \"https://gateway.example:8443/\"\nallowed_origins = [\"https://app.example\"]";
    let bench = Bench::with(|setup: Setup| setup.config(public)).await;
    let id = bench.ask(&json!({})).await;
    let url = bench.show(&id).await["url"].clone();
    assert_eq!(url, json!(format!("https://gateway.example:8443/v1/approvals/{id}")));
    let bob = bench.gateway.create(holder("operator", "bob", &[])).await;
    let send = async |origin: &str| {
        let draft = bench.gateway.stranger().draft("POST", &format!("/v1/approvals/{id}"));
        let draft = draft.header("content-type", "application/x-www-form-urlencoded").header("origin", origin);
        draft.text(&format!("key={}", bob.text)).send().await.status
    };
    assert_eq!(send("https://gateway.example:8443").await, 200);
    for other in ["https://gateway.example", "https://evil.example", "null", "http://gateway.example:8443"] {
        assert_eq!(send(other).await, 403, "{other}");
    }
    bench.finish().await;
}
