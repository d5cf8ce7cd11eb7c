//! Everything that can go wrong while writing, reading or rendering a run.

use std::path::{Path, PathBuf};

/// An error of this crate. Messages are fragments that chain after "failed to ...".
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused a file operation.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried: "read", "create", ...
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The folder holds something else than a run.
    #[error(
        "{path} is not a run folder: it holds {found} but no manifest.json; give an empty or a new folder"
    )]
    NotARun {
        /// The folder.
        path: PathBuf,
        /// One entry found in it.
        found: String,
    },
    /// There is no run in the folder.
    #[error("{path} holds no run: manifest.json is missing")]
    NoManifest {
        /// The folder.
        path: PathBuf,
    },
    /// The folder already holds a run, and a new one was asked for.
    #[error("{path} already holds a run; resume it or give another folder")]
    AlreadyARun {
        /// The folder.
        path: PathBuf,
    },
    /// The folder belongs to another experiment.
    #[error(
        "{path} holds the run of another experiment (digest {found}, this one has {expected}); give another folder"
    )]
    OtherExperiment {
        /// The folder.
        path: PathBuf,
        /// Digest of the experiment asked for.
        expected: String,
        /// Digest in the manifest.
        found: String,
    },
    /// Written by a tool that this one cannot read.
    #[error(
        "{path} has format version {found}, which is too {age} for this tool (it reads version {supported}); {advice}"
    )]
    FormatVersion {
        /// The manifest.
        path: PathBuf,
        /// Version found.
        found: u64,
        /// Version supported.
        supported: u32,
        /// "old" or "new".
        age: &'static str,
        /// What to do.
        advice: &'static str,
    },
    /// The manifest is not what it should be.
    #[error("{path} is not a valid manifest: {reason}")]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A whole line of the record log makes no sense.
    #[error("{path}:{line}: not a valid record: {reason}; the file was changed or damaged")]
    Record {
        /// The record log.
        path: PathBuf,
        /// Line number, from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// Another process writes to the folder.
    #[error("{path} is in use by another process; wait for it to end, or give another folder")]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// A record that cannot be written as JSON.
    #[error("cannot encode a record as JSON: {source}")]
    Encode {
        /// The encoder's reason.
        source: serde_json::Error,
    },
    /// An earlier append failed and could not be undone.
    #[error("{path} has a broken last line that could not be removed; resume the run to repair it")]
    Poisoned {
        /// The record log.
        path: PathBuf,
    },
    /// A picture that cannot be drawn.
    #[error("cannot draw {path}: {reason}")]
    Plot {
        /// The picture.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A table that cannot be built or written.
    #[error("cannot build the table: {source}")]
    Frame {
        /// The data frame library's reason.
        #[from]
        source: polars::error::PolarsError,
    },
    /// Published data that contradicts itself.
    #[error("published data {file}: {reason}")]
    Published {
        /// The data file's id.
        file: String,
        /// What is wrong and where.
        reason: String,
    },
    /// A pack that cannot be held to anything.
    #[error("pack {pack}: {reason}")]
    Pack {
        /// The pack's id.
        pack: String,
        /// What is wrong and where.
        reason: String,
    },
    /// A line of a history that makes no sense.
    #[error("{path}:{line}: not a line of a history: {reason}")]
    History {
        /// The history.
        path: PathBuf,
        /// Line number, from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// A run that a history already has.
    #[error("{run} is in {path} already, at commit {commit}; a run is added once")]
    InHistory {
        /// The history.
        path: PathBuf,
        /// The run folder.
        run: PathBuf,
        /// The commit that it was added for.
        commit: String,
    },
    /// A case that the run does not have.
    #[error("{folder} has no case {case:?}; it has {}", listed(known))]
    NoCase {
        /// The run folder.
        folder: PathBuf,
        /// Case asked for.
        case: String,
        /// Cases that there are.
        known: Vec<String>,
    },
    /// A report over no runs.
    #[error("no run folder was given; name at least one")]
    NoRuns,
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// The first of many, and how many more there are.
fn listed(names: &[String]) -> String {
    const SHOWN: usize = 10;
    let mut text = names[..names.len().min(SHOWN)].join(", ");
    if names.len() > SHOWN {
        text.push_str(&format!(" and {} more", names.len() - SHOWN));
    }
    text
}

/// Turns an I/O error into one that says what was tried on which path.
pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_path_buf();
    move |source| Error::Io {
        action,
        path,
        source,
    }
}
