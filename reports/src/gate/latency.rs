//! Latencies of both sides, launch by launch, and what is said about them.

use std::collections::BTreeMap;

use super::{CaseChange, LatencyChange, Settings, Verdict};
use crate::{
    stats::{Interval, Significance, holm, quantile, shift_interval, sign_flips},
    summary::Figure,
};

/// Confidence of the intervals that stand beside changes.
const CONFIDENCE: f64 = 0.95;

/// Figures of a turn (the least over its repetitions) or of a launch (their medians), milliseconds.
pub type Launched = BTreeMap<Figure, f64>;

/// A launch of each side that took turns.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Pair {
    /// Turns of the base, in order.
    pub base: Vec<Launched>,
    /// Turns of the candidate, those of one index side by side.
    pub candidate: Vec<Launched>,
}

impl Pair {
    /// Medians over the turns of both launches, and of the logarithms of the ratios turn by turn: what slowed one
    /// turn slowed the other. `None` if a turn lacks the figure.
    fn of(&self, figure: Figure) -> Option<(f64, f64, f64)> {
        let all = |turns: &[Launched]| -> Option<Vec<f64>> {
            turns
                .iter()
                .map(|turn| turn.get(&figure).copied())
                .collect()
        };
        let (base, candidate) = (all(&self.base)?, all(&self.candidate)?);
        let ratios = base
            .iter()
            .zip(&candidate)
            .map(|(one, other)| (other / one).ln());
        let ratio = median(ratios)?;
        Some((
            median(base.into_iter())?,
            median(candidate.into_iter())?,
            ratio,
        ))
    }
}

/// Launches of one case on both sides.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Pairs {
    /// Case id.
    pub case: String,
    /// The pairs, in order.
    pub launches: Vec<Pair>,
}

/// A change as it was estimated, before it is held to the others.
pub(super) struct Estimated {
    pub figure: Figure,
    pub base_ms: f64,
    pub candidate_ms: f64,
    /// Of the logarithm of candidate over base.
    pub shift: f64,
    pub interval: Option<Interval>,
    pub significance: Significance,
    pub launches: usize,
}

/// What is said about the latencies of all cases after one of the looks that `settings` plan.
///
/// A figure is the mean over pairs of the median over turns of `ln(candidate / base)`, tested by flipping signs
/// and held to all gated figures of all cases by Holm's rule at `alpha / looks`. It *regressed* if it is
/// significant and at least `relevant`, *improved* likewise on the other side, *passes* if its interval ends
/// below `tolerated`.
pub fn paired(cases: &[Pairs], settings: &Settings) -> Vec<CaseChange> {
    let looks = settings.looks.len().max(1) as f64;
    let estimated = cases.iter().map(|pairs| {
        let figures = Figure::ALL.into_iter();
        let estimated = figures.filter_map(|figure| estimate(pairs, figure));
        (pairs.case.clone(), estimated.collect())
    });
    judged(estimated.collect(), settings, settings.alpha / looks)
}

fn estimate(pairs: &Pairs, figure: Figure) -> Option<Estimated> {
    // A figure stands only if every launch has it.
    let launches: Option<Vec<(f64, f64, f64)>> =
        pairs.launches.iter().map(|pair| pair.of(figure)).collect();
    let launches = launches?;
    let ratios: Vec<f64> = launches.iter().map(|(.., ratio)| *ratio).collect();
    let interval = shift_interval(&ratios, CONFIDENCE).map(|i| i.map(f64::exp_m1));
    Some(Estimated {
        figure,
        base_ms: median(launches.iter().map(|(base, ..)| *base))?,
        candidate_ms: median(launches.iter().map(|(_, candidate, _)| *candidate))?,
        shift: ratios.iter().sum::<f64>() / ratios.len() as f64,
        interval,
        significance: sign_flips(&ratios)?,
        launches: launches.len(),
    })
}

/// Median of some values; `None` without any.
pub(super) fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    quantile(&sorted, 0.5)
}

/// Verdicts over all cases at once, at a chance of `alpha` for any false alarm.
pub(super) fn judged(
    cases: Vec<(String, Vec<Estimated>)>,
    settings: &Settings,
    alpha: f64,
) -> Vec<CaseChange> {
    let mut changes: Vec<CaseChange> = cases
        .into_iter()
        .map(|(case, estimated)| CaseChange {
            case,
            latencies: shown(estimated, settings),
            differences: Vec::new(),
            flags: Vec::new(),
        })
        .collect();
    let gated = |changes: &[CaseChange], p: fn(&LatencyChange) -> f64| -> Vec<f64> {
        let all = changes.iter().flat_map(|case| &case.latencies);
        holm(&all.filter(|l| l.gated).map(p).collect::<Vec<_>>())
    };
    let slower = gated(&changes, |l| l.p_slower);
    let faster = gated(&changes, |l| l.p_faster);
    let all = changes.iter_mut().flat_map(|case| &mut case.latencies);
    let adjusted = slower.into_iter().zip(faster);
    for (latency, (slower, faster)) in all.filter(|l| l.gated).zip(adjusted) {
        latency.adjusted = Some(slower);
        latency.verdict = verdict(latency, slower, faster, settings, alpha);
    }
    changes
}

/// Changes with what decides whether they are gated; nothing said yet.
fn shown(estimated: Vec<Estimated>, settings: &Settings) -> Vec<LatencyChange> {
    let staged = |figure: Figure| !matches!(figure, Figure::TtftPaper | Figure::TtftUser);
    let stages = estimated.iter().filter(|e| staged(e.figure));
    let request: f64 = stages.map(|e| e.base_ms).sum();
    let change = |e: Estimated| {
        let share = e.base_ms / request;
        LatencyChange {
            figure: e.figure.name().into(),
            base_ms: e.base_ms,
            candidate_ms: e.candidate_ms,
            change: e.shift.exp_m1(),
            interval: e.interval,
            p_slower: e.significance.p_greater,
            p_faster: e.significance.p_less,
            adjusted: None,
            launches: e.launches,
            share,
            // Every token after the first costs it again.
            gated: staged(e.figure) && (share >= settings.least_share || e.figure == Figure::Tpot),
            verdict: Verdict::Inconclusive,
        }
    };
    estimated.into_iter().map(change).collect()
}

fn verdict(
    latency: &LatencyChange,
    slower: f64,
    faster: f64,
    settings: &Settings,
    alpha: f64,
) -> Verdict {
    let within = |i: Interval| i.high <= settings.tolerated;
    if slower <= alpha && latency.change >= settings.relevant {
        Verdict::Regressed
    } else if faster <= alpha && latency.change <= -settings.relevant {
        Verdict::Improved
    } else if latency.interval.is_some_and(within) {
        Verdict::Pass
    } else {
        Verdict::Inconclusive
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `n` pairs whose figures are the base's times `factor`, with a little of either sign between pairs.
    fn pairs(case: &str, n: usize, wobble: f64, factors: &[(Figure, f64, f64)]) -> Pairs {
        let launches = (0..n).map(|pair| {
            let sign = if pair % 2 == 0 { 1.0 } else { -1.0 };
            let noise = 1.0 + sign * wobble * (1.0 + pair as f64 / n as f64);
            let base = factors.iter().map(|(figure, ms, _)| (*figure, *ms));
            let candidate = factors
                .iter()
                .map(|(figure, ms, by)| (*figure, ms * by * noise));
            Pair {
                base: vec![base.collect()],
                candidate: vec![candidate.collect()],
            }
        });
        Pairs {
            case: case.into(),
            launches: launches.collect(),
        }
    }

    fn verdicts(cases: &[Pairs], settings: &Settings) -> Vec<(String, Verdict)> {
        let changes = paired(cases, settings);
        let all = changes
            .iter()
            .flat_map(|c| &c.latencies)
            .filter(|l| l.gated);
        all.map(|l| (l.figure.clone(), l.verdict)).collect()
    }

    #[test]
    fn what_slows_a_turn_slows_both_of_it() {
        let turns = |ms: [f64; 3]| ms.map(|ms| Launched::from([(Figure::Encode, ms)])).to_vec();
        // The machine was half as fast in the second turn; the candidate takes a tenth more.
        let pair = Pair {
            base: turns([10.0, 20.0, 11.0]),
            candidate: turns([11.0, 22.0, 12.1]),
        };
        let (base, candidate, ratio) = pair.of(Figure::Encode).unwrap();
        assert_eq!((base, candidate), (11.0, 12.1));
        assert!((ratio - 1.1_f64.ln()).abs() < 1e-12, "{ratio}");
        assert_eq!(pair.of(Figure::Prefill), None);
    }

    #[test]
    fn each_stage_gets_its_own_verdict() {
        let case = pairs(
            "a",
            12,
            0.01,
            &[
                (Figure::Encode, 50.0, 1.08),
                (Figure::Prefill, 30.0, 0.9),
                (Figure::Project, 20.0, 1.0),
                (Figure::TtftPaper, 80.0, 1.02),
            ],
        );
        let found = verdicts(std::slice::from_ref(&case), &Settings::default());
        let wanted = [
            ("encode", Verdict::Regressed),
            ("project", Verdict::Pass),
            ("prefill", Verdict::Improved),
        ];
        assert_eq!(found, wanted.map(|(figure, v)| (figure.to_owned(), v)));
        let changes = paired(&[case], &Settings::default());
        let encode = changes[0].blamed().unwrap();
        assert_eq!(encode.figure, "encode");
        assert!((encode.change - 0.08).abs() < 0.003, "{}", encode.change);
        let within = encode.interval.unwrap();
        assert!(within.low < encode.change && encode.change < within.high);
        // A sum of stages is shown, and decides nothing.
        let sum = &changes[0].latencies[3];
        assert_eq!((sum.figure.as_str(), sum.gated), ("ttft.paper", false));
    }

    #[test]
    fn what_is_irrelevant_passes_and_what_is_not_known_is_inconclusive() {
        let encode = |n, wobble, by| pairs("a", n, wobble, &[(Figure::Encode, 50.0, by)]);
        let verdict = |case: Pairs| verdicts(&[case], &Settings::default())[0].1;
        // Half a percent, beyond any doubt.
        assert_eq!(verdict(encode(12, 1e-4, 1.005)), Verdict::Pass);
        assert_eq!(verdict(encode(12, 0.2, 1.03)), Verdict::Inconclusive);
        // Five pairs have no interval and no p below 1/32.
        assert_eq!(verdict(encode(5, 1e-4, 1.5)), Verdict::Inconclusive);
    }

    #[test]
    fn more_figures_and_more_looks_ask_for_more() {
        // 8 pairs of one sign: p = 1/256, enough alone at 1 %, not for one of three.
        let alone = pairs("a", 8, 1e-4, &[(Figure::Encode, 50.0, 1.1)]);
        let settings = Settings {
            looks: vec![8],
            ..Settings::default()
        };
        assert_eq!(
            verdicts(std::slice::from_ref(&alone), &settings)[0].1,
            Verdict::Regressed
        );
        let steady = |case: &str| pairs(case, 8, 0.01, &[(Figure::Encode, 50.0, 1.0)]);
        let three = [alone.clone(), steady("b"), steady("c")];
        assert_ne!(verdicts(&three, &settings)[0].1, Verdict::Regressed);
        let twice = Settings {
            looks: vec![8, 16, 24],
            ..settings
        };
        assert_ne!(verdicts(&[alone], &twice)[0].1, Verdict::Regressed);
    }

    #[test]
    fn small_stages_are_shown_and_not_gated() {
        let case = pairs(
            "a",
            12,
            1e-4,
            &[
                (Figure::Encode, 99.5, 1.0),
                (Figure::Project, 0.5, 2.0),
                (Figure::Tpot, 0.1, 2.0),
            ],
        );
        let changes = paired(&[case], &Settings::default());
        let gated = changes[0]
            .latencies
            .iter()
            .map(|l| (l.figure.as_str(), l.gated));
        let wanted = [("encode", true), ("project", false), ("tpot", true)];
        assert_eq!(gated.collect::<Vec<_>>(), wanted);
        assert_eq!(changes[0].blamed().unwrap().figure, "tpot");
    }
}
