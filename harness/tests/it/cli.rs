//! Help, listings, plans, single measurements, and what is refused.

use serde_json::Value;

use crate::shell::{arg, checkpoint, fixture, run, run_anywhere};

#[test]
fn help_lists_every_command_and_exit_code() {
    let help = run_anywhere(["--help"]).ok();
    for command in [
        "run",
        "plan",
        "list",
        "doctor",
        "latency",
        "profile",
        "peak",
        "encode",
        "generate",
        "verify",
        "audit",
        "score",
        "synth",
        "report",
        "history",
        "completions",
    ] {
        let listed = help.lines().any(|line| {
            let mut words = line.split_whitespace();
            words.next() == Some(command) && words.next().is_some()
        });
        assert!(listed, "{command} in:\n{help}");
        let own = run_anywhere([command, "--help"]).ok();
        assert!(own.contains(&format!("Usage: vlmbench {command}")), "{own}");
    }
    for (code, meaning) in [
        (0, "all good"),
        (1, "internal fault"),
        (2, "wrong usage"),
        (3, "invalid configuration"),
        (4, "nothing selected"),
        (5, "run finished with failed cases or samples"),
        (6, "compare found a regression, or history check a slowdown"),
        (7, "weights or data missing"),
        (8, "output not writable"),
        (9, "verify or audit found a mismatch"),
    ] {
        assert!(
            help.contains(&format!("\n  {code}  {meaning}")),
            "{code} in:\n{help}"
        );
    }
    assert!(run_anywhere(["--version"]).ok().starts_with("vlmbench 0."));
}

#[test]
fn wrong_usage_is_code_2() {
    for args in [
        &["latency"][..],
        &["frobnicate"],
        &["list", "nothing"],
        &["latency", "fastvithd", "--iterations", "0"],
        &["latency", "fastvithd", "--decode-tokens", "0"],
        &["profile", "fastvithd", "--iterations", "0"],
        &["profile", "fastvithd", "--prompt-tokens", "0"],
        &["profile", "fastvithd", "--threads", "1", "--scaling"],
        &["doctor", "--threads", "1"],
    ] {
        let done = run_anywhere(args);
        assert_eq!(done.code, 2, "{args:?}: {}", done.stderr);
        assert_eq!(done.stdout, "", "{args:?}");
    }
}

#[test]
fn a_misspelt_key_is_named_with_its_place_and_the_nearest_one() {
    let folder = tempfile::tempdir().unwrap();
    for (text, parts) in [
        (
            "about: x\nmodels:\n  - model: fastvithd\n    resolution: [256]\nlatency: {}\n",
            [
                "unknown key `resolution`",
                "bad.yaml:4:5",
                "did you mean `resolutions`?",
            ],
        ),
        (
            "about: x\nmodels: [{model: fastvithd}]\nlatency:\n  prompt_token: 4\n",
            [
                "unknown key `prompt_token`",
                "bad.yaml:4:3",
                "did you mean `prompt_tokens`?",
            ],
        ),
        (
            "about: x\nmodels: [{model: fastvithd}]\nprecisions: [f33]\nlatency: {}\n",
            ["`f33`", "bad.yaml:3", "f32"],
        ),
        (
            "about: x\nmodels: [{model: fastvithd}]\nlatency: {min_iterations: 9, max_iterations: 3}\n",
            [
                "`latency.max_iterations` is 3",
                "bad.yaml",
                "at least min_iterations",
            ],
        ),
    ] {
        std::fs::write(folder.path().join("bad.yaml"), text).unwrap();
        for command in ["plan", "run"] {
            run(folder.path(), [command, "bad.yaml"]).fails(3, &parts);
        }
    }
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "an invalid experiment leaves no run folder");
}

#[test]
fn a_misspelt_name_gets_a_suggestion() {
    run_anywhere(["latency", "fastvithdd"]).fails(
        3,
        &["unknown model `fastvithdd`", "did you mean `fastvithd`?"],
    );
    run_anywhere(["plan", "quickstrat"]).fails(
        3,
        &[
            "unknown experiment `quickstrat`",
            "did you mean `quickstart`?",
        ],
    );
    run_anywhere(["latency", "fastvithd", "--backend", "candel"]).fails(3, &["candel", "candle"]);
    run_anywhere(["latency", "fastvithd", "--precision", "f23"]).fails(3, &["f23"]);
    run_anywhere(["latency", "./no/such/model"]).fails(7, &["./no/such/model", "no such folder"]);
}

#[test]
fn doctor_says_what_it_can_and_cannot_say_of_gpus_and_energy() {
    let found = run_anywhere(["doctor", "--format", "json"]).json(0);
    let gpus = &found["gpus"];
    let known = gpus["found"].as_array().unwrap();
    assert!(known.iter().all(|gpu| gpu["name"].is_string()), "{gpus}");
    // Here or nowhere: a GPU of NVIDIA's with its state, or what is missing.
    let has_state = known.iter().any(|gpu| gpu["now"].is_object());
    assert!(has_state || gpus["missing"].is_string(), "{gpus}");
    let energy = &found["energy"];
    let counters = energy["counters"].as_array().unwrap();
    assert_eq!(
        counters.is_empty(),
        energy["missing"].is_string(),
        "{energy}"
    );

    let text = run_anywhere(["doctor"]).ok();
    assert!(
        text.contains("\ngpus\n") && text.contains("\n  energy "),
        "{text}"
    );
    let told = gpus["missing"].as_str().or(energy["missing"].as_str());
    assert!(told.is_none_or(|why| text.contains(why)), "{text}");
}

#[test]
fn a_device_that_is_not_there_is_refused() {
    let model = fixture("tiny-fastvlm");
    run_anywhere(["latency", arg(&model), "--device", "cuda:0"])
        .fails(3, &["cuda:0", "not available"]);
    run_anywhere(["latency", arg(&model), "--device", "tpu"]).fails(3, &["tpu", "cpu"]);
}

#[test]
fn listings_are_sorted_and_described() {
    for (kind, expected) in [
        (
            "models",
            &[
                "fastvithd",
                "fastvlm-0.5b",
                "llava-1.5-7b",
                "qwen2-0.5b",
                "small-fastvithd",
                "small-vit",
            ][..],
        ),
        ("suites", &["docvqa", "mmmu", "seedbench", "textvqa"]),
        ("backends", &["candle", "onnxruntime"]),
        ("devices", &["cpu"]),
        (
            "experiments",
            &["paper-pareto", "paper/table-3", "quickstart"],
        ),
        ("packs", &["fastvlm"]),
    ] {
        let listed = run_anywhere(["list", kind, "--format", "json"]).json(0);
        let entries = listed.as_array().unwrap();
        let names: Vec<&str> = entries
            .iter()
            .map(|e| e["name"].as_str().unwrap())
            .collect();
        // Devices are listed engine by engine.
        let keys = entries
            .iter()
            .map(|e| (e["backend"].as_str(), e["name"].as_str()));
        assert!(keys.is_sorted(), "{kind}: {names:?}");
        for name in expected {
            assert!(names.contains(name), "{kind}: {names:?}");
        }
        for entry in entries {
            assert!(!entry["about"].as_str().unwrap().is_empty(), "{entry}");
        }
        let text = run_anywhere(["list", kind]).ok();
        for name in names {
            assert!(text.contains(name), "{name} in:\n{text}");
        }
    }
}

#[test]
fn doctor_says_what_the_machine_is() {
    let found = run_anywhere(["doctor", "--format", "json"]).json(0);
    assert!(found["machine"]["cores"].as_u64().unwrap() >= 1, "{found}");
    assert!(found["tool"]["version"].is_string(), "{found}");
    assert!(found.get("peak").is_none(), "only measured if asked for");
    assert!(run_anywhere(["doctor"]).ok().contains("candle"));
}

#[test]
fn the_full_size_networks_are_planned_with_their_costs_and_without_files() {
    let found = run_anywhere(["plan", "paper-pareto", "--no-estimate", "--format", "json"]).json(0);
    let cases = found["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 8);
    for case in cases {
        assert_eq!(case["state"], "ready", "{case}");
        assert_eq!(case["workload"], "end_to_end_latency");
        let stages = case["cost"]["stages"].as_array().unwrap();
        let names: Vec<&str> = stages
            .iter()
            .map(|s| s["stage"].as_str().unwrap())
            .collect();
        assert_eq!(names, ["encode", "project", "prefill", "decode"]);
        for stage in stages {
            assert!(stage["flops"].as_u64().unwrap() > 0, "{stage}");
        }
        assert!(case["memory_bytes"].as_u64().unwrap() < 6 << 30, "{case}");
    }
    assert_eq!(
        cases[7]["id"],
        "latency/fastvithd-qwen2-0.5b/candle-cpu/f32/1024px"
    );
    let gflop = cases[7]["cost"]["stages"][0]["flops"].as_f64().unwrap() / 1e9;
    assert!((gflop / 486.7 - 1.0).abs() < 0.01, "{gflop}");
    assert!(cases.iter().all(|case| case["time"].is_null()));
    let text = run_anywhere(["plan", "paper-pareto", "--no-estimate"]).ok();
    assert!(
        text.contains("8 cases") && !text.contains("about "),
        "{text}"
    );
}

#[test]
fn a_plan_says_how_long_it_will_take_by_probes_of_its_own_kinds_of_work() {
    let folder = tempfile::tempdir().unwrap();
    let text = "about: x\nmodels: [{model: fastvit-mci0}, {model: clip-vit-l-14-336, resolutions: [250]}]\nprecisions: [bf16]\n\
                latency: {warm_up: 1, min_iterations: 2, max_iterations: 2}\n";
    std::fs::write(folder.path().join("x.yaml"), text).unwrap();
    let found = run(folder.path(), ["plan", "x.yaml", "--format", "json"]).json(0);
    let rates = found["rates"].as_array().unwrap();
    assert_eq!(rates.len(), 1);
    assert_eq!(rates[0]["precision"], "bf16");
    let fitted = rates[0]["fitted"]["rates"].as_object().unwrap();
    assert_eq!(fitted.keys().collect::<Vec<_>>(), ["convolutional"]);
    assert!(
        fitted["convolutional"]["seconds_per_flop"]
            .as_f64()
            .unwrap()
            > 0.0
    );
    let [ready, broken] = [0, 1].map(|i| &found["cases"][i]);
    assert_eq!(ready["time"]["requests"], 3);
    assert!(ready["time"]["ttft_paper_seconds"].is_null());
    assert!(ready["time"]["request_seconds"].as_f64().unwrap() > 0.0);
    assert_eq!(ready["seconds"], found["seconds"]);
    assert_eq!(broken["state"], "failed");
    assert!(broken["time"].is_null() && broken["seconds"].is_null());
}

#[test]
fn completions_know_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let script = run_anywhere(["completions", shell]).ok();
        assert!(
            script.contains("latency") && script.contains("doctor"),
            "{shell}"
        );
    }
}

/// The numbers of a JSON list.
fn numbers(list: &Value) -> Vec<f64> {
    let list = list.as_array().unwrap_or_else(|| panic!("no list: {list}"));
    list.iter().map(|v| v.as_f64().unwrap()).collect()
}

#[test]
fn latency_keeps_every_sample_of_every_stage() {
    let model = fixture("tiny-fastvlm");
    let args = [
        "latency",
        arg(&model),
        "--iterations",
        "3",
        "--prompt-tokens",
        "7",
        "--decode-tokens",
        "4",
        "--threads",
        "1",
        "--format",
        "json",
    ];
    let found = run_anywhere(args).json(0);
    let stages = &found["stages"];
    for (stage, n) in [
        ("preprocess", 3),
        ("encode", 3),
        ("project", 3),
        ("prefill", 3),
        ("decode", 9),
    ] {
        let samples = numbers(&stages[stage]["samples_ms"]);
        assert_eq!(samples.len(), n, "{stage}");
        assert!(samples.iter().all(|ms| *ms > 0.0), "{stage}: {samples:?}");
        let median = stages[stage]["median_ms"].as_f64().unwrap();
        let below = samples.iter().filter(|ms| **ms <= median).count();
        assert!(2 * below > n, "{stage}: {median} of {samples:?}");
        let flops = &stages[stage]["flops"];
        assert_eq!(flops.is_null(), stage == "preprocess", "{stage}: {flops}");
    }
    // The definitions: encode + prefill, sample by sample; the user also waits for the rest.
    let (encode, prefill) = (
        numbers(&stages["encode"]["samples_ms"]),
        numbers(&stages["prefill"]["samples_ms"]),
    );
    let paper = numbers(&found["ttft_paper_samples_ms"]);
    for i in 0..3 {
        assert!((paper[i] - encode[i] - prefill[i]).abs() < 1e-6, "{found}");
    }
    let mut sorted = paper;
    sorted.sort_by(f64::total_cmp);
    assert_eq!(found["ttft_paper_ms"], sorted[1]);
    let user = numbers(&found["ttft_user_samples_ms"]);
    assert!(user.iter().zip(&encode).all(|(user, encode)| user > encode));
    assert_eq!(found["visual_tokens"], 1);
    assert_eq!(found["prompt_tokens"], 7);
    assert_eq!(found["weights"], "checkpoint");
    assert!(
        found["peak_rss_bytes"].as_u64().unwrap() > 1 << 20,
        "{found}"
    );
    assert_eq!(found["energy"]["requests"], 3);
    assert_eq!(
        found["joules_per_request"].is_null(),
        found["energy"]["device"]["joules"].is_null()
    );
    assert_eq!(found["used"]["threads"], 1);
    assert_eq!(found["used"]["precision"], "f32");
    assert_eq!(found["used"]["device"], "cpu");
}

#[test]
fn latency_at_another_resolution_and_precision_says_so() {
    let model = fixture("tiny-fastvlm");
    let args = [
        "latency",
        arg(&model),
        "--iterations",
        "1",
        "--warm-up",
        "0",
        "--resolution",
        "128",
        "--precision",
        "bf16",
        "--format",
        "json",
    ];
    let found = run_anywhere(args).json(0);
    assert_eq!(found["visual_tokens"], 4);
    assert_eq!(found["resolution"], 128);
    assert_eq!(found["used"]["precision"], "bf16");
    // A vision encoder alone has no prompt and no first token.
    let tower = checkpoint("mci0/timm-inference");
    let args = [
        "latency",
        arg(&tower),
        "--iterations",
        "1",
        "--format",
        "json",
    ];
    let found = run_anywhere(args).json(0);
    assert_eq!(found["ttft_paper_ms"], Value::Null);
    assert_eq!(
        found["stages"]["prefill"]["samples_ms"],
        Value::Array(vec![])
    );
    assert_eq!(numbers(&found["stages"]["encode"]["samples_ms"]).len(), 1);
}

#[test]
fn generate_answers_the_same_way_twice() {
    let model = fixture("tiny-fastvlm");
    let image = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../backends/tests/fixtures/image/source_wide.png");
    let ask = |prompt: &str| {
        let args = [
            "generate",
            arg(&model),
            "--image",
            arg(&image),
            "--prompt",
            prompt,
        ];
        run_anywhere(args).ok()
    };
    let answer = ask("what is this?");
    assert!(!answer.trim().is_empty());
    assert_eq!(ask("what is this?"), answer);
    assert_ne!(ask("how many signs are there?"), answer);
    run_anywhere([
        "generate",
        arg(&model),
        "--image",
        "/nonexistent.png",
        "--prompt",
        "x",
    ])
    .fails(7, &["/nonexistent.png"]);
}

#[test]
fn synth_draws_what_score_can_read() {
    let folder = tempfile::tempdir().unwrap();
    let draw = |suite: &str, out: &str, more: &[&str]| {
        let args = ["synth", suite, "--n", "4", "--out", out];
        run(folder.path(), args.iter().chain(more))
    };
    let drawn = draw(
        "docvqa",
        "docs.parquet",
        &["--format", "json", "--places", "docs.jsonl"],
    )
    .json(0);
    assert_eq!(drawn["samples"], 4);
    let places = std::fs::read_to_string(folder.path().join("docs.jsonl")).unwrap();
    assert_eq!(places.lines().count(), 4);
    let answers: String = (0..4)
        .map(|id| format!("{{\"id\": \"{id}\", \"response\": \"\"}}\n"))
        .collect();
    std::fs::write(folder.path().join("answers.jsonl"), answers).unwrap();
    for data in ["docs.parquet", "synth:4"] {
        let args = ["score", "docvqa", "--data", data, "--split", "test"];
        let more = ["--predictions", "answers.jsonl", "--format", "json"];
        let scored = run(folder.path(), args.iter().chain(&more)).json(0);
        assert_eq!((&scored["n"], &scored["score"]), (&4.into(), &0.0.into()));
    }
    draw("mmmu", "x.parquet", &[]).fails(2, &["`mmmu` cannot be drawn", "`textvqa`"]);
    draw("docvqa", "x.parquet", &["--split", "dev"]).fails(2, &["`dev`", "`validation`"]);
    draw("docvqa", "no/x.parquet", &[]).fails(8, &["no/x.parquet"]);
    run(
        folder.path(),
        ["synth", "docvqa", "--n", "0", "--out", "x.parquet"],
    )
    .fails(2, &["at least one"]);
    assert!(!folder.path().join("x.parquet").exists());
}
