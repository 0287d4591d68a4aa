//! Backends as they come: well-behaved, broken and hostile.

mod http;
mod peer;
mod real;
mod stdio;
