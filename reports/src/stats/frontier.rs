//! How sure a Pareto front is: the front of every replicate of uncertain points.

use crate::pareto::front;

/// What the fronts of all replicates have in common.
#[derive(Debug, Clone, PartialEq)]
pub struct Frontier {
    /// For each point, the share of replicates in which it is on the front.
    pub membership: Vec<f64>,
    /// Of each replicate, the area between its front and the reference point, in units of cost times score.
    pub hypervolume: Vec<f64>,
}

/// Fronts of replicates: `replicates[r][i]` is point `i` as `(cost, score)` in replicate `r`, cost to be
/// small and score large. One replicate draws every point anew, from its launches and its samples, so
/// that draws which belong together (the same questions) stay together.
///
/// `reference` is `(cost, score)` of the worst that still counts: a point that is no better in both adds no
/// area (Zitzler and Thiele, 1998). The front itself is [`front`]'s. `None` without replicates, or where
/// they have different numbers of points.
pub fn frontier(replicates: &[Vec<(f64, f64)>], reference: (f64, f64)) -> Option<Frontier> {
    let points = replicates.first()?.len();
    if replicates.iter().any(|replicate| replicate.len() != points) {
        return None;
    }
    let mut counts = vec![0_usize; points];
    let mut hypervolume = Vec::with_capacity(replicates.len());
    for replicate in replicates {
        let front = front(replicate);
        front.iter().for_each(|&point| counts[point] += 1);
        hypervolume.push(area(front.iter().map(|&point| replicate[point]), reference));
    }
    let all = replicates.len() as f64;
    Some(Frontier {
        membership: counts.iter().map(|&count| count as f64 / all).collect(),
        hypervolume,
    })
}

/// Area of what a front dominates and what dominates the reference; points come by rising cost.
fn area(front: impl Iterator<Item = (f64, f64)>, reference: (f64, f64)) -> f64 {
    let mut area = 0.0;
    let mut reached = reference.1;
    for (cost, score) in front {
        if cost < reference.0 && score > reached {
            area += (reference.0 - cost) * (score - reached);
            reached = score;
        }
    }
    area
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn membership_and_area_by_hand() {
        let replicates = [
            vec![(1.0, 10.0), (2.0, 20.0), (3.0, 15.0)],
            vec![(1.0, 10.0), (2.0, 20.0), (3.0, 25.0)],
        ];
        let found = frontier(&replicates, (4.0, 0.0)).unwrap();
        assert_eq!(found.membership, [1.0, 1.0, 0.5]);
        // Three columns: 3 x 10, 2 x 10, and 1 x 5 in the second.
        assert_eq!(found.hypervolume, [50.0, 55.0]);
        // Beyond the reference nothing counts.
        let near = frontier(&replicates, (2.0, 5.0)).unwrap();
        assert_eq!(near.hypervolume, [5.0, 5.0]);
    }

    #[test]
    fn odd_replicates_are_refused_and_odd_points_are_on_no_front() {
        assert_eq!(frontier(&[], (1.0, 0.0)), None);
        assert_eq!(frontier(&[vec![(1.0, 1.0)], vec![]], (1.0, 0.0)), None);
        let empty = frontier(&[vec![]], (1.0, 0.0)).unwrap();
        assert_eq!(empty.hypervolume, [0.0]);
        let found = frontier(&[vec![(f64::NAN, 9.0), (1.0, 5.0)]], (2.0, 0.0)).unwrap();
        assert_eq!(
            (found.membership, found.hypervolume),
            (vec![0.0, 1.0], vec![5.0])
        );
    }
}
