//! `toolgate smoke`: the four requests that show a gateway works, over plain HTTP, changing nothing.

use bytes::Bytes;
use http::{Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use serde_json::{Value, json};

use super::remote::{self, Client, Place};
use super::{Common, Ended, print};

/// Bytes of an answer that are read.
const MAX_ANSWER: usize = 4 << 20;
const DEADLINE: std::time::Duration = std::time::Duration::from_secs(20);

/// One step's name and what came of it.
type Step = (&'static str, Result<String, String>);

pub(super) async fn run(common: &Common, place: &Place) -> anyhow::Result<Ended> {
    let key = place.key()?;
    let url = place.url(common).await;
    let url = url.trim_end_matches('/').trim_end_matches("/v1/mcp").to_owned();
    let endpoint = remote::endpoint(&url, None)?;
    let probe = Probe { client: Client::new(&endpoint, &key)?, endpoint: remote::uri(&endpoint)? };
    let steps = probe.steps().await;
    let well = steps.iter().all(|(_, result)| result.is_ok());
    if common.json {
        let steps: Vec<Value> = steps.iter().map(|(name, result)| json!({"step": name, "ok": result.is_ok(), "detail": result.as_ref().unwrap_or_else(|why| why)})).collect();
        print::json(&json!({"ok": well, "url": url, "steps": steps}));
    } else {
        for (name, result) in &steps {
            let (mark, detail) = match result {
                Ok(detail) => ("ok  ", detail),
                Err(why) => ("FAIL", why),
            };
            print::line(&print::clean(&format!("{mark} {name}: {detail}")));
        }
    }
    Ok(if well { Ended::Well } else { Ended::Wrong })
}

struct Probe {
    client: Client,
    endpoint: Uri,
}

impl Probe {
    async fn steps(&self) -> Vec<Step> {
        vec![
            ("GET /v1/mcp", self.card().await),
            ("initialize", self.initialize().await),
            ("tools/list", self.list().await),
            ("tools/call invoke.policy.simulate", self.simulate().await),
        ]
    }

    async fn card(&self) -> Result<String, String> {
        let card = self.send(Method::GET, None).await?;
        Ok(format!("{} {}", print::text(&card, "name"), print::text(&card, "version")))
    }

    async fn initialize(&self) -> Result<String, String> {
        let params = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "toolgate-smoke", "version": env!("CARGO_PKG_VERSION")}});
        let result = self.call("initialize", &params).await?;
        Ok(format!("protocol {}", print::text(&result, "protocolVersion")))
    }

    async fn list(&self) -> Result<String, String> {
        let result = self.call("tools/list", &json!({})).await?;
        let names: Vec<String> = print::list(&result, "tools").iter().map(|tool| print::text(tool, "name")).collect();
        if names.is_empty() { Err("the key sees no tools".into()) } else { Ok(names.join(", ")) }
    }

    async fn simulate(&self) -> Result<String, String> {
        let arguments = json!({"agent_id": "finance_agent", "action": "database.execute", "params": {"sql": "drop table invoices"}});
        let result =
            self.call("tools/call", &json!({"name": "invoke.policy.simulate", "arguments": arguments})).await?;
        let report = result.get("structuredContent").cloned().unwrap_or_default();
        match print::text(&report, "decision") {
            decision if decision.is_empty() => Err("the answer holds no decision".into()),
            decision => Ok(format!("{decision} by {}", print::text(&report, "policy"))),
        }
    }

    async fn call(&self, method: &str, params: &Value) -> Result<Value, String> {
        let message = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        let answer = self.send(Method::POST, Some(&message)).await?;
        match (answer.get("result"), answer.get("error")) {
            (Some(result), _) => Ok(result.clone()),
            (None, Some(error)) => Err(print::text(error, "message")),
            (None, None) => Err("the answer is no JSON-RPC".into()),
        }
    }

    async fn send(&self, method: Method, body: Option<&Value>) -> Result<Value, String> {
        let request = Request::builder()
            .method(method)
            .uri(&self.endpoint)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json")
            .body(Full::new(body.map(|body| Bytes::from(body.to_string())).unwrap_or_default()))
            .map_err(|error| error.to_string())?;
        let exchange = async {
            let response = self.client.send(request).await;
            let response = response.map_err(|error| format!("no answer from {}: {error}", self.endpoint))?;
            let status = response.status();
            let body =
                Limited::new(response.into_body(), MAX_ANSWER).collect().await.map_err(|error| error.to_string())?;
            Ok::<_, String>((status, body.to_bytes()))
        };
        let (status, body) =
            tokio::time::timeout(DEADLINE, exchange).await.map_err(|_| "no answer in time".to_owned())??;
        let value: Value = serde_json::from_slice(&body).map_err(|_| format!("{status} and no JSON"))?;
        if status == StatusCode::OK {
            return Ok(value);
        }
        let message = value.get("error").map(|error| print::text(error, "message")).unwrap_or_default();
        Err(format!("{status} {message}"))
    }
}
