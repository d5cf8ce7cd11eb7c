//! `vlmbench history` and `vlmbench report --export`, on run folders of the published format.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::shell::{Done, arg, run, vlmbench};

const CASE: &str = "latency/fastvithd-qwen2/candle-cpu/f32/256px";

/// Writes the run of format version 1 as of another day: times multiplied, on a machine with so many
/// cores. Its latency case has seven figures.
fn run_folder(below: &Path, name: &str, day: usize, times: f64, cores: u64) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../reports/tests/data/run-v1");
    let read = |file: &str| std::fs::read_to_string(source.join(file)).unwrap();
    let folder = below.join(name);
    std::fs::create_dir_all(&folder).unwrap();
    let mut manifest: Value = serde_json::from_str(&read("manifest.json")).unwrap();
    manifest["started_at"] = format!("2026-10-{day:02}T12:00:00Z").into();
    manifest["machine"]["cores"] = cores.into();
    std::fs::write(folder.join("manifest.json"), manifest.to_string()).unwrap();
    let records = read("records.jsonl");
    let lines = records.lines().map(|line| {
        let mut record: Value = serde_json::from_str(line).unwrap();
        if record["kind"] == "latency" {
            for stage in ["encode_ns", "prefill_ns"] {
                let ns = record["stages"][stage].as_f64().unwrap();
                record["stages"][stage] = ((ns * times) as u64).into();
            }
        }
        format!("{record}\n")
    });
    std::fs::write(folder.join("records.jsonl"), lines.collect::<String>()).unwrap();
    folder
}

fn add(folder: &Path, run_dir: &Path, commit: &str) -> Done {
    run(folder, ["history", "add", arg(run_dir), "--commit", commit])
}

/// A history of one run a day, each of other times.
fn history(folder: &Path, times: &[(f64, u64)]) {
    for (index, (times, cores)) in times.iter().enumerate() {
        let run_dir = run_folder(folder, &format!("run{index}"), index + 1, *times, *cores);
        add(folder, &run_dir, &format!("commit{index}")).ok();
    }
}

/// Times around `level` that differ by up to 2 %.
fn around(level: f64, count: usize) -> Vec<(f64, u64)> {
    let noise = |n: usize| level * (1.0 + 0.02 * ((n * 7919 % 97) as f64 / 97.0));
    (0..count).map(|n| (noise(n), 2)).collect()
}

fn lines(folder: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(folder.join(".vlmbench/history/history.jsonl")).unwrap();
    assert!(text.ends_with('\n'));
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn lines_are_added_and_never_changed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(".vlmbench/history/history.jsonl");
    let first = run_folder(folder.path(), "first", 1, 1.0, 2);
    let text = add(folder.path(), &first, "0123456789abcdef").ok();
    assert!(
        text.contains("added 7 figures at commit 0123456789ab"),
        "{text}"
    );
    let before = std::fs::read(&file).unwrap();
    let second = run_folder(folder.path(), "second", 2, 1.5, 2);
    add(folder.path(), &second, "fedc").ok();
    let after = std::fs::read(&file).unwrap();
    assert!(after.len() > before.len() && after.starts_with(&before));
    let all = lines(folder.path());
    assert_eq!(all.len(), 14);
    let encode = all.iter().find(|line| line["figure"] == "encode").unwrap();
    for (key, value) in [
        ("format", Value::from(1)),
        ("time", "2026-10-01T12:00:00Z".into()),
        ("commit", "0123456789abcdef".into()),
        ("case", CASE.into()),
        ("value_ms", 205.0.into()),
        ("launches", 1.into()),
        ("repetitions", 3.into()),
        ("interval", Value::Null),
        ("backend", "candle".into()),
        ("cpu", "Example CPU".into()),
        ("experiment", "sha256:example".into()),
        ("tool", "0.1.0 (0123abc)".into()),
    ] {
        assert_eq!(encode[key], value, "{key}");
    }
    assert_eq!(encode["used"]["dtype"], "f32");
    assert_eq!(encode["machine"].as_str().unwrap().len(), 16);
    assert!(encode["run"].as_str().unwrap().starts_with("sha256:"));
}

#[test]
fn a_run_is_added_once() {
    let folder = tempfile::tempdir().unwrap();
    let first = run_folder(folder.path(), "first", 1, 1.0, 2);
    add(folder.path(), &first, "aaaa").ok();
    let before = lines(folder.path());
    // A copy of the folder is the same run, whatever commit is said of it.
    let copy = run_folder(folder.path(), "copy", 1, 1.0, 2);
    add(folder.path(), &copy, "bbbb").fails(7, &["copy is in", "commit aaaa", "added once"]);
    assert_eq!(lines(folder.path()), before);
}

#[test]
fn the_commit_is_of_the_flag_the_ci_or_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let mut day = 0;
    let mut commit = |variables: &[(&str, &str)], flags: &[&str]| {
        day += 1;
        let run_dir = run_folder(folder.path(), &format!("run{day}"), day, 1.0, 2);
        let args = ["history", "add", arg(&run_dir), "--format", "json"];
        let mut command = vlmbench(folder.path(), args);
        // Not even a checkout around the folder for temporary files counts.
        command
            .args(flags)
            .env("GIT_CEILING_DIRECTORIES", "/")
            .env("GIT_DIR", "nowhere");
        command.env_remove("GITHUB_SHA").env_remove("CI_COMMIT_SHA");
        command.envs(variables.iter().copied());
        Done::from(command.output().unwrap()).json(0)["commit"].clone()
    };
    let ci = [("GITHUB_SHA", "hub"), ("CI_COMMIT_SHA", "lab")];
    assert_eq!(commit(&ci, &["--commit", "flag"]), "flag");
    assert_eq!(commit(&ci, &[]), "hub");
    assert_eq!(commit(&[("GITHUB_SHA", ""), ci[1]], &[]), "lab");
    assert_eq!(commit(&[], &[]), Value::Null);
}

#[test]
fn a_slowdown_is_found_between_its_commits_and_is_code_6() {
    let folder = tempfile::tempdir().unwrap();
    let mut times = around(1.0, 11);
    times.extend(around(1.2, 11));
    history(folder.path(), &times);
    let found = run(folder.path(), ["history", "check", "--format", "json"]).json(6);
    assert_eq!(found["slower"], true);
    let changes = found["changes"].as_array().unwrap();
    let encode = changes
        .iter()
        .find(|change| change["figure"] == "encode")
        .unwrap();
    assert_eq!(encode["last_before"], "commit10");
    assert_eq!(encode["first_after"], "commit11");
    assert_eq!(encode["runs_after"], 11);
    assert!(
        (encode["change"].as_f64().unwrap() - 0.2).abs() < 0.02,
        "{encode}"
    );
    assert!(encode["p"].as_f64().unwrap() <= 0.001);
    // What did not get slower has no change.
    assert!(
        changes
            .iter()
            .all(|change| change["figure"] != "preprocess")
    );
    let done = run(folder.path(), ["history", "check"]);
    assert_eq!(done.code, 6);
    assert!(
        done.stdout.contains(&format!("! {CASE} encode: +")),
        "{}",
        done.stdout
    );
    assert!(
        done.stdout
            .contains("between commit10 and commit11, 11 runs since")
    );
    // For long enough, and it is how fast the code is.
    let text = run(folder.path(), ["history", "check", "--recent", "10"]).ok();
    assert!(text.contains("no figure of 7 is slower now"), "{text}");
}

#[test]
fn a_slower_machine_is_no_slowdown() {
    let folder = tempfile::tempdir().unwrap();
    let mut times = around(1.0, 11);
    times.extend(around(1.5, 11).iter().map(|(times, _)| (*times, 4)));
    history(folder.path(), &times);
    let found = run(folder.path(), ["history", "check", "--format", "json"]).json(0);
    assert_eq!(found["changes"].as_array().unwrap().len(), 0, "{found}");
    let shown = run(folder.path(), ["history", "show", "--format", "json"]).json(0);
    let series = shown["series"].as_array().unwrap();
    assert_eq!(series.len(), 14);
    assert_eq!(series.iter().filter(|one| one["newest"] == true).count(), 7);
}

#[test]
fn a_history_is_shown_as_table_and_picture() {
    let folder = tempfile::tempdir().unwrap();
    let mut times = around(1.0, 11);
    times.extend(around(0.8, 11));
    history(folder.path(), &times);
    let text = run(folder.path(), ["history", "show", "--case", "latency/*"]).ok();
    assert!(text.contains("between commit10 and commit11"), "{text}");
    assert!(text.contains("ttft.paper"), "{text}");
    let stem = ".vlmbench/history/history-latency-fastvithd-qwen2-candle-cpu-f32-256px";
    assert!(text.contains(&format!("picture  {stem}.png")), "{text}");
    let svg = std::fs::read_to_string(folder.path().join(format!("{stem}.svg"))).unwrap();
    assert!(
        svg.contains("commit0") && svg.contains("encode, "),
        "labels"
    );
    let png = std::fs::read(folder.path().join(format!("{stem}.png"))).unwrap();
    assert!(png.starts_with(b"\x89PNG"));
    // Faster is a change, and no alarm.
    run(folder.path(), ["history", "check"]).ok();
    run(folder.path(), ["history", "show", "--case", "quality/*"])
        .fails(4, &["quality/*", "no case"]);
}

#[test]
fn what_is_no_history_is_said_so() {
    let folder = tempfile::tempdir().unwrap();
    for command in ["show", "check"] {
        run(folder.path(), ["history", command]).fails(7, &["history.jsonl", "no history yet"]);
    }
    run(folder.path(), ["history", "add", "nowhere"]).fails(7, &["nowhere"]);
    let first = run_folder(folder.path(), "first", 1, 1.0, 2);
    add(folder.path(), &first, "aaaa").ok();
    let file = folder.path().join(".vlmbench/history/history.jsonl");
    let mut text = std::fs::read_to_string(&file).unwrap();
    text.push_str("{\"format\":1,\"run\":");
    std::fs::write(&file, &text).unwrap();
    run(folder.path(), ["history", "check"]).fails(7, &["history.jsonl:8", "not a line"]);
    // A damaged history is not written to either.
    let second = run_folder(folder.path(), "second", 2, 1.0, 2);
    add(folder.path(), &second, "bbbb").fails(7, &["history.jsonl:8"]);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
}

#[test]
fn a_run_without_latencies_has_nothing_to_add() {
    let folder = tempfile::tempdir().unwrap();
    let empty = run_folder(folder.path(), "empty", 1, 1.0, 2);
    std::fs::write(empty.join("records.jsonl"), "").unwrap();
    add(folder.path(), &empty, "aaaa").fails(4, &["empty", "no latency case"]);
    assert!(!folder.path().join(".vlmbench").exists());
}

#[test]
fn a_report_exports_for_other_tools() {
    let folder = tempfile::tempdir().unwrap();
    let run_dir = run_folder(folder.path(), "run", 1, 1.0, 2);
    let export = |formats: &[&str]| {
        let mut args = vec!["report", arg(&run_dir)];
        formats
            .iter()
            .for_each(|format| args.extend(["--export", format]));
        run(folder.path(), args)
    };
    export(&[
        "bencher",
        "action-benchmark-latency=out/lat.json",
        "lm-eval",
    ])
    .ok();
    let read = |path: PathBuf| -> Value {
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    };
    let bencher = read(run_dir.join("bencher.json"));
    assert_eq!(bencher[CASE]["encode-ms"]["value"], 205.0);
    let latencies = read(folder.path().join("out/lat.json"));
    assert_eq!(latencies.as_array().unwrap().len(), 7);
    assert_eq!(latencies[1]["name"], format!("{CASE}: encode"));
    // Its quality case failed half way: no score of it leaves the run.
    assert!(!run_dir.join("lm-eval").exists());
    assert!(bencher.as_object().unwrap().len() == 1, "{bencher}");
    export(&["junit"]).fails(2, &["unknown format `junit`", "bencher", "lm-eval"]);
}
