//! Figures derived from records, one summary per case.
//!
//! Definitions (a figure is null if one of its parts is):
//! - `ttft.paper` = encode + prefill, as FastVLM defines it: two measurements added, neither image
//!   decoding nor preprocessing nor the projector in it.
//! - `ttft.user` = one measured interval from encoded image bytes to the first token.
//! - TPOT = mean of the decode steps of a repetition, that is (last token - first token) /
//!   (tokens - 1): the first token belongs to TTFT.
//! - energy of a request = joules of a launch's timed repetitions / their number, see [`RequestEnergy`].
//! - accuracy = sum of scores / n, where n counts failed samples too, at score 0.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    energy::RequestEnergy,
    record::{
        Answer, CaseEnd, CaseFacts, CaseOutcome, Extraction, FinishReason, LatencySample, Launch,
        Run, SampleOutcome, StageTimes,
    },
    stats::{Estimate, ExactSum, Interval, mean_interval, quantile},
};

const NS_PER_MS: f64 = 1e6;

/// A latency figure that follows from the stages of one repetition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Figure {
    /// From encoded bytes to encoder input.
    Preprocess,
    /// Vision encoder.
    Encode,
    /// Projector.
    Project,
    /// Language model up to the first logits.
    Prefill,
    /// Encode + prefill.
    TtftPaper,
    /// Measured from encoded bytes to the first token.
    TtftUser,
    /// Time per token after the first.
    Tpot,
    /// The decode step that makes the second token: one stage, where [`Figure::Tpot`] is a mean of them.
    FirstDecode,
}

impl Figure {
    /// The figures of tables and files, in the order of a request.
    pub const ALL: [Self; 7] = [
        Self::Preprocess,
        Self::Encode,
        Self::Project,
        Self::Prefill,
        Self::TtftPaper,
        Self::TtftUser,
        Self::Tpot,
    ];

    /// Name in tables and files; the unit is always milliseconds.
    pub fn name(self) -> &'static str {
        match self {
            Self::Preprocess => "preprocess",
            Self::Encode => "encode",
            Self::Project => "project",
            Self::Prefill => "prefill",
            Self::TtftPaper => "ttft.paper",
            Self::TtftUser => "ttft.user",
            Self::Tpot => "tpot",
            Self::FirstDecode => "decode",
        }
    }

    /// Value for one repetition in milliseconds; `None` if a part of it was not measured.
    pub fn of(self, sample: &LatencySample) -> Option<f64> {
        let stages = &sample.stages;
        let ns = match self {
            Self::Preprocess => stages.preprocess_ns? as f64,
            Self::Encode => stages.encode_ns? as f64,
            Self::Project => stages.project_ns? as f64,
            Self::Prefill => stages.prefill_ns? as f64,
            Self::TtftPaper => ttft_paper_ns(stages)? as f64,
            Self::TtftUser => sample.ttft_user_ns? as f64,
            Self::Tpot => tpot_ns(stages)?,
            Self::FirstDecode => *stages.decode_ns.first()? as f64,
        };
        Some(ns / NS_PER_MS)
    }

    /// The same by the clock of the device, milliseconds; `None` for one without, and for what is the host's.
    pub fn on_device(self, sample: &LatencySample) -> Option<f64> {
        let stages = sample.stages.device.as_ref()?;
        let ns = match self {
            Self::Encode => stages.encode_ns? as f64,
            Self::Project => stages.project_ns? as f64,
            Self::Prefill => stages.prefill_ns? as f64,
            Self::TtftPaper => (stages.encode_ns? + stages.prefill_ns?) as f64,
            Self::Tpot => mean(&stages.decode_ns)?,
            Self::FirstDecode => *stages.decode_ns.first()? as f64,
            Self::Preprocess | Self::TtftUser => return None,
        };
        Some(ns / NS_PER_MS)
    }
}

/// `ttft.paper` in nanoseconds: encode + prefill.
pub fn ttft_paper_ns(stages: &StageTimes) -> Option<u64> {
    stages.encode_ns?.checked_add(stages.prefill_ns?)
}

/// TPOT in nanoseconds: mean decode step. `None` if only one token was made.
pub fn tpot_ns(stages: &StageTimes) -> Option<f64> {
    mean(&stages.decode_ns)
}

fn mean(steps: &[u64]) -> Option<f64> {
    let total: u64 = steps.iter().sum();
    (!steps.is_empty()).then(|| total as f64 / steps.len() as f64)
}

/// All that the records say about one case.
#[derive(Debug, Clone, PartialEq)]
pub struct CaseSummary {
    /// Case id.
    pub case: String,
    /// Position of the run among those of the report.
    pub run: usize,
    /// Static facts; `None` if the case failed before it was loaded.
    pub facts: Option<CaseFacts>,
    /// How it ended; `None` if it did not, or has not yet.
    pub end: Option<CaseEnd>,
    /// Latency figures in milliseconds: over the medians of launches where several came to their end, else over
    /// the timed repetitions; empty for a quality case.
    pub latency: BTreeMap<Figure, Estimate>,
    /// Energy of a request, from the launches that came to their end.
    pub energy: RequestEnergy,
    /// Accuracy; `None` without samples, and always `None` for seeded weights.
    pub accuracy: Option<Accuracy>,
}

impl CaseSummary {
    /// A latency figure, if it was measured.
    pub fn figure(&self, figure: Figure) -> Option<&Estimate> {
        self.latency.get(&figure)
    }

    /// Computed operations of the stages that lead to the first token.
    pub fn flops_to_first_token(&self) -> Option<u64> {
        let stages = &self.facts.as_ref()?.stages;
        let counted = ["encode", "project", "prefill"].map(|stage| stages.get(stage));
        let total: u64 = counted.iter().flatten().map(|cost| cost.flops).sum();
        (total > 0).then_some(total)
    }

    /// Whether it came to its end without an error.
    pub fn ended_well(&self) -> bool {
        matches!(&self.end, Some(end) if end.outcome == CaseOutcome::Ok)
    }

    /// Peak resident memory in bytes.
    pub fn peak_rss_bytes(&self) -> Option<u64> {
        self.end.as_ref()?.peak_rss_bytes
    }

    /// Peak on a device with memory of its own, in bytes.
    pub fn peak_device_bytes(&self) -> Option<u64> {
        self.end.as_ref()?.peak_device_bytes
    }

    /// Peak of the memory that the model is in, in bytes: the device's where it has its
    /// own, else the process's.
    pub fn peak_memory_bytes(&self) -> Option<u64> {
        self.peak_device_bytes().or_else(|| self.peak_rss_bytes())
    }
}

/// Accuracy of a quality case.
#[derive(Debug, Clone, PartialEq)]
pub struct Accuracy {
    /// Exact sum of scores.
    pub sum: ExactSum,
    /// Exact sum of their squares.
    pub squares: ExactSum,
    /// Samples asked, failed ones included.
    pub n: usize,
    /// Samples without an answer; they count with score 0.
    pub failed: usize,
    /// Answers that could not be read; they count with the score recorded, normally 0.
    pub unparsed: usize,
    /// Answers cut off by the token limit.
    pub truncated: usize,
}

impl Accuracy {
    /// Mean score in 0..=1 over all `n`. There is at least one sample.
    pub fn mean(&self) -> f64 {
        self.sum.value() / self.n as f64
    }

    /// 95% interval of [`Accuracy::mean`].
    pub fn interval(&self) -> Option<Interval> {
        mean_interval(&self.sum, &self.squares, self.n)
    }

    /// Adds up samples of one case; `None` without any.
    pub fn of<'a>(outcomes: impl IntoIterator<Item = &'a SampleOutcome>) -> Option<Self> {
        let mut accuracy = Self {
            sum: ExactSum::default(),
            squares: ExactSum::default(),
            n: 0,
            failed: 0,
            unparsed: 0,
            truncated: 0,
        };
        for outcome in outcomes {
            accuracy.n += 1;
            match outcome {
                SampleOutcome::Failed { .. } => accuracy.failed += 1,
                SampleOutcome::Ok(answer) => accuracy.add(answer),
            }
        }
        (accuracy.n > 0).then_some(accuracy)
    }

    fn add(&mut self, answer: &Answer) {
        self.sum.add(answer.score);
        self.squares.add_square(answer.score);
        self.unparsed += usize::from(answer.extraction == Extraction::Unparsed);
        self.truncated += usize::from(answer.finish_reason == FinishReason::Length);
    }
}

/// Summaries of all cases of a run, in the order of its plan. `run` is its position in the report.
pub fn summarise(run_index: usize, run: &Run) -> Vec<CaseSummary> {
    let mut timed: BTreeMap<&str, Vec<&LatencySample>> = BTreeMap::new();
    for sample in run.latency.iter().filter(|sample| !sample.warm_up) {
        timed.entry(&sample.case).or_default().push(sample);
    }
    let mut ended: BTreeMap<&str, BTreeSet<u32>> = BTreeMap::new();
    let mut launches: BTreeMap<&str, Vec<&Launch>> = BTreeMap::new();
    for launch in &run.launches {
        ended.entry(&launch.case).or_default().insert(launch.launch);
        launches.entry(&launch.case).or_default().push(launch);
    }
    let mut outcomes: BTreeMap<&str, Vec<&SampleOutcome>> = BTreeMap::new();
    for sample in &run.samples {
        outcomes
            .entry(&sample.case)
            .or_default()
            .push(&sample.outcome);
    }
    (run.case_ids().into_iter())
        .map(|id| {
            let facts = run.cases.get(id).cloned();
            // Scores of random weights say nothing, so they never become an accuracy; without facts nobody knows which weights they were.
            let scored = facts
                .as_ref()
                .is_some_and(|facts| !facts.weights.is_seeded());
            CaseSummary {
                case: id.to_owned(),
                run: run_index,
                facts,
                end: run.ends.get(id).cloned(),
                energy: RequestEnergy::of(launches.get(id).map_or(&[], Vec::as_slice)),
                latency: estimates(timed.get(id).map_or(&[], Vec::as_slice), ended.get(id)),
                accuracy: outcomes
                    .get(id)
                    .filter(|_| scored)
                    .and_then(|outcomes| Accuracy::of(outcomes.iter().copied())),
            }
        })
        .collect()
}

fn estimates(
    samples: &[&LatencySample],
    ended: Option<&BTreeSet<u32>>,
) -> BTreeMap<Figure, Estimate> {
    let none = BTreeSet::new();
    let of = |figure| Estimate::of(&replicates(samples, ended.unwrap_or(&none), figure)?);
    let all = Figure::ALL.into_iter();
    all.filter_map(|figure| Some((figure, of(figure)?)))
        .collect()
}

/// What a figure of a case rests on, milliseconds: the medians of its launches where several `ended`, else its
/// repetitions.
pub(crate) fn replicates(
    samples: &[&LatencySample],
    ended: &BTreeSet<u32>,
    figure: Figure,
) -> Option<Vec<f64>> {
    match ended.len() > 1 {
        true => Some(
            launch_medians(samples, ended, figure)?
                .into_values()
                .collect(),
        ),
        false => values(samples.iter().copied(), figure),
    }
}

/// Median of a figure in milliseconds within each of the launches `ended`; `None` if one of their repetitions
/// lacks it.
pub fn launch_medians(
    samples: &[&LatencySample],
    ended: &BTreeSet<u32>,
    figure: Figure,
) -> Option<BTreeMap<u32, f64>> {
    let median = |launch: &u32| {
        let own = samples.iter().filter(|s| s.launch == *launch && !s.warm_up);
        let mut values = values(own.copied(), figure)?;
        values.sort_by(f64::total_cmp);
        Some((*launch, quantile(&values, 0.5)?))
    };
    ended.iter().map(median).collect()
}

/// A figure stands only if every repetition has it: a median over those that happen to have a stage would be a
/// different quantity.
fn values<'a>(
    samples: impl Iterator<Item = &'a LatencySample>,
    figure: Figure,
) -> Option<Vec<f64>> {
    samples.map(|sample| figure.of(sample)).collect()
}
