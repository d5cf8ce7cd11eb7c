//! What flags say of an experiment.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// One of the two kinds of workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Only {
    /// What is timed, claims included.
    Latency,
    /// What is scored.
    Quality,
}

/// What flags say; each beats the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overrides {
    /// Run folder. Not part of the experiment: it decides nothing that is
    /// measured.
    pub out: Option<PathBuf>,
    /// Samples of every suite.
    pub limit: Option<usize>,
    /// The only engine.
    pub backend: Option<String>,
    /// The only device.
    pub device: Option<String>,
    /// Worker threads.
    pub threads: Option<usize>,
    /// One repetition of everything that is timed, and no warm-up.
    pub quick: bool,
    /// The only kind of workload.
    pub only: Option<Only>,
}

impl Overrides {
    /// The flags as arguments, for a process started by this one; without the
    /// run folder and the kind of workload.
    pub fn arguments(&self) -> Vec<String> {
        let number = |n: Option<usize>| n.map(|n| n.to_string());
        let given = [
            ("--limit", number(self.limit)),
            ("--threads", number(self.threads)),
            ("--backend", self.backend.clone()),
            ("--device", self.device.clone()),
        ];
        let given = given
            .into_iter()
            .filter_map(|(flag, value)| Some([flag.to_owned(), value?]));
        let quick = self.quick.then(|| "--quick".to_owned());
        given.flatten().chain(quick).collect()
    }
}
