//! Floor 1: the words of the product. Plain data, no I/O, no clock but the one in [`clock`].

pub mod audit;
pub mod call;
pub mod clock;
pub mod crowd;
pub mod decision;
pub mod glob;
pub mod id;
pub mod json;
pub mod net;
pub mod outcome;
pub mod principal;
pub mod secret;
pub mod strict;
pub mod tool;
