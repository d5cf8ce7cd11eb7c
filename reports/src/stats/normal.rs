//! The normal distribution function and its inverse, and a figure whose deviation is known.

use super::shifts::Significance;

/// How far `shift` is from 0 if it is normal of standard deviation `deviation`, and half the width of
/// its interval at `confidence`. `None` unless both are finite and the deviation is positive.
pub fn normal_significance(
    shift: f64,
    deviation: f64,
    confidence: f64,
) -> Option<(Significance, f64)> {
    if !shift.is_finite() || !deviation.is_finite() || deviation <= 0.0 {
        return None;
    }
    let z = shift / deviation;
    let half = quantile(0.5 + confidence / 2.0) * deviation;
    Some((Significance::new(cumulative(-z), cumulative(z), true), half))
}

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
    fn a_known_deviation_gives_tails_and_an_interval() {
        let (found, half) = normal_significance(0.04, 0.02, 0.95).unwrap();
        assert!((found.p_greater - 0.022_750_131_948_179_2).abs() < 1e-14);
        assert!((found.p_less + found.p_greater - 1.0).abs() < 1e-14);
        assert!((half - 0.02 * 1.959_963_984_540_054).abs() < 1e-12);
        for (shift, deviation) in [(0.1, 0.0), (f64::NAN, 1.0), (0.0, f64::INFINITY)] {
            assert_eq!(normal_significance(shift, deviation, 0.95), None);
        }
    }

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
