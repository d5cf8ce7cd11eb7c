//! What tests by rearrangement have in common: p values and the interval that belongs to them.

use super::Interval;

/// Number of random rearrangements where there are too many to try all.
pub const RESAMPLES: usize = 99_999;

/// The chance of a difference as great as the one seen, if there is none.
///
/// A rearrangement that is as extreme as what was seen counts, and so does what was seen itself: no
/// p value is 0, and a random sample of rearrangements keeps the level (Phipson and Smyth, 2010).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Significance {
    /// Of this mean or a greater one.
    pub p_greater: f64,
    /// Of this mean or a smaller one.
    pub p_less: f64,
    /// Twice the smaller of both, at most 1.
    pub p_two: f64,
    /// Whether all rearrangements were counted; else [`RESAMPLES`] random ones.
    pub exact: bool,
}

impl Significance {
    pub(super) fn new(p_greater: f64, p_less: f64, exact: bool) -> Significance {
        Significance {
            p_greater,
            p_less,
            p_two: (2.0 * p_greater.min(p_less)).min(1.0),
            exact,
        }
    }
}

/// For every rearrangement the shift at which it gives just what was seen.
///
/// Take the shift `t` off the data and test for 0: a rearrangement is at least as great as what was
/// seen if its own shift is at most `t`. So one list has the p value of every `t`, and the interval
/// of all `t` that are not rejected lies between two of its members.
pub(super) struct Shifts {
    sorted: Vec<f64>,
    /// Rearrangements that change nothing, what was seen among them: as extreme at any shift.
    same: usize,
}

impl Shifts {
    pub(super) fn new(mut shifts: Vec<f64>, same: usize) -> Shifts {
        shifts.sort_unstable_by(f64::total_cmp);
        Shifts {
            sorted: shifts,
            same,
        }
    }

    fn total(&self) -> f64 {
        (self.sorted.len() + self.same) as f64
    }

    /// P values of no shift; shifts within `tie` of 0 are ties.
    pub(super) fn significance(&self, tie: f64, exact: bool) -> Significance {
        let at_most = self.sorted.partition_point(|&shift| shift <= tie);
        let below = self.sorted.partition_point(|&shift| shift < -tie);
        let share = |count: usize| (count + self.same) as f64 / self.total();
        Significance::new(share(at_most), share(self.sorted.len() - below), exact)
    }

    /// All shifts that the two-sided test at `1 - confidence` does not reject.
    pub(super) fn interval(&self, confidence: f64) -> Option<Interval> {
        let rejected = rejected(confidence, self.total())?;
        let rank = (rejected + 1).checked_sub(self.same).filter(|&r| r > 0)?;
        let rank = rank.min(self.sorted.len().div_ceil(2));
        Some(Interval {
            low: *self.sorted.get(rank.checked_sub(1)?)?,
            high: self.sorted[self.sorted.len() - rank],
            confidence: 1.0 - 2.0 * (rank - 1 + self.same) as f64 / self.total(),
        })
    }
}

/// How many of `total` rearrangements the test may reject on each side. `None` for a confidence
/// outside of 0..1.
pub(super) fn rejected(confidence: f64, total: f64) -> Option<usize> {
    let inside = confidence > 0.0 && confidence < 1.0;
    inside.then(|| ((1.0 - confidence) / 2.0 * total).floor() as usize)
}

/// Rounding errors of sums of such values: what differs by less is equal.
pub(super) fn rounding<'a>(values: impl IntoIterator<Item = &'a f64>) -> f64 {
    64.0 * f64::EPSILON * values.into_iter().map(|v| v.abs()).sum::<f64>()
}

pub(super) fn all_finite(values: &[f64]) -> bool {
    values.iter().all(|value| value.is_finite())
}
