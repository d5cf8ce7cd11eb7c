//! Two finished runs: launches that were not made side by side.

use super::latency::{Estimated, judged, median};
use super::{CaseChange, Settings};
use crate::{
    record::Run,
    stats::{Interval, Significance, difference_interval, normal_significance, permutations},
    summary::{Figure, launch_medians},
};

/// Confidence of the intervals that stand beside changes.
const CONFIDENCE: f64 = 0.95;

/// What is said about the latencies that two runs both have.
///
/// The figure is the difference of means of the logarithms of launch medians. Launches of one run share its
/// sitting, so their spread says nothing about another day's: `spread` gives the standard deviation of such means
/// between sittings, by case and figure, from the history. With it, the difference is held to a normal distribution of
/// `sqrt(se_1^2 + se_2^2 + 2 spread^2)`. Without it the test is that of the launches alone, which says that the
/// sittings differ and not that the sides do: a slowdown is shown, and the verdict is `inconclusive`.
pub fn unpaired(
    base: &Run,
    candidate: &Run,
    settings: &Settings,
    spread: &dyn Fn(&str, Figure) -> Option<f64>,
) -> Vec<CaseChange> {
    let mut unknown = Vec::new();
    let mut cases = Vec::new();
    for id in base.case_ids() {
        let mut estimated = Vec::new();
        for figure in Figure::ALL {
            let medians = |run: &Run| {
                let medians = launch_medians(&run.timed(id), &run.ended_launches(id), figure)?;
                Some(medians.into_values().collect::<Vec<f64>>()).filter(|m| !m.is_empty())
            };
            let (Some(ours), Some(theirs)) = (medians(base), medians(candidate)) else {
                continue;
            };
            let spread = spread(id, figure);
            if spread.is_none() {
                unknown.push(id.to_owned());
            }
            estimated.extend(estimate(figure, &ours, &theirs, spread));
        }
        if !estimated.is_empty() {
            cases.push((id.to_owned(), estimated));
        }
    }
    let mut changes = judged(cases, settings, settings.alpha);
    for case in changes
        .iter_mut()
        .filter(|case| unknown.contains(&case.case))
    {
        case.flags.push(
            "measured in two sittings, and no history says how far sittings differ: no verdict"
                .into(),
        );
        for latency in &mut case.latencies {
            latency.verdict = super::Verdict::Inconclusive;
        }
    }
    changes
}

fn estimate(
    figure: Figure,
    base: &[f64],
    candidate: &[f64],
    spread: Option<f64>,
) -> Option<Estimated> {
    let logs = |values: &[f64]| values.iter().map(|v| v.ln()).collect::<Vec<f64>>();
    let (ours, theirs) = (logs(base), logs(candidate));
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let shift = mean(&theirs) - mean(&ours);
    let (significance, interval): (Significance, Option<Interval>) = match spread {
        Some(spread) => {
            // Squared standard error of a mean; of one launch nothing is known but the spread.
            let error = |values: &[f64]| {
                let (m, n) = (mean(values), values.len() as f64);
                let squares: f64 = values.iter().map(|v| (v - m).powi(2)).sum();
                if n > 1.0 {
                    squares / (n - 1.0) / n
                } else {
                    0.0
                }
            };
            let deviation = (error(&ours) + error(&theirs) + 2.0 * spread * spread).sqrt();
            let (significance, half) = normal_significance(shift, deviation, CONFIDENCE)?;
            let interval = Interval {
                low: shift - half,
                high: shift + half,
                confidence: CONFIDENCE,
            };
            (significance, Some(interval))
        }
        None => (
            permutations(&ours, &theirs)?,
            difference_interval(&ours, &theirs, CONFIDENCE),
        ),
    };
    Some(Estimated {
        figure,
        base_ms: median(base.iter().copied())?,
        candidate_ms: median(candidate.iter().copied())?,
        shift,
        interval: interval.map(|i| i.map(f64::exp_m1)),
        significance,
        launches: ours.len().min(theirs.len()),
    })
}
