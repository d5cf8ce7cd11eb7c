//! Claims of a paper that one model is so many times as fast as another, beside what was measured
//! here, both sides alternately.
//!
//! A ratio of times is a ratio of work times a ratio of the rates at which it was done. The work is
//! counted, so what is left of a ratio after it tells how much of the claim is the device's.

use std::{collections::BTreeMap, iter::Sum};

use serde::{Deserialize, Serialize};

use crate::{
    published::Point,
    record::{LatencySample, Run},
    report::Report,
    stats::{median_interval, quantile},
    summary::Figure,
    table::{Align, Table, column, milliseconds},
};

/// What a claim, or a table of a paper, is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClaimFigure {
    /// The vision encoder alone.
    Encode,
    /// The language model up to the first logits.
    Prefill,
    /// Encode + prefill (`ttft.paper`).
    Ttft,
}

impl ClaimFigure {
    /// Stages whose times are added.
    pub fn stages(self) -> &'static [Figure] {
        match self {
            Self::Encode => &[Figure::Encode],
            Self::Prefill => &[Figure::Prefill],
            Self::Ttft => &[Figure::Encode, Figure::Prefill],
        }
    }

    /// Their sum.
    pub fn figure(self) -> Figure {
        match self {
            Self::Encode => Figure::Encode,
            Self::Prefill => Figure::Prefill,
            Self::Ttft => Figure::TtftPaper,
        }
    }

    /// What a published row says of it, milliseconds.
    pub fn published(self, point: &Point) -> Option<f64> {
        match self {
            Self::Encode => point.encoder_latency_ms,
            Self::Prefill => point.prefill_ms,
            Self::Ttft => point.ttft_ms,
        }
    }

    /// Name in tables.
    pub fn name(self) -> &'static str {
        self.figure().name()
    }

    /// Work that a case does in its stages, FLOPs.
    pub fn flops(self, run: &Run, case: &str) -> Option<u64> {
        self.sum(|stage| flops(run, case, stage))
    }

    /// The sum of something over its stages; `None` if one of them lacks it.
    fn sum<T: Sum>(self, of: impl FnMut(Figure) -> Option<T>) -> Option<T> {
        self.stages().iter().copied().map(of).sum()
    }
}

/// One side of a claim.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClaimSide {
    /// Case that was measured.
    pub case: String,
    /// Published milliseconds by stage (`encode`, `prefill`).
    pub published_ms: BTreeMap<String, f64>,
}

/// A claim with the cases that were measured for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Claim {
    /// Its name, such as `85x`.
    pub claim: String,
    /// What is said of what.
    pub about: String,
    /// What it is about.
    pub figure: ClaimFigure,
    /// What is said to be slower.
    pub baseline: ClaimSide,
    /// What is said to be faster.
    pub contender: ClaimSide,
    /// Where the published times are from.
    pub source: String,
}

/// A ratio of times measured alternately.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ratio {
    /// Median of the ratios of the repetitions with the same launch and index.
    pub median: f64,
    /// Its 95 % interval, or the whole range below six repetitions.
    pub range: (f64, f64),
    /// Repetitions.
    pub n: usize,
}

impl Claim {
    /// The claims of a run, as its manifest has them.
    pub fn of(run: &Run) -> Vec<Claim> {
        let claims = &run.manifest.experiment["definitions"]["claims"];
        serde_json::from_value(claims.clone()).unwrap_or_default()
    }

    /// Published time of the baseline over that of the contender.
    pub fn published(&self) -> Option<f64> {
        let total = |side: &ClaimSide| {
            let of = |stage: Figure| side.published_ms.get(stage.name()).copied();
            self.figure.sum(of)
        };
        Some(total(&self.baseline)? / total(&self.contender)?)
    }

    /// FLOPs of the baseline over those of the contender, in the stages that the claim is about.
    pub fn by_flops(&self, run: &Run) -> Option<f64> {
        let work = |side: &ClaimSide| self.figure.flops(run, &side.case);
        Some(work(&self.baseline)? as f64 / work(&self.contender)? as f64)
    }

    /// What was measured, over the repetitions that both sides have.
    pub fn measured(&self, run: &Run) -> Option<Ratio> {
        let total = |sample: &LatencySample| self.figure.sum(|stage| stage.of(sample));
        let of = |case: &str| -> BTreeMap<(u32, u32), f64> {
            let timed = run.latency.iter();
            let timed = timed.filter(|s| s.case == case && !s.warm_up);
            timed
                .filter_map(|s| Some(((s.launch, s.iteration), total(s)?)))
                .collect()
        };
        let contender = of(&self.contender.case);
        let pairs = of(&self.baseline.case).into_iter();
        let pairs = pairs.filter_map(|(i, ms)| Some(ms / contender.get(&i)?));
        let mut ratios: Vec<f64> = pairs.filter(|ratio| ratio.is_finite()).collect();
        ratios.sort_by(f64::total_cmp);
        let whole = (*ratios.first()?, *ratios.last()?);
        let interval = median_interval(&ratios, 0.95).map(|i| (i.low, i.high));
        Some(Ratio {
            median: quantile(&ratios, 0.5)?,
            range: interval.unwrap_or(whole),
            n: ratios.len(),
        })
    }
}

fn flops(run: &Run, case: &str, stage: Figure) -> Option<u64> {
    Some(run.cases.get(case)?.stages.get(stage.name())?.flops)
}

/// A row a claim: what is published, what was measured, what the work alone would make of it, and how
/// much faster than the baseline the contender does its work, there and here.
pub fn claims(report: &Report) -> Table {
    let right = |title: &str, rank| column(title, Align::Right, rank);
    let mut table = Table::new(vec![
        column("claim", Align::Left, 0),
        column("figure", Align::Left, 3),
        right("published", 0),
        right("measured", 0),
        right("range", 1),
        right("n", 4),
        right("by FLOPs", 0),
        right("rate, published", 2),
        right("rate, measured", 2),
    ]);
    let times = |ratio: Option<f64>| ratio.map_or_else(String::new, |r| format!("{r:.2}x"));
    for run in &report.runs {
        for claim in Claim::of(run) {
            let (published, work) = (claim.published(), claim.by_flops(run));
            let measured = claim.measured(run);
            let rate = |ratio: Option<f64>| Some(ratio? / work?);
            let range = measured.map(|m| format!("{:.2} – {:.2}", m.range.0, m.range.1));
            table.push(vec![
                claim.claim.clone(),
                claim.figure.name().into(),
                times(published),
                times(measured.map(|m| m.median)),
                range.unwrap_or_default(),
                measured.map_or_else(String::new, |m| m.n.to_string()),
                times(work),
                times(rate(published)),
                times(rate(measured.map(|m| m.median))),
            ]);
        }
    }
    table
}

/// A row a claim, side and stage: times and rates, published and here.
pub fn stages(report: &Report) -> Table {
    let right = |title: &str, rank| column(title, Align::Right, rank);
    let mut table = Table::new(vec![
        column("claim", Align::Left, 0),
        column("case", Align::Left, 0),
        column("stage", Align::Left, 0),
        right("GFLOP", 1),
        right("ms published", 1),
        right("GFLOP/s", 2),
        right("ms here", 0),
        right("GFLOP/s here", 2),
    ]);
    for (index, run) in report.runs.iter().enumerate() {
        for claim in Claim::of(run) {
            for side in [&claim.baseline, &claim.contender] {
                let mut summaries = report.summaries.iter();
                let summary = summaries.find(|s| s.run == index && s.case == side.case);
                for stage in claim.figure.stages() {
                    let gflop = flops(run, &side.case, *stage).map(|f| f as f64 / 1e9);
                    let there = side.published_ms.get(stage.name()).copied();
                    let here = summary.and_then(|s| s.figure(*stage)).map(|e| e.median);
                    let rate = |ms: Option<f64>| {
                        let rate = gflop.zip(ms).map(|(g, ms)| format!("{:.0}", g / ms * 1e3));
                        rate.unwrap_or_default()
                    };
                    table.push(vec![
                        claim.claim.clone(),
                        side.case.clone(),
                        stage.name().into(),
                        gflop.map_or_else(String::new, |g| format!("{g:.1}")),
                        there.map(milliseconds).unwrap_or_default(),
                        rate(there),
                        here.map(milliseconds).unwrap_or_default(),
                        rate(here),
                    ]);
                }
            }
        }
    }
    table
}
