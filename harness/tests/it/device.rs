//! What a device changes in a run: its own clock and memory in the records; and what no device
//! may do, give no numbers and a latency.

use std::path::Path;

use serde_json::Value;

use crate::shell::{arg, checkpoint, run};

const LATENCY: &str = "latency: {warm_up: 1, prompt_tokens: 6, decode_tokens: 3, min_iterations: 2, \
                       max_iterations: 2, budget_seconds: 0, image: {width: 80, height: 60}}\n";

fn records(folder: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(folder.join("records.jsonl")).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn of_kind<'a>(records: &'a [Value], kind: &str) -> Vec<&'a Value> {
    records.iter().filter(|r| r["kind"] == kind).collect()
}

/// A copy of a checkpoint whose first convolution is 10^7 times as strong.
fn loud(to: &Path) {
    let from = checkpoint("mci3/timm-inference");
    std::fs::copy(from.join("config.json"), to.join("config.json")).unwrap();
    let mut bytes = std::fs::read(from.join("model.safetensors")).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let tensors: Value = serde_json::from_slice(&bytes[8..8 + header]).unwrap();
    let mut stems = tensors.as_object().unwrap().iter();
    let (_, stem) = stems
        .find(|(name, _)| name.contains("stem.0") && name.ends_with("weight"))
        .unwrap();
    assert_eq!(stem["dtype"], "F32");
    let at = |i: usize| 8 + header + stem["data_offsets"][i].as_u64().unwrap() as usize;
    for scalar in bytes[at(0)..at(1)].chunks_exact_mut(4) {
        let loud = 1e7 * f32::from_le_bytes(scalar.try_into().unwrap());
        scalar.copy_from_slice(&loud.to_le_bytes());
    }
    std::fs::write(to.join("model.safetensors"), bytes).unwrap();
}

#[test]
fn an_encoder_that_overflows_is_a_failed_case_and_no_latency() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("loud");
    std::fs::create_dir(&model).unwrap();
    loud(&model);
    let experiment = format!(
        "about: too loud for f16\nmodels: [{{model: {}, resolutions: [64]}}]\nprecisions: [f16, f32]\n{LATENCY}",
        arg(&model)
    );
    std::fs::write(folder.path().join("loud.yaml"), experiment).unwrap();
    let done = run(folder.path(), ["run", "loud.yaml", "--out", "out"]);
    assert_eq!(done.code, 5, "{}", done.stderr);
    let records = records(&folder.path().join("out"));
    let ends = of_kind(&records, "case_end");
    assert_eq!(ends.len(), 2);
    for end in ends {
        let overflows = end["case"].as_str().unwrap().contains("/f16/");
        let status = &end["outcome"]["status"];
        assert_eq!(status, if overflows { "failed" } else { "ok" }, "{end}");
        if overflows {
            assert_eq!(end["outcome"]["stage"], "encode");
            let error = end["outcome"]["error"].as_str().unwrap();
            assert!(
                error.contains("not finite") && error.contains("f16"),
                "{error}"
            );
        }
    }
    let timed = of_kind(&records, "latency");
    assert!(!timed.is_empty());
    assert!(
        timed
            .iter()
            .all(|r| r["case"].as_str().unwrap().contains("/f32/"))
    );
}

#[cfg(feature = "cuda-emulated")]
#[test]
fn a_device_with_a_clock_and_memory_has_both_in_the_records() {
    let folder = tempfile::tempdir().unwrap();
    let experiment = format!(
        "about: x\nmodels: [{{model: small-fastvithd, resolutions: [128]}}]\ndevices: [cpu, cuda-emulated]\nthreads: 1\n{LATENCY}"
    );
    std::fs::write(folder.path().join("both.yaml"), experiment).unwrap();
    run(folder.path(), ["run", "both.yaml", "--out", "out"]).ok();
    let out = folder.path().join("out");
    let records = records(&out);
    let of_device = |r: &Value| r["case"].as_str().unwrap().contains("emulated");
    for end in of_kind(&records, "case_end") {
        assert_eq!(end["peak_device_bytes"].is_u64(), of_device(end), "{end}");
    }
    for sample in of_kind(&records, "latency") {
        let device = &sample["stages"]["device"];
        assert_eq!(device.is_object(), of_device(sample), "{sample}");
        if of_device(sample) {
            // A microsecond a kernel.
            assert!(device["encode_ns"].as_u64().unwrap() > 20_000, "{device}");
            assert!(device["prefill_ns"].as_u64().unwrap() > 10_000, "{device}");
            assert_eq!(device["decode_ns"].as_array().unwrap().len(), 2);
        }
    }
    let cases = of_kind(&records, "case");
    let used: Vec<&str> = cases
        .iter()
        .map(|case| case["used"]["device"].as_str().unwrap())
        .collect();
    assert_eq!(used, ["cpu", "cuda-emulated"]);
    // Each against what its own device can do.
    let peaks = of_kind(&records, "peak");
    let devices: Vec<Option<&str>> = peaks.iter().map(|p| p["device"].as_str()).collect();
    assert_eq!(devices, [None, Some("cuda-emulated")]);
    assert_eq!(
        (&peaks[0]["threads"], &peaks[1]["threads"]),
        (&1.into(), &0.into())
    );
    let shares = std::fs::read_to_string(out.join("tables/hardware.csv")).unwrap();
    let column = |name: &str| {
        let mut lines = shares.lines();
        let at = lines
            .next()
            .unwrap()
            .split(',')
            .position(|c| c == name)
            .unwrap();
        let values = lines.map(|line| line.split(',').nth(at).unwrap().parse::<f64>().unwrap());
        values.collect::<Vec<_>>()
    };
    let products = column("product_peak_flops");
    assert!(products[0] > 0.0 && products[1] > 0.0 && products[0] != products[1]);
    let stages = std::fs::read_to_string(out.join("report.md")).unwrap();
    assert!(stages.contains("device ms"));
    let again = run(folder.path(), ["peak", "out", "--device", "cuda-emulated"]).ok();
    assert!(again.contains("measured peak of cuda-emulated"), "{again}");
    assert_eq!(of_kind(&self::records(&out), "peak").len(), 3);
}

#[cfg(feature = "cuda-emulated")]
#[test]
fn what_does_not_fit_the_device_is_an_outcome_and_blocks_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let experiment = format!(
        "about: x\nmodels: [{{model: qwen2-7b}}]\ndevices: [cuda-emulated]\nprecisions: [bf16, q8_0]\n{LATENCY}"
    );
    std::fs::write(folder.path().join("large.yaml"), experiment).unwrap();
    let plan = run(folder.path(), ["plan", "large.yaml", "--no-estimate"]).ok();
    assert!(
        plan.contains("will not fit: latency/qwen2-7b/candle-cuda-emulated/bf16"),
        "{plan}"
    );
    let done = run(folder.path(), ["run", "large.yaml", "--out", "out"]);
    assert_eq!(done.code, 5, "{}", done.stderr);
    let records = records(&folder.path().join("out"));
    let ends = of_kind(&records, "case_end");
    let errors: Vec<&str> = ends
        .iter()
        .map(|end| end["outcome"]["error"].as_str().unwrap())
        .collect();
    assert_eq!(errors.len(), 2);
    assert!(
        errors[0].contains("out of memory") && errors[0].contains("4.00 GiB"),
        "{errors:?}"
    );
    assert!(
        errors[1].contains("q8_0") && errors[1].contains("cpu"),
        "{errors:?}"
    );
}
