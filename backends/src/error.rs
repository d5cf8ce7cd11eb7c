//! What can go wrong below the `backends` crate, as facts rather than prose.

use std::path::PathBuf;

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Errors of networks, engines and recipes. Checkpoint, image and text errors
/// have enums of their own and arrive here unchanged.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An operation was given a value whose shape it cannot take.
    #[error("{op} of `{name}`: expected {expected}, got {got}")]
    Shape {
        /// Operation.
        op: &'static str,
        /// Parameter path or operand.
        name: String,
        /// What the operation takes.
        expected: String,
        /// What it was given.
        got: String,
    },
    /// A network asked for a parameter that the weights do not hold.
    #[error("parameter `{name}` is not in the loaded weights")]
    MissingParam {
        /// Canonical name.
        name: String,
    },
    /// A recipe or configuration value that cannot work.
    #[error("{what}: `{value}` {problem}")]
    Config {
        /// Key or argument.
        what: String,
        /// Its value.
        value: String,
        /// Why it cannot work and what would.
        problem: String,
    },
    /// A name that no registry entry has.
    #[error("unknown {kind} `{name}`; known: {known}")]
    Unknown {
        /// Registry.
        kind: &'static str,
        /// What was asked for.
        name: String,
        /// What there is, with the nearest name marked.
        known: String,
    },
    /// The device, precision or engine asked for cannot be had.
    #[error("{what} is not available: {why}")]
    Unavailable {
        /// What was asked for.
        what: String,
        /// Why not, and how to get it.
        why: String,
    },
    /// The prompt does not fit the context that was allocated.
    #[error("prompt of {tokens} tokens plus {new} new ones exceeds the context of {context}")]
    ContextOverflow {
        /// Prompt length, visual tokens included.
        tokens: usize,
        /// Tokens to generate.
        new: usize,
        /// Positions the model or the cache has.
        context: usize,
    },
    /// A stage produced NaN or infinity.
    #[error(
        "{stage} produced values that are not finite; try another precision (f16 overflows first)"
    )]
    NonFinite {
        /// Stage name.
        stage: String,
    },
    /// The model has no such part (an encoder has no decoder, for example).
    #[error("model `{model}` has no {part}")]
    NoPart {
        /// Model name.
        model: String,
        /// Missing part.
        part: &'static str,
    },
    /// A file could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// File.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// A checkpoint problem.
    #[error(transparent)]
    Checkpoint(#[from] crate::checkpoint::CheckpointError),
    /// An image problem.
    #[error(transparent)]
    Image(#[from] crate::image::ImageError),
    /// A tokenizer or prompt problem.
    #[error(transparent)]
    Text(#[from] crate::text::TextError),
    /// A Hugging Face hub problem.
    #[error(transparent)]
    Hub(#[from] crate::hub::HubError),
    /// A file could not be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// File.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// A folder of ONNX graphs lacks one.
    #[error("{} is not there; the folder has {found}", path.display())]
    NoGraph {
        /// The file that is missing.
        path: PathBuf,
        /// The graphs that there are.
        found: String,
    },
    /// An ONNX graph is not what its name promises.
    #[error("{file}: {what}: expected {expected}, got {got}")]
    Graph {
        /// The graph's file.
        file: String,
        /// Input or output.
        what: String,
        /// What it should be.
        expected: String,
        /// What it is.
        got: String,
    },
    /// ONNX Runtime does not load a graph.
    #[error("cannot load {}: {problem}", path.display())]
    LoadGraph {
        /// The graph's file.
        path: PathBuf,
        /// What it says.
        problem: String,
    },
    /// ONNX Runtime failed.
    #[error("ONNX Runtime: {what}: {problem}")]
    OnnxRuntime {
        /// Graph or value.
        what: String,
        /// What it says.
        problem: String,
    },
    /// candle failed.
    #[error("candle: {0}")]
    Candle(#[from] candle_core::Error),
}
