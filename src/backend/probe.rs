//! Which era a backend speaks, and what it says of itself when it is greeted (versioning.mdx, "Era probe").

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::fault::{Fault, FaultKind};
use crate::domain::json::{Json, NoTree};
use crate::domain::plain::is_invisible;
use crate::domain::strict;
use crate::wire::era::{Era, MODERN};

/// How long `server/discover` may take before the backend is taken for a legacy one.
pub(crate) const DISCOVER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long `initialize` may take.
pub(crate) const INITIALIZE_TIMEOUT: Duration = Duration::from_secs(30);

/// Legacy revisions that the gateway can speak to a backend.
const LEGACY: [&str; 4] = ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];

/// What a backend said when it was greeted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hello {
    pub era: Era,
    pub version: String,
    pub title: Option<String>,
    pub instructions: Option<String>,
    /// What it declared that it can do: an object.
    pub capabilities: Json,
    /// What it calls itself: an object.
    pub info: Json,
    /// The changes that it tells of, as `subscriptions/listen` asks for them; `None` where it tells of none.
    pub listen: Option<String>,
    /// It has tools at all.
    pub tools: bool,
}

/// What follows from the answer to `server/discover`.
#[derive(Debug)]
pub(crate) enum Probed {
    Modern(Hello),
    /// Anything that is not a modern answer.
    TryLegacy,
    Failed(Fault),
}

#[derive(Deserialize, Default)]
struct Greeting {
    #[serde(rename = "supportedVersions", default)]
    supported: Vec<String>,
    #[serde(rename = "protocolVersion")]
    version: Option<String>,
    #[serde(default)]
    capabilities: Value,
    #[serde(rename = "serverInfo", default)]
    info: Value,
    instructions: Option<String>,
    #[serde(rename = "_meta", default)]
    meta: Value,
}

impl Greeting {
    fn hello(self, era: Era, version: String) -> Hello {
        let info = self.meta.get("io.modelcontextprotocol/serverInfo").unwrap_or(&self.info);
        let title = info.get("title").or_else(|| info.get("name")).and_then(Value::as_str);
        let object = |value: &Value| if value.is_object() { Json::of(value) } else { Json::from_parts("{}".into()) };
        Hello {
            era,
            version,
            title: title
                .map(|title| title.chars().filter(|c| !c.is_control() && !is_invisible(*c)).take(200).collect()),
            info: object(info),
            listen: listen(&self.capabilities),
            tools: self.capabilities.get("tools").is_some(),
            capabilities: object(&self.capabilities),
            instructions: self.instructions.map(|text| text.chars().take(16 << 10).collect()),
        }
    }
}

/// The params of a `subscriptions/listen` for every list that the backend says changes.
fn listen(capabilities: &Value) -> Option<String> {
    let told =
        |list: &&str| capabilities.get(*list).and_then(|list| list.get("listChanged")) == Some(&Value::Bool(true));
    let lists: Vec<String> = ["tools", "prompts", "resources"]
        .iter()
        .filter(|list| told(list))
        .map(|list| format!("\"{list}ListChanged\":true"))
        .collect();
    (!lists.is_empty()).then(|| format!("\"notifications\":{{{}}}", lists.join(",")))
}

/// Judges the answer to `server/discover`. Only revision 2026-07-28 itself counts: a server that supports others alone
/// is greeted with `initialize`.
pub(crate) fn judge(answer: Result<Json, Fault>) -> Probed {
    match answer {
        Ok(result) => match greeting(&result) {
            Ok(greeting) if greeting.supported.iter().any(|version| version == MODERN) => {
                Probed::Modern(greeting.hello(Era::Modern, MODERN.to_owned()))
            }
            _ => Probed::TryLegacy,
        },
        Err(fault) => match &fault.kind {
            // Codes that only a modern server gives: it stays modern, and the fault is real.
            FaultKind::Rpc(_) if matches!(fault.code(), Some(-32020 | -32021)) => Probed::Failed(fault),
            FaultKind::Connect | FaultKind::Rejected | FaultKind::Busy(_) | FaultKind::Stopped => Probed::Failed(fault),
            _ => Probed::TryLegacy,
        },
    }
}

/// Asks `server/discover`, and once more where the backend refuses the revision while it names it as supported.
pub(crate) async fn persuaded<F>(mut discover: impl FnMut() -> F) -> Result<Json, Fault>
where
    F: Future<Output = Result<Json, Fault>>,
{
    match discover().await {
        Err(fault) if wavers(&fault) => discover().await,
        answer => answer,
    }
}

fn wavers(fault: &Fault) -> bool {
    #[derive(Deserialize)]
    struct Refused {
        data: Supported,
    }
    #[derive(Deserialize)]
    struct Supported {
        supported: Vec<String>,
    }
    let FaultKind::Rpc(error) = &fault.kind else { return false };
    fault.code() == Some(-32022)
        && error.decode::<Refused>().is_ok_and(|error| error.data.supported.iter().any(|version| version == MODERN))
}

/// Reads the result of `initialize`.
pub(crate) fn initialized(result: &Json) -> Result<Hello, Fault> {
    let greeting = greeting(result).map_err(|error| Fault::garbled(format!("initialize: {error}")))?;
    match greeting.version.clone() {
        Some(version) if LEGACY.contains(&version.as_str()) => Ok(greeting.hello(Era::Legacy, version)),
        version => Err(Fault::garbled(format!("initialize: revision `{}` is not known", version.unwrap_or_default()))),
    }
}

/// True where an answer shows that the backend speaks another era than it did.
pub(crate) fn contradicts(fault: &Fault, era: Era) -> bool {
    match era {
        Era::Modern => matches!(fault.code(), Some(-32022)) || fault.kind == FaultKind::SessionLost,
        // A capability that is missing (-32021) is told in both eras by servers that serve both.
        Era::Legacy => matches!(fault.code(), Some(-32022 | -32020)),
    }
}

/// Reads a greeting. What it holds besides is kept as a tree, so the text has to be fit for one.
fn greeting(result: &Json) -> Result<Greeting, NoTree> {
    strict::check(result.as_str())?;
    Ok(result.decode()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Json {
        Json::from_parts(text.to_owned())
    }

    fn rpc(text: &str) -> Fault {
        Fault::new(FaultKind::Rpc(json(text)), "")
    }

    #[test]
    fn only_the_modern_revision_itself_makes_a_backend_modern() {
        let result = json(
            r#"{"supportedVersions":["2026-07-28"],"capabilities":{"tools":{"listChanged":true}},"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"x"}}}"#,
        );
        let Probed::Modern(hello) = judge(Ok(result)) else { panic!() };
        assert_eq!(
            (hello.title.as_deref(), hello.listen.as_deref(), hello.tools),
            (Some("x"), Some("\"notifications\":{\"toolsListChanged\":true}"), true)
        );
        for text in [r#"{"supportedVersions":["2027-01-01"]}"#, "{}", "[]", r#"{"supportedVersions":"2026-07-28"}"#] {
            assert!(matches!(judge(Ok(json(text))), Probed::TryLegacy), "{text}");
        }
    }

    #[test]
    fn no_single_code_decides() {
        for text in [r#"{"code":-32601}"#, r#"{"code":-32600}"#, r#"{"code":-32022}"#, r#"{"code":0}"#, "{}"] {
            assert!(matches!(judge(Err(rpc(text))), Probed::TryLegacy), "{text}");
        }
        assert!(matches!(judge(Err(rpc(r#"{"code":-32020}"#))), Probed::Failed(_)));
        for kind in [FaultKind::Timeout, FaultKind::Garbled, FaultKind::Status(500), FaultKind::SessionLost] {
            assert!(matches!(judge(Err(Fault::new(kind, ""))), Probed::TryLegacy));
        }
        for kind in [FaultKind::Connect, FaultKind::Rejected] {
            assert!(matches!(judge(Err(Fault::new(kind, ""))), Probed::Failed(_)));
        }
    }

    #[tokio::test]
    async fn a_revision_that_is_refused_and_supported_is_asked_for_twice() {
        let refusal = |supported: &str| rpc(&format!(r#"{{"code":-32022,"data":{{"supported":[{supported}]}}}}"#));
        for (first, asked) in [
            (Err(refusal(r#""2026-07-28""#)), 2),
            (Err(refusal(r#""2027-01-01""#)), 1),
            (Err(rpc(r#"{"code":-32022}"#)), 1),
            (Err(rpc(r#"{"code":-32601,"data":{"supported":["2026-07-28"]}}"#)), 1),
            (Ok(json("{}")), 1),
        ] {
            let mut answers = vec![Ok(json("{}")), first];
            let answer = persuaded(|| std::future::ready(answers.pop().unwrap())).await;
            assert_eq!(2 - answers.len(), asked);
            assert!(asked == 1 || answer.is_ok());
        }
    }

    #[test]
    fn what_shows_that_the_era_is_another() {
        let shows = |code: i64, era| contradicts(&rpc(&format!(r#"{{"code":{code}}}"#)), era);
        assert!(shows(-32022, Era::Legacy) && shows(-32020, Era::Legacy) && shows(-32022, Era::Modern));
        assert!(!shows(-32021, Era::Legacy) && !shows(-32021, Era::Modern) && !shows(-32602, Era::Legacy));
    }

    #[test]
    fn an_unknown_legacy_revision_is_refused() {
        assert!(initialized(&json(r#"{"protocolVersion":"2024-11-05","capabilities":{}}"#)).is_ok());
        assert!(initialized(&json(r#"{"protocolVersion":"1.0","capabilities":{}}"#)).is_err());
        assert!(initialized(&json("{}")).is_err());
    }
}
