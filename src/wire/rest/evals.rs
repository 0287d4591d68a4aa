//! `/v1/evals`: what its doors read, and their shapes as `/openapi.json` describes them.

use bytes::Bytes;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::Body;
use super::schema::{Decision, Meta};
use super::shield_schema::PageMeta;
use crate::domain::json::Json;

/// What a request for a run may say.
const RUN_MEMBERS: [&str; 2] = ["environment", "author"];

/// The arguments of `eval.run.create`: the evaluation of the path, and the members of a body that may be absent.
///
/// # Errors
/// A sentence for the caller.
pub fn run(id: &str, body: &Bytes) -> Result<Option<Json>, String> {
    let mut arguments = suite(id);
    if !body.is_empty() && body.trim_ascii() != b"null" {
        let body = Body::read(body)?;
        body.only(&RUN_MEMBERS)?;
        for name in RUN_MEMBERS {
            if let (Some(text), Some(members)) = (body.text(name)?, arguments.as_object_mut()) {
                members.insert(name.into(), json!(text));
            }
        }
    }
    Ok(Some(Json::of(&arguments)))
}

/// The arguments of `eval.quality.latest`.
#[must_use]
pub fn quality(id: &str, baseline: Option<&str>) -> Value {
    let mut arguments = suite(id);
    if let (Some(baseline), Some(members)) = (baseline, arguments.as_object_mut()) {
        members.insert("baseline".into(), json!(baseline));
    }
    arguments
}

/// The arguments of a call about a suite. What is no number does not fit, and the tool says so.
#[must_use]
pub fn suite(id: &str) -> Value {
    json!({"evaluationId": id.parse::<u64>().map_or_else(|_| json!(id), |id| json!(id))})
}

/// Where backends stand.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "lowercase")]
pub enum EvalEnvironment {
    Dev,
    Staging,
    Prod,
}

/// Which earlier run to compare with.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "lowercase")]
pub enum EvalBaseline {
    Published,
    Previous,
    Production,
}

/// Where a suite comes from.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "lowercase")]
pub enum SuiteSource {
    File,
    Api,
}

/// The latest run of a suite, in short.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct LatestRun {
    pub run_id: String,
    /// 0 to 100.
    pub score: f64,
    #[schema(format = DateTime)]
    pub started_at: String,
}

/// A suite in a list.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct Evaluation {
    pub id: u64,
    pub name: String,
    #[schema(required = true)]
    pub description: Option<String>,
    pub environments: Vec<EvalEnvironment>,
    /// Points that the score may fall before that is a regression.
    pub tolerance: f64,
    /// How many there are.
    pub test_cases: u32,
    pub source: SuiteSource,
    /// The key that made it; null for one of a file.
    #[schema(required = true)]
    pub author: Option<String>,
    /// Null where it was never run.
    #[schema(required = true)]
    pub latest: Option<LatestRun>,
}

#[derive(Debug, ToSchema)]
pub struct EvaluationPage {
    pub data: Vec<Evaluation>,
    pub meta: PageMeta,
}

/// One call, and what should come of it.
#[derive(Debug, ToSchema)]
pub struct TestCase {
    pub id: u32,
    pub name: String,
    /// `server:tool`
    pub tool: String,
    #[schema(value_type = Object)]
    pub arguments: Value,
    pub weight: u32,
    #[schema(value_type = Object)]
    pub expect: Value,
}

/// A suite with its cases.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct EvaluationDetails {
    pub id: u64,
    pub name: String,
    #[schema(required = true)]
    pub description: Option<String>,
    pub environments: Vec<EvalEnvironment>,
    pub tolerance: f64,
    pub test_cases: u32,
    pub source: SuiteSource,
    #[schema(required = true)]
    pub author: Option<String>,
    #[schema(required = true)]
    pub latest: Option<LatestRun>,
    pub cases: Vec<TestCase>,
}

#[derive(Debug, ToSchema)]
pub struct EvaluationAnswer {
    pub data: EvaluationDetails,
    pub meta: Meta,
}

/// A suite that is gone.
#[derive(Debug, ToSchema)]
pub struct EvaluationRemoved {
    pub id: u64,
    pub deleted: bool,
}

#[derive(Debug, ToSchema)]
pub struct EvaluationRemovedAnswer {
    pub data: EvaluationRemoved,
    pub meta: Meta,
}

/// A suite that is wanted, as a file of `evals/` has it.
#[derive(Debug, ToSchema)]
#[schema(example = json!({
    "id": 7,
    "name": "Repositories",
    "cases": [{"name": "lists", "tool": "github:list_repos", "arguments": {"limit": 1}, "expect": {"max_latency": "5s"}}],
}))]
pub struct EvaluationRequest {
    /// What a JSON number holds exactly.
    #[schema(minimum = 1, maximum = 9_007_199_254_740_991_u64)]
    pub id: u64,
    pub name: String,
    #[schema(nullable = false)]
    pub description: Option<String>,
    #[schema(nullable = false)]
    pub tolerance: Option<f64>,
    /// Cases in flight at once.
    #[schema(nullable = false)]
    pub concurrency: Option<u32>,
    /// Of each environment: which server stands in for which.
    #[schema(value_type = Option<Object>, nullable = false)]
    pub environments: Option<Value>,
    #[schema(value_type = Vec<Object>)]
    pub cases: Vec<Value>,
}

/// Where to run a suite.
#[derive(Debug, ToSchema)]
pub struct RunRequest {
    #[schema(nullable = false)]
    pub environment: Option<EvalEnvironment>,
    /// Whose key made the suite, where another than the caller's did: its calls are the caller's.
    #[schema(nullable = false)]
    pub author: Option<String>,
}

/// A run that has ended.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct RunEnded {
    pub run_id: String,
    pub evaluation_id: u64,
    #[schema(required = true)]
    pub environment: Option<EvalEnvironment>,
    /// Always `completed`.
    pub status: String,
    /// 0 to 100.
    pub score: f64,
    pub passed: u32,
    pub failed: u32,
    pub total: u32,
}

#[derive(Debug, ToSchema)]
pub struct RunEndedAnswer {
    pub data: RunEnded,
    pub meta: Meta,
}

/// A run in a list.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct EvalRun {
    pub id: String,
    pub evaluation_id: u64,
    pub name: String,
    /// SHA-256 of the suite as it was.
    pub suite_digest: String,
    #[schema(required = true)]
    pub environment: Option<EvalEnvironment>,
    #[schema(format = DateTime)]
    pub started_at: String,
    pub duration_ms: u64,
    #[schema(required = true)]
    pub agent: Option<String>,
    #[schema(required = true)]
    pub user: Option<String>,
    pub policy_version: String,
    /// 0 to 100.
    pub score: f64,
    pub passed: u32,
    pub failed: u32,
    #[schema(required = true, format = DateTime)]
    pub published_at: Option<String>,
    /// Absent from lists.
    #[schema(nullable = false)]
    pub cases: Option<Vec<EvalCaseResult>>,
}

/// What came of a case.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct EvalCaseResult {
    pub name: String,
    pub tool: String,
    pub weight: u32,
    pub passed: bool,
    /// Why it has not; absent where it has, and in a run of another user without `audit:read`.
    #[schema(nullable = false)]
    pub reasons: Option<Vec<String>>,
    pub decision: Decision,
    pub policy: String,
    pub latency_ms: u64,
    #[schema(required = true)]
    pub tool_digest: Option<String>,
    /// Empty where there was no call.
    pub audit_event_id: String,
}

#[derive(Debug, ToSchema)]
pub struct EvalRunPage {
    pub data: Vec<EvalRun>,
    pub meta: PageMeta,
}

#[derive(Debug, ToSchema)]
pub struct EvalRunAnswer {
    pub data: EvalRun,
    pub meta: Meta,
}

/// The latest run beside the one that it is compared with.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "camelCase", example = json!({"score": 85, "baselineScore": 82, "regressionDetected": false, "evaluationId": 42}))]
pub struct Quality {
    /// 0 to 100.
    pub score: f64,
    /// Null without a baseline.
    #[schema(required = true)]
    pub baseline_score: Option<f64>,
    pub regression_detected: bool,
    pub evaluation_id: u64,
}

#[derive(Debug, ToSchema)]
pub struct QualityAnswer {
    pub data: Quality,
    pub meta: Meta,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_may_say_nothing() {
        let asked = |body: &'static str| run("7", &Bytes::from_static(body.as_bytes()));
        let nothing = asked("").unwrap();
        for body in ["null", " null\n", "{}"] {
            assert_eq!(asked(body).unwrap(), nothing, "{body}");
        }
        let somewhere = asked(r#"{"environment":"prod"}"#).unwrap().unwrap();
        assert!(somewhere.as_str().contains("prod"));
        assert!(asked("[]").is_err() && asked("nul").is_err());
    }
}
