//! A side of a comparison: a program, an experiment, its cases.

use std::path::{Path, PathBuf};

use crate::cmd::plan;
use crate::config::{ConfigKind, Overrides};
use crate::context::Context;
use crate::error::Failure;
use crate::launch::Slow;
use crate::plan::{Plan, Sources, Workload};

/// What is launched again and again.
#[derive(Clone, Debug)]
pub struct Arm {
    /// `base`, `candidate`, or the name of a control.
    pub name: String,
    /// The program; this one if `None`.
    pub program: Option<PathBuf>,
    /// Experiment, a path or a name.
    pub experiment: String,
    /// Flags that beat it.
    pub flags: Overrides,
    /// Extra work.
    pub slow: Option<Slow>,
}

/// The cases of an arm that are timed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timed {
    /// Id.
    pub id: String,
    /// Bytes that it needs at least.
    pub memory: u64,
    /// Warm-up repetitions of a launch.
    pub warm_up: u32,
    /// Whether it encodes an image.
    pub encodes: bool,
}

/// What an arm's experiment comes to.
pub struct Cases {
    /// Latency cases that can run.
    pub timed: Vec<Timed>,
    /// Whether it asks suites.
    pub asks: bool,
    /// Cases that cannot run, and why.
    pub broken: Vec<String>,
}

impl Arm {
    /// Its cases, by this program's plan.
    pub fn cases(&self, ctx: &Context) -> Result<Cases, Failure> {
        let experiment = plan::experiment(&self.experiment, &self.flags, ctx)?;
        let sources = Sources {
            configs: &ctx.configs,
            hub: &ctx.hub,
        };
        let plan = Plan::build(&experiment, &sources, &mut |_| {})?;
        let mut cases = Cases {
            timed: Vec::new(),
            asks: false,
            broken: Vec::new(),
        };
        for case in &plan.cases {
            let latency = match &case.workload {
                Workload::EncoderLatency(l) | Workload::EndToEndLatency(l) => l,
                Workload::Quality(_) => {
                    cases.asks |= case.ready().is_some();
                    continue;
                }
            };
            match (case.ready(), case.reason()) {
                (Some(ready), _) => cases.timed.push(Timed {
                    id: case.id.to_string(),
                    memory: ready.cost.memory_bytes(),
                    warm_up: latency.warm_up,
                    encodes: ready.recipe.encoder.is_some(),
                }),
                (None, why) => {
                    let why = why.unwrap_or_default();
                    cases.broken.push(format!("{}: {why}", case.id));
                }
            }
        }
        Ok(cases)
    }
}

/// The experiment that BASE or CANDIDATE means: one by path or name, or else a
/// model, for which one is written into `folder`.
pub fn experiment_of(
    what: &str,
    name: &str,
    folder: &Path,
    ctx: &Context,
) -> Result<String, Failure> {
    if ctx
        .configs
        .find(ConfigKind::Experiment, what)
        .is_ok_and(|found| is_experiment(&found.text))
    {
        return Ok(what.to_owned());
    }
    let path = folder.join(format!("{name}.yaml"));
    let model = serde_json::to_string(what).map_err(|e| Failure::Internal(e.to_string()))?;
    let text =
        format!("about: {name} of a comparison\nmodels: [{{model: {model}}}]\nlatency: {{}}\n");
    std::fs::write(&path, text).map_err(|source| Failure::Output {
        path: path.clone(),
        source,
    })?;
    Ok(path.display().to_string())
}

/// A recipe in YAML is a model and no experiment.
fn is_experiment(text: &str) -> bool {
    ["models:", "grid:", "claims:"]
        .iter()
        .any(|key| text.lines().any(|l| l.starts_with(key)))
}

/// Cases of both sides that belong together: those of one id, or, if none is,
/// as many in the same order.
pub fn matched(base: &[Timed], candidate: &[Timed]) -> Result<Vec<(Timed, Timed)>, String> {
    let with = |one: &Timed| {
        let other = candidate.iter().find(|other| other.id == one.id)?;
        Some((one.clone(), other.clone()))
    };
    let same: Vec<_> = base.iter().filter_map(with).collect();
    if !same.is_empty() {
        return Ok(same);
    }
    if base.len() == candidate.len() {
        return Ok(base
            .iter()
            .cloned()
            .zip(candidate.iter().cloned())
            .collect());
    }
    Err(format!(
        "the base has {} latency cases and the candidate {}, and none has the id of another: compare experiments \
         with the same cases, or as many in the same order",
        base.len(),
        candidate.len()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timed(ids: &[&str]) -> Vec<Timed> {
        let one = |id: &&str| Timed {
            id: (*id).to_owned(),
            memory: 1,
            warm_up: 1,
            encodes: true,
        };
        ids.iter().map(one).collect()
    }

    #[test]
    fn cases_are_paired_by_id_or_by_order() {
        let ids = |base: &[&str], candidate: &[&str]| {
            let pairs = matched(&timed(base), &timed(candidate))?;
            Ok::<_, String>(
                pairs
                    .into_iter()
                    .map(|(a, b)| format!("{}{}", a.id, b.id))
                    .collect::<Vec<_>>(),
            )
        };
        assert_eq!(ids(&["a", "b"], &["b", "c"]).unwrap(), ["bb"]);
        assert_eq!(ids(&["a", "b"], &["c", "d"]).unwrap(), ["ac", "bd"]);
        assert!(
            ids(&["a", "b"], &["c"])
                .unwrap_err()
                .contains("2 latency cases")
        );
    }

    #[test]
    fn a_recipe_is_no_experiment() {
        assert!(is_experiment("about: x\nmodels: [{model: a}]\n"));
        assert!(!is_experiment(
            "about: x\nencoder: a\nweights: {seeded: 0}\n"
        ));
    }
}
