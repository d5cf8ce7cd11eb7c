//! The run folder: round trips, kills at any byte, locks, strangers.

use std::fs;

use tempfile::tempdir;
use vlmbench_reports::{Error, record::*};

use crate::synthetic::*;

fn peak(threads: u32, product: f64) -> Record {
    Record::Peak(Peak {
        device: "cpu".into(),
        threads,
        f32_flops: 1e11,
        bf16_flops: None,
        f32_product_flops: product,
        bf16_product_flops: product,
        read_bytes: 1e10,
        copy_bytes: 2e10,
        waited: None,
    })
}

fn all_records() -> Vec<Record> {
    let mut records = quickstart_records();
    records.push(peak(2, 9e10));
    records.extend(scored_records());
    let skipped = CaseOutcome::Skipped {
        reason: "not asked".into(),
    };
    records.push(end("skipped", skipped));
    records
}

#[test]
fn every_record_survives_a_round_trip() {
    for record in all_records() {
        let line = serde_json::to_string(&record).unwrap();
        assert!(!line.contains('\n'));
        assert_eq!(serde_json::from_str::<Record>(&line).unwrap(), record);
    }
    let folder = tempdir().unwrap();
    write(folder.path(), &all_records());
    let read = Manifest::read(folder.path()).unwrap();
    assert_eq!(read, planned(&all_records()));
}

#[test]
fn unknown_keys_and_kinds_are_ignored() {
    let folder = tempdir().unwrap();
    write(folder.path(), &scored_records()[..1]);
    let path = folder.path().join(RECORDS_FILE);
    let mut log = fs::read_to_string(&path)
        .unwrap()
        .replacen('{', r#"{"colour":"red","#, 1);
    log.push_str("{\"kind\":\"energy\",\"joules\":3.5,\"nested\":{\"a\":[1]}}\n");
    fs::write(&path, log).unwrap();
    let run = Run::read(folder.path()).unwrap();
    assert_eq!(run.cases.len(), 1);
    assert!(!run.torn);
}

/// Kill -9 at every byte of the last record: the record is there or it is not, and appending it
/// again always gives the same folder.
#[test]
fn a_run_cut_at_any_byte_of_the_last_record_resumes() {
    let records = scored_records();
    let (last, earlier) = records[..records.len() - 1].split_last().unwrap();
    let folder = tempdir().unwrap();
    write(folder.path(), earlier);
    let path = folder.path().join(RECORDS_FILE);
    let before = fs::read(&path).unwrap();
    let (mut writer, _) = resume(&folder);
    writer.append(last).unwrap();
    drop(writer);
    let whole = fs::read(&path).unwrap();
    for length in before.len()..=whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        let complete = length == whole.len();
        let torn = length > before.len() && !complete;
        assert_eq!(
            Run::read(folder.path()).unwrap().torn,
            torn,
            "cut at {length}"
        );
        let (mut writer, progress) = resume(&folder);
        assert_eq!(progress.dropped_torn_line, torn);
        let case = progress.case("textvqa/fastvlm-0.5b/candle-cpu/f32/1024px");
        assert_eq!(case.samples.contains("q6"), complete, "cut at {length}");
        assert!(case.samples.contains("q5"));
        if !complete {
            writer.append(last).unwrap();
        }
        drop(writer);
        assert_eq!(fs::read(&path).unwrap(), whole, "cut at {length}");
    }
}

fn resume(folder: &tempfile::TempDir) -> (RunWriter, Progress) {
    RunWriter::resume(folder.path(), &manifest().experiment_digest).unwrap()
}

#[test]
fn an_invalid_last_line_is_torn_and_an_earlier_one_is_an_error() {
    let folder = tempdir().unwrap();
    write(folder.path(), &scored_records());
    let path = folder.path().join(RECORDS_FILE);
    let whole = fs::read(&path).unwrap();

    // Zeros with a line feed, as some file systems leave after a power cut.
    fs::write(&path, [&whole[..], b"\0\0\0\n"].concat()).unwrap();
    assert!(resume(&folder).1.dropped_torn_line);
    assert_eq!(fs::read(&path).unwrap(), whole);

    fs::write(&path, [b"{\"kind\":\"ca\n", &whole[..]].concat()).unwrap();
    let error = Run::read(folder.path()).unwrap_err();
    assert!(matches!(error, Error::Record { line: 1, .. }), "{error}");
    assert!(error.to_string().contains("records.jsonl:1:"), "{error}");

    // A whole line of the wrong shape was not torn, even at the end.
    fs::write(&path, [&whole[..], b"{\"kind\":\"case\"}\n"].concat()).unwrap();
    let error = Run::read(folder.path()).unwrap_err();
    assert!(error.to_string().contains("missing field"), "{error}");
}

#[test]
fn progress_tells_what_is_done() {
    let folder = tempdir().unwrap();
    let mut records = quickstart_records();
    records.truncate(8);
    write(folder.path(), &records);
    let (writer, progress) = resume(&folder);
    let case = progress.case(&case_id("clip-vit-l-14", 336));
    assert!(case.described);
    assert_eq!((case.launches, case.next_launch), (0, 1));
    // Two published series, facts, one warm-up and four repetitions; warm-up is never "done".
    assert_eq!(
        case.iterations.into_iter().collect::<Vec<_>>(),
        [0, 1, 2, 3]
    );
    assert!(progress.finished.is_empty());
    assert!(progress.published.contains("avg5-vicuna-7b"));
    assert_eq!(progress.case("never begun"), CaseProgress::default());
    drop(writer);

    let folder = tempdir().unwrap();
    write(folder.path(), &quickstart_records());
    let finished = resume(&folder).1.finished;
    assert_eq!(finished[&case_id("fastvithd", 256)], CaseOutcome::Ok);
    assert!(matches!(
        finished["latency/missing/candle-cpu/f32/336px"],
        CaseOutcome::Failed { .. }
    ));
}

#[test]
fn duplicates_count_once_and_the_first_wins() {
    let folder = tempdir().unwrap();
    let mut records = scored_records();
    let case = "textvqa/fastvlm-0.5b/candle-cpu/f32/1024px";
    records.push(Record::Sample(answered(case, "q4", 1, 1)));
    records.push(Record::Latency(repetition(
        &case_id("fastvithd", 1024),
        0,
        1,
        1,
    )));
    write(folder.path(), &records);
    let run = Run::read(folder.path()).unwrap();
    assert_eq!(run.samples.len(), 6);
    assert_eq!(run.latency.len(), 7);
    let q4 = run
        .samples
        .iter()
        .find(|sample| sample.sample == "q4")
        .unwrap();
    assert_eq!(*q4, answered(case, "q4", 0, 1));
    assert_eq!(run.latency[0].stages.encode_ns, Some(2_700_000_000));
    assert_eq!(run.failed_samples(), 1);
}

#[test]
fn a_peak_measured_again_takes_the_place_of_the_first() {
    let folder = tempdir().unwrap();
    write(folder.path(), &[peak(2, 1e9), peak(1, 5e8), peak(2, 3e9)]);
    let peaks = Run::read(folder.path()).unwrap().peaks;
    let products: Vec<(u32, f64)> = peaks
        .iter()
        .map(|p| (p.threads, p.f32_product_flops))
        .collect();
    assert_eq!(products, [(1, 5e8), (2, 3e9)]);
}

#[test]
fn a_peak_is_of_an_element_type() {
    let mut peak = Peak {
        device: "cpu".into(),
        threads: 1,
        f32_flops: 1.0,
        bf16_flops: Some(4.0),
        f32_product_flops: 0.9,
        bf16_product_flops: 3.0,
        read_bytes: 1.0,
        copy_bytes: 1.0,
        waited: None,
    };
    for dtype in ["bf16", "q8_0", "q4_k_m"] {
        assert_eq!(
            (peak.flops(dtype), peak.product_flops(dtype)),
            (4.0, Some(3.0))
        );
    }
    for dtype in ["f32", "f16"] {
        assert_eq!(
            (peak.flops(dtype), peak.product_flops(dtype)),
            (1.0, Some(0.9))
        );
    }
    // Integers of published graphs are multiplied in ways that were not measured.
    assert_eq!(peak.product_flops("int8"), None);
    // The product is measured whether or not there is an instruction of its own.
    peak.bf16_flops = None;
    assert_eq!(
        (peak.flops("bf16"), peak.product_flops("bf16")),
        (1.0, Some(3.0))
    );
}

#[test]
fn a_case_run_again_ends_as_it_ended_last() {
    let folder = tempdir().unwrap();
    let failed = CaseOutcome::Failed {
        stage: "encode".into(),
        error: "out of memory".into(),
    };
    write(
        folder.path(),
        &[end("a", failed), end("a", CaseOutcome::Ok)],
    );
    assert_eq!(
        Run::read(folder.path()).unwrap().ends["a"].outcome,
        CaseOutcome::Ok
    );
}

#[test]
fn only_one_process_writes() {
    let folder = tempdir().unwrap();
    let writer = RunWriter::create(folder.path(), &manifest()).unwrap();
    let second = RunWriter::create_or_resume(folder.path(), &manifest());
    assert!(matches!(second, Err(Error::Locked { .. })), "{second:?}");
    drop(writer);
    let (_, progress) = RunWriter::create_or_resume(folder.path(), &manifest()).unwrap();
    assert_eq!(progress, Progress::default());
}

#[test]
fn folders_of_others_are_refused() {
    let folder = tempdir().unwrap();
    fs::write(folder.path().join("holiday.jpg"), b"").unwrap();
    let error = RunWriter::create(folder.path(), &manifest()).unwrap_err();
    assert!(error.to_string().contains("holiday.jpg"), "{error}");

    let folder = tempdir().unwrap();
    write(folder.path(), &[]);
    assert!(matches!(
        RunWriter::create(folder.path(), &manifest()),
        Err(Error::AlreadyARun { .. })
    ));
    let other = RunWriter::resume(folder.path(), "sha256:other");
    assert!(
        matches!(other, Err(Error::OtherExperiment { .. })),
        "{other:?}"
    );
    let nowhere = Run::read(&folder.path().join("nowhere")).unwrap_err();
    assert!(matches!(nowhere, Error::NoManifest { .. }), "{nowhere}");
}

#[test]
fn a_kill_before_the_manifest_leaves_a_usable_folder() {
    let folder = tempdir().unwrap();
    fs::write(folder.path().join(".lock"), b"").unwrap();
    fs::write(folder.path().join("manifest.json.partial"), b"{\"form").unwrap();
    RunWriter::create(folder.path(), &manifest()).unwrap();
    // And one after the manifest but before the log.
    fs::remove_file(folder.path().join(RECORDS_FILE)).unwrap();
    assert!(Run::read(folder.path()).unwrap().latency.is_empty());
    assert_eq!(resume(&folder).1, Progress::default());
}

#[test]
fn other_format_versions_are_named() {
    for (version, age) in [(0, "too old"), (99, "too new")] {
        let folder = tempdir().unwrap();
        let text = format!("{{\"format_version\": {version}, \"everything\": \"else\"}}");
        fs::write(folder.path().join(MANIFEST_FILE), text).unwrap();
        let error = Run::read(folder.path()).unwrap_err().to_string();
        assert!(
            error.contains(age) && error.contains("reads version 1"),
            "{error}"
        );
    }
}

#[test]
fn digests_do_not_depend_on_key_order() {
    let digest = |text: &str| experiment_digest(&serde_json::from_str(text).unwrap());
    let base = digest(r#"{"a": [1, {"x": null, "y": 2.5}], "b": "t"}"#);
    assert_eq!(
        base,
        digest(r#"{"b": "t", "a": [1, {"y": 2.5, "x": null}]}"#)
    );
    assert_ne!(
        base,
        digest(r#"{"b": "t", "a": [1, {"y": 2.4, "x": null}]}"#)
    );
    assert_ne!(
        base,
        digest(r#"{"b": "t", "a": [{"y": 2.5, "x": null}, 1]}"#)
    );
    // SHA-256 of "{}".
    let empty = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
    assert_eq!(digest("{}"), empty);
}
