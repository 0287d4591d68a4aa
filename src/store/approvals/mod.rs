//! Calls that a person has to approve. Every step is one conditional change, committed before anybody acts on it, so that
//! of two that want the same one gets it.

mod record;

use rusqlite::{Connection, OptionalExtension, Row, ToSql, named_params, params};
use zeroize::Zeroizing;

use self::record::record;
pub use self::record::{
    ApprovalBound, ApprovalFacts, ApprovalFilter, ApprovalLimits, ApprovalRecord, Asked, Decided, NewApproval, Used,
};
use super::{Store, StoreError};
use crate::domain::approval::{ApprovalState, Decision};
use crate::domain::clock::Moment;
use crate::domain::id::{ApprovalId, EventId};

/// What arguments are sealed for.
pub(super) const SEALED: &str = "approval";

/// The state of a row as it is at `:now`.
const STATE: &str = "CASE WHEN state IN ('pending', 'approved') AND expires <= :now THEN 'expired' ELSE state END";

impl Store {
    /// Takes the approval of a call, where there is one; else asks for it, unless that was done.
    ///
    /// # Errors
    /// Where nothing was committed.
    pub async fn ask_approval(&self, new: NewApproval, limits: ApprovalLimits) -> Result<Asked, StoreError> {
        let id = ApprovalId::fresh();
        let (kept, place) = (new.kept.clone(), id.clone());
        let act = move |connection: &Connection, sealed: Vec<u8>| ask(connection, &id, new, &sealed, limits);
        self.write_sealed(SEALED, place.as_str(), &kept, act).await
    }

    /// A person's decision. False where the approval does not wait for one (any more).
    ///
    /// # Errors
    /// Where it was not committed.
    pub async fn decide_approval(&self, id: &ApprovalId, decision: Decision, by: Decided) -> Result<bool, StoreError> {
        let id = id.clone();
        let to = match decision {
            Decision::Approve => ApprovalState::Approved,
            Decision::Deny => ApprovalState::Denied,
        };
        self.write(move |connection| {
            let sql = "UPDATE approvals SET state = ?2, decided = ?3, decided_key = ?4, decided_user = ?5, comment = ?6
                       WHERE id = ?1 AND state = 'pending' AND expires > ?3";
            let changed = connection.prepare_cached(sql)?.execute(params![
                id.as_str(),
                to.as_str(),
                by.at.0,
                by.key.as_str(),
                by.user,
                by.comment
            ])?;
            Ok(changed > 0)
        })
        .await
    }

    /// Takes a decision back that could not be recorded and that nobody has used.
    ///
    /// # Errors
    /// Where it was not committed.
    pub async fn undecide_approval(&self, id: &ApprovalId) -> Result<bool, StoreError> {
        let sql = "UPDATE approvals SET state = 'pending', decided = NULL, decided_key = NULL, decided_user = NULL,
                   comment = NULL WHERE id = ?1 AND state IN ('approved', 'denied')";
        self.change_approval(id, sql).await
    }

    /// A call that was let go has not been sent after all: its approval stands again.
    ///
    /// # Errors
    /// Where it was not committed.
    pub async fn release_approval(&self, event: &EventId) -> Result<bool, StoreError> {
        let event = event.clone();
        let sql = "UPDATE approvals SET state = 'approved', used = NULL, used_event = NULL
                   WHERE used_event = ?1 AND state = 'executing'";
        self.write(move |connection| Ok(connection.prepare_cached(sql)?.execute([event.as_str()])? > 0)).await
    }

    /// The call of this record has ended.
    ///
    /// # Errors
    /// Where it was not committed.
    pub async fn finish_approval(
        &self,
        event: &EventId,
        to: ApprovalState,
        outcome: &'static str,
        now: Moment,
    ) -> Result<bool, StoreError> {
        let event = event.clone();
        let sql = "UPDATE approvals SET state = ?2, finished = ?3, outcome = ?4
                   WHERE used_event = ?1 AND state = 'executing'";
        self.write(move |connection| {
            let changed =
                connection.prepare_cached(sql)?.execute(params![event.as_str(), to.as_str(), now.0, outcome])?;
            Ok(changed > 0)
        })
        .await
    }

    /// Calls that a crash has left under way: nobody knows whether they took effect. Says how many; before anything is
    /// served.
    ///
    /// # Errors
    /// Where it was not committed.
    pub async fn recover_approvals(&self, now: Moment) -> Result<usize, StoreError> {
        let sql = "UPDATE approvals SET state = 'unknown', finished = ?1, outcome = 'interrupted'
                   WHERE state = 'executing'";
        self.write(move |connection| connection.execute(sql, [now.0])).await
    }

    /// Writes down which ones have expired.
    ///
    /// # Errors
    /// Where it was not committed.
    pub async fn expire_approvals(&self, now: Moment) -> Result<usize, StoreError> {
        self.write(move |connection| expire(connection, None, now)).await
    }

    async fn change_approval(&self, id: &ApprovalId, sql: &'static str) -> Result<bool, StoreError> {
        let id = id.clone();
        self.write(move |connection| Ok(connection.prepare_cached(sql)?.execute([id.as_str()])? > 0)).await
    }

    /// One of them.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub async fn approval(&self, id: &ApprovalId, now: Moment) -> Result<Option<ApprovalRecord>, StoreError> {
        let id = id.clone();
        let sql = format!("SELECT *, {STATE} AS state_now FROM approvals WHERE id = :id");
        let read = move |connection: &Connection| {
            let parameters = named_params! {":id": id.as_str(), ":now": now.0};
            connection.prepare_cached(&sql)?.query_row(parameters, record).optional()
        };
        self.readers().read(read).await
    }

    /// The one that has let the call of this record go.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub async fn approval_used_by(&self, event: &EventId) -> Result<Option<ApprovalId>, StoreError> {
        let event = event.clone();
        let read = move |connection: &Connection| {
            let sql = "SELECT id FROM approvals WHERE used_event = ?1";
            connection.prepare_cached(sql)?.query_row([event.as_str()], |row| row.get::<_, String>(0)).optional()
        };
        Ok(self.readers().read(read).await?.map(|id| ApprovalId::from(id.as_str())))
    }

    /// The canonical arguments of one, followed by what was sent beside them; none where they cannot be opened.
    ///
    /// # Errors
    /// Where the file or the secret cannot be read.
    pub async fn approval_arguments(&self, id: &ApprovalId) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
        let name = id.clone();
        let sql = "SELECT arguments FROM approvals WHERE id = ?1";
        let read = move |connection: &Connection| {
            let row = |row: &Row<'_>| row.get::<_, Option<Vec<u8>>>(0);
            connection.prepare_cached(sql)?.query_row([name.as_str()], row).optional()
        };
        let sealed = self.readers().read(read).await?.flatten();
        sealed.map_or(Ok(None), |sealed| self.unseal(SEALED, id.as_str(), &sealed))
    }

    /// A page, newest first, and whether there are more.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub async fn approvals(
        &self,
        filter: ApprovalFilter,
        limit: usize,
        now: Moment,
    ) -> Result<(Vec<ApprovalRecord>, bool), StoreError> {
        let sql = format!(
            "SELECT *, {STATE} AS state_now FROM approvals
             WHERE (:state IS NULL OR {STATE} = :state) AND (:user IS NULL OR user = :user)
               AND (:before IS NULL OR id < :before)
             ORDER BY id DESC LIMIT :limit"
        );
        let read = move |connection: &Connection| {
            let state = filter.state.map(ApprovalState::as_str);
            let before = filter.before.as_ref().map(ApprovalId::as_str);
            let most = i64::try_from(limit.saturating_add(1)).unwrap_or(i64::MAX);
            let parameters: &[(&str, &dyn ToSql)] = named_params! {
                ":state": state, ":user": filter.user, ":before": before, ":now": now.0, ":limit": most,
            };
            connection.prepare_cached(&sql)?.query_map(parameters, record)?.collect::<rusqlite::Result<Vec<_>>>()
        };
        let mut found = self.readers().read(read).await?;
        let more = found.len() > limit;
        found.truncate(limit);
        Ok((found, more))
    }
}

fn ask(
    connection: &Connection,
    id: &ApprovalId,
    new: NewApproval,
    sealed: &[u8],
    limits: ApprovalLimits,
) -> rusqlite::Result<Asked> {
    expire(connection, Some(&new.call), new.now)?;
    if let Some(known) = standing(connection, &new.call, new.now)? {
        return Ok(match known.state {
            ApprovalState::Approved => {
                let sql = "UPDATE approvals SET state = 'executing', used = ?2, used_event = ?3
                           WHERE id = ?1 AND state = 'approved'";
                let event = new.facts.event.as_str();
                connection.prepare_cached(sql)?.execute(params![known.id.as_str(), new.now.0, event])?;
                Asked::Taken { id: known.id, other_meta: known.facts.meta_digest != new.facts.meta_digest }
            }
            ApprovalState::Denied => Asked::Denied(Box::new(known)),
            _ => Asked::Waits(Box::new(known), false),
        });
    }
    if let Some((bound, pause)) = bound(connection, &new, limits)? {
        return Ok(Asked::Full(bound, pause));
    }
    insert(connection, id, new, sealed)
}

/// What stands against one more request.
fn bound(
    connection: &Connection,
    new: &NewApproval,
    limits: ApprovalLimits,
) -> rusqlite::Result<Option<(ApprovalBound, Option<i64>)>> {
    let count = |sql: &str, parameters: &[(&str, &dyn ToSql)]| {
        let count = connection.prepare_cached(sql)?.query_row(parameters, |row| row.get::<_, i64>(0))?;
        Ok::<_, rusqlite::Error>(usize::try_from(count).unwrap_or(usize::MAX))
    };
    let pending = |key: Option<&str>, user: Option<&str>| {
        let sql = "SELECT count(*) FROM approvals WHERE state = 'pending' AND expires > :now
                   AND (:key IS NULL OR key = :key) AND (:user IS NULL OR user = :user)";
        count(sql, named_params! {":now": new.now.0, ":key": key, ":user": user})
    };
    if pending(Some(new.key.as_str()), None)? >= limits.of_key {
        return Ok(Some((ApprovalBound::Key, None)));
    }
    if pending(None, Some(&new.user))? >= limits.of_user {
        return Ok(Some((ApprovalBound::User, None)));
    }
    let since = new.now.0.saturating_sub(ApprovalLimits::REMEMBERED);
    let sql = "SELECT count(*) FROM approvals WHERE user = :user AND state = 'denied' AND decided > :since";
    if count(sql, named_params! {":user": new.user, ":since": since})? >= limits.refused {
        let sql = "SELECT max(created) FROM approvals WHERE user = ?1";
        let last: Option<i64> = connection.prepare_cached(sql)?.query_row([&new.user], |row| row.get(0))?;
        let left = last.map_or(0, |last| last.saturating_add(ApprovalLimits::PAUSE).saturating_sub(new.now.0));
        if left > 0 {
            return Ok(Some((ApprovalBound::Refused, Some(left))));
        }
    }
    if pending(None, None)? >= limits.pending {
        return Ok(Some((ApprovalBound::All, None)));
    }
    Ok((!make_room(connection, limits.kept, new.now)?).then_some((ApprovalBound::Kept, None)))
}

fn insert(connection: &Connection, id: &ApprovalId, new: NewApproval, sealed: &[u8]) -> rusqlite::Result<Asked> {
    let NewApproval { call, key, user, mut facts, now, expires, .. } = new;
    let sql = "SELECT id FROM approvals WHERE call = ?1 AND state = 'unknown' ORDER BY id DESC LIMIT 1";
    let earlier = connection.prepare_cached(sql)?.query_row([&call], |row| row.get::<_, String>(0)).optional()?;
    facts.earlier = earlier.map(|id| ApprovalId::from(id.as_str()));
    let sql = "INSERT INTO approvals (id, call, state, key, user, created, expires, facts, arguments)
               VALUES (?1, ?2, 'pending', ?3, ?4, ?5, ?6, ?7, ?8)";
    let text = serde_json::to_string(&facts).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
    connection.prepare_cached(sql)?.execute(params![
        id.as_str(),
        call,
        key.as_str(),
        user,
        now.0,
        expires.0,
        text,
        sealed
    ])?;
    let (id, state) = (id.clone(), ApprovalState::Pending);
    let record = ApprovalRecord { id, state, key, user, created: now, expires, facts, decided: None, used: None };
    Ok(Asked::Waits(Box::new(record), true))
}

/// What stands about a call: a refusal before an approval before a request.
fn standing(connection: &Connection, call: &str, now: Moment) -> rusqlite::Result<Option<ApprovalRecord>> {
    let sql = "SELECT *, state AS state_now FROM approvals
               WHERE call = ?1 AND state IN ('denied', 'approved', 'pending') AND expires > ?2
               ORDER BY state = 'denied' DESC, state = 'approved' DESC, id DESC LIMIT 1";
    connection.prepare_cached(sql)?.query_row(params![call, now.0], record).optional()
}

fn expire(connection: &Connection, call: Option<&str>, now: Moment) -> rusqlite::Result<usize> {
    let sql = "UPDATE approvals SET state = 'expired'
               WHERE state IN ('pending', 'approved') AND expires <= ?1 AND (?2 IS NULL OR call = ?2)";
    connection.prepare_cached(sql)?.execute(params![now.0, call])
}

/// Forgets the oldest that have come to their end, where there are too many: last of all those of which nobody knows whether
/// they took effect, and no refusal that still stands. False where there is no room.
fn make_room(connection: &Connection, kept: usize, now: Moment) -> rusqlite::Result<bool> {
    let count: i64 = connection.prepare_cached("SELECT count(*) FROM approvals")?.query_row([], |row| row.get(0))?;
    let over = count - i64::try_from(kept).unwrap_or(i64::MAX) + 1;
    if over <= 0 {
        return Ok(true);
    }
    let sql = "DELETE FROM approvals WHERE id IN (SELECT id FROM approvals
               WHERE state IN ('expired', 'used', 'unknown')
                  OR (state IN ('denied', 'pending', 'approved') AND expires <= ?2)
               ORDER BY state = 'unknown', id LIMIT ?1)";
    let gone = connection.prepare_cached(sql)?.execute([over, now.0])?;
    Ok(i64::try_from(gone).is_ok_and(|gone| gone >= over))
}
