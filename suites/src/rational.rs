//! Exact points and exact sums of them.
//!
//! Every metric of this crate is a ratio of two small integers. Points stay integers until one
//! division at the end, so a score does not depend on the order of its samples or on how they
//! were split over processes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A ratio of two integers in lowest terms, at least 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fraction {
    num: u64,
    den: u64,
}

impl Fraction {
    /// No points.
    pub const ZERO: Self = Self { num: 0, den: 1 };
    /// Full points.
    pub const ONE: Self = Self { num: 1, den: 1 };

    /// `num / den` in lowest terms; `den` must not be 0.
    #[must_use]
    pub fn new(num: u64, den: u64) -> Self {
        assert!(den != 0, "a fraction needs a denominator");
        let divisor = gcd(num.into(), den.into()) as u64;
        Self {
            num: num / divisor,
            den: den / divisor,
        }
    }

    /// Full points when `right`, else none.
    #[must_use]
    pub fn all_or_nothing(right: bool) -> Self {
        if right { Self::ONE } else { Self::ZERO }
    }

    /// Numerator, in lowest terms.
    #[must_use]
    pub fn numerator(self) -> u64 {
        self.num
    }

    /// Denominator, in lowest terms.
    #[must_use]
    pub fn denominator(self) -> u64 {
        self.den
    }

    /// The nearest `f64`.
    #[must_use]
    pub fn to_f64(self) -> f64 {
        self.num as f64 / self.den as f64
    }

    /// Whether there are no points at all.
    #[must_use]
    pub fn is_zero(self) -> bool {
        self.num == 0
    }
}

/// A sum of [`Fraction`]s and of their squares, kept as one integer per denominator.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ExactSum {
    count: u64,
    values: BTreeMap<u128, u128>,
    squares: BTreeMap<u128, u128>,
}

impl ExactSum {
    pub(crate) fn add(&mut self, points: Fraction) {
        let (num, den) = (u128::from(points.num), u128::from(points.den));
        self.count += 1;
        *self.values.entry(den).or_default() += num;
        *self.squares.entry(den * den).or_default() += num * num;
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// `scale` times the mean; `None` for an empty sum.
    pub(crate) fn mean(&self, scale: u32) -> Option<f64> {
        (self.count > 0).then(|| quotient(&self.values, scale.into(), self.count.into()))
    }

    /// The unbiased sample variance (division by n - 1); `None` below two values.
    pub(crate) fn variance(&self) -> Option<f64> {
        if self.count < 2 {
            return None;
        }
        let mean = self.mean(1)?;
        let mean_square = quotient(&self.squares, 1, self.count.into());
        let n = self.count as f64;
        Some(((mean_square - mean * mean) * n / (n - 1.0)).max(0.0))
    }
}

/// `scale * sum / n`: one division of integers when the sum fits a common denominator, else the
/// sum of one quotient per denominator, in ascending order of the denominators. Both depend on
/// the multiset of the values only.
fn quotient(parts: &BTreeMap<u128, u128>, scale: u128, n: u128) -> f64 {
    let common = || {
        let mut den: u128 = 1;
        for &part in parts.keys() {
            den = den.checked_mul(part / gcd(den, part))?;
        }
        let mut num: u128 = 0;
        for (&part, &sum) in parts {
            num = num.checked_add(sum.checked_mul(den / part)?)?;
        }
        let (num, den) = (num.checked_mul(scale)?, den.checked_mul(n)?);
        let divisor = gcd(num, den);
        Some((num / divisor) as f64 / (den / divisor) as f64)
    };
    common().unwrap_or_else(|| {
        let sum: f64 = parts
            .iter()
            .map(|(&den, &num)| num as f64 / den as f64)
            .sum();
        scale as f64 * sum / n as f64
    })
}

fn gcd(a: u128, b: u128) -> u128 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(points: impl IntoIterator<Item = (u64, u64)>) -> ExactSum {
        let mut sum = ExactSum::default();
        for (num, den) in points {
            sum.add(Fraction::new(num, den));
        }
        sum
    }

    #[test]
    fn tenths_add_up_without_a_remainder() {
        // 0.6 + 0.9 + 0.3 in floats is 1.7999999999999998.
        assert_eq!(sum([(6, 10), (9, 10), (3, 10)]).mean(100), Some(60.0));
        assert_eq!(sum([(1, 3); 3]).mean(1), Some(1.0 / 3.0));
        assert_eq!(ExactSum::default().mean(100), None);
    }

    #[test]
    fn order_does_not_matter_even_past_a_common_denominator() {
        // The least common multiple of 1..=200 has about 90 digits, far past 128 bits.
        let points: Vec<_> = (1..=200).map(|den| (den / 2 + 1, den)).collect();
        let forward = sum(points.iter().copied());
        let backward = sum(points.iter().rev().copied());
        assert_eq!(forward.mean(100), backward.mean(100));
        assert_eq!(forward.variance(), backward.variance());
    }

    #[test]
    fn variance_is_the_unbiased_one() {
        assert_eq!(sum([(0, 1), (1, 1)]).variance(), Some(0.5));
        assert_eq!(sum([(1, 2), (1, 2), (1, 2)]).variance(), Some(0.0));
        assert_eq!(sum([(1, 2)]).variance(), None);
    }
}
