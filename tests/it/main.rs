//! The gateway as a whole: over real sockets, in front of real and scripted backends, and as the real program.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test harness: what goes wrong fails the test"
)]

mod support;

mod approvals;
mod audit;
mod brain;
mod channels;
mod cli;
mod connections;
mod coverage;
mod dense;
mod dlp;
mod docs;
mod evals;
mod floors;
mod fuzz;
mod hostile;
mod insight;
mod invoke;
mod keys;
mod matrix;
mod mcp;
mod parity;
mod peers;
mod policy;
mod preflight;
mod providers;
mod readable;
mod readiness;
mod reading;
mod relay;
mod reload;
mod rest;
mod search;
mod shield;
mod shutdown;
mod stdio;
mod tls;
mod tokens;
