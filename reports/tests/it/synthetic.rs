//! A small synthetic run that the tests share: every kind of record and outcome, exact numbers.

use std::{collections::BTreeMap, fs, num::NonZeroU64, path::Path};

use serde_json::json;
use vlmbench_reports::{
    published::{Published, Series},
    record::*,
};

pub const LATENCY_CASES: [(&str, u32, u32, u64, u64); 8] = [
    // (encoder, resolution, visual tokens, encode ms, prefill ms)
    ("clip-vit-l-14", 336, 576, 2100, 1900),
    ("fastvit-mci2", 256, 64, 110, 520),
    ("fastvit-mci2", 512, 256, 430, 1050),
    ("fastvit-mci2", 768, 576, 980, 1910),
    ("fastvithd", 256, 16, 170, 400),
    ("fastvithd", 512, 64, 660, 525),
    ("fastvithd", 768, 144, 1500, 740),
    ("fastvithd", 1024, 256, 2700, 1060),
];

pub fn fastvlm() -> Published {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/published/fastvlm.yaml");
    serde_yaml::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

pub fn manifest() -> Manifest {
    let experiment = json!({"models": ["fastvlm-0.5b"], "seed": 7});
    Manifest {
        format_version: FORMAT_VERSION,
        tool: Tool {
            name: "vlmbench".into(),
            version: "0.1.0".into(),
            revision: Some("0123abc".into()),
        },
        started_at: "2026-11-23T12:00:00Z".into(),
        experiment_digest: experiment_digest(&experiment),
        experiment,
        plan: Vec::new(),
        machine: Machine {
            cpu_model: Some("Example CPU".into()),
            cores: Some(2),
            threads: Some(4),
            memory_bytes: Some(8 << 30),
            os: Some("Linux".into()),
            kernel: Some("6.1".into()),
            simd: vec!["avx2".into(), "fma".into()],
            ..Machine::default()
        },
        digests: BTreeMap::from([("model.safetensors".into(), "sha256:00ff".into())]),
        notes: vec!["a note of the harness".into()],
    }
}

pub fn case_id(encoder: &str, resolution: u32) -> String {
    format!("latency/{encoder}/candle-cpu/f32/{resolution}px")
}

pub fn facts(encoder: &str, resolution: u32, visual_tokens: u32) -> CaseFacts {
    CaseFacts {
        case: case_id(encoder, resolution),
        workload: Workload::EndToEndLatency,
        labels: Labels {
            model: format!("{encoder}-qwen2"),
            encoder: encoder.into(),
            decoder: Some("qwen2-0.5b".into()),
            suite: None,
            profile: None,
            backend: "candle".into(),
            device: "cpu".into(),
            precision: "f32".into(),
            resolution,
            blind: false,
        },
        weights: Weights::Seeded { seed: 7 },
        visual_tokens: Some(visual_tokens),
        visual_tokens_kept: None,
        prompt_tokens: Some(64),
        components: BTreeMap::from([(
            "encoder".into(),
            Component {
                parameters: 125_000_000,
            },
        )]),
        stages: BTreeMap::from([
            (
                "encode".into(),
                StageCost {
                    flops: 29_600_000_000,
                    bytes: None,
                },
            ),
            (
                "prefill".into(),
                StageCost {
                    flops: 60_000_000_000,
                    bytes: Some(1_000),
                },
            ),
            (
                "decode".into(),
                StageCost {
                    flops: 1_000_000_000,
                    bytes: None,
                },
            ),
        ]),
        activation_peak_bytes: Some(1 << 20),
        used: Used {
            engine: Some("candle 0.11".into()),
            settings: BTreeMap::new(),
            threads: Some(2),
            device: "cpu".into(),
            dtype: "f32".into(),
            simd: vec!["avx2".into()],
        },
    }
}

/// Repetition `iteration` of a case: the stage times and 2% more per iteration.
pub fn repetition(case: &str, iteration: u32, encode_ms: u64, prefill_ms: u64) -> LatencySample {
    let ns = |ms: u64| ms * 1_000_000 + ms * 20_000 * u64::from(iteration);
    LatencySample {
        case: case.into(),
        launch: 0,
        iteration,
        warm_up: false,
        stages: StageTimes {
            preprocess_ns: Some(3_000_000),
            encode_ns: Some(ns(encode_ms)),
            project_ns: None,
            prefill_ns: Some(ns(prefill_ms)),
            decode_ns: vec![40_000_000, 60_000_000],
            device: None,
        },
        ttft_user_ns: Some(ns(encode_ms + prefill_ms) + 5_000_000),
    }
}

pub fn answered(case: &str, sample: &str, numerator: i64, denominator: u64) -> SampleRecord {
    SampleRecord {
        images: None,
        case: case.into(),
        sample: sample.into(),
        outcome: SampleOutcome::Ok(Answer {
            response: "B.\nBecause".into(),
            finish_reason: FinishReason::Stop,
            tokens: TokenCounts {
                prompt: 40,
                visual: 256,
                output: 5,
            },
            extraction: Extraction::Parsed { answer: "B".into() },
            score: Score {
                numerator,
                denominator: NonZeroU64::new(denominator).unwrap(),
            },
            stages: StageTimes::default(),
        }),
    }
}

pub fn end(case: &str, outcome: CaseOutcome) -> Record {
    Record::CaseEnd(CaseEnd {
        case: case.into(),
        outcome,
        peak_rss_bytes: Some(3 << 30),
        peak_device_bytes: None,
        ended_at: "2026-11-23T12:05:00Z".into(),
    })
}

pub fn series(id: &str) -> Series {
    fastvlm().series(id).unwrap()
}

/// The quickstart as it could come out: eight timed cases with seeded weights, one failed case.
pub fn quickstart_records() -> Vec<Record> {
    let mut records = vec![
        Record::Published(series("avg5-vicuna-7b")),
        Record::Published(series("avg5-qwen2-0.5b")),
    ];
    for (encoder, resolution, tokens, encode, prefill) in LATENCY_CASES {
        let id = case_id(encoder, resolution);
        records.push(Record::Case(facts(encoder, resolution, tokens)));
        let warm_up = LatencySample {
            warm_up: true,
            ..repetition(&id, 0, 9 * encode, 9 * prefill)
        };
        records.push(Record::Latency(warm_up));
        for iteration in 0..7 {
            records.push(Record::Latency(repetition(&id, iteration, encode, prefill)));
        }
        records.push(end(&id, CaseOutcome::Ok));
    }
    let missing = CaseOutcome::Failed {
        stage: "load".into(),
        error: "weights/model.safetensors: no such file".into(),
    };
    records.push(end("latency/missing/candle-cpu/f32/336px", missing));
    records
}

/// A model with a checkpoint: timed, and scored on a suite.
pub fn scored_records() -> Vec<Record> {
    let weights = Weights::Checkpoint {
        origin: "fastvlm-0.5b".into(),
        digests: BTreeMap::from([("model.safetensors".into(), "sha256:00ff".into())]),
    };
    let timed = CaseFacts {
        weights,
        ..facts("fastvithd", 1024, 256)
    };
    let mut scored = timed.clone();
    scored.case = "textvqa/fastvlm-0.5b/candle-cpu/f32/1024px".into();
    scored.workload = Workload::Quality;
    scored.labels.suite = Some("textvqa".into());
    scored.labels.profile = Some("lmms@0.2.2".into());
    let mut records = vec![Record::Case(timed.clone())];
    for iteration in 0..7 {
        records.push(Record::Latency(repetition(
            &timed.case,
            iteration,
            2700,
            1060,
        )));
    }
    records.push(end(&timed.case, CaseOutcome::Ok));
    records.push(Record::Case(scored.clone()));
    for (id, numerator, denominator) in [("q1", 1, 1), ("q2", 3, 10), ("q3", 2, 3), ("q4", 0, 1)] {
        records.push(Record::Sample(answered(
            &scored.case,
            id,
            numerator,
            denominator,
        )));
    }
    let mut cut = answered(&scored.case, "q5", 0, 1);
    if let SampleOutcome::Ok(answer) = &mut cut.outcome {
        answer.finish_reason = FinishReason::Length;
        answer.extraction = Extraction::Unparsed;
    }
    records.push(Record::Sample(cut));
    records.push(Record::Sample(SampleRecord {
        images: None,
        case: scored.case.clone(),
        sample: "q6".into(),
        outcome: SampleOutcome::Failed {
            stage: "preprocess".into(),
            error: "image 6.jpg: unexpected end".into(),
        },
    }));
    records.push(end(&scored.case, CaseOutcome::Ok));
    records
}

/// The same with a second suite, on which both answers are right, and a pass over each without images, where one answer of four is.
pub fn suites_and_blind_records() -> Vec<Record> {
    let mut records = scored_records();
    let first = records.iter().find_map(|record| match record {
        Record::Case(facts) if facts.labels.suite.is_some() => Some(facts.clone()),
        _ => None,
    });
    let first = first.unwrap();
    for (suite, blind, scores) in [
        ("docvqa", false, &[1, 1][..]),
        ("textvqa", true, &[0, 1, 0, 0]),
        ("docvqa", true, &[0, 0, 0, 1]),
    ] {
        let mut facts = first.clone();
        facts.case = format!(
            "{suite}/fastvlm-0.5b/candle-cpu/f32/{}",
            if blind { "blind" } else { "1024px" }
        );
        facts.labels.suite = Some(suite.into());
        facts.labels.blind = blind;
        records.push(Record::Case(facts.clone()));
        for (index, right) in scores.iter().enumerate() {
            records.push(Record::Sample(answered(
                &facts.case,
                &format!("q{index}"),
                *right,
                1,
            )));
        }
        records.push(end(&facts.case, CaseOutcome::Ok));
    }
    records
}

/// Writes a run folder; its plan is the cases of the records.
pub fn write(folder: &Path, records: &[Record]) {
    let mut writer = RunWriter::create(folder, &planned(records)).unwrap();
    for record in records {
        writer.append(record).unwrap();
    }
}

/// The manifest with the cases of the records as its plan.
pub fn planned(records: &[Record]) -> Manifest {
    let mut manifest = manifest();
    for record in records {
        let case = match record {
            Record::Case(facts) => &facts.case,
            Record::CaseEnd(end) => &end.case,
            _ => continue,
        };
        if !manifest.plan.contains(case) {
            manifest.plan.push(case.clone());
        }
    }
    manifest
}

/// The quickstart with the machine's peak, for everything that a page can show.
pub fn explored_records() -> Vec<Record> {
    let mut records = quickstart_records();
    records.push(Record::Peak(peak()));
    records
}

/// The same, each case in one launch that took 50 W, but for the first, whose window was too short.
pub fn metered_records() -> Vec<Record> {
    let mut records = explored_records();
    for (index, (encoder, resolution, _, encode, prefill)) in LATENCY_CASES.into_iter().enumerate()
    {
        let seconds = 7.0 * (encode + prefill) as f64 / 1e3;
        let joules = match index {
            0 => Err("the window was too short".to_owned()),
            _ => Ok(BTreeMap::from([
                ("package-0".into(), 40.0 * seconds),
                ("package-0/dram".into(), 10.0 * seconds),
            ])),
        };
        let case = case_id(encoder, resolution);
        records.push(Record::Launch(launch(
            &case,
            0,
            Some(energy(seconds, joules)),
        )));
    }
    records
}

/// Energy of seven requests.
pub fn energy(seconds: f64, joules: Result<BTreeMap<String, f64>, String>) -> Energy {
    Energy {
        seconds,
        requests: 7,
        device: joules.into(),
        host: None,
    }
}

/// A launch without noise.
pub fn launch(case: &str, launch: u32, energy: Option<Energy>) -> Launch {
    Launch {
        case: case.into(),
        launch,
        noise: Noise::default(),
        energy,
    }
}

/// A peak of round numbers, on as many threads as the cases have.
pub fn peak() -> Peak {
    Peak {
        device: "cpu".into(),
        threads: 2,
        f32_flops: 400e9,
        bf16_flops: Some(800e9),
        f32_product_flops: 380e9,
        bf16_product_flops: 700e9,
        read_bytes: 20e9,
        copy_bytes: 18e9,
        waited: Some(0.0),
    }
}
