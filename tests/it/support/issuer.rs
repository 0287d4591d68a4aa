//! An authorization server that issues whatever tokens a test wants, with keys made at run time.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Value, json};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use toolgate::domain::clock::{Clock, SystemClock};

/// The server. It stops when dropped.
pub(crate) struct Issuer {
    pub(crate) url: String,
    inner: Arc<Inner>,
    _stop: DropGuard,
}

struct Inner {
    key: EcdsaKeyPair,
    url: String,
    down: Mutex<bool>,
    /// Paths that were asked for, in order.
    asked: Mutex<Vec<String>>,
}

impl Issuer {
    pub(crate) async fn start() -> Self {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let url = format!("http://{address}");
        let inner = Arc::new(Inner { key, url: url.clone(), down: Mutex::default(), asked: Mutex::default() });
        let router = Router::new().fallback(serve).with_state(Arc::clone(&inner));
        let stop = CancellationToken::new();
        let serving = async move { axum::serve(listener, router).await.unwrap() };
        TaskTracker::new().spawn(stop.clone().run_until_cancelled_owned(serving));
        Self { url, inner, _stop: stop.drop_guard() }
    }

    /// Claims of somebody, for the audience, good for five minutes.
    pub(crate) fn claims(&self, audience: &str) -> Value {
        json!({
            "iss": self.url, "aud": audience, "sub": "ada", "client_id": "some-client",
            "exp": now() + 300, "scope": "tools:read tools:invoke",
        })
    }

    /// A token with these claims.
    pub(crate) fn sign(&self, claims: &Value) -> String {
        let header = json!({"alg": "ES256", "typ": "at+jwt", "kid": "one"});
        let message = format!("{}.{}", base64(header.to_string().as_bytes()), base64(claims.to_string().as_bytes()));
        let signature = self.inner.key.sign(&SystemRandom::new(), message.as_bytes()).unwrap();
        format!("{message}.{}", base64(signature.as_ref()))
    }

    /// Answers nothing but errors from now on, or does so no more.
    pub(crate) fn down(&self, down: bool) {
        *self.inner.down.lock().unwrap() = down;
    }

    pub(crate) fn asked(&self) -> Vec<String> {
        self.inner.asked.lock().unwrap().clone()
    }
}

/// Seconds since 1970.
pub(crate) fn now() -> i64 {
    SystemClock.now().0 / 1000
}

fn base64(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

async fn serve(State(inner): State<Arc<Inner>>, request: Request<Body>) -> Response {
    let path = request.uri().path().to_owned();
    inner.asked.lock().unwrap().push(path.clone());
    if *inner.down.lock().unwrap() {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let url = &inner.url;
    match path.as_str() {
        "/.well-known/oauth-authorization-server" => axum::Json(json!({
            "issuer": url,
            "jwks_uri": format!("{url}/keys"),
            "authorization_endpoint": format!("{url}/authorize"),
            "token_endpoint": format!("{url}/token"),
        }))
        .into_response(),
        "/keys" => {
            let (x, y) = inner.key.public_key().as_ref()[1..].split_at(32);
            let key = json!({"kty": "EC", "crv": "P-256", "kid": "one", "use": "sig", "x": base64(x), "y": base64(y)});
            axum::Json(json!({"keys": [key]})).into_response()
        }
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}
