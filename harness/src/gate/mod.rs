//! The gate: launches of a base and a candidate side by side, controls of the
//! sitting beside them.
//!
//! [`vlmbench_reports::gate`] says what follows from the launches; here they are
//! made.

mod arm;
mod block;
mod sitting;

pub use arm::{Arm, Cases, Timed, experiment_of, matched};
pub use block::Measured;
pub use sitting::{Blocks, Sitting, is_decided, null, regressed, slowed};
