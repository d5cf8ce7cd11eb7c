//! Launches in processes of their own, and the gate that compares them. What is slowed here is slowed
//! by work, so far that no machine can hide it; no time is asserted.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::shell::{Done, arg, run, run_anywhere};

const EXPERIMENT: &str = "\
about: one small model
models: [{model: small-fastvithd, resolutions: [128]}]
latency: {warm_up: 1, prompt_tokens: 8, decode_tokens: 3, launches: 3, min_iterations: 3, max_iterations: 6, budget_seconds: 1}
";

fn place() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("x.yaml"), EXPERIMENT).unwrap();
    folder
}

fn records(folder: &Path) -> Vec<Value> {
    let text = fs::read_to_string(folder.join("records.jsonl")).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// `compare` of two experiments of the folder, measured now.
fn live(folder: &Path, base: &str, candidate: &str, more: &[&str]) -> Done {
    let args = [
        "compare", base, candidate, "--live", "--format", "json", "--rounds", "2",
    ];
    run(folder, args.iter().chain(more))
}

fn figure<'a>(found: &'a Value, name: &str) -> &'a Value {
    let latencies = found["cases"][0]["latencies"].as_array().unwrap();
    latencies.iter().find(|l| l["figure"] == name).unwrap()
}

#[test]
fn a_case_is_measured_in_as_many_processes_as_it_has_launches() {
    let place = place();
    run(place.path(), ["run", "x.yaml", "--out", "out"]).ok();
    let records = records(&place.path().join("out"));
    let launches: Vec<&Value> = records.iter().filter(|r| r["kind"] == "launch").collect();
    let numbers: Vec<_> = launches
        .iter()
        .map(|l| l["launch"].as_u64().unwrap())
        .collect();
    assert_eq!(numbers, [0, 1, 2]);
    assert!(
        launches
            .iter()
            .all(|l| l["noise"]["seconds"].as_f64().unwrap() > 0.0),
        "{launches:?}"
    );
    for launch in &launches {
        let energy = &launch["energy"];
        let timed = (records.iter()).filter(|r| {
            r["kind"] == "latency" && r["launch"] == launch["launch"] && r["warm_up"] == false
        });
        assert_eq!(energy["requests"], timed.count(), "{launch}");
        // Whether this machine has counters or not: a figure, or why there is none.
        let device = &energy["device"];
        assert_ne!(
            device["joules"].is_null(),
            device["missing"].is_null(),
            "{launch}"
        );
    }
    for launch in numbers {
        let own = records
            .iter()
            .filter(|r| r["kind"] == "latency" && r["launch"] == launch);
        let timed: Vec<_> = own.clone().filter(|r| r["warm_up"] == false).collect();
        assert!((1..=2).contains(&timed.len()), "{timed:?}");
        assert_eq!(own.count(), timed.len() + 1);
    }
    assert_eq!(records.iter().filter(|r| r["kind"] == "case").count(), 1);
    let case = records.iter().find(|r| r["kind"] == "case").unwrap();
    let digests = case["weights"]["digests"].as_object().unwrap();
    assert!(
        digests
            .keys()
            .any(|file| file.ends_with("model.safetensors")),
        "{digests:?}"
    );
    let csv = fs::read_to_string(place.path().join("out/cases.csv")).unwrap_or_default();
    let report = fs::read_to_string(place.path().join("out/report.md")).unwrap();
    assert!(
        csv.contains(",3,") || report.contains("| 3 |"),
        "the interval rests on 3 launches:\n{report}"
    );
}

#[test]
fn a_slowdown_is_found_blamed_and_the_program_says_so() {
    let place = place();
    let found = live(
        place.path(),
        "x.yaml",
        "x.yaml",
        &[
            "--slow",
            "encode=4000",
            "--no-controls",
            "--looks",
            "10",
            "--out",
            "cmp",
        ],
    );
    let found = found.json(6);
    assert_eq!(found["conclusion"], "regressed");
    let encode = figure(&found, "encode");
    assert_eq!(
        (&encode["verdict"], &encode["launches"]),
        (&"regressed".into(), &10.into())
    );
    assert!(encode["change"].as_f64().unwrap() > 1.0, "{encode}");
    assert_ne!(figure(&found, "prefill")["verdict"], "improved");
    let raw = fs::read_to_string(place.path().join("cmp/launches.jsonl")).unwrap();
    let arms: Vec<Value> = raw
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    let kept = arms.iter().filter(|l| l["discarded"] == false);
    let of = |arm: &str| kept.clone().filter(|l| l["arm"] == arm).count();
    assert_eq!((of("base"), of("candidate")), (10, 10));
    let written = fs::read_to_string(place.path().join("cmp/comparison.json")).unwrap();
    let written: Value = serde_json::from_str(&written).unwrap();
    assert_eq!(written["conclusion"], "regressed");
}

#[test]
fn controls_are_measured_beside_and_tell_whether_the_gate_can_see() {
    let place = place();
    let more = ["--control", "encode=4000", "--looks", "9", "--out", "cmp"];
    let found = live(place.path(), "x.yaml", "x.yaml", &more);
    // The base against itself on a busy machine passes or cannot be told; it is not slower.
    assert!(
        [0, 10].contains(&found.code),
        "{}: {}",
        found.code,
        found.stderr
    );
    let found: Value = serde_json::from_str(&found.stdout).unwrap();
    let controls = found["controls"].as_array().unwrap();
    let names: Vec<_> = controls
        .iter()
        .map(|c| c["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["null", "slowed"]);
    assert!(controls.iter().all(|c| c["held"] == true), "{controls:?}");
}

#[test]
fn a_side_that_cannot_run_is_broken_and_not_fast() {
    let place = place();
    let program = [
        "--candidate-program",
        "/bin/false",
        "--looks",
        "9",
        "--export",
        "junit",
    ];
    let broken = live(place.path(), "x.yaml", "x.yaml", &program).json(11);
    assert_eq!(broken["conclusion"], "broken");
    let problem = broken["problems"][0].as_str().unwrap();
    assert!(
        problem.contains("candidate") && problem.contains("small-fastvithd"),
        "{problem}"
    );
    let junit = fs::read_to_string(place.path().join("runs/compare/junit.xml")).unwrap();
    assert!(junit.contains("<error"), "{junit}");
    let missing = ["--candidate-program", "no-such-program", "--looks", "9"];
    live(place.path(), "x.yaml", "x.yaml", &missing).fails(7, &["no-such-program"]);
}

#[test]
fn answers_are_compared_sample_by_sample() {
    let folder = tempfile::tempdir().unwrap();
    let experiment = |side: u32| {
        format!(
            "about: x\nmodels: [{{model: small-vit, resolutions: [{side}]}}]\n\
             quality: {{suites: [{{suite: docvqa, data: 'synth:40', split: test}}]}}\n"
        )
    };
    for (name, side) in [("sharp", 512), ("blurred", 128)] {
        fs::write(folder.path().join(format!("{name}.yaml")), experiment(side)).unwrap();
        run(
            folder.path(),
            ["run", &format!("{name}.yaml"), "--out", name],
        )
        .ok();
    }
    let compare = |base: &str, candidate: &str| {
        let args = [
            "compare", base, candidate, "--format", "json", "--out", "cmp",
        ];
        run(folder.path(), args)
    };
    let worse = compare("sharp", "blurred").json(6);
    let score = &worse["scores"][0];
    assert_eq!(
        (&score["verdict"], &score["samples"]),
        (&"regressed".into(), &40.into())
    );
    assert!(score["change"].as_f64().unwrap() < -20.0, "{score}");
    let changed = score["changed"].as_array().unwrap();
    assert!(
        !changed.is_empty()
            && changed
                .iter()
                .all(|c| c["base_points"] != c["candidate_points"])
    );
    let better = compare("blurred", "sharp").json(0);
    assert_eq!(better["scores"][0]["verdict"], "improved");
    let same = compare("sharp", "sharp").json(0);
    let score = &same["scores"][0];
    assert_eq!(
        (&score["verdict"], &score["change"]),
        (&"pass".into(), &0.0.into())
    );
    assert_eq!(score["changed"].as_array().unwrap().len(), 0);
    let records = records(&folder.path().join("sharp"));
    let sample = records.iter().find(|r| r["kind"] == "sample").unwrap();
    assert_eq!(sample["images"].as_str().unwrap().len(), 32, "{sample}");
}

#[test]
fn two_sittings_give_no_verdict_on_time_without_a_history() {
    let place = place();
    for out in ["one", "two"] {
        run(place.path(), ["run", "x.yaml", "--out", out]).ok();
    }
    let found = run(place.path(), ["compare", "one", "two", "--format", "json"]).json(10);
    assert_eq!(found["design"], "runs");
    assert_eq!(figure(&found, "encode")["verdict"], "inconclusive");
    assert!(
        found["cases"][0]["flags"].to_string().contains("history"),
        "{found}"
    );
}

#[test]
fn what_cannot_be_compared_says_why() {
    run_anywhere(["compare", "no-run", "no-run"]).fails(7, &["no-run"]);
    run_anywhere(["compare", "a", "b", "--looks", "9,3"]).fails(2, &["--looks"]);
    run_anywhere(["compare", "a", "b", "--export", "pdf"]).fails(2, &["pdf"]);
    run_anywhere(["compare", "a", "b", "--live", "--slow", "tokenize=3"]).fails(2, &["encode=5"]);
    let place = place();
    live(place.path(), "x.yaml", "x.yaml", &["--looks", "4"]).fails(2, &["4 pairs", "9 pairs"]);
    let folder = tempfile::tempdir().unwrap();
    live(
        folder.path(),
        "no-such-model-here",
        "fastvithd",
        &["--looks", "1"],
    )
    .fails(3, &["no-such-model-here"]);
}

#[test]
fn calibration_counts_gates_and_goes_on_where_it_stopped() {
    let place = place();
    let calibrate = |gates: &str| {
        let args = [
            "calibrate",
            "x.yaml",
            "--gates",
            gates,
            "--slow",
            "encode=4000",
            "--looks",
            "9",
            "--rounds",
            "2",
            "--out",
            "cal",
            "--format",
            "json",
        ];
        run(place.path(), args).json(0)
    };
    let one = calibrate("1");
    let lines = || {
        fs::read_to_string(place.path().join("cal/gates.jsonl"))
            .unwrap()
            .lines()
            .count()
    };
    assert_eq!(lines(), 2);
    assert_eq!(one[0]["arm"], "null");
    assert_eq!((&one[1]["gates"], &one[1]["count"]), (&1.into(), &1.into()));
    // Those that are done are not done again.
    assert_eq!(calibrate("1"), one);
    assert_eq!(lines(), 2);
    let raw = place.path().join("cal/launches-0.jsonl");
    assert!(arg(&raw).len() > 1 && raw.is_file());
}
