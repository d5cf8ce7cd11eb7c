//! The paper's headline claims, as runs recorded them.

use serde::Serialize;

use super::{file::Pack, verdict::Verdict};
use crate::{
    claims::{Claim, ClaimFigure},
    report::Report,
};

/// A headline claim beside what was measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Headline {
    /// Its name, such as `85x`.
    pub claim: String,
    /// What is said of what.
    pub about: String,
    /// Where it is from.
    pub source: String,
    /// What it is about.
    pub figure: ClaimFigure,
    /// Position of the run that measured it.
    pub run: Option<usize>,
    /// Published ratio.
    pub theirs: Option<f64>,
    /// Measured ratio.
    pub ours: Option<f64>,
    /// Its range.
    pub range: Option<(f64, f64)>,
    /// Repetitions.
    pub n: Option<usize>,
    /// Ratio of the work.
    pub by_flops: Option<f64>,
    /// Ours over theirs.
    pub of_ratios: Option<f64>,
    /// What is said of it.
    pub verdict: Verdict,
    /// Whether both ends of the range have that verdict, too; not so without a range.
    pub sure: bool,
}

/// A line for each claim and run that measured it; one without a run if none did.
pub(super) fn headlines(pack: &Pack, claims: &[Claim], report: &Report) -> Vec<Headline> {
    let mut headlines = Vec::new();
    for claim in claims {
        let theirs = claim.published();
        let blank = Headline {
            claim: claim.claim.clone(),
            about: claim.about.clone(),
            source: claim.source.clone(),
            figure: claim.figure,
            run: None,
            theirs,
            ours: None,
            range: None,
            n: None,
            by_flops: None,
            of_ratios: None,
            verdict: Verdict::NotMeasured {
                experiment: pack.claims.clone().unwrap_or_default(),
            },
            sure: true,
        };
        let before = headlines.len();
        for (index, run) in report.runs.iter().enumerate() {
            let recorded = Claim::of(run).into_iter();
            for recorded in recorded.filter(|recorded| recorded.claim == claim.claim) {
                let (Some(ours), Some(theirs)) = (recorded.measured(run), theirs) else {
                    continue;
                };
                let of = |ratio| Verdict::of_ratio(ratio, theirs, pack.tolerance);
                let verdict = of(ours.median);
                // One repetition has no range.
                let range = (ours.n > 1).then_some(ours.range);
                headlines.push(Headline {
                    run: Some(index),
                    ours: Some(ours.median),
                    range,
                    n: Some(ours.n),
                    by_flops: recorded.by_flops(run),
                    of_ratios: Some(ours.median / theirs),
                    sure: range.is_some_and(|r| of(r.0) == verdict && of(r.1) == verdict),
                    verdict,
                    ..blank.clone()
                });
            }
        }
        if headlines.len() == before {
            headlines.push(blank);
        }
    }
    headlines
}
