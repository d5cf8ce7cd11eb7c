//! Statistics that assume no distribution: order statistics and the binomial law behind them, and
//! comparisons by rearranging what was measured.
//!
//! Latency samples are skewed and have outliers that are real, so the centre is the median, its
//! interval comes from order statistics, and a tail percentile is given only from the sample count
//! on at which it can be certified. Nothing is dropped. What is drawn at random is drawn from a fixed
//! seed: the same values always give the same result. METHODOLOGY.md has the formulas, and the
//! measured rates of error.

mod binomial;
mod changepoint;
mod cluster;
mod frontier;
mod mcnemar;
mod multiple;
mod normal;
mod order;
mod permutation;
mod proportion;
mod random;
mod shifts;
mod signflip;

pub use changepoint::{ChangePoint, ChangeSettings, change_points};
pub use cluster::{BOOTSTRAPS, bounded_interval, cluster_flips, cluster_interval};
pub use frontier::{Frontier, frontier};
pub use mcnemar::mcnemar;
pub use multiple::holm;
pub use normal::normal_significance;
pub use order::{
    CERTIFIED_CONFIDENCE, Estimate, Interval, certified, certified_count, median_interval, quantile,
};
pub use permutation::{ALL_DIVISIONS, difference_interval, permutations};
pub use proportion::{ExactSum, mean_interval, mean_of_means, wilson};
pub use random::Random;
pub use shifts::{RESAMPLES, Significance};
pub use signflip::{ALL_SIGNS, shift_interval, sign_flips};
