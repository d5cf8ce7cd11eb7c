//! A process for each launch of a latency case.
//!
//! What was measured in one process shares its memory layout, its caches and
//! its minute; how far that reaches only another process can say. The parent
//! writes a [`Job`] to the child's standard input and reads the same records
//! from its standard output that a run folder holds, so a child that dies costs
//! its case and nothing else.

mod noise;
mod process;
mod slow;

pub use noise::Watch;
pub use process::{Worker, program_or_this};
pub use slow::{Slow, SlowStage, Slowed};

use serde::{Deserialize, Serialize};

use crate::config::Overrides;
use crate::measure::latency::Earlier;

/// Changes with what a job or its answer means.
pub const PROTOCOL: u32 = 1;

/// What a child is to measure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Job {
    /// [`PROTOCOL`].
    pub protocol: u32,
    /// Experiment, a path or a name.
    pub experiment: String,
    /// Flags that beat it.
    pub flags: Overrides,
    /// Its cases to measure, alternately if there are several.
    pub cases: Vec<JobCase>,
    /// Whether repetitions wait for a line of standard input, which says how
    /// many, until its end; else the experiment's rule says when it is enough.
    pub paced: bool,
    /// Extra work.
    pub slow: Option<Slow>,
}

/// A case of a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobCase {
    /// Its id.
    pub id: String,
    /// Number of the launch.
    pub launch: u32,
    /// What a launch that was interrupted measured of it.
    pub earlier: Earlier,
}
