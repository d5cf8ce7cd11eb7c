//! What two runs say about each other, from their folders.

use std::path::Path;

use tempfile::tempdir;
use vlmbench_reports::{
    fronts::{area_change, membership},
    gate::{Conclusion, Settings, Verdict, scored, unpaired},
    record::*,
    report::{AccuracySource, Report},
    summary::{Figure, summarise},
};

use super::synthetic::*;

/// A model at a resolution: TTFT of its launches in milliseconds, half of it encode, and which of its answers are
/// right. Every two samples share an image.
struct Model<'a> {
    resolution: u32,
    launches: &'a [u64],
    right: &'a [bool],
}

impl Model<'_> {
    fn records(&self) -> Vec<Record> {
        let mut timed = facts("fastvithd", self.resolution, 16);
        timed.weights = Weights::Checkpoint {
            origin: "m".into(),
            digests: Default::default(),
        };
        let mut asked = timed.clone();
        asked.case = format!("textvqa/m/candle-cpu/f32/{}px", self.resolution);
        asked.workload = Workload::Quality;
        asked.labels.suite = Some("textvqa".into());
        asked.labels.profile = Some("lmms@0.2.2".into());
        let mut records = vec![Record::Case(timed.clone())];
        for (launch, ttft) in self.launches.iter().enumerate() {
            let launch = launch as u32;
            for iteration in 0..3 {
                records.push(Record::Latency(LatencySample {
                    launch,
                    ..repetition(&timed.case, iteration, ttft / 2, ttft / 2)
                }));
            }
            records.push(Record::Launch(Launch {
                case: timed.case.clone(),
                launch,
                noise: Noise::default(),
                energy: None,
            }));
        }
        records.push(end(&timed.case, CaseOutcome::Ok));
        records.push(Record::Case(asked.clone()));
        for (index, right) in self.right.iter().enumerate() {
            records.push(Record::Sample(SampleRecord {
                images: Some(format!("image {}", index / 2)),
                ..answered(&asked.case, &format!("q{index}"), i64::from(*right), 1)
            }));
        }
        records.push(end(&asked.case, CaseOutcome::Ok));
        records
    }
}

fn run(folder: &Path, models: &[Model<'_>]) -> Run {
    let records: Vec<Record> = models.iter().flat_map(Model::records).collect();
    write(folder, &records);
    Run::read(folder).unwrap()
}

/// `right` of 40 answers.
fn answers(right: usize) -> Vec<bool> {
    (0..40).map(|index| index < right).collect()
}

#[test]
fn figures_are_over_launches_where_several_ended() {
    let folder = tempdir().unwrap();
    let answers = answers(4);
    let model = Model {
        resolution: 256,
        launches: &[100, 110, 300],
        right: &answers,
    };
    let mut records = model.records();
    // A launch that was killed: its repetitions count for nothing.
    records.push(Record::Latency(LatencySample {
        launch: 3,
        ..repetition(&case_id("fastvithd", 256), 0, 9000, 9000)
    }));
    write(folder.path(), &records);
    let run = Run::read(folder.path()).unwrap();
    assert_eq!(run.launches.len(), 3);
    let summaries = summarise(0, &run);
    let ttft = summaries[0].figure(Figure::TtftPaper).unwrap();
    assert_eq!((ttft.n, ttft.median), (3, 112.2));
    assert_eq!(ttft.interval, None);
}

#[test]
fn two_sittings_have_a_verdict_only_with_their_spread() {
    let (one, other) = (tempdir().unwrap(), tempdir().unwrap());
    let answers = answers(20);
    let of = |folder: &Path, launches: &[u64]| {
        let model = Model {
            resolution: 256,
            launches,
            right: &answers,
        };
        run(folder, &[model])
    };
    let base = of(one.path(), &[1000, 1002, 1004, 998, 996, 1000]);
    let candidate = of(other.path(), &[1100, 1102, 1104, 1098, 1096, 1100]);
    let settings = Settings::default();
    let verdict = |spread: Option<f64>| {
        let changes = unpaired(&base, &candidate, &settings, &|_, _| spread);
        let encode = changes[0]
            .latencies
            .iter()
            .find(|l| l.figure == "encode")
            .unwrap();
        assert!((encode.change - 0.1).abs() < 1e-3, "{}", encode.change);
        (encode.verdict, encode.interval.unwrap())
    };
    assert_eq!(verdict(None).0, Verdict::Inconclusive);
    let (found, narrow) = verdict(Some(0.005));
    assert_eq!(found, Verdict::Regressed);
    // Ten per cent are nothing where sittings differ by as much.
    let (found, wide) = verdict(Some(0.1));
    assert_eq!(found, Verdict::Inconclusive);
    assert!(narrow.low > 0.08 && wide.low < 0.0, "{narrow:?} {wide:?}");
}

#[test]
fn lost_answers_are_tested_by_image_and_listed() {
    let (one, other) = (tempdir().unwrap(), tempdir().unwrap());
    let of = |folder: &Path, right: usize| {
        let right = answers(right);
        let model = Model {
            resolution: 256,
            launches: &[100, 100],
            right: &right,
        };
        run(folder, &[model])
    };
    let (base, candidate) = (of(one.path(), 36), of(other.path(), 10));
    let settings = Settings::default();
    let scores = scored(&base, &candidate, &settings);
    let score = &scores[0];
    assert_eq!(
        (score.samples, score.base, score.candidate),
        (40, 90.0, 25.0)
    );
    assert_eq!(score.verdict, Verdict::Regressed);
    assert_eq!(score.test, "sign flips over 20 images");
    // Thirteen images lost both answers: one sign of 2^13.
    assert!(
        (score.p_worse - 0.5_f64.powi(13)).abs() < 1e-12,
        "{}",
        score.p_worse
    );
    assert_eq!(score.changed.len(), 26);
    assert!(
        score
            .changed
            .iter()
            .all(|c| c.base_points == 100.0 && c.candidate_points == 0.0)
    );
    assert_eq!(
        scored(&candidate, &base, &settings)[0].verdict,
        Verdict::Improved
    );
}

/// A run over `images` images, and the same with every answer in other words.
fn reworded(images: usize) -> (Run, Run) {
    let folder = tempdir().unwrap();
    let right: Vec<bool> = (0..2 * images).map(|index| index % 3 == 0).collect();
    let model = Model {
        resolution: 256,
        launches: &[100, 100],
        right: &right,
    };
    let base = run(folder.path(), &[model]);
    let mut candidate = base.clone();
    for sample in &mut candidate.samples {
        if let SampleOutcome::Ok(answer) = &mut sample.outcome {
            answer.response.push('!');
        }
    }
    (base, candidate)
}

#[test]
fn scores_that_did_not_change_are_known_as_far_as_their_number_reaches() {
    let settings = Settings::default();
    let found = |base: &Run, candidate: &Run| {
        let score = scored(base, candidate, &settings).remove(0);
        let interval = score.interval.unwrap();
        assert_eq!((score.change, interval.low), (0.0, -interval.high));
        (score.verdict, score.differing, interval.high)
    };
    // The same answers are the same whatever their number, which bounds what may come of other questions.
    let (base, reworded_base) = reworded(20);
    let (verdict, differing, high) = found(&base, &base);
    assert_eq!((verdict, differing), (Verdict::Pass, 0));
    assert!((high - 16.8433).abs() < 1e-3, "{high}");
    // Other answers of the same score are a change: of forty questions about twenty images too little is known.
    let (verdict, differing, _) = found(&base, &reworded_base);
    assert_eq!((verdict, differing), (Verdict::Inconclusive, 40));
    // 2 points of 100 are excluded from 183 images on.
    for (images, expected) in [(182, Verdict::Inconclusive), (183, Verdict::Pass)] {
        let (base, candidate) = reworded(images);
        assert_eq!(found(&base, &candidate).0, expected, "{images}");
    }
}

#[test]
fn a_front_says_how_sure_it_is() {
    let folder = tempdir().unwrap();
    let (few, some, many) = (answers(10), answers(20), answers(34));
    let model = |resolution, launches, right| Model {
        resolution,
        launches,
        right,
    };
    // Fast and poor; slow and good; slower than both and no better than the first.
    let models = [
        model(256, &[100, 102, 104], few.as_slice()),
        model(512, &[200, 204, 208], many.as_slice()),
        model(768, &[300, 306, 312], few.as_slice()),
    ];
    let report = Report::new(vec![run(folder.path(), &models)]);
    let source = AccuracySource::Measured {
        suite: "textvqa",
        profile: "lmms@0.2.2",
    };
    let table = membership(&report, source).to_markdown();
    let shares: Vec<&str> = table
        .lines()
        .skip(2)
        .map(|line| line.split('|').nth(4).unwrap().trim())
        .collect();
    assert_eq!(shares, ["100 %", "100 %", "0 %"], "{table}");

    let better = tempdir().unwrap();
    let models = [
        model(256, &[100, 102, 104], some.as_slice()),
        model(512, &[200, 204, 208], many.as_slice()),
    ];
    let better = Report::new(vec![run(better.path(), &models)]);
    let (change, interval) = area_change(&report, &better, source).unwrap();
    // A quarter of the points more over a third of the width.
    assert!((0.05..0.12).contains(&change), "{change}");
    assert!(interval.low > 0.0 && interval.low < change && change < interval.high);
    let (same, interval) = area_change(&report, &report, source).unwrap();
    assert_eq!((same, interval.low, interval.high), (0.0, 0.0, 0.0));
}

#[test]
fn the_worst_verdict_concludes_and_controls_come_before_it() {
    use vlmbench_reports::gate::{Comparison, Control, NULL, SLOWED, Side};
    let side = || Side {
        name: "x".into(),
        version: None,
        revision: None,
    };
    let (one, other) = (tempdir().unwrap(), tempdir().unwrap());
    let answers = answers(20);
    let of = |folder: &Path, launches: &[u64]| {
        let model = Model {
            resolution: 256,
            launches,
            right: &answers,
        };
        run(folder, &[model])
    };
    let base = of(one.path(), &[1000, 1002, 1004, 998]);
    let slower = of(other.path(), &[1200, 1202, 1204, 1198]);
    let conclude = |candidate: &Run, controls: &[(&str, bool)], problem: bool| {
        let control = |(name, held): &(&str, bool)| Control {
            name: (*name).into(),
            what: String::new(),
            held: *held,
            found: String::new(),
        };
        let mut comparison = Comparison {
            ended_at: String::new(),
            base: side(),
            candidate: side(),
            design: None,
            settings: Settings::default(),
            cases: unpaired(&base, candidate, &Settings::default(), &|_, _| Some(0.004)),
            scores: Vec::new(),
            tradeoffs: Vec::new(),
            fronts: Vec::new(),
            controls: controls.iter().map(control).collect(),
            problems: problem.then(|| "x".into()).into_iter().collect(),
            conclusion: Conclusion::Pass,
        };
        comparison.conclude();
        comparison.conclusion
    };
    assert_eq!(
        conclude(&base, &[(NULL, true), (SLOWED, true)], false),
        Conclusion::Pass
    );
    // A gate that does not see passes nothing, but what it saw stands.
    assert_eq!(
        conclude(&base, &[(SLOWED, false)], false),
        Conclusion::Inconclusive
    );
    assert_eq!(
        conclude(&slower, &[(SLOWED, false)], false),
        Conclusion::Regressed
    );
    assert_eq!(
        conclude(&slower, &[(NULL, false)], false),
        Conclusion::Broken
    );
    assert_eq!(conclude(&base, &[], true), Conclusion::Broken);
}
