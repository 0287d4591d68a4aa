//! An authorization server that issues whatever tokens a test wants, with keys made at run time.

use std::collections::HashMap;
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
    grants: Mutex<Grants>,
}

/// What was granted to clients.
struct Grants {
    /// Seconds that a token lives.
    life: u64,
    /// What the metadata says besides, or instead.
    metadata: Value,
    /// Whether refreshing is refused.
    closed: bool,
    /// The query of each `/authorize` by its code.
    codes: HashMap<String, HashMap<String, String>>,
    /// The forms that came to `/token`.
    forms: Vec<HashMap<String, String>>,
    count: usize,
    access: String,
    refresh: String,
}

impl Issuer {
    pub(crate) async fn start() -> Self {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let url = format!("http://{address}");
        let grants = Grants {
            life: 3600,
            metadata: json!({}),
            closed: false,
            codes: HashMap::new(),
            forms: Vec::new(),
            count: 0,
            access: "none yet".into(),
            refresh: "none yet".into(),
        };
        let grants = Mutex::new(grants);
        let inner = Arc::new(Inner { key, url: url.clone(), down: Mutex::default(), asked: Mutex::default(), grants });
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

    /// The access token that is good now.
    pub(crate) fn access_token(&self) -> String {
        self.inner.grants.lock().unwrap().access.clone()
    }

    /// Makes the access token worthless before its time.
    pub(crate) fn revoke(&self) {
        self.inner.grants.lock().unwrap().access = "none".into();
    }

    /// Refuses refresh tokens from now on.
    pub(crate) fn close(&self) {
        self.inner.grants.lock().unwrap().closed = true;
    }

    /// Tokens live so long from now on.
    pub(crate) fn life(&self, seconds: u64) {
        self.inner.grants.lock().unwrap().life = seconds;
    }

    /// Says this in its metadata from now on; null takes a member away.
    pub(crate) fn metadata(&self, member: &str, value: Value) {
        self.inner.grants.lock().unwrap().metadata[member] = value;
    }

    /// The requests for tokens.
    pub(crate) fn forms(&self) -> Vec<HashMap<String, String>> {
        self.inner.grants.lock().unwrap().forms.clone()
    }

    /// The gate of a resource that takes nothing but the token that is good now.
    pub(crate) fn guard(&self) -> impl Fn(&http::request::Parts) -> Option<Response> + Send + Sync + 'static {
        let inner = Arc::clone(&self.inner);
        move |parts| {
            let host = parts.headers[http::header::HOST].to_str().unwrap();
            if parts.uri.path().starts_with("/.well-known/oauth-protected-resource") {
                let resource = format!("http://{host}/mcp");
                return Some(
                    axum::Json(json!({"resource": resource, "authorization_servers": [inner.url]})).into_response(),
                );
            }
            if parts.uri.path() != "/mcp" {
                return Some(StatusCode::NOT_FOUND.into_response());
            }
            let sent = parts.headers.get(http::header::AUTHORIZATION).and_then(|value| value.to_str().ok());
            let good = format!("Bearer {}", inner.grants.lock().unwrap().access);
            (sent != Some(good.as_str())).then(|| {
                let metadata = format!("http://{host}/.well-known/oauth-protected-resource/mcp");
                let challenge = format!("Bearer resource_metadata=\"{metadata}\"");
                (StatusCode::UNAUTHORIZED, [(http::header::WWW_AUTHENTICATE, challenge)]).into_response()
            })
        }
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
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    inner.asked.lock().unwrap().push(path.clone());
    if *inner.down.lock().unwrap() {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    match path.as_str() {
        "/.well-known/oauth-authorization-server" => axum::Json(inner.metadata()).into_response(),
        "/keys" => {
            let (x, y) = inner.key.public_key().as_ref()[1..].split_at(32);
            let key = json!({"kty": "EC", "crv": "P-256", "kid": "one", "use": "sig", "x": base64(x), "y": base64(y)});
            axum::Json(json!({"keys": [key]})).into_response()
        }
        "/register" => {
            let mut client: Value = serde_json::from_slice(&body).unwrap();
            client["client_id"] = json!("registered");
            (StatusCode::CREATED, axum::Json(client)).into_response()
        }
        "/authorize" => inner.authorize(pairs(parts.uri.query().unwrap_or_default().as_bytes())),
        "/token" => inner.token(&pairs(&body)),
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

fn pairs(text: &[u8]) -> HashMap<String, String> {
    url::form_urlencoded::parse(text).into_owned().collect()
}

impl Inner {
    fn metadata(&self) -> Value {
        let url = &self.url;
        let mut metadata = json!({
            "issuer": url,
            "jwks_uri": format!("{url}/keys"),
            "authorization_endpoint": format!("{url}/authorize"),
            "token_endpoint": format!("{url}/token"),
            "registration_endpoint": format!("{url}/register"),
            "response_types_supported": ["code"],
            "code_challenge_methods_supported": ["S256"],
            "token_endpoint_auth_methods_supported": ["client_secret_post", "none"],
            "authorization_response_iss_parameter_supported": true,
        });
        for (name, value) in self.grants.lock().unwrap().metadata.as_object().unwrap() {
            if value.is_null() {
                metadata.as_object_mut().unwrap().remove(name);
            } else {
                metadata[name] = value.clone();
            }
        }
        metadata
    }

    /// The person agrees at once.
    fn authorize(&self, query: HashMap<String, String>) -> Response {
        let mut grants = self.grants.lock().unwrap();
        grants.count += 1;
        let code = format!("code-{}", grants.count);
        let back = url::Url::parse_with_params(
            &query["redirect_uri"],
            [("code", code.as_str()), ("state", &query["state"]), ("iss", &self.url)],
        );
        grants.codes.insert(code, query);
        (StatusCode::FOUND, [(http::header::LOCATION, back.unwrap().to_string())]).into_response()
    }

    fn token(&self, form: &HashMap<String, String>) -> Response {
        let mut grants = self.grants.lock().unwrap();
        grants.forms.push(form.clone());
        let refused = |error: &str| (StatusCode::BAD_REQUEST, axum::Json(json!({"error": error}))).into_response();
        let good = match form["grant_type"].as_str() {
            "authorization_code" => grants.codes.remove(&form["code"]).is_some_and(|asked| {
                let digest = ring::digest::digest(&ring::digest::SHA256, form["code_verifier"].as_bytes());
                asked["code_challenge_method"] == "S256"
                    && asked["code_challenge"] == base64(digest.as_ref())
                    && asked["redirect_uri"] == form["redirect_uri"]
                    && asked["resource"] == form["resource"]
            }),
            "refresh_token" => {
                !grants.closed && form["refresh_token"] == grants.refresh && form.contains_key("resource")
            }
            "client_credentials" => {
                form.get("client_id").map(String::as_str) == Some("gateway")
                    && form.get("client_secret").map(String::as_str) == Some("a-client-secret")
                    && form.contains_key("resource")
            }
            _ => false,
        };
        if !good {
            return refused("invalid_grant");
        }
        grants.count += 1;
        grants.access = format!("access-token-{}", grants.count);
        let mut answer = json!({"access_token": grants.access, "token_type": "Bearer", "expires_in": grants.life});
        if form["grant_type"] != "client_credentials" {
            grants.refresh = format!("refresh-token-{}", grants.count);
            answer["refresh_token"] = json!(grants.refresh);
        }
        axum::Json(answer).into_response()
    }
}
