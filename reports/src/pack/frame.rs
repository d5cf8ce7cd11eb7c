//! The findings as a data frame: one line for each published figure.

use polars::{frame::DataFrame, prelude::Column};

use super::{Conditions, Findings, Verdict};
use crate::error::Result;

/// A line before it is laid out in columns.
#[derive(Default)]
struct Line<'a> {
    table: &'a str,
    row: &'a str,
    source: &'a str,
    figure: &'a str,
    unit: &'static str,
    theirs: Option<f64>,
    ours: Option<f64>,
    theirs_ratio: Option<f64>,
    ours_ratio: Option<f64>,
    /// Of our ratio, or of an accuracy.
    range: Option<(f64, f64)>,
    by_flops: Option<f64>,
    of_ratios: Option<f64>,
    n: Option<usize>,
    tolerance: Option<f64>,
    verdict: Option<&'a Verdict>,
    sure: bool,
    case: Option<&'a str>,
    conditions: Option<&'a Conditions>,
}

/// One line for each published figure of each table, then the claims. Times in milliseconds, accuracies in
/// per cent; `low` and `high` are of our ratio, or of the accuracy. Whole tables that cannot be compared
/// have a line without a figure.
///
/// # Errors
/// [`crate::Error::Frame`].
pub fn frame(findings: &Findings) -> Result<DataFrame> {
    let why: Vec<Option<Verdict>> = (findings.tables.iter())
        .map(|held| {
            Some(Verdict::NotComparable {
                why: held.not_comparable.clone()?,
            })
        })
        .collect();
    let mut lines = Vec::new();
    for (held, why) in findings.tables.iter().zip(&why) {
        let blank = || Line {
            table: &held.name,
            sure: true,
            ..Line::default()
        };
        lines.extend(why.as_ref().map(|why| Line {
            verdict: Some(why),
            ..blank()
        }));
        for block in &held.blocks {
            lines.extend(block.rows.iter().map(|row| Line {
                row: &row.row,
                source: &row.source,
                figure: block.figure.name(),
                unit: "ms",
                theirs: row.theirs_ms,
                ours: row.ours_ms,
                theirs_ratio: row.theirs_ratio,
                ours_ratio: row.ours_ratio,
                range: row.range,
                by_flops: row.by_flops,
                of_ratios: row.of_ratios,
                tolerance: Some(held.tolerance),
                verdict: Some(&row.verdict),
                sure: row.sure,
                case: row.case.as_deref(),
                conditions: block.conditions.as_ref(),
                ..blank()
            }));
        }
        lines.extend(held.scores.iter().map(|score| Line {
            row: &score.row,
            source: &score.source,
            figure: &score.metric,
            unit: "%",
            theirs: Some(score.theirs),
            ours: score.ours,
            range: score.interval.map(|i| (i.low, i.high)),
            n: score.n,
            verdict: Some(&score.verdict),
            case: score.case.as_deref(),
            ..blank()
        }));
    }
    lines.extend(findings.headlines.iter().map(|headline| Line {
        table: "headline claims",
        row: &headline.claim,
        source: &headline.source,
        figure: headline.figure.name(),
        unit: "ratio",
        theirs_ratio: headline.theirs,
        ours_ratio: headline.ours,
        range: headline.range,
        by_flops: headline.by_flops,
        of_ratios: headline.of_ratios,
        n: headline.n,
        tolerance: Some(findings.tolerance),
        verdict: Some(&headline.verdict),
        sure: headline.sure,
        ..Line::default()
    }));
    let text = |name: &str, of: &dyn Fn(&Line<'_>) -> Option<String>| {
        Column::new(name.into(), lines.iter().map(of).collect::<Vec<_>>())
    };
    let number = |name: &str, of: &dyn Fn(&Line<'_>) -> Option<f64>| {
        let finite = |line| of(line).filter(|value| value.is_finite());
        Column::new(name.into(), lines.iter().map(finite).collect::<Vec<_>>())
    };
    let n: Vec<Option<u64>> = lines.iter().map(|l| l.n.map(|n| n as u64)).collect();
    let sure: Vec<bool> = lines.iter().map(|l| l.sure).collect();
    let columns = vec![
        text("table", &|l| Some(l.table.into())),
        text("row", &|l| Some(l.row.into())),
        text("source", &|l| Some(l.source.into())),
        text("figure", &|l| Some(l.figure.into())),
        text("unit", &|l| Some(l.unit.into())),
        number("theirs", &|l| l.theirs),
        number("ours", &|l| l.ours),
        number("theirs_ratio", &|l| l.theirs_ratio),
        number("ours_ratio", &|l| l.ours_ratio),
        number("low", &|l| Some(l.range?.0)),
        number("high", &|l| Some(l.range?.1)),
        number("by_flops", &|l| l.by_flops),
        number("of_ratios", &|l| l.of_ratios),
        number("tolerance", &|l| l.tolerance),
        Column::new("n".into(), n),
        text("verdict", &|l| Some(l.verdict?.name().into())),
        text("said", &|l| Some(l.verdict?.to_string())),
        Column::new("sure".into(), sure),
        text("case", &|l| l.case.map(str::to_owned)),
        text("conditions", &|l| Some(l.conditions?.to_string())),
    ];
    Ok(DataFrame::new(lines.len(), columns)?)
}
