//! Credentials at rest: documents that are sealed (ChaCha20-Poly1305) with a secret of the data folder, each to its own
//! kind and name, so that a copy of the database is worthless and one row cannot stand in for another.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use bytes::Bytes;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use rusqlite::{Connection, params};
use zeroize::Zeroizing;

use super::approvals::SEALED as ARGUMENTS;
use super::documents;
use super::files::{self, Key32};
use super::{Store, StoreError};
use crate::domain::secret::Secret;

/// The secret that seals, and the one before it while documents are sealed anew.
const SECRET: &str = "credentials";
const OLD_SECRET: &str = "credentials-old";

/// The keys that the configuration gives: the first one seals, all open.
#[derive(Default)]
pub(super) struct SealingKeys {
    keys: ArcSwap<Vec<Key32>>,
    /// Held while something is sealed and queued, and while the secret is replaced.
    turn: Mutex<()>,
}

impl std::fmt::Debug for SealingKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("SealingKeys").field(&self.keys.load().len()).finish()
    }
}

/// What came of sealing anew.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Resealed {
    /// Documents that are sealed with the new key now.
    pub changed: usize,
    /// Documents that no key opens.
    pub lost: usize,
}

impl Store {
    /// Seals with the first of these keys from now on, and opens with all of them; without any, with the secret of the
    /// data folder.
    pub fn seal_with(&self, keys: &[Secret]) {
        let derive = |key: &Secret| {
            let keyed = hmac::Key::new(hmac::HMAC_SHA256, b"toolgate credentials");
            let tag = hmac::sign(&keyed, key.expose().as_bytes());
            Zeroizing::new(<[u8; 32]>::try_from(tag.as_ref()).unwrap_or_default())
        };
        self.0.sealing.keys.store(Arc::new(keys.iter().map(derive).collect()));
    }

    /// Keeps a document sealed, in place of an older one of the same kind and name.
    ///
    /// # Errors
    /// Where it was not sealed, or not committed.
    pub async fn put_sealed(&self, kind: &'static str, name: &str, body: &[u8]) -> Result<(), StoreError> {
        let key = name.to_owned();
        let put = move |connection: &Connection, body: Vec<u8>| documents::put(connection, kind, &key, &body);
        self.write_sealed(kind, name, body, put).await
    }

    /// Seals a text for its own place, and writes it. It is in the queue before the secret can be replaced: whoever does
    /// that finds it written, and seals it anew.
    pub(super) async fn write_sealed<T, F>(&self, kind: &str, name: &str, body: &[u8], act: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection, Vec<u8>) -> rusqlite::Result<T> + Send + 'static,
    {
        let written = {
            let _turn = self.0.sealing.turn.lock().unwrap_or_else(PoisonError::into_inner);
            let sealed = self.seal(kind, name, body)?;
            self.writer().queue(move |connection| act(connection, sealed))?
        };
        written.await.map_err(|_| StoreError::Closed)?
    }

    /// The sealed document of this kind and name; none where it cannot be opened: under another secret it is not ours.
    ///
    /// # Errors
    /// Where the store or the secret cannot be read.
    pub async fn fetch_sealed(&self, kind: &'static str, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
        let Some(whole) = self.fetch(kind, name).await? else { return Ok(None) };
        self.unseal(kind, name, &whole)
    }

    fn seal(&self, kind: &str, name: &str, body: &[u8]) -> Result<Vec<u8>, StoreError> {
        self.seal_by(&self.sealing_key()?, kind, name, body)
    }

    /// Opens what was sealed for this place; none where it was not.
    pub(super) fn unseal(
        &self,
        kind: &str,
        name: &str,
        whole: &[u8],
    ) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
        Ok(self.opening_keys()?.iter().find_map(|key| opened(key, kind, name, whole)))
    }

    /// Puts a new secret in the place of the data folder's, and seals the documents of these kinds with it.
    ///
    /// # Errors
    /// Where the configuration gives the keys, or something cannot be written; another try goes on where this one stopped.
    pub async fn rotate_sealing_secret(&self, kinds: &[&'static str]) -> Result<Resealed, StoreError> {
        if !self.0.sealing.keys.load().is_empty() {
            return Err(
                self.unsealable("the configuration gives the keys: put a new one before them in `credentials_keys`")
            );
        }
        // Where an earlier try stopped half-way, there is still an older secret, and what it seals.
        self.reseal(kinds).await?;
        self.replace_secret()?;
        // What was sealed with the old one and waits to be written is written before this.
        self.write(|_| Ok(())).await?;
        self.reseal(kinds).await
    }

    fn replace_secret(&self) -> Result<(), StoreError> {
        let _turn = self.0.sealing.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let current = self.secret(SECRET)?;
        let failed = |path: &PathBuf, error: &std::io::Error| StoreError::file(path, error);
        let (old, path) = (self.secret_file(OLD_SECRET), self.secret_file(SECRET));
        files::replace(&old, current.as_ref()).map_err(|error| failed(&old, &error))?;
        let mut fresh: Key32 = Zeroizing::new([0; 32]);
        SystemRandom::new().fill(fresh.as_mut()).map_err(|_| self.unsealable("the system gives no random bytes"))?;
        files::replace(&path, fresh.as_ref()).map_err(|error| failed(&path, &error))
    }

    /// Seals anew what an older key has sealed. The older secret of the data folder goes when nothing needs it.
    ///
    /// # Errors
    /// Where something cannot be read or written; what is done stays done.
    pub async fn reseal(&self, kinds: &[&'static str]) -> Result<Resealed, StoreError> {
        let mut done = Resealed::default();
        let mut sealed = self.sealed_arguments().await?;
        for kind in kinds {
            sealed.extend(self.list(kind).await?.into_iter().map(|(name, whole)| (*kind, name, whole)));
        }
        for (kind, name, whole) in sealed {
            let (current, openers) = (self.sealing_key()?, self.opening_keys()?);
            if opened(&current, kind, &name, &whole).is_some() {
                continue;
            }
            let Some(text) = openers.iter().find_map(|key| opened(key, kind, &name, &whole)) else {
                done.lost += 1;
                continue;
            };
            done.changed += usize::from(self.put_in_place_of(kind, name, whole, &text).await?);
        }
        match std::fs::remove_file(self.secret_file(OLD_SECRET)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(StoreError::file(&self.secret_file(OLD_SECRET), &error))
            }
            _ => Ok(done),
        }
    }

    /// The arguments of calls that wait for a person.
    async fn sealed_arguments(&self) -> Result<Vec<(&'static str, String, Bytes)>, StoreError> {
        let sql = "SELECT id, arguments FROM approvals WHERE arguments IS NOT NULL";
        let read = move |connection: &Connection| {
            let mut statement = connection.prepare_cached(sql)?;
            let row = |row: &rusqlite::Row<'_>| Ok((ARGUMENTS, row.get(0)?, Bytes::from(row.get::<_, Vec<u8>>(1)?)));
            statement.query_map([], row)?.collect()
        };
        self.readers().read(read).await
    }

    /// False where somebody has changed it meanwhile: then it is sealed with the new key already.
    async fn put_in_place_of(
        &self,
        kind: &'static str,
        name: String,
        old: Bytes,
        text: &[u8],
    ) -> Result<bool, StoreError> {
        let place = name.clone();
        let replace = move |connection: &Connection, new: Vec<u8>| -> rusqlite::Result<bool> {
            let changed = if kind == ARGUMENTS {
                let sql = "UPDATE approvals SET arguments = ?1 WHERE id = ?2 AND arguments = ?3";
                connection.prepare_cached(sql)?.execute(params![new, name, &*old])?
            } else {
                let sql = "UPDATE documents SET body = ?1 WHERE name = ?2 AND body = ?3 AND kind = ?4";
                connection.prepare_cached(sql)?.execute(params![new, name, &*old, kind])?
            };
            Ok(changed > 0)
        };
        self.write_sealed(kind, &place, text, replace).await
    }

    fn seal_by(&self, key: &LessSafeKey, kind: &str, name: &str, body: &[u8]) -> Result<Vec<u8>, StoreError> {
        let mut nonce = [0_u8; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).map_err(|_| self.unsealable("the system gives no random bytes"))?;
        let mut sealed = body.to_vec();
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad(kind, name), &mut sealed)
            .map_err(|_| self.unsealable("it cannot seal"))?;
        let mut whole = nonce.to_vec();
        whole.append(&mut sealed);
        Ok(whole)
    }

    fn sealing_key(&self) -> Result<LessSafeKey, StoreError> {
        match self.0.sealing.keys.load().first() {
            Some(configured) => self.key(configured),
            None => self.key(&self.secret(SECRET)?),
        }
    }

    /// Every key that may have sealed something, the present one first.
    fn opening_keys(&self) -> Result<Vec<LessSafeKey>, StoreError> {
        let mut keys = vec![self.sealing_key()?];
        for configured in self.0.sealing.keys.load().iter().skip(1) {
            keys.push(self.key(configured)?);
        }
        for name in [SECRET, OLD_SECRET] {
            if self.secret_file(name).exists() {
                keys.push(self.key(&self.secret(name)?)?);
            }
        }
        Ok(keys)
    }

    fn key(&self, secret: &Key32) -> Result<LessSafeKey, StoreError> {
        let key = UnboundKey::new(&CHACHA20_POLY1305, secret.as_ref());
        key.map(LessSafeKey::new).map_err(|_| self.unsealable("it is no key"))
    }

    fn secret_file(&self, name: &str) -> PathBuf {
        self.0.folder.join(format!("{name}.secret"))
    }

    fn unsealable(&self, reason: &str) -> StoreError {
        StoreError::File { path: self.secret_file(SECRET), reason: reason.into() }
    }
}

fn opened(key: &LessSafeKey, kind: &str, name: &str, whole: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (nonce, sealed) = whole.split_at_checked(NONCE_LEN)?;
    let mut sealed = Zeroizing::new(sealed.to_vec());
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    let length = key.open_in_place(nonce, aad(kind, name), &mut sealed).ok()?.len();
    sealed.truncate(length);
    Some(sealed)
}

fn aad(kind: &str, name: &str) -> Aad<Vec<u8>> {
    Aad::from(format!("{kind}\n{name}").into_bytes())
}

#[cfg(test)]
mod tests {
    use super::super::Durability;
    use super::*;

    #[tokio::test]
    async fn what_is_sealed_is_nowhere_in_the_database_and_opens_in_its_own_place() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), Durability::Process).unwrap();
        store.put_sealed("oauth", "a", b"a token of somebody").await.unwrap();
        assert_eq!(**store.fetch_sealed("oauth", "a").await.unwrap().unwrap(), *b"a token of somebody");
        let raw = store.fetch("oauth", "a").await.unwrap().unwrap();
        assert!(!raw.windows(5).any(|bytes| bytes == b"token"));
        store.put("oauth", "b", raw.clone()).await.unwrap();
        assert!(store.fetch_sealed("oauth", "b").await.unwrap().is_none(), "another row");
        let mut altered = raw.to_vec();
        altered[NONCE_LEN] ^= 1;
        store.put("oauth", "a", altered.into()).await.unwrap();
        assert!(store.fetch_sealed("oauth", "a").await.unwrap().is_none());
        store.put("oauth", "a", raw).await.unwrap();
        store.close().await.unwrap();
        drop(store);
        std::fs::remove_file(folder.path().join("credentials.secret")).unwrap();
        let without = Store::open(folder.path(), Durability::Process).unwrap();
        assert!(without.fetch_sealed("oauth", "a").await.unwrap().is_none(), "a copy of the database alone");
    }

    const KINDS: [&str; 2] = ["oauth", "account"];

    async fn texts(store: &Store) -> Vec<Option<Vec<u8>>> {
        let mut found = Vec::new();
        for name in ["a", "b"] {
            found.push(store.fetch_sealed("account", name).await.unwrap().map(|text| text.to_vec()));
        }
        found
    }

    #[tokio::test]
    async fn a_new_secret_takes_over_and_the_old_one_goes() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), Durability::Process).unwrap();
        store.put_sealed("account", "a", b"one").await.unwrap();
        store.put_sealed("account", "b", b"two").await.unwrap();
        let before = std::fs::read(folder.path().join("credentials.secret")).unwrap();
        let raw = store.fetch("account", "a").await.unwrap().unwrap();
        assert_eq!(store.rotate_sealing_secret(&KINDS).await.unwrap(), Resealed { changed: 2, lost: 0 });
        assert_ne!(std::fs::read(folder.path().join("credentials.secret")).unwrap(), before);
        assert!(!folder.path().join("credentials-old.secret").exists());
        assert_ne!(store.fetch("account", "a").await.unwrap().unwrap(), raw);
        assert_eq!(texts(&store).await, [Some(b"one".to_vec()), Some(b"two".to_vec())]);
        // A crash between the new secret and the last document.
        store.put("account", "a", raw).await.unwrap();
        std::fs::write(folder.path().join("credentials-old.secret"), &before).unwrap();
        assert_eq!(texts(&store).await[0], Some(b"one".to_vec()), "both secrets open");
        assert_eq!(store.reseal(&KINDS).await.unwrap(), Resealed { changed: 1, lost: 0 });
        assert_eq!(texts(&store).await[0], Some(b"one".to_vec()));
    }

    #[tokio::test]
    async fn what_waits_for_a_person_is_sealed_anew_too() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), Durability::Process).unwrap();
        let sealed = store.seal(ARGUMENTS, "apr_1", b"{\"n\":1}").unwrap();
        let insert = "INSERT INTO approvals (id, call, state, key, user, created, expires, facts, arguments)
                      VALUES ('apr_1', 'c', 'pending', 'k', 'u', 0, 1, '{}', ?1)";
        store.write(move |connection| connection.execute(insert, [sealed]).map(drop)).await.unwrap();
        assert_eq!(store.rotate_sealing_secret(&KINDS).await.unwrap(), Resealed { changed: 1, lost: 0 });
        let found = store.approval_arguments(&crate::domain::id::ApprovalId::from("apr_1")).await.unwrap();
        assert_eq!(found.unwrap().as_slice(), b"{\"n\":1}");
    }

    /// Somebody else holds the file: what is sealed waits for its turn to be written.
    #[tokio::test]
    async fn what_waits_to_be_written_while_the_secret_is_replaced_is_sealed_anew() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), Durability::Process).unwrap();
        store.put_sealed("account", "a", b"one").await.unwrap();
        let other = Connection::open(folder.path().join("toolgate.db")).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        let mut waiting = std::pin::pin!(store.put_sealed("account", "b", b"two"));
        assert!(futures_util::poll!(&mut waiting).is_pending());
        let mut rotated = std::pin::pin!(store.rotate_sealing_secret(&KINDS));
        let early = tokio::time::timeout(std::time::Duration::from_millis(200), &mut rotated).await;
        assert!(early.is_err(), "it waits for what was sealed before");
        other.execute_batch("ROLLBACK").unwrap();
        waiting.await.unwrap();
        assert_eq!(rotated.await.unwrap(), Resealed { changed: 2, lost: 0 });
        assert_eq!(texts(&store).await, [Some(b"one".to_vec()), Some(b"two".to_vec())]);
    }

    #[tokio::test]
    async fn configured_keys_take_turns() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), Durability::Process).unwrap();
        store.put_sealed("account", "a", b"one").await.unwrap();
        let keys = ["a first key of thirty-two characters", "a second key of thirty-two characters"].map(Secret::new);
        let [first, second] = &keys;
        store.seal_with(std::slice::from_ref(first));
        store.put_sealed("account", "b", b"two").await.unwrap();
        assert_eq!(
            texts(&store).await,
            [Some(b"one".to_vec()), Some(b"two".to_vec())],
            "the folder's secret opens too"
        );
        assert_eq!(store.reseal(&KINDS).await.unwrap(), Resealed { changed: 1, lost: 0 });
        assert!(store.rotate_sealing_secret(&KINDS).await.is_err());
        store.seal_with(&[second.clone(), first.clone()]);
        assert_eq!(store.reseal(&KINDS).await.unwrap(), Resealed { changed: 2, lost: 0 });
        store.seal_with(std::slice::from_ref(second));
        assert_eq!(texts(&store).await, [Some(b"one".to_vec()), Some(b"two".to_vec())]);
        store.seal_with(std::slice::from_ref(first));
        assert_eq!(texts(&store).await, [None, None]);
        assert_eq!(store.reseal(&KINDS).await.unwrap(), Resealed { changed: 0, lost: 2 });
        assert!(!format!("{store:?}").contains("first key"));
    }
}
