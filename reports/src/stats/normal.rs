//! The normal distribution function and its inverse.

/// P(Z <= x), by the series of Marsaglia (2004); to about 1e-15.
pub(super) fn cumulative(x: f64) -> f64 {
    if x.abs() > 8.0 {
        return f64::from(x > 0.0);
    }
    let (mut sum, mut term, mut odd) = (x, x, 1.0);
    while term.abs() > 1e-18 {
        odd += 2.0;
        term *= x * x / odd;
        sum += term;
    }
    0.5 + sum * (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt()
}

/// The `x` with P(Z <= x) = p, within -8..8, by bisection.
pub(super) fn quantile(p: f64) -> f64 {
    let (mut low, mut high) = (-8.0, 8.0);
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        match cumulative(middle) < p {
            true => low = middle,
            false => high = middle,
        }
    }
    high
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_tables() {
        assert_eq!(cumulative(0.0), 0.5);
        assert!((cumulative(1.0) - 0.841_344_746_068_542_9).abs() < 1e-14);
        assert!((cumulative(-3.0) - 0.001_349_898_031_630_094_6).abs() < 1e-14);
        assert!((quantile(0.975) - 1.959_963_984_540_054).abs() < 1e-12);
        assert!((quantile(0.005) + 2.575_829_303_548_900_4).abs() < 1e-12);
        assert_eq!((cumulative(-9.0), cumulative(9.0)), (0.0, 1.0));
    }
}
