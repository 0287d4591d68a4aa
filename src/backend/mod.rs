//! Floor 4: everything behind the gateway.

mod ask;
mod breaker;
mod cache;
mod catalog;
mod deadline;
mod definition;
mod example;
mod fault;
mod known;
mod link;
mod meters;
mod mirror;
mod names;
mod pace;
mod probe;
mod registry;
mod resolve;
mod send;
mod server;
mod status;
mod supervisor;
#[cfg(test)]
mod tests;
mod transport;
mod validator;
mod work;

pub use breaker::{BreakerState, BreakerView};
pub use catalog::{Catalog, Entry, ServerCard};
pub use names::flat_name;
pub use registry::{Backends, Stopping};
pub use resolve::Resolved;
pub use send::SendOptions;
pub use status::{ServerState, ServerStatus};
