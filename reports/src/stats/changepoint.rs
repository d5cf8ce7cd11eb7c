//! Where a series of figures changes for good: the history of a latency over commits or days.
//!
//! E-divisive (Matteson and James, 2014): the split of a segment in two whose distributions differ most,
//! by their energy distance, is tried against random orders of the segment; if it stands, both
//! parts are split on.

use super::random::Random;
use super::shifts::all_finite;

const SEED: u64 = 0xC4A6_7E01;

/// Least values of a part: the distance within it needs two.
const SPLIT: usize = 2;

/// What counts as a change.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ChangeSettings {
    /// Largest p value of a change. By construction this is also the share of series of exchangeable
    /// values, however heavy their tails, in which any change is found.
    pub p: f64,
    /// Least relative difference of the medians before and after.
    pub least_change: f64,
    /// Least number of values on either side for a change to be lasting: it is reported only so many
    /// values after it.
    pub least_values: usize,
}

impl Default for ChangeSettings {
    fn default() -> ChangeSettings {
        ChangeSettings {
            p: 0.001,
            least_change: 0.02,
            least_values: 3,
        }
    }
}

/// A lasting change of a series.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ChangePoint {
    /// Index of the first value after the change.
    pub index: usize,
    /// Median of the segment before it, in the unit of the values.
    pub before: f64,
    /// Median of the segment after it.
    pub after: f64,
    /// Share of random orders of the values, within the segments known by then, that have as great a
    /// split.
    pub p: f64,
}

/// Changes of a series in its order, by rising index; none where a value is not finite.
///
/// The split into `X` (m values) and `Y` (n values) has `Q = mn / (m + n) * (2 mean|x - y| - mean|x - x'| -
/// mean|y - y'|)`, means over distinct pairs. The greatest `Q` over all splits of all segments is compared
/// with that of `10 / p - 1` random orders within the segments, fewer where it is plain that the
/// change fails. Other than in the publication, the later part always reaches to the end of its segment,
/// as in MongoDB's use (Daly et al., 2020). Afterwards, one by one, the smallest change beside a part shorter than
/// `least_values` is withdrawn, and then the smallest below `least_change`.
pub fn change_points(values: &[f64], settings: ChangeSettings) -> Vec<ChangePoint> {
    if !all_finite(values) {
        return Vec::new();
    }
    let mut ends = vec![0, values.len()];
    let mut found: Vec<(usize, f64)> = Vec::new();
    let mut random = Random::seeded(SEED);
    while let Some((_, index)) = best_split(values, &ends) {
        let Some(p) = chance(values, &ends, settings.p, &mut random) else {
            break;
        };
        found.push((index, p));
        ends.push(index);
        ends.sort_unstable();
    }
    found.sort_unstable_by_key(|&(index, _)| index);
    loop {
        let points = with_medians(values, &found);
        match to_withdraw(&points, values.len(), settings) {
            Some(position) => found.remove(position),
            None => return points,
        };
    }
}

/// The smallest change beside a part that is too short, else the smallest if it is too small.
fn to_withdraw(points: &[ChangePoint], count: usize, settings: ChangeSettings) -> Option<usize> {
    let at = |position: usize| points.get(position).map_or(count, |point| point.index);
    let is_short = |from: usize, to: usize| to - from < settings.least_values;
    let smallest = |positions: &mut dyn Iterator<Item = usize>| {
        positions
            .min_by(|&a, &b| relative_change(&points[a]).total_cmp(&relative_change(&points[b])))
    };
    let hasty = smallest(&mut (0..points.len()).filter(|&position| {
        let start = position.checked_sub(1).map_or(0, at);
        is_short(start, at(position)) || is_short(at(position), at(position + 1))
    }));
    hasty.or_else(|| {
        smallest(&mut (0..points.len()))
            .filter(|&position| relative_change(&points[position]) < settings.least_change)
    })
}

fn relative_change(point: &ChangePoint) -> f64 {
    match point.after == point.before {
        true => 0.0,
        false => ((point.after - point.before) / point.before).abs(),
    }
}

fn with_medians(values: &[f64], found: &[(usize, f64)]) -> Vec<ChangePoint> {
    let median = |from: usize, to: usize| {
        let mut part = values[from..to].to_vec();
        part.sort_by(f64::total_cmp);
        super::quantile(&part, 0.5).expect("a segment has values")
    };
    let at = |position: usize| {
        found
            .get(position)
            .map_or(values.len(), |&(index, _)| index)
    };
    (found.iter().enumerate())
        .map(|(position, &(index, p))| ChangePoint {
            index,
            before: median(position.checked_sub(1).map_or(0, at), index),
            after: median(index, at(position + 1)),
            p,
        })
        .collect()
}

/// Greatest `Q` of all segments and the index where it splits; `None` if no segment can be split.
fn best_split(values: &[f64], ends: &[usize]) -> Option<(f64, usize)> {
    (ends.windows(2))
        .filter_map(|ends| {
            let (q, index) = split(&values[ends[0]..ends[1]])?;
            Some((q, ends[0] + index))
        })
        .max_by(|a, b| a.0.total_cmp(&b.0))
}

/// P value of the best split, or `None` once it must exceed `limit`.
fn chance(values: &[f64], ends: &[usize], limit: f64, random: &mut Random) -> Option<f64> {
    let (seen, _) = best_split(values, ends)?;
    // Sums in another order: what differs by rounding is a tie.
    let seen = seen * (1.0 - 1e-9);
    let total = (10.0 / limit).ceil().max(1.0);
    let mut shuffled = values.to_vec();
    let mut as_great = 1.0;
    for _ in 1..total as usize {
        for ends in ends.windows(2) {
            let segment = &mut shuffled[ends[0]..ends[1]];
            random.draw(segment, segment.len());
        }
        as_great += f64::from(best_split(&shuffled, ends)?.0 >= seen);
        if as_great / total > limit {
            return None;
        }
    }
    Some(as_great / total)
}

/// The best split of one segment. With the distances of each value to all earlier ones, the sums
/// within both parts and across grow by one value at a time.
fn split(values: &[f64]) -> Option<(f64, usize)> {
    let n = values.len();
    if n < 2 * SPLIT {
        return None;
    }
    let to_earlier: Vec<f64> = (0..n).map(|i| distances(values[i], &values[..i])).collect();
    let all: f64 = to_earlier.iter().sum();
    let (mut before, mut after) = (0.0, all);
    let mut best = (f64::NEG_INFINITY, 0);
    for index in 1..=n - SPLIT {
        before += to_earlier[index - 1];
        after -= distances(values[index - 1], &values[index..]);
        if index >= SPLIT {
            let q = energy(
                all - before - after,
                before,
                after,
                index as f64,
                (n - index) as f64,
            );
            if q > best.0 {
                best = (q, index);
            }
        }
    }
    Some(best)
}

/// Sum of the distances, in eight lanes: a sum in order would keep the processor waiting.
fn distances(from: f64, values: &[f64]) -> f64 {
    let (eights, rest) = values.as_chunks::<8>();
    let mut lanes = [0.0; 8];
    for eight in eights {
        for (lane, value) in lanes.iter_mut().zip(eight) {
            *lane += (value - from).abs();
        }
    }
    let rest: f64 = rest.iter().map(|value| (value - from).abs()).sum();
    lanes.iter().sum::<f64>() + rest
}

fn energy(across: f64, before: f64, after: f64, m: f64, n: f64) -> f64 {
    let within = |sum: f64, n: f64| {
        if n < 2.0 {
            0.0
        } else {
            2.0 * sum / (n * (n - 1.0))
        }
    };
    m * n / (m + n) * (2.0 * across / (m * n) - within(before, m) - within(after, n))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values around a level, with a spread of 1 and no order that matters.
    fn around(level: f64, count: u32) -> impl Iterator<Item = f64> {
        (0..count).map(move |i| level + f64::from(i * 7919 % 101) / 50.0 - 1.0)
    }

    #[test]
    fn finds_steps_and_their_medians() {
        let series: Vec<f64> = around(100.0, 20)
            .chain(around(110.0, 15))
            .chain(around(104.0, 9))
            .collect();
        let found = change_points(&series, ChangeSettings::default());
        assert_eq!(found.iter().map(|c| c.index).collect::<Vec<_>>(), [20, 35]);
        assert!(
            found.iter().all(|c| c.p <= 0.001 && c.p >= 1e-4),
            "{found:?}"
        );
        assert_eq!(found[0].after, found[1].before);
        assert!((found[0].before - 100.0).abs() < 0.5 && (found[0].after - 110.0).abs() < 0.5);
        // The second is a change of 5.5%; without it, the first reaches to the end.
        let settings = ChangeSettings {
            least_change: 0.07,
            ..ChangeSettings::default()
        };
        let large = change_points(&series, settings);
        assert_eq!(large.len(), 1);
        assert!((large[0].after - 108.0).abs() < 3.0, "{large:?}");
    }

    #[test]
    fn no_change_is_found_where_none_can_be() {
        let settings = ChangeSettings::default();
        assert!(change_points(&[], settings).is_empty());
        assert!(change_points(&[1.0], settings).is_empty());
        assert!(change_points(&[1.0; 60], settings).is_empty());
        assert!(change_points(&[0.0; 60], settings).is_empty());
        let level: Vec<f64> = around(100.0, 80).collect();
        assert!(change_points(&level, settings).is_empty());
        let mut odd = level;
        odd[40] = f64::NAN;
        assert!(change_points(&odd, settings).is_empty());
    }

    #[test]
    fn two_values_are_no_lasting_change_and_three_are() {
        let with = |count| {
            let series: Vec<f64> = around(100.0, 60).chain(around(150.0, count)).collect();
            change_points(&series, ChangeSettings::default())
        };
        assert!(with(2).is_empty());
        assert_eq!(with(3).len(), 1);
        assert_eq!(with(3)[0].index, 60);
    }

    #[test]
    fn the_split_is_the_definition_s() {
        let values: Vec<f64> = around(3.0, 9).chain(around(4.0, 8)).collect();
        let mean = |a: &[f64], b: &[f64]| {
            let sum: f64 = a
                .iter()
                .flat_map(|x| b.iter().map(move |y| (x - y).abs()))
                .sum();
            sum / (a.len() * b.len()) as f64
        };
        let q = |index: usize| {
            let (x, y) = values.split_at(index);
            let (m, n) = (x.len() as f64, y.len() as f64);
            let within = mean(x, x) * m / (m - 1.0) + mean(y, y) * n / (n - 1.0);
            m * n / (m + n) * (2.0 * mean(x, y) - within)
        };
        let best = (2..=15).max_by(|&a, &b| q(a).total_cmp(&q(b))).unwrap();
        let (found, index) = split(&values).unwrap();
        assert_eq!(index, best);
        assert!((found - q(best)).abs() < 1e-12);
        assert_eq!(split(&values[..3]), None);
    }
}
