//! The library behind the `vlmbench` binary: configuration, plan, run.
//!
//! This is the only crate that prints, reads flags, the environment and the
//! clock, and the only one that knows the other three; it translates between
//! them. [`config`] reads what people write, [`plan`] expands it into cases
//! without loading anything, [`estimate`] says how long they will take, [`audit`]
//! whether what is measured is what it seems, [`launch`] is a process for each
//! launch of a latency case, [`gate`] makes them side by side, [`cmd`] holds one
//! file per subcommand.

pub mod audit;
pub mod cmd;
pub mod config;
pub mod context;
pub mod data_ref;
pub mod error;
pub mod estimate;
pub mod gate;
pub mod launch;
pub mod machine;
pub mod measure;
pub mod model_ref;
pub mod own_files;
pub mod plan;
pub mod run;
pub mod terminal;

/// Version from the package.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Git revision of the source tree, `+changes` appended if it had uncommitted
/// ones; `None` when built outside of a checkout.
pub fn revision() -> Option<&'static str> {
    Some(env!("VLMBENCH_REVISION")).filter(|revision| !revision.is_empty())
}
