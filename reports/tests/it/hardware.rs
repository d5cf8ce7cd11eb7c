//! Runs of several machines: what becomes a row, what stands apart, and what follows from known peaks.

use std::{collections::BTreeMap, fs, path::Path};

use serde_json::{Value, json};
use tempfile::{TempDir, tempdir};
use vlmbench_reports::{
    Error,
    hardware::{Hardware, Throughput},
    record::*,
    report::{Report, ReportFiles},
    summary::Figure,
};

use crate::synthetic::*;

/// A run that is not written yet.
#[derive(Clone)]
struct Setup {
    manifest: Manifest,
    records: Vec<Record>,
}

impl Setup {
    /// Two recipes on a CPU; encode and prefill take `1 / speed` of the first machine's time, as TPOT does.
    fn of(cpu: &str, speed: u64) -> Self {
        let mut manifest = manifest();
        manifest.machine.cpu_model = Some(cpu.into());
        manifest.experiment = json!({
            "latency": {"image": {"width": 1024, "height": 768}, "prompt_tokens": 64, "decode_tokens": 3},
            "definitions": {"models": {"fastvithd-qwen2": {"recipe": {
                "origin": "here",
                "file": {"about": "a model", "encoder": "fastvithd", "weights": {"folder": "/a"}},
            }}}},
        });
        manifest.experiment_digest = experiment_digest(&manifest.experiment);
        let mut records = Vec::new();
        for (resolution, tokens, encode, prefill) in [(256, 16, 160, 400), (512, 64, 660, 520)] {
            let mut facts = facts("fastvithd", resolution, tokens);
            let decode = facts.stages.get_mut("decode").unwrap();
            decode.bytes = Some(250_000_000);
            let case = facts.case.clone();
            records.push(Record::Case(facts));
            for iteration in 0..7 {
                let mut sample = repetition(&case, iteration, encode / speed, prefill / speed);
                sample
                    .stages
                    .decode_ns
                    .iter_mut()
                    .for_each(|ns| *ns /= speed);
                records.push(Record::Latency(sample));
            }
            records.push(end(&case, CaseOutcome::Ok));
        }
        Self { manifest, records }
    }

    /// With the measured peak of two threads.
    fn peak(mut self, product: f64, read: f64) -> Self {
        self.records.push(Record::Peak(Peak {
            device: "cpu".into(),
            threads: 2,
            f32_flops: 1.1 * product,
            bf16_flops: None,
            f32_product_flops: product,
            bf16_product_flops: product / 2.0,
            read_bytes: read,
            copy_bytes: read,
            waited: Some(0.0),
        }));
        self
    }

    fn facts(&mut self) -> impl Iterator<Item = &mut CaseFacts> {
        self.records.iter_mut().filter_map(|record| match record {
            Record::Case(facts) => Some(facts),
            _ => None,
        })
    }

    /// The same with the facts of the first case changed.
    fn with(mut self, change: impl FnOnce(&mut CaseFacts)) -> Self {
        change(self.facts().next().unwrap());
        self
    }

    fn with_manifest(mut self, change: impl FnOnce(&mut Manifest)) -> Self {
        change(&mut self.manifest);
        self
    }

    /// On as many threads, which are part of the column and not of the case's id.
    fn on_threads(mut self, threads: u32) -> Self {
        self.facts()
            .for_each(|facts| facts.used.threads = Some(threads));
        self
    }

    fn write(&self, folder: &Path) {
        let mut manifest = self.manifest.clone();
        manifest.plan = planned(&self.records).plan;
        let mut writer = RunWriter::create(folder, &manifest).unwrap();
        self.records
            .iter()
            .for_each(|record| writer.append(record).unwrap());
    }
}

fn slow() -> Setup {
    Setup::of("Slow CPU", 1).peak(400e9, 10e9)
}

/// Four times the arithmetic and twice the memory, but only twice as fast.
fn fast() -> Setup {
    Setup::of("Fast CPU", 2).peak(1600e9, 20e9)
}

fn report(setups: &[Setup]) -> Report {
    let folders: Vec<TempDir> = setups.iter().map(|_| tempdir().unwrap()).collect();
    for (setup, folder) in setups.iter().zip(&folders) {
        setup.write(folder.path());
    }
    let mut report = Report::read(&folders).unwrap();
    // Folders have names of their own in every test run.
    for (index, run) in report.runs.iter_mut().enumerate() {
        run.folder = format!("runs/{}", index + 1).into();
    }
    report
}

/// All tables and notes.
fn page(hardware: &Hardware<'_>) -> String {
    let mut page = String::new();
    for section in hardware.sections() {
        page.push_str(&format!(
            "## {}\n\n{}\n",
            section.title,
            section.table.to_markdown()
        ));
    }
    hardware
        .notes()
        .iter()
        .for_each(|note| page.push_str(&format!("- {note}\n")));
    page
}

#[test]
fn shares_and_ratios_follow_from_known_peaks() {
    let report = report(&[slow(), fast()]);
    let hardware = Hardware::of(&report).unwrap();
    assert_eq!((hardware.machines.len(), hardware.recipes.len()), (2, 2));
    assert_eq!(hardware.apart, []);
    let [first, second] = hardware.recipes[0].cells[..] else {
        panic!("two cells")
    };
    let close = |found: Option<f64>, expected: f64| {
        let found = found.expect("a value");
        assert!(
            (found / expected - 1.0).abs() < 1e-9,
            "{found} for {expected}"
        );
    };
    // The median repetition takes 6 % more than the first. FLOPs are those of the synthetic facts.
    close(first.share(Figure::Encode), 29.6e9 / (1.06 * 0.160) / 400e9);
    close(first.share(Figure::Prefill), 60e9 / (1.06 * 0.400) / 400e9);
    close(
        first.share(Figure::TtftPaper),
        89.6e9 / (1.06 * 0.560) / 400e9,
    );
    close(first.share(Figure::Tpot), 0.25e9 / 0.050 / 10e9);
    // Twice as fast with four times the arithmetic: half of the share. With memory twice as fast: the same.
    for (figure, over_limits) in [
        (Figure::Encode, 2.0),
        (Figure::TtftPaper, 2.0),
        (Figure::Tpot, 1.0),
    ] {
        close(second.ratio(&first, figure), 0.5);
        close(second.ratio_over_limits(&first, figure), over_limits);
        close(
            second.share(figure),
            first.share(figure).unwrap() / over_limits,
        );
    }
    close(Throughput::VisualTokens.of(&first), 16.0 / (1.06 * 0.160));
    close(Throughput::PromptTokens.of(&first), 80.0 / (1.06 * 0.400));
    close(Throughput::DecodeTokens.of(&second), 40.0);
    close(
        Throughput::FirstTokens.of(&first),
        1.0 / (1.06 * 0.560 + 0.005),
    );
}

#[test]
fn tables_of_three_machines() {
    let passport = |machine: &mut Machine| {
        machine.caches = vec![
            Cache {
                level: 1,
                kind: "data".into(),
                bytes: 48 << 10,
                shared_by: Some(1),
            },
            Cache {
                level: 3,
                kind: "unified".into(),
                bytes: 36 << 20,
                shared_by: Some(16),
            },
        ];
        machine.base_clock_mhz = Some(2100);
        machine.max_clock_mhz = Some(3500);
        machine.governor = Some("powersave".into());
        machine.container_cores = Some(1.5);
        machine.gpus = vec![Gpu {
            name: "Example GPU".into(),
            driver: Some("550.1".into()),
            memory_bytes: Some(16 << 30),
            cuda_driver: Some("12.4".into()),
            compute_capability: Some("9.0".into()),
            max_sm_clock_mhz: Some(1980),
            max_memory_clock_mhz: Some(2619),
            power_limit_watts: Some(700.0),
            bus_id: Some("0000:01:00.0".into()),
            ..Gpu::default()
        }];
    };
    let fast = fast().with_manifest(|m| {
        passport(&mut m.machine);
        m.tool.revision = Some("4567def".into());
    });
    let mut other = Setup::of("Other CPU", 1).with(|facts| {
        facts.weights = Weights::Seeded { seed: 8 };
        facts.prompt_tokens = Some(32);
    });
    other.facts().for_each(|facts| {
        facts.used.engine = Some("candle 0.12".into());
        facts.used.simd = vec!["avx512".into()];
    });
    let report = report(&[slow(), fast, other]);
    let hardware = Hardware::of(&report).unwrap();
    insta::assert_snapshot!("hardware", page(&hardware));
}

#[test]
fn energy_stands_beside_times_where_a_column_has_it() {
    let metered = |setup: Setup, joules: f64| {
        let mut setup = setup;
        for resolution in [256, 512] {
            let joules = Ok(BTreeMap::from([("package-0".into(), joules)]));
            let launched = launch(
                &case_id("fastvithd", resolution),
                0,
                Some(energy(2.0, joules)),
            );
            setup.records.push(Record::Launch(launched));
        }
        setup
    };
    let shown = |report: &Report| {
        let hardware = Hardware::of(report).unwrap();
        let text = hardware.comparison().to_text(400);
        let frame = hardware.frame().unwrap();
        let column = frame.column("energy_median_j").ok();
        (text, column.map(|c| c.null_count()))
    };
    let (text, nulls) = shown(&report(&[metered(slow(), 140.0), fast()]));
    assert!(
        text.contains("J/request") && text.contains("20.0"),
        "{text}"
    );
    assert!(!text.contains("host J/request"), "{text}");
    // Two recipes, and the other machine has none.
    assert_eq!(nulls, Some(2));
    let (text, nulls) = shown(&report(&[slow(), fast()]));
    assert!(!text.contains("J/request"), "{text}");
    assert_eq!(nulls, None);
}

#[test]
fn what_differs_is_named_and_not_merged() {
    type Change = fn(&mut Setup);
    let changes: [(&str, Change); 12] = [
        ("weights", |s| {
            s.facts()
                .for_each(|f| f.weights = Weights::Seeded { seed: 8 })
        }),
        ("FLOPs of encode", |s| {
            s.facts()
                .for_each(|f| f.stages.get_mut("encode").unwrap().flops += 1);
        }),
        ("bytes of decode", |s| {
            s.facts()
                .for_each(|f| f.stages.get_mut("decode").unwrap().bytes = None);
        }),
        ("parameters of encoder", |s| {
            s.facts()
                .for_each(|f| f.components.get_mut("encoder").unwrap().parameters += 1);
        }),
        ("prompt tokens", |s| {
            s.facts().for_each(|f| f.prompt_tokens = Some(32))
        }),
        ("visual tokens", |s| {
            s.facts().for_each(|f| f.visual_tokens = Some(9))
        }),
        ("element type", |s| {
            s.facts().for_each(|f| f.used.dtype = "int8".into())
        }),
        ("tool version", |s| s.manifest.tool.version = "0.2.0".into()),
        ("image", |s| {
            s.manifest.experiment["latency"]["image"]["width"] = 512.into()
        }),
        ("decode tokens", |s| {
            s.manifest.experiment["latency"]["decode_tokens"] = 16.into()
        }),
        ("recipe: tiles", |s| {
            recipe(s)["tiles"] = json!({"encode": "batched"})
        }),
        ("recipe: encoder", |s| {
            recipe(s)["encoder"] = "another".into()
        }),
    ];
    for (key, change) in changes {
        let mut other = fast();
        change(&mut other);
        let report = report(&[slow(), other]);
        let hardware = Hardware::of(&report).unwrap();
        assert!(hardware.recipes.is_empty(), "{key}");
        let keys: Vec<&str> = hardware
            .apart
            .iter()
            .map(|apart| apart.key.as_str())
            .collect();
        assert_eq!(keys, [key, key], "once for each recipe");
        let apart = &hardware.apart[0];
        assert_eq!(
            (apart.column.as_str(), apart.recipe.as_str()),
            ("B", "fastvithd-qwen2 256 px, f32")
        );
        let (other, there) = apart.other.as_ref().unwrap();
        assert_eq!(other, "A");
        assert_ne!(*there, apart.value, "{key}");
    }
}

fn recipe(setup: &mut Setup) -> &mut Value {
    &mut setup.manifest.experiment["definitions"]["models"]["fastvithd-qwen2"]["recipe"]["file"]
}

#[test]
fn what_decides_nothing_may_differ() {
    let checkpoint = |folder: &str| Weights::Checkpoint {
        origin: folder.into(),
        digests: [(format!("{folder}/model.safetensors"), "sha256:00ff".into())].into(),
    };
    let mut here = slow();
    here.facts()
        .for_each(|facts| facts.weights = checkpoint("/here"));
    let mut there = fast();
    there.facts().for_each(|facts| {
        facts.weights = checkpoint("/there");
        facts.used.engine = Some("candle 0.12".into());
    });
    recipe(&mut there)["about"] = "the same in other words".into();
    recipe(&mut there)["weights"] = json!({"folder": "/there"});
    there.manifest.tool.revision = None;
    there.manifest.started_at = "2026-12-01T00:00:00Z".into();
    let report = report(&[here, there]);
    let hardware = Hardware::of(&report).unwrap();
    assert_eq!(hardware.recipes.len(), 2, "{:?}", hardware.apart);
    // But it is told.
    let notes = hardware.notes().join("\n");
    assert!(
        notes.contains("the tool differs") && notes.contains("unknown revision"),
        "{notes}"
    );
    assert!(
        notes.contains("candle 0.11 on A; candle 0.12 on B"),
        "{notes}"
    );
}

#[test]
fn a_recipe_that_one_of_three_machines_lacks_is_a_row_of_two() {
    let odd = Setup::of("Odd CPU", 1).with(|facts| facts.prompt_tokens = Some(32));
    let report = report(&[odd, slow(), fast()]);
    let hardware = Hardware::of(&report).unwrap();
    let cells: Vec<usize> = hardware
        .recipes
        .iter()
        .map(|recipe| recipe.cells.len())
        .collect();
    assert_eq!(cells, [2, 3]);
    let [apart] = &hardware.apart[..] else {
        panic!("{:?}", hardware.apart)
    };
    // The odd one out is what is listed, whichever run was given first.
    assert_eq!((apart.column.as_str(), apart.value.as_str()), ("A", "32"));
    assert_eq!(apart.other, Some(("B".into(), "64".into())));
}

/// The run with its first case measured once more, as the side of a claim that has a latency workload of its own.
fn with_claim(mut setup: Setup, latency: Value) -> Setup {
    let first = case_id("fastvithd", 256);
    let again = |case: &mut String| {
        let is_first = *case == first;
        *case = case.replace("latency/", "85x/");
        is_first
    };
    let copies: Vec<Record> = (setup.records.iter().cloned())
        .filter_map(|mut record| {
            let kept = match &mut record {
                Record::Case(facts) => again(&mut facts.case),
                Record::Latency(sample) => again(&mut sample.case),
                Record::CaseEnd(end) => again(&mut end.case),
                _ => false,
            };
            kept.then_some(record)
        })
        .collect();
    setup.records.extend(copies);
    let side = json!({"case": first.replace("latency/", "85x/"), "published_ms": {}});
    setup.manifest.experiment["claims"] = json!([{"claim": "85x", "latency": latency}]);
    setup.manifest.experiment["definitions"]["claims"] = json!([{
        "claim": "85x", "about": "", "figure": "ttft", "baseline": side, "contender": side, "source": "",
    }]);
    setup
}

#[test]
fn a_claim_with_a_workload_of_its_own_is_a_row_of_its_own() {
    let latency = json!({"image": {"width": 512, "height": 512}, "decode_tokens": 3});
    let report = report(&[slow(), fast()].map(|setup| with_claim(setup, latency.clone())));
    let hardware = Hardware::of(&report).unwrap();
    let labels: Vec<&str> = hardware.recipes.iter().map(|r| r.label.as_str()).collect();
    let expected = [
        "fastvithd-qwen2 256 px, f32, image 1024x768",
        "fastvithd-qwen2 256 px, f32, image 512x512",
        "fastvithd-qwen2 512 px, f32",
    ];
    assert_eq!(labels, expected);
    assert_eq!(hardware.apart, []);
}

#[test]
fn a_recipe_that_a_run_measured_twice_is_counted_once_and_told() {
    let same = slow().manifest.experiment["latency"].clone();
    let report = report(&[with_claim(slow(), same), fast()]);
    let hardware = Hardware::of(&report).unwrap();
    let cells: Vec<usize> = hardware.recipes.iter().map(|r| r.cells.len()).collect();
    assert_eq!(cells, [2, 2]);
    let [apart] = &hardware.apart[..] else {
        panic!("{:?}", hardware.apart)
    };
    assert_eq!(apart.key, "measured twice");
    assert!(apart.value.starts_with("85x/"), "{apart:?}");
}

#[test]
fn one_way_of_running_is_no_comparison() {
    assert!(Hardware::of(&report(&[slow()])).is_none());
    // The same machine, measured again.
    assert!(Hardware::of(&report(&[slow(), slow()])).is_none());
    let both = report(&[slow(), slow().on_threads(1)]);
    let hardware = Hardware::of(&both).unwrap();
    let labels: Vec<&str> = hardware.columns.iter().map(|c| c.label.as_str()).collect();
    assert_eq!(labels, ["A · 2 threads", "A · 1 thread"]);
    assert_eq!(hardware.machines.len(), 1);
    // The peak of two threads is none of one.
    let [two, one] = hardware.recipes[0].cells[..] else {
        panic!("two cells")
    };
    assert!(two.share(Figure::Encode).is_some() && one.share(Figure::Encode).is_none());
    let notes = hardware.notes().join("\n");
    assert!(notes.contains("`vlmbench peak runs/2`"), "{notes}");
}

#[test]
fn runs_of_one_machine_stand_side_by_side_and_share_its_peak() {
    let mut again = slow();
    again
        .records
        .retain(|record| !matches!(record, Record::Peak(_)));
    let report = report(&[slow(), fast(), again]);
    let hardware = Hardware::of(&report).unwrap();
    let labels: Vec<&str> = hardware.columns.iter().map(|c| c.label.as_str()).collect();
    assert_eq!(labels, ["A · run 1", "A · run 3", "B"]);
    let [first, again, _] = hardware.recipes[0].cells[..] else {
        panic!("three cells")
    };
    assert_eq!(again.share(Figure::Encode), first.share(Figure::Encode));
}

#[test]
fn the_peak_of_the_cpu_is_no_limit_of_another_device() {
    let mut gpu = fast();
    gpu.facts()
        .for_each(|facts| facts.labels.device = "cuda:0".into());
    let report = report(&[slow(), gpu]);
    let hardware = Hardware::of(&report).unwrap();
    assert_eq!(hardware.columns[1].label, "B · cuda:0");
    let cell = hardware.recipes[0].cells[1];
    assert_eq!(cell.share(Figure::Prefill), None);
    assert_eq!(hardware.notes(), Vec::<String>::new());
}

#[test]
fn a_case_that_failed_is_not_compared() {
    let mut other = fast();
    for record in &mut other.records {
        if let Record::CaseEnd(end) = record
            && end.case == case_id("fastvithd", 512)
        {
            end.outcome = CaseOutcome::Failed {
                stage: "encode".into(),
                error: "out of memory".into(),
            };
        }
    }
    let report = report(&[slow(), other]);
    let hardware = Hardware::of(&report).unwrap();
    assert_eq!(hardware.recipes.len(), 1);
    assert_eq!(hardware.apart[0].key, "measured nowhere else");
}

#[test]
fn a_report_of_several_machines_has_their_table_and_picture() {
    let written = |setups: &[Setup]| -> Result<(ReportFiles, TempDir), Error> {
        let out = tempdir().unwrap();
        let files = report(setups).write(out.path())?;
        Ok((files, out))
    };
    let (files, out) = written(&[slow(), fast()]).unwrap();
    let csv = fs::read_to_string(files.tables.join("hardware.csv")).unwrap();
    assert_eq!(csv.lines().count(), 1 + 4);
    let header = csv.lines().next().unwrap();
    for column in [
        "machine",
        "encode_median_ms",
        "ttft.paper_share",
        "tpot_times_first_over_limits",
    ] {
        assert!(
            header.split(',').any(|name| name == column),
            "{column} in {header}"
        );
    }
    let svg = fs::read_to_string(out.path().join("hardware.svg")).unwrap();
    for text in [
        "The same recipes on 2 machines",
        "A: Slow CPU",
        "B: Fast CPU",
        "fastvithd-qwen2 512 px, f32",
    ] {
        assert!(svg.contains(text), "{text}");
    }
    let markdown = fs::read_to_string(&files.markdown).unwrap();
    assert!(markdown.contains("(hardware.svg)") && markdown.contains("## Machines side by side"));
    // Nothing of it for one machine.
    let (files, out) = written(&[slow()]).unwrap();
    assert!(!files.tables.join("hardware.csv").exists());
    assert!(!out.path().join("hardware.svg").exists());
}

#[test]
fn the_picture_leaves_out_what_has_no_peak() {
    let strip = |mut setup: Setup| {
        setup
            .records
            .retain(|record| !matches!(record, Record::Peak(_)));
        setup
    };
    let report = report(&[strip(slow()), strip(fast())]);
    let plot = Hardware::of(&report).unwrap().picture();
    assert_eq!(plot.panels.len(), 1);
    assert!(plot.subtitle.contains("no peak"), "{}", plot.subtitle);
    assert_eq!(plot.panels[0].dots.len(), 4);
    let values: Vec<(usize, usize, f64)> = plot.panels[0]
        .dots
        .iter()
        .map(|d| (d.row, d.line, d.value))
        .collect();
    assert_eq!(values[0], (0, 0, 1.06 * 560.0));
}
