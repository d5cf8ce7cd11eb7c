//! Exact sums of scores and the interval of a mean score.

use std::collections::BTreeMap;

use super::Interval;
use crate::record::Score;

/// A sum of fractions that is exact and does not depend on the order of its terms.
///
/// Numerators are added per denominator: a common denominator of thousands of edit distances would
/// overflow any machine integer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExactSum {
    numerators: BTreeMap<u64, i128>,
}

impl ExactSum {
    /// Adds a score.
    pub fn add(&mut self, score: Score) {
        let denominator = score.denominator.get();
        let divisor = gcd(score.numerator.unsigned_abs(), denominator);
        *self.numerators.entry(denominator / divisor).or_default() +=
            i128::from(score.numerator) / i128::from(divisor);
    }

    /// Adds the square of a score.
    pub fn add_square(&mut self, score: Score) {
        let denominator = score.denominator.get();
        let divisor = gcd(score.numerator.unsigned_abs(), denominator);
        let (top, bottom) = (
            i128::from(score.numerator) / i128::from(divisor),
            denominator / divisor,
        );
        // Edit distances are short: a denominator whose square overflows is no score.
        *self
            .numerators
            .entry(bottom.saturating_mul(bottom))
            .or_default() += top * top;
    }

    /// Whether every term was a whole number.
    pub fn is_whole(&self) -> bool {
        self.numerators.keys().all(|&denominator| denominator == 1)
    }

    /// The sum, rounded once per denominator.
    pub fn value(&self) -> f64 {
        (self.numerators.iter())
            .map(|(&denominator, &numerator)| numerator as f64 / denominator as f64)
            // Not `sum`, which is -0 without terms.
            .fold(0.0, |sum, term| sum + term)
    }

    /// The sum as one reduced fraction, `None` if that overflows.
    pub fn fraction(&self) -> Option<(i128, i128)> {
        let mut sum = (0_i128, 1_i128);
        for (&denominator, &numerator) in &self.numerators {
            let denominator = i128::from(denominator);
            let top =
                (sum.0.checked_mul(denominator)?).checked_add(numerator.checked_mul(sum.1)?)?;
            let bottom = sum.1.checked_mul(denominator)?;
            let divisor = gcd_wide(top.unsigned_abs(), bottom.unsigned_abs()) as i128;
            sum = (top / divisor, bottom / divisor);
        }
        Some(sum)
    }
}

impl Extend<Score> for ExactSum {
    fn extend<I: IntoIterator<Item = Score>>(&mut self, scores: I) {
        scores.into_iter().for_each(|score| self.add(score));
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    gcd_wide(u128::from(a), u128::from(b)) as u64
}

fn gcd_wide(mut a: u128, mut b: u128) -> u128 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a.max(1)
}

/// 97.5% quantile of the normal distribution.
const Z: f64 = 1.959_963_984_540_054;

/// 95% interval of the mean of `n` scores in 0..=1, from their sum and the sum of their squares.
///
/// Right-or-wrong scores get [`wilson`]; graded ones `mean +- z sqrt(s^2 / n)` with the unbiased
/// sample variance `s^2`, unless all are alike.
pub fn mean_interval(sum: &ExactSum, squares: &ExactSum, n: usize) -> Option<Interval> {
    let mean = sum.value() / n.max(1) as f64;
    let mean_square = squares.value() / n.max(1) as f64;
    let variance = (mean_square - mean * mean) * n as f64 / (n as f64 - 1.0);
    if n < 2 || sum.is_whole() || variance <= 0.0 {
        return wilson(mean, n);
    }
    let half = Z * (variance / n as f64).sqrt();
    Some(Interval {
        low: (mean - half).max(0.0),
        high: (mean + half).min(1.0),
        confidence: 0.95,
    })
}

/// Mean of several independent means and its interval, from theirs: the squares of the distances to
/// their ends add up (MOVER; Zou and Donner, 2008). So a mean of scores that are all 0 is as unsure as
/// each of them allows. `None` without means.
pub fn mean_of_means(means: &[(f64, Interval)]) -> Option<(f64, Interval)> {
    let k = means.len() as f64;
    let first = means.first()?;
    let mean = means.iter().map(|(mean, _)| mean).sum::<f64>() / k;
    let reach = |distance: fn(&(f64, Interval)) -> f64| {
        means
            .iter()
            .map(|m| distance(m).powi(2))
            .sum::<f64>()
            .sqrt()
            / k
    };
    let interval = Interval {
        low: (mean - reach(|(mean, own)| mean - own.low)).max(0.0),
        high: (mean + reach(|(mean, own)| own.high - mean)).min(1.0),
        confidence: first.1.confidence,
    };
    Some((mean, interval))
}

/// 95% interval of the mean of `n` scores in 0..=1 (Wilson, 1927).
///
/// The usual score interval of right-or-wrong scores. Samples are taken as independent; questions
/// on one image are not quite. `None` without samples.
pub fn wilson(mean: f64, n: usize) -> Option<Interval> {
    if n == 0 {
        return None;
    }
    let n = n as f64;
    let mean = mean.clamp(0.0, 1.0);
    let scale = 1.0 / (1.0 + Z * Z / n);
    let centre = scale * (mean + Z * Z / (2.0 * n));
    let half = scale * Z * (mean * (1.0 - mean) / n + Z * Z / (4.0 * n * n)).sqrt();
    Some(Interval {
        low: (centre - half).max(0.0),
        high: (centre + half).min(1.0),
        confidence: 0.95,
    })
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::*;

    fn score(numerator: i64, denominator: u64) -> Score {
        Score {
            numerator,
            denominator: NonZeroU64::new(denominator).unwrap(),
        }
    }

    #[test]
    fn sums_are_exact_in_any_order() {
        let mut terms: Vec<Score> = (1..=400).map(|d| score(1, d)).collect();
        let mut forward = ExactSum::default();
        forward.extend(terms.iter().copied());
        terms.reverse();
        let mut backward = ExactSum::default();
        backward.extend(terms);
        assert_eq!(forward, backward);
        // The 400th harmonic number: ln n + gamma + 1/2n - 1/12n^2.
        let n = 400.0_f64;
        let harmonic = n.ln() + 0.577_215_664_901_532_9 + 0.5 / n - 1.0 / (12.0 * n * n);
        assert!((forward.value() - harmonic).abs() < 1e-10);
        assert_eq!(
            forward.fraction(),
            None,
            "the common denominator must overflow"
        );
    }

    #[test]
    fn fractions_reduce() {
        let mut sum = ExactSum::default();
        assert_eq!(sum.fraction(), Some((0, 1)));
        sum.extend([score(3, 10), score(6, 10), score(1, 3), score(2, 2)]);
        assert_eq!(sum.fraction(), Some((67, 30)));
        assert!(!sum.is_whole());
        assert!((sum.value() - 67.0 / 30.0).abs() < 1e-15);
    }

    #[test]
    fn graded_scores_get_the_interval_of_their_own_spread() {
        let sums = |scores: &[(i64, u64)]| {
            let (mut sum, mut squares) = (ExactSum::default(), ExactSum::default());
            for &(top, bottom) in scores {
                sum.add(score(top, bottom));
                squares.add_square(score(top, bottom));
            }
            mean_interval(&sum, &squares, scores.len())
        };
        // Mean 0.5, unbiased variance 1/15, standard error sqrt(1/60).
        let graded = sums(&[(2, 10), (4, 10), (6, 10), (8, 10)]).unwrap();
        let half = 1.959_963_984_540_054 * (1.0_f64 / 60.0).sqrt();
        assert!((graded.high - 0.5 - half).abs() < 1e-12);
        assert_eq!(sums(&[(0, 1), (1, 1)]), wilson(0.5, 2));
        assert_eq!(sums(&[(3, 10); 4]), wilson(0.3, 4));
        assert_eq!(sums(&[]), None);
    }

    #[test]
    fn means_weigh_alike_and_the_squares_of_their_reaches_add() {
        let of = |mean, low, high| {
            let confidence = 0.95;
            (
                mean,
                Interval {
                    low,
                    high,
                    confidence,
                },
            )
        };
        let (mean, interval) = mean_of_means(&[of(0.5, 0.2, 0.9), of(0.7, 0.3, 1.0)]).unwrap();
        assert!((mean - 0.6).abs() < 1e-15);
        // Reaches 0.3 and 0.4 downwards, 0.4 and 0.3 upwards.
        assert!((interval.low - 0.35).abs() < 1e-12, "{interval:?}");
        assert!((interval.high - 0.85).abs() < 1e-12, "{interval:?}");
        // Nothing right of 12 says less than it seems to, in the mean too.
        let none = wilson(0.0, 12).unwrap();
        let (_, all) = mean_of_means(&[(0.0, none); 3]).unwrap();
        assert!((all.high - none.high / 3_f64.sqrt()).abs() < 1e-12);
        assert_eq!(mean_of_means(&[]), None);
    }

    #[test]
    fn wilson_matches_known_values() {
        // Newcombe (1998), table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29.
        for (hits, n, low, high) in [
            (81.0, 263, 0.2553, 0.3662),
            (15.0, 148, 0.0624, 0.1605),
            (0.0, 20, 0.0000, 0.1611),
            (1.0, 29, 0.0061, 0.1718),
        ] {
            let interval = wilson(hits / n as f64, n).unwrap();
            assert!(
                (interval.low - low).abs() < 5e-5,
                "{hits} of {n}: {interval:?}"
            );
            assert!(
                (interval.high - high).abs() < 5e-5,
                "{hits} of {n}: {interval:?}"
            );
        }
        assert_eq!(wilson(0.5, 0), None);
    }
}
