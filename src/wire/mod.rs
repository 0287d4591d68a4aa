//! Floor 2: bytes to words and back, for every protocol that is spoken at the doors. No I/O.

pub mod envelope;
pub mod era;
pub mod hop;
pub mod mcp;
pub mod meta;
pub mod mirror;
mod object;
pub mod reply;
pub mod rest;
pub mod rpc;
pub mod splice;
pub mod sse;
