//! The transparent route, `/v1/mcp/servers/{server}`, and the surfaces that show what stands behind the gateway.

mod answers;
mod asking;
mod beside;
mod bounds;
mod changes;
mod fidelity;
mod following;
mod hostile;
mod judged;
mod resuming;
mod streams;
mod surfaces;
