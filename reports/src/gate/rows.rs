//! A comparison as a data frame: one row for each latency and each score.

use polars::{frame::DataFrame, prelude::Column};

use super::{Comparison, words};
use crate::error::Result;

/// A row before it is laid out in columns.
struct Row<'a> {
    kind: &'static str,
    case: &'a str,
    figure: &'a str,
    /// Of `base` and `candidate`.
    unit: &'static str,
    base: f64,
    candidate: f64,
    /// Of `change` and its ends.
    change_unit: &'static str,
    change: f64,
    interval: Option<crate::stats::Interval>,
    p_worse: f64,
    p_better: f64,
    adjusted: Option<f64>,
    n: usize,
    share: Option<f64>,
    gated: bool,
    test: Option<&'a str>,
    verdict: super::Verdict,
}

/// One row for each latency (milliseconds; its change is `candidate / base - 1`) and each score
/// (points of 100; its change is their difference). `n` counts launches or samples. What is not a
/// finite number is null.
///
/// # Errors
/// [`crate::Error::Frame`].
pub fn rows(comparison: &Comparison) -> Result<DataFrame> {
    let latencies = comparison.cases.iter().flat_map(|case| {
        case.latencies.iter().map(|l| Row {
            kind: "latency",
            case: &case.case,
            figure: &l.figure,
            unit: "ms",
            base: l.base_ms,
            candidate: l.candidate_ms,
            change_unit: "relative",
            change: l.change,
            interval: l.interval,
            p_worse: l.p_slower,
            p_better: l.p_faster,
            adjusted: l.adjusted,
            n: l.launches,
            share: Some(l.share),
            gated: l.gated,
            test: None,
            verdict: l.verdict,
        })
    });
    let scores = comparison.scores.iter().map(|s| Row {
        kind: "score",
        case: &s.case,
        figure: "score",
        unit: "points",
        base: s.base,
        candidate: s.candidate,
        change_unit: "points",
        change: s.change,
        interval: s.interval,
        p_worse: s.p_worse,
        p_better: s.p_better,
        adjusted: s.adjusted,
        n: s.samples,
        share: None,
        gated: true,
        test: Some(&s.test),
        verdict: s.verdict,
    });
    let rows: Vec<Row<'_>> = latencies.chain(scores).collect();
    let text = |name: &str, of: &dyn Fn(&Row<'_>) -> Option<String>| {
        Column::new(name.into(), rows.iter().map(of).collect::<Vec<_>>())
    };
    let number = |name: &str, of: &dyn Fn(&Row<'_>) -> Option<f64>| {
        let finite = |row| of(row).filter(|value| value.is_finite());
        Column::new(name.into(), rows.iter().map(finite).collect::<Vec<_>>())
    };
    let columns = vec![
        text("kind", &|r| Some(r.kind.into())),
        text("case", &|r| Some(r.case.into())),
        text("figure", &|r| Some(r.figure.into())),
        text("unit", &|r| Some(r.unit.into())),
        number("base", &|r| Some(r.base)),
        number("candidate", &|r| Some(r.candidate)),
        text("change_unit", &|r| Some(r.change_unit.into())),
        number("change", &|r| Some(r.change)),
        number("change_low", &|r| Some(r.interval?.low)),
        number("change_high", &|r| Some(r.interval?.high)),
        number("confidence", &|r| Some(r.interval?.confidence)),
        number("p_worse", &|r| Some(r.p_worse)),
        number("p_better", &|r| Some(r.p_better)),
        number("p_adjusted", &|r| r.adjusted),
        Column::new(
            "n".into(),
            rows.iter().map(|r| r.n as u64).collect::<Vec<_>>(),
        ),
        number("share", &|r| r.share),
        Column::new(
            "gated".into(),
            rows.iter().map(|r| r.gated).collect::<Vec<_>>(),
        ),
        text("test", &|r| r.test.map(str::to_owned)),
        text("verdict", &|r| Some(words::verdict(r.verdict).into())),
    ];
    Ok(DataFrame::new(rows.len(), columns)?)
}
