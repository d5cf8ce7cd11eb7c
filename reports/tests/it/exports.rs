//! Finished runs in the formats of other tools.

use serde_json::{Value, json};
use tempfile::tempdir;
use vlmbench_reports::{
    gate::{Direction, RunExport, action_benchmark_report, bencher_report, lm_eval},
    record::Record,
    report::Report,
};

use crate::synthetic::*;

fn read(records: &[Record]) -> Report {
    let folder = tempdir().unwrap();
    write(folder.path(), records);
    Report::read(&[folder.path()]).unwrap()
}

const SCORED: &str = "textvqa/fastvlm-0.5b/candle-cpu/f32/1024px";

#[test]
fn bencher_has_measures_with_bounds_by_case() {
    let value = bencher_report(&read(&suites_and_blind_records()));
    let timed = &value[case_id("fastvithd", 1024)];
    let ttft = &timed["ttft-paper-ms"];
    assert_eq!(ttft["value"], 3985.6);
    assert_eq!(ttft["lower_value"], 3760.0);
    assert!(ttft["upper_value"].as_f64() > ttft["value"].as_f64());
    // A stage that cannot be told apart has no measure.
    assert!(timed.get("project-ms").is_none(), "{timed}");
    let score = &value[SCORED]["score"];
    assert!(
        (score["value"].as_f64().unwrap() - 100.0 * (1.0 + 0.3 + 2.0 / 3.0) / 6.0).abs() < 1e-9
    );
    let names: Vec<&String> = value.as_object().unwrap().keys().collect();
    assert!(
        names.iter().all(|name| !name.contains("blind")),
        "{names:?}"
    );
}

#[test]
fn seeded_weights_have_times_and_no_scores() {
    let mut records = scored_records();
    for record in &mut records {
        if let Record::Case(facts) = record {
            facts.weights = vlmbench_reports::record::Weights::Seeded { seed: 7 };
        }
    }
    let report = read(&records);
    assert_eq!(
        action_benchmark_report(&report, Direction::Scores),
        json!([])
    );
    assert_eq!(
        action_benchmark_report(&report, Direction::Latencies)
            .as_array()
            .unwrap()
            .len(),
        6
    );
    assert!(lm_eval(&report).is_empty());
}

#[test]
fn cases_that_did_not_end_well_are_left_out() {
    let mut records = scored_records();
    records.retain(|record| !matches!(record, Record::CaseEnd(_)));
    let report = read(&records);
    assert_eq!(bencher_report(&report), json!({}));
    assert!(lm_eval(&report).is_empty());
}

#[test]
fn action_benchmark_has_ranges_that_the_tool_reads() {
    let report = read(&suites_and_blind_records());
    let scores = action_benchmark_report(&report, Direction::Scores);
    let scores = scores.as_array().unwrap();
    assert_eq!(scores.len(), 2);
    for entry in scores {
        let range = entry["range"].as_str().unwrap();
        let number = range.strip_prefix("± ").unwrap();
        assert!(
            number.len() >= 2 && number.parse::<f64>().unwrap() > 0.0,
            "{range}"
        );
        assert_eq!(entry["unit"], "points");
    }
    assert_eq!(scores[0]["name"], format!("{SCORED}: score"));
}

#[test]
fn lm_eval_has_a_file_a_model_with_its_tasks() {
    let files = lm_eval(&read(&suites_and_blind_records()));
    let [file] = files.as_slice() else {
        panic!("{files:?}")
    };
    assert_eq!(
        file.path,
        "fastvithd-qwen2__candle__cpu__f32__1024px/results_2026-11-23T12-00-00.json"
    );
    let found = &file.results;
    let task = "textvqa.lmms@0.2.2";
    let tasks = ["docvqa.lmms@0.2.2", task];
    for part in [
        "results",
        "configs",
        "versions",
        "n-shot",
        "higher_is_better",
        "n-samples",
    ] {
        let keys: Vec<&String> = found[part].as_object().unwrap().keys().collect();
        let mut keys: Vec<&str> = keys.into_iter().map(String::as_str).collect();
        keys.sort_unstable();
        assert_eq!(keys, tasks, "{part}");
    }
    let result = &found["results"][task];
    assert_eq!(result["alias"], "textvqa");
    // Scores 1, 0.3, 2/3 and three zeros: mean and error by hand.
    let scores = [1.0, 0.3, 2.0 / 3.0, 0.0, 0.0, 0.0];
    let mean = scores.iter().sum::<f64>() / 6.0;
    let variance = scores.iter().map(|s: &f64| (s - mean).powi(2)).sum::<f64>() / 5.0;
    let near = |value: &Value, expected: f64| {
        assert!(
            (value.as_f64().unwrap() - expected).abs() < 1e-12,
            "{value} {expected}"
        );
    };
    near(&result["score,none"], mean);
    near(&result["score_stderr,none"], (variance / 6.0).sqrt());
    assert_eq!(result["sample_len"], 6);
    assert_eq!(
        found["n-samples"][task],
        json!({"original": 6, "effective": 6})
    );
    assert_eq!(found["higher_is_better"][task], json!({"score": true}));
    assert_eq!(found["n-shot"][task], 0);
    assert_eq!(found["versions"][task], "lmms@0.2.2");
    assert_eq!(found["git_hash"], "0123abc");
    assert_eq!(found["date"], 1_795_435_200.0);
    assert_eq!(found["model_name"], "fastvithd-qwen2");
    assert_eq!(found["config"]["limit"], Value::Null);
    // Not known, so not there; in that tool it is text.
    assert!(found.get("total_evaluation_time_seconds").is_none());
}

#[test]
fn lm_eval_says_what_a_limit_cut() {
    let records = scored_records();
    let folder = tempdir().unwrap();
    write(folder.path(), &records);
    let mut report = Report::read(&[folder.path()]).unwrap();
    report.runs[0].manifest.experiment =
        json!({"quality": {"suites": [{"suite": "textvqa", "profile": null, "limit": 6}]}});
    let files = lm_eval(&report);
    let found = &files[0].results;
    let counts = &found["n-samples"]["textvqa.lmms@0.2.2"];
    assert_eq!(*counts, json!({"original": null, "effective": 6}));
    assert_eq!(found["config"]["limit"], 6);
}

#[test]
fn exports_are_files_and_one_is_a_folder() {
    let report = read(&suites_and_blind_records());
    let folder = tempdir().unwrap();
    for (export, name, file) in RunExport::ALL {
        assert_eq!(name.parse(), Ok(export));
        assert_eq!(export.file_name(), file);
        let files = export.write(&report, &folder.path().join(file)).unwrap();
        assert_eq!(files.len(), 1, "{name}");
        let text = std::fs::read_to_string(&files[0]).unwrap();
        serde_json::from_str::<Value>(&text).unwrap();
        assert!(!text.contains("NaN"));
    }
    // Several runs: cases say which one they are of.
    let two = Report::new(vec![report.runs[0].clone(), report.runs[0].clone()]);
    let value = bencher_report(&two);
    assert!(value.get(format!("{SCORED} (run 2)")).is_some(), "{value}");
    assert!(
        "junit"
            .parse::<RunExport>()
            .unwrap_err()
            .contains("lm-eval")
    );
}
