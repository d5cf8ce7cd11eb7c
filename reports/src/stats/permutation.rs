//! Two independent samples, such as the launches of two finished runs: do their means differ?
//!
//! If they do not, any division of all values into two samples of these sizes is as likely as the one
//! seen (Fisher, 1935; Pitman, 1937). The interval is of a shift: it takes both samples to be of one shape.

use super::Interval;
use super::random::Random;
use super::shifts::{RESAMPLES, Shifts, Significance, all_finite, rounding};

/// Most divisions that are all tried; above, [`RESAMPLES`] random ones. 10 against 10 values have 184,756.
pub const ALL_DIVISIONS: u64 = 200_000;

const SEED: u64 = 0x9E12_0D1F;

/// Permutation test of `mean(candidate) - mean(base)` being 0; `None` where a sample is empty or has a
/// value that is not finite.
pub fn permutations(base: &[f64], candidate: &[f64]) -> Option<Significance> {
    let (shifts, exact) = shifts(base, candidate)?;
    let tie = rounding(base.iter().chain(candidate));
    Some(shifts.significance(tie, exact))
}

/// Interval of `mean(candidate) - mean(base)`: all `t` for which [`permutations`] of `base` and
/// `candidate - t` has `p_two > 1 - confidence`. In the unit of the values; `None` where there are too
/// few divisions for the confidence (4 against 4 are enough for 95 %, 5 against 5 for 99 %).
pub fn difference_interval(base: &[f64], candidate: &[f64], confidence: f64) -> Option<Interval> {
    shifts(base, candidate)?.0.interval(confidence)
}

/// A division exchanges equally many values of both sides, and gives the difference seen if the
/// candidate is shifted back by the difference of the means of those.
fn shifts(base: &[f64], candidate: &[f64]) -> Option<(Shifts, bool)> {
    if base.is_empty() || candidate.is_empty() || !all_finite(base) || !all_finite(candidate) {
        return None;
    }
    let exact = divisions(base.len(), candidate.len()) <= ALL_DIVISIONS;
    let shifts = match exact {
        true => all_shifts(base, candidate),
        false => random_shifts(base, candidate),
    };
    Some((shifts, exact))
}

/// `(a + b)! / (a! b!)`, or [`u64::MAX`] if that is more.
fn divisions(a: usize, b: usize) -> u64 {
    let (few, many) = (a.min(b) as u64, a.max(b) as u64);
    (1..=few)
        .try_fold(1_u64, |count, i| Some(count.checked_mul(many + i)? / i))
        .unwrap_or(u64::MAX)
}

fn all_shifts(base: &[f64], candidate: &[f64]) -> Shifts {
    let most = base.len().min(candidate.len());
    let (of_base, of_candidate) = (sums_by_size(base, most), sums_by_size(candidate, most));
    let mut shifts = Vec::new();
    for (size, (out, back)) in of_base.iter().zip(&of_candidate).enumerate().skip(1) {
        for out in out {
            shifts.extend(back.iter().map(|back| (back - out) / size as f64));
        }
    }
    Shifts::new(shifts, 1)
}

/// Sums of all subsets of at most so many members, by their number.
fn sums_by_size(values: &[f64], most: usize) -> Vec<Vec<f64>> {
    let mut sums = vec![Vec::new(); most + 1];
    sums[0].push(0.0);
    for &value in values {
        for size in (1..=most).rev() {
            let with: Vec<f64> = sums[size - 1].iter().map(|sum| sum + value).collect();
            sums[size].extend(with);
        }
    }
    sums
}

fn random_shifts(base: &[f64], candidate: &[f64]) -> Shifts {
    // Dealing out the smaller sample decides the division; `true` marks the values of the base.
    let mut all: Vec<(bool, f64)> = (base.iter().map(|&v| (true, v)))
        .chain(candidate.iter().map(|&v| (false, v)))
        .collect();
    let base_is_smaller = base.len() <= candidate.len();
    let few = base.len().min(candidate.len());
    let own: f64 = match base_is_smaller {
        true => base.iter().sum(),
        false => candidate.iter().sum(),
    };
    let mut random = Random::seeded(SEED);
    let mut same = 1;
    let mut shifts = Vec::with_capacity(RESAMPLES);
    for _ in 0..RESAMPLES {
        random.draw(&mut all, few);
        let (mut sum, mut foreign) = (0.0, 0);
        for &(of_base, value) in &all[..few] {
            sum += value;
            foreign += u32::from(of_base != base_is_smaller);
        }
        let gained = if base_is_smaller {
            sum - own
        } else {
            own - sum
        };
        match foreign {
            0 => same += 1,
            size => shifts.push(gained / f64::from(size)),
        }
    }
    Shifts::new(shifts, same)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_values_by_hand() {
        assert_eq!(permutations(&[], &[1.0]), None);
        assert_eq!(permutations(&[1.0], &[f64::NAN]), None);
        // Two divisions; then six, of which the one seen is the most extreme.
        let p = |base: &[f64], candidate: &[f64]| {
            let found = permutations(base, candidate).unwrap();
            (found.p_greater, found.p_less, found.p_two)
        };
        assert_eq!(p(&[1.0], &[2.0]), (0.5, 1.0, 1.0));
        assert_eq!(p(&[1.0, 2.0], &[3.0, 4.0]), (1.0 / 6.0, 1.0, 2.0 / 6.0));
        assert_eq!(p(&[3.0, 4.0], &[1.0, 2.0]), (1.0, 1.0 / 6.0, 2.0 / 6.0));
        // All alike are all ties.
        assert_eq!(p(&[0.1; 4], &[0.1; 5]), (1.0, 1.0, 1.0));
        // One against very many is no work.
        let many: Vec<f64> = (0..999).map(f64::from).collect();
        assert_eq!(p(&many, &[2000.0]), (0.001, 1.0, 0.002));
    }

    #[test]
    fn divisions_are_counted_without_overflow() {
        assert_eq!(divisions(10, 10), 184_756);
        assert_eq!(divisions(3, 7), 120);
        assert_eq!(divisions(7, 3), 120);
        assert_eq!(divisions(500, 500), u64::MAX);
    }

    #[test]
    fn an_interval_holds_what_the_test_does_not_reject() {
        assert_eq!(difference_interval(&[1.0; 3], &[1.0; 3], 0.95), None);
        assert!(difference_interval(&[1.0; 4], &[1.0; 4], 0.95).is_some());
        assert_eq!(difference_interval(&[1.0; 4], &[1.0; 4], 0.99), None);
        assert!(difference_interval(&[1.0; 5], &[1.0; 5], 0.99).is_some());
        let values: Vec<f64> = (0..60).map(|i| f64::from(i * 37 % 101) / 50.0).collect();
        for (m, n) in [(5, 7), (6, 4), (24, 20), (12, 40)] {
            let (base, candidate) = (&values[..m], &values[m..m + n]);
            let interval = difference_interval(base, candidate, 0.95).unwrap();
            assert!(interval.confidence >= 0.95);
            let p = |shift: f64| {
                let shifted: Vec<f64> = candidate.iter().map(|v| v - shift).collect();
                permutations(base, &shifted).unwrap().p_two
            };
            let within = (interval.high - interval.low) * 1e-6;
            for (end, inwards) in [(interval.low, within), (interval.high, -within)] {
                assert!(p(end + inwards) > 0.05, "{m} and {n}: {interval:?}");
                assert!(p(end - inwards) <= 0.05, "{m} and {n}: {interval:?}");
            }
        }
    }

    #[test]
    fn random_divisions_agree_with_all_of_them() {
        let values: Vec<f64> = (0..20).map(|i| f64::from(i * 7 % 20) / 10.0).collect();
        for split in [6, 9, 12] {
            let (base, candidate) = values.split_at(split);
            let all = all_shifts(base, candidate).significance(1e-12, true);
            let random = random_shifts(base, candidate).significance(1e-12, false);
            let error = 4.0 * (all.p_less * (1.0 - all.p_less) / 1e5).sqrt();
            assert!(
                (all.p_less - random.p_less).abs() < error,
                "{all:?} {random:?}"
            );
        }
    }
}
