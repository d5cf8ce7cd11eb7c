//! What a candidate costs in points and buys in time, in one line.

use serde::{Deserialize, Serialize};

use super::{CaseChange, ScoreChange};
use crate::{record::CaseFacts, stats::Interval};

/// The change of one model's score beside the change of its time to first token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tradeoff {
    /// The model, as the base calls it.
    pub model: String,
    /// Input side in pixels.
    pub resolution: u32,
    /// Suite and profile.
    pub suite: String,
    /// Change of the score, points of 100.
    pub points: f64,
    /// Its interval.
    pub points_interval: Option<Interval>,
    /// Relative change of `ttft.paper`.
    pub time: f64,
    /// Its interval.
    pub time_interval: Option<Interval>,
}

/// Joins latencies and scores of the same model, resolution, engine, device and precision. `facts` finds those of
/// the base's case.
pub fn tradeoffs<'a>(
    cases: &[CaseChange],
    scores: &[ScoreChange],
    facts: &dyn Fn(&str) -> Option<&'a CaseFacts>,
) -> Vec<Tradeoff> {
    let mut joined = Vec::new();
    for score in scores {
        let Some(asked) = facts(&score.case).map(|f| &f.labels).filter(|l| !l.blind) else {
            continue;
        };
        let same = |case: &&CaseChange| {
            facts(&case.case).is_some_and(|timed| {
                let timed = &timed.labels;
                (&timed.model, timed.resolution) == (&asked.model, asked.resolution)
                    && (&timed.backend, &timed.device) == (&asked.backend, &asked.device)
                    && timed.precision == asked.precision
            })
        };
        let timed = cases.iter().find(same);
        let time = timed.and_then(|c| c.latencies.iter().find(|l| l.figure == "ttft.paper"));
        let Some(time) = time else { continue };
        let suite = [asked.suite.as_deref(), asked.profile.as_deref()];
        joined.push(Tradeoff {
            model: asked.model.clone(),
            resolution: asked.resolution,
            suite: suite.into_iter().flatten().collect::<Vec<_>>().join("."),
            points: score.change,
            points_interval: score.interval,
            time: time.change,
            time_interval: time.interval,
        });
    }
    joined
}

impl Tradeoff {
    /// In words: `docvqa.lmms at 256 px: costs 0.3 points (-0.4 to 1.0) and buys 41.0 % of TTFT (39.0 to 43.0)`.
    pub fn sentence(&self) -> String {
        // What is lost and what is won are positive.
        let said = |verbs: [&str; 2], won: f64, interval: Option<Interval>, unit: &str| {
            let sign = if won < 0.0 { -1.0 } else { 1.0 };
            let ends = interval.map(|i| [i.low, i.high].map(|end| sign * end));
            let ends = ends.map(|[a, b]| format!(" ({:.1} to {:.1})", a.min(b), a.max(b)));
            let verb = verbs[usize::from(won < 0.0)];
            format!("{verb} {:.1} {unit}{}", won.abs(), ends.unwrap_or_default())
        };
        let scaled = |i: Interval| Interval {
            low: -100.0 * i.high,
            high: -100.0 * i.low,
            ..i
        };
        format!(
            "{} at {} px, {}: {} and {}",
            self.model,
            self.resolution,
            self.suite,
            said(
                ["wins", "costs"],
                self.points,
                self.points_interval,
                "points"
            ),
            said(
                ["buys", "costs"],
                -100.0 * self.time,
                self.time_interval.map(scaled),
                "% of TTFT"
            ),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_is_lost_and_what_is_won() {
        let interval = |low, high| {
            Some(Interval {
                low,
                high,
                confidence: 0.95,
            })
        };
        let quantised = Tradeoff {
            model: "m".into(),
            resolution: 256,
            suite: "docvqa.lmms".into(),
            points: -0.3,
            points_interval: interval(-0.7, 0.1),
            time: -0.41,
            time_interval: interval(-0.43, -0.39),
        };
        assert_eq!(
            quantised.sentence(),
            "m at 256 px, docvqa.lmms: costs 0.3 points (-0.1 to 0.7) and buys 41.0 % of TTFT (39.0 to 43.0)"
        );
        let worse = Tradeoff {
            points: 0.5,
            points_interval: None,
            time: 0.02,
            time_interval: interval(-0.01, 0.05),
            ..quantised
        };
        assert_eq!(
            worse.sentence(),
            "m at 256 px, docvqa.lmms: wins 0.5 points and costs 2.0 % of TTFT (-1.0 to 5.0)"
        );
    }
}
