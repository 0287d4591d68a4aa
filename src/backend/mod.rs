//! Floor 4: everything behind the gateway.

mod ask;
mod breaker;
mod cache;
mod catalog;
mod deadline;
mod definition;
mod example;
mod facts;
mod fault;
mod known;
mod link;
mod lists;
mod meters;
mod names;
mod oauth;
mod pace;
mod peer;
mod places;
mod probe;
mod registry;
mod relay;
mod resolve;
mod rounds;
mod send;
mod server;
mod sessions;
mod status;
mod supervisor;
#[cfg(test)]
mod tests;
mod transport;
mod validator;
mod work;

pub use breaker::{BreakerState, BreakerView};
pub use catalog::{Catalog, Entry, ServerCard};
pub use facts::{Greeting, ListVersions};
pub use lists::{Items, ListKind};
pub use names::flat_name;
pub use peer::{Aside, Asides, PATIENCE, Peer, Question, asides};
pub use registry::{Backends, Stopping};
pub use relay::Passed;
pub use resolve::Resolved;
pub use rounds::MAX_QUESTIONS;
pub use send::SendOptions;
pub use sessions::Attending;
pub use status::{ServerState, ServerStatus};
