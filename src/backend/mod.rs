//! Floor 4: everything behind the gateway.

mod ask;
mod breaker;
mod cache;
mod catalog;
mod deadline;
mod definition;
mod example;
mod fault;
mod mirror;
mod names;
mod probe;
mod resolve;
mod transport;
mod validator;

pub use breaker::{BreakerState, BreakerView};
pub use catalog::{Catalog, Entry, ServerCard};
pub use names::{colliding, flat_name};
pub use resolve::Resolved;
