//! A small OpenID provider: whoever comes to its page agrees at once, as the account that the test names.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::StatusCode;
use serde_json::{Value, json};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::support::Client;

pub(super) const CLIENT: &str = "the-gateway";
pub(super) const SECRET: &str = "s3cret of the:client";

pub(super) struct Idp {
    pub(super) url: String,
    inner: Arc<Mutex<Inner>>,
    _stop: DropGuard,
}

pub(super) struct Inner {
    url: String,
    /// Seconds that an access token lives; none is told where it is 0.
    pub(super) life: u64,
    pub(super) down: bool,
    /// Whether refresh tokens are given, and taken.
    pub(super) renews: bool,
    /// What the token endpoint says instead.
    pub(super) says: Option<(u16, Value)>,
    pub(super) metadata: Value,
    /// What was asked for on the page, and by whom, by its code.
    codes: HashMap<String, (String, HashMap<String, String>)>,
    /// Whose each access token is that is good now; whose each refresh token.
    access: HashMap<String, String>,
    refresh: HashMap<String, String>,
    pub(super) forms: Vec<HashMap<String, String>>,
    pub(super) revoked: Vec<String>,
    count: usize,
}

impl Idp {
    pub(super) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let inner = Arc::new(Mutex::new(Inner {
            url: url.clone(),
            life: 3600,
            down: false,
            renews: true,
            says: None,
            metadata: json!({}),
            codes: HashMap::new(),
            access: HashMap::new(),
            refresh: HashMap::new(),
            forms: Vec::new(),
            revoked: Vec::new(),
            count: 0,
        }));
        let router = Router::new().fallback(serve).with_state(Arc::clone(&inner));
        let stop = CancellationToken::new();
        let serving = async move { axum::serve(listener, router).await.unwrap() };
        TaskTracker::new().spawn(stop.clone().run_until_cancelled_owned(serving));
        Self { url, inner, _stop: stop.drop_guard() }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    /// `[providers.NAME]` with this provider's issuer.
    pub(super) fn section(&self, name: &str, rest: &str) -> String {
        format!(
            "[providers.{name}]\ntitle = \"Example\"\nissuer = \"{}\"\nclient_id = \"{CLIENT}\"\nclient_secret = \
             \"{SECRET}\"\nscopes = [\"openid\", \"repo\"]\n{rest}\n",
            self.url
        )
    }

    /// Opens the page as the owner of this account, who agrees; gives the path to which the browser is sent back.
    pub(super) async fn agree(&self, page: &str, account: &str) -> String {
        let address = self.url.strip_prefix("http://").unwrap().parse().unwrap();
        let page = format!("{}&account={account}", page.strip_prefix(&self.url).unwrap());
        let answer = Client::new(address, None).get(&page).send().await;
        let back = answer.header("location").unwrap_or_else(|| panic!("{} {}", answer.status, answer.text)).to_owned();
        let back = url::Url::parse(&back).unwrap();
        format!("{}?{}", back.path(), back.query().unwrap())
    }

    /// Whose access token a request carries that is good now.
    pub(super) fn account_of(&self) -> impl Fn(&http::HeaderMap) -> Option<String> + Send + Sync + Clone + 'static {
        let inner = Arc::clone(&self.inner);
        move |headers| {
            let token = headers.get(http::header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")?;
            inner.lock().unwrap().access.get(token).cloned()
        }
    }

    /// Makes every access token worthless before its time.
    pub(super) fn revoke_access(&self) {
        self.state().access.clear();
    }

    /// Requests with this grant.
    pub(super) fn grants(&self, kind: &str) -> usize {
        self.state().forms.iter().filter(|form| form["grant_type"] == kind).count()
    }
}

fn pairs(text: &[u8]) -> HashMap<String, String> {
    url::form_urlencoded::parse(text).into_owned().collect()
}

async fn serve(State(inner): State<Arc<Mutex<Inner>>>, request: Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let mut inner = inner.lock().unwrap();
    if inner.down {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    match parts.uri.path() {
        "/.well-known/openid-configuration" => axum::Json(inner.metadata()).into_response(),
        "/authorize" => inner.authorize(&pairs(parts.uri.query().unwrap_or_default().as_bytes())),
        path @ ("/token" | "/revoke") => {
            let mut form = pairs(&body);
            if !Inner::knows(&parts.headers, &mut form) {
                return (StatusCode::UNAUTHORIZED, axum::Json(json!({"error": "invalid_client"}))).into_response();
            }
            if path == "/token" { inner.token(&form) } else { inner.revoke(&form) }
        }
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

impl Inner {
    fn metadata(&self) -> Value {
        let url = &self.url;
        let mut metadata = json!({
            "issuer": url,
            "authorization_endpoint": format!("{url}/authorize"),
            "token_endpoint": format!("{url}/token"),
            "revocation_endpoint": format!("{url}/revoke"),
            "code_challenge_methods_supported": ["S256"],
            "authorization_response_iss_parameter_supported": true,
        });
        metadata.as_object_mut().unwrap().extend(self.metadata.as_object().unwrap().clone());
        metadata
    }

    /// Whether the client has said its secret, in the header or in the body.
    fn knows(headers: &http::HeaderMap, form: &mut HashMap<String, String>) -> bool {
        let basic = headers.get(http::header::AUTHORIZATION).map(|value| {
            let encoded = value.to_str().unwrap().strip_prefix("Basic ").unwrap();
            let pair = String::from_utf8(STANDARD.decode(encoded).unwrap()).unwrap();
            let (id, secret) = pair.split_once(':').unwrap();
            let decode = |text: &str| url::form_urlencoded::parse(text.as_bytes()).next().unwrap().0.into_owned();
            (decode(id), decode(secret))
        });
        let posted = || Some((form.get("client_id")?.clone(), form.get("client_secret")?.clone()));
        let known = basic.clone().or_else(posted) == Some((CLIENT.into(), SECRET.into()));
        form.insert("by".into(), if basic.is_some() { "header" } else { "body" }.into());
        known
    }

    fn authorize(&mut self, query: &HashMap<String, String>) -> Response {
        assert_eq!((query["response_type"].as_str(), query["client_id"].as_str()), ("code", CLIENT));
        assert_eq!(query["code_challenge_method"], "S256");
        let back = |members: &[(&str, &str)]| {
            let url = url::Url::parse_with_params(&query["redirect_uri"], members).unwrap();
            (StatusCode::FOUND, [(http::header::LOCATION, url.to_string())]).into_response()
        };
        let (account, state, iss) = (query["account"].clone(), query["state"].as_str(), self.url.clone());
        if account == "nobody" {
            let why = "<b>not today</b>";
            return back(&[("error", "access_denied"), ("error_description", why), ("state", state), ("iss", &iss)]);
        }
        self.count += 1;
        let code = format!("code-{}", self.count);
        let answer = back(&[("code", &code), ("state", state), ("iss", &iss)]);
        self.codes.insert(code, (account, query.clone()));
        answer
    }

    fn token(&mut self, form: &HashMap<String, String>) -> Response {
        self.forms.push(form.clone());
        if let Some((status, body)) = &self.says {
            return (StatusCode::from_u16(*status).unwrap(), axum::Json(body.clone())).into_response();
        }
        let account = match form["grant_type"].as_str() {
            "authorization_code" => self.codes.remove(&form["code"]).and_then(|(account, asked)| {
                let digest = ring::digest::digest(&ring::digest::SHA256, form["code_verifier"].as_bytes());
                let good = asked["code_challenge"] == URL_SAFE_NO_PAD.encode(digest.as_ref())
                    && asked["redirect_uri"] == form["redirect_uri"];
                good.then_some(account)
            }),
            // Each is good for once.
            "refresh_token" => self.refresh.remove(&form["refresh_token"]).filter(|_| self.renews),
            _ => None,
        };
        let Some(account) = account else {
            return (StatusCode::BAD_REQUEST, axum::Json(json!({"error": "invalid_grant"}))).into_response();
        };
        self.count += 1;
        let (access, refresh) = (format!("access-token-{}", self.count), format!("refresh-token-{}", self.count));
        let mut answer = json!({"access_token": access, "token_type": "Bearer", "scope": "openid repo"});
        if self.life > 0 {
            answer["expires_in"] = json!(self.life);
        }
        self.access.insert(access, account.clone());
        if self.renews {
            answer["refresh_token"] = json!(refresh);
            self.refresh.insert(refresh, account);
        }
        axum::Json(answer).into_response()
    }

    fn revoke(&mut self, form: &HashMap<String, String>) -> Response {
        self.revoked.push(form["token"].clone());
        StatusCode::OK.into_response()
    }
}
