//! How latencies went over commits: a store of runs, and where it changed for good.
//!
//! | file | question |
//! | :-- | :-- |
//! | `store` | what was measured, at which commit, on which machine? One line a figure, append-only |
//! | `series` | which of it may be compared? Same case, figure, machine, engine and experiment |
//! | `detect` | the one place where the detector of change points is plugged in |
//! | `check` | between which commits did a figure change, and is it slower now? |
//! | `plot` | the same as a picture |
//!
//! A history finds slow drift and says where to look; whether one change made something slower is
//! better asked of a comparison in pairs ([`crate::gate`]).

mod check;
mod detect;
mod plot;
mod series;
mod store;
#[cfg(test)]
mod tests;

pub use check::{Change, Rules, changes, session_spread, slower_now};
pub use detect::{Detector, detect};
pub use plot::pictures;
pub use series::{Conditions, Series, series};
pub use store::{Entry, FORMAT, HISTORY_FILE, Store, entries, fingerprint};
