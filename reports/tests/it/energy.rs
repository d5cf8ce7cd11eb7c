//! Energy of a request: from records to figures, and into everything that shows them, or not at all.

use std::{collections::BTreeMap, fs};

use tempfile::tempdir;
use vlmbench_reports::{
    energy::Consumer,
    explain::explain,
    page::Data,
    record::{Energy, Joules, LatencySample, Launch, Record, Run},
    report::{self, Report},
    table,
};

use crate::synthetic::*;

fn read(records: &[Record]) -> Report {
    let folder = tempdir().unwrap();
    write(folder.path(), records);
    Report::read(&[folder.path()]).unwrap()
}

/// One case in several launches, of which each took so many joules on the GPU, or none is known; the host 7 J each.
fn on_a_gpu(joules: &[Option<f64>]) -> Vec<Record> {
    let facts = facts("fastvithd", 256, 16);
    let case = facts.case.clone();
    let mut records = vec![Record::Case(facts)];
    let counted =
        |name: &str, joules: f64| Joules::from(Ok(BTreeMap::from([(name.into(), joules)])));
    for (number, joules) in (0..).zip(joules) {
        records.push(Record::Latency(LatencySample {
            launch: number,
            ..repetition(&case, 0, 100, 200)
        }));
        let energy = Energy {
            seconds: 20.0,
            requests: 7,
            device: match joules {
                Some(joules) => counted("gpu", *joules),
                None => Err("the counter stood still".to_owned()).into(),
            },
            host: Some(counted("package-0", 7.0)),
        };
        records.push(Record::Launch(launch(&case, number, Some(energy))));
    }
    records.push(end(&case, vlmbench_reports::record::CaseOutcome::Ok));
    records
}

#[test]
fn a_request_takes_the_median_over_launches_of_joules_over_requests() {
    let figure = |joules: &[Option<f64>], consumer| {
        let report = read(&on_a_gpu(joules));
        let summary = &report.summaries[0];
        let figure = summary.energy.figure(consumer);
        (
            figure.map(|e| (e.median, e.n)),
            summary.energy.missing.len(),
        )
    };
    let three = [Some(70.0), Some(700.0), Some(140.0)];
    assert_eq!(figure(&three, Consumer::Device), (Some((20.0, 3)), 0));
    assert_eq!(figure(&three, Consumer::Host), (Some((1.0, 3)), 0));
    assert_eq!(figure(&three[..1], Consumer::Device), (Some((10.0, 1)), 0));
    // A median over those launches that happen to have it would be another quantity.
    let without = [Some(70.0), None, Some(140.0)];
    assert_eq!(figure(&without, Consumer::Device), (None, 1));
    assert_eq!(figure(&without, Consumer::Host), (Some((1.0, 3)), 1));
}

#[test]
fn counters_of_a_device_add_up() {
    let joules = BTreeMap::from([("package-0".into(), 20.0), ("package-0/dram".into(), 1.0)]);
    let energy = energy(1.0, Ok(joules));
    assert_eq!(
        (energy.per_request(), energy.host_per_request()),
        (Some(3.0), None)
    );
    let none = Energy {
        requests: 0,
        ..energy
    };
    assert_eq!(none.per_request(), None);
}

#[test]
fn launches_of_before_it_was_recorded_have_none() {
    let old = r#"{"kind":"launch","case":"a","launch":0,"noise":{"seconds":1.0,"steal":null}}"#;
    let Record::Launch(launch) = serde_json::from_str(old).unwrap() else {
        panic!("a launch");
    };
    assert_eq!(
        (launch.energy.clone(), launch.noise.gpu.clone()),
        (None, None)
    );
    // What is not known is not written either.
    let written = serde_json::to_string(&Record::Launch(launch)).unwrap();
    assert!(
        !written.contains("energy") && !written.contains("gpu"),
        "{written}"
    );
    let known: Launch = crate::synthetic::launch("a", 0, Some(energy(2.0, Err("because".into()))));
    let written = serde_json::to_value(&known).unwrap();
    assert!(written["energy"]["device"]["joules"].is_null(), "{written}");
    assert_eq!(written["energy"]["device"]["missing"], "because");
    assert_eq!(serde_json::from_value::<Launch>(written).unwrap(), known);
}

#[test]
fn it_is_shown_everywhere_if_any_case_has_it_and_nowhere_if_none_has() {
    let files = |records: &[Record]| -> BTreeMap<&str, String> {
        let folder = tempdir().unwrap();
        write(folder.path(), records);
        let files = report::report(&[folder.path()], folder.path()).unwrap();
        let table = |format: &str| {
            let path = files.tables.join(format!("time-to-first-token.{format}"));
            fs::read_to_string(path).unwrap()
        };
        let text = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        BTreeMap::from([
            ("csv", table("csv")),
            ("tex", table("tex")),
            ("md", text("report.md")),
            ("page", text("report.html")),
            ("summary", text("summary.csv")),
        ])
    };
    let (with, without) = (files(&metered_records()), files(&explored_records()));
    for (name, shown) in [
        ("csv", "J/request"),
        ("tex", "J/request"),
        ("md", "J/request"),
        ("page", "\"energy of a request"),
        ("summary", "energy_median_j"),
    ] {
        assert!(with[name].contains(shown), "{name}: {}", with[name]);
        assert!(!without[name].contains(shown), "{name}: {}", without[name]);
        // Nothing ran beside a host.
        assert!(!with[name].to_lowercase().contains("host j"), "{name}");
    }
    assert!(with["page"].contains("not measured: the window was too short"));
    // 50 W for 0.57 s, and a dash where there is none.
    let terminal = table::terminal(&read(&metered_records()), 300);
    let line = |case: &str| terminal.lines().find(|l| l.contains(case)).unwrap();
    assert!(
        line("fastvithd/candle-cpu/f32/256px").contains("28.5"),
        "{terminal}"
    );
    assert!(line("clip-vit-l-14").contains('–'), "{terminal}");
}

#[test]
fn it_has_a_front_of_its_own() {
    let data = Data::of(&read(&metered_records())).unwrap();
    let axis = data.axes.iter().find(|axis| axis.key == "energy").unwrap();
    assert_eq!(axis.unit, "J");
    let front: Vec<f64> = (data.fronts["s0|energy|all"]["all"].iter())
        .map(|&point| data.points[point].x["energy"].v)
        .collect();
    assert!(front.len() > 1 && front.is_sorted(), "{front:?}");
    assert!((front[0] - 28.5).abs() < 1e-9, "{front:?}");
    let plain = Data::of(&read(&explored_records())).unwrap();
    assert!(plain.axes.iter().all(|axis| axis.key != "energy"));
}

#[test]
fn it_leads_back_to_its_launches() {
    let folder = tempdir().unwrap();
    write(folder.path(), &on_a_gpu(&[Some(70.0), None]));
    let run = Run::read(folder.path()).unwrap();
    let explained = explain(&run, &case_id("fastvithd", 256)).unwrap();
    let of = |name: &str| {
        let found = explained.figures.iter().find(|(figure, ..)| figure == name);
        found.map(|(_, value, how)| (value.as_str(), how.as_str()))
    };
    let (value, how) = of("host_energy").unwrap();
    assert!(value == "1.00 J" && how.contains("n = 2"), "{value} {how}");
    assert_eq!(of("energy"), Some(("–", "the counter stood still")));
    assert_eq!(explained.launches.len(), 2);
}
