//! Sends to the receiver: one request for spans, one for metrics.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::metrics::v1::{Metric, ResourceMetrics, ScopeMetrics};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;

use super::span::text;
use crate::config::telemetry::TelemetrySettings;

/// All of one request.
const DEADLINE: Duration = Duration::from_secs(10);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of an answer that are read.
const MAX_ANSWER: usize = 64 << 10;

/// Where everything goes.
#[derive(Debug)]
pub(super) struct Receiver {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    traces: Uri,
    metrics: Uri,
    headers: HeaderMap,
    resource: Resource,
    scope: InstrumentationScope,
    failing: AtomicBool,
}

/// What the receiver did with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Delivery {
    Taken,
    /// It will never take it.
    Refused,
    /// It may take it later.
    Away,
}

/// A request that has ended.
#[derive(Debug)]
pub(super) struct Sent {
    pub outcome: Delivery,
    /// The spans that were to be sent, where they were not.
    pub spans: Vec<Span>,
}

impl Receiver {
    pub(super) fn new(settings: &TelemetrySettings) -> Result<Self, String> {
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let connector = HttpsConnectorBuilder::new()
            .with_provider_and_native_roots(rustls::crypto::ring::default_provider())
            .map_err(|error| format!("the system's root certificates cannot be loaded: {error}"))?
            .https_or_http()
            .enable_all_versions()
            .wrap_connector(http);
        let client = Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build(connector);
        let path = |signal: &str| {
            let base = settings.endpoint.to_string();
            let url = format!("{}/v1/{signal}", base.trim_end_matches('/'));
            url.parse::<Uri>().map_err(|_| format!("`{url}` is no URL"))
        };
        let mut headers = HeaderMap::new();
        for (name, value) in &settings.headers {
            let mut value = HeaderValue::from_str(value.expose()).map_err(|_| format!("`{name}` cannot be sent"))?;
            value.set_sensitive(true);
            headers.insert(name.clone(), value);
        }
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        let version = env!("CARGO_PKG_VERSION");
        let attributes = vec![text("service.name", &settings.service), text("service.version", version)];
        Ok(Self {
            client,
            traces: path("traces")?,
            metrics: path("metrics")?,
            headers,
            resource: Resource { attributes, ..Resource::default() },
            scope: InstrumentationScope { name: "toolgate".into(), version: version.into(), ..Default::default() },
            failing: AtomicBool::new(false),
        })
    }

    /// Sends spans and metrics; gives the spans back that were not taken.
    pub(super) async fn send(&self, spans: Vec<Span>, metrics: Vec<Metric>) -> Sent {
        let (resource, scope) = (|| Some(self.resource.clone()), || Some(self.scope.clone()));
        let mut sent = Sent { outcome: Delivery::Taken, spans: Vec::new() };
        if !spans.is_empty() {
            let scope_spans = vec![ScopeSpans { scope: scope(), spans, ..ScopeSpans::default() }];
            let whole = ResourceSpans { resource: resource(), scope_spans, ..ResourceSpans::default() };
            let mut request = ExportTraceServiceRequest { resource_spans: vec![whole] };
            sent.outcome = self.post(&self.traces, request.encode_to_vec()).await;
            if sent.outcome != Delivery::Taken {
                let scopes = request.resource_spans.iter_mut().flat_map(|whole| whole.scope_spans.drain(..));
                sent.spans = scopes.flat_map(|scope| scope.spans).collect();
            }
        }
        if !metrics.is_empty() {
            let scope_metrics = vec![ScopeMetrics { scope: scope(), metrics, ..ScopeMetrics::default() }];
            let whole = ResourceMetrics { resource: resource(), scope_metrics, ..ResourceMetrics::default() };
            let request = ExportMetricsServiceRequest { resource_metrics: vec![whole] };
            let outcome = self.post(&self.metrics, request.encode_to_vec()).await;
            // Where the receiver takes spans alone, that is no reason to send them twice.
            if sent.spans.is_empty() && outcome == Delivery::Away {
                sent.outcome = outcome;
            }
        }
        sent
    }

    async fn post(&self, url: &Uri, body: Vec<u8>) -> Delivery {
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = url.clone();
        *request.headers_mut() = self.headers.clone();
        let asking = async {
            let response = self.client.request(request).await.map_err(|error| causes(&error))?;
            let status = response.status();
            // Read to its end, so that the connection can be used again.
            drop(Limited::new(response.into_body(), MAX_ANSWER).collect().await);
            Ok::<StatusCode, String>(status)
        };
        let answer = tokio::time::timeout(DEADLINE, asking).await.unwrap_or_else(|_| Err("no answer in time".into()));
        let (outcome, why) = match answer {
            Ok(status) if status.is_success() => (Delivery::Taken, String::new()),
            Ok(status) if is_passing(status) => (Delivery::Away, format!("HTTP {}", status.as_u16())),
            Ok(status) => (Delivery::Refused, format!("HTTP {}", status.as_u16())),
            Err(why) => (Delivery::Away, why),
        };
        let failing = outcome != Delivery::Taken;
        if self.failing.swap(failing, Ordering::Relaxed) != failing {
            if failing {
                tracing::warn!(%url, why, "spans and metrics are not taken: what waits too long is dropped");
            } else {
                tracing::info!(%url, "spans and metrics are taken again");
            }
        }
        outcome
    }
}

/// Whether the receiver may take later what it does not take now.
fn is_passing(status: StatusCode) -> bool {
    matches!(status.as_u16(), 429 | 502 | 503 | 504)
}

fn causes(error: &dyn std::error::Error) -> String {
    let (mut text, mut cause) = (error.to_string(), error.source());
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}
