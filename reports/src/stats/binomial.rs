//! The binomial distribution function, exact enough for sample counts from 1 to millions.

/// P(X <= k) for X ~ Binomial(n, p), 0 < p < 1.
///
/// Terms are formed in logarithms, since `(1 - p)^n` underflows from about a thousand samples on.
pub(super) fn cumulative(k: u64, n: u64, p: f64) -> f64 {
    if k >= n {
        return 1.0;
    }
    let odds = (p / (1.0 - p)).ln();
    let mut log_term = n as f64 * (-p).ln_1p();
    let mut sum = log_term.exp();
    for i in 1..=k {
        log_term += ((n - i + 1) as f64 / i as f64).ln() + odds;
        sum += log_term.exp();
    }
    sum.min(1.0)
}

#[cfg(test)]
mod tests {
    use super::cumulative;

    #[test]
    fn agrees_with_hand_computed_values() {
        // (1 + 5) / 2^5 and 1 - 2^-5.
        assert!((cumulative(1, 5, 0.5) - 6.0 / 32.0).abs() < 1e-14);
        assert!((cumulative(4, 5, 0.5) - 31.0 / 32.0).abs() < 1e-14);
        assert_eq!(cumulative(5, 5, 0.5), 1.0);
        // By symmetry P(X <= n/2 - 1) = (1 - P(X = n/2)) / 2, with P(X = n/2) ~ sqrt(2 / (pi n)).
        let n = 100_000;
        let middle = (2.0 / (std::f64::consts::PI * n as f64)).sqrt();
        assert!((cumulative(n / 2 - 1, n, 0.5) - (1.0 - middle) / 2.0).abs() < 1e-6);
    }
}
