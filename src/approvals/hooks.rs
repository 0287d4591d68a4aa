//! Who hears of a new request: a webhook, a program. They are told beside the call and never hold it up, a few times at
//! most, and each within its time.

use std::ffi::OsString;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use http::{HeaderValue, Method, Request, StatusCode, header};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::config::approvals::{ApprovalSettings, Webhook};
use crate::domain::clock::Moment;
use crate::domain::json::hex;
use crate::fetch::{self, Reach};

/// Notices that may wait, and those under way at a time.
const WAITING: usize = 256;
const AT_ONCE: usize = 4;
/// What one try may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long after a try that failed the next one comes.
const AGAIN: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(5)];
/// Variables that the program inherits: what a shell or a desktop notice needs.
const INHERITED: [&str; 11] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "TZ",
    "TMPDIR",
    "DISPLAY",
    "WAYLAND_DISPLAY",
    "DBUS_SESSION_BUS_ADDRESS",
];
const INHERITED_PREFIXES: [&str; 2] = ["LC_", "XDG_"];

/// One new request, and who hears of it.
#[derive(Debug)]
pub(super) struct Notice {
    id: String,
    body: Bytes,
    settings: Arc<ApprovalSettings>,
}

impl Notice {
    pub(super) fn new(view: &Value, now: Moment, settings: Arc<ApprovalSettings>) -> Self {
        let body = json!({"event": "approval.requested", "sent_at": now.rfc3339(), "approval": view});
        let id = view.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
        Self { id, body: body.to_string().into(), settings }
    }
}

/// The notices that wait to be told.
#[derive(Debug)]
pub struct Hooks {
    notices: mpsc::Receiver<Notice>,
    /// What programs inherit.
    environment: Vec<(OsString, OsString)>,
}

pub(super) fn channel(environment: Vec<(OsString, OsString)>) -> (mpsc::Sender<Notice>, Hooks) {
    let (sender, notices) = mpsc::channel(WAITING);
    (sender, Hooks { notices, environment: inherited(environment) })
}

impl Hooks {
    /// Tells of requests until `stop`; those that wait then are told once.
    pub async fn run(self, stop: CancellationToken) {
        let Self { notices, environment } = self;
        let notices = futures_util::stream::unfold((notices, stop.clone()), |(mut notices, stop)| async move {
            let next = tokio::select! {
                biased;
                notice = notices.recv() => notice,
                () = stop.cancelled() => None,
            };
            Some((next?, (notices, stop)))
        });
        notices.for_each_concurrent(AT_ONCE, |notice| tell(notice, &environment, &stop)).await;
    }
}

fn inherited(environment: Vec<(OsString, OsString)>) -> Vec<(OsString, OsString)> {
    let passes = |name: &OsString| {
        name.to_str().is_some_and(|name| {
            INHERITED.contains(&name) || INHERITED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        })
    };
    environment.into_iter().filter(|(name, _)| passes(name)).collect()
}

async fn tell(notice: Notice, environment: &[(OsString, OsString)], stop: &CancellationToken) {
    let Notice { id, body, settings } = notice;
    let posting = async {
        if let Some(webhook) = &settings.webhook {
            report(&id, "webhook", post(webhook, &body, stop).await);
        }
    };
    let running = async {
        if let Some((program, arguments)) = settings.command.split_first() {
            report(&id, "command", run(program, arguments, environment, &body).await);
        }
    };
    tokio::join!(posting, running);
}

fn report(id: &str, hook: &'static str, told: Result<(), String>) {
    let result = if told.is_ok() { "told" } else { "failed" };
    metrics::counter!("toolgate_approval_hooks_total", "hook" => hook, "result" => result).increment(1);
    if let Err(why) = told {
        tracing::warn!(approval = id, hook, why, "a hook did not tell of a request for an approval");
    }
}

/// Posts a request, a few times where the receiver fails.
async fn post(webhook: &Webhook, body: &Bytes, stop: &CancellationToken) -> Result<(), String> {
    let mut again = AGAIN.iter();
    loop {
        let (why, final_) = match post_once(webhook, body).await {
            Ok(status) if status.is_success() => return Ok(()),
            Ok(status) => (format!("HTTP {}", status.as_u16()), refuses(status)),
            Err(why) => (why, false),
        };
        let Some(wait) = again.next().filter(|_| !final_) else { return Err(why) };
        if stop.run_until_cancelled(tokio::time::sleep(*wait)).await.is_none() {
            return Err(why);
        }
    }
}

/// Whether the receiver would refuse the same once more.
fn refuses(status: StatusCode) -> bool {
    status.is_client_error() && !matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS)
}

async fn post_once(webhook: &Webhook, body: &Bytes) -> Result<StatusCode, String> {
    let mut request = Request::new(body.clone());
    *request.method_mut() = Method::POST;
    *request.uri_mut() = webhook.url.as_str().parse().map_err(|_| "the URL has an odd form".to_owned())?;
    let signature = format!("sha256={}", signed(webhook.secret.expose().as_bytes(), body));
    let headers = request.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert("toolgate-signature", signature.parse().map_err(|_| "the signature is no header".to_owned())?);
    let sent = tokio::time::timeout(PATIENCE, fetch::send(request, &Reach::Configured)).await;
    let response = sent.map_err(|_| "no answer in time".to_owned())?;
    // With most receivers whoever knows the path may post.
    response.map(|response| response.status()).map_err(|error| error.without_path().to_string())
}

/// HMAC-SHA256 in hexadecimal.
fn signed(secret: &[u8], body: &[u8]) -> String {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret);
    hex(ring::hmac::sign(&key, body).as_ref())
}

/// Runs the program, in a group of its own, with the request on its standard input.
async fn run(
    program: &str,
    arguments: &[String],
    environment: &[(OsString, OsString)],
    body: &[u8],
) -> Result<(), String> {
    let mut command = Command::new(program);
    command.args(arguments).env_clear().envs(environment.iter().map(|(name, value)| (name, value)));
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    command.process_group(0).kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| format!("`{program}` does not start: {error}"))?;
    let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    let input = child.stdin.take();
    let running = async {
        if let Some(mut input) = input {
            // A program that reads nothing is as good as one that does.
            drop(input.write_all(body).await);
        }
        child.wait().await
    };
    match tokio::time::timeout(PATIENCE, running).await {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(format!("`{program}` ended with {status}")),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => {
            if let Some(Err(error)) = group.map(|group| kill_process_group(group, Signal::KILL)) {
                tracing::debug!(%error, "the group of `{program}` could not be ended");
            }
            Err(format!("`{program}` takes longer than {} s", PATIENCE.as_secs()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::secret::Secret;

    /// RFC 4231, test case 2.
    #[test]
    fn the_signature_is_hmac_sha256() {
        assert_eq!(
            signed(b"Jefe", b"what do ya want for nothing?"),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }

    /// With most receivers the path is the credential, and the reason is logged.
    #[tokio::test]
    async fn no_reason_holds_the_path_of_a_webhook() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        for url in [format!("http://{address}/services/T0/SECRET"), "http://far.example/services/T0/SECRET".into()] {
            let webhook = Webhook { url: url.parse().unwrap(), secret: Secret::new("x") };
            let why = post_once(&webhook, &Bytes::new()).await.unwrap_err();
            assert!(why.starts_with("`http://") && !why.contains("SECRET") && !why.contains("services"), "{why}");
        }
    }

    #[test]
    fn the_program_inherits_nothing_of_the_gateway_s_own() {
        let pair = |name: &str| (OsString::from(name), OsString::from("x"));
        let kept = inherited(["PATH", "TOOLGATE_ADMIN_KEY", "XDG_RUNTIME_DIR", "GITHUB_TOKEN"].map(pair).to_vec());
        assert_eq!(kept, [pair("PATH"), pair("XDG_RUNTIME_DIR")]);
    }

    #[tokio::test]
    async fn a_program_that_hangs_or_fails_is_reported() {
        let run = |text: &'static str| async move {
            let arguments = ["-c".to_owned(), text.to_owned()];
            run("/bin/sh", &arguments, &[], b"{}").await
        };
        assert_eq!(run("cat > /dev/null").await, Ok(()));
        assert!(run("exit 3").await.unwrap_err().contains('3'));
        assert!(super::run("/nowhere/at/all", &[], &[], b"").await.unwrap_err().contains("does not start"));
    }
}
