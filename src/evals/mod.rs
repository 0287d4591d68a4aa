//! Evaluation suites: what calls should give, whether they did, and what that is worth.
//!
//! Pure: values in, verdicts out. Nothing here calls a tool, reads a file or knows what time it is. What a suite asks may
//! come from somebody with a key, so that each part of it has a bound, and so has the work of judging one answer.

mod compare;
mod judge;
pub mod junit;
mod path;
mod read;
mod run;
mod suite;
mod table;

pub use compare::{Baseline, Comparison, Verdict, compare};
pub use judge::{Ended, Fits, Observed, judge};
pub use read::{read, read_again};
pub use run::{CaseResult, Run, score, score_value, within_room};
pub use suite::{Case, Environment, Expect, Suite, Suites};
pub use table::{Flaw, whole};
