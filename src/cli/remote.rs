//! HTTP towards a gateway that runs, for the commands that are its clients.

use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use clap::Args;
use http::{HeaderValue, Request, Response, Uri, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::{ClientConfig, RootCertStore};
use url::Url;

use super::{Common, ask, environment};
use crate::domain::secret::Secret;

/// Where a gateway is that nobody names.
const USUAL: &str = "http://127.0.0.1:8080";
/// The path of the endpoint.
const ENDPOINT: &str = "/v1/mcp";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a gateway on this machine may take to say where it serves.
const LOOK: Duration = Duration::from_secs(2);

/// Which gateway, and with which key.
#[derive(Debug, Args)]
pub(super) struct Place {
    /// Where the gateway is [env: TOOLGATE_URL, INVOKE_BASE_URL] [default: the one that runs with this data folder, else
    /// http://127.0.0.1:8080]
    #[arg(long)]
    url: Option<String>,
    /// A key of the gateway [env: TOOLGATE_KEY, INVOKE_API_KEY]
    #[arg(long)]
    key: Option<String>,
}

impl Place {
    /// The gateway's URL as it was given, or where it is found.
    pub(super) async fn url(&self, common: &Common) -> String {
        let given = self.url.clone().or_else(|| environment("TOOLGATE_URL")).or_else(|| environment("INVOKE_BASE_URL"));
        match given {
            Some(url) => url,
            None => match tokio::time::timeout(LOOK, ask::local_url(&common.data_dir)).await {
                Ok(Some(url)) => url,
                _ => USUAL.to_owned(),
            },
        }
    }

    /// The key.
    ///
    /// # Errors
    /// Where there is none.
    pub(super) fn key(&self) -> anyhow::Result<Secret> {
        let key = self.key.clone().or_else(|| environment("TOOLGATE_KEY")).or_else(|| environment("INVOKE_API_KEY"));
        key.map(Secret::new).context("a key is needed: `--key`, or `TOOLGATE_KEY` in the environment")
    }
}

/// The endpoint of the gateway at `base`, or the one of a single server behind it.
///
/// # Errors
/// Where `base` is no URL of a gateway.
pub(super) fn endpoint(base: &str, server: Option<&str>) -> anyhow::Result<Url> {
    let mut url = Url::parse(base)
        .with_context(|| format!("`{base}` is no URL: give one such as `{USUAL}`"))
        .and_then(|url| {
            if matches!(url.scheme(), "http" | "https") && url.has_host() {
                Ok(url)
            } else {
                bail!("`{base}` is no http:// or https:// URL")
            }
        })?;
    if !url.username().is_empty() || url.password().is_some() {
        bail!("the URL holds credentials: a key belongs into `--key` or `TOOLGATE_KEY`");
    }
    url.set_fragment(None);
    let path = url.path().trim_end_matches('/').to_owned();
    match server {
        None if path.is_empty() => url.set_path(ENDPOINT),
        None => {}
        Some(server) if ["", "/mcp", ENDPOINT].contains(&path.as_str()) => {
            url.set_path(&format!("{ENDPOINT}/servers/"));
            if let Ok(mut segments) = url.path_segments_mut() {
                segments.pop_if_empty().push(server);
            }
        }
        Some(_) => bail!("`--server` goes with the URL of the gateway itself, such as `{USUAL}`"),
    }
    Ok(url)
}

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoResponse {
    /// Nothing was sent.
    #[error("{0}")]
    Unreachable(String),
    /// The connection ended after something may have been sent.
    #[error("{0}")]
    Broken(String),
}

/// A client of one gateway; clones share its connections.
#[derive(Debug, Clone)]
pub(super) struct Client {
    http: legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    key: HeaderValue,
}

impl Client {
    /// A client for `url`. The system's roots are loaded only where they are needed.
    ///
    /// # Errors
    /// Where there are no roots, or the key is no header value.
    pub(super) fn new(url: &Url, key: &Secret) -> anyhow::Result<Self> {
        let provider = rustls::crypto::ring::default_provider();
        let builder = if url.scheme() == "https" {
            HttpsConnectorBuilder::new()
                .with_provider_and_native_roots(provider)
                .context("the system's root certificates cannot be loaded")?
        } else {
            let config = ClientConfig::builder_with_provider(provider.into())
                .with_safe_default_protocol_versions()?
                .with_root_certificates(RootCertStore::empty())
                .with_no_client_auth();
            HttpsConnectorBuilder::new().with_tls_config(config)
        };
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let connector = builder.https_or_http().enable_all_versions().wrap_connector(connector);
        let http = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .build(connector);
        let mut key =
            HeaderValue::from_str(key.expose().trim()).context("the key holds a character that no key has")?;
        key.set_sensitive(true);
        Ok(Self { http, key })
    }

    /// Sends a request with the key and waits for the head of the response.
    ///
    /// # Errors
    /// [`NoResponse`], which says whether anything was sent.
    pub(super) async fn send(&self, mut request: Request<Full<Bytes>>) -> Result<Response<Incoming>, NoResponse> {
        request.headers_mut().insert("x-api-key", self.key.clone());
        request.headers_mut().insert(header::USER_AGENT, HeaderValue::from_static(AGENT));
        self.http.request(request).await.map_err(|error| {
            let text = causes(&error);
            if error.is_connect() { NoResponse::Unreachable(text) } else { NoResponse::Broken(text) }
        })
    }
}

const AGENT: &str = concat!("toolgate/", env!("CARGO_PKG_VERSION"));

/// The URL as hyper wants it.
///
/// # Errors
/// Where it is too long for one.
pub(super) fn uri(url: &Url) -> anyhow::Result<Uri> {
    url.as_str().parse().with_context(|| format!("`{url}` cannot be asked"))
}

/// An error with its causes, on one line.
pub(super) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_leads_to_an_endpoint() {
        let of = |base: &str, server: Option<&str>| endpoint(base, server).map(String::from);
        for (base, server, expected) in [
            ("http://127.0.0.1:8080", None, "http://127.0.0.1:8080/v1/mcp"),
            ("http://127.0.0.1:8080/", None, "http://127.0.0.1:8080/v1/mcp"),
            ("https://x.example/v1/mcp?surface=direct#a", None, "https://x.example/v1/mcp?surface=direct"),
            ("https://x.example/mcp", None, "https://x.example/mcp"),
            ("https://x.example/v1/mcp/", Some("git hub"), "https://x.example/v1/mcp/servers/git%20hub"),
            ("https://x.example?names=safe", Some("a/../b"), "https://x.example/v1/mcp/servers/a%2F..%2Fb?names=safe"),
        ] {
            assert_eq!(of(base, server).unwrap(), expected);
        }
        for (base, server) in [
            ("nonsense", None),
            ("ftp://x", None),
            ("http://u:p@x", None),
            ("http://x/other", Some("github")),
            ("unix:/x", None),
        ] {
            assert!(of(base, server).is_err(), "{base}");
        }
    }
}
