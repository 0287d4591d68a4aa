//! One request to one answer, whatever it takes.

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};

use super::answer::{Kind, Messages, Trouble, kind};
use super::flights::Flight;
use super::relay::{Asked, Relay, mirror};
use super::session::Session;
use super::stream::pause;
use super::wire::first_headers;
use crate::wire::envelope::call_params;
use crate::wire::era::Era;

/// The gateway names the record of a call in it: the call was taken up.
const AUDIT_ID: &str = "toolgate-audit-id";
/// A header does not say what the body says: what is known of the tools is out of date.
const MISMATCH: i64 = -32020;
/// Pages of a list that the relay reads for itself.
const MAX_PAGES: usize = 50;
/// How often an answer that broke off is taken up again without a message in it.
const MAX_RESUMES: u32 = 5;

/// What has been tried once and is not tried twice.
#[derive(Debug, Default)]
struct Tried {
    renewing: bool,
    listing: bool,
    repeating: bool,
}

fn first_time(tried: &mut bool) -> bool {
    !std::mem::replace(tried, true)
}

impl Relay {
    /// Carries a request there and its answer back.
    pub(super) async fn carry(self: &Arc<Self>, asked: &Asked, flight: &Flight) {
        let exchange = self.exchange(asked, flight);
        let answered = match asked.era {
            Era::Modern => flight.cancelled.run_until_cancelled(exchange).await,
            Era::Legacy => Some(exchange.await),
        };
        match answered {
            Some(Err(trouble)) if !flight.cancelled.is_cancelled() => self.fail(&asked.id, &trouble).await,
            _ => {}
        }
    }

    /// One request to one answer, over a session that may have to be opened anew.
    async fn exchange(self: &Arc<Self>, asked: &Asked, flight: &Flight) -> Result<(), Trouble> {
        let mut session = self.session(asked.era);
        let mut tried = Tried::default();
        loop {
            let trouble = match self.attempt(asked, session.as_ref(), flight).await {
                Ok(()) => return Ok(()),
                Err(trouble) => trouble,
            };
            let call = asked.method == "tools/call";
            match (&trouble, &session) {
                // The gateway looks at the session before anything else: nothing was carried out.
                (Trouble::SessionLost, Some(lost)) if first_time(&mut tried.renewing) => {
                    session = Some(self.renew(lost).await?);
                }
                (Trouble::Broken(_), _) if !call && first_time(&mut tried.repeating) => {}
                (Trouble::Told(_), _) if call && trouble.code() == Some(MISMATCH) && first_time(&mut tried.listing) => {
                    self.list_again(asked).await?;
                }
                _ => return Err(trouble),
            }
        }
    }

    async fn attempt(&self, asked: &Asked, session: Option<&Arc<Session>>, flight: &Flight) -> Result<(), Trouble> {
        let mut headers = session.map_or_else(first_headers, |session| session.headers.clone());
        if asked.era == Era::Modern {
            mirror(&mut headers, &asked.method, asked.params.as_ref(), &asked.meta);
            if asked.method == "tools/call"
                && let Ok(call) = call_params(asked.params.as_ref())
            {
                headers.extend(self.annotated.headers(&call.name, call.arguments.as_ref()));
            }
        }
        let response = self.wire.post(headers, asked.line.clone()).await?;
        if response.status() == StatusCode::NOT_FOUND
            && session.is_some_and(|session| session.has_id())
            && !response.headers().contains_key(AUDIT_ID)
        {
            return Err(Trouble::SessionLost);
        }
        let messages = Messages::of(response).await?;
        self.pass(messages, asked, session, flight).await
    }

    /// Passes messages on up to the response. An answer that breaks off is taken up where it did, if it says how.
    async fn pass(
        &self,
        mut messages: Messages,
        asked: &Asked,
        session: Option<&Arc<Session>>,
        flight: &Flight,
    ) -> Result<(), Trouble> {
        let mut resumes = 0;
        loop {
            let ended = match messages.next().await {
                Ok(Some(message)) => {
                    let kind = kind(&message, &asked.id)?;
                    if let Kind::Error(error) = kind {
                        return Err(Trouble::Told(error));
                    }
                    if !flight.cancelled.is_cancelled() {
                        self.say(message).await;
                    }
                    if let Kind::Result(result) = kind {
                        if asked.method == "tools/list" && asked.era == Era::Modern {
                            self.annotated.learn(&result);
                        }
                        return Ok(());
                    }
                    resumes = 0;
                    continue;
                }
                Ok(None) => Trouble::Unfinished("it ended".into()),
                Err(trouble) => trouble,
            };
            let (Some(session), Some(last)) = (session, messages.last().map(str::to_owned)) else { return Err(ended) };
            if resumes == MAX_RESUMES {
                return Err(ended);
            }
            tokio::time::sleep(pause(resumes, messages.retry())).await;
            resumes += 1;
            match self.wire.listen(session.headers.clone(), Some(&last)).await {
                Ok(more) => messages = more.after(last),
                // A gateway that has gone does not remember where it was.
                Err(Trouble::Unreachable(_)) => return Err(ended),
                Err(trouble) => tracing::debug!(?trouble, "an answer cannot be taken up again"),
            }
        }
    }

    /// Opens another session in the place of a lost one.
    pub(super) async fn renew(self: &Arc<Self>, lost: &Arc<Session>) -> Result<Arc<Session>, Trouble> {
        let (session, opened) = self.sessions.after(lost, &self.wire).await?;
        if opened {
            tracing::info!("the gateway no longer knew the session: a new one is open");
            self.follow(Arc::clone(&session), true);
        }
        Ok(session)
    }

    /// Reads the list of tools again, for what it says of headers.
    async fn list_again(&self, asked: &Asked) -> Result<(), Trouble> {
        let meta = call_params(asked.params.as_ref()).ok().and_then(|call| call.meta);
        let mut meta = meta.map(|meta| meta.value()).unwrap_or_default();
        if let Some(members) = meta.as_object_mut() {
            members.remove("progressToken");
        }
        let mut cursor: Option<String> = None;
        for _ in 0..MAX_PAGES {
            let mut params = json!({"_meta": meta});
            if let (Some(cursor), Some(members)) = (&cursor, params.as_object_mut()) {
                members.insert("cursor".into(), Value::from(cursor.as_str()));
            }
            let id = asked.id.text();
            let body = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/list","params":{params}}}"#);
            let mut headers = first_headers();
            mirror(&mut headers, "tools/list", None, &asked.meta);
            let mut messages = Messages::of(self.wire.post(headers, Bytes::from(body)).await?).await?;
            let mut next = None;
            while let Some(message) = messages.next().await? {
                if let Kind::Result(result) = kind(&message, &asked.id)? {
                    next = self.annotated.learn(&result);
                    break;
                }
            }
            if next.is_none() || next == cursor {
                break;
            }
            cursor = next;
        }
        Ok(())
    }
}
