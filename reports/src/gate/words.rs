//! Words and numbers that the formats of a comparison share.

use super::{Comparison, Conclusion, Design, LatencyChange, ScoreChange, Settings, Verdict, gated};
use crate::stats::Interval;

/// What stands for a number that is not known.
pub(super) const DASH: &str = "–";

/// A verdict in a word.
pub(super) fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Improved => "improved",
        Verdict::Pass => "pass",
        Verdict::Inconclusive => "inconclusive",
        Verdict::Regressed => "regressed",
    }
}

/// A conclusion in a word.
pub(super) fn conclusion(conclusion: Conclusion) -> &'static str {
    match conclusion {
        Conclusion::Pass => "pass",
        Conclusion::Inconclusive => "inconclusive",
        Conclusion::Regressed => "regressed",
        Conclusion::Broken => "broken",
    }
}

/// What a conclusion means, in a sentence.
pub(super) fn meaning(comparison: &Comparison) -> String {
    let regressed: Vec<String> = gated(&comparison.cases)
        .filter(|(_, l)| l.verdict == Verdict::Regressed)
        .map(|(case, l)| format!("{} of {case} ({})", l.figure, percent(l.change)))
        .chain(
            (comparison.scores.iter())
                .filter(|s| s.verdict == Verdict::Regressed)
                .map(|s| format!("score of {} ({})", s.case, points(s.change))),
        )
        .collect();
    match comparison.conclusion {
        Conclusion::Pass => "No gated figure got worse by more than is tolerated.".into(),
        Conclusion::Inconclusive if comparison.figures() == 0 => {
            "There is no gated figure, so nothing is decided.".into()
        }
        Conclusion::Inconclusive => {
            "Nothing regressed, but the intervals of some figures are too wide to pass them.".into()
        }
        Conclusion::Regressed => format!("Got worse: {}.", regressed.join(", ")),
        Conclusion::Broken => {
            "The comparison cannot be trusted; its verdicts decide nothing.".into()
        }
    }
}

impl Comparison {
    /// How many figures and scores decide.
    pub(super) fn figures(&self) -> usize {
        gated(&self.cases).count() + self.scores.len()
    }
}

/// A relative change in per cent, signed.
pub(super) fn percent(change: f64) -> String {
    signed(100.0 * change, 1, " %")
}

/// A change of a score in points, signed.
pub(super) fn points(change: f64) -> String {
    signed(change, 1, " points")
}

fn signed(value: f64, digits: usize, unit: &str) -> String {
    if !value.is_finite() {
        return DASH.to_owned();
    }
    let text = format!("{value:+.digits$}");
    // A zero has no sign, whatever it was rounded from.
    let zero = text.trim_start_matches(['+', '-', '0', '.']).is_empty();
    let text = if zero {
        text.trim_start_matches(['+', '-']).to_owned()
    } else {
        text.replace('-', "−")
    };
    format!("{text}{unit}")
}

/// An interval of relative changes, in per cent.
pub(super) fn percents(interval: Option<Interval>) -> String {
    range(interval, 100.0)
}

/// An interval of changes of a score, in points.
pub(super) fn points_range(interval: Option<Interval>) -> String {
    range(interval, 1.0)
}

fn range(interval: Option<Interval>, scale: f64) -> String {
    let Some(i) = interval else {
        return DASH.to_owned();
    };
    format!(
        "{} … {}",
        signed(scale * i.low, 1, ""),
        signed(scale * i.high, 1, "")
    )
}

/// A confidence or a share in per cent, without needless digits.
pub(super) fn share(share: f64) -> String {
    let text = format!("{:.2}", 100.0 * share);
    format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
}

/// A probability.
pub(super) fn chance(p: f64) -> String {
    match p {
        p if !p.is_finite() => DASH.to_owned(),
        p if p < 0.0001 => format!("{p:.0e}"),
        p => format!("{p:.4}"),
    }
}

/// Milliseconds, or a dash for what is no number.
pub(super) fn milliseconds(ms: f64) -> String {
    if ms.is_finite() {
        crate::table::milliseconds(ms)
    } else {
        DASH.to_owned()
    }
}

/// Effect, interval and thresholds of a latency, a fact a line.
pub(super) fn latency_lines(l: &LatencyChange, settings: &Settings) -> Vec<String> {
    vec![
        format!(
            "base {} ms, candidate {} ms: {}",
            milliseconds(l.base_ms),
            milliseconds(l.candidate_ms),
            percent(l.change)
        ),
        interval_line(&percents(l.interval), " %", l.interval),
        format!(
            "irrelevant below {}, tolerated up to {}",
            share(settings.relevant),
            share(settings.tolerated)
        ),
        evidence(l.p_slower, l.adjusted, &format!("{} launches", l.launches)),
    ]
}

/// Effect, interval and thresholds of a score, a fact a line.
pub(super) fn score_lines(s: &ScoreChange, settings: &Settings) -> Vec<String> {
    vec![
        format!(
            "base {:.1}, candidate {:.1} points of 100: {}",
            s.base,
            s.candidate,
            points(s.change)
        ),
        interval_line(&points_range(s.interval), " points", s.interval),
        format!(
            "irrelevant below {} points, a loss of {} points tolerated",
            settings.relevant_points, settings.tolerated_points
        ),
        evidence(
            s.p_worse,
            s.adjusted,
            &format!("{}, {} samples", s.test, s.samples),
        ),
        format!(
            "{} answers differ, {} changed their score",
            s.differing,
            s.changed.len()
        ),
    ]
}

fn interval_line(text: &str, unit: &str, interval: Option<Interval>) -> String {
    match interval {
        Some(i) => format!("{} interval {text}{unit}", share(i.confidence)),
        None => "no interval: too few for one".to_owned(),
    }
}

fn evidence(p: f64, adjusted: Option<f64>, of: &str) -> String {
    let adjusted = adjusted.map_or(String::new(), |a| format!(", adjusted {}", chance(a)));
    format!("p of being worse {}{adjusted} ({of})", chance(p))
}

/// A side with its version, `base 0.1.0 (0123abc)`.
pub(super) fn side(side: &super::Side) -> String {
    let mut text = side.name.clone();
    if let Some(version) = &side.version {
        text.push_str(&format!(" {version}"));
    }
    if let Some(revision) = &side.revision {
        text.push_str(&format!(" ({revision})"));
    }
    text
}

/// How latencies were replicated.
pub(super) fn design(design: Design) -> &'static str {
    match design {
        Design::Pairs => "launches of both sides in pairs",
        Design::Runs => "launches of two finished runs",
    }
}
