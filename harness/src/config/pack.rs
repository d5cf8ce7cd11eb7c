//! A pack by name: the file, the published results and the claims that it refers to.

use vlmbench_reports::claims::Claim;
use vlmbench_reports::pack::{self, Findings, Pack};
use vlmbench_reports::published::Published;
use vlmbench_reports::report::Report;

use super::experiment::ExperimentFile;
use super::{ConfigError, ConfigKind, Configs, nearest};

/// A pack with what it refers to.
#[derive(Clone, Debug)]
pub struct LoadedPack {
    /// The pack.
    pub pack: Pack,
    /// The numbers of its rows.
    pub published: Published,
    /// Its headline claims, as published.
    pub claims: Vec<Claim>,
}

impl LoadedPack {
    /// Reads the pack called `name`, which may be a path to a YAML file.
    ///
    /// # Errors
    /// Names that nothing has, rows that are not in the published file, and whatever else keeps it from
    /// being held to a run.
    pub fn load(configs: &Configs, name: &str) -> Result<LoadedPack, ConfigError> {
        let found = configs.find(ConfigKind::Pack, name)?;
        let pack: Pack = found.parse()?;
        let published = published(configs, &pack.published)?;
        pack.check(&published).map_err(|source| ConfigError::Pack {
            file: found.origin,
            source,
        })?;
        for experiment in pack.experiments() {
            configs.find(ConfigKind::Experiment, experiment)?;
        }
        for asked in pack.metrics.values() {
            let suite = crate::plan::suite_spec(&asked.suite, configs)?;
            let known: Vec<&str> = suite.profiles.iter().map(|p| p.id.as_str()).collect();
            if !known.contains(&asked.profile.as_str()) {
                return Err(ConfigError::UnknownName {
                    kind: "profile",
                    name: asked.profile.clone(),
                    nearest: nearest(&asked.profile, known.iter().copied()).map(str::to_owned),
                    known: known.into_iter().map(str::to_owned).collect(),
                });
            }
        }
        let claims = match &pack.claims {
            None => Vec::new(),
            Some(experiment) => {
                let found = configs.find(ConfigKind::Experiment, experiment)?;
                let file: ExperimentFile = found.parse()?;
                file.claims.iter().map(|claim| claim.published()).collect()
            }
        };
        Ok(LoadedPack {
            pack,
            published,
            claims,
        })
    }

    /// Holds it to the runs of a report.
    ///
    /// # Errors
    /// None after [`LoadedPack::load`], which has checked it.
    pub fn hold(&self, report: &Report) -> vlmbench_reports::Result<Findings> {
        pack::hold(&self.pack, &self.published, &self.claims, report)
    }
}

/// Reads and checks a file of published results.
pub fn published(configs: &Configs, name: &str) -> Result<Published, ConfigError> {
    let found = configs.find(ConfigKind::Published, name)?;
    let file: Published = found.parse()?;
    file.check().map_err(|source| ConfigError::Published {
        file: found.origin,
        source,
    })?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Experiment, Overrides};
    use crate::plan::{Plan, Sources};
    use crate::run::planned_facts;
    use std::collections::BTreeMap;
    use vlmbench_backends::hub::HubOptions;
    use vlmbench_reports::record::{
        FORMAT_VERSION, LatencySample, Manifest, Run, StageTimes, Tool,
    };

    fn names() -> Vec<String> {
        let names = Configs::embedded().names(ConfigKind::Pack).into_keys();
        let names: Vec<String> = names.collect();
        assert!(names.iter().any(|name| name == "fastvlm"), "{names:?}");
        names
    }

    fn plan(experiment: &str, cache: &std::path::Path) -> Plan {
        let configs = Configs::embedded();
        let found = configs.find(ConfigKind::Experiment, experiment).unwrap();
        let file: ExperimentFile = found.parse().unwrap();
        let flags = Overrides::default();
        let resolved = Experiment::resolve(&found.name, &found.origin, file, &flags, 2).unwrap();
        let hub = HubOptions {
            offline: true,
            ..HubOptions::new(cache)
        };
        let sources = Sources {
            configs: &configs,
            hub: &hub,
        };
        Plan::build(&resolved, &sources, &mut |_| panic!("planning fetched")).unwrap()
    }

    #[test]
    fn every_embedded_pack_is_sound_and_its_experiments_plan() {
        let cache = tempfile::tempdir().unwrap();
        let mut experiments = 0;
        for name in names() {
            let loaded = LoadedPack::load(&Configs::embedded(), &name)
                .unwrap_or_else(|e| panic!("{name}: {}", crate::error::chain(&e)));
            assert_eq!(loaded.pack.id, name);
            for experiment in loaded.pack.experiments() {
                let plan = plan(experiment, cache.path());
                assert!(!plan.cases.is_empty(), "{experiment}");
                for case in &plan.cases {
                    assert!(case.ready().is_some(), "{}: {:?}", case.id, case.reason());
                }
                experiments += 1;
            }
        }
        assert!(experiments >= 8, "{experiments}");
    }

    /// What a pack says that is not comparable needs no case; every other row of a table must find one in
    /// what its experiment measures.
    #[test]
    fn every_row_has_a_case_in_its_experiment() {
        let cache = tempfile::tempdir().unwrap();
        for name in names() {
            let loaded = LoadedPack::load(&Configs::embedded(), &name).unwrap();
            for table in &loaded.pack.tables {
                let Some(experiment) = &table.experiment else {
                    continue;
                };
                let run = timed(&plan(experiment, cache.path()));
                let findings = loaded.hold(&Report::new(vec![run])).unwrap();
                let held = findings
                    .tables
                    .iter()
                    .find(|t| t.name == table.name)
                    .unwrap();
                for block in &held.blocks {
                    for row in &block.rows {
                        let verdict = row.verdict.name();
                        assert!(
                            !["not measured", "reference not measured"].contains(&verdict),
                            "{}: {} {}: no case of {experiment}",
                            table.name,
                            block.figure.name(),
                            row.row,
                        );
                    }
                }
            }
        }
    }

    /// A run of a plan in which every stage took a picosecond for each of its FLOPs.
    fn timed(plan: &Plan) -> Run {
        let mut run = Run {
            folder: "run".into(),
            manifest: Manifest {
                format_version: FORMAT_VERSION,
                tool: Tool {
                    name: "vlmbench".into(),
                    version: crate::VERSION.into(),
                    revision: None,
                },
                started_at: String::new(),
                experiment_digest: String::new(),
                experiment: serde_json::Value::Null,
                plan: plan.ids(),
                machine: crate::machine::machine(),
                digests: BTreeMap::new(),
                notes: Vec::new(),
            },
            cases: BTreeMap::new(),
            latency: Vec::new(),
            launches: Vec::new(),
            samples: Vec::new(),
            ends: BTreeMap::new(),
            exhibits: Vec::new(),
            peaks: Vec::new(),
            published: Vec::new(),
            torn: false,
        };
        for case in &plan.cases {
            let facts = planned_facts(case, case.ready().unwrap());
            let time = |stage: &str| facts.stages.get(stage).map(|cost| cost.flops / 1000);
            run.latency.push(LatencySample {
                case: facts.case.clone(),
                launch: 0,
                iteration: 0,
                warm_up: false,
                stages: StageTimes {
                    encode_ns: time("encode"),
                    prefill_ns: time("prefill"),
                    ..StageTimes::default()
                },
                ttft_user_ns: None,
            });
            run.cases.insert(facts.case.clone(), facts);
        }
        run
    }

    #[test]
    fn what_a_pack_refers_to_must_be_there() {
        let dir = tempfile::tempdir().unwrap();
        let text = |published: &str, series: &str, experiment: &str| {
            format!(
                "id: mine\ntitle: t\nurl: u\npublished: {published}\ntolerance: 1.25\ntables:\n\
                 - name: T\n  about: a\n  experiment: {experiment}\n  figures: [encode]\n  rows:\n\
                 \x20 - {{series: {series}, encoder: FastViTHD, reference: true}}\n"
            )
        };
        let path = dir.path().join("mine.yaml");
        let load = |text: String| {
            std::fs::write(&path, text).unwrap();
            let loaded = LoadedPack::load(&Configs::embedded(), path.to_str().unwrap());
            loaded.map_err(|e| crate::error::chain(&e))
        };
        assert!(load(text("fastvlm", "table-3", "headlines")).is_ok());
        for (wrong, said) in [
            (
                text("fastvl", "table-3", "headlines"),
                "did you mean `fastvlm`?",
            ),
            (
                text("fastvlm", "table-33", "headlines"),
                "there are avg5-vicuna-7b",
            ),
            (
                text("fastvlm", "table-3", "headline"),
                "did you mean `headlines`?",
            ),
            (
                text("fastvlm", "table-3", "headlines").replace("tolerance", "tolerence"),
                "did you mean `tolerance`?",
            ),
            (
                text("fastvlm", "table-3", "headlines")
                    + "metrics: {TextVQA: {suite: textvqa, profile: lmms@0.2.1}}\n",
                "did you mean `lmms@0.2.2`?",
            ),
        ] {
            let error = load(wrong).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }
}
