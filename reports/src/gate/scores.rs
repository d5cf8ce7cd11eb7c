//! Scores of the same samples on both sides.

use std::collections::{BTreeMap, BTreeSet};

use super::{ChangedAnswer, ScoreChange, Settings, Verdict};
use crate::{
    record::{Run, SampleOutcome, SampleRecord},
    stats::{Interval, Significance, bounded_interval, cluster_flips, holm, mcnemar},
};

/// Confidence of the intervals that stand beside changes.
const CONFIDENCE: f64 = 0.95;

/// Cases that two runs both scored, by id: the base's, the candidate's.
pub fn matched<'a>(base: &'a Run, candidate: &'a Run) -> Vec<(&'a str, &'a str)> {
    let scored = |run: &'a Run| -> Vec<&'a str> {
        let asked: BTreeSet<&str> = run.samples.iter().map(|s| s.case.as_str()).collect();
        let real = |id: &&str| {
            let facts = run.cases.get(*id);
            // Random weights have no accuracy.
            asked.contains(id) && facts.is_some_and(|facts| !facts.weights.is_seeded())
        };
        run.case_ids().into_iter().filter(real).collect()
    };
    let (ours, theirs) = (scored(base), scored(candidate));
    let same: Vec<_> = ours
        .iter()
        .filter(|id| theirs.contains(id))
        .map(|id| (*id, *id))
        .collect();
    // Two models have no id in common, but the same suites in the same order.
    match same.is_empty() && ours.len() == theirs.len() {
        true => ours.into_iter().zip(theirs).collect(),
        false => same,
    }
}

/// What is said about the scores of all cases that both runs have.
///
/// Samples that both have are paired. Right-or-wrong scores of images that do not repeat are held to McNemar's
/// exact test, all others to sign flips of images' sums; the interval of the difference is that of a bootstrap over
/// images, wider by what was not seen ([`bounded_interval`]). Losses are held to each other by Holm's rule at `alpha`.
/// Where no answer differs there is no change to judge, and nothing to be sure of: it is a pass, however few they are.
pub fn scored(base: &Run, candidate: &Run, settings: &Settings) -> Vec<ScoreChange> {
    let pairs = matched(base, candidate);
    let changes = pairs
        .into_iter()
        .filter_map(|(ours, theirs)| compared(ours, &of(base, ours), &of(candidate, theirs)));
    let mut changes: Vec<ScoreChange> = changes.collect();
    let worse = holm(&changes.iter().map(|c| c.p_worse).collect::<Vec<_>>());
    let better = holm(&changes.iter().map(|c| c.p_better).collect::<Vec<_>>());
    for (change, (worse, better)) in changes.iter_mut().zip(worse.into_iter().zip(better)) {
        change.adjusted = Some(worse);
        let within = |i: Interval| i.low >= -settings.tolerated_points;
        change.verdict = if worse <= settings.alpha && change.change <= -settings.relevant_points {
            Verdict::Regressed
        } else if better <= settings.alpha && change.change >= settings.relevant_points {
            Verdict::Improved
        } else if change.differing == 0 || change.interval.is_some_and(within) {
            Verdict::Pass
        } else {
            Verdict::Inconclusive
        };
    }
    changes
}

fn of<'a>(run: &'a Run, case: &str) -> BTreeMap<&'a str, &'a SampleRecord> {
    let own = run.samples.iter().filter(|s| s.case == case);
    own.map(|s| (s.sample.as_str(), s)).collect()
}

fn compared(
    case: &str,
    base: &BTreeMap<&str, &SampleRecord>,
    candidate: &BTreeMap<&str, &SampleRecord>,
) -> Option<ScoreChange> {
    let pairs = base
        .iter()
        .filter_map(|(id, one)| Some((*id, *one, *candidate.get(id)?)));
    let pairs: Vec<(&str, &SampleRecord, &SampleRecord)> = pairs.collect();
    let n = pairs.len() as f64;
    let ours: Vec<f64> = pairs
        .iter()
        .map(|(_, one, _)| one.outcome.points())
        .collect();
    let theirs: Vec<f64> = pairs
        .iter()
        .map(|(.., other)| other.outcome.points())
        .collect();
    let differences: Vec<f64> = ours
        .iter()
        .zip(&theirs)
        .map(|(one, other)| other - one)
        .collect();
    // Questions about one image stand and fall together.
    let keys: Vec<&str> = pairs
        .iter()
        .map(|(id, one, _)| one.images.as_deref().unwrap_or(id))
        .collect();
    let images = keys.iter().collect::<BTreeSet<_>>().len();
    let binary = ours.iter().chain(&theirs).all(|p| *p == 0.0 || *p == 100.0);
    let (significance, test): (Significance, String) = match binary && images == pairs.len() {
        true => {
            let count = |sign: f64| differences.iter().filter(|d| **d * sign > 0.0).count() as u64;
            (mcnemar(count(-1.0), count(1.0)), "McNemar, exact".into())
        }
        false => (
            cluster_flips(&differences, &keys)?,
            format!("sign flips over {images} images"),
        ),
    };
    let changed = pairs
        .iter()
        .zip(ours.iter().zip(&theirs))
        .filter(|(_, (one, other))| one != other);
    let answer = |sample: &SampleRecord| response(sample).map(str::to_owned);
    let differing = pairs.iter().filter(|(_, a, b)| response(a) != response(b));
    Some(ScoreChange {
        case: case.to_owned(),
        samples: pairs.len(),
        base: ours.iter().sum::<f64>() / n,
        candidate: theirs.iter().sum::<f64>() / n,
        change: differences.iter().sum::<f64>() / n,
        interval: bounded_interval(&differences, &keys, 100.0, CONFIDENCE),
        p_worse: significance.p_less,
        p_better: significance.p_greater,
        adjusted: None,
        test,
        differing: differing.count(),
        changed: changed
            .map(|((id, one, other), (before, after))| ChangedAnswer {
                sample: (*id).to_owned(),
                base: answer(one),
                candidate: answer(other),
                base_points: *before,
                candidate_points: *after,
            })
            .collect(),
        verdict: Verdict::Inconclusive,
    })
}

/// What was answered; `None` for a failure.
fn response(sample: &SampleRecord) -> Option<&str> {
    match &sample.outcome {
        SampleOutcome::Ok(answer) => Some(&answer.response),
        SampleOutcome::Failed { .. } => None,
    }
}
