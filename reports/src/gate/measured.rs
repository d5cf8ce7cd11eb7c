//! What finished runs and candidates give to other tools: a name, a figure, a number.

use super::Comparison;
use crate::{
    report::Report,
    stats::{Estimate, Interval},
    summary::{Accuracy, CaseSummary},
    table,
};

/// What a number is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    /// Milliseconds of a figure; smaller is better.
    Latency(String),
    /// Points of 100; bigger is better.
    Score,
}

/// One number of a case.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Measured {
    /// Case id, with its run where there are several.
    pub case: String,
    pub kind: Kind,
    /// Finite.
    pub value: f64,
    /// Of `value`.
    pub interval: Option<Interval>,
    /// Change against the base, with its interval; per cent of a latency, points of a score.
    pub change: Option<(f64, Option<Interval>)>,
    /// Where it comes from, in words.
    pub of: String,
}

/// Numbers of finished runs. Only of cases that ended well: the formats have no place to say that a
/// number is of half a case. Never a score of seeded weights, nor one with the images withheld.
pub(super) fn of_report(report: &Report) -> Vec<Measured> {
    let mut all = Vec::new();
    for summary in report.summaries.iter().filter(|s| s.ended_well()) {
        let case = table::case_name(report, summary);
        for (figure, estimate) in &summary.latency {
            let Estimate {
                n,
                median,
                interval,
                ..
            } = estimate;
            all.push(Measured {
                case: case.clone(),
                kind: Kind::Latency(figure.name().to_owned()),
                value: *median,
                interval: *interval,
                change: None,
                of: format!("median of {n} repetitions"),
            });
        }
        if let Some(accuracy) = sighted(summary) {
            all.push(Measured {
                case,
                kind: Kind::Score,
                value: 100.0 * accuracy.mean(),
                interval: accuracy.interval().map(|i| i.map(|v| 100.0 * v)),
                change: None,
                of: format!(
                    "{} samples, {} failed, {} unparsed",
                    accuracy.n, accuracy.failed, accuracy.unparsed
                ),
            });
        }
    }
    finite(all)
}

/// Numbers of the candidate of a comparison, with their changes.
pub(super) fn of_candidate(comparison: &Comparison) -> Vec<Measured> {
    let latencies = comparison.cases.iter().flat_map(|case| {
        case.latencies.iter().map(|l| Measured {
            case: case.case.clone(),
            kind: Kind::Latency(l.figure.clone()),
            value: l.candidate_ms,
            interval: None,
            change: Some((100.0 * l.change, l.interval.map(|i| i.map(|v| 100.0 * v)))),
            of: format!("median of {} launches", l.launches),
        })
    });
    let scores = comparison.scores.iter().map(|s| Measured {
        case: s.case.clone(),
        kind: Kind::Score,
        value: s.candidate,
        interval: None,
        change: Some((s.change, s.interval)),
        of: format!("{} samples of both sides", s.samples),
    });
    finite(latencies.chain(scores).collect())
}

/// The accuracy, unless the images were withheld: that is a baseline of guessing.
pub(super) fn sighted(summary: &CaseSummary) -> Option<&Accuracy> {
    let blind = summary.facts.as_ref()?.labels.blind;
    summary.accuracy.as_ref().filter(|_| !blind)
}

/// Leaves out what JSON has no number for.
fn finite(mut all: Vec<Measured>) -> Vec<Measured> {
    let ends = |i: &Interval| i.low.is_finite() && i.high.is_finite();
    for one in &mut all {
        one.interval = one.interval.filter(ends);
        let change = one.change.filter(|(value, _)| value.is_finite());
        one.change = change.map(|(value, interval)| (value, interval.filter(ends)));
    }
    all.retain(|one| one.value.is_finite());
    all
}
