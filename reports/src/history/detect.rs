//! The one place where the detector of change points is plugged in.

/// A lasting change of a series.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shift {
    /// Index of the first value after it.
    pub index: usize,
    /// Median of the values since the last change, or the beginning.
    pub before: f64,
    /// Median of the values up to the next change, or the end.
    pub after: f64,
    /// Chance of such a change or a greater one if there is none.
    pub p: f64,
}

/// Finds the changes of values in milliseconds, in their order, by rising index.
pub type Detector = fn(&[f64]) -> Vec<Shift>;

/// Largest `p` of a change.
const P: f64 = 0.001;
/// Least relative difference of the medians.
const LEAST_CHANGE: f64 = 0.02;

/// The detector of [`crate::history`]: a change is where all values of a part lie beyond all of the other part.
///
/// With k of n values on one side, the chance that some split of exchangeable values is so clean is at
/// most `2 n / C(n, k)`. Parts are split on, the most certain change first.
// To be replaced by E-divisive once `stats` has it: this body, and nothing else.
pub fn detect(values: &[f64]) -> Vec<Shift> {
    let mut found = Vec::new();
    split(values, 0, values.len(), &mut found);
    found.sort_unstable_by_key(|&(index, _)| index);
    let starts: Vec<usize> = [0].into_iter().chain(found.iter().map(|f| f.0)).collect();
    let part = |at: usize| {
        let end = starts.get(at + 1).copied().unwrap_or(values.len());
        super::check::median(&values[starts[at]..end])
    };
    let shift = |(at, &(index, p)): (usize, &(usize, f64))| Shift {
        index,
        before: part(at),
        after: part(at + 1),
        p,
    };
    found.iter().enumerate().map(shift).collect()
}

fn split(values: &[f64], from: usize, to: usize, found: &mut Vec<(usize, f64)>) {
    let n = to - from;
    let mut choices = 1.0;
    let mut best: Option<(usize, f64)> = None;
    for k in 1..n {
        choices *= (n - k + 1) as f64 / k as f64;
        let (before, after) = (&values[from..from + k], &values[from + k..to]);
        let low = |part: &[f64]| part.iter().copied().fold(f64::INFINITY, f64::min);
        let high = |part: &[f64]| part.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let clean = high(before) < low(after) || high(after) < low(before);
        let (b, a) = (super::check::median(before), super::check::median(after));
        let p = 2.0 * n as f64 / choices;
        let relevant = (a / b - 1.0).abs() >= LEAST_CHANGE;
        if clean && relevant && p <= P && best.is_none_or(|(_, least)| p < least) {
            best = Some((from + k, p));
        }
    }
    if let Some((index, p)) = best {
        found.push((index, p));
        split(values, from, index, found);
        split(values, index, to, found);
    }
}
