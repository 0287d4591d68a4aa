//! Results that ask for input (MCP 2026-07-28, basic/patterns/mrtr): passed to a client that knows them, asked one by one
//! of a client that does not.

use std::borrow::Cow;
use std::collections::BTreeMap;

use futures_util::future::join_all;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::asides;
use super::deadline::Deadline;
use super::fault::{Fault, FaultKind};
use super::peer::Peer;
use crate::domain::json::Json;
use crate::domain::strict;
use crate::wire::era::Era;

/// How often a backend may ask for input before it answers.
pub(crate) const MAX_ROUNDS: usize = 10;
/// Questions in one round.
pub const MAX_QUESTIONS: usize = 16;

#[derive(Deserialize)]
struct Required<'a> {
    #[serde(rename = "inputRequests", borrow, default)]
    requests: BTreeMap<Cow<'a, str>, Request<'a>>,
    #[serde(rename = "requestState", borrow, default)]
    state: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Request<'a> {
    #[serde(borrow)]
    method: Cow<'a, str>,
    #[serde(borrow, default)]
    params: Option<&'a RawValue>,
}

impl Request<'_> {
    fn params(&self, result: &Json) -> Option<Json> {
        self.params.map(|params| Json::slice_of(result.bytes(), params))
    }
}

fn takes(peer: &Peer, result: &Json, request: &Request<'_>) -> bool {
    peer.takes(&request.method, request.params(result).as_ref())
}

/// What follows from a result that asks for input.
pub(crate) enum Next {
    /// The client knows what to do with it.
    Pass,
    /// The client has answered: members of the params for another try.
    Again(String),
}

/// Deals with a result that asks for input.
///
/// # Errors
/// Where it asks for what the client has not declared, or the client does not answer.
pub(crate) async fn next(result: &Json, peer: &Peer, deadline: &Deadline) -> Result<Next, Fault> {
    strict::check(result.as_str()).map_err(|error| Fault::garbled(error.to_string()))?;
    let required: Required<'_> =
        serde_json::from_slice(result.bytes()).map_err(|error| Fault::garbled(error.to_string()))?;
    if required.requests.len() > MAX_QUESTIONS {
        return Err(Fault::garbled("it asks for too much input at once"));
    }
    if let Some(request) = required.requests.values().find(|request| !takes(peer, result, request)) {
        return Err(Fault::new(
            FaultKind::Unsupported,
            format!("it asks for `{}`, which the client did not declare", request.method),
        ));
    }
    if peer.era == Era::Modern {
        return Ok(Next::Pass);
    }
    let asked = required.requests.iter().map(|(key, request)| async move {
        let params = request.params(result);
        let answer = match peer.asides.put(&request.method, params) {
            Ok(mut reply) => asides::answer(&mut reply, Some(deadline)).await,
            Err(error) => Err(error),
        };
        Ok::<_, Fault>(format!("{}:{}", serde_json::Value::from(&**key), answered(&request.method, answer)?.as_str()))
    });
    let answers: Vec<String> = join_all(asked).await.into_iter().collect::<Result<_, _>>()?;
    let mut more = format!(",\"inputResponses\":{{{}}}", answers.join(","));
    if let Some(state) = required.state {
        more.push_str(",\"requestState\":");
        more.push_str(state.get());
    }
    Ok(Next::Again(more))
}

/// An input response has no place for an error: a person who was not asked has not consented.
fn answered(method: &str, answer: Result<Json, Json>) -> Result<Json, Fault> {
    match (answer, method) {
        (Ok(result), _) => Ok(result),
        (Err(_), "elicitation/create") => Ok(Json::from_parts(String::from(r#"{"action":"cancel"}"#))),
        (Err(_), _) => Err(Fault::new(FaultKind::Unsupported, format!("the client did not answer `{method}`"))),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use tokio::sync::mpsc;

    use super::*;
    use crate::backend::asides::Aside;

    fn peer(era: Era) -> (Peer, mpsc::Receiver<Aside>) {
        let (asides, heard) = asides::asides(8);
        let peer = Peer {
            era,
            session: Arc::from("s"),
            user: Arc::from("u"),
            lasting: true,
            capabilities: Json::from_parts(r#"{"elicitation":{},"roots":{}}"#.into()),
            log_level: None,
            rest: String::new(),
            meta: String::new(),
            asides,
        };
        (peer, heard)
    }

    fn required() -> Json {
        Json::from_parts(
            r#"{"resultType":"input_required","inputRequests":{"a":{"method":"elicitation/create","params":{"n":1.0}},"b":{"method":"roots/list"}},"requestState":"s\u0031"}"#.into(),
        )
    }

    #[tokio::test]
    async fn a_legacy_client_is_asked_and_its_answers_go_back() {
        let (peer, mut heard) = peer(Era::Legacy);
        let client = async {
            for _ in 0..2 {
                match heard.recv().await {
                    Some(Aside::Question(question)) if question.method == "roots/list" => {
                        question.answer(Ok(Json::from_parts(r#"{"roots":[]}"#.into())));
                    }
                    Some(Aside::Question(question)) => {
                        assert_eq!(question.params.as_ref().unwrap().as_str(), r#"{"n":1.0}"#);
                        question.answer(Err(Json::from_parts(r#"{"code":-1,"message":"no"}"#.into())));
                    }
                    other => panic!("{other:?}"),
                }
            }
        };
        let deadline = Deadline::start(Duration::from_secs(5), Duration::from_secs(5));
        let result = required();
        let (next, ()) = tokio::join!(next(&result, &peer, &deadline), client);
        let Ok(Next::Again(more)) = next else { panic!("again") };
        assert_eq!(more, r#","inputResponses":{"a":{"action":"cancel"},"b":{"roots":[]}},"requestState":"s\u0031""#);
    }

    #[tokio::test]
    async fn what_was_not_declared_is_never_asked() {
        let deadline = Deadline::start(Duration::from_secs(5), Duration::from_secs(5));
        for era in [Era::Legacy, Era::Modern] {
            let (peer, _heard) = peer(era);
            let asks = Json::from_parts(r#"{"inputRequests":{"a":{"method":"sampling/createMessage"}}}"#.into());
            let Err(fault) = next(&asks, &peer, &deadline).await else { panic!("refused") };
            assert_eq!(fault.kind, FaultKind::Unsupported);
        }
        let (peer, _heard) = peer(Era::Modern);
        assert!(matches!(next(&required(), &peer, &deadline).await, Ok(Next::Pass)));
    }
}
