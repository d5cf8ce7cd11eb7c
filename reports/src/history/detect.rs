//! Where a series changes for good.

use crate::stats::{ChangePoint, ChangeSettings, change_points};

/// Finds the changes of values in milliseconds, by rising index.
pub type Detector = fn(&[f64]) -> Vec<ChangePoint>;

/// The detector of [`crate::history`]: [`change_points`] as it is by default.
pub fn detect(values: &[f64]) -> Vec<ChangePoint> {
    change_points(values, ChangeSettings::default())
}
