//! What parsing the arguments of one call may cost, however they are split into texts.

/// In the tokens that parsers read; one takes about a microsecond.
const FULL: usize = 96 * 1024;
/// As much as holds nobody up who waits for the same thread.
const BRIEF: usize = 2048;

/// What may still be spent.
#[derive(Debug)]
pub(super) struct Effort {
    left: usize,
    spent: bool,
}

impl Effort {
    pub(super) const fn full() -> Self {
        Self { left: FULL, spent: false }
    }

    pub(super) const fn brief() -> Self {
        Self { left: BRIEF, spent: false }
    }

    /// Takes some of it; false where there is not enough left.
    pub(super) const fn affords(&mut self, tokens: usize) -> bool {
        match self.left.checked_sub(tokens) {
            Some(left) => self.left = left,
            None => self.spent = true,
        }
        !self.spent
    }

    pub(super) const fn left(&self) -> usize {
        self.left
    }

    /// Whether something was left out.
    pub(super) const fn is_spent(&self) -> bool {
        self.spent
    }
}
