//! Toolgate: one governed MCP endpoint in front of every tool.
//!
//! A request's credential is *admitted* as a `Principal`; its `CallRequest` is *resolved* to a `Call`, *decided* by
//! the policy, and only a `PermittedCall` is *sent*; the `Outcome` closes the record. [`pipeline`] is that sentence.
//!
//! The floors, from the ground up; a module uses only what lies below it (held by `tests/it/floors.rs`):

// 1: words
pub mod domain;
// 2: pure judgement, and bytes to words
pub mod evals;
pub mod policy;
pub mod scan;
pub mod search;
pub mod wire;
// 3: what is configured, what is kept, what is fetched
pub mod config;
pub mod fetch;
pub mod store;
// 4: who calls, who answers, what is known, charged, approved, recorded, told
pub mod approvals;
pub mod authn;
pub mod backend;
pub mod brain;
pub mod journal;
pub mod ledger;
pub mod telemetry;
// 5: the sentence
pub mod pipeline;
// 6: the gateway's own tools
pub mod own;
// 7: everything together
pub mod gateway;
// 8: the doors over HTTP
pub mod http;
// 9: the command line
pub mod cli;
