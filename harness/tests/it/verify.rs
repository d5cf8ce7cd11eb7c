//! `vlmbench verify` on every published layout, against tensors of timm and transformers.

use std::path::Path;

use crate::shell::{Done, arg, checkpoint, run_anywhere};

fn verify(model: &Path, reference: &Path, more: &[&str]) -> Done {
    let mut args = vec![
        "verify",
        arg(model),
        "--reference",
        arg(reference),
        "--format",
        "json",
    ];
    args.extend(more);
    run_anywhere(args)
}

/// Copies the files of a folder.
fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[test]
fn every_layout_gives_its_networks_outputs() {
    let vlm = ["image_features", "logits", "greedy_ids"];
    for (network, layouts, outputs) in [
        (
            "fastvlm",
            &["fast_vlm", "llava_qwen2"][..],
            [&vlm[..], &vlm[..]].concat(),
        ),
        // The last two write the image as a run of a token that the second's configuration does not name.
        (
            "llava",
            &["published", "transformers5", "llava"],
            vlm.to_vec(),
        ),
        ("clip", &["clip", "clip_vision_model"], vec!["features"]),
        (
            "siglip",
            &["siglip", "siglip_vision_model"],
            vec!["features"],
        ),
        ("mobilevlm", &["mobilevlm"], vlm.to_vec()),
        (
            "convnext",
            &["timm", "open_clip", "transformers"],
            vec!["features"; 2],
        ),
        ("dinov2", &["transformers"], vec!["features"]),
        ("dinov2-gated", &["transformers"], vec!["features"]),
        (
            "mci0",
            &[
                "timm-train",
                "timm-inference",
                "apple-train",
                "apple-inference",
            ],
            vec!["features"; 3],
        ),
        (
            "mci3",
            &[
                "timm-train",
                "timm-inference",
                "apple-train",
                "apple-inference",
            ],
            vec!["features"; 2],
        ),
    ] {
        for layout in layouts {
            let model = checkpoint(&format!("{network}/{layout}"));
            let reference = checkpoint(&format!("{network}/reference"));
            let found = verify(&model, &reference, &[]).json(0);
            assert_eq!(found["ok"], true, "{network}/{layout}: {found}");
            assert_eq!(found["model"], *layout);
            let checks = found["checks"].as_array().unwrap();
            let names: Vec<&str> = checks
                .iter()
                .map(|c| c["output"].as_str().unwrap())
                .collect();
            assert_eq!(names, outputs, "{network}/{layout}");
            for check in checks.iter().filter(|c| c["output"] != "greedy_ids") {
                let error = check["relative_error"].as_f64().unwrap();
                // A few roundings of f32, not merely what is allowed.
                assert!(error < 1e-5, "{network}/{layout}: {check}");
            }
        }
    }
}

#[test]
fn a_vision_transformer_interpolates_its_positions_as_its_publisher_does() {
    for (network, layout, patch) in [
        ("clip", "clip", 14),
        ("clip", "clip_vision_model", 14),
        ("siglip", "siglip_vision_model", 14),
        ("dinov2", "transformers", 14),
        ("vitamin", "timm", 16),
    ] {
        let model = checkpoint(&format!("{network}/{layout}"));
        let (smaller, larger) = ((3 * patch).to_string(), (6 * patch).to_string());
        for side in [&smaller, &larger] {
            let reference = checkpoint(&format!("{network}/reference-{side}"));
            let found = verify(&model, &reference, &["--resolution", side]).json(0);
            let error = found["checks"][0]["relative_error"].as_f64().unwrap();
            assert!(error < 1e-5, "{layout} at {side}: {found}");
        }
        // Not made of whole patches.
        let reference = checkpoint(&format!("{network}/reference-{larger}"));
        let side = (6 * patch + 1).to_string();
        let why = format!("multiple of {patch}");
        verify(&model, &reference, &["--resolution", &side]).fails(3, &[&side, &why]);
    }
}

#[test]
fn a_reference_that_differs_is_a_mismatch_with_a_code_of_its_own() {
    for (model, reference, output) in [
        ("fastvlm/fast_vlm", "fastvlm/reference", "logits"),
        ("mci0/timm-train", "mci0/reference", "features"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        copy(&checkpoint(reference), folder.path());
        let path = folder.path().join("output.npy");
        let mut bytes = std::fs::read(&path).unwrap();
        // The last value becomes 100, larger than any other.
        let end = bytes.len();
        bytes[end - 4..].copy_from_slice(&100_f32.to_le_bytes());
        std::fs::write(&path, bytes).unwrap();

        let found = verify(&checkpoint(model), folder.path(), &[]).json(9);
        assert_eq!(found["ok"], false);
        for check in found["checks"].as_array().unwrap() {
            let touched = check["suffix"] == "" && check["output"] == output;
            assert_eq!(check["ok"], !touched, "{check}");
            if touched {
                assert!(check["max_abs_error"].as_f64().unwrap() > 50.0, "{check}");
            }
        }
        let args = [
            "verify",
            arg(&checkpoint(model)),
            "--reference",
            arg(folder.path()),
        ]
        .map(str::to_owned);
        let text = run_anywhere(args);
        assert_eq!(text.code, 9);
        assert!(text.stdout.contains("MISMATCH"), "{}", text.stdout);
        assert!(
            text.stdout.trim_end().ends_with("outputs differ"),
            "{}",
            text.stdout
        );
    }
}

#[test]
fn a_tighter_tolerance_fails_what_the_usual_one_passes() {
    let model = checkpoint("mci0/timm-train");
    let reference = checkpoint("mci0/reference");
    let found = verify(&model, &reference, &["--tolerance", "1e-12"]).json(9);
    assert_eq!(found["checks"][0]["tolerance"], 1e-12);
    let half = verify(&model, &reference, &["--precision", "bf16"]).json(0);
    let error = half["checks"][0]["relative_error"].as_f64().unwrap();
    // Really computed in bf16: worse than f32 can be.
    assert!((1e-4..5e-2).contains(&error), "{half}");
}

#[test]
fn what_is_missing_is_named() {
    let reference = checkpoint("mci0/reference");
    verify(Path::new("/nonexistent/model"), &reference, &[]).fails(7, &["/nonexistent/model"]);
    let model = checkpoint("mci0/timm-train");
    verify(&model, Path::new("/nonexistent/dir"), &[]).fails(7, &["/nonexistent/dir"]);
    let empty = tempfile::tempdir().unwrap();
    verify(&model, empty.path(), &[]).fails(7, &["input.npy", arg(empty.path())]);
}

#[test]
fn a_checkpoint_that_lacks_a_shard_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    copy(&checkpoint("fastvlm/fast_vlm"), folder.path());
    std::fs::remove_file(folder.path().join("model-00002-of-00002.safetensors")).unwrap();
    verify(folder.path(), &checkpoint("fastvlm/reference"), &[])
        .fails(7, &["model-00002-of-00002.safetensors"]);
}

#[test]
fn a_decoder_alone_is_compared_by_its_token_ids() {
    let model = checkpoint("qwen2/qwen2");
    let reference = checkpoint("qwen2/reference");
    let found = verify(&model, &reference, &["--threads", "1"]).json(0);
    let checks = found["checks"].as_array().unwrap();
    let names: Vec<_> = checks.iter().map(|c| &c["output"]).collect();
    assert_eq!(names, ["logits", "greedy_ids"]);
    let error = |found: &serde_json::Value| found["checks"][0]["relative_error"].as_f64().unwrap();
    assert!(error(&found) < 1e-5, "{found}");
    assert_eq!(checks[0]["tolerance"], 1e-3);

    let half = verify(&model, &reference, &["--precision", "bf16"]).json(0);
    assert!((1e-4..5e-2).contains(&error(&half)), "{half}");
    assert_eq!(half["checks"][0]["tolerance"], 5e-2);

    // One other token is another answer.
    let folder = tempfile::tempdir().unwrap();
    copy(&reference, folder.path());
    let path = folder.path().join("input_ids.npy");
    let mut bytes = std::fs::read(&path).unwrap();
    let end = bytes.len();
    bytes[end - 8] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let found = verify(&model, folder.path(), &[]).json(9);
    assert_eq!(found["checks"][0]["ok"], false, "{found}");
}

#[test]
fn token_ids_do_not_stand_for_the_pixels_of_an_encoder() {
    let reference = checkpoint("qwen2/reference");
    verify(&checkpoint("mci0/timm-train"), &reference, &[]).fails(3, &["timm-train", "no decoder"]);
}
