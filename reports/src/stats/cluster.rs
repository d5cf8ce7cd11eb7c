//! Paired differences that come in clusters: questions on one image are not independent.
//!
//! The cluster is the unit: its differences are summed, and signs or clusters are drawn, never single
//! questions.

use std::collections::BTreeMap;

use super::random::Random;
use super::shifts::{Significance, all_finite};
use super::signflip::sign_flips;
use super::{Interval, normal};

/// Resamples of the bootstrap. Odd by one, so that ranks of round confidences are whole numbers.
pub const BOOTSTRAPS: usize = 9_999;

const SEED: u64 = 0xC105_7E25;

/// Sum and number of the differences of every cluster, by rising key.
fn clusters<K: Ord>(differences: &[f64], keys: &[K]) -> Option<Vec<(f64, f64)>> {
    if differences.is_empty() || differences.len() != keys.len() || !all_finite(differences) {
        return None;
    }
    let mut clusters: BTreeMap<&K, (f64, f64)> = BTreeMap::new();
    for (difference, key) in differences.iter().zip(keys) {
        let cluster = clusters.entry(key).or_insert((0.0, 0.0));
        *cluster = (cluster.0 + difference, cluster.1 + 1.0);
    }
    Some(clusters.into_values().collect())
}

/// Sign-flip test of the mean of paired differences being 0, the signs of a cluster flipped together:
/// [`sign_flips`] of the clusters' sums. Clusters that sum to 0 decide nothing and are left out, so that
/// few changed answers are counted exactly; if none is left, all p values are 1.
///
/// `None` without differences, with one that is not finite, or where keys are not as many.
pub fn cluster_flips<K: Ord>(differences: &[f64], keys: &[K]) -> Option<Significance> {
    let clusters = clusters(differences, keys)?;
    let moved: Vec<f64> = (clusters.iter().map(|&(sum, _)| sum))
        .filter(|&sum| sum != 0.0)
        .collect();
    Some(sign_flips(&moved).unwrap_or(Significance::new(1.0, 1.0, true)))
}

/// Interval of the mean of paired differences over clusters drawn anew, in the unit of the differences:
/// the bootstrap's percentiles, expanded for few clusters (Hesterberg, 2015).
///
/// Of [`BOOTSTRAPS`] resamples of the `g` clusters, each with its mean `sum / count`, the ends are those of rank
/// `(BOOTSTRAPS + 1) a` from either side, `a = Phi(-sqrt(g / (g - 1)) t)` with `t` the quantile of Student's
/// distribution with `g - 1` degrees of freedom: plain percentiles leave out that a sample's own spread is too
/// small. BCa and bootstrap-t were measured beside it: on scores, most of which do not
/// change, they cover less, and the latter has no end if few clusters moved.
///
/// `None` where [`cluster_flips`] is, below 6 clusters, or with a confidence that so many resamples cannot
/// reach. Resamples show what was seen alone: if no difference is other than 0, both ends are 0. [`bounded_interval`]
/// knows of the rest.
pub fn cluster_interval<K: Ord>(
    differences: &[f64],
    keys: &[K],
    confidence: f64,
) -> Option<Interval> {
    let clusters = clusters(differences, keys).filter(|clusters| clusters.len() >= 6)?;
    let draws = (BOOTSTRAPS + 1) as f64;
    let rank = (expanded(confidence, clusters.len() as f64)? * draws).floor() as usize;
    let mut random = Random::seeded(SEED);
    let mut means: Vec<f64> = (0..BOOTSTRAPS)
        .map(|_| {
            let (mut sum, mut count) = (0.0, 0.0);
            for _ in 0..clusters.len() {
                let drawn = clusters[random.below(clusters.len())];
                sum += drawn.0;
                count += drawn.1;
            }
            sum / count
        })
        .collect();
    means.sort_unstable_by(f64::total_cmp);
    Some(Interval {
        low: *means.get(rank.checked_sub(1)?)?,
        high: means[BOOTSTRAPS - rank],
        confidence,
    })
}

/// [`cluster_interval`] of differences that cannot be beyond `most` on either side, wider by what was not seen: where
/// no cluster of `g` moved down, up to `1 - ((1 - confidence) / 2)^(1 / g)` of all there are may (Clopper and Pearson,
/// 1934), each by `most`; and likewise upwards. So no end rests on nothing having happened by chance.
///
/// `None` where [`cluster_interval`] is.
pub fn bounded_interval<K: Ord>(
    differences: &[f64],
    keys: &[K],
    most: f64,
    confidence: f64,
) -> Option<Interval> {
    let seen = cluster_interval(differences, keys, confidence)?;
    let sums = clusters(differences, keys)?;
    let unseen = most * never_seen(sums.len() as f64, confidence);
    let moved = |sign: f64| sums.iter().any(|(sum, _)| sum * sign > 0.0);
    Some(Interval {
        low: (seen.low - if moved(-1.0) { 0.0 } else { unseen }).max(-most),
        high: (seen.high + if moved(1.0) { 0.0 } else { unseen }).min(most),
        confidence,
    })
}

/// Upper end of the Clopper-Pearson interval of a share of which `n` draws had none.
fn never_seen(n: f64, confidence: f64) -> f64 {
    -(((1.0 - confidence) / 2.0).ln() / n).exp_m1()
}

/// The share of resamples left out on each side; `None` for a confidence outside of 0..1.
fn expanded(confidence: f64, clusters: f64) -> Option<f64> {
    if !(confidence > 0.0 && confidence < 1.0) {
        return None;
    }
    let freedom = clusters - 1.0;
    let z = normal::quantile((1.0 + confidence) / 2.0);
    // Student's quantile by the first terms of its expansion in 1 / freedom (Abramowitz and Stegun,
    // 26.7.5): 1% off at 95% with 5 degrees of freedom, and nothing from 20 on.
    let t = z
        + (z.powi(3) + z) / (4.0 * freedom)
        + (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / (96.0 * freedom * freedom);
    Some(normal::cumulative(-(clusters / freedom).sqrt() * t))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clusters_flip_as_one() {
        // Three clusters that all gained: 1 of 8 signs, not 1 of 64.
        let (differences, keys) = (
            [1.0, 2.0, 1.0, 1.0, 3.0, 1.0],
            ["a", "b", "a", "c", "b", "c"],
        );
        let found = cluster_flips(&differences, &keys).unwrap();
        assert_eq!((found.p_greater, found.p_less), (0.125, 1.0));
        // Forty clusters in which nothing changed do not make it a random test.
        let mut differences = vec![0.0; 40];
        differences.extend([-1.0; 5]);
        let found = cluster_flips(&differences, &(0..45).collect::<Vec<_>>()).unwrap();
        assert_eq!((found.p_less, found.exact), (1.0 / 32.0, true));
        // Nor do those in which a loss makes up for a gain.
        let found = cluster_flips(&[1.0, -1.0], &[7, 7]).unwrap();
        assert_eq!((found.p_two, found.exact), (1.0, true));
    }

    #[test]
    fn what_cannot_be_clustered_is_refused() {
        let keys = [1, 2, 3, 4, 5, 6];
        assert_eq!(cluster_flips(&[], &[0; 0]), None);
        assert_eq!(cluster_flips(&[1.0], &keys), None);
        assert_eq!(cluster_flips(&[f64::NAN], &[1]), None);
        assert_eq!(cluster_interval(&[1.0; 5], &keys[..5], 0.95), None);
        assert_eq!(cluster_interval(&[f64::NAN; 6], &keys, 0.95), None);
        assert_eq!(cluster_interval(&[1.0; 6], &keys, 1.0), None);
        assert_eq!(cluster_interval(&[1.0; 6], &keys, 0.999_999), None);
        let alike = cluster_interval(&[0.25; 6], &keys, 0.95).unwrap();
        assert_eq!((alike.low, alike.high), (0.25, 0.25));
    }

    #[test]
    fn what_was_not_seen_has_a_bound() {
        let keys: Vec<usize> = (0..20).collect();
        let bounded = |differences: &[f64]| {
            let found = bounded_interval(differences, &keys[..differences.len()], 100.0, 0.95);
            found.map(|i| (i.low, i.high))
        };
        let close = |found: (f64, f64), expected: (f64, f64)| {
            let off = (found.0 - expected.0)
                .abs()
                .max((found.1 - expected.1).abs());
            assert!(off < 1e-3, "{found:?}, not {expected:?}");
        };
        // scipy.stats.binomtest(0, 20).proportion_ci(0.95): 0 to 0.168433.
        close(bounded(&[0.0; 20]).unwrap(), (-16.8433, 16.8433));
        // With gains alone it is losses that may have been missed.
        let mut gained = [0.0; 20];
        gained[7] = 100.0;
        let resampled = cluster_interval(&gained, &keys, 0.95).unwrap();
        let found = bounded(&gained).unwrap();
        close(found, (resampled.low - 16.8433, resampled.high));
        let lost = bounded(&gained.map(|gain| -gain)).unwrap();
        close(lost, (-found.1, -found.0));
        // Where both were seen, resamples say it all.
        gained[8] = -100.0;
        let both = cluster_interval(&gained, &keys, 0.95).unwrap();
        assert_eq!(bounded(&gained), Some((both.low, both.high)));
        // No score can change by more than all of it.
        assert_eq!(bounded(&[100.0; 6]).unwrap().1, 100.0);
        assert_eq!(bounded(&[0.0; 5]), None);
    }

    #[test]
    fn few_clusters_are_given_wider_percentiles() {
        // Phi(-sqrt(10 / 9) 2.262157), by scipy, and, without end, 2.5%.
        let few = expanded(0.95, 10.0).unwrap();
        assert!((few - 0.008_548).abs() < 1e-4, "{few}");
        assert!((expanded(0.95, 1e9).unwrap() - 0.025).abs() < 1e-8);
        // Alternating values, one a cluster: mean 0, sd of a mean sqrt(1 / 400).
        let values: Vec<f64> = (0..400).map(|i| f64::from(i % 2 * 2 - 1)).collect();
        let keys: Vec<usize> = (0..400).collect();
        let interval = cluster_interval(&values, &keys, 0.95).unwrap();
        assert!((interval.high - 0.098).abs() < 0.006, "{interval:?}");
        assert!((interval.low + 0.098).abs() < 0.006, "{interval:?}");
        // The same values twice in each cluster say no more.
        let twice: Vec<f64> = values.iter().chain(&values).copied().collect();
        let keys: Vec<usize> = keys.iter().chain(&keys).copied().collect();
        assert_eq!(cluster_interval(&twice, &keys, 0.95), Some(interval));
    }
}
