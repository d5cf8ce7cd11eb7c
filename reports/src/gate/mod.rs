//! Did it get slower, and does it still answer right? What a comparison of a
//! base and a candidate found, as data.
//!
//! A launch of a process is the unit of replication: repetitions within one
//! share its memory layout and its minute, and say nothing about the next. A
//! verdict has an effect, an interval and a threshold of relevance, and is held
//! to the number of verdicts made at once and of looks taken.
//!
//! [`Export`] writes a comparison in the formats of CI systems and other tools, [`RunExport`] finished
//! runs. A format is a function from data to text; none of them decides anything.

mod action_benchmark;
mod annotations;
mod bencher;
mod differences;
mod export;
mod junit;
mod latency;
mod lm_eval;
mod measured;
mod rows;
mod runs;
mod scores;
mod summary;
#[cfg(test)]
mod tests;
mod tradeoff;
mod words;

pub use differences::{clock, differences, flags};
pub use latency::{Launched, Pair, Pairs, paired};
pub use runs::unpaired;
pub use scores::{matched, scored};
pub use tradeoff::{Tradeoff, tradeoffs};

use serde::{Deserialize, Serialize};

pub use self::{
    action_benchmark::{Direction, action_benchmark, action_benchmark_report},
    annotations::annotations,
    bencher::{bencher, bencher_report},
    export::{Export, RunExport},
    junit::junit,
    lm_eval::{LmEvalFile, lm_eval},
    rows::rows,
    summary::summary,
};
use crate::stats::Interval;

/// What is said about one figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Better by more than is irrelevant, beyond chance.
    Improved,
    /// Not worse by more than is tolerated, as far as the interval reaches; or answers that are all the same.
    Pass,
    /// Neither: the interval is too wide.
    Inconclusive,
    /// Worse by more than is irrelevant, beyond chance.
    Regressed,
}

/// What is said about the whole comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Conclusion {
    /// Every gated figure passed or improved.
    Pass,
    /// None regressed, and at least one is inconclusive.
    Inconclusive,
    /// At least one regressed.
    Regressed,
    /// The comparison itself cannot be trusted: the base differs from itself, or
    /// a case did not run on both sides.
    Broken,
}

/// How verdicts are reached; fixed before anything is measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Chance of any false alarm in the whole comparison, all figures and looks together.
    pub alpha: f64,
    /// Relative change of a latency below which it is irrelevant, even if it is real.
    pub relevant: f64,
    /// Relative slowdown that is tolerated: a figure passes if its interval ends below it.
    pub tolerated: f64,
    /// Points (of 100) of a score below which a change is irrelevant.
    pub relevant_points: f64,
    /// Points (of 100) of a score whose loss is tolerated.
    pub tolerated_points: f64,
    /// Share of a request below which a stage is shown but not gated.
    pub least_share: f64,
    /// Pairs of launches after which it is looked whether all is decided, in
    /// order; `alpha` is divided equally among them. Empty for runs that are finished.
    pub looks: Vec<usize>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            alpha: 0.01,
            relevant: 0.01,
            tolerated: 0.03,
            relevant_points: 0.5,
            tolerated_points: 2.0,
            least_share: 0.02,
            looks: vec![12, 24, 48],
        }
    }
}

impl Settings {
    /// The same for times or for answers alone, which share the chance of a false alarm if there are `both`.
    pub fn shared(&self, both: bool) -> Settings {
        Settings {
            alpha: if both { self.alpha / 2.0 } else { self.alpha },
            ..self.clone()
        }
    }
}

/// One side of a comparison.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Side {
    /// What to call it: a model, an experiment, a run folder, a program.
    pub name: String,
    /// Version of the tool that measured it.
    pub version: Option<String>,
    /// Its git revision.
    pub revision: Option<String>,
}

/// How latencies were replicated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Design {
    /// Launches of both sides side by side, pair by pair in one sitting.
    Pairs,
    /// Two finished runs, each with launches of its own.
    Runs,
}

/// A latency on both sides.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LatencyChange {
    /// `preprocess`, `encode`, `project`, `prefill`, `tpot`, or a sum of them: `ttft.paper`, `ttft.user`.
    pub figure: String,
    /// Median over launches of the base, milliseconds.
    pub base_ms: f64,
    /// Median over launches of the candidate, milliseconds.
    pub candidate_ms: f64,
    /// `candidate / base - 1`, from the launches as they were paired.
    pub change: f64,
    /// Interval of `change`.
    pub interval: Option<Interval>,
    /// Chance of such a slowdown or a greater one if there is none.
    pub p_slower: f64,
    /// The same for a speed-up.
    pub p_faster: f64,
    /// `p_slower`, adjusted for the number of gated figures.
    pub adjusted: Option<f64>,
    /// Pairs of launches, or launches of the side that has fewer.
    pub launches: usize,
    /// Share of the base's request.
    pub share: f64,
    /// Whether it decides; sums of stages do not, nor do stages below the least share.
    pub gated: bool,
    /// What is said about it.
    pub verdict: Verdict,
}

/// Something else that differs between the sides of a case: a cause, perhaps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// What: `encode FLOPs`, `visual tokens`, `threads`, `engine`, `clock`, ...
    pub what: String,
    /// Of the base.
    pub base: String,
    /// Of the candidate.
    pub candidate: String,
}

/// A case on both sides.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CaseChange {
    /// Its id; the base's, if the sides are different models.
    pub case: String,
    /// Its latencies.
    pub latencies: Vec<LatencyChange>,
    /// What else differs.
    pub differences: Vec<Difference>,
    /// Signs of disturbance, by launch or in sum, in words.
    pub flags: Vec<String>,
}

impl CaseChange {
    /// The stage that moved most among those that regressed.
    pub fn blamed(&self) -> Option<&LatencyChange> {
        let regressed = |l: &&LatencyChange| l.gated && l.verdict == Verdict::Regressed;
        let cost = |l: &LatencyChange| l.candidate_ms - l.base_ms;
        let all = self.latencies.iter().filter(regressed);
        all.max_by(|a, b| cost(a).total_cmp(&cost(b)))
    }
}

/// Latencies that decide, each with its case.
pub fn gated(cases: &[CaseChange]) -> impl Iterator<Item = (&str, &LatencyChange)> + Clone {
    cases.iter().flat_map(|case| {
        let own = case.latencies.iter().filter(|l| l.gated);
        own.map(move |latency| (case.case.as_str(), latency))
    })
}

/// A score on both sides, of the same samples.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScoreChange {
    /// Case id; the base's, if the sides are different models.
    pub case: String,
    /// Samples that both sides have.
    pub samples: usize,
    /// Score of the base, points of 100.
    pub base: f64,
    /// Score of the candidate, points of 100.
    pub candidate: f64,
    /// `candidate - base` in points, paired by sample.
    pub change: f64,
    /// Interval of `change`.
    pub interval: Option<Interval>,
    /// Chance of such a loss or a greater one if there is none.
    pub p_worse: f64,
    /// The same for a gain.
    pub p_better: f64,
    /// `p_worse`, adjusted for the number of gated figures.
    pub adjusted: Option<f64>,
    /// The test: `McNemar, exact`, `sign flips over 180 images`, ...
    pub test: String,
    /// Samples whose answer is another text, whatever its score, or failed on one side.
    pub differing: usize,
    /// Samples whose score changed.
    pub changed: Vec<ChangedAnswer>,
    /// What is said about it.
    pub verdict: Verdict,
}

/// A sample that is scored otherwise than before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChangedAnswer {
    /// Sample id.
    pub sample: String,
    /// The base's answer; `None` if it failed.
    pub base: Option<String>,
    /// The candidate's answer; `None` if it failed.
    pub candidate: Option<String>,
    /// Its points of 100 with the base.
    pub base_points: f64,
    /// Its points of 100 with the candidate.
    pub candidate_points: f64,
}

/// What became of the area under the front of accuracy against time to first token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FrontChange {
    /// Suite and profile, or `mean` of several.
    pub suite: String,
    /// Change as a share of the whole area up to the slowest point and to 100 points.
    pub change: f64,
    /// Its interval.
    pub interval: Interval,
}

/// Name of the control that compares the base with itself.
pub const NULL: &str = "null";
/// Name of the control that compares the base with itself, slowed down.
pub const SLOWED: &str = "slowed";

/// What is known before: a comparison whose outcome must be as it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Control {
    /// [`NULL`] or [`SLOWED`].
    pub name: String,
    /// What was done: `base against base`, `base with encode slowed by 5 %`.
    pub what: String,
    /// Whether it came out as it must.
    pub held: bool,
    /// What came out.
    pub found: String,
}

/// What a comparison found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// When it ended, RFC 3339.
    pub ended_at: String,
    /// The base.
    pub base: Side,
    /// The candidate.
    pub candidate: Side,
    /// How latencies were replicated; `None` if there are none.
    pub design: Option<Design>,
    /// How verdicts were reached.
    pub settings: Settings,
    /// Cases with latencies.
    pub cases: Vec<CaseChange>,
    /// Scores.
    pub scores: Vec<ScoreChange>,
    /// Points against time, where a model has both.
    #[serde(default)]
    pub tradeoffs: Vec<Tradeoff>,
    /// Fronts of runs that measured both axes.
    #[serde(default)]
    pub fronts: Vec<FrontChange>,
    /// Controls of the sitting.
    pub controls: Vec<Control>,
    /// What stands in the way of trusting it, in words; not empty if it is broken.
    pub problems: Vec<String>,
    /// What is said of it all.
    pub conclusion: Conclusion,
}

impl Comparison {
    /// What follows from verdicts, controls and problems.
    pub fn conclude(&mut self) {
        let latencies = gated(&self.cases).map(|(_, l)| l.verdict);
        let verdicts = latencies.chain(self.scores.iter().map(|s| s.verdict));
        let held = |name: &str| self.controls.iter().all(|c| c.name != name || c.held);
        let broken = !self.problems.is_empty() || !held(NULL);
        self.conclusion = match (broken, verdicts.max()) {
            (true, _) => Conclusion::Broken,
            (_, Some(Verdict::Regressed)) => Conclusion::Regressed,
            (_, Some(Verdict::Inconclusive) | None) => Conclusion::Inconclusive,
            // What did not see a slowdown that is there may have missed another.
            (_, Some(_)) if !held(SLOWED) => Conclusion::Inconclusive,
            (_, Some(Verdict::Pass | Verdict::Improved)) => Conclusion::Pass,
        };
    }
}
