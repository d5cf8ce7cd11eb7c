//! Ratios of times, here and there.

use serde::Serialize;

use super::{
    conditions::{self, Conditions},
    file::PaperTable,
    matching,
    select::Row,
    verdict::Verdict,
};
use crate::{claims::ClaimFigure, report::Report, stats::Estimate, summary::CaseSummary};

/// A figure of a table under one set of conditions.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Block {
    /// The figure.
    pub figure: ClaimFigure,
    /// Conditions; `None` if no run has any row of it.
    pub conditions: Option<Conditions>,
    /// Its rows, in the order of the paper.
    pub rows: Vec<Latency>,
    /// Pairs of rows that are comparable, were measured and differ as published.
    pub pairs: usize,
    /// Those of them that have the same order here.
    pub same_order: usize,
    /// Those of them whose ranges here overlap or are not known, so that their order here is not sure.
    pub unsure: usize,
}

/// A published time beside ours.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Latency {
    /// The row in words.
    pub row: String,
    /// Where it is printed.
    pub source: String,
    /// The case that was measured for it.
    pub case: Option<String>,
    /// Published milliseconds.
    pub theirs_ms: Option<f64>,
    /// Median here, milliseconds.
    pub ours_ms: Option<f64>,
    /// Its 95 % interval, or the whole range where there are too few repetitions for one; one alone has none.
    pub ours_range_ms: Option<(f64, f64)>,
    /// Published time of the reference over the row's.
    pub theirs_ratio: Option<f64>,
    /// Median of the reference here over the row's.
    pub ours_ratio: Option<f64>,
    /// Between which values that ratio lies, by the ranges of both medians.
    pub range: Option<(f64, f64)>,
    /// FLOPs of the reference over the row's.
    pub by_flops: Option<f64>,
    /// Ours over theirs.
    pub of_ratios: Option<f64>,
    /// What is said of it.
    pub verdict: Verdict,
    /// Whether both ends of the range have that verdict, too; not so without a range.
    pub sure: bool,
}

impl Block {
    /// Rows that were measured.
    pub fn measured(&self) -> usize {
        let measured = self.rows.iter().filter(|row| row.ours_ms.is_some());
        measured.count()
    }
}

/// A figure of a table: one block for each set of conditions under which its reference was measured, or any
/// row if that was not; of those that differ in the run alone the ones with most rows. If no run has a row,
/// one without conditions.
pub(super) fn blocks(
    table: &PaperTable,
    figure: ClaimFigure,
    rows: &[Row<'_>],
    tolerance: f64,
    report: &Report,
) -> Vec<Block> {
    let reference = rows.iter().position(|row| row.spec.reference);
    let groups = conditions::groups(report, figure).into_iter();
    let mut all: Vec<Measured<'_>> = groups
        .map(|(conditions, cases)| Measured {
            cases: matching::assign(rows, figure, &cases),
            conditions: Some(conditions),
        })
        .filter(|measured| measured.count() > 0)
        .collect();
    let has_reference = |m: &Measured<'_>| reference.is_some_and(|r| m.cases[r].is_some());
    if all.iter().any(has_reference) {
        all.retain(has_reference);
    }
    // Runs of other experiments may have some of the rows, too.
    let beaten = |m: &Measured<'_>| all.iter().any(|other| other.beats(m));
    let beaten: Vec<bool> = all.iter().map(beaten).collect();
    let mut beaten = beaten.into_iter();
    all.retain(|_| beaten.next() == Some(false));
    if all.is_empty() {
        all.push(Measured {
            conditions: None,
            cases: vec![None; rows.len()],
        });
    }
    let block = |m: Measured<'_>| {
        let at = Place {
            table,
            figure,
            tolerance,
            report,
            base_ms: reference.and_then(|r| figure.published(rows[r].point)),
            base: reference.and_then(|r| m.cases[r]),
        };
        let judged = rows.iter().zip(&m.cases);
        let judged = judged.map(|(row, case)| at.latency(row, *case)).collect();
        Block::new(figure, m.conditions, judged)
    };
    all.into_iter().map(block).collect()
}

/// The case of each row under some conditions.
struct Measured<'a> {
    conditions: Option<Conditions>,
    cases: Vec<Option<&'a CaseSummary>>,
}

impl Measured<'_> {
    fn count(&self) -> usize {
        self.cases.iter().flatten().count()
    }

    /// Whether it has more of the rows under conditions that are alike.
    fn beats(&self, other: &Self) -> bool {
        let alike = self.conditions.as_ref().zip(other.conditions.as_ref());
        alike.is_some_and(|(a, b)| a.alike(b)) && self.count() > other.count()
    }
}

/// What a row is judged by.
struct Place<'a> {
    table: &'a PaperTable,
    figure: ClaimFigure,
    tolerance: f64,
    report: &'a Report,
    /// Published time of the reference.
    base_ms: Option<f64>,
    /// Its case.
    base: Option<&'a CaseSummary>,
}

impl Place<'_> {
    fn latency(&self, row: &Row<'_>, case: Option<&CaseSummary>) -> Latency {
        let theirs_ms = self.figure.published(row.point);
        let estimate = |case: Option<&CaseSummary>| case?.figure(self.figure.figure()).copied();
        let flops = |case: Option<&CaseSummary>| {
            let case = case?;
            self.figure.flops(&self.report.runs[case.run], &case.case)
        };
        let ours = estimate(case);
        let base = estimate(self.base);
        let theirs_ratio = self.base_ms.zip(theirs_ms).map(|(b, row)| b / row);
        let ours_ratio = base.zip(ours).map(|(b, row)| b.median / row.median);
        let ratios = base.zip(ours).and_then(|(b, row)| {
            let ((b_low, b_high), (low, high)) = (range(&b)?, range(&row)?);
            Some((b_low / high, b_high / low))
        });
        let by_flops = flops(self.base).zip(flops(case));
        let (verdict, sure) = self.verdict(row, theirs_ratio, ours_ratio, ratios, ours.is_some());
        Latency {
            row: row.label(),
            source: row.point.source.to_string(),
            case: case.map(|case| case.case.clone()),
            theirs_ms,
            ours_ms: ours.map(|ours| ours.median),
            ours_range_ms: ours.as_ref().and_then(range),
            theirs_ratio,
            ours_ratio,
            range: ratios.filter(|_| !row.spec.reference),
            by_flops: by_flops.map(|(base, row)| base as f64 / row as f64),
            of_ratios: ours_ratio.zip(theirs_ratio).map(|(a, b)| a / b),
            verdict,
            sure,
        }
    }

    fn verdict(
        &self,
        row: &Row<'_>,
        theirs: Option<f64>,
        ours: Option<f64>,
        range: Option<(f64, f64)>,
        measured: bool,
    ) -> (Verdict, bool) {
        let certain = |verdict| (verdict, true);
        if let Some(why) = &row.spec.not_comparable {
            return certain(Verdict::NotComparable { why: why.clone() });
        }
        let Some(theirs) = theirs else {
            let why = format!("no {} is published", self.figure.name());
            return certain(Verdict::NotComparable { why });
        };
        let experiment = self.table.experiment.clone().unwrap_or_default();
        if !measured {
            return certain(Verdict::NotMeasured { experiment });
        }
        if row.spec.reference {
            return certain(Verdict::Reference);
        }
        let Some(ours) = ours else {
            return certain(Verdict::NoReference { experiment });
        };
        let of = |ours| Verdict::of_ratio(ours, theirs, self.tolerance);
        let verdict = of(ours);
        let sure = range.is_some_and(|(low, high)| of(low) == verdict && of(high) == verdict);
        (verdict, sure)
    }
}

/// The 95 % interval of a median, or the whole range where there are too few repetitions for one; one alone
/// has none.
fn range(estimate: &Estimate) -> Option<(f64, f64)> {
    let whole = (estimate.n > 1).then_some((estimate.min, estimate.max));
    estimate.interval.map(|i| (i.low, i.high)).or(whole)
}

impl Block {
    fn new(figure: ClaimFigure, conditions: Option<Conditions>, rows: Vec<Latency>) -> Self {
        let mut block = Self {
            figure,
            conditions,
            rows,
            pairs: 0,
            same_order: 0,
            unsure: 0,
        };
        let comparable = |row: &&Latency| !matches!(row.verdict, Verdict::NotComparable { .. });
        let of = |row: &Latency| Some((row.theirs_ms?, row.ours_ms?, row.ours_range_ms));
        let rows: Vec<_> = (block.rows.iter().filter(comparable))
            .filter_map(of)
            .collect();
        for (index, a) in rows.iter().enumerate() {
            for b in rows[index + 1..].iter().filter(|b| a.0 != b.0) {
                block.pairs += 1;
                block.same_order += usize::from((a.0 < b.0) == (a.1 < b.1));
                let apart = a.2.zip(b.2).is_some_and(|(a, b)| a.1 < b.0 || b.1 < a.0);
                block.unsure += usize::from(!apart);
            }
        }
        block
    }
}
