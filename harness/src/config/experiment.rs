//! An experiment: which models, on what, measured how.
//!
//! [`ExperimentFile`] is what people write; [`Experiment`] is what it means,
//! with defaults filled in and flags applied. The latter goes into the run's
//! manifest, so it serialises to everything that decides what is measured.

use serde::{Deserialize, Serialize};
use vlmbench_backends::backend::{Precision, Settings};

use vlmbench_reports::claims::ClaimFigure;

use super::ConfigError;
use super::claims::{Claim, ClaimFile};
use super::grid::Grid;
use super::latency::{Latency, LatencyFile};
use super::must::Must;
use super::overrides::{Only, Overrides};

/// An experiment as written in YAML.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExperimentFile {
    /// One line for listings.
    pub about: String,
    /// Models and the resolutions to run them at; may be left out where there
    /// are a grid or claims.
    #[serde(default)]
    pub models: Vec<ModelEntry>,
    /// Models made of the parts of others.
    pub grid: Option<Grid>,
    /// Claims of a paper that one model is so many times as fast as another.
    #[serde(default)]
    pub claims: Vec<ClaimFile>,
    /// Engines; `[candle]` by default.
    pub backends: Option<Vec<String>>,
    /// Devices; `[cpu]` by default.
    pub devices: Option<Vec<String>>,
    /// Precisions; `[f32]` by default.
    pub precisions: Option<Vec<Precision>>,
    /// Worker threads, of every engine; all cores that the process may use by
    /// default.
    pub threads: Option<usize>,
    /// Settings of ONNX Runtime's sessions; its own defaults by default.
    pub onnxruntime: Option<Settings>,
    /// Seed of synthetic inputs; 0 by default.
    pub seed: Option<u64>,
    /// Latency workload; absent: latency is not measured.
    pub latency: Option<LatencyFile>,
    /// Quality workload; absent: quality is not measured.
    pub quality: Option<QualityFile>,
    /// Published results that the report sets beside the measured ones.
    pub published: Option<PublishedJoin>,
}

/// A model of an experiment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelEntry {
    /// A name under `configs/models/`, a checkpoint folder, a GGUF file, or a hub id.
    pub model: String,
    /// Input sides in pixels; empty: the recipe's own.
    #[serde(default)]
    pub resolutions: Vec<usize>,
}

/// The quality workload as written.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QualityFile {
    /// Suites to ask.
    pub suites: Vec<SuiteEntry>,
    /// Generated tokens at most, in place of each profile's own limit.
    pub max_new_tokens: Option<u32>,
    /// Positions of the KV cache; 4096 by default, never more than the model
    /// has.
    pub context: Option<usize>,
    /// Samples whose images are decoded ahead of the model; 8 by default.
    pub decode_ahead: Option<usize>,
    /// Whether every model is also asked with the images withheld, the
    /// baseline of what can be guessed; not by default.
    pub blind: Option<bool>,
    /// Samples of every case, the worst and some right ones, that are kept for
    /// reports with small copies of their images; 64 by default.
    pub gallery: Option<usize>,
}

/// A suite of an experiment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SuiteEntry {
    /// A name under `configs/suites/`.
    pub suite: String,
    /// Profile id; the suite's first by default.
    #[serde(default)]
    pub profile: Option<String>,
    /// A parquet file, a folder of shards, a hub id with an optional
    /// `@revision`, or `synth:N` with an optional `@seed`; the suite's own hub
    /// id by default.
    #[serde(default)]
    pub data: Option<String>,
    /// Split; the suite's own by default.
    #[serde(default)]
    pub split: Option<String>,
    /// Only the first so many samples.
    #[serde(default)]
    pub limit: Option<usize>,
}

/// Which published series the report joins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishedJoin {
    /// A name under `configs/published/`.
    pub file: String,
    /// Series of that file; the first one makes the report's main picture.
    pub series: Vec<String>,
    /// Metric to join, in place of each series' own.
    #[serde(default)]
    pub metric: Option<String>,
}

/// A resolved experiment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Experiment {
    /// Name: the file's stem.
    pub name: String,
    /// One line.
    pub about: String,
    /// Models, at least one if there are neither a grid nor claims.
    pub models: Vec<ModelEntry>,
    /// Models made of the parts of others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grid: Option<Grid>,
    /// Claims.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub claims: Vec<Claim>,
    /// Engines, at least one.
    pub backends: Vec<String>,
    /// Devices, at least one.
    pub devices: Vec<String>,
    /// Precisions, at least one.
    pub precisions: Vec<Precision>,
    /// Worker threads of every engine, at least 1.
    pub threads: usize,
    /// Settings of ONNX Runtime's sessions, if it is one of the engines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub onnxruntime: Option<Settings>,
    /// Seed of synthetic inputs.
    pub seed: u64,
    /// Latency workload.
    pub latency: Option<Latency>,
    /// Quality workload.
    pub quality: Option<Quality>,
    /// Published results to join.
    pub published: Option<PublishedJoin>,
    /// Path or name that it was asked for by. With the flags it says the same
    /// again to a process started by this one; it decides nothing.
    #[serde(skip)]
    pub asked: String,
    /// Flags that were applied.
    #[serde(skip)]
    pub flags: Overrides,
}

/// A resolved quality workload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Quality {
    /// Suites to ask, at least one.
    pub suites: Vec<SuiteEntry>,
    /// Generated tokens at most, in place of each profile's own limit.
    pub max_new_tokens: Option<u32>,
    /// Positions of the KV cache, if the model has as many.
    pub context: usize,
    /// Samples whose images are decoded ahead of the model, at least 1.
    pub decode_ahead: usize,
    /// Whether every model is also asked with the images withheld.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub blind: bool,
    /// Samples of every case that are kept for reports.
    #[serde(skip_serializing_if = "is_usual")]
    pub gallery: usize,
}

/// Samples of a case that are kept where nobody says how many.
const GALLERY: usize = 64;

// What is not asked for is left out of the manifest, so that experiments of
// before it existed keep their digests.
fn is_usual(gallery: &usize) -> bool {
    *gallery == GALLERY
}

impl Experiment {
    /// Gives a file its meaning: flags first, then the file, then defaults.
    /// `cores` is the number of threads that the process may use; `origin`
    /// names the file in messages.
    pub fn resolve(
        name: &str,
        origin: &str,
        file: ExperimentFile,
        flags: &Overrides,
        cores: usize,
    ) -> Result<Experiment, ConfigError> {
        let only = |flag: &Option<String>| flag.as_ref().map(|one| vec![one.clone()]);
        let or = |given: Option<Vec<String>>, default: &str| {
            given.unwrap_or_else(|| vec![default.to_owned()])
        };
        let mut experiment = Experiment {
            name: name.to_owned(),
            about: file.about,
            models: file.models,
            grid: file.grid,
            claims: Vec::new(),
            backends: or(only(&flags.backend).or(file.backends), "candle"),
            devices: or(only(&flags.device).or(file.devices), "cpu"),
            precisions: file.precisions.unwrap_or_else(|| vec![Precision::F32]),
            threads: flags.threads.or(file.threads).unwrap_or(cores),
            onnxruntime: None,
            seed: file.seed.unwrap_or(0),
            latency: file.latency.map(Latency::from_file),
            quality: file.quality.map(Quality::from_file),
            published: file.published,
            asked: origin.to_owned(),
            flags: flags.clone(),
        };
        for claim in file.claims {
            let resolved = claim.resolve(&experiment);
            experiment.claims.push(resolved);
        }
        // What is named for claims alone is not measured of the models, too.
        if experiment.models.is_empty() && experiment.grid.is_none() {
            experiment.latency = None;
        }
        match flags.only {
            Some(Only::Latency) => experiment.quality = None,
            Some(Only::Quality) => (experiment.latency, experiment.claims) = (None, Vec::new()),
            None => {}
        }
        if flags.quick {
            let claims = experiment.claims.iter_mut().map(|claim| &mut claim.latency);
            let all = claims.chain(&mut experiment.latency);
            all.for_each(|latency| {
                (latency.launches, latency.warm_up) = (1, 0);
                (latency.min_iterations, latency.max_iterations) = (1, 1);
            });
        }
        if experiment.backends.iter().any(|name| name == "onnxruntime") {
            experiment.onnxruntime = Some(file.onnxruntime.unwrap_or_default());
        }
        if let (Some(quality), Some(limit)) = (&mut experiment.quality, flags.limit) {
            for suite in &mut quality.suites {
                suite.limit = Some(limit);
            }
        }
        experiment.check(origin)?;
        Ok(experiment)
    }

    fn check(&self, origin: &str) -> Result<(), ConfigError> {
        let must = Must { origin };
        if self.claims.is_empty() && self.grid.is_none() {
            must.have("models", &self.models)?;
        }
        if let Some((key, value, expected)) = self.grid.as_ref().and_then(Grid::problem) {
            must.be(key, value, false, expected)?;
        }
        for claim in &self.claims {
            let named = !claim.claim.is_empty() && !claim.claim.contains('/');
            must.be(
                "claims.claim",
                &claim.claim,
                named,
                "a name without a slash",
            )?;
            for side in [&claim.baseline, &claim.contender] {
                let known = claim.figure == ClaimFigure::Encode || side.prefill_ms.is_some();
                let key = format!("claims.{}.prefill_ms", side.model);
                must.be(&key, "absent", known, "published milliseconds")?;
            }
            claim.latency.check(&must)?;
        }
        must.have("backends", &self.backends)?;
        must.have("devices", &self.devices)?;
        must.have("precisions", &self.precisions)?;
        must.be("threads", self.threads, self.threads >= 1, "at least 1")?;
        for model in &self.models {
            let zero = model.resolutions.iter().find(|side| **side == 0);
            must.be("resolutions", 0, zero.is_none(), "at least 1 pixel")?;
        }
        if let Some(latency) = &self.latency {
            latency.check(&must)?;
        }
        if let Some(quality) = &self.quality {
            must.have("quality.suites", &quality.suites)?;
            let ahead = quality.decode_ahead;
            must.be("quality.decode_ahead", ahead, ahead >= 1, "at least 1")?;
            must.be(
                "quality.max_new_tokens",
                0,
                quality.max_new_tokens != Some(0),
                "at least 1",
            )?;
            must.be("quality.context", 0, quality.context >= 1, "at least 1")?;
            let limits = quality.suites.iter().map(|suite| suite.limit);
            let nothing = limits.into_iter().any(|limit| limit == Some(0));
            must.be("limit", 0, !nothing, "at least 1 sample")?;
        }
        if let Some(published) = &self.published {
            must.have("published.series", &published.series)?;
        }
        Ok(())
    }
}

impl Quality {
    fn from_file(file: QualityFile) -> Quality {
        Quality {
            suites: file.suites,
            max_new_tokens: file.max_new_tokens,
            context: file.context.unwrap_or(4096),
            decode_ahead: file.decode_ahead.unwrap_or(8),
            blind: file.blind.unwrap_or(false),
            gallery: file.gallery.unwrap_or(GALLERY),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::yaml;

    fn resolve(text: &str, flags: &Overrides) -> Result<Experiment, ConfigError> {
        let file = yaml::read("x.yaml", text)?;
        Experiment::resolve("x", "x.yaml", file, flags, 6)
    }

    const MINIMAL: &str = "about: x\nmodels: [{model: fastvithd}]\n";

    #[test]
    fn defaults_fill_what_the_file_leaves_out() {
        let e = resolve(MINIMAL, &Overrides::default()).unwrap();
        assert_eq!(e.backends, ["candle"]);
        assert_eq!(e.devices, ["cpu"]);
        assert_eq!(e.precisions, [Precision::F32]);
        assert_eq!((e.threads, e.seed), (6, 0));
        assert_eq!((e.latency, e.quality), (None, None));
    }

    #[test]
    fn flags_beat_the_file() {
        let text = format!(
            "{MINIMAL}backends: [a, b]\nthreads: 3\nquality: {{suites: [{{suite: textvqa, limit: 9}}, {{suite: mmmu}}]}}\n"
        );
        let flags = Overrides {
            limit: Some(4),
            backend: Some("c".into()),
            device: Some("metal".into()),
            threads: Some(1),
            ..Overrides::default()
        };
        let e = resolve(&text, &flags).unwrap();
        assert_eq!(
            (e.backends, e.devices),
            (vec!["c".into()], vec!["metal".into()])
        );
        assert_eq!(e.threads, 1);
        let limits: Vec<_> = e.quality.unwrap().suites.iter().map(|s| s.limit).collect();
        assert_eq!(limits, [Some(4), Some(4)]);
        let e = resolve(&text, &Overrides::default()).unwrap();
        assert_eq!((e.backends.len(), e.threads), (2, 3));
        assert_eq!(e.quality.unwrap().suites[1].limit, None);
    }

    #[test]
    fn values_that_cannot_work_name_key_and_file() {
        let cases = [
            ("threads: 0", "x.yaml: `threads` is 0, expected at least 1"),
            (
                "latency: {min_iterations: 0}",
                "`latency.min_iterations` is 0",
            ),
            (
                "latency: {min_iterations: 5, max_iterations: 4}",
                "`latency.max_iterations` is 4",
            ),
            (
                "latency: {budget_seconds: .inf}",
                "`latency.budget_seconds` is inf",
            ),
            (
                "latency: {target_relative_interval: 1.5}",
                "interval` is 1.5",
            ),
            (
                "latency: {image: {width: 0, height: 2}}",
                "`latency.image` is 0x2",
            ),
            ("quality: {suites: []}", "`quality.suites` is empty"),
            ("devices: []", "`devices` is empty"),
        ];
        for (line, expected) in cases {
            let e = resolve(&format!("{MINIMAL}{line}\n"), &Overrides::default()).unwrap_err();
            assert!(e.to_string().contains(expected), "{line}: {e}");
        }
    }

    #[test]
    fn the_resolved_experiment_serialises_every_number() {
        let text = format!("{MINIMAL}latency: {{min_iterations: 70}}\n");
        let e = resolve(&text, &Overrides::default()).unwrap();
        let json = serde_json::to_value(&e).unwrap();
        assert_eq!(json["latency"]["max_iterations"], 70);
        assert_eq!(json["latency"]["warm_up"], 2);
        assert_eq!(json["precisions"][0], "f32");
    }
}
