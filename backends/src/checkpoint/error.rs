//! What can be wrong with a checkpoint folder.

use std::fmt;
use std::path::PathBuf;

use crate::blocks::BlockType;
use crate::weights::Part;

/// Problems listed in one message; the rest is counted.
const LISTED: usize = 20;

/// A checkpoint that cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// A file could not be opened, read or mapped.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// File.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// The folder holds no safetensors file.
    #[error("no safetensors weights in {}; found {found}; convert other formats to safetensors first", folder.display())]
    NoWeights {
        /// Checkpoint folder.
        folder: PathBuf,
        /// Files that are there.
        found: String,
    },
    /// Several safetensors files and nothing that says how they belong together.
    #[error("{} holds several safetensors files ({found}) and no model.safetensors.index.json; keep one file, or add the index", folder.display())]
    AmbiguousWeights {
        /// Checkpoint folder.
        folder: PathBuf,
        /// The candidates.
        found: String,
    },
    /// A file is not valid safetensors.
    #[error("{} is not a valid safetensors file ({reason}); download it again", path.display())]
    Header {
        /// File.
        path: PathBuf,
        /// What the format's parser says.
        reason: String,
    },
    /// A file is no GGUF that can be read.
    #[error("{} is not a GGUF file that can be read: {problem}", path.display())]
    Gguf {
        /// File.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A JSON file that cannot be parsed.
    #[error("{} is not valid JSON: {reason}", path.display())]
    Json {
        /// File.
        path: PathBuf,
        /// Parser's message, with line and column.
        reason: String,
    },
    /// The index names a shard that is not in the folder.
    #[error("{} names shard {shard}, which is not in the folder; download it", index.display())]
    MissingShard {
        /// Index file.
        index: PathBuf,
        /// Shard file name.
        shard: String,
    },
    /// The index and a shard disagree about where a tensor is.
    #[error("{} and shard {shard} disagree: tensor `{tensor}` {problem}", index.display())]
    IndexDisagrees {
        /// Index file.
        index: PathBuf,
        /// Shard file name.
        shard: String,
        /// Tensor key.
        tensor: String,
        /// Which of the two lacks it.
        problem: &'static str,
    },
    /// No known layout has keys like these.
    #[error("{}: no known checkpoint layout has keys such as {sample}; known layouts: {known}", folder.display())]
    UnknownLayout {
        /// Checkpoint folder.
        folder: PathBuf,
        /// A few keys of the files.
        sample: String,
        /// Names of the known layouts.
        known: String,
    },
    /// The tensors are not those of the recipe.
    #[error("{} ({layout}) does not fit the model: {problems}", folder.display())]
    Tensors {
        /// Checkpoint folder, or file.
        folder: PathBuf,
        /// Layout that was recognised.
        layout: &'static str,
        /// Every problem.
        problems: Problems,
    },
    /// A configuration file that is needed is absent.
    #[error("{} is missing; without it the checkpoint cannot be read", path.display())]
    NoConfig {
        /// File.
        path: PathBuf,
    },
    /// A value in a configuration file that cannot be used.
    #[error("{}: `{key}` is {value}: {problem}", path.display())]
    Config {
        /// File.
        path: PathBuf,
        /// Dotted path of the key.
        key: String,
        /// Its value, `absent` when there is none.
        value: String,
        /// What is wrong and what would work.
        problem: String,
    },
}

/// One tensor that does not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// A tensor that the model needs is not in the files.
    Missing {
        /// Part of the model.
        part: Part,
        /// Canonical parameter that needs it.
        parameter: String,
        /// Key that was looked for.
        key: String,
        /// Nearest key that nothing else uses.
        nearest: Option<String>,
    },
    /// A tensor has another shape than the model needs.
    Shape {
        /// Part of the model.
        part: Part,
        /// Canonical parameter made from it.
        parameter: String,
        /// Key in the file.
        key: String,
        /// File name.
        file: String,
        /// Shape needed; trailing ones do not matter.
        expected: Vec<usize>,
        /// Shape in the file.
        got: Vec<usize>,
    },
    /// A tensor that is needed has an element type that cannot be read.
    Dtype {
        /// Key in the file.
        key: String,
        /// File name.
        file: String,
        /// Element type in the file.
        got: String,
    },
    /// A tensor of a GGUF file whose type cannot be read, or not there.
    BlockType {
        /// Name in the file.
        key: String,
        /// File name.
        file: String,
        /// ggml's number of its type.
        got: u32,
    },
    /// A tensor that nothing uses and the layout is not known to carry.
    Unused {
        /// Key in the file.
        key: String,
        /// File name.
        file: String,
    },
    /// A separate output head that differs from the embeddings although the
    /// recipe ties the two.
    UntiedHead {
        /// Key of the head.
        key: String,
        /// File name.
        file: String,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::Missing {
                part,
                parameter,
                key,
                nearest,
            } => {
                write!(
                    f,
                    "missing tensor `{key}` (for {} parameter `{parameter}`)",
                    part.name()
                )?;
                match nearest {
                    Some(nearest) => write!(f, "; nearest unused key is `{nearest}`"),
                    None => Ok(()),
                }
            }
            Problem::Shape {
                part,
                parameter,
                key,
                file,
                expected,
                got,
            } => write!(
                f,
                "tensor `{key}` in {file} has shape {got:?}, expected {expected:?} (for {} parameter `{parameter}`)",
                part.name()
            ),
            Problem::Dtype { key, file, got } => {
                write!(
                    f,
                    "tensor `{key}` in {file} is {got}; F32, F16 and BF16 can be read"
                )
            }
            Problem::BlockType { key, file, got } => {
                let known = BlockType::ALL.map(|kind| format!("{} ({})", kind.name(), kind.id()));
                write!(
                    f,
                    "tensor `{key}` in {file} is of ggml type {got}; {} can be read, norms and biases only in the \
                     first three",
                    known.join(", ")
                )
            }
            Problem::Unused { key, file } => {
                write!(f, "unused tensor `{key}` in {file}")
            }
            Problem::UntiedHead { key, file } => write!(
                f,
                "tensor `{key}` in {file} differs from the embeddings, but the recipe ties them; set `tie_word_embeddings: false`"
            ),
        }
    }
}

/// Every problem found, in the order missing or misshapen, then unused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = &self.0;
        if let [only] = all.as_slice() {
            return only.fmt(f);
        }
        write!(f, "{} tensors:", all.len())?;
        for problem in all.iter().take(LISTED) {
            write!(f, "\n  {problem}")?;
        }
        if all.len() > LISTED {
            write!(f, "\n  and {} more", all.len() - LISTED)?;
        }
        Ok(())
    }
}
