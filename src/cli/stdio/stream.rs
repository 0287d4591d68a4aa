//! The stream of a legacy session: what the gateway says of its own accord.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use tokio::time::Instant;

use super::answer::{Messages, Trouble};
use super::relay::Relay;
use super::session::Session;
use crate::wire::reply;

const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// A stream that lasted so long was a good one.
const LONG_STREAM: Duration = Duration::from_secs(30);
const LIST_CHANGED: &[u8] = br#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#;

/// How long to wait after this many failures; the first time, what the gateway wishes.
pub(super) fn pause(failures: u32, wish: Option<Duration>) -> Duration {
    match wish {
        Some(wish) if failures == 0 => wish.min(LONGEST_PAUSE),
        _ => FIRST_PAUSE.saturating_mul(1 << failures.min(10)).min(LONGEST_PAUSE),
    }
}

impl Relay {
    /// Keeps the stream of a session open until it is over. `renewed`: it stands in the place of a lost one.
    pub(super) fn follow(self: &Arc<Self>, session: Arc<Session>, renewed: bool) {
        if !session.has_id() {
            return;
        }
        let relay = Arc::clone(self);
        self.streams.spawn(async move {
            let (stop, over) = (relay.stop.clone(), session.over.clone());
            stop.run_until_cancelled(over.run_until_cancelled(relay.stream(&session, renewed))).await
        });
    }

    /// `missed`: something may have been said that nobody heard.
    async fn stream(self: &Arc<Self>, session: &Arc<Session>, mut missed: bool) {
        let (mut last, mut failures) = (None::<String>, 0);
        loop {
            let (began, mut wish) = (Instant::now(), None);
            match self.wire.listen(session.headers.clone(), last.as_deref()).await {
                Ok(mut messages) => {
                    if std::mem::take(&mut missed) && session.list_changed {
                        self.say(Bytes::from_static(LIST_CHANGED)).await;
                    }
                    if self.hear(&mut messages).await || began.elapsed() >= LONG_STREAM {
                        failures = 0;
                    }
                    last = messages.last().map(str::to_owned).or(last);
                    wish = messages.retry();
                    missed = last.is_none();
                }
                Err(Trouble::Status(StatusCode::METHOD_NOT_ALLOWED)) => return,
                Err(Trouble::Status(StatusCode::NOT_FOUND)) if self.renew(session).await.is_ok() => return,
                Err(trouble) => {
                    tracing::debug!(?trouble, "no stream");
                    // Whoever is told where the stream stopped tells of the rest, or of all that may have changed.
                    missed = last.is_none();
                }
            }
            tokio::time::sleep(pause(failures, wish)).await;
            failures += 1;
        }
    }

    /// Passes on what comes until the stream ends; true where anything came.
    async fn hear(&self, messages: &mut Messages) -> bool {
        let mut heard = false;
        loop {
            match messages.next().await {
                Ok(Some(message)) if reply::decode(&message).is_ok() => {
                    heard = true;
                    self.say(message).await;
                }
                Ok(Some(_)) => tracing::warn!("the gateway's stream held something that is no message"),
                Ok(None) => return heard,
                Err(trouble) => {
                    tracing::debug!(?trouble, "the stream broke off");
                    return heard;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_an_end() {
        assert_eq!([0, 1, 2].map(|failures| pause(failures, None).as_millis()), [250, 500, 1000]);
        assert_eq!(pause(u32::MAX, None), LONGEST_PAUSE);
        let wish = Some(Duration::from_millis(700));
        assert_eq!([0, 1].map(|failures| pause(failures, wish).as_millis()), [700, 500]);
        assert_eq!(pause(0, Some(Duration::MAX)), LONGEST_PAUSE);
    }
}
