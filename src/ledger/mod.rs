//! Limits on calls, as exact sliding windows: never more than `count` calls in any `window`, wherever it begins.
//!
//! A window is half-open: a call at `t` counts for every moment in `[t, t + window)`, so two calls that lie exactly one
//! window apart are in different ones. Nothing is kept over a restart. Time is given by the caller, in microseconds of
//! [`Clock::ticks`](crate::domain::clock::Clock::ticks).

use std::collections::hash_map::RandomState;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::hash::BuildHasher;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::domain::id::{KeyId, ServerName, ToolId};
use crate::domain::tool::Rate;

/// What a limit counts. Whoever calls, the same scope is the same window.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum LimitScope {
    /// Calls of one tool, by anybody.
    Tool(ToolId),
    /// Calls of all tools of one server, by anybody.
    Server(ServerName),
    /// Requests with one key (`requests_per_minute` of its plan).
    PlanRequests(KeyId),
    /// Calls with one key (`invocations_per_minute` of its plan).
    PlanInvocations(KeyId),
}

impl fmt::Display for LimitScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tool(id) => write!(f, "tool `{id}`"),
            Self::Server(name) => write!(f, "server `{name}`"),
            Self::PlanRequests(_) => f.write_str("requests of the plan"),
            Self::PlanInvocations(_) => f.write_str("invocations of the plan"),
        }
    }
}

/// One limit that a call is charged to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charge {
    pub scope: LimitScope,
    pub rate: Rate,
}

/// A limit is used up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("over the limit of {} in {:?} for {scope}: retry after {} s", .rate.count, .rate.window, whole_seconds(*.retry_after).max(1))]
pub struct Over {
    pub scope: LimitScope,
    pub rate: Rate,
    /// The least wait after which the same charges succeed, if nobody else calls; exact to the microsecond.
    pub retry_after: Duration,
}

impl Over {
    /// The wait in whole seconds, rounded up, at least 1: the value of `Retry-After`.
    #[must_use]
    pub fn retry_after_seconds(&self) -> u64 {
        whole_seconds(self.retry_after).max(1)
    }
}

/// How a limit stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    pub scope: LimitScope,
    pub rate: Rate,
    /// Calls that count now.
    pub used: u32,
    /// Until the oldest call that counts no longer does; zero where none counts.
    pub reset_after: Duration,
}

impl Standing {
    /// Calls that are left now.
    #[must_use]
    pub fn remaining(&self) -> u32 {
        self.rate.count.saturating_sub(self.used)
    }

    /// [`Self::reset_after`] in whole seconds, rounded up.
    #[must_use]
    pub fn reset_after_seconds(&self) -> u64 {
        whole_seconds(self.reset_after)
    }
}

fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

/// The windows of every limit, in memory.
#[derive(Debug, Default)]
pub struct Ledger {
    hasher: RandomState,
    shards: [Mutex<Shard>; SHARDS],
}

const SHARDS: usize = 16;
/// A shard smaller than this is not worth sweeping.
const LEAST_SWEEP: usize = 64;

/// The windows of a part of the scopes.
#[derive(Debug, Default)]
struct Shard {
    // A scope has one window but for the time after a reload that changed its length.
    scopes: HashMap<LimitScope, Vec<Window>>,
    sweep_at: usize,
}

/// The calls that count, oldest first; at most as many as the limit allows.
#[derive(Debug)]
struct Window {
    length: u64,
    stamps: VecDeque<u64>,
}

impl Ledger {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Charges one call to all of `charges`, or to none where one is used up.
    ///
    /// # Errors
    /// The limit that takes longest to have room again.
    pub fn charge(&self, charges: &[Charge], now: u64) -> Result<(), Over> {
        let mut locked = self.lock(charges);
        locked.check(charges, now)?;
        for charge in charges {
            if let Some(shard) = locked.shard_mut(&charge.scope) {
                shard.push(charge, now);
            }
        }
        Ok(())
    }

    /// What [`Self::charge`] would answer, with nothing charged.
    ///
    /// # Errors
    /// As [`Self::charge`].
    pub fn peek(&self, charges: &[Charge], now: u64) -> Result<(), Over> {
        self.lock(charges).check(charges, now)
    }

    /// How one limit stands.
    #[must_use]
    pub fn standing(&self, charge: &Charge, now: u64) -> Standing {
        let locked = self.lock(std::slice::from_ref(charge));
        let (used, oldest) = locked.window(charge).map_or((0, None), |window| {
            let expired = window.expired(now);
            (window.stamps.len() - expired, window.stamps.get(expired).copied())
        });
        Standing {
            scope: charge.scope.clone(),
            rate: charge.rate,
            used: u32::try_from(used).unwrap_or(u32::MAX),
            reset_after: oldest.map_or(Duration::ZERO, |oldest| wait_for(oldest, micros(charge.rate.window), now)),
        }
    }

    /// Of several limits the one that is nearest to its end: the fewest calls left, then the longest until reset.
    #[must_use]
    pub fn nearest(&self, charges: &[Charge], now: u64) -> Option<Standing> {
        let standings = charges.iter().map(|charge| self.standing(charge, now));
        standings.min_by_key(|standing| (standing.remaining(), std::cmp::Reverse(standing.reset_after)))
    }

    /// Locks the shards of all `charges`, in the order of the shards, so two callers never wait for each other.
    fn lock(&self, charges: &[Charge]) -> Locked<'_> {
        let mut wanted = [false; SHARDS];
        for charge in charges {
            if let Some(flag) = wanted.get_mut(self.shard_of(&charge.scope)) {
                *flag = true;
            }
        }
        let mut guards = <[Option<MutexGuard<'_, Shard>>; SHARDS]>::default();
        for ((guard, shard), wanted) in guards.iter_mut().zip(&self.shards).zip(wanted) {
            // A holder that panicked left whole stamps behind.
            *guard = wanted.then(|| shard.lock().unwrap_or_else(PoisonError::into_inner));
        }
        Locked { ledger: self, guards }
    }

    fn shard_of(&self, scope: &LimitScope) -> usize {
        usize::try_from(self.hasher.hash_one(scope) % SHARDS as u64).unwrap_or(0)
    }
}

/// The shards of some charges, held together.
struct Locked<'a> {
    ledger: &'a Ledger,
    guards: [Option<MutexGuard<'a, Shard>>; SHARDS],
}

impl Locked<'_> {
    fn shard_mut(&mut self, scope: &LimitScope) -> Option<&mut Shard> {
        self.guards.get_mut(self.ledger.shard_of(scope))?.as_deref_mut()
    }

    fn window(&self, charge: &Charge) -> Option<&Window> {
        let shard = self.guards.get(self.ledger.shard_of(&charge.scope))?.as_deref()?;
        let length = micros(charge.rate.window);
        shard.scopes.get(&charge.scope)?.iter().find(|window| window.length == length)
    }

    fn check(&self, charges: &[Charge], now: u64) -> Result<(), Over> {
        let mut worst: Option<Over> = None;
        for (at, charge) in charges.iter().enumerate() {
            // The same window named twice needs two places.
            let earlier = charges
                .iter()
                .take(at)
                .filter(|other| other.scope == charge.scope && other.rate.window == charge.rate.window);
            let Some(retry_after) = self.wait(charge, earlier.count(), now) else { continue };
            if worst.as_ref().is_none_or(|worst| worst.retry_after < retry_after) {
                worst = Some(Over { scope: charge.scope.clone(), rate: charge.rate, retry_after });
            }
        }
        worst.map_or(Ok(()), Err)
    }

    /// How long until there is room for one more after `earlier`; nothing where there is.
    fn wait(&self, charge: &Charge, earlier: usize, now: u64) -> Option<Duration> {
        let length = micros(charge.rate.window);
        let count = usize::try_from(charge.rate.count).unwrap_or(usize::MAX);
        if earlier >= count {
            // Never enough room: the best advice is to come back after a window.
            return Some(charge.rate.window.max(Duration::from_micros(1)));
        }
        let window = self.window(charge)?;
        // The newest of the calls that have to leave first.
        let blocking = window.stamps.len().checked_sub(count - earlier)?;
        let stamp = window.stamps.get(blocking).copied()?;
        let wait = wait_for(stamp, length, now);
        (!wait.is_zero()).then_some(wait)
    }
}

impl Shard {
    fn push(&mut self, charge: &Charge, now: u64) {
        if self.scopes.len() >= self.sweep_at.max(LEAST_SWEEP) {
            self.sweep(now);
        }
        let length = micros(charge.rate.window);
        if let Some(windows) = self.scopes.get_mut(&charge.scope) {
            if let Some(window) = windows.iter_mut().find(|window| window.length == length) {
                window.push(now);
                return;
            }
            windows.retain(|window| !window.is_over(now));
        }
        let fresh = Window { length, stamps: VecDeque::from([now]) };
        self.scopes.entry(charge.scope.clone()).or_default().push(fresh);
    }

    /// Drops the windows in which nothing counts any more. Waiting until the shard has doubled makes it cheap.
    fn sweep(&mut self, now: u64) {
        self.scopes.retain(|_, windows| {
            windows.retain(|window| !window.is_over(now));
            !windows.is_empty()
        });
        self.sweep_at = self.scopes.len().saturating_mul(2);
    }
}

impl Window {
    /// How many of the oldest calls no longer count.
    fn expired(&self, now: u64) -> usize {
        self.stamps.partition_point(|stamp| stamp.saturating_add(self.length) <= now)
    }

    fn is_over(&self, now: u64) -> bool {
        self.expired(now) == self.stamps.len()
    }

    fn push(&mut self, now: u64) {
        self.stamps.drain(..self.expired(now));
        // Two callers may come in another order than they read the clock: the later stamp is the stricter one.
        let stamp = self.stamps.back().copied().unwrap_or(now).max(now);
        self.stamps.push_back(stamp);
    }
}

fn wait_for(stamp: u64, length: u64, now: u64) -> Duration {
    Duration::from_micros(stamp.saturating_add(length).saturating_sub(now))
}

/// In whole microseconds, rounded up: a window is never shorter than it was asked to be.
fn micros(window: Duration) -> u64 {
    u64::try_from(window.as_nanos().div_ceil(1000)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
