//! The doors over REST: shapes, statuses, headers, and what they may not tell.

mod asked;
mod directory;
mod invoke;
mod limits;
mod openapi;
mod tools;
