//! The hash chain that links the audit entries.

use ring::digest::{Context, SHA256, SHA256_OUTPUT_LEN};

/// A link of the chain: SHA-256.
pub type Hash = [u8; SHA256_OUTPUT_LEN];

/// What comes before the first entry.
pub const GENESIS: Hash = [0; SHA256_OUTPUT_LEN];

/// The hash of an entry: `SHA-256(prev || entry)`, where `entry` is its exact JSON text.
#[must_use]
pub fn link(prev: &Hash, entry: &str) -> Hash {
    let mut context = Context::new(&SHA256);
    context.update(prev);
    context.update(entry.as_bytes());
    let mut hash = GENESIS;
    for (to, from) in hash.iter_mut().zip(context.finish().as_ref()) {
        *to = *from;
    }
    hash
}

/// The last entry written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tip {
    /// Counts from 1 without a gap; 0 before the first entry.
    pub seq: i64,
    pub hash: Hash,
}

impl Tip {
    /// Before the first entry.
    pub const START: Self = Self { seq: 0, hash: GENESIS };

    /// A tip whose hash is given in hexadecimal.
    #[must_use]
    pub fn at(seq: i64, hash: &str) -> Option<Self> {
        let mut bytes = GENESIS;
        let digits = hash.as_bytes().as_chunks::<2>().0;
        if hash.len() != 2 * bytes.len() {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(digits) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(Self { seq, hash: bytes })
    }
}
