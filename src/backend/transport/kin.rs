//! What a child has started and its process group does not hold: `setsid`, daemons that forked twice.
//!
//! Every child has a mark in its environment, which its own children inherit: whoever bears it is one of them, whatever
//! its parent, group or session. Who stands below the child is one of them too, while the child lives. Linux alone says
//! so much of processes; elsewhere the process group is all that ends.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::process::{Pid, Signal};

/// The variable that holds the mark.
pub(super) const MARK: &str = "TOOLGATE_CHILD";
/// Looks for those that were started while the others were being killed.
const ROUNDS: usize = 8;

/// The kin of one child.
#[derive(Debug, Clone)]
pub(super) struct Kin {
    mark: Arc<str>,
    found: Arc<Mutex<BTreeSet<Member>>>,
}

/// A process: its number alone may be another's tomorrow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Member {
    id: i32,
    /// When it was started, in ticks since the machine was.
    started: u64,
}

impl Kin {
    pub(super) fn new() -> Self {
        Self { mark: uuid::Uuid::new_v4().simple().to_string().into(), found: Arc::default() }
    }

    pub(super) fn mark(&self) -> &str {
        &self.mark
    }

    /// Finds who is there: best while the child lives, since its children do not say whose they were. Reads a folder
    /// for each process of the machine. True where somebody is new.
    pub(super) fn find(&self, child: Option<Pid>) -> bool {
        let seen = seen(&self.mark, child.map(Pid::as_raw_pid));
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let before = found.len();
        found.extend(seen);
        found.len() > before
    }

    /// Finds and signals them all, until nobody new turns up.
    pub(super) fn signal(&self, child: Option<Pid>, signal: Signal) {
        for _ in 0..ROUNDS {
            let more = self.find(child);
            for member in self.found.lock().unwrap_or_else(PoisonError::into_inner).iter() {
                member.signal(signal);
            }
            if !more {
                return;
            }
        }
    }
}

#[cfg(target_os = "linux")]
impl Member {
    fn signal(self, signal: Signal) {
        let Some(id) = Pid::from_raw(self.id) else { return };
        // The handle first: what is asked about then is what is signalled.
        let Ok(handle) = rustix::process::pidfd_open(id, rustix::process::PidfdFlags::empty()) else { return };
        if Stat::read(self.id).is_some_and(|stat| stat.started == self.started)
            && let Err(error) = rustix::process::pidfd_send_signal(handle, signal)
        {
            tracing::trace!(%error, "no process to signal");
        }
    }
}

/// What the system says of a process.
#[cfg(target_os = "linux")]
struct Stat {
    parent: i32,
    started: u64,
    ended: bool,
}

#[cfg(target_os = "linux")]
impl Stat {
    fn read(id: i32) -> Option<Self> {
        let text = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        // The name before it may hold anything, brackets too (proc_pid_stat(5)).
        let mut fields = text.rsplit_once(") ")?.1.split(' ');
        let state = fields.next()?;
        Some(Self {
            ended: matches!(state, "Z" | "X"),
            parent: fields.next()?.parse().ok()?,
            started: fields.nth(17)?.parse().ok()?,
        })
    }
}

/// Everybody who bears the mark or stands below `child`, and below one of these.
#[cfg(target_os = "linux")]
fn seen(mark: &str, child: Option<i32>) -> BTreeSet<Member> {
    let marked = |id: i32| {
        let wanted = format!("{MARK}={mark}");
        let environment = std::fs::read(format!("/proc/{id}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes())
    };
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let mut others: Vec<(i32, Stat)> = ids.filter_map(|id| Some((id, Stat::read(id)?))).collect();
    others.retain(|(_, stat)| !stat.ended);
    let mut kin: BTreeSet<i32> =
        others.iter().map(|(id, _)| *id).filter(|id| Some(*id) == child || marked(*id)).collect();
    // Each round goes one generation down.
    loop {
        let below: Vec<i32> = others
            .iter()
            .filter(|(id, stat)| kin.contains(&stat.parent) && !kin.contains(id))
            .map(|(id, _)| *id)
            .collect();
        if below.is_empty() {
            break;
        }
        kin.extend(below);
    }
    // The child itself is its owner's to end.
    let members = others.iter().filter(|(id, _)| kin.contains(id) && Some(*id) != child);
    members.map(|(id, stat)| Member { id: *id, started: stat.started }).collect()
}

#[cfg(not(target_os = "linux"))]
impl Member {
    const fn signal(self, _: Signal) {}
}

#[cfg(not(target_os = "linux"))]
fn seen(_: &str, _: Option<i32>) -> BTreeSet<Member> {
    BTreeSet::new()
}
