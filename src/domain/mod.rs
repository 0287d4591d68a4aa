//! Floor 1: the words of the product. Plain data, no I/O, no clock but the one in [`clock`].

pub mod approval;
pub mod audit;
pub mod call;
pub mod clock;
pub mod crowd;
pub mod decision;
pub mod dlp;
pub mod duration;
pub mod glob;
pub mod id;
pub mod json;
pub mod net;
pub mod outcome;
pub mod plain;
pub mod principal;
pub mod room;
pub mod secret;
pub mod sketch;
pub mod strict;
pub mod tool;
pub mod trace;
pub mod uri;
