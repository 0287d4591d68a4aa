//! Floor 4: who calls.
//!
//! A credential is *admitted* as a [`Principal`](crate::domain::principal::Principal) or refused with a sentence that
//! says what is wrong with it. A wrong key never falls through to another scheme or to nobody.

pub mod bearer;
mod credential;
mod grants;
pub mod jwt;
mod keyring;
mod secret_key;
pub mod session;
mod tokens;
mod uses;

pub use credential::{Credential, NewKey, NotAdmitted, NotCreated, NotIssued};
pub use keyring::Keyring;
pub use secret_key::SecretKey;
pub use tokens::Tokens;
