//! llama.cpp's files and quantised precisions from the shell.

use std::path::PathBuf;

use crate::shell::{arg, checkpoint, run, run_anywhere};

/// A file of the backends' parity tests.
fn file(name: &str) -> PathBuf {
    checkpoint("../gguf").join(name).join("model.gguf")
}

#[test]
fn a_file_is_measured_in_its_own_precision_and_dequantised() {
    let model = file("llama-q4_k_m");
    for precision in ["q4_k_m", "f32", "bf16"] {
        let measured = [
            "latency",
            arg(&model),
            "--precision",
            precision,
            "--iterations",
            "1",
            "--warm-up",
            "0",
            "--prompt-tokens",
            "9",
            "--format",
            "json",
        ];
        let found = run_anywhere(measured).json(0);
        assert_eq!(found["model"], "model");
        assert_eq!(found["weights"], "gguf");
        assert_eq!(found["used"]["precision"], precision);
        assert_eq!(found["stages"]["prefill"]["flops"].as_u64(), {
            let again = run_anywhere(measured).json(0);
            again["stages"]["prefill"]["flops"].as_u64()
        });
    }
    run_anywhere(["latency", arg(&model), "--precision", "q8_0"])
        .fails(3, &["precision: `q8_0`", "model.gguf", "stored in q4_k_m"]);
    run_anywhere(["latency", "no/such/model.gguf"])
        .fails(7, &["no/such/model.gguf", "no such file"]);
}

#[test]
fn files_agree_with_their_references() {
    for (name, precision) in [("qwen2-q8_0", "q8_0"), ("llama-q4_k_m", "q4_k_m")] {
        let model = file(name);
        let reference = model.with_file_name("reference");
        for precision in ["f32", precision] {
            let args = [
                "verify",
                arg(&model),
                "--reference",
                arg(&reference),
                "--precision",
                precision,
                "--format",
                "json",
            ];
            let found = run_anywhere(args).json(0);
            assert_eq!(found["ok"], true, "{found}");
            assert!(found["layout"].as_str().unwrap().starts_with("gguf "));
        }
    }
}

#[test]
fn without_a_tokenizer_there_are_no_answers() {
    let model = file("qwen2-q8_0");
    run_anywhere(["generate", arg(&model), "--prompt", "Hello?"])
        .fails(7, &["tokenizer.json", "no such file"]);
}

/// A small FastVLM whose decoder is a file: measured, and planned on an engine
/// that has no blocks, which fails the case and not the experiment.
#[test]
fn a_recipe_takes_its_decoder_from_a_file_and_the_rest_from_a_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let recipe = |weights: &str| {
        format!(
            "about: a file and a folder
encoder: fastvithd
encoder_args: {{layers: [1, 2, 1, 2, 1], embed_dims: [8, 8, 16, 32, 32], mlp_ratios: [3, 3, 3, 2, 2]}}
resolution: 128
image: {{geometry: pad_black, interpolation: bicubic, mean: [0, 0, 0], std: [1, 1, 1]}}
projector: mlp2x_gelu
decoder: qwen2-0.5b
decoder_args: {{hidden_size: 64, intermediate_size: 96, num_hidden_layers: 2, num_attention_heads: 4, num_key_value_heads: 2}}
prompt: qwen_2
weights: {{gguf: {{{weights}}}}}
"
        )
    };
    let decoder = file("qwen2-q8_0");
    let rest = checkpoint("fastvlm/llava_qwen2");
    let both = format!("decoder: {}, rest: {}", arg(&decoder), arg(&rest));
    std::fs::write(dir.path().join("both.yaml"), recipe(&both)).unwrap();
    let args = [
        "latency",
        "both.yaml",
        "--precision",
        "q8_0",
        "--iterations",
        "1",
        "--format",
        "json",
    ];
    let found = run(dir.path(), args).json(0);
    assert_eq!(found["visual_tokens"], 4);
    assert_eq!(found["weights"], "gguf");

    let alone = format!("decoder: {}", arg(&decoder));
    std::fs::write(dir.path().join("alone.yaml"), recipe(&alone)).unwrap();
    run(dir.path(), ["latency", "alone.yaml"]).fails(3, &["needs `rest`"]);

    let experiment = "about: x\nmodels: [{model: both.yaml}, {model: qwen2-7b}]\nbackends: [candle, onnxruntime]\n\
                      precisions: [bf16, q4_k_m]\nlatency: {prompt_tokens: 16}\n";
    std::fs::write(dir.path().join("x.yaml"), experiment).unwrap();
    let found = run(
        dir.path(),
        ["plan", "x.yaml", "--no-estimate", "--format", "json"],
    )
    .json(0);
    let cases = found["cases"].as_array().unwrap();
    let case = |id: &str| {
        let found = cases.iter().find(|c| c["id"] == id);
        found.unwrap_or_else(|| panic!("{id} in {cases:?}"))
    };
    let refused = case("latency/qwen2-7b/onnxruntime-cpu/q4_k_m");
    assert_eq!(refused["state"], "failed");
    assert!(
        refused.to_string().contains("computes nothing on blocks"),
        "{refused}"
    );
    let bytes = |precision: &str| {
        let ready = case(&format!("latency/qwen2-7b/candle-cpu/{precision}"));
        assert_eq!(ready["state"], "ready", "{ready}");
        let decode = &ready["cost"]["stages"][1];
        assert_eq!(decode["stage"], "decode");
        let held = ready["cost"]["weight_bytes"].as_f64().unwrap();
        (held, decode["bytes"].as_f64().unwrap())
    };
    let ((half, moved), (four, less)) = (bytes("bf16"), bytes("q4_k_m"));
    assert!((0.30..0.32).contains(&(four / half)), "{four} of {half}");
    // A step does not read the embedding table.
    assert!((0.29..0.32).contains(&(less / moved)), "{less} of {moved}");
}
