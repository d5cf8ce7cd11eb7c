//! Answers made elsewhere, as JSON lines `{"id": ..., "response": ...}`.
//!
//! The id is a string or an integer, the response a string, or null for a sample that failed. An
//! optional `"truncated": true` says that the token limit ended the response. Other keys are left
//! alone, blank lines too.

use std::collections::HashMap;
use std::path::Path;

use serde_json::Value;

use crate::dataset::Dataset;
use crate::error::SuiteError;
use crate::sample::Outcome;

/// Predictions by sample id.
#[derive(Clone, Debug, Default)]
pub struct Predictions {
    outcomes: HashMap<String, Outcome>,
    excluded: usize,
}

impl Predictions {
    /// Reads a predictions file for a data set.
    ///
    /// Samples without a line are not an error; [`get`](Self::get) has nothing for them.
    ///
    /// # Errors
    /// [`SuiteError::BadPrediction`] with file and line for what is not a prediction, for an id
    /// given twice, and for an id that the data set does not have.
    pub fn read(path: &Path, dataset: &Dataset) -> Result<Self, SuiteError> {
        let text = std::fs::read_to_string(path).map_err(|source| SuiteError::Io {
            path: path.to_owned(),
            source,
        })?;
        let mut predictions = Self::default();
        // Only a newline ends a line: U+2028 and its like may stand inside a response.
        for (index, line) in text.split('\n').enumerate() {
            if line.trim().is_empty() {
                continue;
            }
            let added = parse(line).and_then(|(id, outcome)| predictions.add(id, outcome, dataset));
            added.map_err(|problem| SuiteError::BadPrediction {
                path: path.to_owned(),
                line: index + 1,
                problem,
            })?;
        }
        Ok(predictions)
    }

    fn add(&mut self, id: String, outcome: Outcome, dataset: &Dataset) -> Result<(), String> {
        let excluded = dataset.excluded().contains(&id);
        if !excluded && dataset.index_of(&id).is_none() {
            return Err(format!("id `{id}` is not in split `{}`", dataset.split()));
        }
        self.excluded += usize::from(excluded);
        let problem = format!("id `{id}` was already given");
        match self.outcomes.insert(id, outcome) {
            None => Ok(()),
            Some(_) => Err(problem),
        }
    }

    /// What was predicted for a sample.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&Outcome> {
        self.outcomes.get(id)
    }

    /// Number of predictions for samples that are scored.
    #[must_use]
    pub fn len(&self) -> usize {
        self.outcomes.len() - self.excluded
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of predictions for rows that the suite leaves out; they are not scored.
    #[must_use]
    pub fn excluded(&self) -> usize {
        self.excluded
    }
}

fn parse(line: &str) -> Result<(String, Outcome), String> {
    let value: Value = serde_json::from_str(line).map_err(|error| format!("not JSON: {error}"))?;
    let Value::Object(fields) = value else {
        return Err("not a JSON object".to_owned());
    };
    let id = match fields.get("id") {
        Some(Value::String(id)) => id.clone(),
        Some(Value::Number(id)) if id.is_i64() || id.is_u64() => id.to_string(),
        Some(other) => return Err(format!("`id` is {other}, expected a string or an integer")),
        None => return Err("no `id`".to_owned()),
    };
    let truncated = match fields.get("truncated") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(truncated)) => *truncated,
        Some(other) => return Err(format!("`truncated` is {other}, expected a boolean")),
    };
    let outcome = match fields.get("response") {
        Some(Value::String(response)) => Outcome::Answered {
            response: response.clone(),
            truncated,
        },
        Some(Value::Null) => Outcome::Failed {
            reason: "the response is null".to_owned(),
        },
        Some(other) => return Err(format!("`response` is {other}, expected a string or null")),
        None => return Err("no `response`".to_owned()),
    };
    Ok((id, outcome))
}
