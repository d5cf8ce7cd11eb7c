//! Failures of a command and the exit code of each.
//!
//! Libraries return enums of facts; here they are sorted into the classes of
//! the documented table, and printed with their whole chain of causes. A
//! closed pipe is not an error: who reads `vlmbench list | head -1` has what
//! they wanted.

use std::fmt::Write as _;
use std::path::PathBuf;

use vlmbench_backends::Error as BackendError;
use vlmbench_backends::checkpoint::CheckpointError;
use vlmbench_backends::hub::HubError;
use vlmbench_reports::Error as ReportError;
use vlmbench_reports::gate::Conclusion;
use vlmbench_suites::SuiteError;

use crate::config::ConfigError;

/// Exit codes, as documented in `--help`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Exit {
    /// All good.
    Ok = 0,
    /// A fault of the tool itself.
    Internal = 1,
    /// Wrong flags or arguments.
    Usage = 2,
    /// A configuration, name, device or precision that cannot work.
    InvalidConfig = 3,
    /// The selection is empty.
    NothingSelected = 4,
    /// A run finished, with failed cases or samples in its record.
    FailedCases = 5,
    /// A comparison found a regression, or a history a slowdown.
    Regression = 6,
    /// Weights, data or a run are missing, damaged or not what was pinned.
    Missing = 7,
    /// Output cannot be written.
    NotWritable = 8,
    /// A verification found a mismatch.
    Mismatch = 9,
    /// A comparison cannot tell.
    Inconclusive = 10,
    /// A comparison that cannot be trusted.
    Broken = 11,
}

impl Exit {
    /// Every code with its meaning.
    pub const TABLE: [(Exit, &'static str); 12] = [
        (Exit::Ok, "all good"),
        (Exit::Internal, "internal fault"),
        (Exit::Usage, "wrong usage"),
        (
            Exit::InvalidConfig,
            "invalid configuration, or a device or precision that is not available",
        ),
        (Exit::NothingSelected, "nothing selected"),
        (
            Exit::FailedCases,
            "run finished with failed cases or samples",
        ),
        (
            Exit::Regression,
            "compare found a regression, or history check a slowdown",
        ),
        (
            Exit::Missing,
            "weights or data missing, damaged or of another digest",
        ),
        (Exit::NotWritable, "output not writable"),
        (Exit::Mismatch, "verify or audit found a mismatch"),
        (
            Exit::Inconclusive,
            "compare cannot tell: too much noise, or too few launches",
        ),
        (
            Exit::Broken,
            "compare cannot be trusted: a control failed, or a case did not run",
        ),
    ];

    /// The table as text for `--help`.
    pub fn help() -> String {
        let mut text = String::from("Exit codes:");
        for (exit, meaning) in Exit::TABLE {
            let _ = write!(text, "\n  {}  {meaning}", exit as u8);
        }
        text
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        std::process::ExitCode::from(exit as u8)
    }
}

/// How a command that did its work ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All good.
    Done,
    /// A run finished; its record holds failures.
    FailedCases {
        /// Failed cases.
        cases: usize,
        /// Failed samples of cases that finished.
        samples: usize,
    },
    /// Something got slower.
    Regression,
    /// Outputs differ from their reference by more than the tolerance.
    Mismatch,
    /// A comparison came to its end.
    Compared(Conclusion),
}

impl Outcome {
    /// Its exit code.
    pub fn exit(self) -> Exit {
        match self {
            Outcome::Done => Exit::Ok,
            Outcome::FailedCases { .. } => Exit::FailedCases,
            Outcome::Regression => Exit::Regression,
            Outcome::Mismatch => Exit::Mismatch,
            Outcome::Compared(Conclusion::Pass) => Exit::Ok,
            Outcome::Compared(Conclusion::Inconclusive) => Exit::Inconclusive,
            Outcome::Compared(Conclusion::Regressed) => Exit::Regression,
            Outcome::Compared(Conclusion::Broken) => Exit::Broken,
        }
    }
}

/// Why a command could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Arguments that clap accepts and that do not go together.
    #[error("{0}")]
    Usage(String),
    /// A side of a comparison did not run.
    #[error("{0}")]
    Broken(String),
    /// A configuration that cannot work.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Nothing to do.
    #[error("{what} selects nothing: {hint}")]
    NothingSelected {
        /// Experiment or flag.
        what: String,
        /// What to add.
        hint: String,
    },
    /// An engine, a recipe or a checkpoint.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// A suite, its data or predictions.
    #[error(transparent)]
    Suite(#[from] SuiteError),
    /// A run folder or a report.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// An input file that is missing or cannot be used.
    #[error("cannot use {}: {problem}", path.display())]
    Input {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },
    /// Output that cannot be written.
    #[error("cannot write {}", path.display())]
    Output {
        /// The file, or `standard output`.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The reader of standard output went away; nothing is printed.
    #[error("standard output was closed")]
    ClosedPipe,
    /// A fault of the tool itself.
    #[error("internal fault: {0}; please report it with the command line")]
    Internal(String),
}

impl From<HubError> for Failure {
    fn from(error: HubError) -> Failure {
        Failure::Backend(error.into())
    }
}

impl From<CheckpointError> for Failure {
    fn from(error: CheckpointError) -> Failure {
        Failure::Backend(error.into())
    }
}

impl Failure {
    /// Its exit code.
    pub fn exit(&self) -> Exit {
        match self {
            Failure::Usage(_) => Exit::Usage,
            Failure::Broken(_) => Exit::Broken,
            Failure::Config(_) => Exit::InvalidConfig,
            Failure::NothingSelected { .. } => Exit::NothingSelected,
            Failure::Backend(error) => backend_exit(error),
            Failure::Suite(error) => suite_exit(error),
            Failure::Report(error) => report_exit(error),
            Failure::Input { .. } => Exit::Missing,
            Failure::Output { .. } => Exit::NotWritable,
            Failure::ClosedPipe => Exit::Ok,
            Failure::Internal(_) => Exit::Internal,
        }
    }

    /// The message with its whole chain of causes, `error: ` first; `None`
    /// for a closed pipe.
    pub fn message(&self) -> Option<String> {
        match self {
            Failure::ClosedPipe => None,
            failure => Some(format!("error: {}", chain(failure))),
        }
    }
}

/// An error and its causes, joined by colons. A cause that its parent already
/// prints is not repeated.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let message = cause.to_string();
        if !text.ends_with(&message) {
            let _ = write!(text, ": {message}");
        }
        source = cause.source();
    }
    text
}

fn backend_exit(error: &BackendError) -> Exit {
    match error {
        BackendError::Config { .. }
        | BackendError::Unknown { .. }
        | BackendError::Unavailable { .. }
        | BackendError::ContextOverflow { .. }
        | BackendError::NoPart { .. } => Exit::InvalidConfig,
        BackendError::Shape { .. }
        | BackendError::MissingParam { .. }
        | BackendError::NonFinite { .. }
        | BackendError::OnnxRuntime { .. }
        | BackendError::Candle(_) => Exit::Internal,
        BackendError::Hub(HubError::BadId { .. }) => Exit::InvalidConfig,
        BackendError::Write { .. } | BackendError::Hub(HubError::Write { .. }) => Exit::NotWritable,
        BackendError::Io { .. }
        | BackendError::NoGraph { .. }
        | BackendError::Graph { .. }
        | BackendError::LoadGraph { .. }
        | BackendError::Checkpoint(_)
        | BackendError::Image(_)
        | BackendError::Text(_)
        | BackendError::Hub(_) => Exit::Missing,
    }
}

fn suite_exit(error: &SuiteError) -> Exit {
    match error {
        SuiteError::UnknownFormat { .. }
        | SuiteError::UnknownRole { .. }
        | SuiteError::RoleColumns { .. }
        | SuiteError::UnknownPrompt { .. }
        | SuiteError::OpenInstruction { .. }
        | SuiteError::UnknownMetric { .. }
        | SuiteError::UnknownProfile { .. }
        | SuiteError::NoProfiles { .. }
        | SuiteError::DuplicateProfile { .. } => Exit::InvalidConfig,
        SuiteError::NotSynthetic { .. }
        | SuiteError::NoSamples
        | SuiteError::UnknownSplit { .. } => Exit::Usage,
        SuiteError::Write { .. } => Exit::NotWritable,
        SuiteError::ScoredTwice { .. } => Exit::Internal,
        // The rest, and what may come, is about files and their rows.
        _ => Exit::Missing,
    }
}

fn report_exit(error: &ReportError) -> Exit {
    match error {
        ReportError::Io { action: "read", .. }
        | ReportError::NoManifest { .. }
        | ReportError::FormatVersion { .. }
        | ReportError::Manifest { .. }
        | ReportError::Record { .. }
        | ReportError::History { .. }
        | ReportError::InHistory { .. } => Exit::Missing,
        ReportError::Io { .. }
        | ReportError::NotARun { .. }
        | ReportError::AlreadyARun { .. }
        | ReportError::OtherExperiment { .. }
        | ReportError::Locked { .. }
        | ReportError::Poisoned { .. }
        | ReportError::Plot { .. } => Exit::NotWritable,
        ReportError::Published { .. } | ReportError::Pack { .. } => Exit::InvalidConfig,
        ReportError::NoRuns | ReportError::NoCase { .. } => Exit::NothingSelected,
        ReportError::Encode { .. } | ReportError::Frame { .. } => Exit::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_complete_and_in_order() {
        for (index, (exit, _)) in Exit::TABLE.iter().enumerate() {
            assert_eq!(*exit as usize, index);
        }
        let last = "\n  11  compare cannot be trusted: a control failed, or a case did not run";
        assert!(Exit::help().ends_with(last));
    }

    #[test]
    fn failures_fall_into_their_class() {
        let unknown = vlmbench_backends::nets::registry::unknown("backend", "x", &["candle"]);
        assert_eq!(Failure::from(unknown).exit(), Exit::InvalidConfig);
        let hub = HubError::NotCached {
            id: "a/b".into(),
            kind: "model",
            revision: "main".into(),
            cache_dir: "/c".into(),
        };
        assert_eq!(Failure::from(hub).exit(), Exit::Missing);
        let write = ReportError::Io {
            action: "create",
            path: "/x".into(),
            source: std::io::Error::other("no"),
        };
        assert_eq!(Failure::from(write).exit(), Exit::NotWritable);
        assert_eq!(Failure::ClosedPipe.exit(), Exit::Ok);
        assert_eq!(Failure::ClosedPipe.message(), None);
    }

    #[test]
    fn messages_name_every_cause_once() {
        let failure = Failure::Config(ConfigError::Read {
            path: "/x.yaml".into(),
            source: std::io::Error::other("no such file"),
        });
        let message = failure.message().unwrap();
        assert_eq!(message, "error: cannot read /x.yaml: no such file");
        let failure = Failure::Report(ReportError::Io {
            action: "read",
            path: "/x".into(),
            source: std::io::Error::other("gone"),
        });
        assert_eq!(failure.message().unwrap(), "error: cannot read /x: gone");
    }
}
