//! The shipped models: exact answers on a fixed slice, on every engine that is here.

use std::fs;

use serde_json::Value;

use crate::onnx::runtime;
use crate::shell::{run, run_anywhere};

const MODELS: [&str; 2] = ["small-vit", "small-fastvithd"];
const SUITES: [&str; 3] = ["textvqa", "docvqa", "seedbench"];

/// Answers of every model to the first samples of every suite at 384 px, a line each.
fn answers(backend: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let models = MODELS.map(|m| format!("{{model: {m}, resolutions: [384]}}"));
    let suites = SUITES
        .map(|s| format!("{{suite: {s}, profile: lmms@0.2.2, data: 'synth:12', split: test}}"));
    let experiment = format!(
        "{{about: x, backends: [{backend}], models: [{}], quality: {{suites: [{}], max_new_tokens: 24}}}}",
        models.join(", "),
        suites.join(", ")
    );
    fs::write(folder.path().join("zoo.yaml"), experiment).unwrap();
    run(folder.path(), ["run", "zoo.yaml", "--out", "out"]).ok();
    let records = fs::read_to_string(folder.path().join("out/records.jsonl")).unwrap();
    let mut lines = Vec::new();
    for record in records.lines() {
        let record: Value = serde_json::from_str(record).unwrap();
        if record["kind"] == "sample" {
            // Without the engine, of which the answers do not depend.
            let case: Vec<&str> = record["case"].as_str().unwrap().split('/').collect();
            let (suite, model) = (case[0].split('.').next().unwrap(), case[1]);
            let (id, outcome) = (record["sample"].as_str().unwrap(), &record["outcome"]);
            let (score, response) = (&outcome["score"], &outcome["response"]);
            let (points, of) = (&score["numerator"], &score["denominator"]);
            lines.push(format!("{model} {suite} {id}: {response} {points}/{of}"));
        }
    }
    assert_eq!(lines.len(), MODELS.len() * SUITES.len() * 12);
    lines.join("\n")
}

#[test]
fn shipped_models_answer_as_they_did_when_they_were_shipped() {
    insta::assert_snapshot!("answers", answers("candle"));
    if runtime() {
        insta::assert_snapshot!("answers", answers("onnxruntime"));
    }
}

#[test]
fn the_quickstart_is_planned_over_models_resolutions_and_suites() {
    let found = run_anywhere(["plan", "quickstart", "--no-estimate", "--format", "json"]).json(0);
    let cases = found["cases"].as_array().unwrap();
    let count = |workload: &str| cases.iter().filter(|c| c["workload"] == workload).count();
    assert_eq!(count("end_to_end_latency"), MODELS.len() * 4);
    // Each suite at each resolution, and once without the picture.
    assert_eq!(count("quality"), MODELS.len() * (4 + 1) * SUITES.len());
    assert!(cases.iter().all(|c| c["state"] == "ready"), "{found}");
}
