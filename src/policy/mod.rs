//! Floor 2: what may be called, by whom. Cedar underneath; pure, sync and total: no I/O, no clock, nothing awaited.
//!
//! [`PolicySource`]s compile to a [`Bundle`]; a bundle and the tools of a catalogue build [`Policies`], which turn a
//! [`Call`] into a [`Decision`]. Slow work (parsing, validation) happens in the first two steps, off the request path.

mod annotations;
mod bundle;
mod call;
mod check;
mod decide;
mod deep;
pub mod effects;
mod evaluate;
mod input;
mod names;
mod readable;
mod reads;
mod rewrite;
mod schema;
mod scope;
mod slice;
mod snapshot;
mod source;
mod subject;
#[cfg(test)]
mod tests;
mod visible;
mod who;

pub use bundle::{Bundle, Policy};
pub use call::{Approvers, Call, Decision, PendingCall, PermittedCall};
pub use check::{LeftOutArgument, Report, check};
pub use decide::{Facts, refused_by, refused_by_profile};
pub use snapshot::Policies;
pub use source::{PolicyFault, PolicySource};
pub use visible::View;
