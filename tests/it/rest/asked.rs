//! Requests to more doors, whose answers are held against what describes them.

use serde_json::{Value, json};

use super::openapi::Asked;

/// The routes of evaluations: one is made and run, and nothing is there besides.
pub(super) fn evaluations() -> Vec<Asked> {
    let get = |path: &'static str, rest: &'static str| ("GET", path, rest, Value::Null);
    let case = json!({"name": "reads", "tool": "up:read", "weight": 2, "expect": {"max_latency": "10s"}});
    let suite = json!({"id": 7, "name": "made", "tolerance": 1.5, "cases": [case, {"name": "gap", "tool": "up:gap"}]});
    let (all, one, runs) = ("/v1/evals", "/v1/evals/{id}", "/v1/evals/{id}/runs");
    vec![
        get(all, ""),
        ("POST", all, "", suite.clone()),
        ("POST", all, "", suite),
        ("POST", all, "", json!({"id": "x"})),
        get(one, "/7"),
        get(one, "/8"),
        get("/v1/evals/{id}/quality", "/7/quality"),
        ("POST", runs, "/7/runs", json!({"environment": "dev"})),
        ("POST", runs, "/8/runs", json!({})),
        ("POST", runs, "/7/runs", json!({"environment": "mars"})),
        get("/v1/evals/{id}/quality", "/7/quality?baseline=published"),
        get("/v1/evals/{id}/quality", "/7/quality?baseline=best"),
        get(runs, "/7/runs?limit=1"),
        get(runs, "/8/runs"),
        get("/v1/evals/{id}/runs/{run}", "/7/runs/run_none"),
        ("POST", "/v1/evals/{id}/runs/{run}/publish", "/7/runs/run_none/publish", Value::Null),
        get(all, "?cursor=none"),
    ]
}
