//! `/v1/evals`: suites of test cases, their runs, and how good the latest one is.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, StatusCode, Uri};
use serde_json::{Map, Value, json};

use super::super::super::caller::Caller;
use super::super::super::error::{envelope, plain};
use super::super::call;
use super::super::{Segments, enter};
use super::query::{Query, cut};
use super::{No, data, is_empty, missing, page, whole_body};
use crate::domain::json::Json;
use crate::domain::principal::Scope;
use crate::gateway::{Editor, Gateway, SuiteRefused};
use crate::wire::rest::evals as schema;
use crate::wire::rest::schema::ErrorEnvelope;

/// The lists that cursors belong to.
const SUITES: &str = "evals";
const RUNS: &str = "eval runs";

#[utoipa::path(
    get, path = "/v1/evals", operation_id = "evaluations", tag = "Evaluations", summary = "The suites of test cases",
    params(
        ("limit" = Option<u32>, Query, description = "Items on the page", minimum = 1, maximum = 200, nullable = false),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before", nullable = false),
    ),
    responses((status = 200, description = "A page of them, by id", body = schema::EvaluationPage))
)]
/// `GET /v1/evals`.
pub(super) async fn list(State(gateway): State<Arc<Gateway>>, caller: Caller, uri: Uri) -> Result<Response, No> {
    enter(&gateway, &caller, Scope::EvalsRead)?;
    let query = Query::read(&uri, &["limit", "cursor"])?;
    let (limit, after) = (query.limit()?, query.place(SUITES)?);
    let suites = gateway.list_evaluations(after.unwrap_or(0), limit + 1).await?;
    let (suites, next) = cut(suites, limit, SUITES, |(id, _)| id.to_string());
    let items: Vec<String> = suites.iter().map(|(_, view)| view.to_string()).collect();
    Ok(page(&items, limit, next.as_deref(), Map::new()))
}

#[utoipa::path(
    get, path = "/v1/evals/{id}", operation_id = "evaluation", tag = "Evaluations", summary = "One suite with its cases",
    params(("id" = u64, Path, description = "The suite's id", example = 42)),
    responses((status = 200, description = "The suite", body = schema::EvaluationAnswer))
)]
/// `GET /v1/evals/{id}`.
pub(super) async fn one(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    Segments(id): Segments<String>,
) -> Result<Response, No> {
    enter(&gateway, &caller, Scope::EvalsRead)?;
    let suite = match id.parse() {
        Ok(number) => gateway.evaluation(number).await?,
        Err(_) => None,
    };
    Ok(data(StatusCode::OK, &suite.ok_or_else(|| unknown(&id))?))
}

#[utoipa::path(
    post, path = "/v1/evals", operation_id = "create_evaluation", tag = "Evaluations", summary = "Make a suite",
    description = "The members are those of a file in `evals/`. A suite with a fault is refused with all of them, each with a JSON \
                   Pointer to its place. Whom the policies deny `eval.run.create` makes none.",
    request_body = schema::EvaluationRequest,
    responses(
        (status = 201, description = "The suite", body = schema::EvaluationAnswer),
        (status = 409, description = "The id or the name is taken, the id was that of a suite that is gone, or your key has made as \
                                      many as one may", body = ErrorEnvelope),
    )
)]
/// `POST /v1/evals`: 201 with the new suite.
pub(super) async fn create(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, No> {
    enter(&gateway, &caller, Scope::EvalsWrite)?;
    let bytes = whole_body(&gateway, &headers, body).await?;
    match gateway.create_suite(editor(&caller), bytes).await {
        Ok(suite) => Ok(data(StatusCode::CREATED, &suite)),
        Err(refused) => Err(no(refused)),
    }
}

#[utoipa::path(
    delete, path = "/v1/evals/{id}", operation_id = "remove_evaluation", tag = "Evaluations",
    summary = "Remove a suite that was made here, with its runs",
    description = "For the key that made it, and for keys with the scope `keys:admin`.",
    params(("id" = u64, Path, description = "The suite's id", example = 42)),
    responses(
        (status = 200, description = "It is gone", body = schema::EvaluationRemovedAnswer),
        (status = 409, description = "It stands in a file", body = ErrorEnvelope),
    )
)]
/// `DELETE /v1/evals/{id}`.
pub(super) async fn remove(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    Segments(id): Segments<String>,
) -> Result<Response, No> {
    enter(&gateway, &caller, Scope::EvalsWrite)?;
    let number = id.parse().map_err(|_| unknown(&id))?;
    gateway.remove_by(editor(&caller), number).await.map_err(no)?;
    Ok(data(StatusCode::OK, &json!({"id": number, "deleted": true})))
}

#[utoipa::path(
    post, path = "/v1/evals/{id}/runs", operation_id = "run_evaluation", tag = "Evaluations", summary = "Run a suite",
    description = "A call of `eval.run.create`: it answers when every case has ended. A suite that another key made runs where \
                   `author` names that key.",
    params(("id" = u64, Path, description = "The suite's id", example = 42)),
    request_body = Option<schema::RunRequest>,
    responses((status = 200, description = "How it ended", body = schema::RunEndedAnswer))
)]
/// `POST /v1/evals/{id}/runs`.
pub(super) async fn run(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    Segments(id): Segments<String>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let arguments = if is_empty(&headers) {
        Ok(Some(Json::of(&schema::suite(&id))))
    } else {
        call::read(&gateway, &headers, body, |bytes| schema::run(&id, bytes)).await
    };
    call::own_data(&gateway, caller, &headers, "eval.run.create", arguments).await
}

#[utoipa::path(
    get, path = "/v1/evals/{id}/runs", operation_id = "evaluation_runs", tag = "Evaluations", summary = "The runs of a suite",
    params(
        ("id" = u64, Path, description = "The suite's id", example = 42),
        ("limit" = Option<u32>, Query, description = "Items on the page", minimum = 1, maximum = 200, nullable = false),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before", nullable = false),
    ),
    responses((status = 200, description = "A page of them, the latest first", body = schema::EvalRunPage))
)]
/// `GET /v1/evals/{id}/runs`.
pub(super) async fn runs(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    Segments(id): Segments<String>,
    uri: Uri,
) -> Result<Response, No> {
    enter(&gateway, &caller, Scope::EvalsRead)?;
    let query = Query::read(&uri, &["limit", "cursor"])?;
    let (limit, before) = (query.limit()?, query.place(RUNS)?);
    let number = id.parse().map_err(|_| unknown(&id))?;
    if !gateway.has_evaluation(number).await? {
        return Err(unknown(&id));
    }
    let runs = gateway.runs_of(number, before, limit + 1).await?;
    let (runs, next) = cut(runs, limit, RUNS, |(seq, _)| seq.to_string());
    let items: Vec<String> = runs.iter().map(|(_, view)| view.to_string()).collect();
    Ok(page(&items, limit, next.as_deref(), Map::new()))
}

#[utoipa::path(
    get, path = "/v1/evals/{id}/runs/{run}", operation_id = "evaluation_run", tag = "Evaluations",
    summary = "One run with what came of each case",
    description = "`reasons` quote results: they are shown to the user who ran it, and to keys with the scope `audit:read`.",
    params(
        ("id" = u64, Path, description = "The suite's id", example = 42),
        ("run" = String, Path, description = "`run_…`"),
    ),
    responses((status = 200, description = "The run", body = schema::EvalRunAnswer))
)]
/// `GET /v1/evals/{id}/runs/{run}`.
pub(super) async fn one_run(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    Segments((id, run)): Segments<(String, String)>,
) -> Result<Response, No> {
    enter(&gateway, &caller, Scope::EvalsRead)?;
    Ok(data(StatusCode::OK, &found(&gateway, &caller, &id, &run).await?))
}

#[utoipa::path(
    post, path = "/v1/evals/{id}/runs/{run}/publish", operation_id = "publish_run", tag = "Evaluations",
    summary = "Make a run the one that later ones are compared with",
    params(
        ("id" = u64, Path, description = "The suite's id", example = 42),
        ("run" = String, Path, description = "`run_…`"),
    ),
    responses((status = 200, description = "The run", body = schema::EvalRunAnswer))
)]
/// `POST /v1/evals/{id}/runs/{run}/publish`.
pub(super) async fn publish(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    Segments((id, run)): Segments<(String, String)>,
) -> Result<Response, No> {
    enter(&gateway, &caller, Scope::EvalsWrite)?;
    let number = id.parse().map_err(|_| unknown(&id))?;
    found(&gateway, &caller, &id, &run).await?;
    gateway.publish_by(editor(&caller), number, &run).await.map_err(no)?;
    Ok(data(StatusCode::OK, &found(&gateway, &caller, &id, &run).await?))
}

#[utoipa::path(
    get, path = "/v1/evals/{id}/quality", operation_id = "evaluation_quality", tag = "Evaluations",
    summary = "How good the latest run is", description = "A call of `eval.quality.latest`.",
    params(
        ("id" = u64, Path, description = "The suite's id", example = 42),
        ("baseline" = Option<schema::EvalBaseline>, Query, description = "What to compare it with", nullable = false),
    ),
    responses((status = 200, description = "The score, beside the baseline's", body = schema::QualityAnswer))
)]
/// `GET /v1/evals/{id}/quality`.
pub(super) async fn quality(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    Segments(id): Segments<String>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, No> {
    let query = Query::of_call(&gateway, &caller, Scope::EvalsRead, &uri, &["baseline"])?;
    let arguments = Json::of(&schema::quality(&id, query.given("baseline")));
    Ok(call::own_data(&gateway, caller, &headers, "eval.quality.latest", Ok(Some(arguments))).await)
}

fn editor(caller: &Caller) -> Editor<'_> {
    Editor { principal: &caller.principal, source: caller.source, request: &caller.request }
}

async fn found(gateway: &Gateway, caller: &Caller, id: &str, run: &str) -> Result<Value, No> {
    let number = id.parse().map_err(|_| unknown(id))?;
    let run = gateway.run_of(&caller.principal, number, run).await?;
    run.ok_or_else(|| missing("there is no such run of this evaluation"))
}

fn unknown(id: &str) -> No {
    let id: String = id.chars().filter(|c| !c.is_control()).take(40).collect();
    missing(&format!("there is no evaluation `{id}`"))
}

fn no(refused: SuiteRefused) -> No {
    let message = refused.to_string();
    match refused {
        SuiteRefused::Unfit { faults, .. } => {
            envelope(StatusCode::BAD_REQUEST, "invalid_request", &message, &json!({"faults": faults})).into()
        }
        SuiteRefused::Conflict(_) => plain(StatusCode::CONFLICT, "conflict", &message).into(),
        SuiteRefused::Denied(_) => plain(StatusCode::FORBIDDEN, "policy_denied", &message).into(),
        SuiteRefused::Missing(_) | SuiteRefused::Hidden(_) => missing(&message),
        SuiteRefused::Failed(failed) => failed.into(),
    }
}
