//! Sessions: graphs that ONNX Runtime has loaded.

use std::path::Path;

use ort::environment::Environment;
use ort::ep;
use ort::session::Session;
use ort::session::builder::GraphOptimizationLevel;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::nets::registry::unknown;

/// What ONNX Runtime may do to a graph before it runs it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Optimization {
    /// Nothing.
    Disabled,
    /// Simplifications that keep every operator standard.
    Basic,
    /// Fused operators as well.
    Extended,
    /// Layouts as well: the runtime's default.
    #[default]
    All,
}

impl Optimization {
    /// All levels, from the least on.
    pub const ALL: [Optimization; 4] = [
        Optimization::Disabled,
        Optimization::Basic,
        Optimization::Extended,
        Optimization::All,
    ];

    /// Lower-case name.
    pub fn name(self) -> &'static str {
        match self {
            Optimization::Disabled => "disabled",
            Optimization::Basic => "basic",
            Optimization::Extended => "extended",
            Optimization::All => "all",
        }
    }
}

impl std::str::FromStr for Optimization {
    type Err = Error;

    fn from_str(s: &str) -> Result<Optimization> {
        let all = Optimization::ALL;
        all.into_iter()
            .find(|o| o.name() == s)
            .ok_or_else(|| unknown("graph optimisation", s, &all.map(Optimization::name)))
    }
}

/// Settings of ONNX Runtime's sessions.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// What may be done to the graph.
    pub optimization: Optimization,
    /// Whether activations come from a pool of memory that only grows.
    pub arena: bool,
    /// Which of several published graphs to run: what stands after the
    /// underscore in their names, such as `q4` or `int8`. By default the one
    /// of the precision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl Default for Settings {
    /// As the runtime has it by itself.
    fn default() -> Settings {
        Settings {
            optimization: Optimization::All,
            arena: true,
            variant: None,
        }
    }
}

/// An error of the runtime in one of this crate's.
pub fn failed<R>(what: &str, e: ort::Error<R>) -> Error {
    Error::OnnxRuntime {
        what: what.to_owned(),
        problem: e.message().trim().to_owned(),
    }
}

/// Loads the graph at `path` on the CPU with `threads` threads.
pub fn open(
    environment: &Environment,
    path: &Path,
    threads: usize,
    settings: &Settings,
) -> Result<Session> {
    let level = match settings.optimization {
        Optimization::Disabled => GraphOptimizationLevel::Disable,
        Optimization::Basic => GraphOptimizationLevel::Level1,
        Optimization::Extended => GraphOptimizationLevel::Level2,
        Optimization::All => GraphOptimizationLevel::All,
    };
    let what = path.display().to_string();
    let cpu = ep::CPU::default().with_arena_allocator(settings.arena);
    let builder = Session::builder(environment).map_err(|e| failed(&what, e))?;
    let mut builder = builder
        .with_optimization_level(level)
        .and_then(|b| b.with_intra_threads(threads))
        .and_then(|b| b.with_inter_threads(1))
        .and_then(|b| b.with_parallel_execution(false))
        // Threads spin within a run, as by default, and stop with it: another
        // engine may be measured next.
        .and_then(|b| b.with_config_entry("session.force_spinning_stop", "1"))
        .and_then(|b| b.with_execution_providers([cpu.build().error_on_failure()]))
        .map_err(|e| failed(&what, e))?;
    builder
        .commit_from_file(path)
        .map_err(|e| Error::LoadGraph {
            path: path.to_path_buf(),
            problem: e.message().trim().to_owned(),
        })
}
