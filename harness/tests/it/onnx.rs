//! ONNX on the built program: export, the second engine, both engines in one
//! experiment, and files that are not what they should be.
//!
//! What needs ONNX Runtime's library is tried where it is found; where it has
//! to be there, the environment says so with `VLMBENCH_REQUIRE_ONNXRUNTIME`.

use std::path::{Path, PathBuf};

use prost::Message;
use serde_json::Value;
use vlmbench_backends::onnx::proto::{Entry, Graph, Model, Tensor};

use crate::shell::{Done, arg, checkpoint, run, run_anywhere};

/// A command about a model on ONNX Runtime.
fn on_runtime(command: &str, model: &Path, more: &[&str]) -> Done {
    let args = [command, arg(model), "--backend", "onnxruntime"];
    run_anywhere([&args[..], more].concat())
}

/// One repetition on ONNX Runtime.
fn once(model: &Path) -> Done {
    on_runtime("latency", model, &["--iterations", "1"])
}

/// Whether the library is there.
pub fn runtime() -> bool {
    let found = run_anywhere(["doctor", "--format", "json"]).json(0);
    let backends = found["backends"].as_array().unwrap();
    let entry = backends.iter().find(|b| b["name"] == "onnxruntime");
    let error = &entry.unwrap()["error"];
    let required = std::env::var_os("VLMBENCH_REQUIRE_ONNXRUNTIME").is_some();
    assert!(error.is_null() || !required, "{error}");
    if !error.is_null() {
        eprintln!("not tried: {error}");
    }
    error.is_null()
}

/// Exports the small vision-language model into `folder`.
fn export(folder: &Path, more: &[&str]) -> Value {
    let model = checkpoint("fastvlm/fast_vlm");
    let mut args = vec![
        "export",
        arg(&model),
        "--out",
        arg(folder),
        "--format",
        "json",
    ];
    args.extend(more);
    run_anywhere(args).json(0)
}

fn graph(folder: &Path, name: &str) -> PathBuf {
    folder.join("onnx").join(format!("{name}.onnx"))
}

#[test]
fn an_export_has_the_published_layout_and_says_what_it_wrote() {
    let dir = tempfile::tempdir().unwrap();
    let exported = export(dir.path(), &["--precision", "f16"]);
    assert_eq!(exported["precision"], "f16");
    assert_eq!(exported["graphs"].as_array().unwrap().len(), 3);
    for name in [
        "vision_encoder_fp16",
        "embed_tokens_fp16",
        "decoder_model_merged_fp16",
    ] {
        assert!(graph(dir.path(), name).is_file(), "{name}");
    }
    assert!(dir.path().join("config.json").is_file());
    let model = checkpoint("fastvlm/fast_vlm");
    let file = dir.path().join("config.json");
    run_anywhere(["export", arg(&model), "--out", arg(&file)]).fails(8, &["config.json"]);
    run_anywhere(["export", "fastvithdd", "--out", arg(dir.path())]).fails(3, &["fastvithd"]);
}

#[test]
fn graphs_are_no_weights_for_an_engine_that_needs_them() {
    let dir = tempfile::tempdir().unwrap();
    export(dir.path(), &[]);
    run_anywhere(["latency", arg(dir.path()), "--iterations", "1"])
        .fails(3, &["graphs", "--backend onnxruntime"]);
}

#[test]
fn without_its_library_the_engine_says_how_to_get_it() {
    let dir = tempfile::tempdir().unwrap();
    let none = dir.path().join("libonnxruntime.so");
    let model = checkpoint("qwen2/qwen2");
    let with = || on_runtime("latency", &model, &["--onnxruntime", arg(&none)]);
    with().fails(3, &["libonnxruntime.so", "pip install onnxruntime"]);
    std::fs::write(&none, "not a library").unwrap();
    with().fails(3, &["libonnxruntime.so", "cannot be loaded"]);
}

#[test]
fn engines_agree_stage_by_stage() {
    if !runtime() {
        return;
    }
    for (model, outputs) in [
        ("mci3/timm-train", &["features"][..]),
        ("qwen2/qwen2", &["logits", "decode_logits", "greedy_ids"]),
        (
            "llava/published",
            &[
                "features",
                "image_features",
                "logits",
                "decode_logits",
                "greedy_ids",
            ],
        ),
    ] {
        let model = checkpoint(model);
        let verify = |more: &[&str]| {
            let against = ["--against", "candle", "--format", "json"];
            on_runtime("verify", &model, &[&against[..], more].concat())
        };
        let verified = verify(&[]).json(0);
        let checks = verified["checks"].as_array().unwrap();
        let named: Vec<&str> = checks
            .iter()
            .map(|c| c["output"].as_str().unwrap())
            .collect();
        assert_eq!(named, outputs);
        verify(&["--tolerance", "1e-12"]).json(9);
    }
}

#[test]
fn exported_graphs_run_and_give_what_the_checkpoint_gives() {
    if !runtime() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    export(dir.path(), &[]);
    export(dir.path(), &["--precision", "f16"]);
    let reference = checkpoint("fastvlm/reference");
    let verify = |more: &[&str]| {
        let against = ["--reference", arg(&reference), "--format", "json"];
        on_runtime("verify", dir.path(), &[&against[..], more].concat())
    };
    assert_eq!(verify(&[]).json(0)["layout"], "onnx");
    verify(&["--precision", "f16"]).json(0);
    // f16 graphs under the tolerances of f32.
    verify(&["--graph-variant", "fp16"]).json(9);
    verify(&["--graph-variant", "q4"])
        .fails(7, &["vision_encoder_q4.onnx", "vision_encoder_fp16.onnx"]);
    let weights = checkpoint("qwen2/qwen2");
    on_runtime("latency", &weights, &["--graph-variant", "q4"]).fails(3, &["q4", "weights"]);
    let json = ["--iterations", "1", "--format", "json"];
    let measured = on_runtime("latency", dir.path(), &json).json(0);
    let stages = measured["stages"].as_object().unwrap();
    assert!(stages["encode"]["median_ms"].is_f64() && stages["project"]["median_ms"].is_null());
}

#[test]
fn damaged_and_foreign_graphs_are_errors_that_name_the_file() {
    if !runtime() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    export(dir.path(), &[]);
    let decoder = graph(dir.path(), "decoder_model_merged");
    let vision = graph(dir.path(), "vision_encoder");
    let (whole, eyes) = (
        std::fs::read(&decoder).unwrap(),
        std::fs::read(&vision).unwrap(),
    );
    let again = || once(dir.path());
    for cut in [0, 1, whole.len() / 3, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&decoder, &whole[..cut]).unwrap();
        again().fails(7, &["decoder_model_merged.onnx"]);
    }
    // Bytes overwritten in the part that holds nodes and names.
    for at in [8, 64, 300, 1000] {
        let mut damaged = whole.clone();
        damaged[at..at + 8].fill(0xff);
        std::fs::write(&decoder, &damaged).unwrap();
        again().fails(7, &["decoder_model_merged.onnx"]);
    }
    std::fs::write(&decoder, "nothing like a graph").unwrap();
    again().fails(7, &["decoder_model_merged.onnx"]);
    // Another graph under this name lacks its inputs.
    std::fs::write(&decoder, &eyes).unwrap();
    again().fails(
        7,
        &["decoder_model_merged.onnx", "inputs_embeds", "pixel_values"],
    );
    // Another model's decoder has another cache.
    let other = tempfile::tempdir().unwrap();
    let model = checkpoint("llava/published");
    run_anywhere(["export", arg(&model), "--out", arg(other.path())]).ok();
    std::fs::copy(graph(other.path(), "decoder_model_merged"), &decoder).unwrap();
    again().fails(7, &["decoder_model_merged.onnx", "expected"]);
    std::fs::remove_file(&decoder).unwrap();
    again().fails(7, &["decoder_model_merged.onnx", "vision_encoder.onnx"]);
}

/// What is done to a graph, and a name for it.
type Damage<'a> = (&'a str, &'a dyn Fn(&mut Graph));

/// A file as `damage` leaves it.
fn edit(path: &Path, damage: impl Fn(&mut Graph)) {
    let mut model = Model::decode(std::fs::read(path).unwrap().as_slice()).unwrap();
    damage(model.graph.as_mut().unwrap());
    std::fs::write(path, model.encode_to_vec()).unwrap();
}

/// Has a weight's content be in another file.
fn move_weight(graph: &mut Graph, location: &str, offset: u64, length: u64) {
    let bytes = |t: &&mut Tensor| t.raw_data.len() >= 64;
    let weight = graph.initializer.iter_mut().find(bytes).unwrap();
    weight.raw_data.clear();
    weight.data_location = 1;
    let entry = |key: &str, value: String| Entry {
        key: key.into(),
        value,
    };
    weight.external_data = vec![
        entry("location", location.into()),
        entry("offset", offset.to_string()),
        entry("length", length.to_string()),
    ];
}

#[test]
fn hostile_graphs_are_errors_and_not_crashes() {
    if !runtime() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    export(dir.path(), &[]);
    let decoder = graph(dir.path(), "decoder_model_merged");
    let whole = std::fs::read(&decoder).unwrap();
    std::fs::write(dir.path().join("onnx/short_data"), [0; 16]).unwrap();
    std::fs::write(dir.path().join("secret"), [0; 1 << 20]).unwrap();
    let weight = |g: &Graph| {
        g.initializer
            .iter()
            .position(|t| t.dims.len() == 2)
            .unwrap()
    };
    let damages: [Damage; 12] = [
        ("a weight of another shape", &|g| {
            let at = weight(g);
            g.initializer[at].dims.reverse();
            g.initializer[at].dims[0] += 1;
        }),
        ("a weight of absurd size", &|g| {
            let at = weight(g);
            g.initializer[at].dims = vec![1 << 40, 1 << 40];
        }),
        ("a weight of negative size", &|g| {
            let at = weight(g);
            g.initializer[at].dims[0] = -4;
        }),
        ("a weight without content", &|g| {
            let at = weight(g);
            g.initializer[at].raw_data.clear();
        }),
        ("a weight of an unknown type", &|g| {
            let at = weight(g);
            g.initializer[at].data_type = 999;
        }),
        ("a weight outside of the folder", &|g| {
            move_weight(g, "../secret", 0, 64);
        }),
        ("a weight in no file", &|g| move_weight(g, "nowhere", 0, 64)),
        ("a weight beyond its file's end", &|g| {
            move_weight(g, "short_data", 1 << 30, 1 << 20);
        }),
        ("an operator that nobody has", &|g| {
            g.node[0].op_type = "Exfiltrate".into();
        }),
        ("a node that reads nothing that is there", &|g| {
            g.node[0].input[0] = "nothing".into();
        }),
        ("a node that reads itself", &|g| {
            let own = g.node[3].output[0].clone();
            g.node[3].input[0] = own;
        }),
        ("a value that is made twice", &|g| {
            let taken = g.node[0].output[0].clone();
            g.node[1].output[0] = taken;
        }),
    ];
    for (what, damage) in damages {
        std::fs::write(&decoder, &whole).unwrap();
        edit(&decoder, damage);
        let done = once(dir.path());
        assert_eq!(done.code, 7, "{what}: {}", done.stderr);
        assert!(
            done.stderr.contains("decoder_model_merged.onnx"),
            "{what}: {}",
            done.stderr
        );
    }
}

#[test]
fn a_provider_that_the_library_lacks_is_an_error_that_says_what_has_it() {
    if !runtime() {
        return;
    }
    let model = checkpoint("qwen2/qwen2");
    let on = |device| on_runtime("latency", &model, &["--device", device]);
    on("tpu").fails(3, &["tpu", "cpu, cuda:0"]);
    let listed = run_anywhere(["list", "devices", "--format", "json"]).json(0);
    let of_runtime = |d: &&Value| d["backend"] == "onnxruntime" && d["available"] == false;
    for device in listed.as_array().unwrap().iter().filter(of_runtime) {
        let name = device["name"].as_str().unwrap();
        on(name).fails(3, &[name, "pip install onnxruntime"]);
    }
}

#[test]
fn an_experiment_on_two_engines_alternates_and_resumes() {
    if !runtime() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let experiment = dir.path().join("two.yaml");
    let model = checkpoint("fastvlm/fast_vlm");
    let text = format!(
        "about: two engines\nmodels: [{{model: {}}}]\nbackends: [candle, onnxruntime]\n\
         onnxruntime: {{optimization: basic, arena: false}}\n\
         latency: {{prompt_tokens: 4, decode_tokens: 2, warm_up: 1, min_iterations: 3, max_iterations: 3}}\n",
        model.display()
    );
    std::fs::write(&experiment, text).unwrap();
    let asked = ["run", arg(&experiment), "--out", "run"];
    run(dir.path(), asked).ok();
    let log = std::fs::read_to_string(dir.path().join("run/records.jsonl")).unwrap();
    let records: Vec<Value> = log
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    let order: Vec<(bool, &str)> = (records.iter())
        .filter(|r| r["kind"] == "latency")
        .map(|r| (r["warm_up"].as_bool().unwrap(), r["case"].as_str().unwrap()))
        .map(|(warm_up, case)| (warm_up, if case.contains("candle") { "c" } else { "o" }))
        .collect();
    let expected = ["c", "o", "o", "c", "c", "o", "o", "c"];
    assert!(order.iter().map(|(_, e)| *e).eq(expected), "{order:?}");
    assert!(
        order
            .iter()
            .map(|(w, _)| *w)
            .eq([true, true, false, false, false, false, false, false])
    );
    // Counters cannot tell one engine's work from the other's.
    let launch = records.iter().find(|r| r["kind"] == "launch").unwrap();
    let why = launch["energy"]["device"]["missing"].as_str().unwrap();
    assert!(why.contains("in turns"), "{launch}");
    let facts = records
        .iter()
        .find(|r| r["kind"] == "case" && r["labels"]["backend"] == "onnxruntime");
    let used = &facts.unwrap()["used"];
    assert!(
        used["engine"]
            .as_str()
            .unwrap()
            .starts_with("onnxruntime 1."),
        "{used}"
    );
    assert_eq!(used["settings"]["graph_optimization"], "basic");
    assert_eq!(used["settings"]["arena"], "false");
    let nodes = used["settings"]["nodes_CPUExecutionProvider"]
        .as_str()
        .unwrap();
    let (on_cpu, all) = nodes.split_once(" of ").unwrap();
    assert!(on_cpu == all && all != "0", "{nodes}");
    run(dir.path(), asked).ok();
    let after = std::fs::read_to_string(dir.path().join("run/records.jsonl")).unwrap();
    assert_eq!(after, log, "nothing is measured twice");
}

#[test]
fn an_engine_that_cannot_run_a_case_leaves_the_others_theirs() {
    let dir = tempfile::tempdir().unwrap();
    let experiment = dir.path().join("two.yaml");
    let model = checkpoint("qwen2/qwen2");
    let text = format!(
        "about: one of two\nmodels: [{{model: {}}}]\nbackends: [onnxruntime, candle]\nprecisions: [bf16]\n\
         latency: {{prompt_tokens: 4, decode_tokens: 2, warm_up: 0, min_iterations: 2, max_iterations: 2}}\n",
        model.display()
    );
    std::fs::write(&experiment, text).unwrap();
    let done = run(dir.path(), ["run", arg(&experiment), "--out", "run"]);
    // With the library bf16 is what is missing, without it the library is.
    assert_eq!(done.code, 5, "{}", done.stderr);
    let ended = |engine: &str, how: &str| {
        let mut lines = done.stderr.lines();
        lines.any(|l| l.contains(&format!("/{engine}-cpu/")) && l.contains(how))
    };
    assert!(ended("onnxruntime", "failed in"), "{}", done.stderr);
    assert!(ended("candle", ": ok"), "{}", done.stderr);
}
