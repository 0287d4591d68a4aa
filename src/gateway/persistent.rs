//! Work that outlives whoever waits for it, at no cost while somebody does.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio_util::task::TaskTracker;

/// A future that, dropped before its end, goes on as a task.
#[derive(Debug)]
pub(super) struct Persistent<F: Future<Output: Send + 'static> + Send + 'static> {
    work: Option<Pin<Box<F>>>,
    tasks: TaskTracker,
}

impl<F: Future<Output: Send + 'static> + Send + 'static> Persistent<F> {
    pub(super) fn new(work: F, tasks: &TaskTracker) -> Self {
        Self { work: Some(Box::pin(work)), tasks: tasks.clone() }
    }
}

impl<F: Future<Output: Send + 'static> + Send + 'static> Future for Persistent<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let Some(work) = &mut self.work else { return Poll::Pending };
        let result = work.as_mut().poll(context);
        if result.is_ready() {
            self.work = None;
        }
        result
    }
}

impl<F: Future<Output: Send + 'static> + Send + 'static> Drop for Persistent<F> {
    fn drop(&mut self) {
        // Where the runtime is going down there is nobody left to work; the record then says `interrupted`.
        if let (Some(work), Ok(runtime)) = (self.work.take(), tokio::runtime::Handle::try_current()) {
            self.tasks.spawn_on(work, &runtime);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_that_nobody_waits_for_still_ends() {
        let tasks = TaskTracker::new();
        let (started, go) = tokio::sync::oneshot::channel::<()>();
        let (done, ended) = tokio::sync::oneshot::channel();
        let mut work = Box::pin(Persistent::new(
            async move {
                go.await.unwrap();
                done.send(7).unwrap();
            },
            &tasks,
        ));
        assert!(futures_util::poll!(&mut work).is_pending());
        drop(work);
        started.send(()).unwrap();
        assert_eq!(ended.await, Ok(7));
    }

    #[tokio::test]
    async fn work_that_ended_leaves_nothing_behind() {
        let tasks = TaskTracker::new();
        assert_eq!(Persistent::new(async { 7 }, &tasks).await, 7);
        assert!(tasks.is_empty());
    }
}
