//! How sure a Pareto front is: the front of many draws of what was measured.
//!
//! One draw takes every suite's samples anew with replacement, the same ones for every case, since the
//! same questions were asked, and every case's launches (or, of one launch, its repetitions). So what
//! is hard for all is drawn for all, and what is chance between two points stays.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    record::Run,
    report::{AccuracySource, Report},
    stats::{Frontier, Interval, Random, frontier, quantile},
    summary::{CaseSummary, Figure, replicates},
    table::{Align, Table, column, milliseconds},
};

/// Draws.
pub const DRAWS: usize = 2000;
const SEED: u64 = 0xF207;
const CONFIDENCE: f64 = 0.95;

/// A point that was drawn, with all its draws.
struct Point<'a> {
    summary: &'a CaseSummary,
    accuracy: f64,
    /// `(milliseconds, points of 100)`.
    draws: Vec<(f64, f64)>,
}

/// Points of a picture, if all of it was measured.
fn points<'a>(report: &'a Report, source: AccuracySource<'_>) -> Vec<Point<'a>> {
    let suites: Vec<(&str, &str)> = match source {
        AccuracySource::Published(_) => return Vec::new(),
        AccuracySource::Measured { suite, profile } => vec![(suite, profile)],
        AccuracySource::Mean => report.suites(),
    };
    let mut random = Random::seeded(SEED);
    let mut scores: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for &(suite, profile) in &suites {
        for (case, means) in suite_draws(report, suite, profile, &mut random) {
            let sums = scores.entry(case).or_insert_with(|| vec![0.0; DRAWS]);
            for (sum, mean) in sums.iter_mut().zip(means) {
                *sum += mean / suites.len() as f64;
            }
        }
    }
    let point = |summary: &'a CaseSummary| {
        let (accuracy, _) = report.measured(summary, source)?;
        let times = time_draws(&report.runs[summary.run], &summary.case)?;
        let scores = scores.get(summary.case.as_str())?;
        Some(Point {
            summary,
            accuracy: 100.0 * accuracy,
            draws: times.into_iter().zip(scores.iter().copied()).collect(),
        })
    };
    report.timed().filter_map(point).collect()
}

/// Means of a suite over drawn samples, points of 100, by the id of the timed case they belong to.
fn suite_draws<'a>(
    report: &'a Report,
    suite: &str,
    profile: &str,
    random: &mut Random,
) -> Vec<(&'a str, Vec<f64>)> {
    let scored = report.timed().filter_map(|timed| {
        let scored = report.measured_accuracy(timed, suite, profile)?;
        Some((
            timed.case.as_str(),
            scores(&report.runs[scored.run], &scored.case),
        ))
    });
    let scored: Vec<(&str, BTreeMap<&str, f64>)> = scored.collect();
    let ids: BTreeSet<&str> = scored
        .iter()
        .flat_map(|(_, scores)| scores.keys().copied())
        .collect();
    let ids: Vec<&str> = ids.into_iter().collect();
    // A sample that one case lacks counts for the others.
    let table: Vec<Vec<Option<f64>>> = scored
        .iter()
        .map(|(_, scores)| ids.iter().map(|id| scores.get(id).copied()).collect())
        .collect();
    let mut means: Vec<Vec<f64>> = vec![Vec::with_capacity(DRAWS); scored.len()];
    for _ in 0..DRAWS {
        let drawn: Vec<usize> = ids.iter().map(|_| random.below(ids.len())).collect();
        for (means, row) in means.iter_mut().zip(&table) {
            let own = drawn.iter().filter_map(|&sample| row[sample]);
            let (sum, count) = own.fold((0.0, 0.0), |(sum, n), score| (sum + score, n + 1.0));
            means.push(if count > 0.0 { sum / count } else { 0.0 });
        }
    }
    scored
        .into_iter()
        .map(|(case, _)| case)
        .zip(means)
        .collect()
}

/// Points of 100 of a case's samples by id; failed ones have none.
fn scores<'a>(run: &'a Run, case: &str) -> BTreeMap<&'a str, f64> {
    let own = run.samples.iter().filter(|s| s.case == case);
    own.map(|s| (s.sample.as_str(), s.outcome.points()))
        .collect()
}

/// Medians of TTFT over drawn launches, or over drawn repetitions of one.
fn time_draws(run: &Run, case: &str) -> Option<Vec<f64>> {
    let values = replicates(
        &run.timed(case),
        &run.ended_launches(case),
        Figure::TtftPaper,
    )?;
    if values.is_empty() {
        return None;
    }
    // A case's draws are its own, whatever other cases there are.
    let own = case.bytes().fold(SEED, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mut random = Random::seeded(own);
    let draw = |_| {
        let mut drawn: Vec<f64> = values
            .iter()
            .map(|_| values[random.below(values.len())])
            .collect();
        drawn.sort_by(f64::total_cmp);
        quantile(&drawn, 0.5)
    };
    (0..DRAWS).map(draw).collect()
}

/// How often each point of a picture is on the front of a draw, for a table; empty unless two points
/// or more were measured on both axes.
pub fn membership(report: &Report, source: AccuracySource<'_>) -> Table {
    let mut table = Table::new(vec![
        column("case", Align::Left, 0),
        column("TTFT ms", Align::Right, 0),
        column("accuracy", Align::Right, 0),
        column("on the front", Align::Right, 0),
    ]);
    let points = points(report, source);
    if points.len() < 2 {
        return table;
    }
    let Some(found) = fronts(&points, worst(&points)) else {
        return table;
    };
    for (point, share) in points.iter().zip(found.membership) {
        let ttft = point.summary.figure(Figure::TtftPaper).map(|e| e.median);
        table.push(vec![
            point.summary.case.clone(),
            ttft.map(milliseconds).unwrap_or_default(),
            format!("{:.1}", point.accuracy),
            format!("{:.0} %", 100.0 * share),
        ]);
    }
    table
}

fn fronts(points: &[Point<'_>], reference: (f64, f64)) -> Option<Frontier> {
    let draws = (0..DRAWS).map(|draw| points.iter().map(|p| p.draws[draw]).collect());
    frontier(&draws.collect::<Vec<Vec<(f64, f64)>>>(), reference)
}

/// The slowest draw of any point, and no score.
fn worst(points: &[Point<'_>]) -> (f64, f64) {
    let times = points
        .iter()
        .flat_map(|p| p.draws.iter().map(|(ms, _)| *ms));
    (times.fold(0.0, f64::max), 0.0)
}

/// Change of the area under the front from a base to a candidate, as a share of the whole area up to
/// the slowest point of either and to 100 points; with its interval. `None` unless both have points.
pub fn area_change(
    base: &Report,
    candidate: &Report,
    source: AccuracySource<'_>,
) -> Option<(f64, Interval)> {
    let (ours, theirs) = (points(base, source), points(candidate, source));
    if ours.is_empty() || theirs.is_empty() {
        return None;
    }
    let slowest = worst(&ours).0.max(worst(&theirs).0);
    let reference = (slowest, 0.0);
    let (ours, theirs) = (fronts(&ours, reference)?, fronts(&theirs, reference)?);
    let whole = slowest * 100.0;
    let both = ours.hypervolume.iter().zip(&theirs.hypervolume);
    let mut changes: Vec<f64> = both.map(|(one, other)| (other - one) / whole).collect();
    let mean = changes.iter().sum::<f64>() / changes.len() as f64;
    changes.sort_by(f64::total_cmp);
    let end = |p| quantile(&changes, p);
    let tail = (1.0 - CONFIDENCE) / 2.0;
    Some((
        mean,
        Interval {
            low: end(tail)?,
            high: end(1.0 - tail)?,
            confidence: CONFIDENCE,
        },
    ))
}
