//! Paired differences: is their mean 0, and between what does it lie?
//!
//! If the sides of a pair are alike, each difference could as well have had the other sign. The test
//! (Fisher, 1935) compares the sum with the sums of all `2^n` choices of signs; it needs no
//! normality, and holds its level for any differences that are symmetric about 0.
//!
//! A choice of signs is the set of values that it flips, and gives at least the sum that was seen if
//! the flipped ones sum to at most 0. Up to [`ALL_SIGNS`] values all sets are counted: the sums of all
//! subsets of one half are sorted against those of the other (Horowitz and Sahni, 1974), so that 24
//! pairs cost 2 lists of 4096 instead of 16.8 million sums.

use super::Interval;
use super::random::Random;
use super::shifts::{RESAMPLES, Shifts, Significance, all_finite, rejected, rounding};

/// Most values of which all signs are tried; above, [`RESAMPLES`] random ones.
pub const ALL_SIGNS: usize = 32;

const SEED: u64 = 0x5167_F11D;

/// Sign-flip test of the mean of paired differences being 0; `None` without values or with one that
/// is not finite.
pub fn sign_flips(differences: &[f64]) -> Option<Significance> {
    if differences.is_empty() || !all_finite(differences) {
        return None;
    }
    let tie = rounding(differences);
    if differences.len() > ALL_SIGNS {
        return Some(random_shifts(differences).significance(tie, false));
    }
    let total = total(differences.len());
    let p_greater = subsets_at_most(differences, tie) as f64 / total;
    let negated: Vec<f64> = differences.iter().map(|d| -d).collect();
    let p_less = subsets_at_most(&negated, tie) as f64 / total;
    Some(Significance::new(p_greater, p_less, true))
}

/// Interval of the mean of paired differences: all `t` for which [`sign_flips`] of the differences
/// less `t` has `p_two > 1 - confidence`. In the unit of the differences.
///
/// Its ends are the k-th smallest and k-th largest mean of any subset, `k = floor((1 - confidence) /
/// 2 * 2^n)` (Hartigan, 1969); that is how often it covers if the differences are symmetric about
/// their mean. `None` where `k` is 0: fewer than 6 values at 95 %, 8 at 99 %, or where
/// [`sign_flips`] is `None`.
///
/// Up to [`ALL_SIGNS`] values, the ends are found by bisection to `2^-20` of the range and rounded outwards, since subsets are
/// cheap to count for a given `t`, and too many to list; above, they are ranks in one list of the means of
/// random subsets.
pub fn shift_interval(differences: &[f64], confidence: f64) -> Option<Interval> {
    if differences.is_empty() || !all_finite(differences) {
        return None;
    }
    if differences.len() > ALL_SIGNS {
        return random_shifts(differences).interval(confidence);
    }
    let total = total(differences.len());
    let rank = rejected(confidence, total).filter(|&rank| rank > 0)?;
    let negated: Vec<f64> = differences.iter().map(|d| -d).collect();
    Some(Interval {
        low: subset_mean(differences, rank),
        high: -subset_mean(&negated, rank),
        confidence: 1.0 - 2.0 * rank as f64 / total,
    })
}

fn total(n: usize) -> f64 {
    (n as f64).exp2()
}

/// The mean that ranks so among those of all subsets, from below.
fn subset_mean(values: &[f64], rank: usize) -> f64 {
    let mut below = values.iter().copied().fold(f64::INFINITY, f64::min);
    let mut above = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut shifted = values.to_vec();
    for _ in 0..20 {
        let middle = below + (above - below) / 2.0;
        for (shifted, value) in shifted.iter_mut().zip(values) {
            *shifted = value - middle;
        }
        // The empty subset is among those counted and has no mean.
        if subsets_at_most(&shifted, rounding(&shifted)) > rank as u64 {
            above = middle;
        } else {
            below = middle;
        }
    }
    below
}

/// How many subsets, the empty one included, have a sum of at most `limit`.
fn subsets_at_most(values: &[f64], limit: f64) -> u64 {
    let (left, right) = values.split_at(values.len() / 2);
    let (left, right) = (subset_sums(left), subset_sums(right));
    let (mut at, mut fit, mut count) = (0, right.len(), 0);
    while at < left.len() && fit > 0 {
        let over = left[at] + right[fit - 1] > limit;
        count += if over { 0 } else { fit as u64 };
        at += usize::from(!over);
        fit -= usize::from(over);
    }
    count
}

/// Sums of all subsets, sorted: each value merges the sums without it and those with it, both of which
/// are in order. The choice between them is arithmetic, since a branch would be guessed wrong half of
/// the time.
fn subset_sums(values: &[f64]) -> Vec<f64> {
    let mut sums = vec![0.0];
    for &value in values {
        let mut merged = Vec::with_capacity(2 * sums.len() + 1);
        merged.resize(2 * sums.len(), 0.0);
        // Neither list is read beyond its end: what follows it is never the smaller.
        sums.push(f64::INFINITY);
        let (mut without, mut with) = (0, 0);
        for sum in &mut merged {
            let (old, new) = (sums[without], sums[with] + value);
            let take_old = old <= new;
            *sum = if take_old { old } else { new };
            without += usize::from(take_old);
            with += usize::from(!take_old);
        }
        sums = merged;
    }
    sums
}

/// Means of random subsets: flipped, such a subset gives what was seen if its mean is taken off.
fn random_shifts(values: &[f64]) -> Shifts {
    // Sums of all subsets of eight values at a time, so that eight signs cost one look-up.
    let tables: Vec<[f64; 256]> = values.chunks(8).map(byte_sums).collect();
    let mut random = Random::seeded(SEED);
    let mut same = 1;
    let mut shifts = Vec::with_capacity(RESAMPLES);
    for _ in 0..RESAMPLES {
        let (mut sum, mut size) = (0.0, 0);
        for (group, tables) in tables.chunks(8).enumerate() {
            let known = (values.len() - 64 * group).min(64);
            let flipped = random.bits() >> (64 - known);
            size += flipped.count_ones();
            for (table, byte) in tables.iter().zip(flipped.to_le_bytes()) {
                sum += table[usize::from(byte)];
            }
        }
        match size {
            0 => same += 1,
            size => shifts.push(sum / f64::from(size)),
        }
    }
    Shifts::new(shifts, same)
}

fn byte_sums(values: &[f64]) -> [f64; 256] {
    let mut sums = [0.0; 256];
    for subset in 1_usize..256 {
        let rest = subset & (subset - 1);
        let value = values.get(subset.trailing_zeros() as usize);
        sums[subset] = sums[rest] + value.unwrap_or(&0.0);
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_values_by_hand() {
        assert_eq!(sign_flips(&[]), None);
        assert_eq!(sign_flips(&[1.0, f64::NAN]), None);
        assert_eq!(sign_flips(&[f64::INFINITY]), None);
        let p = |values: &[f64]| {
            let found = sign_flips(values).unwrap();
            assert!(found.exact);
            (found.p_greater, found.p_less, found.p_two)
        };
        assert_eq!(p(&[3.0]), (0.5, 1.0, 1.0));
        // Sums of 1, 2, 3 with all signs: 6 is the greatest of eight; 0 is reached by two.
        assert_eq!(p(&[1.0, 2.0, 3.0]), (0.125, 1.0, 0.25));
        assert_eq!(p(&[1.0, 2.0, -3.0]), (0.625, 0.625, 1.0));
        // Zeros are ties, and rounding does not part ties.
        assert_eq!(p(&[0.0; 5]), (1.0, 1.0, 1.0));
        assert_eq!(p(&[0.1, 0.2, -0.3]), (0.625, 0.625, 1.0));
        assert_eq!(p(&[0.3; 12]), (1.0 / 4096.0, 1.0, 2.0 / 4096.0));
    }

    #[test]
    fn an_interval_needs_enough_values() {
        let values = [1.0, 2.0, 3.0, 4.0, 5.0, 7.0, 8.0, 9.0];
        assert_eq!(shift_interval(&values[..5], 0.95), None);
        // With six, one of 64 on each side: the smallest and the largest value.
        let six = shift_interval(&values[..6], 0.95).unwrap();
        assert!((six.low, six.high) == (1.0, 7.0));
        assert_eq!(six.confidence, 1.0 - 2.0 / 64.0);
        assert_eq!(shift_interval(&values[..7], 0.99), None);
        assert!(shift_interval(&values, 0.99).is_some());
        assert_eq!(shift_interval(&values, 1.0), None);
        assert_eq!(shift_interval(&[], 0.95), None);
        assert_eq!(shift_interval(&[f64::NAN; 9], 0.95), None);
        let alike = shift_interval(&[0.5; 10], 0.95).unwrap();
        assert_eq!((alike.low, alike.high), (0.5, 0.5));
    }

    #[test]
    fn an_interval_holds_what_the_test_does_not_reject() {
        for n in [9, 24, 70] {
            let values: Vec<f64> = (0..n).map(|i| f64::from(i * 37 % 101) / 50.0).collect();
            let interval = shift_interval(&values, 0.95).unwrap();
            assert!(interval.confidence >= 0.95);
            let p = |shift: f64| {
                let shifted: Vec<f64> = values.iter().map(|v| v - shift).collect();
                sign_flips(&shifted).unwrap().p_two
            };
            let within = (interval.high - interval.low) * 1e-5;
            for (end, inwards) in [(interval.low, within), (interval.high, -within)] {
                assert!(p(end + inwards) > 0.05, "n = {n}: {interval:?}");
                assert!(p(end - inwards) <= 0.05, "n = {n}: {interval:?}");
            }
        }
    }

    #[test]
    fn random_signs_agree_with_all_of_them() {
        let values: Vec<f64> = (0..30)
            .map(|i| f64::from(i * 7 % 30) / 10.0 - 1.1)
            .collect();
        let exact = sign_flips(&values).unwrap();
        let random = random_shifts(&values).significance(1e-12, false);
        assert!(exact.exact && !random.exact);
        // Four standard errors of a share of 99,999.
        let error = 4.0 * (exact.p_greater * (1.0 - exact.p_greater) / 1e5).sqrt();
        assert!((exact.p_greater - random.p_greater).abs() < error);
        let (a, b) = (
            shift_interval(&values, 0.95).unwrap(),
            random_shifts(&values).interval(0.95).unwrap(),
        );
        assert!(
            (a.low - b.low).abs() < 0.02 * (a.high - a.low),
            "{a:?} {b:?}"
        );
        assert!(
            (a.high - b.high).abs() < 0.02 * (a.high - a.low),
            "{a:?} {b:?}"
        );
    }
}
