//! Parts of a path and a query string, with faults told as every other.

use std::sync::Arc;

use axum::extract::{FromRequestParts, Path, Query};
use axum::response::Response;
use http::StatusCode;
use http::request::Parts;
use serde::de::DeserializeOwned;

use super::super::caller::Admitted;
use super::super::error::plain;
use super::over_limit;
use crate::gateway::Gateway;

/// The variable segments of a path.
#[derive(Debug)]
pub(in crate::http) struct Segments<T>(pub(in crate::http) T);

/// The members of a query string.
#[derive(Debug)]
pub(in crate::http) struct Params<T>(pub(in crate::http) T);

/// Characters of what is wrong that are told.
const MAX_WHY: usize = 200;

fn unreadable(what: &str) -> Response {
    plain(StatusCode::BAD_REQUEST, "invalid_request", &format!("the {what} cannot be read"))
}

fn unreadable_for(what: &str, why: &str) -> Response {
    plain(StatusCode::BAD_REQUEST, "invalid_request", &format!("the {what} cannot be read: {why}"))
}

impl<T: DeserializeOwned + Send> FromRequestParts<Arc<Gateway>> for Segments<T> {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<Gateway>) -> Result<Self, Response> {
        let path = Path::<T>::from_request_parts(parts, state).await;
        path.map(|Path(segments)| Self(segments)).map_err(|_| {
            // Whoever was admitted is charged, as for what comes as far as a handler.
            let admitted = parts.extensions.get::<Admitted>().and_then(|admitted| admitted.0.get());
            let charged = admitted.map_or(Ok(()), |principal| state.charge_request(principal));
            charged.map_or_else(|over| over_limit(&over), |()| unreadable("path"))
        })
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Params<T> {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        let query = Query::<T>::from_request_parts(parts, state).await;
        query.map(|Query(params)| Self(params)).map_err(|fault| {
            let text = fault.body_text();
            let why = text.split_once(": ").map_or("", |(_, why)| why).chars().filter(|c| !c.is_control());
            unreadable_for("query string", &why.take(MAX_WHY).collect::<String>())
        })
    }
}
