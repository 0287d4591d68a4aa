//! A backend's questions that are with clients: it may take them back (MCP 2025-11-25, basic/utilities/cancellation).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::backend::asides::{self, Reply};
use crate::backend::deadline::Deadline;
use crate::domain::json::Json;
use crate::wire::hop;

/// What takes a question back. The ids in it are of this hop alone, so it never travels as it came.
pub(super) const CANCELLED: &str = "notifications/cancelled";
/// Bytes of an id that is remembered, and of a reason that is passed on.
const MAX_ID: usize = 256;
const MAX_REASON: usize = 1024;

/// The questions of one link, by the backend's ids.
#[derive(Debug, Clone, Default)]
pub(super) struct Asking(Arc<Mutex<HashMap<String, Asked>>>);

#[derive(Debug)]
struct Asked {
    number: u64,
    back: oneshot::Sender<Option<String>>,
}

/// A question that is with a client.
#[derive(Debug)]
pub(super) struct Open {
    asking: Asking,
    id: String,
    reply: Reply,
    back: oneshot::Receiver<Option<String>>,
}

impl Asking {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Asked>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers a question until it is answered.
    pub(super) fn open(&self, id: &Json, reply: Reply) -> Open {
        let (sender, back) = oneshot::channel();
        let id = named(id).unwrap_or_default();
        if !id.is_empty() {
            self.lock().insert(id.clone(), Asked { number: reply.number(), back: sender });
        }
        Open { asking: self.clone(), id, reply, back }
    }

    /// Takes back the question that the params of `notifications/cancelled` name.
    pub(super) fn withdraw(&self, params: Option<&Json>) {
        let Some(id) = hop::member(params, "requestId").as_ref().and_then(named) else { return };
        if let Some(asked) = self.lock().remove(&id) {
            let reason = hop::member(params, "reason").and_then(|reason| reason.decode::<String>().ok());
            drop(asked.back.send(reason.filter(|reason| reason.len() <= MAX_REASON)));
        }
    }
}

/// An id in one spelling.
fn named(id: &Json) -> Option<String> {
    (id.bytes().len() <= MAX_ID).then(|| id.value().to_string())
}

impl Open {
    /// Waits for the answer; `None` where the backend does so no more.
    pub(super) async fn answer(mut self, deadline: Option<&Deadline>) -> Option<Result<Json, Json>> {
        let answered = tokio::select! {
            biased;
            Ok(reason) = &mut self.back => Err(reason),
            answer = asides::answer(&mut self.reply, deadline) => Ok(answer),
        };
        answered.map_err(|reason| self.reply.withdraw(reason)).ok()
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut asked = self.asking.lock();
        if asked.get(&self.id).is_some_and(|asked| asked.number == self.reply.number()) {
            asked.remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::asides::{Aside, asides};

    #[tokio::test]
    async fn a_question_that_is_taken_back_is_answered_no_more_and_its_client_hears_of_it() {
        let (sink, mut heard) = asides(8);
        let asking = Asking::default();
        let json = |text: &str| Json::from_parts(text.to_owned());
        let open = |id: &str| asking.open(&json(id), sink.put("roots/list", None).unwrap());
        let (first, second) = (open("1"), open(r#""a""#));
        asking.withdraw(Some(&json(r#"{"requestId":"1"}"#)));
        asking.withdraw(Some(&json(r#"{"requestId":"\u0061","reason":"too\nlate"}"#)));
        assert!(second.answer(None).await.is_none());
        let Some(Aside::Question(question)) = heard.recv().await else { panic!("the first") };
        let Some(Aside::Question(other)) = heard.recv().await else { panic!("the second") };
        assert!(!other.is_wanted());
        let Some(Aside::Withdrawn { question: number, reason }) = heard.recv().await else { panic!("withdrawn") };
        assert_eq!((number, reason.as_deref()), (other.number, Some("too\nlate")));
        question.answer(Ok(json("{}")));
        assert_eq!(first.answer(None).await, Some(Ok(json("{}"))));
        assert!(asking.lock().is_empty());
        assert!(heard.try_recv().is_err(), "what was answered is not taken back");
    }
}
