//! `vlmbench score SUITE`: scores answers made elsewhere.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;
use vlmbench_suites::{Dataset, Extraction, Interval, OpenOptions, Predictions, Suite, SuiteScore};

use super::Format;
use crate::context::Context;
use crate::data_ref::DataRef;
use crate::error::{Failure, Outcome};
use crate::plan::suite_spec;

/// Arguments of `score`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Suite: a name under configs/suites/, or a YAML file
    pub suite: String,
    /// Profile: how answers are read and scored [default: the suite's first]
    #[arg(long, value_name = "ID")]
    pub profile: Option<String>,
    /// Parquet file, folder of shards, hub snapshot, hub id, or drawn samples (synth:N, synth:N@SEED) [default: the suite's hub id]
    #[arg(long, value_name = "PATH")]
    pub data: Option<String>,
    /// Answers, one JSON object {"id": ..., "response": ...} a line
    #[arg(long, value_name = "FILE")]
    pub predictions: PathBuf,
    /// Split [default: the suite's own]
    #[arg(long, value_name = "NAME")]
    pub split: Option<String>,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// The score as JSON.
#[derive(Debug, Serialize)]
struct Scored<'a> {
    suite: &'a str,
    profile: &'a str,
    metric: &'a str,
    split: &'a str,
    /// Per cent; null where nothing was scored.
    score: Option<f64>,
    n: u64,
    failed: u64,
    unparsed: u64,
    truncated: u64,
    /// 95 %, of the choice of the questions.
    interval: Option<Interval>,
    groups: &'a BTreeMap<String, BTreeMap<String, vlmbench_suites::GroupScore>>,
    /// Rows that the suite leaves out and that had a prediction.
    excluded_predictions: usize,
    /// Shards that the file names announce and the folder lacks.
    missing_shards: usize,
    /// SHA-256 over ids, questions and gold answers.
    dataset_digest: String,
    /// Points by sample id, as a share of 1.
    samples: BTreeMap<&'a str, f64>,
    /// What was read out of each response.
    answers: BTreeMap<&'a str, Answer<'a>>,
}

/// What became of one sample.
#[derive(Debug, Serialize)]
struct Answer<'a> {
    /// `found`, `unparsed` or `failed`.
    status: &'static str,
    /// The answer as compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    extracted: Option<&'a Extraction>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    truncated: bool,
}

/// Scores a predictions file.
pub fn run(args: Args, ctx: &Context) -> Result<Outcome, Failure> {
    let spec = suite_spec(&args.suite, &ctx.configs)?;
    let first = spec.profiles.first().map(|p| p.id.as_str());
    let profile = args.profile.as_deref().or(first).unwrap_or_default();
    let suite = Suite::new(&spec, profile)?;
    let bar = ctx.terminal.spinner("looking for the data".into());
    let mut observe = ctx.terminal.downloads(&bar);
    let split = args.split.as_deref();
    let data = DataRef::parse(args.data.as_deref(), &spec);
    let path = data.locate(&spec, split, &ctx.hub, &mut observe)?;
    let options = OpenOptions {
        split: args.split.clone(),
        ..OpenOptions::default()
    };
    let dataset = Dataset::open(&spec, &path, &options)?;
    if dataset.is_empty() {
        return Err(Failure::NothingSelected {
            what: format!("split `{}` of {}", dataset.split(), path.display()),
            hint: "it has no samples of this suite; give another --split or --data".into(),
        });
    }
    let predictions = Predictions::read(&args.predictions, &dataset)?;
    let score = suite.score_predictions(&dataset, &predictions)?;
    bar.finish_and_clear();
    if dataset.missing_shards() > 0 {
        tracing::warn!(
            missing = dataset.missing_shards(),
            "the data lacks shards: this is not a score over the whole split"
        );
    }
    match args.format {
        Format::Json => ctx.print_json(&json(&score, &dataset, &predictions))?,
        Format::Text => ctx.print(&text(&score))?,
    }
    Ok(Outcome::Done)
}

fn json<'a>(score: &'a SuiteScore, dataset: &Dataset, predictions: &Predictions) -> Scored<'a> {
    let samples = || score.samples.iter();
    let answer = |sample: &'a vlmbench_suites::SampleScore| Answer {
        status: match (sample.failed, sample.unparsed()) {
            (true, _) => "failed",
            (false, true) => "unparsed",
            (false, false) => "found",
        },
        extracted: sample.answer.as_ref().filter(|_| !sample.unparsed()),
        truncated: sample.truncated,
    };
    Scored {
        suite: &score.suite,
        profile: &score.profile,
        metric: &score.metric,
        split: &score.split,
        score: score.value,
        n: score.n,
        failed: score.failed,
        unparsed: score.unparsed,
        truncated: score.truncated,
        interval: score.interval,
        groups: &score.groups,
        excluded_predictions: predictions.excluded(),
        missing_shards: dataset.missing_shards(),
        dataset_digest: format!("sha256:{}", dataset.digest()),
        samples: samples().map(|s| (s.id.as_str(), s.score)).collect(),
        answers: samples().map(|s| (s.id.as_str(), answer(s))).collect(),
    }
}

fn text(score: &SuiteScore) -> String {
    let value = match (score.value, score.interval) {
        (Some(value), Some(i)) => {
            format!("{value:.2} % (95 % interval {:.2} to {:.2})", i.low, i.high)
        }
        (Some(value), None) => format!("{value:.2} %"),
        (None, _) => "no score".into(),
    };
    let mut text = format!(
        "{} {} ({}, split {})\n{value}\nn {}, failed {}, unparsed {}, truncated {}\n",
        score.suite,
        score.profile,
        score.metric,
        score.split,
        score.n,
        score.failed,
        score.unparsed,
        score.truncated
    );
    for (dimension, groups) in &score.groups {
        text.push_str(&format!("by {dimension}\n"));
        for (group, found) in groups {
            text.push_str(&format!(
                "  {:>6.2} %  n {:<6} {group}\n",
                found.value, found.n
            ));
        }
    }
    text
}
