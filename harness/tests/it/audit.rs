//! `audit` end to end. No test looks at how long anything took: the timed checks are only there.

use serde_json::Value;

use crate::shell::{Done, arg, run_anywhere};

/// Every check in the order of the table.
const CHECKS: [&str; 18] = [
    "state.order",
    "state.alone",
    "determinism",
    "input.resolution",
    "input.scaled",
    "input.detail",
    "batch",
    "tokens.visual",
    "picture.replaced",
    "picture.withheld",
    "output.length",
    "output.first",
    "output.prefix",
    "output.stop_token",
    "output.stop_string",
    "cache.encode.picture",
    "cache.prefill.picture",
    "cache.prefill.prompt",
];

fn audit(model: &str, more: &[&str]) -> Done {
    run_anywhere([&["audit", model, "--format", "json"], more].concat())
}

/// Verdicts by check; all of them are there, each with a figure or a reason.
fn verdicts(found: &Value) -> Vec<(&str, &str)> {
    let checks = found["checks"].as_array().unwrap();
    let names: Vec<_> = checks
        .iter()
        .map(|c| c["check"].as_str().unwrap())
        .collect();
    assert_eq!(names, CHECKS);
    for check in checks {
        assert!(!check["done"].as_str().unwrap().is_empty());
        let said = if check["verdict"] == "not_applicable" {
            &check["why"]
        } else {
            &check["figure"]
        };
        assert!(!said.as_str().unwrap().is_empty(), "{check}");
    }
    let verdict = |c: &'_ Value| c["verdict"].as_str().unwrap().to_owned();
    let all: Vec<String> = checks.iter().map(verdict).collect();
    let known = ["pass", "fail", "inconclusive", "not_applicable"];
    let known = |v: &String| *known.iter().find(|k| *k == v).unwrap();
    names.into_iter().zip(all.iter().map(known)).collect()
}

fn with<'a>(verdicts: &[(&'a str, &str)], verdict: &str) -> Vec<&'a str> {
    let found = verdicts.iter().filter(|(_, v)| *v == verdict);
    found.map(|(name, _)| *name).collect()
}

#[test]
fn a_trained_model_passes_every_check_that_is_not_timed() {
    let found = audit("small-fastvithd", &["--pairs", "0", "--threads", "2"]).json(0);
    assert_eq!(found["ok"], true);
    assert_eq!(found["weights"], "checkpoint");
    let verdicts = verdicts(&found);
    let untimed = &CHECKS[..15];
    assert_eq!(with(&verdicts, "pass"), untimed);
    assert_eq!(with(&verdicts, "not_applicable"), &CHECKS[15..]);
}

#[test]
fn timed_checks_have_a_figure_with_an_interval() {
    let done = audit("small-fastvithd", &["--pairs", "6", "--samples", "2"]);
    // Whether something else ran meanwhile is not this test's affair.
    let code = done.code;
    assert!([0, 9].contains(&code), "{}", done.stderr);
    let found = done.json(code);
    verdicts(&found);
    for check in &found["checks"].as_array().unwrap()[15..] {
        let value = |name: &str| check["values"][name].as_f64().unwrap();
        assert_eq!(value("pairs"), 6.0);
        assert!(value("low") <= value("ratio") && value("ratio") <= value("high"));
    }
}

#[test]
fn what_a_model_lacks_is_not_applicable() {
    let bare = ["--pairs", "0", "--samples", "2", "--threads", "2"];
    let encoder = audit(
        "fastvit-mci0",
        &[&bare[..], &["--resolution", "128"]].concat(),
    )
    .json(0);
    assert_eq!(encoder["weights"], "seeded");
    assert_eq!(
        with(&verdicts(&encoder), "pass"),
        &CHECKS[..8],
        "of a bare encoder"
    );
    let folder = tempfile::tempdir().unwrap();
    let recipe = folder.path().join("small.yaml");
    let text = "{about: x, decoder: qwen2-0.5b, weights: {seeded: 0}, \
                decoder_args: {num_hidden_layers: 2, vocab_size: 1000}}";
    std::fs::write(&recipe, text).unwrap();
    let decoder = audit(arg(&recipe), &bare).json(0);
    let of_decoder = verdicts(&decoder);
    let passed = with(&of_decoder, "pass");
    assert_eq!(passed[..3], CHECKS[..3]);
    assert_eq!(passed[3..6], CHECKS[10..13]);
    let lacking = with(&of_decoder, "not_applicable");
    assert_eq!(lacking[..7], CHECKS[3..10]);
    // A seeded model's tokenizer has no end of sequence.
    assert_eq!(lacking[7], "output.stop_token");
}

#[test]
fn too_few_samples_or_pairs_are_wrong_usage() {
    audit("small-fastvithd", &["--samples", "1"]).fails(2, &["--samples"]);
    audit("small-fastvithd", &["--pairs", "5"]).fails(2, &["--pairs", "6"]);
}

#[test]
fn a_model_whose_pictures_all_look_the_same_fails_with_code_9() {
    let folder = tempfile::tempdir().unwrap();
    let shipped = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../configs/checkpoints/small-fastvithd"
    );
    for entry in std::fs::read_dir(shipped).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
    }
    // A projector of zeros gives the decoder the same tokens whatever it is shown.
    let path = folder.path().join("model.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let tensors: Value = serde_json::from_slice(&bytes[8..header]).unwrap();
    let offset = |v: &Value| header + v.as_u64().unwrap() as usize;
    for (name, tensor) in tensors.as_object().unwrap() {
        if name.contains("mm_projector") {
            let at = &tensor["data_offsets"];
            bytes[offset(&at[0])..offset(&at[1])].fill(0);
        }
    }
    std::fs::write(&path, bytes).unwrap();
    let found = audit(arg(folder.path()), &["--pairs", "0", "--threads", "2"]).json(9);
    assert_eq!(found["ok"], false);
    assert_eq!(with(&verdicts(&found), "fail"), ["picture.replaced"]);
}
