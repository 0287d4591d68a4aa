//! Floor 3: what the operator wrote, as it is meant.
//!
//! Text becomes [`Settings`] in one step that reports every fault with its file and line; nothing above this floor
//! sees raw configuration, and nothing but this floor and the command line reads the environment.

pub mod approvals;
mod dlp;
pub mod evals;
pub mod file;
pub mod profiles;
pub mod providers;
pub mod reader;
pub mod settings;
pub mod telemetry;
pub mod tls;
pub mod tokens;
mod transport;

pub use profiles::Profiles;
pub use reader::{Fault, Faults};
pub use settings::{Permissions, ServerSettings, SessionsOf, Settings, Transport};
pub use tls::Ca;
