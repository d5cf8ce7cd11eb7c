//! Learned positions at another grid than they were learned for, interpolated
//! as transformers does with `interpolate_pos_encoding=True`: bicubic with
//! a = -0.75, corners not aligned, edges repeated, no smoothing.

/// From one square grid to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Change {
    /// Leading rows that stand for no patch: the class token's.
    pub(super) kept: usize,
    /// Patches along one side of the learned grid.
    pub(super) from: usize,
    /// Patches along one side of the wanted grid.
    pub(super) to: usize,
}

/// Where a value of the new grid comes from: four old ones and their weights.
type Taps = [(usize, f64); 4];

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
        let place = (at as f64 + 0.5) * self.from as f64 / self.to as f64 - 0.5;
        let first = place.floor() as i64 - 1;
        std::array::from_fn(|i| {
            let tap = first + i as i64;
            let inside = tap.clamp(0, self.from as i64 - 1) as usize;
            (inside, cubic((place - tap as f64).abs()))
        })
    }
}

/// Keys' convolution kernel at distance `x`, with PyTorch's constant.
fn cubic(x: f64) -> f64 {
    const A: f64 = -0.75;
    if x <= 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `((7 i) mod 11) / 4` on a grid, one channel, after one kept row.
    fn resampled(from: usize, to: usize) -> Vec<f32> {
        let grid = (0..from * from).map(|i| (i * 7 % 11) as f32 / 4.0);
        let table: Vec<f32> = std::iter::once(9.0).chain(grid).collect();
        let change = Change { kept: 1, from, to };
        assert_eq!(change.rows_before(), table.len());
        let out = change.apply(&table);
        assert_eq!(out[0], 9.0, "the class token's row stays");
        out[1..].to_vec()
    }

    #[test]
    fn larger_and_smaller_grids_have_the_values_of_torch() {
        // torch.nn.functional.interpolate(mode="bicubic", align_corners=False), 2.9.1.
        let larger = [
            -0.433344, 0.613432, 1.774001, 1.307008, 0.678001, 0.922432, 1.325004, 1.671, 1.108176,
            0.575, 2.596001, 2.183999, 1.5, 0.816001, 0.404, 2.642009, 2.134175, 1.329001,
            0.630745, 0.233, 2.322002, 1.91, 1.226001, 0.542001, 0.13,
        ];
        let smaller = [0.866455, 1.864014, 1.188232, 1.143799];
        for (got, expected) in [
            (resampled(3, 5), &larger[..]),
            (resampled(4, 2), &smaller[..]),
        ] {
            assert_eq!(got.len(), expected.len());
            for (got, expected) in got.iter().zip(expected) {
                assert!((got - expected).abs() < 5e-6, "{got} is not {expected}");
            }
        }
    }

    #[test]
    fn the_same_grid_stays_as_it_is() {
        let same = resampled(3, 3);
        let grid: Vec<f32> = (0..9).map(|i| (i * 7 % 11) as f32 / 4.0).collect();
        assert_eq!(same, grid);
    }
}
