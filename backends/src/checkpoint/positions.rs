//! Learned positions at another grid than they were learned for, interpolated
//! with bicubic weights, corners not aligned, as those do who publish them.

/// How positions between the learned ones are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Filter {
    /// As transformers does with `interpolate_pos_encoding=True`: a = -0.75,
    /// edges repeated, no smoothing.
    Plain,
    /// As timm does (torch's `antialias=True`): a = -0.5, widened where the grid
    /// shrinks, nothing beyond the edges.
    Smooth,
}

/// From one square grid to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Change {
    /// Leading rows that stand for no patch: the class token's.
    pub(super) kept: usize,
    /// Patches along one side of the learned grid.
    pub(super) from: usize,
    /// Patches along one side of the wanted grid.
    pub(super) to: usize,
    /// How.
    pub(super) filter: Filter,
}

/// Where a value of the new grid comes from: old ones and their weights.
type Taps = Vec<(usize, f64)>;

impl Change {
    /// Rows of the learned table.
    pub(super) fn rows_before(&self) -> usize {
        self.kept + self.from * self.from
    }

    /// The table `(kept + from^2, dim)` as `(kept + to^2, dim)`.
    pub(super) fn apply(&self, table: &[f32]) -> Vec<f32> {
        let dim = table.len() / self.rows_before();
        let (kept, grid) = table.split_at(self.kept * dim);
        let taps: Vec<Taps> = (0..self.to).map(|at| self.taps(at)).collect();
        let mut out = kept.to_vec();
        let mut sum = vec![0f64; dim];
        for down in &taps {
            for across in &taps {
                sum.fill(0.0);
                for (y, v) in down {
                    for (x, w) in across {
                        let row = &grid[(y * self.from + x) * dim..][..dim];
                        for (sum, value) in sum.iter_mut().zip(row) {
                            *sum += v * w * f64::from(*value);
                        }
                    }
                }
                out.extend(sum.iter().map(|value| *value as f32));
            }
        }
        out
    }

    fn taps(&self, at: usize) -> Taps {
        let ratio = self.from as f64 / self.to as f64;
        let place = (at as f64 + 0.5) * ratio - 0.5;
        match self.filter {
            Filter::Plain => {
                let first = place.floor() as i64 - 1;
                let taps = (first..first + 4).map(|tap| {
                    let inside = tap.clamp(0, self.from as i64 - 1) as usize;
                    (inside, cubic(-0.75, (place - tap as f64).abs()))
                });
                taps.collect()
            }
            Filter::Smooth => {
                let width = ratio.max(1.0);
                let weight = |tap: usize| cubic(-0.5, (place - tap as f64).abs() / width);
                let all = (0..self.from).map(|tap| (tap, weight(tap)));
                let taps: Taps = all.filter(|(_, weight)| *weight != 0.0).collect();
                let sum: f64 = taps.iter().map(|(_, weight)| weight).sum();
                taps.iter().map(|(tap, w)| (*tap, w / sum)).collect()
            }
        }
    }
}

/// Keys' convolution kernel of constant `a` at distance `x`.
fn cubic(a: f64, x: f64) -> f64 {
    if x <= 1.0 {
        ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * a
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `((7 i) mod 11) / 4` on a grid, one channel, after one kept row.
    fn resampled(from: usize, to: usize, filter: Filter) -> Vec<f32> {
        let grid = (0..from * from).map(|i| (i * 7 % 11) as f32 / 4.0);
        let table: Vec<f32> = std::iter::once(9.0).chain(grid).collect();
        let change = Change {
            kept: 1,
            from,
            to,
            filter,
        };
        assert_eq!(change.rows_before(), table.len());
        let out = change.apply(&table);
        assert_eq!(out[0], 9.0, "the class token's row stays");
        out[1..].to_vec()
    }

    #[test]
    fn larger_and_smaller_grids_have_the_values_of_torch() {
        // torch.nn.functional.interpolate(mode="bicubic", align_corners=False), 2.9.1;
        // with antialias=True, 2.15.0.
        let larger = [
            -0.433344, 0.613432, 1.774001, 1.307008, 0.678001, 0.922432, 1.325004, 1.671, 1.108176,
            0.575, 2.596001, 2.183999, 1.5, 0.816001, 0.404, 2.642009, 2.134175, 1.329001,
            0.630745, 0.233, 2.322002, 1.91, 1.226001, 0.542001, 0.13,
        ];
        let smaller = [0.866455, 1.864014, 1.188232, 1.143799];
        let smooth_larger = [
            -0.336418, 0.542699, 1.768868, 1.207265, 0.693396, 0.828781, 1.208329, 1.673507,
            1.059423, 0.598036, 2.575472, 2.19403, 1.5, 0.80597, 0.424528, 2.534391, 2.100468,
            1.326493, 0.626949, 0.251021, 2.306604, 1.925162, 1.231132, 0.537102, 0.15566,
        ];
        let smooth_smaller = [0.976193, 1.531602, 1.273056, 1.298601];
        for (got, expected) in [
            (resampled(3, 5, Filter::Plain), &larger[..]),
            (resampled(4, 2, Filter::Plain), &smaller[..]),
            (resampled(3, 5, Filter::Smooth), &smooth_larger[..]),
            (resampled(4, 2, Filter::Smooth), &smooth_smaller[..]),
        ] {
            assert_eq!(got.len(), expected.len());
            for (got, expected) in got.iter().zip(expected) {
                assert!((got - expected).abs() < 5e-6, "{got} is not {expected}");
            }
        }
    }

    #[test]
    fn the_same_grid_stays_as_it_is() {
        let grid: Vec<f32> = (0..9).map(|i| (i * 7 % 11) as f32 / 4.0).collect();
        for filter in [Filter::Plain, Filter::Smooth] {
            assert_eq!(resampled(3, 3, filter), grid);
        }
    }
}
