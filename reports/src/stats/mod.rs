//! Statistics that assume no distribution: order statistics and the binomial law behind them.
//!
//! Latency samples are skewed and have outliers that are real, so the centre is the median, its
//! interval comes from order statistics, and a tail percentile is given only from the sample count
//! on at which it can be certified. Nothing is dropped and nothing is random here.

mod binomial;
mod order;
mod proportion;

pub use order::{
    CERTIFIED_CONFIDENCE, Estimate, Interval, certified, certified_count, median_interval, quantile,
};
pub use proportion::{ExactSum, mean_interval, mean_of_means, wilson};
