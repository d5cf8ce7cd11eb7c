//! Results files in the shape of lm-evaluation-harness, one for each model under its conditions, as
//! that tool has one for each model.
//!
//! A task is a suite under a profile, for a profile is what makes scores comparable. What a run does
//! not know is left out: the size of a data set that was cut, the duration of one model's tasks in a
//! run of several, environments of a Python that there was not.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::measured::sighted;
use crate::{
    record::{Labels, Manifest, Run},
    report::Report,
    summary::{Accuracy, CaseSummary},
    time::unix_seconds,
};

/// One results file.
#[derive(Debug, Clone, PartialEq)]
pub struct LmEvalFile {
    /// Path below the folder of results, `MODEL/results_TIME.json`.
    pub path: String,
    /// Its content.
    pub results: Value,
}

/// Results of every model that was scored in finished cases. Scores are shares of 1. Cases whose
/// images were withheld and those of seeded weights are left out: they are no accuracy of a model.
pub fn lm_eval(report: &Report) -> Vec<LmEvalFile> {
    let mut files = Vec::new();
    for (index, run) in report.runs.iter().enumerate() {
        let mut models: BTreeMap<String, Vec<(&CaseSummary, &Labels, &Accuracy)>> = BTreeMap::new();
        for summary in (report.summaries.iter()).filter(|s| s.run == index && s.ended_well()) {
            let labels = summary.facts.as_ref().map(|facts| &facts.labels);
            if let (Some(labels), Some(accuracy)) = (labels, sighted(summary)) {
                let conditions = conditions(labels);
                (models.entry(conditions).or_default()).push((summary, labels, accuracy));
            }
        }
        for (conditions, tasks) in models {
            files.push(file(run, &conditions, &tasks));
        }
    }
    files
}

/// Model and conditions, in a name that a folder may have.
fn conditions(labels: &Labels) -> String {
    let parts = [
        labels.model.clone(),
        labels.backend.clone(),
        labels.device.clone(),
        labels.precision.clone(),
        format!("{}px", labels.resolution),
    ];
    safe(&parts.join("__"))
}

fn safe(name: &str) -> String {
    let safe = |c: char| match c {
        c if c.is_alphanumeric() || "._-".contains(c) => c,
        _ => '_',
    };
    name.chars().map(safe).collect()
}

fn file(run: &Run, folder: &str, tasks: &[(&CaseSummary, &Labels, &Accuracy)]) -> LmEvalFile {
    let Manifest {
        tool,
        started_at,
        experiment,
        ..
    } = &run.manifest;
    let mut page: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    let mut limits = Vec::new();
    for (summary, labels, accuracy) in tasks {
        let suite = labels.suite.as_deref().unwrap_or(&summary.case);
        let profile = labels.profile.as_deref().unwrap_or("none");
        let task = format!("{suite}.{profile}");
        let limit = limit(experiment, suite, labels.profile.as_deref());
        limits.push(limit);
        let n = accuracy.n;
        let mut put = |part: &'static str, value: Value| {
            page.entry(part).or_default().insert(task.clone(), value);
        };
        put(
            "results",
            json!({
                "alias": suite,
                "score,none": accuracy.mean(),
                // As lm-eval writes an error that it does not have.
                "score_stderr,none": standard_error(accuracy).map_or(json!("N/A"), Value::from),
                "sample_len": n,
            }),
        );
        put("group_subtasks", json!([]));
        put(
            "configs",
            json!({
                "task": task,
                "dataset_name": suite,
                "output_type": "generate_until",
                "num_fewshot": 0,
                "metric_list": [{"metric": "score", "aggregation": "mean", "higher_is_better": true}],
                "metadata": {
                    "version": profile,
                    "case": summary.case,
                    "failed": accuracy.failed,
                    "unparsed": accuracy.unparsed,
                    "truncated": accuracy.truncated,
                },
            }),
        );
        put("versions", json!(profile));
        put("n-shot", json!(0));
        put("higher_is_better", json!({"score": true}));
        // How many there are beyond the limit, the run does not know.
        let original = limit.is_none().then_some(n);
        put("n-samples", json!({"original": original, "effective": n}));
    }
    let labels = tasks.first().map(|(_, labels, _)| *labels);
    let Labels {
        model,
        backend,
        device,
        precision,
        resolution,
        ..
    } = labels.cloned().unwrap_or_default();
    // One limit for all tasks, or none is named.
    let common = limits.first().copied().flatten();
    let common = common.filter(|_| limits.iter().all(|limit| *limit == common));
    let mut results = json!({});
    for part in [
        "results",
        "group_subtasks",
        "configs",
        "versions",
        "n-shot",
        "higher_is_better",
        "n-samples",
    ] {
        results[part] = Value::Object(page.remove(part).unwrap_or_default());
    }
    results["config"] = json!({
        "model": tool.name,
        "model_args": format!(
            "model={model},backend={backend},device={device},precision={precision},resolution={resolution}"
        ),
        "batch_size": 1,
        "device": device,
        "limit": common,
    });
    results["git_hash"] = json!(tool.revision);
    if let Some(seconds) = unix_seconds(started_at) {
        results["date"] = json!(seconds as f64);
    }
    results["vlmbench_version"] = json!(tool.version);
    results["model_source"] = json!(tool.name);
    results["model_name"] = json!(model);
    results["model_name_sanitized"] = json!(safe(&model));
    let time = started_at.trim_end_matches('Z').replace(':', "-");
    LmEvalFile {
        path: format!("{folder}/results_{}.json", safe(&time)),
        results,
    }
}

/// The first so many samples to which the experiment cut a suite.
fn limit(experiment: &Value, suite: &str, profile: Option<&str>) -> Option<u64> {
    let suites = experiment["quality"]["suites"].as_array()?;
    // A suite may stand there twice, under two profiles.
    let is = |entry: &&Value, strict: bool| {
        let named = entry["suite"].as_str() == Some(suite);
        named && (!strict || entry["profile"].as_str() == profile)
    };
    let found =
        (suites.iter().find(|e| is(e, true))).or_else(|| suites.iter().find(|e| is(e, false)));
    found?["limit"].as_u64()
}

/// `sqrt(s^2 / n)` with the unbiased variance, as lm-eval has it; `None` below two samples.
fn standard_error(accuracy: &Accuracy) -> Option<f64> {
    let n = accuracy.n as f64;
    let mean = accuracy.mean();
    let variance = (accuracy.squares.value() - n * mean * mean) / (n - 1.0);
    (accuracy.n > 1).then(|| (variance.max(0.0) / n).sqrt())
}
