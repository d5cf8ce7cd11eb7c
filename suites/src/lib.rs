//! What is asked and how it is scored.
//!
//! This crate knows data sets, prompts and metrics, and has never heard of a tensor or a clock.
//! Its map, in the order in which a run goes through it:
//!
//! | module | what it holds |
//! |---|---|
//! | `spec` | [`SuiteSpec`]: one YAML per suite with its data, columns and [`ProfileSpec`]s |
//! | `dataset` | [`Dataset`]: parquet exports read by row group, images apart and late ([`ImageStream`]) |
//! | `sample` | [`Sample`], [`PromptPart`], [`Outcome`] |
//! | `prompt` | the prompt kinds ([`prompts`]) |
//! | `metric` | extraction and scoring, one reference scorer each ([`metrics`]) |
//! | `suite` | [`Suite`]: a suite under one profile renders samples and scores outcomes |
//! | `score` | [`SampleScore`], [`SuiteScore`], the confidence [`Interval`] |
//! | `predictions` | [`Predictions`]: answers made elsewhere |
//! | `synth` | [`synthesize`]: data sets that are drawn, in the layouts of the published ones |
//! | `rational` | [`Fraction`]: points are exact until one last division |
//! | [`python`] | the corners of Python's text functions that reference scorers lean on |
//!
//! ```
//! # fn run(spec: vlmbench_suites::SuiteSpec, path: &std::path::Path) -> Result<(), vlmbench_suites::SuiteError> {
//! use vlmbench_suites::{Dataset, OpenOptions, Outcome, Suite};
//!
//! let suite = Suite::new(&spec, "lmms@0.2.2")?;
//! let dataset = Dataset::open(&spec, path, &OpenOptions::default())?;
//! let mut scores = Vec::new();
//! for (index, images) in dataset.images(0..dataset.len()) {
//!     let sample = &dataset.samples()[index];
//!     let prompt = suite.render(sample)?;
//!     # let answer = |_, _| String::new();
//!     let response: String = answer(prompt, images?); // the model's part
//!     scores.push(suite.score(sample, &Outcome::answered(response))?);
//! }
//! let total = suite.aggregate(dataset.split(), scores)?;
//! # let _ = total; Ok(()) }
//! ```

mod dataset;
mod error;
mod metric;
mod predictions;
mod prompt;
pub mod python;
mod rational;
mod sample;
mod score;
mod spec;
mod suite;
mod synth;

pub use dataset::{Dataset, Format, ImageBytes, ImageSlots, ImageStream, OpenOptions, sha256_file};
pub use error::SuiteError;
pub use metric::{Extraction, Metric, evalai_normalize};
pub use predictions::Predictions;
pub use prompt::Prompt;
pub use rational::Fraction;
pub use sample::{Outcome, PromptPart, QuestionKind, Sample};
pub use score::{GroupScore, Interval, IntervalMethod, SampleScore, SuiteScore};
pub use spec::{DatasetSpec, GenerationLimits, HubSpec, ProfileSpec, PromptSpec, SuiteSpec};
pub use suite::Suite;
pub use synth::{SYNTHETIC, Split, SynthRequest, Synthesized, synthesize};

/// Every data set format, sorted by name.
#[must_use]
pub fn formats() -> &'static [Format] {
    dataset::FORMATS
}

/// Every prompt kind, sorted by name.
#[must_use]
pub fn prompts() -> &'static [Prompt] {
    prompt::PROMPTS
}

/// Every metric, sorted by name.
#[must_use]
pub fn metrics() -> &'static [Metric] {
    metric::METRICS
}
