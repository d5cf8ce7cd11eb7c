//! Quantiles, the interval of a median, certified percentiles.

use serde::{Deserialize, Serialize};

use super::binomial::cumulative;

/// Confidence of certified percentiles, as in the early-stopping rule of MLPerf.
pub const CERTIFIED_CONFIDENCE: f64 = 0.99;

/// An interval with the confidence that it really has.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Confidence in 0..1; at least what was asked for.
    pub confidence: f64,
}

impl Interval {
    /// The interval of a rising function of the figure.
    pub fn map(self, rising: impl Fn(f64) -> f64) -> Interval {
        Interval {
            low: rising(self.low),
            high: rising(self.high),
            ..self
        }
    }
}

/// A latency figure over repeated samples. The unit is that of the samples.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// Number of samples.
    pub n: usize,
    /// Median.
    pub median: f64,
    /// Interval of the median at 95% or a little more; `None` below 6 samples.
    pub interval: Option<Interval>,
    /// Mean.
    pub mean: f64,
    /// Smallest sample.
    pub min: f64,
    /// Largest sample.
    pub max: f64,
    /// Certified 90th percentile; `None` below 64 samples.
    pub p90: Option<f64>,
    /// Certified 95th percentile; `None` below 130 samples.
    pub p95: Option<f64>,
    /// Certified 99th percentile; `None` below 662 samples.
    pub p99: Option<f64>,
}

impl Estimate {
    /// Summarises samples in any order; `None` if there are none or one is not finite.
    pub fn of(samples: &[f64]) -> Option<Self> {
        if samples.is_empty() || samples.iter().any(|sample| !sample.is_finite()) {
            return None;
        }
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let n = sorted.len();
        Some(Self {
            n,
            median: quantile(&sorted, 0.5)?,
            interval: median_interval(&sorted, 0.95),
            mean: sorted.iter().sum::<f64>() / n as f64,
            min: sorted[0],
            max: sorted[n - 1],
            p90: certified(&sorted, 0.90),
            p95: certified(&sorted, 0.95),
            p99: certified(&sorted, 0.99),
        })
    }
}

/// Quantile of sorted samples by linear interpolation between order statistics (type 7 of Hyndman
/// and Fan, 1996; numpy's default). `None` without samples or with `p` outside of 0..=1.
pub fn quantile(sorted: &[f64], p: f64) -> Option<f64> {
    if sorted.is_empty() || !(0.0..=1.0).contains(&p) {
        return None;
    }
    let position = p * (sorted.len() - 1) as f64;
    let below = position.floor() as usize;
    let above = position.ceil() as usize;
    Some(sorted[below] + (position - below as f64) * (sorted[above] - sorted[below]))
}

/// Interval of the median of sorted samples, whatever their distribution.
///
/// With `k` the largest rank such that `2 P(Bin(n, 1/2) <= k - 1) <= 1 - confidence`, the interval
/// runs from the k-th smallest to the k-th largest sample. `None` if even smallest to largest
/// covers less than asked (fewer than 6 samples at 95%).
pub fn median_interval(sorted: &[f64], confidence: f64) -> Option<Interval> {
    let n = sorted.len();
    let missed = |k: usize| 2.0 * cumulative(k as u64 - 1, n as u64, 0.5);
    let k = (1..=n / 2)
        .take_while(|&k| missed(k) <= 1.0 - confidence)
        .last()?;
    Some(Interval {
        low: sorted[k - 1],
        high: sorted[n - k],
        confidence: 1.0 - missed(k),
    })
}

/// Percentile `p` of sorted samples with 99% confidence, `None` if there are too few.
///
/// The result is the smallest order statistic that lies at or above the true percentile with that
/// confidence: the largest `t` with `P(Bin(n, 1 - p) <= t) <= 1%` samples lie above it. At least one
/// must (`t >= 1`), so that no figure rests on the maximum alone; [`certified_count`] follows.
pub fn certified(sorted: &[f64], p: f64) -> Option<f64> {
    let n = sorted.len();
    if n < certified_count(p) {
        return None;
    }
    let above = (1..n as u64)
        .take_while(|&t| may_lie_above(t, n as u64, p))
        .last()?;
    Some(sorted[n - 1 - above as usize])
}

/// Smallest sample count from which percentile `p` is certified: 64 for p90, 130 for p95, 662 for p99.
pub fn certified_count(p: f64) -> usize {
    let mut n = 2;
    while !may_lie_above(1, n, p) {
        n += 1;
    }
    n as usize
}

fn may_lie_above(t: u64, n: u64, p: f64) -> bool {
    cumulative(t, n, 1.0 - p) <= 1.0 - CERTIFIED_CONFIDENCE
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranks(n: usize) -> Vec<f64> {
        (1..=n).map(|rank| rank as f64).collect()
    }

    #[test]
    fn quantiles_interpolate() {
        let sorted = [1.0, 2.0, 4.0, 8.0];
        assert_eq!(quantile(&sorted, 0.5), Some(3.0));
        assert_eq!(quantile(&sorted, 0.0), Some(1.0));
        assert_eq!(quantile(&sorted, 1.0), Some(8.0));
        assert_eq!(quantile(&sorted, 0.75), Some(5.0));
        assert_eq!(quantile(&[5.0], 0.3), Some(5.0));
        assert_eq!(quantile(&[], 0.5), None);
        assert_eq!(quantile(&sorted, 1.1), None);
    }

    #[test]
    fn median_intervals_are_the_tabulated_ranks() {
        // Ranks and coverages as in common tables of the sign test.
        for (n, low, high, coverage) in [
            (6, 1.0, 6.0, 0.96875),
            (10, 2.0, 9.0, 0.978_515_625),
            (20, 6.0, 15.0, 0.958_610_5),
            (100, 40.0, 61.0, 0.964_799_8),
        ] {
            let interval = median_interval(&ranks(n), 0.95).unwrap();
            assert_eq!((interval.low, interval.high), (low, high), "n = {n}");
            assert!(
                (interval.confidence - coverage).abs() < 1e-6,
                "n = {n}: {interval:?}"
            );
        }
        assert_eq!(median_interval(&ranks(5), 0.95), None);
        assert_eq!(median_interval(&[], 0.95), None);
    }

    #[test]
    fn percentiles_are_certified_from_the_published_counts_on() {
        assert_eq!([0.90, 0.95, 0.99].map(certified_count), [64, 130, 662]);
        assert_eq!(certified(&ranks(63), 0.90), None);
        // At the count itself exactly one sample lies above.
        assert_eq!(certified(&ranks(64), 0.90), Some(63.0));
        assert_eq!(certified(&ranks(130), 0.95), Some(129.0));
        assert_eq!(certified(&ranks(662), 0.99), Some(661.0));
        // With many samples the bound closes in on the percentile from above.
        let p90 = certified(&ranks(10_000), 0.90).unwrap();
        assert!((9_000.0..9_100.0).contains(&p90), "{p90}");
    }

    #[test]
    fn estimates_refuse_what_is_not_a_number() {
        assert_eq!(Estimate::of(&[]), None);
        assert_eq!(Estimate::of(&[1.0, f64::NAN]), None);
        let estimate = Estimate::of(&[3.0, 1.0, 2.0]).unwrap();
        assert_eq!(
            (estimate.median, estimate.min, estimate.max, estimate.n),
            (2.0, 1.0, 3.0, 3)
        );
        assert_eq!((estimate.interval, estimate.p90), (None, None));
    }
}
