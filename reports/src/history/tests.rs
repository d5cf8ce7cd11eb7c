//! Series, changes and spreads on entries made by hand, with a detector that is easy to foresee.

use std::collections::BTreeMap;

use super::{check::spread_with, *};
use crate::plot::Draw;
use crate::record::{Machine, Used};
use crate::stats::ChangePoint;

/// One step up or down by at least half, wherever it is first.
fn steps(values: &[f64]) -> Vec<ChangePoint> {
    let step = |(index, pair): (usize, &[f64])| {
        let (before, after) = (pair[0], pair[1]);
        let far = after > 1.4 * before || before > 1.4 * after;
        far.then_some(ChangePoint {
            index: index + 1,
            before,
            after,
            p: 0.0001,
        })
    };
    values.windows(2).enumerate().filter_map(step).collect()
}

/// The run at day `day`, as commit `c{day}`.
fn entry(day: u32, machine: &str, value_ms: f64) -> Entry {
    Entry {
        format: FORMAT,
        run: format!("sha256:{day}"),
        time: format!("2026-11-{day:02}T00:00:00Z"),
        commit: Some(format!("c{day}")),
        machine: machine.into(),
        cpu: None,
        backend: "candle".into(),
        used: Used {
            engine: Some("candle 0.11".into()),
            settings: BTreeMap::new(),
            threads: Some(2),
            device: "cpu".into(),
            dtype: "f32".into(),
            simd: Vec::new(),
        },
        experiment: "sha256:e".into(),
        tool: "0.1.0".into(),
        case: "latency/x".into(),
        figure: "encode".into(),
        value_ms,
        interval: None,
        launches: 1,
        repetitions: 5,
    }
}

fn found(entries: &[Entry]) -> Vec<Change> {
    changes(entries, steps, Rules::default())
}

#[test]
fn a_slowdown_lies_between_two_commits() {
    let values = [10.0, 10.1, 9.9, 20.0, 20.1];
    let entries: Vec<Entry> = (1..).zip(values).map(|(d, v)| entry(d, "a", v)).collect();
    let changes = found(&entries);
    let [change] = changes.as_slice() else {
        panic!("{changes:?}")
    };
    assert_eq!(change.last_before.as_deref(), Some("c3"));
    assert_eq!(change.first_after.as_deref(), Some("c4"));
    assert_eq!((change.runs_after, change.engines.clone()), (2, None));
    assert!(change.slower_now && slower_now(&changes));
    // Faster again: it is history.
    let mut more = entries.clone();
    more.push(entry(6, "a", 10.0));
    assert_eq!(found(&more).len(), 2);
    assert!(!slower_now(&found(&more)));
    // A slowdown that everybody has seen for long is no alarm.
    let later = changes_with(&entries, Rules { recent: 1 });
    assert!(!slower_now(&later));
}

fn changes_with(entries: &[Entry], rules: Rules) -> Vec<Change> {
    changes(entries, steps, rules)
}

#[test]
fn another_machine_is_no_change() {
    let days = [
        (1, "a", 10.0),
        (2, "a", 10.0),
        (3, "b", 30.0),
        (4, "b", 30.0),
    ];
    let entries: Vec<Entry> = days.iter().map(|&(d, m, v)| entry(d, m, v)).collect();
    assert_eq!(found(&entries), []);
    // Alternating machines are two series of their own.
    let days = [
        (1, "a", 10.0),
        (2, "b", 30.0),
        (3, "a", 10.0),
        (4, "b", 60.0),
        (5, "a", 10.0),
    ];
    let entries: Vec<Entry> = days.iter().map(|&(d, m, v)| entry(d, m, v)).collect();
    let changes = found(&entries);
    assert_eq!(changes.len(), 1);
    assert_eq!(changes[0].conditions.machine, "b");
    // The newest run was made on the other machine.
    assert!(!changes[0].slower_now);
}

#[test]
fn another_experiment_or_engine_is_no_change_but_a_new_version_is() {
    let other = |change: fn(&mut Entry)| {
        let mut entries: Vec<Entry> = vec![entry(1, "a", 10.0), entry(2, "a", 20.0)];
        change(&mut entries[1]);
        found(&entries)
    };
    assert_eq!(other(|e| e.experiment = "sha256:f".into()), []);
    assert_eq!(other(|e| e.backend = "onnxruntime".into()), []);
    assert_eq!(other(|e| e.used.threads = Some(4)), []);
    let settings = |e: &mut Entry| drop(e.used.settings.insert("k".into(), "v".into()));
    assert_eq!(other(settings), []);
    let changes = other(|e| e.used.engine = Some("candle 0.12".into()));
    let engines = ("candle 0.11".to_owned(), "candle 0.12".to_owned());
    assert_eq!(changes[0].engines, Some(engines));
}

#[test]
fn series_follow_time_and_not_the_file() {
    let entries = [entry(3, "a", 3.0), entry(1, "a", 1.0), entry(2, "a", 2.0)];
    let all = series(&entries);
    assert_eq!(all.len(), 1);
    assert_eq!(all[0].values(), [1.0, 2.0, 3.0]);
    assert!(all[0].newest);
}

#[test]
fn the_spread_is_that_since_the_last_change() {
    let e = std::f64::consts::E;
    // Since the change: logarithms 1, 2 and 3 times 0.1 above ln 20.
    let values = [
        10.0,
        20.0 * e.powf(0.1),
        20.0 * e.powf(0.2),
        20.0 * e.powf(0.3),
    ];
    let entries: Vec<Entry> = (1..).zip(values).map(|(d, v)| entry(d, "a", v)).collect();
    let spread = spread_with(&entries, "latency/x", "encode", "a", steps).unwrap();
    assert!((spread - 0.1).abs() < 1e-12, "{spread}");
    for (case, figure, machine) in [
        ("latency/y", "encode", "a"),
        ("latency/x", "prefill", "a"),
        ("latency/x", "encode", "b"),
    ] {
        assert_eq!(session_spread(&entries, case, figure, machine), None);
    }
    assert_eq!(
        session_spread(&entries[..2], "latency/x", "encode", "a"),
        None
    );
}

#[test]
fn fingerprints_follow_what_makes_a_machine_fast() {
    let machine = Machine {
        cpu_model: Some("Example CPU".into()),
        cores: Some(2),
        threads: Some(4),
        memory_bytes: Some(8 << 30),
        os: Some("Linux".into()),
        kernel: Some("6.1.0-13".into()),
        simd: vec!["avx2".into()],
        ..Machine::default()
    };
    let known = fingerprint(&machine);
    assert_eq!(known.len(), 16);
    let with = |change: fn(&mut Machine)| {
        let mut other = machine.clone();
        change(&mut other);
        fingerprint(&other)
    };
    // What firmware takes of the memory, and a patched kernel, are the same machine.
    assert_eq!(
        with(|m| m.memory_bytes = Some((8 << 30) - (100 << 20))),
        known
    );
    assert_eq!(with(|m| m.kernel = Some("6.12.1".into())), known);
    assert_ne!(with(|m| m.kernel = Some("7.0.1".into())), known);
    assert_ne!(with(|m| m.cpu_model = None), known);
    assert_ne!(with(|m| m.simd.clear()), known);
    // What the passport says beyond that is not always known, or changes.
    assert_eq!(with(|m| m.governor = Some("powersave".into())), known);
    assert_eq!(with(|m| m.container_cores = Some(1.5)), known);
    assert_eq!(with(|m| m.max_clock_mhz = Some(3500)), known);
}

#[test]
fn the_detector_sees_steps_and_not_noise() {
    let noise = |n: u32| f64::from(n * 7919 % 97) / 97.0;
    let level = |n: u32| if n < 12 { 10.0 } else { 12.0 };
    let stepped: Vec<f64> = (0..24).map(|n| level(n) + noise(n)).collect();
    let shifts = detect(&stepped);
    assert_eq!(shifts.iter().map(|s| s.index).collect::<Vec<_>>(), [12]);
    assert!(shifts[0].before < 11.0 && shifts[0].after > 12.0 && shifts[0].p <= 0.001);
    let flat: Vec<f64> = (0..60).map(|n| 10.0 + noise(n)).collect();
    assert_eq!(detect(&flat), []);
    assert_eq!(detect(&[]), []);
    assert_eq!(detect(&[1.0, 2.0]), []);
}

#[test]
fn pictures_have_a_panel_a_figure_with_its_changes() {
    let mut entries: Vec<Entry> = [(1, "a", 10.0), (2, "a", 20.0), (3, "b", 5.0)]
        .map(|(d, m, v)| entry(d, m, v))
        .to_vec();
    entries.push(Entry {
        figure: "prefill".into(),
        ..entry(3, "b", 7.0)
    });
    let pictures = pictures(&entries, &found(&entries));
    let [(case, plot)] = pictures.as_slice() else {
        panic!("{pictures:?}")
    };
    assert_eq!(case, "latency/x");
    assert_eq!(plot.labels, ["c1", "c2", "c3"]);
    let names: Vec<&str> = plot.panels.iter().map(|p| p.name.as_str()).collect();
    assert_eq!(names, ["encode", "prefill"]);
    let encode = &plot.panels[0];
    assert_eq!(encode.lines.len(), 2);
    assert_eq!(encode.marks.len(), 1);
    assert_eq!((encode.marks[0].before, encode.marks[0].worse), (0.5, true));
    assert_eq!(encode.marks[0].label, "+100.0 %");
    let folder = tempfile::tempdir().unwrap();
    plot.draw_svg(&folder.path().join("h.svg")).unwrap();
    let svg = std::fs::read_to_string(folder.path().join("h.svg")).unwrap();
    assert!(svg.contains("+100.0 %") && svg.contains("latency/x"));
}
