//! Calls through `gateway_invoke`: what the backend gets, what comes back, and what is refused before.

mod arguments;
mod cache;
mod cancel;
mod faults;
mod golden;
mod isolation;
mod limits;
mod refusals;
mod visibility;
