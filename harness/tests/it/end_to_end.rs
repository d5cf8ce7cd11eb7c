//! The main job: a FastVLM checkpoint and the parquet files of four suites, from an experiment file
//! to records, scores and pictures; resumed after every kind of interruption.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;

use crate::shell::{Done, arg, fixture, run, vlmbench};

/// Suite, profile and number of samples.
const SUITES: [(&str, &str, usize); 5] = [
    ("textvqa", "llava-official@c121f04", 10),
    ("textvqa", "lmms@75571cf", 10),
    ("docvqa", "lmms@0.2.2", 9),
    ("seedbench", "lmms@75571cf", 10),
    ("mmmu", "lmms@0.2.2", 9),
];
/// Of them, the one whose image is cut short.
const CORRUPT: &str = "49157";

/// An experiment on the fixtures; `models` in YAML.
fn experiment(models: &str, max_new_tokens: usize) -> String {
    let suites: String = SUITES
        .iter()
        .map(|(suite, profile, _)| {
            let data = fixture(&format!("suites/{suite}"));
            format!(
                "    - {{suite: {suite}, profile: {profile}, data: {}}}\n",
                arg(&data)
            )
        })
        .collect();
    format!(
        "about: every suite on a tiny checkpoint
models: [{models}]
threads: 1
latency:
  prompt_tokens: 8
  decode_tokens: 3
  warm_up: 1
  min_iterations: 2
  max_iterations: 3
  budget_seconds: 0
  image: {{width: 80, height: 60}}
quality:
  max_new_tokens: {max_new_tokens}
  context: 512
  decode_ahead: 3
  suites:
{suites}"
    )
}

fn tiny() -> String {
    format!("{{model: {}}}", arg(&fixture("tiny-fastvlm")))
}

/// A folder with an experiment, to run it in.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new(experiment: &str) -> Place {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("tiny.yaml"), experiment).unwrap();
        Place { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn run(&self, out: &str, more: &[&str]) -> Done {
        let args = ["run", "tiny.yaml", "--out", out];
        run(self.folder.path(), args.iter().chain(more))
    }

    fn bytes(&self, out: &str) -> Vec<u8> {
        fs::read(self.path(out).join("records.jsonl")).unwrap()
    }

    fn records(&self, out: &str) -> Vec<Value> {
        let text = String::from_utf8(self.bytes(out)).unwrap();
        assert!(text.ends_with('\n'), "a torn last line");
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    fn report(&self, out: &str) -> String {
        fs::read_to_string(self.path(out).join("report.md")).unwrap()
    }

    /// The table of scores, which has no times in it.
    fn scores(&self, out: &str) -> String {
        let report = self.report(out);
        let (_, table) = report
            .split_once("## Accuracy, measured")
            .expect("an accuracy table");
        table.split("\n## ").next().unwrap().to_owned()
    }
}

fn of_kind<'a>(records: &'a [Value], kind: &str) -> Vec<&'a Value> {
    records.iter().filter(|r| r["kind"] == kind).collect()
}

/// What became of each sample, by case and id; no times. Fails on a sample recorded twice.
fn outcomes(records: &[Value]) -> BTreeMap<(String, String), Value> {
    let mut outcomes = BTreeMap::new();
    for record in of_kind(records, "sample") {
        let key = |name: &str| record[name].as_str().unwrap().to_owned();
        let mut outcome = record["outcome"].clone();
        if let Some(fields) = outcome.as_object_mut() {
            fields.remove("stages");
        }
        let twice = outcomes.insert((key("case"), key("sample")), outcome);
        assert!(twice.is_none(), "recorded twice: {record}");
    }
    outcomes
}

fn case(suite: &str, profile: &str) -> String {
    format!("{suite}.{profile}/tiny-fastvlm/candle-cpu/f32/64px")
}

#[test]
fn an_experiment_becomes_records_scores_and_pictures() {
    let place = Place::new(&experiment(&tiny(), 4));
    // One sample fails, and the code says so.
    let done = place.run("out", &[]);
    assert_eq!(done.code, 5, "{}", done.stderr);

    let records = place.records("out");
    let outcomes = outcomes(&records);
    for (suite, profile, n) in SUITES {
        let case = case(suite, profile);
        let own: Vec<_> = outcomes.iter().filter(|((of, _), _)| *of == case).collect();
        assert_eq!(own.len(), n, "{case}");
        for ((_, sample), outcome) in own {
            let corrupt = suite == "docvqa" && sample == CORRUPT;
            let expected = if corrupt { "failed" } else { "ok" };
            assert_eq!(outcome["status"], expected, "{case} {sample}: {outcome}");
            if !corrupt {
                assert!(
                    outcome["tokens"]["output"].as_u64().unwrap() <= 4,
                    "{outcome}"
                );
                let images = if sample == "validation_Design_8" {
                    2
                } else {
                    1
                };
                assert_eq!(outcome["tokens"]["visual"], images, "{case} {sample}");
            }
        }
    }
    assert_eq!(outcomes.len(), 48);
    let corrupt = &outcomes[&(case("docvqa", "lmms@0.2.2"), CORRUPT.to_owned())];
    assert_eq!(corrupt["stage"], "decode_image");
    // OCR tokens make the prompt of LLaVA's profile longer than lmms-eval's.
    let prompt = |profile: &str| {
        let key = (case("textvqa", profile), "34602".to_owned());
        outcomes[&key]["tokens"]["prompt"].as_u64().unwrap()
    };
    assert!(prompt("llava-official@c121f04") > prompt("lmms@75571cf"));

    let latency = of_kind(&records, "latency");
    let timed: Vec<_> = latency.iter().filter(|r| r["warm_up"] == false).collect();
    assert!((2..=3).contains(&timed.len()), "{timed:?}");
    assert_eq!(latency.len(), timed.len() + 1);
    for record in timed {
        for stage in ["preprocess_ns", "encode_ns", "project_ns", "prefill_ns"] {
            assert!(record["stages"][stage].as_u64().unwrap() > 0, "{record}");
        }
        assert_eq!(record["stages"]["decode_ns"].as_array().unwrap().len(), 2);
    }
    let ends = of_kind(&records, "case_end");
    assert_eq!(ends.len(), 1 + SUITES.len());
    assert!(
        ends.iter().all(|end| end["outcome"]["status"] == "ok"),
        "{ends:?}"
    );

    // The machine's peak is measured for the latency case, once, and not for the suites.
    let kinds: Vec<&str> = records
        .iter()
        .map(|r| r["kind"].as_str().unwrap())
        .collect();
    let peaks = of_kind(&records, "peak");
    assert_eq!(peaks.len(), 1);
    assert_eq!(peaks[0]["threads"], 1);
    let at = |kind: &str| kinds.iter().position(|found| *found == kind);
    assert!(
        at("launch") < at("peak") && at("peak") < at("sample"),
        "{kinds:?}"
    );

    let manifest = fs::read_to_string(place.path("out/manifest.json")).unwrap();
    let manifest: Value = serde_json::from_str(&manifest).unwrap();
    assert_eq!(manifest["plan"].as_array().unwrap().len(), 6);
    assert_eq!(manifest["experiment"]["quality"]["max_new_tokens"], 4);
    let digests = manifest["digests"].as_object().unwrap();
    let digested = |end: &str| digests.keys().filter(|file| file.ends_with(end)).count();
    assert_eq!(digested("model.safetensors"), 1);
    // Two shards and three files; InfographicVQA and MMMU's dev split are not read.
    assert_eq!(digested(".parquet"), 5);

    let scores = place.scores("out");
    for (suite, profile, n) in SUITES {
        let line = scores
            .lines()
            .find(|line| line.contains(&case(suite, profile)));
        let line = line.unwrap_or_else(|| panic!("no {suite} {profile} in:\n{scores}"));
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [.., count, failed, _, _, ""] = cells[..] else {
            panic!("{line}")
        };
        assert_eq!(count, n.to_string(), "{line}");
        assert_eq!(failed, if suite == "docvqa" { "1" } else { "0" }, "{line}");
    }
    assert!(
        done.stdout.contains("pareto.png") && done.stdout.contains("report.md"),
        "{}",
        done.stdout
    );
    let png = fs::read(place.path("out/pareto.png")).unwrap();
    assert_eq!(&png[..8], b"\x89PNG\r\n\x1a\n");
    let svg = fs::read_to_string(place.path("out/pareto.svg")).unwrap();
    assert!(svg.contains("<svg"), "{}", &svg[..80.min(svg.len())]);

    // Once finished, the same command only reports.
    let before = place.bytes("out");
    let again = place.run("out", &[]);
    assert_eq!(again.code, 5, "{}", again.stderr);
    assert!(place.bytes("out") == before, "a finished run was touched");
    // So does `report`, whose success is its own.
    let report = place.report("out");
    fs::remove_file(place.path("out/report.md")).unwrap();
    run(&place.path(""), ["report", "out"]).ok();
    assert_eq!(place.report("out"), report);
}

#[test]
fn a_run_cut_anywhere_ends_as_if_it_had_not_been() {
    let place = Place::new(&experiment(&tiny(), 4));
    assert_eq!(place.run("whole", &[]).code, 5);
    let whole = place.bytes("whole");
    let expected = outcomes(&place.records("whole"));
    let manifest = fs::read(place.path("whole/manifest.json")).unwrap();
    let line_ends: Vec<usize> = (0..whole.len()).filter(|at| whole[*at] == b'\n').collect();
    // Inside the first line, inside lines of every case, just before and after a line's end, and at
    // the last byte.
    let inside = |line: usize| (line_ends[line] + line_ends[line + 1]) / 2;
    let last = line_ends.len() - 1;
    let cuts = [
        5,
        inside(1),
        inside(3),
        line_ends[8],
        line_ends[8] + 1,
        inside(20),
        inside(35),
        inside(last - 1),
        whole.len() - 1,
    ];
    for cut in cuts {
        let out = format!("cut-{cut}");
        fs::create_dir(place.path(&out)).unwrap();
        fs::write(place.path(&out).join("manifest.json"), &manifest).unwrap();
        fs::write(place.path(&out).join("records.jsonl"), &whole[..cut]).unwrap();
        let done = place.run(&out, &[]);
        assert_eq!(done.code, 5, "cut at {cut}: {}", done.stderr);
        // Whole lines stay as they were.
        let kept = whole[..cut]
            .iter()
            .rposition(|b| *b == b'\n')
            .map_or(0, |at| at + 1);
        assert!(
            place.bytes(&out).starts_with(&whole[..kept]),
            "cut at {cut}"
        );
        let records = place.records(&out);
        assert!(outcomes(&records) == expected, "cut at {cut}");
        assert_eq!(place.scores(&out), place.scores("whole"), "cut at {cut}");
        for kind in ["case", "case_end"] {
            assert_eq!(of_kind(&records, kind).len(), 6, "{kind}, cut at {cut}");
        }
        // Measured around what was left of the latency case, or kept; never twice.
        assert_eq!(of_kind(&records, "peak").len(), 1, "cut at {cut}");
        let iterations: Vec<&Value> = of_kind(&records, "latency")
            .into_iter()
            .filter(|r| r["warm_up"] == false)
            .map(|r| &r["iteration"])
            .collect();
        assert!(
            iterations.is_sorted_by_key(|i| i.as_u64()),
            "{iterations:?}"
        );
        assert!(
            iterations.windows(2).all(|w| w[0] != w[1]),
            "{iterations:?}, cut at {cut}"
        );
    }
}

#[test]
fn a_killed_run_continues_where_it_stopped() {
    let place = Place::new(&experiment(&tiny(), 96));
    let records = place.path("out/records.jsonl");
    let lines = || fs::read(&records).map_or(0, |b| b.iter().filter(|b| **b == b'\n').count());
    for kill_at in [1, 8, 30] {
        let mut child = vlmbench(&place.path(""), ["run", "tiny.yaml", "--out", "out"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        while lines() < kill_at && child.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        // A run that was faster than this loop is killed after its end; the next line still holds.
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(lines() >= kill_at);
    }
    assert_eq!(place.run("out", &[]).code, 5);
    let after_kills = outcomes(&place.records("out"));
    assert_eq!(after_kills.len(), 48);
    assert_eq!(place.run("undisturbed", &[]).code, 5);
    assert!(outcomes(&place.records("undisturbed")) == after_kills);
    assert_eq!(place.scores("out"), place.scores("undisturbed"));
}

#[test]
fn limit_takes_the_first_samples_of_every_suite() {
    let place = Place::new(&experiment(&tiny(), 2));
    // The corrupt image is none of the first two.
    let done = place.run("out", &["--limit", "2"]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    let outcomes = outcomes(&place.records("out"));
    assert_eq!(outcomes.len(), 2 * SUITES.len());
    for id in ["34602", "34603"] {
        assert!(outcomes.contains_key(&(case("textvqa", "lmms@75571cf"), id.to_owned())));
    }
    // The flag is part of the experiment: without it, this is another run.
    place.run("out", &[]).fails(8, &["out", "other experiment"]);
    assert_eq!(
        self::outcomes(&place.records("out")).len(),
        2 * SUITES.len()
    );
}

#[test]
fn another_experiment_does_not_mix_into_a_run() {
    let place = Place::new(&experiment(&tiny(), 2));
    assert_eq!(place.run("out", &["--limit", "1"]).code, 0);
    let before = place.bytes("out");
    fs::write(place.path("tiny.yaml"), experiment(&tiny(), 3)).unwrap();
    place
        .run("out", &["--limit", "1"])
        .fails(8, &["out", "other experiment"]);
    assert!(place.bytes("out") == before);
    // Nor does a run start among files that are no run.
    fs::create_dir(place.path("mine")).unwrap();
    fs::write(place.path("mine/thesis.tex"), "x").unwrap();
    place.run("mine", &[]).fails(8, &["mine", "thesis.tex"]);
}

#[test]
fn weights_that_changed_under_a_run_are_noticed() {
    let place = Place::new(&experiment("{model: ./weights}", 2));
    fs::create_dir(place.path("weights")).unwrap();
    for entry in fs::read_dir(fixture("tiny-fastvlm")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), place.path("weights").join(entry.file_name())).unwrap();
    }
    assert_eq!(place.run("out", &["--limit", "1"]).code, 0);
    let file = place.path("weights/model.safetensors");
    let mut bytes = fs::read(&file).unwrap();
    let end = bytes.len();
    bytes[end - 2] ^= 1;
    fs::write(&file, bytes).unwrap();
    place
        .run("out", &["--limit", "1"])
        .fails(7, &["model.safetensors", "digest"]);
}

#[test]
fn a_case_that_cannot_run_is_an_outcome_and_the_others_run() {
    let missing = tempfile::tempdir().unwrap().path().join("absent");
    let models = format!("{{model: {}}}, {}", arg(&missing), tiny());
    let place = Place::new(&experiment(&models, 2));
    let done = place.run("out", &["--limit", "1"]);
    assert_eq!(done.code, 5, "{}", done.stderr);
    let records = place.records("out");
    assert_eq!(outcomes(&records).len(), SUITES.len());
    let (failed, ok): (Vec<&Value>, Vec<&Value>) = of_kind(&records, "case_end")
        .into_iter()
        .partition(|end| end["outcome"]["status"] == "failed");
    assert_eq!((failed.len(), ok.len()), (6, 6));
    for end in failed {
        assert!(end["case"].as_str().unwrap().contains("/absent/"), "{end}");
        let error = end["outcome"]["error"].as_str().unwrap();
        assert!(error.contains("no such folder"), "{error}");
    }
    assert!(
        place.report("out").contains("no such folder"),
        "{}",
        place.report("out")
    );
}

#[test]
fn data_that_is_missing_fails_its_suite_only() {
    let text = experiment(&tiny(), 2);
    let seedbench = fixture("suites/seedbench");
    let place = Place::new(&text.replace(arg(&seedbench), "/nonexistent/seedbench"));
    let done = place.run("out", &["--limit", "1"]);
    assert_eq!(done.code, 5, "{}", done.stderr);
    let records = place.records("out");
    assert_eq!(outcomes(&records).len(), SUITES.len() - 1);
    let failed = of_kind(&records, "case_end")
        .into_iter()
        .find(|end| end["outcome"]["status"] == "failed")
        .expect("a failed case");
    assert_eq!(failed["case"], case("seedbench", "lmms@75571cf"));
    assert_eq!(failed["outcome"]["stage"], "data");
}

#[test]
fn a_prompt_that_does_not_fit_is_a_failed_sample() {
    // 52 positions hold lmms-eval's short questions and not LLaVA's with OCR tokens.
    let text = experiment(&tiny(), 2).replace("context: 512", "context: 52");
    let place = Place::new(&text);
    assert_eq!(place.run("out", &[]).code, 5);
    let outcomes = outcomes(&place.records("out"));
    assert_eq!(outcomes.len(), 48);
    let long = &outcomes[&(
        case("textvqa", "llava-official@c121f04"),
        "34602".to_owned(),
    )];
    assert_eq!(long["status"], "failed", "{long}");
    assert!(long["error"].as_str().unwrap().contains("52"), "{long}");
    let short = &outcomes[&(case("textvqa", "lmms@75571cf"), "34602".to_owned())];
    assert_eq!(short["status"], "ok", "{short}");
}

#[test]
fn an_out_that_cannot_be_written_fails_before_anything_is_measured() {
    let place = Place::new(&experiment(&tiny(), 2));
    fs::write(place.path("file"), "x").unwrap();
    let inside = Path::new("file").join("out");
    place.run(arg(&inside), &[]).fails(8, &["file"]);
}

#[test]
fn drawn_suites_are_asked_like_any_others() {
    let quality = "quality:
  max_new_tokens: 2
  context: 512
  suites:
    - {suite: docvqa, data: synth:3@4, split: test}
    - {suite: seedbench, data: synth:3}
";
    let place = Place::new(&format!(
        "about: drawn suites\nmodels: [{}]\nthreads: 1\n{quality}",
        tiny()
    ));
    place.run("out", &[]).ok();
    let records = place.records("out");
    let manifest = fs::read_to_string(place.path("out/manifest.json")).unwrap();
    for (suite, profile, file) in [
        ("docvqa", "lmms@0.2.2:test", "docvqa-test-3-4"),
        ("seedbench", "lmms@0.2.2", "seedbench-test-3-0"),
    ] {
        let id = case(suite, profile);
        let asked = of_kind(&records, "sample");
        let asked = asked.iter().filter(|r| r["case"] == id.as_str());
        assert_eq!(asked.count(), 3, "{id}");
        assert!(manifest.contains(file), "the digest of {file}");
    }
    // Drawn again, the same data: the run goes on and finds nothing to do.
    place.run("out", &[]).ok();
    assert_eq!(place.records("out").len(), records.len());
}

#[test]
fn a_run_can_ask_without_images_and_show_what_it_asked() {
    let place = Place::new(&format!(
        "about: blind\nmodels: [{{model: {}, resolutions: [64, 128]}}]\nthreads: 1
quality:
  max_new_tokens: 3
  context: 512
  blind: true
  gallery: 2
  suites:
    - {{suite: docvqa, data: 'synth:3'}}
    - {{suite: seedbench, data: 'synth:3'}}
",
        arg(&fixture("tiny-fastvlm"))
    ));
    place.run("out", &[]).ok();
    let records = place.records("out");
    let blind: Vec<&Value> = of_kind(&records, "sample")
        .into_iter()
        .filter(|record| record["case"].as_str().unwrap().ends_with("/blind"))
        .collect();
    assert_eq!(
        blind.len(),
        6,
        "three of each suite, once whatever the resolutions"
    );
    for record in blind {
        assert_eq!(record["outcome"]["tokens"]["visual"], 0, "{record}");
    }
    for facts in of_kind(&records, "case") {
        let blind = facts["case"].as_str().unwrap().ends_with("/blind");
        assert_eq!(facts["labels"]["blind"].as_bool().unwrap_or(false), blind);
        assert_eq!(facts["visual_tokens"].is_null(), blind, "{facts}");
    }
    let exhibits = of_kind(&records, "exhibit");
    assert_eq!(exhibits.len(), 4, "two of each suite, recorded once");
    let gallery = fs::read_to_string(place.path("out/gallery.md")).unwrap();
    for exhibit in exhibits {
        let image = exhibit["images"][0].as_str().unwrap();
        let bytes = fs::read(place.path("out").join(image)).unwrap();
        // As it was drawn where that is small, else a copy.
        assert!(bytes.starts_with(b"\x89PNG") || bytes.starts_with(b"\xff\xd8"));
        assert!(bytes.len() <= 48 << 10, "{image}");
        assert!(gallery.contains(image), "{gallery}");
        for line in exhibit["question"].as_str().unwrap().lines() {
            assert!(gallery.contains(line), "{gallery}");
        }
    }
    let rows = |what: &str| gallery.lines().filter(|line| line.contains(what)).count();
    assert_eq!((rows("| 128 px |"), rows("| image withheld |")), (4, 4));
    assert!(place.report("out").contains("(gallery.md)"));
    // Given again, nothing is recorded twice.
    place.run("out", &[]).ok();
    assert_eq!(place.records("out").len(), records.len());
}

/// Names and bytes of the files in a folder.
fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let named = |entry: fs::DirEntry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        (name, fs::read(entry.path()).unwrap())
    };
    entries.map(named).collect()
}

#[test]
fn a_resumed_run_ends_with_the_same_gallery() {
    let place = Place::new(&format!(
        "about: gallery\nmodels: [{{model: {}, resolutions: [64]}}]\nthreads: 1
quality:
  max_new_tokens: 3
  context: 512
  gallery: 3
  suites: [{{suite: seedbench, data: 'synth:12'}}]
",
        arg(&fixture("tiny-fastvlm"))
    ));
    place.run("out", &[]).ok();
    let exhibits = |name: &str| {
        let records = place.records(name);
        let exhibits: Vec<Value> = of_kind(&records, "exhibit").into_iter().cloned().collect();
        exhibits
    };
    let (whole, pictures) = (exhibits("out"), contents(&place.path("out/gallery")));
    assert_eq!((whole.len(), pictures.len()), (3, 3));

    let log = place.path("out/records.jsonl");
    let text = fs::read_to_string(&log).unwrap();
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let first = |kind: &str| {
        let tag = format!("\"kind\":\"{kind}\"");
        let found = lines.iter().position(|line| line.contains(&tag));
        found.unwrap_or_else(|| panic!("no {kind} in {text}"))
    };
    let folder = place.path("out/gallery");
    let resumed = |kept: usize| {
        fs::write(&log, lines[..kept].concat()).unwrap();
        place.run("out", &[]).ok();
        assert_eq!(exhibits("out"), whole);
        assert_eq!(contents(&folder), pictures);
    };
    // Killed between two samples.
    fs::remove_dir_all(&folder).unwrap();
    resumed(first("sample") + 5);
    // Killed after an exhibit, while the picture of another one was being written.
    let kept = whole[0]["images"][0].as_str().unwrap();
    for name in pictures.keys().filter(|name| !kept.ends_with(*name)) {
        let whole = folder.join(name);
        fs::rename(&whole, folder.join(format!("{name}.part"))).unwrap();
    }
    resumed(first("exhibit") + 1);
}
