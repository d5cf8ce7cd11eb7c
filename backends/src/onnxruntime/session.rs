//! Sessions: graphs that ONNX Runtime has loaded.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;

use ort::environment::Environment;
use ort::session::Session;
use ort::session::builder::{AutoDevicePolicy, GraphOptimizationLevel};
use serde::{Deserialize, Serialize};

use super::device::Device;
use crate::backend::Precision;
use crate::error::{Error, Result};
use crate::nets::registry::one_of;
use crate::onnx::Operators;

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
        one_of(
            "graph optimisation",
            s,
            Optimization::ALL,
            Optimization::name,
        )
    }
}

/// Settings of ONNX Runtime's sessions.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// What may be done to the graph.
    pub optimization: Optimization,
    /// Operators of the graphs that are recorded.
    pub operators: Operators,
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
            operators: Operators::Standard,
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

/// Where and how graphs are loaded.
pub struct Loader<'a> {
    /// The runtime.
    pub environment: &'a Environment,
    /// Device that takes them.
    pub device: Device,
    /// Of weights and activations.
    pub precision: Precision,
    /// Threads of every session.
    pub threads: usize,
    /// Session settings.
    pub settings: &'a Settings,
    /// Nodes loaded so far by the provider that runs them.
    pub nodes: RefCell<BTreeMap<String, usize>>,
}

impl Loader<'_> {
    /// Loads the graph at `path`; an error if its work is not all on the
    /// device.
    pub fn open(&self, path: &Path) -> Result<Session> {
        let session = open(self, path)?;
        let mut nodes = self.nodes.borrow_mut();
        for (provider, count) in self.device.check(&session, path)? {
            *nodes.entry(provider).or_default() += count;
        }
        Ok(session)
    }
}

fn open(loader: &Loader<'_>, path: &Path) -> Result<Session> {
    let settings = loader.settings;
    let level = match settings.optimization {
        Optimization::Disabled => GraphOptimizationLevel::Disable,
        Optimization::Basic => GraphOptimizationLevel::Level1,
        Optimization::Extended => GraphOptimizationLevel::Level2,
        Optimization::All => GraphOptimizationLevel::All,
    };
    let what = path.display().to_string();
    let builder = Session::builder(loader.environment).map_err(|e| failed(&what, e))?;
    let mut builder = builder
        .with_optimization_level(level)
        .and_then(|b| b.with_intra_threads(loader.threads))
        .and_then(|b| b.with_inter_threads(1))
        .and_then(|b| b.with_parallel_execution(false))
        // Threads spin within a run, as by default, and stop with it: another
        // engine may be measured next.
        .and_then(|b| b.with_config_entry("session.force_spinning_stop", "1"))
        .and_then(|b| b.with_config_entry("session.record_ep_graph_assignment_info", "1"))
        // Only the device asked for, never one that the runtime would choose.
        .and_then(|b| b.with_auto_device(AutoDevicePolicy::PreferCPU))
        .and_then(|b| b.with_execution_providers(loader.device.providers(settings)))
        .map_err(|e| failed(&what, e))?;
    builder
        .commit_from_file(path)
        .map_err(|e| Error::LoadGraph {
            path: path.to_path_buf(),
            problem: e.message().trim().to_owned(),
        })
}
