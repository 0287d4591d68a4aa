//! Credentials at rest: documents that are sealed (ChaCha20-Poly1305) with a secret of the data folder, each to its own
//! kind and name, so that a copy of the database is worthless and one row cannot stand in for another.

use bytes::Bytes;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

use super::{Store, StoreError};

/// The secret that seals.
const SECRET: &str = "credentials";

impl Store {
    /// Keeps a document sealed, in place of an older one of the same kind and name.
    ///
    /// # Errors
    /// Where it was not sealed, or not committed.
    pub async fn put_sealed(&self, kind: &'static str, name: &str, body: &[u8]) -> Result<(), StoreError> {
        self.put(kind, name, Bytes::from(self.seal(kind, name, body)?)).await
    }

    /// The sealed document of this kind and name; none where it cannot be opened: under another secret it is not ours.
    ///
    /// # Errors
    /// Where the store or the secret cannot be read.
    pub async fn fetch_sealed(&self, kind: &'static str, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
        let Some(whole) = self.fetch(kind, name).await? else { return Ok(None) };
        self.unseal(kind, name, &whole)
    }

    /// Seals a text for its own place.
    pub(super) fn seal(&self, kind: &str, name: &str, body: &[u8]) -> Result<Vec<u8>, StoreError> {
        let mut nonce = [0_u8; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).map_err(|_| self.unsealable("the system gives no random bytes"))?;
        let mut sealed = body.to_vec();
        let key = self.sealing_key()?;
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad(kind, name), &mut sealed)
            .map_err(|_| self.unsealable("it cannot seal"))?;
        let mut whole = nonce.to_vec();
        whole.append(&mut sealed);
        Ok(whole)
    }

    /// Opens what was sealed for this place; none where it was not.
    pub(super) fn unseal(
        &self,
        kind: &str,
        name: &str,
        whole: &[u8],
    ) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
        let Some((nonce, sealed)) = whole.split_at_checked(NONCE_LEN) else { return Ok(None) };
        let mut sealed = Zeroizing::new(sealed.to_vec());
        let key = self.sealing_key()?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| self.unsealable("it cannot be opened"))?;
        let length = key.open_in_place(nonce, aad(kind, name), &mut sealed).ok().map(|plain| plain.len());
        Ok(length.map(|length| {
            sealed.truncate(length);
            sealed
        }))
    }

    fn sealing_key(&self) -> Result<LessSafeKey, StoreError> {
        let secret = self.secret(SECRET)?;
        let key = UnboundKey::new(&CHACHA20_POLY1305, secret.as_ref());
        key.map(LessSafeKey::new).map_err(|_| self.unsealable("it is no key"))
    }

    fn unsealable(&self, reason: &str) -> StoreError {
        StoreError::File { path: self.0.folder.join(format!("{SECRET}.secret")), reason: reason.into() }
    }
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
}
