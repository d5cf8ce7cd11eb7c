//! Claims of a paper that one model is so many times as fast as another, as an
//! experiment has them.

use serde::{Deserialize, Serialize};
use vlmbench_backends::backend::Precision;
use vlmbench_reports::claims::{self, ClaimFigure, ClaimSide};

use super::experiment::Experiment;
use super::latency::{Latency, LatencyFile};

/// One side of a claim as written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClaimModel {
    /// A name under `configs/models/`, a checkpoint folder, or a hub id.
    pub model: String,
    /// Input side in pixels; the recipe's own by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolution: Option<usize>,
    /// Published milliseconds of the encoder.
    pub encode_ms: f64,
    /// Published milliseconds of prefill; none if the claim is about the encoder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefill_ms: Option<f64>,
}

impl ClaimModel {
    /// The side as it is reported, measured as `case`.
    pub(crate) fn side(&self, case: String) -> ClaimSide {
        let stages = [
            ("encode", Some(self.encode_ms)),
            ("prefill", self.prefill_ms),
        ];
        let published = stages.map(|(stage, ms)| Some((stage.to_owned(), ms?)));
        ClaimSide {
            case,
            published_ms: published.into_iter().flatten().collect(),
        }
    }
}

/// A claim as written.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClaimFile {
    /// Its name, such as `85x`; names its cases.
    pub claim: String,
    /// What is said of what.
    pub about: String,
    /// What it is about.
    pub figure: ClaimFigure,
    /// What is said to be slower.
    pub baseline: ClaimModel,
    /// What is said to be faster.
    pub contender: ClaimModel,
    /// Where the published times are from.
    pub source: String,
    /// Precision of both; the experiment's first by default.
    pub precision: Option<Precision>,
    /// The latency workload, in place of the experiment's.
    pub latency: Option<LatencyFile>,
}

/// A resolved claim.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Claim {
    /// Its name.
    pub claim: String,
    /// What is said of what.
    pub about: String,
    /// What it is about.
    pub figure: ClaimFigure,
    /// What is said to be slower.
    pub baseline: ClaimModel,
    /// What is said to be faster.
    pub contender: ClaimModel,
    /// Where the published times are from.
    pub source: String,
    /// Precision of both.
    pub precision: Precision,
    /// The latency workload.
    pub latency: Latency,
}

impl ClaimFile {
    /// What is published, nothing measured.
    pub(super) fn published(&self) -> claims::Claim {
        let side = |model: &ClaimModel| model.side(String::new());
        claims::Claim {
            claim: self.claim.clone(),
            about: self.about.clone(),
            figure: self.figure,
            baseline: side(&self.baseline),
            contender: side(&self.contender),
            source: self.source.clone(),
        }
    }

    /// Fills what a claim leaves out from its experiment.
    pub(super) fn resolve(self, experiment: &Experiment) -> Claim {
        Claim {
            claim: self.claim,
            about: self.about,
            figure: self.figure,
            baseline: self.baseline,
            contender: self.contender,
            source: self.source,
            precision: (self.precision)
                .or(experiment.precisions.first().copied())
                .unwrap_or_default(),
            latency: match self.latency {
                Some(file) => Latency::from_file(file),
                None => experiment.latency.clone().unwrap_or_default(),
            },
        }
    }
}
