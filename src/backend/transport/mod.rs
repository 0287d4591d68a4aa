//! How backends are reached: one file per transport.

mod answer;
mod child;
mod client;
mod http;
mod kin;
mod stdio;

pub(crate) use self::child::{Program, Tail};
pub(crate) use self::http::HttpLink;
pub(crate) use self::stdio::StdioLink;
