//! Several tests at once.

/// Holm's adjusted p values (1979), in the order given: the chance of any false alarm among all of
/// them stays at `alpha` if those at most `alpha` are acted on, however the tests depend on each other.
///
/// Sorted, `p_(i)` becomes the largest of `(m - j + 1) p_(j)` over `j <= i`, at most 1. What is not a
/// number counts as 1.
pub fn holm(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<(usize, f64)> = (p.iter().enumerate())
        .map(|(index, &p)| (index, if p.is_nan() { 1.0 } else { p }))
        .collect();
    order.sort_by(|a, b| a.1.total_cmp(&b.1));
    let mut adjusted = vec![1.0; p.len()];
    let mut largest = 0.0_f64;
    for (rank, &(index, p)) in order.iter().enumerate() {
        largest = largest.max((order.len() - rank) as f64 * p).min(1.0);
        adjusted[index] = largest;
    }
    adjusted
}

#[cfg(test)]
mod tests {
    use super::holm;

    #[test]
    fn adjusts_in_the_order_given() {
        assert!(holm(&[]).is_empty());
        assert_eq!(holm(&[0.25]), [0.25]);
        assert_eq!(holm(&[0.5, 0.125, 0.0625]), [0.5, 0.25, 0.1875]);
        // Never less than a smaller one's, never more than 1.
        assert_eq!(holm(&[0.25, 0.375]), [0.5, 0.5]);
        assert_eq!(holm(&[0.75, 0.75, 0.75]), [1.0; 3]);
        assert_eq!(holm(&[f64::NAN, 0.25]), [1.0, 0.5]);
    }
}
