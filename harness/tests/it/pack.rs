//! A paper's tables from the shell: a pack of one's own, its experiment, and what a report says.

use std::fs;
use std::path::Path;

use crate::shell::run;

/// Configurations with a paper that has one table of two encoders.
fn configure(folder: &Path) {
    let files = [
        (
            "published/mine.yaml",
            "id: mine\ntitle: A paper\nurl: https://example.org\nseries:\n\
             - id: table-1\n  title: Two encoders\n  setup: none\n  device: Abacus\n  points:\n\
             \x20 - {encoder: Old, resolution: 128, encoder_latency_ms: 50, source: {table: Table 1, method: read}}\n\
             \x20 - {encoder: New, resolution: 128, encoder_latency_ms: 5, source: {table: Table 1, method: read}}\n",
        ),
        (
            "packs/mine.yaml",
            "id: mine\ntitle: A paper\nurl: https://example.org\npublished: mine\ntolerance: 1.25\ntables:\n\
             - name: Table 1\n  about: two encoders\n  experiment: mine/table-1\n  figures: [encode]\n  rows:\n\
             \x20 - {series: table-1, encoder: Old, reference: true, here: {model: small-vit}}\n\
             \x20 - {series: table-1, encoder: New, here: {model: small-fastvithd}}\n",
        ),
        (
            "experiments/mine/table-1.yaml",
            "about: two encoders\nmodels:\n\
             - {model: small-vit, resolutions: [128]}\n- {model: small-fastvithd, resolutions: [128]}\n\
             latency: {}\n",
        ),
    ];
    for (path, text) in files {
        let path = folder.join("configs").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

#[test]
fn a_pack_of_ones_own_is_listed_measured_and_held_to_its_run() {
    let dir = tempfile::tempdir().unwrap();
    configure(dir.path());
    let listed = run(dir.path(), ["list", "packs", "--format", "json"]).json(0);
    let names: Vec<&str> = listed
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|e| e["name"].as_str())
        .collect();
    assert_eq!(names, ["fastvlm", "mine"]);
    run(
        dir.path(),
        ["run", "mine/table-1", "--quick", "--threads", "1"],
    )
    .ok();
    // The run folder is named as the experiment is.
    let folder = "runs/mine/table-1";
    let found = run(
        dir.path(),
        ["report", folder, "--pack", "mine", "--format", "json"],
    )
    .json(0);
    let rows = found["findings"]["tables"][0]["blocks"][0]["rows"]
        .as_array()
        .unwrap();
    assert_eq!(rows.len(), 2, "{found}");
    assert_eq!(rows[0]["verdict"]["verdict"], "reference");
    let ratio = rows[0]["ours_ms"].as_f64().unwrap() / rows[1]["ours_ms"].as_f64().unwrap();
    assert!((rows[1]["ours_ratio"].as_f64().unwrap() / ratio - 1.0).abs() < 1e-9);
    assert_eq!(rows[1]["theirs_ratio"], 10.0);
    let text = run(dir.path(), ["report", folder, "--pack", "mine"]).ok();
    assert!(
        text.contains("candle on cpu, f32, 1 thread, run 1)"),
        "{text}"
    );
    for file in ["report.md", "pack-mine.md", "pack-mine.csv"] {
        assert!(dir.path().join(folder).join(file).is_file(), "{file}");
    }
}

#[test]
fn a_pack_that_is_not_there_is_code_3() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), ["report", "nowhere", "--pack", "fastvln"])
        .fails(3, &["unknown pack `fastvln`", "did you mean `fastvlm`?"]);
}
