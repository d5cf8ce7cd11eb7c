//! Time as work over rates, fitted to what was measured.

use serde::Serialize;

/// A piece of work and how long it took.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Floating-point operations.
    pub flops: f64,
    /// Bytes read and written.
    pub bytes: f64,
    /// Seconds.
    pub seconds: f64,
}

/// What a unit of work takes: `seconds = flops * per_flop + bytes * per_byte`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Rates {
    /// Seconds for each floating-point operation.
    pub seconds_per_flop: f64,
    /// Seconds for each byte.
    pub seconds_per_byte: f64,
}

impl Rates {
    /// The rates, none of them negative, that leave the least sum of squares of
    /// relative errors over `points`.
    pub fn fit(points: &[Point]) -> Rates {
        // With x and y the work over the seconds it took, a x + b y is to be 1.
        let sum = |f: fn(f64, f64) -> f64| -> f64 {
            let scaled = points
                .iter()
                .map(|p| (p.flops / p.seconds, p.bytes / p.seconds));
            scaled.map(|(x, y)| f(x, y)).sum()
        };
        let (xx, xy, yy) = (sum(|x, _| x * x), sum(|x, y| x * y), sum(|_, y| y * y));
        let (x, y) = (sum(|x, _| x), sum(|_, y| y));
        let determinant = xx * yy - xy * xy;
        let both = Rates {
            seconds_per_flop: (x * yy - y * xy) / determinant,
            seconds_per_byte: (y * xx - x * xy) / determinant,
        };
        let possible = |rate: f64| rate.is_finite() && rate >= 0.0;
        // Points of one proportion do not tell the two apart.
        let distinct = determinant > 1e-9 * xx * yy;
        if distinct && possible(both.seconds_per_flop) && possible(both.seconds_per_byte) {
            return both;
        }
        let ratio = |over: f64, under: f64| if under > 0.0 { over / under } else { 0.0 };
        let flops = Rates {
            seconds_per_flop: ratio(x, xx),
            seconds_per_byte: 0.0,
        };
        let bytes = Rates {
            seconds_per_flop: 0.0,
            seconds_per_byte: ratio(y, yy),
        };
        match flops.squares(points) <= bytes.squares(points) {
            true => flops,
            false => bytes,
        }
    }

    /// Seconds of some work.
    pub fn seconds(&self, flops: u64, bytes: u64) -> f64 {
        flops as f64 * self.seconds_per_flop + bytes as f64 * self.seconds_per_byte
    }

    /// Sum of squares of relative errors.
    fn squares(&self, points: &[Point]) -> f64 {
        let error = |p: &Point| {
            let seconds = p.flops * self.seconds_per_flop + p.bytes * self.seconds_per_byte;
            seconds / p.seconds - 1.0
        };
        points.iter().map(|p| error(p).powi(2)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(flops: f64, bytes: f64, seconds: f64) -> Point {
        Point {
            flops,
            bytes,
            seconds,
        }
    }

    fn close(found: f64, wanted: f64) {
        assert!(
            (found - wanted).abs() < 1e-9 * wanted.abs().max(1e-12),
            "{found} {wanted}"
        );
    }

    #[test]
    fn rates_are_recovered_from_times_that_they_made() {
        let made = |flops, bytes| point(flops, bytes, flops / 4e11 + bytes / 2e10);
        let rates = Rates::fit(&[made(1e9, 3e9), made(9e10, 3e9), made(4e11, 5e9)]);
        close(rates.seconds_per_flop, 1.0 / 4e11);
        close(rates.seconds_per_byte, 1.0 / 2e10);
        close(rates.seconds(8e11 as u64, 0), 2.0);
    }

    #[test]
    fn a_rate_is_never_negative() {
        // More bytes take less time: only the FLOPs explain it.
        let rates = Rates::fit(&[point(1e10, 9e9, 1.0), point(2e10, 1e9, 2.0)]);
        assert_eq!(rates.seconds_per_byte, 0.0);
        close(rates.seconds_per_flop, 1e-10);
    }

    #[test]
    fn points_of_one_proportion_or_of_one_kind_are_enough() {
        let rates = Rates::fit(&[point(1e10, 1e9, 1.0), point(2e10, 2e9, 2.0)]);
        close(rates.seconds(3e10 as u64, 3e9 as u64), 3.0);
        let rates = Rates::fit(&[point(0.0, 1e9, 0.5)]);
        close(rates.seconds_per_byte, 5e-10);
        assert_eq!(rates.seconds_per_flop, 0.0);
        assert_eq!(Rates::fit(&[]), Rates::default());
    }
}
