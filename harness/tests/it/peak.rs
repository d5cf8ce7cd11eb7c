//! `peak`: measured, printed, and recorded in runs of this machine only. No test looks at how fast anything is.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::shell::{arg, fixture, run, run_anywhere};

/// A finished run of a tiny model on one thread, quick and so without a peak.
fn quick_run() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let model = fixture("tiny-fastvlm");
    let experiment = format!(
        "about: quick\nmodels: [{{model: {}}}]\nthreads: 1\nlatency: {{prompt_tokens: 8, decode_tokens: 2}}\n",
        arg(&model)
    );
    fs::write(folder.path().join("x.yaml"), experiment).unwrap();
    run(
        folder.path(),
        [
            "run", "x.yaml", "--out", "out", "--quick", "--format", "json",
        ],
    )
    .ok();
    folder
}

fn peaks(run_dir: &Path) -> Vec<Value> {
    let text = fs::read_to_string(run_dir.join("records.jsonl")).unwrap();
    let records = text.lines().map(|line| serde_json::from_str(line).unwrap());
    records
        .filter(|record: &Value| record["kind"] == "peak")
        .collect()
}

/// Changes the machine that a run says it was measured on.
fn move_to(run_dir: &Path, cpu: &str) {
    let path = run_dir.join("manifest.json");
    let mut manifest: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    manifest["machine"]["cpu_model"] = cpu.into();
    fs::write(&path, manifest.to_string()).unwrap();
}

#[test]
fn a_peak_is_recorded_in_a_run_on_as_many_threads_as_it_had() {
    let folder = quick_run();
    let out = folder.path().join("out");
    assert_eq!(peaks(&out).len(), 0, "a quick run does not measure it");
    let found = run(folder.path(), ["peak", "out", "--format", "json"]).json(0);
    assert_eq!(found["peaks"].as_array().unwrap().len(), 1);
    let [recorded] = &peaks(&out)[..] else {
        panic!("{:?}", peaks(&out))
    };
    assert_eq!(recorded["threads"], 1);
    for figure in [
        "f32_flops",
        "f32_product_flops",
        "bf16_product_flops",
        "read_bytes",
        "copy_bytes",
    ] {
        assert_eq!(
            recorded[figure], found["peaks"][0][figure]["best"],
            "{figure}"
        );
        assert!(recorded[figure].as_f64().unwrap() > 0.0, "{figure}");
    }
    // The run is still whole: it is resumed, and has nothing to do.
    run(folder.path(), ["run", "x.yaml", "--out", "out", "--quick"]).ok();
    assert_eq!(peaks(&out).len(), 1);
}

#[test]
fn a_run_of_another_machine_gets_no_peak_of_this_one() {
    let folder = quick_run();
    let out = folder.path().join("out");
    move_to(&out, "Another CPU");
    let before = fs::read(out.join("records.jsonl")).unwrap();
    run(folder.path(), ["peak", "out"]).fails(
        7,
        &[
            "out",
            "another machine",
            "Another CPU",
            "give the command there",
        ],
    );
    assert!(fs::read(out.join("records.jsonl")).unwrap() == before);
    // Side by side with a run of this machine it is a column of its own, without shares, and told so.
    fs::create_dir(folder.path().join("here")).unwrap();
    for file in ["manifest.json", "records.jsonl"] {
        fs::copy(out.join(file), folder.path().join("here").join(file)).unwrap();
    }
    move_to(&folder.path().join("here"), "A third CPU");
    run(folder.path(), ["report", "out", "here", "--out", "both"]).ok();
    let text = fs::read_to_string(folder.path().join("both/report.md")).unwrap();
    for part in [
        "## Machines side by side",
        "Another CPU",
        "A third CPU",
        "`vlmbench peak out`",
    ] {
        assert!(text.contains(part), "no {part} in {text}");
    }
    assert!(folder.path().join("both/hardware.png").exists());
}

#[test]
fn without_runs_the_peak_is_printed() {
    let text = run_anywhere(["peak", "--threads", "1"]).ok();
    assert!(
        text.starts_with("measured peak of 1 thread (best"),
        "{text}"
    );
    assert!(text.contains("f32 matrix product, own"), "{text}");
    run_anywhere(["peak", "--threads", "0"]).fails(2, &["--threads"]);
    run_anywhere(["peak", "nowhere"]).fails(7, &["nowhere", "manifest.json"]);
}
