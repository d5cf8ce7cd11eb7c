//! Scores: of one sample, and of a suite with its counts and its confidence interval.
//!
//! A suite's score is a function of the set of its sample scores: order and sharding cannot
//! change a bit of it. Failed samples stay in n as wrong.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::SuiteError;
use crate::metric::Extraction;
use crate::rational::{ExactSum, Fraction};

/// The score of one sample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SampleScore {
    /// The sample.
    pub id: String,
    /// Points as a share of 1; [`points`](Self::points) rounded.
    pub score: f64,
    /// Points, exactly.
    pub points: Fraction,
    /// The answer that was compared; `None` where the sample failed.
    pub answer: Option<Extraction>,
    /// Whether there was no response at all.
    pub failed: bool,
    /// Whether the token limit ended the response.
    pub truncated: bool,
    /// What the sample counts under, by dimension.
    pub groups: BTreeMap<String, String>,
}

impl SampleScore {
    /// Whether there was a response in which no answer could be made out.
    #[must_use]
    pub fn unparsed(&self) -> bool {
        self.answer == Some(Extraction::Unparsed)
    }
}

/// The score of a suite under a profile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SuiteScore {
    /// Suite id.
    pub suite: String,
    /// Profile id; scores of different profiles are different measurements.
    pub profile: String,
    /// Metric name.
    pub metric: String,
    /// The split that was asked.
    pub split: String,
    /// Mean points in percent; `None` where nothing was scored.
    pub value: Option<f64>,
    /// Samples scored, failed ones included.
    pub n: u64,
    /// Samples without a response, counted as wrong.
    pub failed: u64,
    /// Responses in which no answer could be made out, counted as wrong.
    pub unparsed: u64,
    /// Responses that the token limit ended.
    pub truncated: u64,
    /// What the choice of these n questions leaves uncertain.
    pub interval: Option<Interval>,
    /// The score within each group, by dimension and group.
    pub groups: BTreeMap<String, BTreeMap<String, GroupScore>>,
    /// The samples, sorted by id.
    pub samples: Vec<SampleScore>,
}

/// The score within a group of samples.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupScore {
    /// Mean points in percent.
    pub value: f64,
    /// Samples in the group, failed ones included.
    pub n: u64,
}

/// A two-sided 95% confidence interval of a mean, in percent.
///
/// It covers the choice of the questions only; a model that is run again on the same questions
/// has another, usually no, spread.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Lower end, at least 0.
    pub low: f64,
    /// Upper end, at most 100.
    pub high: f64,
    /// The formula.
    pub method: IntervalMethod,
}

/// How an interval was computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IntervalMethod {
    /// Wilson's score interval, for points of 0 or 1. It is also used for graded points that are
    /// all alike, where it is too wide rather than empty.
    Wilson,
    /// Mean plus and minus 1.96 standard errors from the sample variance, for graded points.
    Normal,
}

/// The 97.5% quantile of the standard normal distribution.
const Z: f64 = 1.959_963_984_540_054;

/// What a suite's score is a score of.
#[derive(Clone, Debug)]
pub(crate) struct Heading {
    pub(crate) suite: String,
    pub(crate) profile: String,
    pub(crate) metric: String,
    pub(crate) split: String,
    pub(crate) graded: bool,
}

pub(crate) fn aggregate(
    heading: Heading,
    scores: impl IntoIterator<Item = SampleScore>,
) -> Result<SuiteScore, SuiteError> {
    let mut samples: Vec<SampleScore> = scores.into_iter().collect();
    samples.sort_by(|a, b| a.id.cmp(&b.id));
    if let Some(pair) = samples.windows(2).find(|pair| pair[0].id == pair[1].id) {
        return Err(SuiteError::ScoredTwice {
            id: pair[0].id.clone(),
        });
    }
    let mut total = ExactSum::default();
    let mut sums: BTreeMap<String, BTreeMap<String, ExactSum>> = BTreeMap::new();
    for sample in &samples {
        total.add(sample.points);
        for (dimension, group) in &sample.groups {
            let groups = sums.entry(dimension.clone()).or_default();
            groups.entry(group.clone()).or_default().add(sample.points);
        }
    }
    let count =
        |holds: fn(&SampleScore) -> bool| samples.iter().filter(|s| holds(s)).count() as u64;
    let group = |sum: ExactSum| GroupScore {
        value: sum.mean(100).unwrap_or_default(),
        n: sum.count(),
    };
    let named = |(name, sum)| (name, group(sum));
    Ok(SuiteScore {
        suite: heading.suite,
        profile: heading.profile,
        metric: heading.metric,
        split: heading.split,
        value: total.mean(100),
        n: total.count(),
        failed: count(|sample| sample.failed),
        unparsed: count(SampleScore::unparsed),
        truncated: count(|sample| sample.truncated),
        interval: interval(&total, heading.graded),
        groups: sums
            .into_iter()
            .map(|(dimension, groups)| (dimension, groups.into_iter().map(named).collect()))
            .collect(),
        samples,
    })
}

fn interval(sum: &ExactSum, graded: bool) -> Option<Interval> {
    let (n, p) = (sum.count() as f64, sum.mean(1)?);
    let variance = sum.variance().filter(|&variance| graded && variance > 0.0);
    let (centre, half, method) = match variance {
        Some(variance) => (p, Z * (variance / n).sqrt(), IntervalMethod::Normal),
        None => {
            let shrink = 1.0 + Z * Z / n;
            let centre = (p + Z * Z / (2.0 * n)) / shrink;
            let spread = (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
            (centre, Z * spread / shrink, IntervalMethod::Wilson)
        }
    };
    Some(Interval {
        low: 100.0 * (centre - half).max(0.0),
        high: 100.0 * (centre + half).min(1.0),
        method,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(points: &[(u64, u64)]) -> ExactSum {
        let mut sum = ExactSum::default();
        for &(num, den) in points {
            sum.add(Fraction::new(num, den));
        }
        sum
    }

    #[test]
    fn wilson_interval_of_the_textbook() {
        // 10 of 20 right: 29.93 to 70.07 (statsmodels, proportion_confint).
        let mut points = vec![(0, 1); 10];
        points.extend([(1, 1); 10]);
        let found = interval(&sum(&points), false).expect("an interval");
        assert!((found.low - 29.929).abs() < 1e-3, "{found:?}");
        assert!((found.high - 70.071).abs() < 1e-3, "{found:?}");
        assert_eq!(found.method, IntervalMethod::Wilson);
        let all = interval(&sum(&[(1, 1); 20]), false).expect("an interval");
        assert!((all.low - 83.887).abs() < 1e-3, "{all:?}");
        assert_eq!(all.high, 100.0);
        assert_eq!(interval(&sum(&[]), false), None);
    }

    #[test]
    fn graded_points_use_their_own_variance() {
        // Mean 0.5, variance 0.05: half width 1.96 * sqrt(0.05 / 4).
        let graded = sum(&[(3, 10), (7, 10), (3, 10), (7, 10)]);
        let found = interval(&graded, true).expect("an interval");
        let variance: f64 = 0.04 * 4.0 / 3.0;
        let half = 100.0 * Z * (variance / 4.0).sqrt();
        assert_eq!(found.method, IntervalMethod::Normal);
        assert!((found.low - (50.0 - half)).abs() < 1e-9, "{found:?}");
        assert!((found.high - (50.0 + half)).abs() < 1e-9, "{found:?}");
        let alike = interval(&sum(&[(3, 10); 4]), true).expect("an interval");
        assert_eq!(alike.method, IntervalMethod::Wilson);
        assert!(alike.low < 30.0 && alike.high > 30.0);
    }
}
