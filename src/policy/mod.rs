//! (empty)
pub mod effects;
