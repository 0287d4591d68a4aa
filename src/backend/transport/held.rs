//! Room for large answers: what all of them hold in memory is bounded, and nobody's answers take all of it.

use bytes::Bytes;

use crate::backend::fault::{Fault, FaultKind};
use crate::domain::id::KeyId;
use crate::domain::json::LARGE;
use crate::domain::room::{Room, Taken};

/// Room is taken in pieces of so many bytes.
const PIECE: usize = 1 << 20;
/// Bytes that large answers to one key, and to all keys, may have in memory until they are written. While an answer is
/// written there is a copy of it.
pub(crate) const OF_KEY: usize = 128 << 20;
pub(crate) const OF_ALL: usize = 256 << 20;

/// Whose answer it is, and the room that there is.
#[derive(Debug, Clone)]
pub(crate) struct Allowance {
    pub room: Room<KeyId>,
    pub key: KeyId,
}

/// What one answer takes, while it is read and for as long as any part of it lives.
#[derive(Debug, Default)]
pub(crate) struct Held {
    allowance: Option<Allowance>,
    taken: Option<Taken<KeyId>>,
    bytes: usize,
}

/// Bytes with the room that they take.
struct Kept(Bytes, #[expect(dead_code, reason = "it is given back when this is dropped")] Taken<KeyId>);

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Held {
    pub(crate) const fn new(allowance: Option<Allowance>) -> Self {
        Self { allowance, taken: None, bytes: 0 }
    }

    /// The answer has grown to so many bytes.
    ///
    /// # Errors
    /// Where there is no room for it.
    pub(crate) fn reaches(&mut self, bytes: usize) -> Result<(), Fault> {
        let Some(Allowance { room, key }) = self.allowance.as_ref().filter(|_| bytes > LARGE.max(self.bytes)) else {
            return Ok(());
        };
        let wanted = bytes.next_multiple_of(PIECE);
        let more = wanted - self.bytes;
        let grown = match &mut self.taken {
            Some(taken) => taken.grow(more),
            none => {
                *none = room.take(key, more);
                none.is_some()
            }
        };
        if !grown {
            return Err(Fault::new(FaultKind::Full, "as many large answers are in memory as may be"));
        }
        self.bytes = wanted;
        Ok(())
    }

    /// The bytes that were read; they take room until the last slice of them is gone.
    pub(crate) fn keep(&mut self, bytes: Bytes) -> Bytes {
        self.bytes = 0;
        match self.taken.take() {
            Some(taken) => Bytes::from_owner(Kept(bytes, taken)),
            None => bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_answer_takes_room_until_its_last_slice_is_gone() {
        let room = Room::new(4 << 20, 8 << 20);
        let held = || Held::new(Some(Allowance { room: room.clone(), key: KeyId::from("k") }));
        let mut small = held();
        small.reaches(LARGE).unwrap();
        assert_eq!(room.total(), 0, "small answers cost nothing");
        let mut large = held();
        for bytes in (0..=(3 << 20)).step_by(64 << 10) {
            large.reaches(bytes).unwrap();
        }
        assert_eq!(room.total(), 3 << 20);
        let whole = large.keep(Bytes::from(vec![b'x'; 3 << 20]));
        let fault = held().reaches(2 << 20).unwrap_err();
        assert_eq!(fault.kind, FaultKind::Full);
        assert!(!fault.counts() && !fault.worth_repeating() && !fault.without_effect());
        let part = whole.slice(7..9);
        drop(whole);
        assert_eq!((&part[..], room.total()), (&b"xx"[..], 3 << 20));
        drop(part);
        assert_eq!(room.total(), 0);
        assert!(Held::new(None).reaches(usize::MAX).is_ok(), "the gateway's own lists have bounds of their own");
    }
}
