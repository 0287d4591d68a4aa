//! `/v1/audit`: the records of the audit log, page by page, one by one, or all of them in a stream.

use std::io::Write;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::Stream;
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use serde_json::Map;

use super::super::super::caller::Caller;
use super::super::super::error::plain;
use super::super::{Segments, enter};
use super::query::{Query, cursor};
use super::{No, data_text, missing, page};
use crate::domain::audit::{Decision, Ending};
use crate::domain::clock::Moment;
use crate::domain::crowd::Seat;
use crate::domain::id::KeyId;
use crate::domain::json::Json;
use crate::domain::principal::{Principal, Scope};
use crate::gateway::control::Actor;
use crate::gateway::{Export, Gateway, RecordFilter};
use crate::wire::rest::{schema as shared, shield_schema as schema};

/// The list that cursors belong to.
const LIST: &str = "audit events";
/// What narrows a list or an export.
const FILTERS: [&str; 7] = ["from", "to", "key", "tool", "server", "decision", "outcome"];

#[utoipa::path(
    get, path = "/v1/audit/events", operation_id = "audit_events", tag = "Audit", summary = "Audit records, newest first",
    description = "A page may be short and have a successor: go on until `next_cursor` is null.",
    params(
        ("limit" = Option<u32>, Query, description = "Items on the page", minimum = 1, maximum = 200, nullable = false),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before", nullable = false),
        ("from" = Option<String>, Query, description = "Not before this time or day", nullable = false, example = "2026-01-15T14:32:00Z"),
        ("to" = Option<String>, Query, description = "Before this time or day", nullable = false),
        ("key" = Option<String>, Query, description = "The id of a key", nullable = false),
        ("tool" = Option<String>, Query, description = "A tool's name, or its id", nullable = false),
        ("server" = Option<String>, Query, description = "A server's name", nullable = false),
        ("decision" = Option<shared::Decision>, Query, description = "How it was decided", nullable = false),
        ("outcome" = Option<schema::RecordOutcome>, Query, description = "How it ended", nullable = false),
    ),
    responses((status = 200, description = "A page of them", body = schema::ObjectPage))
)]
/// `GET /v1/audit/events`: newest first.
pub(super) async fn list(State(gateway): State<Arc<Gateway>>, caller: Caller, uri: Uri) -> Result<Response, No> {
    enter(&gateway, &caller, Scope::AuditRead)?;
    let query = Query::read(&uri, &[&FILTERS[..], &["limit", "cursor"]].concat())?;
    let (filter, limit) = (filter(&gateway, &query)?, query.limit()?);
    let (records, next) = gateway.records(&filter, query.place(LIST)?, limit).await?;
    let items: Vec<&str> = records.iter().map(Json::as_str).collect();
    Ok(page(&items, limit, next.map(|next| cursor(LIST, &next.to_string())).as_deref(), Map::new()))
}

#[utoipa::path(
    get, path = "/v1/audit/events/{id}", operation_id = "audit_event", tag = "Audit", summary = "One audit record",
    params(("id" = String, Path, description = "`evt_…`")),
    responses((status = 200, description = "The record", body = schema::ObjectAnswer))
)]
/// `GET /v1/audit/events/{id}`.
pub(super) async fn one(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    Segments(id): Segments<String>,
) -> Result<Response, No> {
    enter(&gateway, &caller, Scope::AuditRead)?;
    let record = gateway.record(&id).await?.ok_or_else(|| missing("there is no such audit record"))?;
    Ok(data_text(record.as_str()))
}

fn filter(gateway: &Gateway, query: &Query) -> Result<RecordFilter, No> {
    let moment =
        |name| query.parsed(name, "a time such as `2026-01-15T14:32:00Z` or a day such as `2026-01-15`", Moment::parse);
    let text = |name| query.text(name).map(str::to_owned);
    let (mut server, mut tool) = (text("server"), text("tool"));
    if let (None, Some(text)) = (&server, &tool) {
        let (of, name) = gateway.tool_named(text);
        (server, tool) = (of, Some(name));
    }
    Ok(RecordFilter {
        since: moment("from")?,
        until: moment("to")?,
        key: text("key"),
        server,
        tool,
        decision: query.word("decision", &Decision::ALL.map(Decision::as_str))?,
        outcome: query.word("outcome", &Ending::ALL.map(Ending::as_str))?,
        ..RecordFilter::default()
    })
}

#[utoipa::path(
    get, path = "/v1/audit/export", operation_id = "audit_export", tag = "Audit", summary = "The audit log as a stream, oldest first",
    description = "What was recorded when it began. Compressed where `Accept-Encoding` or `gzip` asks for it.",
    params(
        ("format" = Option<schema::ExportFormat>, Query, description = "`jsonl` unless set", nullable = false),
        ("gzip" = Option<bool>, Query, description = "Compressed, whatever the headers say", nullable = false),
        ("from" = Option<String>, Query, description = "Not before this time or day", nullable = false, example = "2026-01-15T14:32:00Z"),
        ("to" = Option<String>, Query, description = "Before this time or day", nullable = false),
        ("key" = Option<String>, Query, description = "The id of a key", nullable = false),
        ("tool" = Option<String>, Query, description = "A tool's name, or its id", nullable = false),
        ("server" = Option<String>, Query, description = "A server's name", nullable = false),
        ("decision" = Option<shared::Decision>, Query, description = "How it was decided", nullable = false),
        ("outcome" = Option<schema::RecordOutcome>, Query, description = "How it ended", nullable = false),
    ),
    responses((
        status = 200, description = "One record a line",
        content((String = "application/x-ndjson"), (String = "text/csv"))
    ))
)]
/// `GET /v1/audit/export`: oldest first, as JSON lines or CSV, compressed where that is asked for.
pub(super) async fn export(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, No> {
    enter(&gateway, &caller, Scope::AuditRead)?;
    let query = Query::read(&uri, &[&FILTERS[..], &["format", "gzip"]].concat())?;
    let csv = query.word("format", &["jsonl", "csv"])?.as_deref() == Some("csv");
    let gzip = query.flag("gzip")? || accepts_gzip(&headers);
    let filter = filter(&gateway, &query)?;
    let seat = gateway.stream_seat(&caller.principal.key).ok_or_else(|| {
        No::from(plain(StatusCode::TOO_MANY_REQUESTS, "rate_limited", "too many streams are open with this key"))
    })?;
    let actor = Actor::holder(&caller.principal, &caller.request);
    let export = gateway.export(&actor, filter, csv).await?;
    let encoder = gzip.then(|| GzEncoder::new(Vec::new(), Compression::default()));
    let exporting = Exporting { gateway, principal: caller.principal, export, encoder, done: false, _seat: seat };
    let mut response = Body::from_stream(exporting.chunks()).into_response();
    let (kind, file) = if csv {
        ("text/csv; charset=utf-8", "attachment; filename=\"audit.csv\"")
    } else {
        ("application/x-ndjson", "attachment; filename=\"audit.jsonl\"")
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CONTENT_DISPOSITION, HeaderValue::from_static(file));
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    if gzip {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    Ok(response)
}

/// Whether the client takes gzip, and does not weigh it with nothing.
fn accepts_gzip(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        let weight = weight.trim().strip_prefix("q=").and_then(|weight| weight.trim().parse::<f32>().ok());
        name.trim().eq_ignore_ascii_case("gzip") && weight.is_none_or(|weight| weight > 0.0)
    })
}

/// An export on its way out: a few records at a time are held, however many there are.
struct Exporting {
    gateway: Arc<Gateway>,
    principal: Principal,
    export: Export,
    encoder: Option<GzEncoder<Vec<u8>>>,
    done: bool,
    _seat: Seat<KeyId>,
}

impl Exporting {
    fn chunks(self) -> impl Stream<Item = Result<Bytes, std::io::Error>> {
        futures_util::stream::try_unfold(self, |mut exporting| async move {
            Ok(exporting.next().await?.map(|chunk| (chunk, exporting)))
        })
    }

    /// The next bytes. An error breaks the answer off, so that nobody takes a part for the whole.
    async fn next(&mut self) -> Result<Option<Bytes>, std::io::Error> {
        while !self.done {
            if self.gateway.stopping().is_cancelled() || !self.gateway.keys().is_live(&self.principal) {
                return Err(std::io::Error::other("the gateway stops, or the key has ended"));
            }
            let text = self.export.next(&self.gateway).await.map_err(std::io::Error::other)?;
            self.done = text.is_none();
            let chunk = match &mut self.encoder {
                None => Bytes::from(text.unwrap_or_default()),
                Some(encoder) => {
                    encoder.write_all(text.unwrap_or_default().as_bytes())?;
                    if self.done {
                        encoder.try_finish()?;
                    }
                    Bytes::from(std::mem::take(encoder.get_mut()))
                }
            };
            // An empty chunk would be the end.
            if !chunk.is_empty() {
                return Ok(Some(chunk));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_taken_where_it_is_named() {
        let accepts =
            |value: &str| accepts_gzip(&HeaderMap::from_iter([(header::ACCEPT_ENCODING, value.parse().unwrap())]));
        assert!(accepts("deflate, gzip;q=0.5") && accepts("GZIP"));
        assert!(!accepts("gzip;q=0") && !accepts("br") && !accepts("") && !accepts_gzip(&HeaderMap::new()));
    }
}
