//! The Pareto front of accuracy against time: which points no other point beats.

/// Indices of the points that no other point dominates, by rising cost.
///
/// A point is `(cost, value)`; cost is to be small, value large. `a` dominates `b` if it is no
/// worse in both and better in one, so equal points are all on the front or all off it. Points
/// with a coordinate that is not a number are never on the front.
pub fn front(points: &[(f64, f64)]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..points.len())
        .filter(|&i| !points[i].0.is_nan() && !points[i].1.is_nan())
        .collect();
    // By rising cost, at equal cost by falling value; equal points keep their order.
    order.sort_by(|&a, &b| {
        (points[a].0.total_cmp(&points[b].0)).then(points[b].1.total_cmp(&points[a].1))
    });
    let mut front: Vec<usize> = Vec::new();
    for index in order {
        let keep = front
            .last()
            .is_none_or(|&last| points[index].1 > points[last].1 || points[index] == points[last]);
        if keep {
            front.push(index);
        }
    }
    front
}

#[cfg(test)]
mod tests {
    use super::front;

    /// The definition, word by word.
    fn by_definition(points: &[(f64, f64)]) -> Vec<usize> {
        let dominates =
            |a: (f64, f64), b: (f64, f64)| a.0 <= b.0 && a.1 >= b.1 && (a.0 < b.0 || a.1 > b.1);
        (0..points.len())
            .filter(|&i| !points.iter().any(|&other| dominates(other, points[i])))
            .collect()
    }

    #[test]
    fn agrees_with_the_definition_on_grids_full_of_ties() {
        // A linear congruential sequence over a 6 x 6 grid, so that ties abound.
        let mut state = 7_u64;
        let mut next = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            ((state >> 33) % 6) as f64
        };
        for size in 0..60 {
            let points: Vec<(f64, f64)> = (0..size).map(|_| (next(), next())).collect();
            let mut found = front(&points);
            assert!(found.is_sorted_by(|&a, &b| points[a].0 <= points[b].0));
            found.sort_unstable();
            assert_eq!(found, by_definition(&points), "{points:?}");
        }
    }

    #[test]
    fn knows_ties_by_hand() {
        // Equal cost: the better value only. Equal value: the cheaper one only. Equal points: both.
        assert_eq!(front(&[(1.0, 5.0), (1.0, 6.0)]), [1]);
        assert_eq!(front(&[(2.0, 5.0), (1.0, 5.0)]), [1]);
        assert_eq!(front(&[(1.0, 5.0), (1.0, 5.0)]), [0, 1]);
        assert_eq!(front(&[(f64::NAN, 9.0), (1.0, 5.0), (0.5, f64::NAN)]), [1]);
        assert!(front(&[]).is_empty());
    }
}
