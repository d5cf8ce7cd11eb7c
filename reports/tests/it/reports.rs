//! From a run folder to figures, picture data and files.

use std::{collections::BTreeMap, fs, path::Path};

use tempfile::tempdir;
use vlmbench_reports::{
    Error, frame,
    plot::ParetoPlot,
    published::Series,
    record::{Exhibit, Record, Run, Weights},
    report,
    report::{AccuracySource, Report, Subject},
    summary::{Figure, summarise},
    table,
};

use crate::synthetic::*;

fn read(records: &[Record]) -> Report {
    let folder = tempdir().unwrap();
    write(folder.path(), records);
    Report::read(&[folder.path()]).unwrap()
}

fn published<'a>(report: &'a Report, id: &str) -> &'a Series {
    report.series.iter().find(|series| series.id == id).unwrap()
}

#[test]
fn figures_follow_their_definitions() {
    let report = read(&quickstart_records());
    let case = case_id("fastvithd", 256);
    let summary = report.summaries.iter().find(|s| s.case == case).unwrap();
    let figure = |figure| summary.figure(figure).unwrap().median;
    // Iteration 3 of 0..7 is the median: 2% more per iteration; warm-up would be nine times that.
    assert_eq!(figure(Figure::Encode), 180.2);
    assert_eq!(figure(Figure::TtftPaper), 604.2);
    assert_eq!(figure(Figure::TtftUser), 609.2);
    assert_eq!(figure(Figure::Tpot), 50.0);
    // The projector was not separable: no figure, not zero.
    assert_eq!(summary.figure(Figure::Project), None);
    let ttft = summary.figure(Figure::TtftPaper).unwrap();
    assert_eq!((ttft.n, ttft.p90), (7, None));
    // With 7 samples the interval is smallest to largest.
    assert_eq!(ttft.interval.unwrap().low, 570.0);
    assert_eq!(summary.flops_to_first_token(), Some(89_600_000_000));
    assert_eq!(summary.peak_rss_bytes(), Some(3 << 30));
}

#[test]
fn a_figure_needs_its_stages_in_every_repetition() {
    let mut records = quickstart_records();
    let hit = records.iter_mut().find_map(|record| match record {
        Record::Latency(sample) if !sample.warm_up => Some(sample),
        _ => None,
    });
    let sample = hit.unwrap();
    sample.stages.prefill_ns = None;
    let case = sample.case.clone();
    let report = read(&records);
    let summary = report.summaries.iter().find(|s| s.case == case).unwrap();
    assert!(summary.figure(Figure::Encode).is_some());
    assert_eq!(summary.figure(Figure::TtftPaper), None);
}

#[test]
fn accuracy_counts_everything_that_was_asked() {
    let report = read(&scored_records());
    let accuracy = report.scored().next().unwrap().accuracy.as_ref().unwrap();
    assert_eq!(accuracy.sum.fraction(), Some((59, 30)));
    let counts = (
        accuracy.n,
        accuracy.failed,
        accuracy.unparsed,
        accuracy.truncated,
    );
    assert_eq!(counts, (6, 1, 1, 1));
    assert!((accuracy.mean() - 59.0 / 180.0).abs() < 1e-15);
}

#[test]
fn seeded_weights_never_have_an_accuracy() {
    let mut records = scored_records();
    for record in &mut records {
        if let Record::Case(facts) = record {
            facts.weights = Weights::Seeded { seed: 1 };
        }
    }
    let report = read(&records);
    assert_eq!(report.scored().count(), 0);
    assert!(report.accuracy_sources().is_empty());
    assert!(table::quality(&report).is_empty());
    // The same holds for samples of a case that has no facts.
    records.retain(|record| !matches!(record, Record::Case(_)));
    assert_eq!(read(&records).scored().count(), 0);
}

#[test]
fn the_picture_holds_the_published_series_and_its_front() {
    let report = read(&quickstart_records());
    let series = published(&report, "avg5-vicuna-7b");
    let plot = ParetoPlot::new(&report, AccuracySource::Published(series));
    let drawn: Vec<(&str, f64, f64)> = (plot.points.iter())
        .map(|p| (p.label.as_str(), p.ttft_ms, p.accuracy))
        .collect();
    assert_eq!(
        drawn,
        [
            ("ViT-L/14 336 px · 576 tok", 4240.0, 60.1),
            ("FastViT 256 px · 64 tok", 667.8, 54.4),
            ("FastViT 768 px · 576 tok", 3063.4, 62.6),
            ("FastViTHD 256 px · 16 tok", 604.2, 55.5),
            ("FastViTHD 512 px · 64 tok", 1256.1, 60.4),
            ("FastViTHD 768 px · 144 tok", 2374.4, 62.8),
            ("FastViTHD 1024 px · 256 tok", 3985.6, 63.9),
        ]
    );
    let front: Vec<u32> = plot
        .front
        .iter()
        .map(|&i| plot.points[i].resolution)
        .collect();
    assert_eq!(front, [256, 512, 768, 1024]);
    assert!(
        plot.front
            .iter()
            .all(|&i| plot.points[i].encoder == "FastViTHD")
    );
    assert!(plot.y_title.contains("published") && plot.y_title.contains("Vicuna-7B"));
    assert!(plot.x_title.contains("measured here, seeded weights"));
    assert!(plot.x_title.contains("Qwen2-0.5B"));
    let missing = plot.caption.last().unwrap();
    assert!(missing.contains("FastViT 512 px · 256 tok"), "{missing}");
    // Times of the paper are those of the decoder timed here, though the accuracies are not.
    let reference = plot.reference.as_ref().unwrap();
    assert_eq!(reference.title, "published, M1 Max, Qwen2-0.5B");
    let times: BTreeMap<(&str, u32), f64> = (reference.points.iter())
        .map(|p| ((p.encoder.as_str(), p.resolution), p.ttft_ms))
        .collect();
    assert_eq!(
        times,
        BTreeMap::from([
            (("FastViTHD", 256), 32.5),
            (("FastViTHD", 512), 50.2),
            (("FastViTHD", 768), 96.0),
            (("FastViTHD", 1024), 167.2),
            (("ViT-L/14", 336), 256.0),
        ])
    );
}

#[test]
fn series_never_mix() {
    let report = read(&quickstart_records());
    let series = published(&report, "avg5-qwen2-0.5b");
    let plot = ParetoPlot::new(&report, AccuracySource::Published(series));
    let accuracies: Vec<f64> = plot.points.iter().map(|p| p.accuracy).collect();
    assert_eq!(accuracies, [47.3, 48.4, 52.5, 54.5, 55.9]);
    // FastViT has no value in this series, yet it keeps its place, and so the others their colours.
    assert_eq!(plot.encoders, ["ViT-L/14", "FastViT", "FastViTHD"]);
}

#[test]
fn measured_accuracy_joins_times_of_the_same_conditions_only() {
    let report = read(&scored_records());
    let source = AccuracySource::Measured {
        suite: "textvqa",
        profile: "lmms@0.2.2",
    };
    assert_eq!(report.accuracy_sources(), [source]);
    let plot = ParetoPlot::new(&report, source);
    assert_eq!(plot.points.len(), 1);
    assert!((plot.points[0].accuracy - 59.0 / 1.8).abs() < 1e-12);
    let interval = plot.points[0].accuracy_interval.unwrap();
    assert!(interval.low < plot.points[0].accuracy && plot.points[0].accuracy < interval.high);
    assert!(plot.y_title.contains("measured") && !plot.x_title.contains("seeded"));

    let mut records = scored_records();
    if let Some(Record::Case(timed)) = records.first_mut() {
        timed.labels.precision = "bf16".into();
    }
    assert!(ParetoPlot::new(&read(&records), source).points.is_empty());
}

#[test]
fn suites_have_a_mean_and_a_baseline_without_images() {
    let report = read(&suites_and_blind_records());
    let sources = report.accuracy_sources();
    assert_eq!(sources.len(), 3, "{sources:?}");
    assert_eq!(sources[0], AccuracySource::Mean);
    let plot = ParetoPlot::new(&report, AccuracySource::Mean);
    assert_eq!(plot.points.len(), 1, "blind cases are not drawn");
    // textvqa 59/180, docvqa all right.
    let mean = (59.0 / 180.0 + 1.0) / 2.0;
    assert!((plot.points[0].accuracy - 100.0 * mean).abs() < 1e-9);
    let caption = plot.caption.join(" ");
    assert!(
        caption.contains("With the image withheld: fastvithd 25.0 %"),
        "{caption}"
    );
    let of_suite = ParetoPlot::new(&report, sources[2]);
    assert!((of_suite.points[0].accuracy - 100.0).abs() < 1e-9);
    let times = table::latency(&report).to_markdown();
    assert!(times.contains("mean of suites, measured"), "{times}");
    // A suite under two profiles would count twice.
    let mut records = suites_and_blind_records();
    for record in &mut records {
        match record {
            Record::Case(facts) if facts.labels.suite.as_deref() == Some("docvqa") => {
                facts.labels.suite = Some("textvqa".into());
                facts.labels.profile = Some("another".into());
            }
            _ => {}
        }
    }
    assert_eq!(read(&records).accuracy_sources().len(), 2);
    // A suite that was not asked leaves no mean.
    let mut records = suites_and_blind_records();
    records.retain(|record| !matches!(record, Record::Sample(s) if s.case.starts_with("docvqa/fastvlm-0.5b/candle-cpu/f32/1024px")));
    assert!(
        ParetoPlot::new(&read(&records), AccuracySource::Mean)
            .points
            .is_empty()
    );
}

#[test]
fn the_gallery_has_every_answer_to_its_samples() {
    let mut records = suites_and_blind_records();
    records.push(Record::Exhibit(Exhibit {
        suite: "docvqa".into(),
        profile: "lmms@0.2.2".into(),
        sample: "q1".into(),
        question: "What is the date?\nAnswer briefly.".into(),
        references: vec!["B".into()],
        images: vec!["gallery/docvqa-0-0.png".into()],
    }));
    let folder = tempdir().unwrap();
    write(folder.path(), &records);
    let files = report::report(&[folder.path()], folder.path()).unwrap();
    let text = fs::read_to_string(files.gallery.unwrap()).unwrap();
    for part in [
        "<img src=\"gallery/docvqa-0-0.png\" width=\"320\">",
        "> What is the date?  \n> Answer briefly.",
        "Right: `B`",
        "| fastvithd-qwen2 | 1024 px | B. Because | ✓ |",
        "| fastvithd-qwen2 | image withheld | B. Because | ✗ |",
    ] {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
    // Seen from elsewhere, the image is where the run is.
    let elsewhere = tempdir().unwrap();
    let files = report::report(&[folder.path()], elsewhere.path()).unwrap();
    let text = fs::read_to_string(files.gallery.unwrap()).unwrap();
    let whole = folder.path().join("gallery/docvqa-0-0.png");
    assert!(text.contains(whole.to_str().unwrap()), "{text}");
    assert!(files.pictures.len() > 1);
}

/// The picture of the quickstart with the precision of case `n` changed by `precision`.
fn picture_by_precision(precision: impl Fn(usize) -> String) -> ParetoPlot {
    let mut records = quickstart_records();
    let cases = records.iter_mut().filter_map(|r| match r {
        Record::Case(facts) => Some(facts),
        _ => None,
    });
    for (n, facts) in cases.enumerate() {
        facts.labels.precision = precision(n);
    }
    let report = read(&records);
    let series = published(&report, "avg5-vicuna-7b");
    ParetoPlot::new(&report, AccuracySource::Published(series))
}

#[test]
fn a_few_conditions_that_differ_are_told_apart_by_the_legend() {
    let plot = picture_by_precision(|n| if n == 0 { "bf16" } else { "f32" }.into());
    assert_eq!(plot.lines, ["bf16", "f32"]);
    assert_eq!(plot.points[0].label, "ViT-L/14 336 px · 576 tok");
    assert_eq!(plot.points[0].line, "bf16");
    assert_eq!(plot.points[1].line, "f32");
    let same = picture_by_precision(|_| "f32".into());
    assert!(same.lines.is_empty(), "nothing to tell apart");
}

#[test]
fn more_conditions_than_a_legend_holds_are_named_at_each_point() {
    let plot = picture_by_precision(|n| format!("p{n}"));
    assert!(plot.lines.is_empty());
    assert_eq!(plot.points[0].label, "ViT-L/14 336 px · 576 tok · p0");
    assert_eq!(plot.points[1].label, "FastViT 256 px · 64 tok · p1");
}

#[test]
fn a_report_is_rebuilt_from_the_records_alone() {
    let folder = tempdir().unwrap();
    write(folder.path(), &quickstart_records());
    let out = tempdir().unwrap();
    let files = report(&[folder.path()], out.path()).unwrap();
    let names: Vec<&str> = (files.pictures.iter())
        .map(|picture| picture.png.file_name().unwrap().to_str().unwrap())
        .collect();
    assert_eq!(
        names,
        ["pareto.png", "pareto-avg5-qwen2-0.5b.png", "stages.png"]
    );
    for picture in &files.pictures {
        assert_eq!(&fs::read(&picture.png).unwrap()[1..4], b"PNG");
        let svg = fs::read_to_string(&picture.svg).unwrap();
        let label = match picture.subject {
            Subject::Front => "FastViTHD 1024 px · 256 tok",
            // Names of a publication are its picture's.
            Subject::Stages | Subject::Hardware => "fastvithd 1024 px · 256 tok",
        };
        assert!(svg.contains(label) && svg.ends_with("</svg>\n"));
    }
    let csv = fs::read_to_string(&files.csv).unwrap();
    let mut lines = csv.lines();
    let header: Vec<&str> = lines.next().unwrap().split(',').collect();
    assert_eq!(lines.count(), 9);
    assert!(
        header.contains(&"ttft.paper_median_ms") && header.contains(&"published avg5-vicuna-7b")
    );
    assert_eq!(&fs::read(&files.parquet).unwrap()[..4], b"PAR1");
    // A second report over the first gives the same files.
    let markdown = fs::read(&files.markdown).unwrap();
    let png = fs::read(&files.pictures[0].png).unwrap();
    report(&[folder.path()], out.path()).unwrap();
    assert_eq!(fs::read(&files.markdown).unwrap(), markdown);
    assert_eq!(fs::read(&files.pictures[0].png).unwrap(), png);

    let none: [&Path; 0] = [];
    assert!(matches!(report(&none, out.path()), Err(Error::NoRuns)));
}

#[test]
fn repetitions_become_a_frame_with_nulls() {
    let frame = frame::repetitions(&read(&quickstart_records())).unwrap();
    assert_eq!(frame.height(), 8 * 8);
    let nulls = |name: &str| frame.column(name).unwrap().null_count();
    assert_eq!((nulls("encode_ms"), nulls("project_ms")), (0, 64));
}

#[test]
fn samples_become_a_frame_in_which_failures_have_no_answer() {
    let frame = frame::samples(&read(&scored_records())).unwrap();
    assert_eq!(frame.height(), 6);
    let nulls = |name: &str| frame.column(name).unwrap().null_count();
    // One failed, another could not be parsed.
    assert_eq!(
        (nulls("response"), nulls("extracted"), nulls("error")),
        (1, 2, 5)
    );
    assert_eq!(nulls("points"), 0);
}

#[test]
fn several_runs_are_told_apart() {
    let folders = [tempdir().unwrap(), tempdir().unwrap()];
    for folder in &folders {
        write(folder.path(), &quickstart_records());
    }
    let report = Report::read(&folders.each_ref().map(|folder| folder.path())).unwrap();
    assert_eq!(report.series.len(), 2);
    assert_eq!(report.summaries.len(), 18);
    let text = table::latency(&report).to_text(200);
    assert!(text.contains("(run 1)") && text.contains("(run 2)"));
}

#[test]
fn an_unfinished_case_is_listed() {
    let folder = tempdir().unwrap();
    let mut records = quickstart_records();
    records.retain(|record| !matches!(record, Record::CaseEnd(_)));
    write(folder.path(), &records);
    let run = Run::read(folder.path()).unwrap();
    assert!(
        summarise(0, &run)
            .iter()
            .all(|summary| summary.end.is_none())
    );
    let text = table::failures(&Report::new(vec![run])).to_text(100);
    assert!(text.contains("unfinished"), "{text}");
}

#[test]
fn report_pages() {
    let mut records = quickstart_records();
    records.truncate(2 + 2 * 10);
    records.extend(scored_records());
    let missing = quickstart_records().pop().unwrap();
    records.push(missing);
    let report = read(&records);
    insta::assert_snapshot!(
        "report",
        vlmbench_reports::markdown::render(
            &vlmbench_reports::document::sections(&report, &[]),
            Path::new("report.html"),
            None,
        )
    );
    insta::assert_snapshot!("terminal", table::terminal(&report, 110));
}
