//! (empty)
pub mod demo;
