//! A paper's tables beside a synthetic run: what is found for a row, and what is said of it.

use std::collections::BTreeMap;

use serde_json::json;
use tempfile::tempdir;
use vlmbench_reports::{
    claims::{Claim, ClaimFigure, ClaimSide},
    pack::{self, Findings, Held, Pack, Verdict},
    record::{CaseFacts, CaseOutcome, LatencySample, Record, Weights},
    report::Report,
    stats::Interval,
};

use crate::synthetic::*;

fn report(runs: &[&[Record]]) -> Report {
    let folder = tempdir().unwrap();
    let folders: Vec<_> = (0..runs.len())
        .map(|i| folder.path().join(format!("run-{i}")))
        .collect();
    for (records, folder) in runs.iter().zip(&folders) {
        write(folder, records);
    }
    Report::read(&folders).unwrap()
}

/// A pack of `tables`, in YAML.
fn packed(tables: &str) -> Pack {
    let text = format!(
        "id: mine\ntitle: A paper\nurl: https://example.org\npublished: fastvlm\ntolerance: 1.25\n\
         metrics:\n  TextVQA: {{suite: textvqa, profile: lmms@0.2.2}}\ntables:\n{tables}"
    );
    serde_yaml::from_str(&text).unwrap()
}

const TABLE_1: &str = "
- name: Table 1
  about: two encoders
  experiment: paper/table-1
  figures: [encode]
  rows:
  - {series: avg5-vicuna-7b, variant: encoder fine-tuned in stage 2, table: Table 1, not_comparable: it is the same network}
  - {series: avg5-vicuna-7b, table: Table 1, encoder: ViT-L/14, reference: true}
  - {series: avg5-vicuna-7b, table: Table 1}
";

fn held(tables: &str, runs: &[&[Record]]) -> Findings {
    let pack = packed(tables);
    pack.check(&fastvlm()).unwrap();
    pack::hold(&pack, &fastvlm(), &[], &report(runs)).unwrap()
}

/// Verdicts of the only block of the only table, by row.
fn verdicts(held: &Held) -> BTreeMap<&str, String> {
    let [block] = held.blocks.as_slice() else {
        panic!("{:?}", held.blocks)
    };
    let rows = block.rows.iter();
    rows.map(|r| (r.row.as_str(), r.verdict.to_string()))
        .collect()
}

#[test]
fn a_ratio_is_judged_by_its_factor_to_the_published_one_and_by_its_side_of_1() {
    let of = |ours, theirs| Verdict::of_ratio(ours, theirs, 1.25);
    assert_eq!(of(4.0, 4.0), Verdict::RatioReproduced);
    // A factor, so a fifth less is as far as a quarter more.
    assert_eq!(of(5.0, 4.0), Verdict::RatioReproduced);
    assert_eq!(of(3.2, 4.0), Verdict::RatioReproduced);
    assert_eq!(of(5.1, 4.0), Verdict::OrderingOnly);
    assert_eq!(of(3.1, 4.0), Verdict::OrderingOnly);
    assert_eq!(of(0.9, 4.0), Verdict::RatioDiffers);
    // Near 1 the sides are near, too: what is within the tolerance is reproduced on either.
    assert_eq!(of(0.95, 1.1), Verdict::RatioReproduced);
    // A ratio of 1 has no side.
    assert_eq!(of(1.5, 1.0), Verdict::RatioDiffers);
}

#[test]
fn an_accuracy_is_reproduced_if_the_published_one_lies_in_its_interval() {
    let interval = Some(Interval {
        low: 60.0,
        high: 70.0,
        confidence: 0.95,
    });
    assert_eq!(Verdict::of_score(65.0, interval, 60.0), Verdict::Reproduced);
    let off = Verdict::of_score(65.0, interval, 70.5);
    assert_eq!(off, Verdict::Differs { points: -5.5 });
    assert_eq!(off.to_string(), "differs by -5.5");
    assert_eq!(
        Verdict::of_score(65.0, None, 65.5),
        Verdict::Differs { points: -0.5 }
    );
}

#[test]
fn rows_find_their_cases_and_ratios_are_taken_against_the_reference() {
    let findings = held(TABLE_1, &[&quickstart_records()]);
    let block = &findings.tables[0].blocks[0];
    let row = |name: &str| block.rows.iter().find(|r| r.row == name).unwrap();
    let fast = row("FastViT 768 px · 576 tok · Vicuna-7B");
    // The quickstart has other decoders; of an encoder that is the same with as many visual tokens.
    assert_eq!(
        fast.case.as_deref(),
        Some(case_id("fastvit-mci2", 768).as_str())
    );
    assert_eq!(fast.theirs_ratio, Some(127.4 / 34.5));
    // Medians are of iteration 3: 6 % more than the first.
    let close = |a: Option<f64>, b: f64| assert!((a.unwrap() - b).abs() < 1e-9, "{a:?} {b}");
    close(fast.ours_ratio, 2100.0 / 980.0);
    close(fast.of_ratios, (2100.0 / 980.0) / (127.4 / 34.5));
    // Seven repetitions: from smallest to largest, 0 to 12 % more.
    let (low, high) = fast.range.unwrap();
    close(Some(low), 2100.0 / (980.0 * 1.12));
    close(Some(high), 2100.0 * 1.12 / 980.0);
    close(fast.by_flops, 1.0);
    assert_eq!((&fast.verdict, fast.sure), (&Verdict::OrderingOnly, true));
    // 2100 / 110 is 19 against 42; both rows are on the published side, and their order, too.
    assert_eq!(
        row("FastViT 256 px · 64 tok · Vicuna-7B").verdict,
        Verdict::OrderingOnly
    );
    assert_eq!(
        row("ViT-L/14 336 px · 576 tok · Vicuna-7B").verdict,
        Verdict::Reference
    );
    let other =
        &row("ViT-L/14 336 px · 576 tok · Vicuna-7B (encoder fine-tuned in stage 2)").verdict;
    assert_eq!(other.to_string(), "not comparable: it is the same network");
    assert_eq!((block.pairs, block.same_order, block.unsure), (3, 3, 0));
}

#[test]
fn a_verdict_that_the_range_does_not_bear_out_is_not_sure() {
    let mut records = quickstart_records();
    // 2100 / 700 = 3.0 lies within a quarter of 3.69; the slowest repetition's ratio does not.
    slowed(&mut records, "fastvit-mci2", 768, 700.0 / 980.0);
    let findings = held(TABLE_1, &[&records]);
    let rows = &findings.tables[0].blocks[0].rows;
    let row = rows
        .iter()
        .find(|r| r.row == "FastViT 768 px · 576 tok · Vicuna-7B");
    let row = row.unwrap();
    assert_eq!((&row.verdict, row.sure), (&Verdict::RatioReproduced, false));
    assert!(row.range.unwrap().0 < 3.69 / 1.25);
}

/// Changes the encoder's times of a case by a factor.
fn slowed(records: &mut [Record], encoder: &str, resolution: u32, factor: f64) {
    let case = case_id(encoder, resolution);
    for record in records {
        if let Record::Latency(LatencySample {
            case: of, stages, ..
        }) = record
            && *of == case
        {
            let ns = stages.encode_ns.unwrap() as f64;
            stages.encode_ns = Some((ns * factor) as u64);
        }
    }
}

#[test]
fn an_order_other_than_the_published_one_is_counted() {
    let mut records = quickstart_records();
    // FastViT at 768 px slower than ViT-L/14: on the other side of the reference.
    slowed(&mut records, "fastvit-mci2", 768, 3.0);
    let findings = held(TABLE_1, &[&records]);
    let block = &findings.tables[0].blocks[0];
    assert_eq!((block.pairs, block.same_order), (3, 2));
    let said = verdicts(&findings.tables[0]);
    assert_eq!(
        said["FastViT 768 px · 576 tok · Vicuna-7B"],
        "ratio differs"
    );
}

#[test]
fn what_no_run_has_names_the_experiment_that_measures_it() {
    let without = |encoder: &str| {
        let mut records = quickstart_records();
        records.retain(|record| match record {
            Record::Case(facts) => facts.labels.encoder != encoder,
            _ => true,
        });
        records
    };
    let findings = held(TABLE_1, &[&without("fastvit-mci2")]);
    let said = verdicts(&findings.tables[0]);
    let expected = "not measured: run paper/table-1";
    assert_eq!(said["FastViT 768 px · 576 tok · Vicuna-7B"], expected);
    assert_eq!(said["ViT-L/14 336 px · 576 tok · Vicuna-7B"], "reference");
    let findings = held(TABLE_1, &[&without("clip-vit-l-14")]);
    let said = verdicts(&findings.tables[0]);
    let expected = "reference not measured: run paper/table-1";
    assert_eq!(said["FastViT 768 px · 576 tok · Vicuna-7B"], expected);
    let nothing = held(TABLE_1, &[&scored_records()]);
    let block = &nothing.tables[0].blocks[0];
    assert_eq!((block.measured(), block.conditions.is_none()), (0, true));
    // What is not measured is in the overview alone.
    let text = pack::terminal(&nothing, 200);
    assert!(text.contains("not measured: run paper/table-1"), "{text}");
    assert!(!text.contains("FastViT 768 px"), "{text}");
}

/// The paper has the same networks under several names; one case does not reproduce two of its rows.
#[test]
fn the_case_of_the_reference_is_nobody_elses() {
    const TABLE_10: &str = "
- name: Table 10
  about: the same networks
  experiment: paper/table-10
  figures: [encode]
  rows:
  - {series: table-10, method: LLaVA-1.5, reference: true}
  - {series: table-10, method: ShareGPT4V}
";
    let findings = held(TABLE_10, &[&quickstart_records()]);
    let said: Vec<String> = verdicts(&findings.tables[0]).into_values().collect();
    assert_eq!(said, ["reference", "not measured: run paper/table-10"]);
}

/// The quickstart in another precision, of some encoders only.
fn part(precision: &str, encoders: &[&str]) -> Vec<Record> {
    let mut records = quickstart_records();
    records.retain(|record| match record {
        Record::Case(facts) => encoders.contains(&facts.labels.encoder.as_str()),
        _ => true,
    });
    for record in &mut records {
        if let Record::Case(facts) = record {
            facts.labels.precision = precision.into();
        }
    }
    records
}

fn conditions(runs: &[Vec<Record>]) -> Vec<String> {
    let runs: Vec<&[Record]> = runs.iter().map(Vec::as_slice).collect();
    let findings = held(TABLE_1, &runs);
    let blocks = findings.tables[0].blocks.iter();
    let conditions = blocks.map(|block| block.conditions.as_ref());
    conditions.map(|c| c.unwrap().to_string()).collect()
}

#[test]
fn a_ratio_is_of_one_run_and_one_precision() {
    let (vit, fast) = ("clip-vit-l-14", "fastvit-mci2");
    // One without the reference has no block beside those that have it.
    let runs = [
        part("f32", &[vit, fast]),
        part("bf16", &[vit, fast]),
        part("f16", &[fast]),
    ];
    let expected = [
        "Example CPU, candle on cpu, f32, 2 threads, run 1",
        "Example CPU, candle on cpu, bf16, 2 threads, run 2",
    ];
    assert_eq!(conditions(&runs), expected);
    // Alone it is all there is.
    let alone = [part("f16", &[fast])];
    assert!(conditions(&alone)[0].contains("f16"));
}

#[test]
fn of_runs_that_are_alike_those_with_most_rows_are_shown() {
    let (vit, fast) = ("clip-vit-l-14", "fastvit-mci2");
    let (whole, some) = (part("f32", &[vit, fast]), part("f32", &[vit]));
    let runs = [some.clone(), whole.clone(), whole, some];
    let shown = conditions(&runs);
    assert_eq!(shown.len(), 2, "{shown:?}");
    assert!(shown[0].ends_with("run 2") && shown[1].ends_with("run 3"));
}

#[test]
fn one_repetition_is_never_sure() {
    let mut records = quickstart_records();
    records.retain(|record| match record {
        Record::Latency(sample) => sample.iteration == 0 && !sample.warm_up,
        _ => true,
    });
    let findings = held(TABLE_1, &[&records]);
    let block = &findings.tables[0].blocks[0];
    let judged = |row: &&pack::Latency| row.verdict == Verdict::OrderingOnly;
    let judged: Vec<_> = block.rows.iter().filter(judged).collect();
    assert_eq!(judged.len(), 2);
    assert!(judged.iter().all(|row| !row.sure && row.range.is_none()));
    assert_eq!((block.pairs, block.same_order, block.unsure), (3, 3, 3));
}

/// Tiles, and fewer tokens, are other things than the whole image at the tile's side.
#[test]
fn another_number_of_visual_tokens_is_another_thing() {
    const TABLE_11: &str = "
- name: Table 11
  about: tiles
  experiment: x
  figures: [ttft]
  rows:
  - {series: table-11, row: R2, reference: true}
  - {series: table-11, row: R4, here: {resolution: 1024}}
";
    let tiled = |tokens: u32, kept: Option<u32>| {
        let facts = CaseFacts {
            case: "latency/tiled/candle-cpu/f32/1024px".into(),
            visual_tokens_kept: kept,
            ..facts("fastvithd", 1024, tokens)
        };
        let mut records = quickstart_records();
        let id = facts.case.clone();
        records.push(Record::Case(facts));
        records.push(Record::Latency(repetition(&id, 0, 13_500, 5_000)));
        records.push(end(&id, CaseOutcome::Ok));
        records
    };
    let case = |records: &[Record]| {
        let findings = held(TABLE_11, &[records]);
        let row = findings.tables[0].blocks[0].rows[1].clone();
        row.case
    };
    assert!(case(&tiled(1280, None)).is_some_and(|case| case.contains("tiled")));
    assert_eq!(case(&tiled(2560, None)), None);
    assert_eq!(case(&tiled(1280, Some(64))), None);
}

const TABLE_6: &str = "
- name: Table 6
  about: accuracies
  scores: paper/table-6
  rows:
  - {series: table-6, row: R5, weights: [fastvithd-qwen2]}
  - {series: table-6, row: R42, weights: [fastvlm-7b]}
";

#[test]
fn accuracies_are_held_to_rows_with_the_same_weights() {
    let findings = held(TABLE_6, &[&scored_records()]);
    let [half, seven] = findings.tables[0].scores.as_slice() else {
        panic!("{:?}", findings.tables[0].scores)
    };
    // Six answers: 59 of 180 points, and an interval that is wide.
    assert!((half.ours.unwrap() - 5900.0 / 180.0).abs() < 1e-9);
    assert_eq!((half.theirs, half.n), (65.8, Some(6)));
    let i = half.interval.unwrap();
    let inside = (i.low..=i.high).contains(&65.8);
    assert_eq!(half.verdict == Verdict::Reproduced, inside);
    assert_eq!(seven.verdict.to_string(), "not measured: run paper/table-6");
    let left_out = &findings.tables[0].left_out;
    assert!(
        left_out[0].starts_with("No suite here asks"),
        "{left_out:?}"
    );
    assert!(left_out[0].contains("MMMU"), "{left_out:?}");
}

#[test]
fn drawn_data_are_not_the_suite() {
    let folder = tempdir().unwrap();
    let records = scored_records();
    let mut manifest = planned(&records);
    manifest.experiment = json!({"quality": {"suites": [{"suite": "textvqa", "data": "synth:6"}]}});
    let mut writer = vlmbench_reports::record::RunWriter::create(folder.path(), &manifest).unwrap();
    for record in &records {
        writer.append(record).unwrap();
    }
    drop(writer);
    let report = Report::read(&[folder.path()]).unwrap();
    let findings = pack::hold(&packed(TABLE_6), &fastvlm(), &[], &report).unwrap();
    let verdict = &findings.tables[0].scores[0].verdict;
    assert!(verdict.to_string().contains("drawn data"), "{verdict}");
}

#[test]
fn seeded_weights_reproduce_no_accuracy() {
    let mut records = scored_records();
    for record in &mut records {
        if let Record::Case(facts) = record {
            facts.weights = Weights::Seeded { seed: 1 };
        }
    }
    let findings = held(TABLE_6, &[&records]);
    let verdict = &findings.tables[0].scores[0].verdict;
    assert_eq!(verdict.name(), "not measured");
}

fn claim(name: &str, baseline_ms: f64) -> Claim {
    let side = |encoder: &str, resolution: u32, ms: f64| ClaimSide {
        case: case_id(encoder, resolution),
        published_ms: BTreeMap::from([("encode".into(), ms)]),
    };
    Claim {
        claim: name.into(),
        about: "one against the other".into(),
        figure: ClaimFigure::Encode,
        baseline: side("clip-vit-l-14", 336, baseline_ms),
        contender: side("fastvit-mci2", 768, 100.0),
        source: "Table 1".into(),
    }
}

#[test]
fn headline_claims_come_from_the_runs_and_their_sides_are_no_rows() {
    let records = quickstart_records();
    let folder = tempdir().unwrap();
    let mut manifest = planned(&records);
    manifest.experiment = json!({"definitions": {"claims": [claim("2x", 200.0)]}});
    let mut writer = vlmbench_reports::record::RunWriter::create(folder.path(), &manifest).unwrap();
    for record in &records {
        writer.append(record).unwrap();
    }
    drop(writer);
    let report = Report::read(&[folder.path()]).unwrap();
    let mut pack = packed(TABLE_1);
    pack.claims = Some("headlines".into());
    let expected = [claim("2x", 200.0), claim("9x", 900.0)];
    let findings = pack::hold(&pack, &fastvlm(), &expected, &report).unwrap();
    let [two, nine] = findings.headlines.as_slice() else {
        panic!("{:?}", findings.headlines)
    };
    // 2100 / 980 of every pair of repetitions, against 2.
    assert_eq!((&two.verdict, two.sure), (&Verdict::RatioReproduced, true));
    assert!((two.of_ratios.unwrap() - 2100.0 / 980.0 / 2.0).abs() < 1e-9);
    assert_eq!(nine.verdict.to_string(), "not measured: run headlines");
    // What alternates with another case is not set against the rest of the table.
    let said = verdicts(&findings.tables[0]);
    assert_eq!(
        said["ViT-L/14 336 px · 576 tok · Vicuna-7B"],
        "not measured: run paper/table-1"
    );
}

#[test]
fn a_pack_that_cannot_be_meant_says_which_table_and_why() {
    let error = |tables: &str| {
        let error = packed(tables).check(&fastvlm()).unwrap_err();
        error.to_string()
    };
    for (table, said) in [
        (
            TABLE_1.replace("series: avg5-vicuna-7b, table: Table 1}", "series: avg6}"),
            "there is no series \"avg6\"",
        ),
        (
            TABLE_1.replace("encoder: ViT-L/14", "encoder: ViT-L/15"),
            "encoder: ViT-L/15` selects no published point",
        ),
        (
            TABLE_1.replace(", reference: true", ""),
            "holds of 0 published points",
        ),
        (
            TABLE_1.replace("[encode]", "[encode, prefill]"),
            "no published prefill",
        ),
        (
            TABLE_1.replace("[encode]", "[]"),
            "expected `rows` and `figures` or `scores`",
        ),
        (
            TABLE_1.replace("  experiment: paper/table-1\n", ""),
            "need the `experiment`",
        ),
        (
            format!("{TABLE_1}  not_comparable: for a reason\n"),
            "leave out `figures`",
        ),
        (format!("{TABLE_1}  tolerance: 0.8\n"), "`tolerance` is 0.8"),
        (format!("{TABLE_1}{TABLE_1}"), "Table 1: is there twice"),
        (
            TABLE_6.replace("  scores: paper/table-6\n", "  figures: [ttft]\n"),
            "`weights` need `scores`",
        ),
    ] {
        let found = error(&table);
        assert!(
            found.starts_with("pack mine: ") && found.contains(said),
            "{found}"
        );
    }
}

#[test]
fn the_findings_as_tables_files_and_json() {
    let tables = format!(
        "{TABLE_1}\n- name: Figure 6\n  about: tiles\n  not_comparable: its coordinates are not printed\n"
    );
    let mut records = quickstart_records();
    slowed(&mut records, "fastvit-mci2", 768, 700.0 / 980.0);
    let report = report(&[&records]);
    let mut pack = packed(&format!("{tables}{TABLE_6}"));
    pack.claims = Some("headlines".into());
    let findings = pack::hold(&pack, &fastvlm(), &[claim("9x", 900.0)], &report).unwrap();
    insta::assert_snapshot!("pack_terminal", pack::terminal(&findings, 160));
    let folder = tempdir().unwrap();
    let files = findings.write(folder.path()).unwrap();
    assert!(files.markdown.ends_with("pack-mine.md"));
    let markdown = std::fs::read_to_string(files.markdown).unwrap();
    insta::assert_snapshot!("pack_markdown", markdown);
    let csv = std::fs::read_to_string(files.csv).unwrap();
    insta::assert_snapshot!("pack_csv", csv);
    let json = serde_json::to_value(&findings).unwrap();
    let row = &json["tables"][0]["blocks"][0]["rows"][2];
    assert_eq!(row["verdict"], json!({"verdict": "ordering_only"}), "{row}");
}
