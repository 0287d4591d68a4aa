//! Legacy session ids: sealed, so that they need no table.
//!
//! An id holds who opened the session, the revision it speaks and what its client can do. It outlives a restart and
//! works on every replica that has the key; to another principal it is worthless, and altered it opens nothing.

use std::ops::RangeInclusive;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::SecureRandom;

use crate::domain::clock::Moment;
use crate::domain::id::KeyId;
use crate::domain::json::Json;

/// How long an id lives.
pub const LIFETIME_MS: i64 = 30 * 24 * 3600 * 1000;
/// Bytes of a fingerprint that say whose session it was.
const KEY_BYTES: usize = 8;
const AAD: &[u8] = b"toolgate session 1";
/// Clients send an id with every request: it stays short. Capabilities that are longer count as none. Bytes.
const MAX_ID: usize = 2048;
const MAX_CAPABILITIES: usize = 1024;

/// What an id says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    pub key: KeyId,
    /// The negotiated revision.
    pub version: String,
    /// What the client declared at `initialize`, an object.
    pub capabilities: Json,
    pub issued: Moment,
}

/// What a presented id turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opened {
    /// One of this principal's.
    Valid(Session),
    /// Sealed for somebody else.
    Foreign,
    /// Cannot be opened, or too old: as good as none.
    Unreadable,
}

/// Seals and opens session ids.
#[derive(Debug)]
pub struct Sealer {
    key: LessSafeKey,
    /// Makes the nonces of names.
    names: ring::hmac::Key,
}

impl Sealer {
    /// `secret` may be any text or bytes; the key is its digest.
    ///
    /// # Errors
    /// Never with ring's own digest; the type is ring's.
    pub fn new(secret: &[u8]) -> Result<Self, ring::error::Unspecified> {
        let digest = ring::digest::digest(&ring::digest::SHA256, secret);
        let names = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, digest.as_ref());
        Ok(Self { key: LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, digest.as_ref())?), names })
    }

    /// A new id: visible ASCII.
    ///
    /// # Errors
    /// Where the system gives no random bytes.
    pub fn seal(&self, session: &Session) -> Result<String, ring::error::Unspecified> {
        let Session { issued, version, key, capabilities } = session;
        let capabilities = Some(capabilities.as_str()).filter(|text| text.len() <= MAX_CAPABILITIES).unwrap_or("{}");
        self.seal_text(AAD, &format!("{}\n{version}\n{key}\n{capabilities}", issued.0))
    }

    /// Seals a text for one purpose: it opens for no other.
    ///
    /// # Errors
    /// Where the system gives no random bytes.
    pub fn seal_text(&self, purpose: &[u8], text: &str) -> Result<String, ring::error::Unspecified> {
        let mut nonce = [0u8; NONCE_LEN];
        ring::rand::SystemRandom::new().fill(&mut nonce)?;
        self.seal_with(nonce, purpose, text)
    }

    /// Seals a name so that the same name always gives the same text. It shows which texts are equal, and nothing else.
    ///
    /// # Errors
    /// Never with ring's own ciphers; the type is ring's.
    pub fn seal_name(&self, purpose: &[u8], name: &str) -> Result<String, ring::error::Unspecified> {
        let mut context = ring::hmac::Context::with_key(&self.names);
        context.update(purpose);
        context.update(b"\n");
        context.update(name.as_bytes());
        let tag = context.sign();
        let nonce = tag.as_ref().first_chunk::<NONCE_LEN>().ok_or(ring::error::Unspecified)?;
        self.seal_with(*nonce, purpose, name)
    }

    fn seal_with(
        &self,
        nonce: [u8; NONCE_LEN],
        purpose: &[u8],
        text: &str,
    ) -> Result<String, ring::error::Unspecified> {
        let mut sealed = text.as_bytes().to_vec();
        self.key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(purpose), &mut sealed)?;
        let mut id = nonce.to_vec();
        id.append(&mut sealed);
        Ok(URL_SAFE_NO_PAD.encode(id))
    }

    /// Opens what was sealed for this purpose; `None` where it was not, or was altered.
    #[must_use]
    pub fn open_text(&self, purpose: &[u8], sealed: &str) -> Option<String> {
        let bytes = URL_SAFE_NO_PAD.decode(sealed).ok()?;
        let (nonce, sealed) = bytes.split_at_checked(NONCE_LEN)?;
        let mut sealed = sealed.to_vec();
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let plain = self.key.open_in_place(nonce, Aad::from(purpose), &mut sealed).ok()?;
        Some(std::str::from_utf8(plain).ok()?.to_owned())
    }

    /// Opens an id for a principal.
    #[must_use]
    pub fn open(&self, id: &str, principal: &KeyId, now: Moment) -> Opened {
        match self.read(id) {
            Some(session) if now.0 - session.issued.0 > LIFETIME_MS => Opened::Unreadable,
            Some(session) if session.key == *principal => Opened::Valid(session),
            Some(_) => Opened::Foreign,
            None => Opened::Unreadable,
        }
    }

    fn read(&self, id: &str) -> Option<Session> {
        if id.len() > MAX_ID {
            return None;
        }
        let plain = self.open_text(AAD, id)?;
        let mut fields = plain.split('\n');
        let issued = Moment(fields.next()?.parse().ok()?);
        let version = fields.next()?.to_owned();
        let key = KeyId::from(fields.next()?);
        let capabilities = fields.next().and_then(|text| Json::parse(text.to_owned().into()).ok());
        let capabilities = capabilities.unwrap_or_else(|| Json::from_parts(String::from("{}")));
        Some(Session { key, version, capabilities, issued })
    }
}

/// Names an id in the list of ended sessions without keeping it. Names of one key begin alike, see [`names_of`].
#[must_use]
pub fn fingerprint(key: &KeyId, id: &str) -> [u8; 32] {
    let digest = |text: &str| ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    let (key, id) = (digest(key.as_str()), digest(id));
    let mut name = [0; 32];
    let bytes = key.as_ref().iter().take(KEY_BYTES).chain(id.as_ref());
    name.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    name
}

/// The least and the greatest name that a session of the same key can have.
#[must_use]
pub fn names_of(name: &[u8; 32]) -> RangeInclusive<[u8; 32]> {
    let with = |rest: u8| std::array::from_fn(|at| name.get(at).filter(|_| at < KEY_BYTES).map_or(rest, |byte| *byte));
    with(0)..=with(u8::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn session() -> Session {
        Session {
            key: KeyId::from("key_a"),
            version: "2025-11-25".into(),
            capabilities: Json::from_parts(r#"{"roots":{}}"#.into()),
            issued: Moment(1_000),
        }
    }

    #[test]
    fn an_id_opens_for_its_principal_alone_and_across_restarts() {
        let id = Sealer::new(b"secret").unwrap().seal(&session()).unwrap();
        assert!(id.bytes().all(|byte| byte.is_ascii_graphic()));
        let later = Sealer::new(b"secret").unwrap();
        assert_eq!(later.open(&id, &KeyId::from("key_a"), Moment(2_000)), Opened::Valid(session()));
        assert_eq!(later.open(&id, &KeyId::from("key_b"), Moment(2_000)), Opened::Foreign);
        assert_eq!(later.open(&id, &KeyId::from("key_a"), Moment(LIFETIME_MS + 2_000)), Opened::Unreadable);
        assert_eq!(
            Sealer::new(b"another").unwrap().open(&id, &KeyId::from("key_a"), Moment(2_000)),
            Opened::Unreadable
        );
    }

    #[test]
    fn a_sealed_name_is_always_the_same_and_opens_for_its_purpose_alone() {
        let sealer = Sealer::new(b"secret").unwrap();
        let name = sealer.seal_name(b"task", "t1").unwrap();
        assert_eq!(name, sealer.seal_name(b"task", "t1").unwrap());
        assert_ne!(name, sealer.seal_name(b"task", "t2").unwrap());
        assert_eq!(sealer.open_text(b"task", &name).as_deref(), Some("t1"));
        assert_eq!(sealer.open_text(b"other", &name), None);
        assert_eq!(Sealer::new(b"another").unwrap().open_text(b"task", &name), None);
    }

    #[test]
    fn names_of_one_key_begin_alike() {
        let (a, b) = (KeyId::from("key_a"), KeyId::from("key_b"));
        let name = fingerprint(&a, "one");
        assert!(names_of(&name).contains(&fingerprint(&a, "two")));
        assert!(!names_of(&name).contains(&fingerprint(&b, "one")));
        assert_ne!(name, fingerprint(&a, "two"));
    }

    proptest! {
        #[test]
        fn an_altered_id_opens_nothing(at in any::<prop::sample::Index>(), with in "[A-Za-z0-9_-]") {
            let sealer = Sealer::new(b"secret").unwrap();
            let id = sealer.seal(&session()).unwrap();
            let at = at.index(id.len());
            let altered = format!("{}{with}{}", &id[..at], &id[at + 1..]);
            let opened = sealer.open(&altered, &KeyId::from("key_a"), Moment(2_000));
            // The last character may carry unused bits; the text then differs and the bytes do not.
            prop_assert!(opened == Opened::Unreadable || altered == id || at + 1 == id.len());
        }

        #[test]
        fn any_text_is_at_worst_unreadable(text in ".*") {
            prop_assert_eq!(Sealer::new(b"secret").unwrap().open(&text, &KeyId::from("key_a"), Moment(0)), Opened::Unreadable);
        }
    }
}
