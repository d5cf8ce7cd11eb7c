//! From a question to the token ids a decoder reads, and from token ids back to an answer.
//!
//! [`template`] lays out the prompt, [`prompt`] turns it into segments of text ids and visual
//! tokens, [`tokenizer`] reads `tokenizer.json`, [`stop`] says where an answer ends. How many
//! visual tokens an image becomes is the encoder's business; callers pass the count in.

pub mod prompt;
pub mod stop;
pub mod template;
pub mod tokenizer;

pub use prompt::{IMAGE_SENTINEL, PromptTokens, Segment};
pub use stop::{Stop, StopRule};
pub use template::{PromptPart, PromptTemplate};
pub use tokenizer::{HfTokenizer, PlaceholderTokenizer, SpecialTokens, TextStream, Tokenizer};

use std::path::PathBuf;

/// Why text could not become tokens, or tokens text.
#[derive(Debug, thiserror::Error)]
pub enum TextError {
    /// A file beside the tokenizer, or the tokenizer itself, could not be read.
    #[error("failed to read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A JSON file that does not parse.
    #[error("{} is not valid json", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
    /// A `tokenizer.json` that does not describe a tokenizer.
    #[error("{} does not hold a tokenizer: {message}", path.display())]
    Load {
        /// The file.
        path: PathBuf,
        /// What the tokenizer library said.
        message: String,
    },
    /// A key beside the tokenizer with a value of the wrong kind.
    #[error("{}: `{key}` is {got}, expected {expected}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// Its value.
        got: String,
        /// What it should be.
        expected: &'static str,
    },
    /// A special token that is named but not in the vocabulary.
    #[error("{}: `{key}` names {token:?}, which {} does not contain", path.display(), tokenizer.display())]
    UnknownToken {
        /// The file that names the token.
        path: PathBuf,
        /// The key that names it.
        key: String,
        /// The token.
        token: String,
        /// The `tokenizer.json` that lacks it.
        tokenizer: PathBuf,
    },
    /// The tokenizer library failed on a text.
    #[error("failed to encode {len} bytes of text: {message}")]
    Encode {
        /// Length of the text in bytes.
        len: usize,
        /// What the library said.
        message: String,
    },
    /// The tokenizer library failed on token ids.
    #[error("failed to decode {len} token ids: {message}")]
    Decode {
        /// Number of ids.
        len: usize,
        /// What the library said.
        message: String,
    },
    /// A template that begins with a BOS token, with a tokenizer that has none.
    #[error(
        "prompt template {template:?} begins with a bos token, but the tokenizer names none: add `bos_token` to tokenizer_config.json"
    )]
    NoBos {
        /// Name of the template.
        template: String,
    },
    /// No built-in template of this name.
    #[error("unknown prompt template {name:?} (known: {known})")]
    UnknownTemplate {
        /// The name that was given.
        name: String,
        /// All names, separated by commas.
        known: String,
    },
    /// A prompt with more or fewer images than were given.
    #[error("prompt has {prompt} image markers, but {given} images were given")]
    ImageCount {
        /// Markers in the prompt.
        prompt: usize,
        /// Images given.
        given: usize,
    },
    /// Image tokens in ready-made ids that do not fit the visual tokens of the images.
    #[error(
        "input ids hold {got} image tokens from position {position}, expected {expected} for the images given"
    )]
    ImageRun {
        /// Position of the first.
        position: usize,
        /// Image tokens in a row there.
        got: usize,
        /// How many the images become.
        expected: usize,
    },
    /// A negative id other than the image sentinel, or one above 32 bits.
    #[error(
        "input id {id} at position {position} is neither a token id nor the image sentinel -200"
    )]
    BadId {
        /// The id.
        id: i64,
        /// Its position.
        position: usize,
    },
    /// A stand-in vocabulary too small for the 256 byte values.
    #[error(
        "a placeholder tokenizer needs at least 256 token ids, the vocabulary has {vocab_size}"
    )]
    SmallVocabulary {
        /// Size of the vocabulary.
        vocab_size: usize,
    },
}
