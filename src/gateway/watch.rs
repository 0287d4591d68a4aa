//! The tasks that follow files, backends and time.

use std::path::Path;
use std::time::Duration;

use notify_debouncer_full::notify::RecursiveMode;
use notify_debouncer_full::{DebounceEventResult, new_debouncer};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::desk::Desk;
use crate::approvals::Approvals;
use crate::authn::Keyring;
use crate::journal::Journal;

/// Editors and orchestrators change files in several steps.
const SETTLE: Duration = Duration::from_millis(300);
/// Backends that start together are taken in together.
const GATHER: Duration = Duration::from_millis(20);
const USES_EVERY: Duration = Duration::from_secs(15);
/// How often the audit log is rolled up, and how many entries at a time.
const ROLL_UP_EVERY: Duration = Duration::from_secs(20);
const ROLLED_AT_WORK: usize = 10_000;
const ROLLED_AT_LEISURE: usize = 100_000;
/// How often approvals are looked through for those that nobody decided in time.
const LAPSED_EVERY: Duration = Duration::from_secs(2);
pub(super) const UPKEEP_EVERY: Duration = Duration::from_secs(5);
/// How often what nobody uses any more is looked for.
pub(super) const SWEEP_EVERY: Duration = Duration::from_secs(10);

/// Follows the configuration files until `stop`. Folders are watched, since files are often replaced by renaming.
pub(super) async fn files(desk: Desk, stop: CancellationToken) {
    let (changed, mut wake) = mpsc::channel::<()>(1);
    let on_event = move |result: DebounceEventResult| {
        // Reading the files is an event too, and none that matters.
        if result.is_ok_and(|events| events.iter().any(|event| !event.kind.is_access())) {
            // A full channel means that a reload is due already.
            let _due = changed.try_send(());
        }
    };
    let watcher = new_debouncer(SETTLE, None, on_event).map_err(|error| error.to_string());
    let mut watcher = match watcher {
        Ok(watcher) => watcher,
        Err(error) => {
            tracing::warn!(error, "configuration files are not watched: changes take effect on SIGHUP or restart");
            return;
        }
    };
    let mut told = None;
    loop {
        // Each time anew: a folder may have come, or another may stand in its place.
        for folder in desk.folders().await {
            if let Err(error) = watcher.watch(Path::new(&folder), RecursiveMode::NonRecursive) {
                tracing::warn!(folder = %folder.display(), %error, "a folder is not watched for changes");
            }
        }
        // What changed before it was watched is seen here.
        told = reload(&desk, told).await;
        let Some(Some(())) = stop.run_until_cancelled(wake.recv()).await else { return };
    }
}

/// Reloads on SIGHUP.
pub(super) async fn hangups(desk: Desk, stop: CancellationToken) {
    let Ok(mut hangup) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()) else { return };
    while let Some(Some(())) = stop.run_until_cancelled(hangup.recv()).await {
        reload(&desk, None).await;
    }
}

/// Reloads; gives what was refused, so that the same faults are told once and not at every touch of a file.
async fn reload(desk: &Desk, told: Option<String>) -> Option<String> {
    match desk.reload().await {
        Ok(true) => {
            metrics::counter!("toolgate_config_reloads_total", "result" => "applied").increment(1);
            tracing::info!("the configuration was reloaded");
            None
        }
        Ok(false) => None,
        Err(refused) => {
            let faults = refused.to_string();
            if told.as_ref() != Some(&faults) {
                metrics::counter!("toolgate_config_reloads_total", "result" => "refused").increment(1);
                tracing::error!("the changed configuration is refused, the old one stays:\n{faults}");
            }
            Some(faults)
        }
    }
}

/// Takes every change of the catalogue in.
pub(super) async fn catalogue(desk: Desk, mut changes: watch::Receiver<u64>, stop: CancellationToken) {
    // A backend may have been listed before anybody listened here.
    changes.mark_changed();
    while let Some(Ok(())) = stop.run_until_cancelled(changes.changed()).await {
        tokio::time::sleep(GATHER).await;
        changes.borrow_and_update();
        desk.catalogue_changed().await;
    }
}

/// Does something now and then, such as folding samples of metrics: without, they pile up until somebody asks for them.
pub(super) async fn now_and_then(work: impl Fn(), every: Duration, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(every);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        work();
    }
}

/// Writes down now and then when keys were last used, and forgets tokens that have ended.
pub(super) async fn uses(keys: std::sync::Arc<Keyring>, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(USES_EVERY);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        if let Err(error) = keys.write_uses().await {
            tracing::warn!(%error, "the last uses of keys could not be written");
        }
        if let Err(error) = keys.forget_ended_grants().await {
            tracing::warn!(%error, "tokens that have ended could not be removed");
        }
    }
}

/// Rolls the audit log up now and then, so that whoever asks what it comes to need not wait; a little at a time while
/// there are calls to serve.
pub(super) async fn rollups(journal: Journal, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(ROLL_UP_EVERY);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        let most = if journal.open_entries() == 0 { ROLLED_AT_LEISURE } else { ROLLED_AT_WORK };
        if let Some(Err(error)) = stop.run_until_cancelled(journal.roll_up(most)).await {
            tracing::warn!(%error, "the audit log could not be rolled up; it is tried again");
        }
    }
}

/// Writes down now and then which approvals have expired, and which calls were lost sight of.
pub(super) async fn approvals(approvals: Approvals, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(LAPSED_EVERY);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        approvals.sweep().await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn what_is_done_now_and_then_is_done_until_the_stop() {
        let (stop, folded) = (CancellationToken::new(), AtomicUsize::new(0));
        let fold = || {
            if folded.fetch_add(1, Ordering::SeqCst) == 2 {
                stop.cancel();
            }
        };
        let folding = now_and_then(fold, Duration::from_millis(1), stop.clone());
        tokio::time::timeout(Duration::from_secs(10), folding).await.unwrap();
        assert_eq!(folded.load(Ordering::SeqCst), 3);
    }
}
