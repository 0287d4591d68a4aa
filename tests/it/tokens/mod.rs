//! Tokens of somebody else: those that callers bring for a server, and those that open an endpoint in place of keys.

mod endpoint;
mod server;
