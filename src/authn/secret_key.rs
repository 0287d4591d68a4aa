//! The form of a key: `inv_live_`, 43 characters that carry 256 random bits, 6 characters of CRC-32. Tokens have the
//! same form behind prefixes of their own.
//!
//! The prefix lets scanners find leaked keys, the checksum tells a typing error from an unknown key without a look-up.

use ring::rand::SecureRandom;

use crate::domain::secret::Secret;

/// How every key begins.
pub(super) const PREFIX: &str = "inv_live_";
/// Characters that carry 256 bits.
pub(super) const BODY: usize = 43;
const CHECK: usize = 6;
const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The text of a key whose form is right; whether anybody holds it is another matter.
#[derive(Debug, Clone)]
pub struct SecretKey(Secret);

impl SecretKey {
    /// A new key.
    ///
    /// # Errors
    /// Where the system gives no random bytes.
    pub fn mint() -> Result<Self, ring::error::Unspecified> {
        Ok(Self(sealed(PREFIX, &random::<32>(BODY)?)))
    }

    /// Reads a key: `None` where prefix, length, alphabet or checksum is wrong.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        body(text, PREFIX, BODY).map(|_| Self(Secret::new(text)))
    }

    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose()
    }

    /// The last four characters, which a list may show.
    #[must_use]
    pub fn last4(&self) -> String {
        let text = self.expose();
        text.get(text.len().saturating_sub(4)..).unwrap_or_default().to_owned()
    }
}

/// `BYTES` random bytes as `width` characters.
pub(super) fn random<const BYTES: usize>(width: usize) -> Result<String, ring::error::Unspecified> {
    let mut bits = [0u8; BYTES];
    ring::rand::SystemRandom::new().fill(&mut bits)?;
    Ok(base62(&bits, width))
}

/// A body between its prefix and its checksum.
pub(super) fn sealed(prefix: &str, body: &str) -> Secret {
    Secret::new(format!("{prefix}{body}{}", checksum(body)))
}

/// The body of a text of this form; `None` where prefix, length, alphabet or checksum is wrong.
pub(super) fn body<'t>(text: &'t str, prefix: &str, width: usize) -> Option<&'t str> {
    let rest = text.strip_prefix(prefix)?;
    if rest.len() != width + CHECK || !rest.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return None;
    }
    let (body, check) = rest.split_at(width);
    (checksum(body) == check).then_some(body)
}

fn checksum(body: &str) -> String {
    base62(&crc32fast::hash(body.as_bytes()).to_be_bytes(), CHECK)
}

/// A big-endian number in base 62, padded to `width`.
fn base62(bytes: &[u8], width: usize) -> String {
    let mut number = bytes.to_vec();
    let mut out = vec![b'0'; width];
    for place in out.iter_mut().rev() {
        let mut rest = 0u32;
        for byte in &mut number {
            let value = rest * 256 + u32::from(*byte);
            *byte = u8::try_from(value / 62).unwrap_or(u8::MAX);
            rest = value % 62;
        }
        *place = DIGITS.get(rest as usize).copied().unwrap_or(b'0');
    }
    String::from_utf8(out).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_minted_key_reads_back_and_prints_nothing() {
        let key = SecretKey::mint().unwrap();
        assert_eq!(key.expose().len(), PREFIX.len() + BODY + CHECK);
        assert!(SecretKey::parse(key.expose()).is_some());
        assert_eq!(format!("{key:?}"), "SecretKey([redacted])");
        assert_ne!(key.expose(), SecretKey::mint().unwrap().expose());
    }

    proptest! {
        #[test]
        fn one_wrong_character_is_noticed(at in 0usize..49, with in 0usize..62) {
            let key = SecretKey::mint().unwrap();
            let mut text = key.expose().as_bytes().to_vec();
            let at = PREFIX.len() + at;
            prop_assume!(text[at] != DIGITS[with]);
            text[at] = DIGITS[with];
            prop_assert!(SecretKey::parse(std::str::from_utf8(&text).unwrap()).is_none());
        }
    }
}
