//! One question of a suite, what a prompt is made of, and what became of the question.
//!
//! Images are not part of a [`Sample`]: they are read apart and late
//! ([`Dataset::images`](crate::Dataset::images)), because scoring never needs them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One question with its gold answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Unique in its data set; integer ids in decimal.
    pub id: String,
    /// The question, exactly as the data set has it.
    pub question: String,
    /// Whether the answer is one of [`choices`](Self::choices).
    pub kind: QuestionKind,
    /// The options in order, the first one being `A`; empty for an open question.
    pub choices: Vec<String>,
    /// Text that an OCR system read in the image; empty where the data set has none.
    pub ocr_tokens: Vec<String>,
    /// The accepted answers (ten annotators for TextVQA, one letter for a choice); empty where the
    /// split keeps its answers secret.
    pub golds: Vec<String>,
    /// What the sample counts under, by dimension: `subfield` -> `Finance`.
    pub groups: BTreeMap<String, String>,
    /// Where the row lies.
    pub(crate) row: RowAddress,
}

/// Open question or choice among options.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum QuestionKind {
    /// Answered in words.
    Open,
    /// Answered by the letter of an option.
    MultipleChoice,
}

/// A row of a data set: which of its files, and which row of that file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RowAddress {
    pub(crate) file: usize,
    pub(crate) row: usize,
}

/// One piece of a rendered prompt, in reading order and without any chat template.
///
/// How an image and the text beside it are joined (LLaVA's `<image>` and newline) belongs to the
/// model's template.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PromptPart {
    /// Literal text.
    Text(String),
    /// The image in this slot of the sample's images, from 0.
    Image(usize),
}

/// What became of a question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The model answered, maybe with nothing.
    Answered {
        /// The raw decoded text.
        response: String,
        /// Whether the token limit ended it.
        truncated: bool,
    },
    /// There is no answer: the image was corrupt, the prompt too long, the prediction missing.
    /// Counted in n as wrong, and apart as failed.
    Failed {
        /// Why, for the record.
        reason: String,
    },
}

impl Outcome {
    /// A complete answer.
    #[must_use]
    pub fn answered(response: impl Into<String>) -> Self {
        Self::Answered {
            response: response.into(),
            truncated: false,
        }
    }
}
