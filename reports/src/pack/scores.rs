//! Accuracies of rows whose weights were released, here and there.

use serde::Serialize;

use super::{
    file::{Asked, Pack, PaperTable},
    select::Row,
    verdict::Verdict,
};
use crate::{record::Run, report::Report, stats::Interval, summary::CaseSummary};

/// A published accuracy beside ours, per cent.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Score {
    /// The row in words.
    pub row: String,
    /// Where it is printed.
    pub source: String,
    /// The metric as published.
    pub metric: String,
    /// How it is asked here.
    pub asked: String,
    /// The case that was asked.
    pub case: Option<String>,
    /// Published.
    pub theirs: f64,
    /// Measured here.
    pub ours: Option<f64>,
    /// Its 95 % interval.
    pub interval: Option<Interval>,
    /// Samples asked.
    pub n: Option<usize>,
    /// What is said of it.
    pub verdict: Verdict,
}

/// A line for each row with weights, metric and case that was asked; one without a case if none was.
pub(super) fn scores(
    pack: &Pack,
    table: &PaperTable,
    rows: &[Row<'_>],
    report: &Report,
) -> Vec<Score> {
    let mut scores = Vec::new();
    for row in rows.iter().filter(|row| !row.spec.weights.is_empty()) {
        for (metric, asked) in &pack.metrics {
            let Some(&theirs) = row.point.metrics.get(metric) else {
                continue;
            };
            let blank = Score {
                row: row.label(),
                source: row.point.source.to_string(),
                metric: metric.clone(),
                asked: format!("{}, {}", asked.suite, asked.profile),
                case: None,
                theirs,
                ours: None,
                interval: None,
                n: None,
                verdict: Verdict::NotMeasured {
                    experiment: table.scores.clone().unwrap_or_default(),
                },
            };
            let before = scores.len();
            let cases = report.scored().filter(|case| is(row, asked, case));
            scores.extend(cases.map(|case| measured(case, report, asked, blank.clone())));
            if scores.len() == before {
                scores.push(blank);
            }
        }
    }
    scores
}

/// Whether a case asked the row's metric of the row's weights.
fn is(row: &Row<'_>, asked: &Asked, case: &CaseSummary) -> bool {
    let Some(labels) = case.facts.as_ref().map(|facts| &facts.labels) else {
        return false;
    };
    let side = row.spec.here.resolution.or(row.point.resolution);
    row.spec.weights.contains(&labels.model)
        && (side.is_none() || side == Some(labels.resolution))
        && labels.suite.as_ref() == Some(&asked.suite)
        && labels.profile.as_ref() == Some(&asked.profile)
        && !labels.blind
}

fn measured(case: &CaseSummary, report: &Report, asked: &Asked, blank: Score) -> Score {
    let Some(accuracy) = &case.accuracy else {
        return blank;
    };
    let ours = 100.0 * accuracy.mean();
    let interval = accuracy.interval().map(|i| i.map(|share| 100.0 * share));
    let verdict = match drawn(&report.runs[case.run], &asked.suite) {
        true => Verdict::NotComparable {
            why: "asked of drawn data, not of the suite's own".into(),
        },
        false => Verdict::of_score(ours, interval, blank.theirs),
    };
    Score {
        case: Some(case.case.clone()),
        ours: Some(ours),
        interval,
        n: Some(accuracy.n),
        verdict,
        ..blank
    }
}

/// Whether a run drew a suite's samples itself (`data: synth:N`), as its manifest says.
fn drawn(run: &Run, suite: &str) -> bool {
    let suites = run.manifest.experiment["quality"]["suites"].as_array();
    suites.into_iter().flatten().any(|entry| {
        let data = entry["data"].as_str().unwrap_or_default();
        entry["suite"] == suite && data.starts_with("synth:")
    })
}

/// Published accuracies that are not compared, and why, in words.
pub(super) fn left_out(pack: &Pack, table: &PaperTable, rows: &[Row<'_>]) -> Vec<String> {
    if table.not_comparable.is_some() {
        return Vec::new();
    }
    let mut metrics: Vec<&str> = Vec::new();
    let mut without_weights = 0;
    for row in rows {
        let asked = |metric: &&String| pack.metrics.contains_key(*metric);
        let unasked = row.point.metrics.keys().filter(|metric| !asked(metric));
        for metric in unasked {
            if !metrics.contains(&metric.as_str()) {
                metrics.push(metric);
            }
        }
        let any = row.point.metrics.keys().any(|metric| asked(&metric));
        without_weights += usize::from(any && row.spec.weights.is_empty());
    }
    let mut reasons = Vec::new();
    if without_weights > 0 {
        reasons.push(format!(
            "No model here has the weights of {without_weights} of {} rows: their accuracies are not compared.",
            rows.len()
        ));
    }
    if !metrics.is_empty() {
        reasons.push(format!("No suite here asks {}.", metrics.join(", ")));
    }
    reasons
}
