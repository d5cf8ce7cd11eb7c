//! Scales: from the units of an axis to pixels, and where its ticks are.

/// A linear or logarithmic axis over a range of pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Scale {
    low: f64,
    high: f64,
    pixels: (f64, f64),
    log: bool,
}

impl Scale {
    /// A logarithmic axis around positive values, with room for the outermost marks and labels.
    pub fn log(values: impl Iterator<Item = f64>, pixels: (f64, f64)) -> Self {
        let positive = values.filter(|value| *value > 0.0);
        let (low, high) = bounds(positive.map(f64::log10)).unwrap_or((0.0, 1.0));
        let room = (0.08 * (high - low)).max(0.12);
        Self {
            low: low - room,
            high: high + room,
            pixels,
            log: true,
        }
    }

    /// A linear axis around values, with room for the outermost marks and labels.
    pub fn linear(values: impl Iterator<Item = f64>, pixels: (f64, f64)) -> Self {
        let (low, high) = bounds(values).unwrap_or((0.0, 1.0));
        let room = (0.10 * (high - low)).max(0.5);
        Self {
            low: low - room,
            high: high + room,
            pixels,
            log: false,
        }
    }

    /// A linear axis from zero to `high`, without room at its ends.
    pub fn from_zero(high: f64, pixels: (f64, f64)) -> Self {
        Self {
            low: 0.0,
            high,
            pixels,
            log: false,
        }
    }

    /// Pixel of a value.
    pub fn pixel(&self, value: f64) -> f64 {
        let value = if self.log { value.log10() } else { value };
        let share = (value - self.low) / (self.high - self.low);
        self.pixels.0 + share * (self.pixels.1 - self.pixels.0)
    }

    /// Value at a pixel.
    pub fn value(&self, pixel: f64) -> f64 {
        let share = (pixel - self.pixels.0) / (self.pixels.1 - self.pixels.0);
        let value = self.low + share * (self.high - self.low);
        if self.log { 10_f64.powf(value) } else { value }
    }

    /// Values of the ticks, rising.
    pub fn ticks(&self) -> Vec<f64> {
        if self.log {
            self.log_ticks()
        } else {
            self.linear_ticks()
        }
    }

    /// 1, 2, 5 in each decade; if that is too few or too many, finer or whole decades.
    fn log_ticks(&self) -> Vec<f64> {
        let sets: [&[f64]; 3] = [
            &[1.0],
            &[1.0, 2.0, 5.0],
            &[1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0],
        ];
        let ticks = |set: &[f64]| -> Vec<f64> {
            let decades = self.low.floor() as i32..=self.high.ceil() as i32;
            (decades.flat_map(|decade| set.iter().map(move |m| m * 10_f64.powi(decade))))
                .filter(|tick| (self.low..=self.high).contains(&tick.log10()))
                .collect()
        };
        let wanted = if self.high - self.low > 4.0 { 0 } else { 1 };
        let found = ticks(sets[wanted]);
        if found.len() < 4 {
            ticks(sets[2])
        } else {
            found
        }
    }

    /// Multiples of 1, 2 or 5 times a power of ten, at most eight of them.
    fn linear_ticks(&self) -> Vec<f64> {
        let span = self.high - self.low;
        let rough = span / 8.0;
        let power = 10_f64.powf(rough.log10().floor());
        let step = power
            * ([1.0, 2.0, 5.0].into_iter())
                .find(|m| m * power >= rough)
                .unwrap_or(10.0);
        let first = (self.low / step).ceil() as i64;
        let last = (self.high / step).floor() as i64;
        (first..=last).map(|i| i as f64 * step).collect()
    }
}

fn bounds(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values
        .filter(|value| value.is_finite())
        .fold(None, |bounds, value| {
            let (low, high) = bounds.unwrap_or((value, value));
            Some((f64::min(low, value), f64::max(high, value)))
        })
}

/// Milliseconds in words: `50 ms`, `1.5 s`.
pub(super) fn time_label(ms: f64) -> String {
    if ms >= 1000.0 {
        format!("{} s", rounded(ms / 1000.0))
    } else {
        format!("{} ms", rounded(ms))
    }
}

/// At most three decimals, without trailing zeros.
pub(super) fn rounded(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_reach_their_pixels() {
        let scale = Scale::log([100.0, 10_000.0].into_iter(), (0.0, 1160.0));
        // Two decades and 8% of them on each side: 2.32 decades over 1160 pixels.
        assert!((scale.pixel(100.0) - 80.0).abs() < 1e-9);
        assert!((scale.pixel(1000.0) - 580.0).abs() < 1e-9);
        let up = Scale::linear([50.0, 60.0].into_iter(), (120.0, 0.0));
        assert!((up.pixel(50.0) - 110.0).abs() < 1e-9);
        assert!((up.pixel(60.0) - 10.0).abs() < 1e-9);
        assert!((scale.value(580.0) - 1000.0).abs() < 1e-6);
        assert!((up.value(10.0) - 60.0).abs() < 1e-9);
    }

    #[test]
    fn ticks_are_round_and_enough() {
        let ticks = |low, high| Scale::log([low, high].into_iter(), (0.0, 1.0)).ticks();
        assert_eq!(
            ticks(100.0, 10_000.0),
            [100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0, 10_000.0]
        );
        assert_eq!(ticks(110.0, 300.0), [100.0, 150.0, 200.0, 300.0]);
        assert!(ticks(1.0, 1e7).len() <= 9);
        let linear = Scale::linear([54.4, 63.9].into_iter(), (0.0, 1.0)).ticks();
        assert_eq!(linear, [54.0, 56.0, 58.0, 60.0, 62.0, 64.0]);
        // A single value still gets an axis.
        assert!(
            !Scale::linear([60.0].into_iter(), (0.0, 1.0))
                .ticks()
                .is_empty()
        );
    }

    #[test]
    fn times_read_naturally() {
        assert_eq!(time_label(50.0), "50 ms");
        assert_eq!(time_label(1500.0), "1.5 s");
        assert_eq!(time_label(20_000.0), "20 s");
    }
}
