//! The transparent route, `/v1/mcp/servers/{server}`, and the surfaces that show what stands behind the gateway.

mod asking;
mod bounds;
mod fidelity;
mod streams;
mod surfaces;
