//! Tokens of somebody else: those that callers bring for a server, and those that open an endpoint in place of keys, and
//! the gateway's own for backends.

mod backend;
mod endpoint;
mod server;
