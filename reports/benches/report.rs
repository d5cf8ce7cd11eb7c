//! A report over a run of 100,000 samples, from folder to files.

use std::{collections::BTreeMap, num::NonZeroU64, path::Path};

use criterion::{Criterion, criterion_group, criterion_main};
use serde_json::json;
use vlmbench_reports::{record::*, report::report};

const CASES: usize = 20;
const SAMPLES: usize = 5_000;
/// Samples of a suite that are kept for the gallery.
const EXHIBITS: usize = 200;

/// Ten models, each timed and scored on two suites: 20 cases of 5,000 samples.
fn write(folder: &Path) {
    let experiment = json!({"about": "a large run"});
    let manifest = Manifest {
        format_version: FORMAT_VERSION,
        tool: Tool {
            name: "vlmbench".into(),
            version: "0.1.0".into(),
            revision: None,
        },
        started_at: "2026-12-01T12:00:00Z".into(),
        experiment_digest: experiment_digest(&experiment),
        experiment,
        plan: Vec::new(),
        machine: Machine::default(),
        digests: BTreeMap::new(),
        notes: Vec::new(),
    };
    let mut writer = RunWriter::create(folder, &manifest).expect("a new folder");
    let mut add = |record| writer.append(&record).expect("it can be written");
    for suite in ["textvqa", "docvqa"] {
        for sample in 0..EXHIBITS {
            add(Record::Exhibit(Exhibit {
                suite: suite.into(),
                profile: "profile".into(),
                sample: format!("sample-{sample}"),
                question: format!("What is asked in {sample}?"),
                references: vec![format!("answer {sample}")],
                images: vec![format!("gallery/{sample}.jpg")],
            }));
        }
    }
    for model in 0..CASES / 2 {
        let facts = |case: String, suite: Option<&str>| CaseFacts {
            case,
            workload: match suite {
                Some(_) => Workload::Quality,
                None => Workload::EndToEndLatency,
            },
            labels: Labels {
                model: format!("model-{model}"),
                encoder: "encoder".into(),
                decoder: Some("decoder".into()),
                suite: suite.map(str::to_owned),
                profile: suite.map(|_| "profile".to_owned()),
                backend: "candle".into(),
                device: "cpu".into(),
                precision: "f32".into(),
                resolution: 128,
                blind: false,
            },
            weights: Weights::Checkpoint {
                origin: "files".into(),
                digests: BTreeMap::new(),
            },
            visual_tokens: Some(16),
            visual_tokens_kept: None,
            prompt_tokens: None,
            components: BTreeMap::new(),
            stages: BTreeMap::new(),
            activation_peak_bytes: None,
            used: Used {
                device: "cpu".into(),
                dtype: "f32".into(),
                threads: Some(2),
                ..Used::default()
            },
        };
        let timed = format!("latency/model-{model}");
        add(Record::Case(facts(timed.clone(), None)));
        for iteration in 0..20 {
            add(Record::Latency(LatencySample {
                case: timed.clone(),
                launch: 0,
                iteration,
                warm_up: false,
                stages: StageTimes {
                    encode_ns: Some(1_000_000 * (model as u64 + 1) + u64::from(iteration)),
                    prefill_ns: Some(2_000_000),
                    ..StageTimes::default()
                },
                ttft_user_ns: Some(4_000_000),
            }));
        }
        add(end(&timed));
        for suite in ["textvqa", "docvqa"] {
            let case = format!("{suite}/model-{model}");
            add(Record::Case(facts(case.clone(), Some(suite))));
            for sample in 0..SAMPLES {
                add(Record::Sample(answer(&case, sample, model)));
            }
            add(end(&case));
        }
    }
}

fn end(case: &str) -> Record {
    Record::CaseEnd(CaseEnd {
        case: case.into(),
        outcome: CaseOutcome::Ok,
        peak_rss_bytes: Some(1 << 30),
        peak_device_bytes: None,
        ended_at: "2026-12-01T12:00:00Z".into(),
    })
}

fn answer(case: &str, sample: usize, model: usize) -> SampleRecord {
    SampleRecord {
        case: case.into(),
        sample: format!("sample-{sample}"),
        images: Some(format!("{:016x}", sample / 2)),
        outcome: SampleOutcome::Ok(Answer {
            response: format!("an answer of some length to question {sample}"),
            finish_reason: FinishReason::Stop,
            tokens: TokenCounts::default(),
            extraction: Extraction::Parsed {
                answer: format!("answer {sample}"),
            },
            score: Score {
                numerator: i64::from((sample * 7 + model) % 10 < 6),
                denominator: NonZeroU64::MIN,
            },
            stages: StageTimes {
                encode_ns: Some(1_000_000),
                prefill_ns: Some(2_000_000),
                decode_ns: vec![500_000; 5],
                ..StageTimes::default()
            },
        }),
    }
}

fn large_run(c: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder for the run");
    write(folder.path());
    let mut group = c.benchmark_group("report");
    group.sample_size(10);
    group.bench_function("100000-samples", |b| {
        b.iter(|| report(&[folder.path()], folder.path()).expect("a report"));
    });
    group.finish();
}

criterion_group!(benches, large_run);
criterion_main!(benches);
