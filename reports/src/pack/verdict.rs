//! What is said of one published figure.

use serde::Serialize;

use crate::stats::Interval;

/// What is said of one published figure.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// An accuracy, with the row's own weights: the published value lies in the interval measured here.
    Reproduced,
    /// An accuracy, with the row's own weights: it does not.
    Differs {
        /// Ours less theirs, points of 100.
        points: f64,
    },
    /// The row that the others' ratios are taken against.
    Reference,
    /// A ratio of times that is the published one within the tolerance.
    RatioReproduced,
    /// A ratio that is not, but on the same side of 1.
    OrderingOnly,
    /// A ratio on the other side of 1.
    RatioDiffers,
    /// No run has it.
    NotMeasured {
        /// The experiment that would.
        experiment: String,
    },
    /// Measured, but the reference was not under the same conditions.
    NoReference {
        /// The experiment that measures both.
        experiment: String,
    },
    /// It cannot be compared.
    NotComparable {
        /// Why.
        why: String,
    },
}

impl Verdict {
    /// Of a ratio here and there: within `tolerance` of each other, either way, or at least on one side of 1.
    pub fn of_ratio(ours: f64, theirs: f64, tolerance: f64) -> Self {
        let of_ratios = ours / theirs;
        if (1.0 / tolerance..=tolerance).contains(&of_ratios) {
            Self::RatioReproduced
        } else if (ours - 1.0) * (theirs - 1.0) > 0.0 {
            Self::OrderingOnly
        } else {
            Self::RatioDiffers
        }
    }

    /// Of an accuracy, all in points of 100.
    pub fn of_score(ours: f64, interval: Option<Interval>, theirs: f64) -> Self {
        match interval {
            Some(i) if (i.low..=i.high).contains(&theirs) => Self::Reproduced,
            _ => Self::Differs {
                points: ours - theirs,
            },
        }
    }

    /// Its name, without what goes with it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Reproduced => "reproduced",
            Self::Differs { .. } => "differs",
            Self::Reference => "reference",
            Self::RatioReproduced => "ratio reproduced",
            Self::OrderingOnly => "ordering only",
            Self::RatioDiffers => "ratio differs",
            Self::NotMeasured { .. } => "not measured",
            Self::NoReference { .. } => "reference not measured",
            Self::NotComparable { .. } => "not comparable",
        }
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())?;
        match self {
            Self::Differs { points } => write!(f, " by {points:+.1}"),
            Self::NotMeasured { experiment } | Self::NoReference { experiment } => {
                write!(f, ": run {experiment}")
            }
            Self::NotComparable { why } => write!(f, ": {why}"),
            _ => Ok(()),
        }
    }
}
