//! The MCP endpoint: bare requests, legacy sessions, revision 2026-07-28, and what is refused at the door.

mod bare;
mod doors;
mod keys;
mod malformed;
mod modern;
mod names;
mod sessions;
mod streams;
