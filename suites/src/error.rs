//! Everything that can be wrong with a suite's definition, its data or a predictions file.

use std::path::PathBuf;

/// An error of this crate. The messages are fragments that read on after "failed to ...: ".
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SuiteError {
    /// A definition names a data set format that does not exist.
    #[error("suite `{suite}`: unknown dataset format `{format}`; known are {known}")]
    UnknownFormat {
        /// Suite id.
        suite: String,
        /// The name as given.
        format: String,
        /// The names that exist.
        known: String,
    },
    /// A definition gives columns to a role that the format does not have.
    #[error("suite `{suite}`: format `{format}` has no role `{role}`; its roles are {known}")]
    UnknownRole {
        /// Suite id.
        suite: String,
        /// Format name.
        format: &'static str,
        /// The role as given.
        role: String,
        /// The roles that exist.
        known: String,
    },
    /// A definition gives a role fewer or more columns than it takes.
    #[error("suite `{suite}`: role `{role}` of format `{format}` takes {takes}, got {got}")]
    RoleColumns {
        /// Suite id.
        suite: String,
        /// Format name.
        format: &'static str,
        /// Role name.
        role: &'static str,
        /// How many columns the role takes, in words.
        takes: &'static str,
        /// How many were given.
        got: usize,
    },
    /// A definition names a prompt kind that does not exist.
    #[error("suite `{suite}`: unknown prompt kind `{kind}`; known are {known}")]
    UnknownPrompt {
        /// Suite id.
        suite: String,
        /// The name as given.
        kind: String,
        /// The names that exist.
        known: String,
    },
    /// `open_instruction` is missing where the prompt kind needs it, or given where it has no use.
    #[error("suite `{suite}`: prompt kind `{kind}` {problem} `open_instruction`")]
    OpenInstruction {
        /// Suite id.
        suite: String,
        /// Prompt kind.
        kind: &'static str,
        /// `needs` or `has no use for`.
        problem: &'static str,
    },
    /// A definition names a metric that does not exist.
    #[error("suite `{suite}`: unknown metric `{metric}`; known are {known}")]
    UnknownMetric {
        /// Suite id.
        suite: String,
        /// The name as given.
        metric: String,
        /// The names that exist.
        known: String,
    },
    /// The suite has no such profile.
    #[error("suite `{suite}` has no profile `{profile}`; it has {known}")]
    UnknownProfile {
        /// Suite id.
        suite: String,
        /// The profile as given.
        profile: String,
        /// The suite's profiles.
        known: String,
    },
    /// A suite without profiles cannot be asked.
    #[error("suite `{suite}` defines no profile")]
    NoProfiles {
        /// Suite id.
        suite: String,
    },
    /// Two profiles share an id.
    #[error("suite `{suite}` defines profile `{profile}` twice")]
    DuplicateProfile {
        /// Suite id.
        suite: String,
        /// The id.
        profile: String,
    },

    /// A suite that cannot be drawn was to be.
    #[error("suite `{suite}` cannot be drawn; {known} can")]
    NotSynthetic {
        /// The suite as given.
        suite: String,
        /// Those that can.
        known: String,
    },
    /// A data set of nothing was to be drawn.
    #[error("a data set has at least one sample")]
    NoSamples,
    /// A split has another name.
    #[error("unknown split `{split}`; known are {known}")]
    UnknownSplit {
        /// The split as given.
        split: String,
        /// The names that exist.
        known: String,
    },
    /// A file cannot be written.
    #[error("cannot write {}: {detail}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The reason.
        detail: String,
    },

    /// A file or folder cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// File or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// There is no parquet file at the path.
    #[error("no parquet file under {}; give a parquet file, a folder of shards or a hub snapshot", path.display())]
    NoParquet {
        /// The path as given.
        path: PathBuf,
    },
    /// No file belongs to the wanted configuration and split.
    #[error("no parquet file of {wanted} under {}; found {found}", path.display())]
    NoSuchSplit {
        /// The path as given.
        path: PathBuf,
        /// Configuration and split, in words.
        wanted: String,
        /// What is there instead.
        found: String,
    },
    /// Files of several configurations or snapshots fit, and nothing says which one is meant.
    #[error("{wanted} under {} could be any of {found}; name one of them or give its folder", path.display())]
    AmbiguousData {
        /// The path as given.
        path: PathBuf,
        /// What was looked for, in words.
        wanted: String,
        /// What fits.
        found: String,
    },
    /// A file is not readable as parquet.
    #[error("cannot read {} as parquet: {detail}", path.display())]
    Parquet {
        /// The file.
        path: PathBuf,
        /// The reader's reason.
        detail: String,
    },
    /// A column that the suite needs is not in the file.
    #[error("{}: no column `{column}` (expected {expected}); the file has {found}", path.display())]
    MissingColumn {
        /// The file.
        path: PathBuf,
        /// The column, or the alternatives.
        column: String,
        /// The type it should have.
        expected: &'static str,
        /// The columns of the file.
        found: String,
    },
    /// A column has a type that the suite cannot use.
    #[error("{}: column `{column}` is {got}, expected {expected}", path.display())]
    ColumnType {
        /// The file.
        path: PathBuf,
        /// The column.
        column: String,
        /// The type it should have.
        expected: &'static str,
        /// The type it has.
        got: String,
    },
    /// A row cannot be made into a sample.
    #[error("{}: row {row}, column `{column}`: {problem}", path.display())]
    BadRow {
        /// The file.
        path: PathBuf,
        /// Row in the file, from 0.
        row: usize,
        /// The column at fault.
        column: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Two rows have the same id.
    #[error("{}: row {row} repeats id `{id}`", path.display())]
    DuplicateId {
        /// The file of the second one.
        path: PathBuf,
        /// Its row in the file, from 0.
        row: usize,
        /// The id.
        id: String,
    },
    /// A sample without gold answers was to be scored.
    #[error("sample `{id}` has no gold answer; score this split on its server")]
    NoGold {
        /// Sample id.
        id: String,
    },
    /// A prompt refers to an image that its data set cannot have.
    #[error("sample `{id}`: the prompt refers to `{token}`, which no image column holds")]
    UnknownImage {
        /// Sample id.
        id: String,
        /// The reference, such as `<image 9>`.
        token: String,
    },

    /// A line of a predictions file is not a prediction.
    #[error("{}:{line}: {problem}", path.display())]
    BadPrediction {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// A sample was scored twice.
    #[error("sample `{id}` was scored twice; a sample counts once")]
    ScoredTwice {
        /// Sample id.
        id: String,
    },
}

/// `a`, `b` and so on, for a message; `nothing` for none.
pub(crate) fn names<S: AsRef<str>>(items: impl IntoIterator<Item = S>) -> String {
    let quoted: Vec<_> = items
        .into_iter()
        .map(|item| format!("`{}`", item.as_ref()))
        .collect();
    if quoted.is_empty() {
        return "nothing".to_owned();
    }
    quoted.join(", ")
}
