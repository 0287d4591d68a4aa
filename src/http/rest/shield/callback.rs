//! Where a provider sends the user back to: a page for a person, without a key, a script, or anything from elsewhere.

use std::sync::{Arc, LazyLock};

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{StatusCode, Uri, header};
use ring::digest::{SHA256, digest};
use url::form_urlencoded;

use super::super::super::body;
use super::super::super::request::Named;
use super::super::Segments;
use super::markup::escaped;
use crate::gateway::{Gateway, Landing, Returned};
use crate::wire::rest::provider_schema as schema;

const STYLE: &str = include_str!("callback.css");
/// Bytes of the page's own form.
const MAX_BODY: usize = 16 * 1024;

/// Nothing may be loaded, run or framed; the page's own style is known by its digest. It sends forms `to` here or nowhere.
fn policy(to: &str) -> String {
    let style = STANDARD.encode(digest(&SHA256, STYLE.as_bytes()));
    format!("default-src 'none'; style-src 'sha256-{style}'; base-uri 'none'; form-action {to}; frame-ancestors 'none'")
}

static CLOSED: LazyLock<String> = LazyLock::new(|| policy("'none'"));
static ASKING: LazyLock<String> = LazyLock::new(|| policy("'self'"));

#[utoipa::path(
    get, path = "/v1/providers/{slug}/callback", operation_id = "provider_callback", tag = "Providers",
    summary = "Where a provider sends the user back to",
    description = "For browsers. It asks whether the user who began the connection may use the account, and changes nothing; where \
                   the provider has refused, it says so.",
    params(
        ("slug" = String, Path, description = "The provider"),
        ("state" = Option<String>, Query, description = "As the gateway gave it", nullable = false),
        ("code" = Option<String>, Query, description = "What is exchanged for tokens", nullable = false),
        ("iss" = Option<String>, Query, description = "Which authorization server this is (RFC 9207)", nullable = false),
        ("error" = Option<String>, Query, description = "Why there is no code", nullable = false),
        ("error_description" = Option<String>, Query, description = "The same in words", nullable = false),
    ),
    responses(
        (status = 200, description = "Whether to connect the account", body = String, content_type = "text/html"),
        (status = 400, description = "It is not connected, and why", body = String, content_type = "text/html"),
    )
)]
/// `GET /v1/providers/{slug}/callback`.
pub(super) async fn callback(
    State(gateway): State<Arc<Gateway>>,
    Named(request): Named,
    slug: Result<Segments<String>, Response>,
    uri: Uri,
) -> Response {
    let slug = slug.map(|Segments(slug)| slug).unwrap_or_default();
    let Some(returned) = read(uri.query().unwrap_or_default().as_bytes()) else { return show(&unread()) };
    match gateway.asks_for_account(&slug, &returned) {
        Some((title, user)) => ask(&title, &user, &returned),
        None => show(&gateway.returned_from_provider(slug, returned, request).await),
    }
}

#[utoipa::path(
    post, path = "/v1/providers/{slug}/callback", operation_id = "connect_account", tag = "Providers",
    summary = "Connect the account, for the page's own form",
    description = "What the page of `GET` sends. The `state` is good for the user who began the connection, once, for ten minutes.",
    params(("slug" = String, Path, description = "The provider")),
    request_body(content = schema::Returned, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 200, description = "The account is connected", body = String, content_type = "text/html"),
        (status = 400, description = "It is not, and why", body = String, content_type = "text/html"),
    )
)]
/// `POST /v1/providers/{slug}/callback`: a person has seen for whom it is.
pub(super) async fn connect(
    State(gateway): State<Arc<Gateway>>,
    Named(request): Named,
    slug: Result<Segments<String>, Response>,
    body: Body,
) -> Response {
    let slug = slug.map(|Segments(slug)| slug).unwrap_or_default();
    let returned = body::whole(body, MAX_BODY).await.ok().and_then(|bytes| read(&bytes));
    show(&match returned {
        Some(returned) => gateway.returned_from_provider(slug, returned, request).await,
        None => unread(),
    })
}

fn unread() -> Landing {
    Landing::Refused { title: None, why: "the address cannot be read: begin the connection anew".into() }
}

/// What the provider has put into the address, or the page into its form. There may be more, and each of these once.
fn read(text: &[u8]) -> Option<Returned> {
    let mut returned = Returned::default();
    for (name, value) in form_urlencoded::parse(text) {
        let place = match &*name {
            "state" => &mut returned.state,
            "code" => &mut returned.code,
            "iss" => &mut returned.iss,
            "error" => &mut returned.error,
            "error_description" => &mut returned.error_description,
            _ => continue,
        };
        if place.replace(value.into_owned()).is_some() {
            return None;
        }
    }
    Some(returned)
}

/// Asks the person who came back: the link may have been another's.
fn ask(title: &str, user: &str, returned: &Returned) -> Response {
    let mut form = String::from("<form method=\"post\" action=\"callback\">");
    let members = [("state", &returned.state), ("code", &returned.code), ("iss", &returned.iss)];
    for (name, value) in members.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?))) {
        form.push_str(&format!("<input type=\"hidden\" name=\"{name}\" value=\"{}\">", escaped(value)));
    }
    form.push_str(&format!("<button>Let {} use my account</button></form>", escaped(user)));
    let text = format!(
        "The user {user} of this gateway asks to use your account with {title} through its tools. Go on only if you are that \
         user, or know why you are asked; else close this page, and nothing is changed."
    );
    // The form goes back to this address: without a referrer its origin would be hidden from the gateway too.
    page(StatusCode::OK, &format!("Connect your account with {title}?"), &text, &form, &ASKING, "same-origin")
}

fn show(landing: &Landing) -> Response {
    let (status, head, text) = match landing {
        Landing::Connected { title, user } => (
            StatusCode::OK,
            format!("{title} is connected"),
            format!(
                "The user {user} of this gateway can now use your account with {title} through its tools. If that is not you, \
                 withdraw the access in the settings of {title}. You can close this page."
            ),
        ),
        Landing::Refused { title, why } => (
            StatusCode::BAD_REQUEST,
            format!("{} is not connected", title.as_deref().unwrap_or("Your account")),
            format!("Nothing was changed: {why}."),
        ),
    };
    // The address may hold what was good for tokens.
    page(status, &head, &text, "", &CLOSED, "no-referrer")
}

fn page(
    status: StatusCode,
    head: &str,
    text: &str,
    form: &str,
    policy: &'static str,
    referrer: &'static str,
) -> Response {
    let (head, text) = (escaped(head), escaped(text));
    let page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>{head}</title><style>{STYLE}</style></head><body><main><h1>{head}</h1>\
         <p>{text}</p>{form}</main></body></html>\n"
    );
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, referrer),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (status, headers, page).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_page_shows_text_and_runs_nothing() {
        let why = "<script>alert('x')</script> \"quoted\" & \u{202e}turned\u{7}";
        let answer = show(&Landing::Refused { title: Some("<b>Git</b>".into()), why: why.into() });
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
        let policy = answer.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap().to_owned();
        assert!(policy.starts_with("default-src 'none'; style-src 'sha256-") && !policy.contains("unsafe"), "{policy}");
        let page = axum::body::to_bytes(answer.into_body(), 1 << 20).await.unwrap();
        let page = String::from_utf8(page.to_vec()).unwrap();
        assert!(page.contains("<h1>&lt;b&gt;Git&lt;/b&gt; is not connected</h1>"), "{page}");
        assert!(
            page.contains(
                "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; &quot;quoted&quot; &amp; \\u{202e}turned\\u{7}."
            ),
            "{page}"
        );
    }

    #[test]
    fn what_stands_twice_is_not_read() {
        let returned = read(b"code=a%20b&state=s&scope=x&scope=y").unwrap();
        assert_eq!((returned.code.as_deref(), returned.state.as_deref()), (Some("a b"), Some("s")));
        assert!(read(b"code=a&code=b&state=s").is_none());
    }
}
