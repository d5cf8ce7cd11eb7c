//! The definition of a suite, one YAML file each: where its data lies, how its columns are laid
//! out, and under which profiles it is asked and scored.
//!
//! Only the shape is here; the harness parses the YAML. A profile is frozen once published: a
//! change of prompt, extraction or metric is a new profile id.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::dataset::format;
use crate::error::{SuiteError, names};
use crate::{metric, prompt};

/// A suite as its file defines it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SuiteSpec {
    /// The name used everywhere: `textvqa`.
    pub id: String,
    /// The suite's own name: `TextVQA`.
    pub title: String,
    /// One line on what it asks.
    pub description: String,
    /// Where the data comes from.
    pub hub: HubSpec,
    /// How a row becomes a sample.
    pub dataset: DatasetSpec,
    /// The named ways to ask and to score; the first one is the default.
    pub profiles: Vec<ProfileSpec>,
}

/// A data set on the Hugging Face hub.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HubSpec {
    /// Its names, the current one first, then the older ones that papers cite.
    pub ids: Vec<String>,
    /// The pinned commit, so that the data cannot change under a score.
    pub revision: String,
    /// The configuration (`DocVQA` beside `InfographicVQA`); `None` if there is only one.
    #[serde(default)]
    pub config: Option<String>,
    /// The split that is scored unless another is asked for.
    pub split: String,
}

/// How the rows of a data set become samples.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetSpec {
    /// A name in [`formats`](crate::formats).
    pub format: String,
    /// For every role of the format, the columns that play it.
    pub columns: BTreeMap<String, Vec<String>>,
    /// Only rows whose column has one of these values are asked; the others stay known by id.
    #[serde(default)]
    pub keep: BTreeMap<String, Vec<String>>,
}

/// One named and versioned way to ask a suite and to score its answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProfileSpec {
    /// Toolkit and version: `lmms@0.2.2`.
    pub id: String,
    /// What sets it apart, its flaws included.
    pub note: String,
    /// How the question is put.
    pub prompt: PromptSpec,
    /// A name in [`metrics`](crate::metrics): extraction and scoring.
    pub metric: String,
    /// Pairs of tags; what stands between the two is removed from a response before scoring.
    #[serde(default)]
    pub reasoning_tags: Vec<(String, String)>,
    /// Upper limit on generated tokens.
    pub max_new_tokens: u32,
    /// Strings that end an answer, themselves not part of it.
    #[serde(default)]
    pub stop: Vec<String>,
}

/// How a question is put.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PromptSpec {
    /// A name in [`prompts`](crate::prompts).
    pub kind: String,
    /// The closing instruction.
    pub instruction: String,
    /// The closing instruction of open questions, where the kind knows two kinds of questions.
    #[serde(default)]
    pub open_instruction: Option<String>,
}

/// When to stop generating. Decoding is greedy in every profile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GenerationLimits {
    /// Upper limit on generated tokens; an answer that reaches it is truncated.
    pub max_new_tokens: u32,
    /// Strings that end an answer.
    pub stop: Vec<String>,
}

impl GenerationLimits {
    /// The part of `text` before the first stop string, which is how the references apply them:
    /// to decoded text, after generation.
    #[must_use]
    pub fn cut<'a>(&self, text: &'a str) -> &'a str {
        let ends = self.stop.iter().filter(|stop| !stop.is_empty());
        let end = ends.filter_map(|stop| text.find(stop.as_str())).min();
        &text[..end.unwrap_or(text.len())]
    }
}

impl SuiteSpec {
    /// Checks everything that can be checked without data: names, columns, profiles.
    ///
    /// # Errors
    /// The first thing that is wrong, with the names that would be right.
    pub fn check(&self) -> Result<(), SuiteError> {
        format::Layout::resolve(self)?;
        if self.profiles.is_empty() {
            return Err(SuiteError::NoProfiles {
                suite: self.id.clone(),
            });
        }
        for (index, profile) in self.profiles.iter().enumerate() {
            if self.profiles[..index].iter().any(|p| p.id == profile.id) {
                return Err(SuiteError::DuplicateProfile {
                    suite: self.id.clone(),
                    profile: profile.id.clone(),
                });
            }
            metric::find(&self.id, &profile.metric)?;
            prompt::find(&self.id, &profile.prompt)?;
        }
        Ok(())
    }

    /// The profile of that id.
    ///
    /// # Errors
    /// [`SuiteError::UnknownProfile`], which lists the suite's profiles.
    pub fn profile(&self, id: &str) -> Result<&ProfileSpec, SuiteError> {
        let found = self.profiles.iter().find(|profile| profile.id == id);
        found.ok_or_else(|| SuiteError::UnknownProfile {
            suite: self.id.clone(),
            profile: id.to_owned(),
            known: names(self.profiles.iter().map(|profile| profile.id.as_str())),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_ends_at_the_first_stop_string() {
        let limits = GenerationLimits {
            max_new_tokens: 16,
            stop: vec!["ASSISTANT:".into(), "\n\n".into(), String::new()],
        };
        assert_eq!(limits.cut("blue\n\nASSISTANT: red"), "blue");
        assert_eq!(limits.cut("blue ASSISTANT: red\n\n"), "blue ");
        assert_eq!(limits.cut("blue"), "blue");
    }
}
