//! A suite under one of its profiles: how to ask a sample and what an answer is worth.

use crate::dataset::Dataset;
use crate::error::SuiteError;
use crate::metric::{self, Judged, Metric};
use crate::predictions::Predictions;
use crate::prompt::{self, Prompt};
use crate::python;
use crate::rational::Fraction;
use crate::sample::{Outcome, PromptPart, Sample};
use crate::score::{self, Heading, SampleScore, SuiteScore};
use crate::spec::{GenerationLimits, ProfileSpec, SuiteSpec};

/// A suite under one profile.
#[derive(Debug)]
pub struct Suite {
    id: String,
    profile: ProfileSpec,
    prompt: &'static Prompt,
    metric: &'static Metric,
}

impl Suite {
    /// The suite of `spec` under the profile with this id.
    ///
    /// # Errors
    /// Where the definition is not sound ([`SuiteSpec::check`]) or has no such profile.
    pub fn new(spec: &SuiteSpec, profile: &str) -> Result<Self, SuiteError> {
        spec.check()?;
        let profile = spec.profile(profile)?.clone();
        Ok(Self {
            id: spec.id.clone(),
            prompt: prompt::find(&spec.id, &profile.prompt)?,
            metric: metric::find(&spec.id, &profile.metric)?,
            profile,
        })
    }

    /// Suite id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The profile.
    #[must_use]
    pub fn profile(&self) -> &ProfileSpec {
        &self.profile
    }

    /// The metric.
    #[must_use]
    pub fn metric(&self) -> &'static Metric {
        self.metric
    }

    /// When to stop generating.
    #[must_use]
    pub fn limits(&self) -> GenerationLimits {
        GenerationLimits {
            max_new_tokens: self.profile.max_new_tokens,
            stop: self.profile.stop.clone(),
        }
    }

    /// The prompt of a sample, in reading order.
    ///
    /// # Errors
    /// [`SuiteError::UnknownImage`] where the text refers to an image that cannot exist.
    pub fn render(&self, sample: &Sample) -> Result<Vec<PromptPart>, SuiteError> {
        (self.prompt.render)(sample, &self.profile.prompt)
    }

    /// What became of a sample, in points. The response is the raw one: white space around it and
    /// the profile's reasoning blocks are removed here, stop strings are not looked for.
    ///
    /// # Errors
    /// [`SuiteError::NoGold`] where the split keeps its answers secret.
    pub fn score(&self, sample: &Sample, outcome: &Outcome) -> Result<SampleScore, SuiteError> {
        if sample.golds.is_empty() {
            return Err(SuiteError::NoGold {
                id: sample.id.clone(),
            });
        }
        let (points, answer, truncated) = match outcome {
            Outcome::Failed { .. } => (Fraction::ZERO, None, false),
            Outcome::Answered {
                response,
                truncated,
            } => {
                let text = self.without_reasoning(python::strip(response));
                let Judged { points, answer } = (self.metric.judge)(sample, &text);
                (points, Some(answer), *truncated)
            }
        };
        Ok(SampleScore {
            id: sample.id.clone(),
            score: points.to_f64(),
            points,
            failed: answer.is_none(),
            answer,
            truncated,
            groups: sample.groups.clone(),
        })
    }

    /// Scores a data set from predictions made elsewhere; a sample without one has failed.
    ///
    /// # Errors
    /// As [`score`](Self::score).
    pub fn score_predictions(
        &self,
        dataset: &Dataset,
        predictions: &Predictions,
    ) -> Result<SuiteScore, SuiteError> {
        let missing = Outcome::Failed {
            reason: "no prediction".to_owned(),
        };
        let mut scores = Vec::with_capacity(dataset.len());
        for sample in dataset.samples() {
            let outcome = predictions.get(&sample.id).unwrap_or(&missing);
            scores.push(self.score(sample, outcome)?);
        }
        self.aggregate(dataset.split(), scores)
    }

    /// The score over samples of a split, the same whatever their order.
    ///
    /// # Errors
    /// [`SuiteError::ScoredTwice`] where an id occurs twice.
    pub fn aggregate(
        &self,
        split: &str,
        scores: impl IntoIterator<Item = SampleScore>,
    ) -> Result<SuiteScore, SuiteError> {
        let heading = Heading {
            suite: self.id.clone(),
            profile: self.profile.id.clone(),
            metric: self.metric.name.to_owned(),
            split: split.to_owned(),
            graded: self.metric.graded,
        };
        score::aggregate(heading, scores)
    }

    /// Removes the profile's reasoning blocks and the white space around what is left, as
    /// lmms-eval does: for each pair of tags, from the first opening tag to the first closing tag
    /// after it, until one of the two is gone.
    fn without_reasoning(&self, response: &str) -> String {
        let mut text = response.to_owned();
        for (open, close) in &self.profile.reasoning_tags {
            while let Some(start) = text.find(open.as_str()) {
                let Some(end) = text[start..].find(close.as_str()) else {
                    break;
                };
                text.replace_range(start..start + end + close.len(), "");
            }
        }
        python::strip(&text).to_owned()
    }
}
