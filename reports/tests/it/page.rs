//! The page as text, the data behind its picture, the tables beside it, and where figures come from.

use std::{collections::BTreeMap, fs};

use tempfile::tempdir;
use vlmbench_reports::{
    Error, breakdown,
    explain::explain,
    page::Data,
    record::{Exhibit, Record, Run, SampleOutcome},
    report::{self, Report},
    summary::Figure,
};

use crate::synthetic::*;

fn read(records: &[Record]) -> Report {
    let folder = tempdir().unwrap();
    write(folder.path(), records);
    Report::read(&[folder.path()]).unwrap()
}

fn html(records: &[Record]) -> String {
    let folder = tempdir().unwrap();
    write(folder.path(), records);
    let files = report::report(&[folder.path()], folder.path()).unwrap();
    fs::read_to_string(files.page).unwrap()
}

/// The page without the scripts and the style inside of it.
fn words(page: &str) -> String {
    let mut out = String::new();
    let mut rest = page;
    while let Some((before, after)) = rest.split_once("<script") {
        out.push_str(before);
        rest = after.split_once("</script>").unwrap().1;
    }
    out.push_str(rest);
    out
}

#[test]
fn the_page_is_whole_and_fetches_nothing() {
    let page = html(&explored_records());
    assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>"));
    let words = words(&page);
    for fetched in ["src=\"http", "<link", "@import", "url(", "<iframe"] {
        assert!(!words.contains(fetched), "{fetched}");
    }
    for part in [
        "default-src 'none'",
        "<h2>Time to first token</h2>",
        "<h2>Stages</h2>",
        "aria-label=\"Stages under the roof of the machine\"",
        "9 cases, 1 of them without a result",
        "details id=\"case-0\"",
        "seeded with 7: right shapes, random values",
    ] {
        assert!(words.contains(part), "no {part:?}");
    }
}

#[test]
fn nothing_of_a_record_becomes_markup() {
    let mut records = suites_and_blind_records();
    let hostile = "</script><script>alert(1)</script><img src=x onerror=alert(2)>";
    for record in &mut records {
        match record {
            Record::Sample(sample) => {
                if let SampleOutcome::Ok(answer) = &mut sample.outcome {
                    answer.response = hostile.into();
                }
            }
            Record::Case(facts) => facts.labels.model = hostile.into(),
            _ => {}
        }
    }
    records.push(exhibit("q1", hostile));
    let page = html(&records);
    assert!(!page.contains("alert(1)</script>"));
    assert!(!page.contains("<img src=x"));
    assert!(page.contains("&lt;img src=x onerror=alert(2)&gt;"));
}

fn exhibit(sample: &str, question: &str) -> Record {
    Record::Exhibit(Exhibit {
        suite: "textvqa".into(),
        profile: "lmms@0.2.2".into(),
        sample: sample.into(),
        question: question.into(),
        references: vec!["B".into()],
        images: vec![format!("gallery/{sample}.png")],
    })
}

#[test]
fn samples_are_shown_with_their_pictures_failures_and_the_worst_first() {
    let mut records = suites_and_blind_records();
    // q1 is right, q4 is wrong, q6 failed.
    records.push(exhibit("q1", "What is right?"));
    records.push(exhibit("q4", "What is wrong?"));
    records.push(exhibit("q6", "What failed?"));
    let folder = tempdir().unwrap();
    write(folder.path(), &records);
    fs::create_dir(folder.path().join("gallery")).unwrap();
    fs::write(folder.path().join("gallery/q4.png"), b"picture").unwrap();
    let out = tempdir().unwrap();
    let files = report::report(&[folder.path()], out.path()).unwrap();
    let page = fs::read_to_string(files.page).unwrap();
    let place = |text: &str| page.find(text).unwrap_or_else(|| panic!("no {text:?}"));
    let places = ["What failed?", "What is wrong?", "What is right?"].map(place);
    assert!(places.is_sorted(), "{places:?}");
    assert!(page.contains("failed in preprocess: image 6.jpg: unexpected end"));
    // The picture is part of the page; one that is not there is named.
    assert!(page.contains("src=\"data:image/png;base64,cGljdHVyZQ==\""));
    assert!(page.contains(&folder.path().join("gallery/q1.png").display().to_string()));
    let gallery = fs::read_to_string(files.gallery.unwrap()).unwrap();
    let place = |text: &str| gallery.find(text).unwrap_or_else(|| panic!("no {text:?}"));
    assert!(place("What failed?") < place("What is wrong?"));
}

/// The records with the answer to q1 of textvqa changed.
fn with_another_answer(records: &[Record]) -> Vec<Record> {
    let mut records = records.to_vec();
    for record in &mut records {
        if let Record::Sample(sample) = record
            && sample
                .case
                .starts_with("textvqa/fastvlm-0.5b/candle-cpu/f32/1024px")
            && sample.sample == "q1"
        {
            sample.outcome = answered(&sample.case, "q1", 0, 1).outcome;
            if let SampleOutcome::Ok(answer) = &mut sample.outcome {
                answer.response = "C, of course".into();
            }
        }
    }
    records
}

/// The page over two runs, and of the second one's folder what it holds beside records.
fn page_of_two(base: &[Record], candidate: &[Record], pictures: &[&str]) -> String {
    let (one, other, out) = (tempdir().unwrap(), tempdir().unwrap(), tempdir().unwrap());
    write(one.path(), base);
    write(other.path(), candidate);
    for picture in pictures {
        let path = other.path().join(picture);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, b"picture").unwrap();
    }
    let files = report::report(&[one.path(), other.path()], out.path()).unwrap();
    fs::read_to_string(files.page).unwrap()
}

#[test]
fn answers_that_two_runs_give_differently_stand_side_by_side() {
    let base = suites_and_blind_records();
    let page = page_of_two(&base, &with_another_answer(&base), &[]);
    let flips = page.split_once("id=\"flips\"").unwrap().1;
    assert!(flips.contains("1 of 6"), "{}", &flips[..600]);
    let row = "<tr class=\"wrong\"><th scope=\"row\">q1</th><td></td><td></td><td>B.\nBecause</td><td class=\"number\">100</td>\
               <td>C, of course</td><td class=\"number\">0</td></tr>";
    assert!(flips.contains(row), "{}", &flips[..1500]);
    // One run has nothing to differ from.
    assert!(!html(&base).contains("id=\"flips\""));
}

#[test]
fn changed_answers_have_the_picture_of_whichever_run_has_it() {
    let mut base = suites_and_blind_records();
    base.push(exhibit("q1", "What is right?"));
    let mut candidate = with_another_answer(&base);
    let page = page_of_two(&base, &candidate, &["gallery/q1.png"]);
    let flips = page.split_once("id=\"flips\"").unwrap().1;
    let (flips, samples) = flips.split_once("id=\"samples\"").unwrap();
    let picture = "src=\"data:image/png;base64,cGljdHVyZQ==\"";
    assert!(flips.contains(picture), "{flips}");
    assert!(flips.contains("<p>What is right?</p></td><td><code>B</code></td>"));
    // What both runs asked is one sample with the answers of both.
    assert_eq!(samples.matches("<article").count(), 1);
    assert!(samples.contains(picture));
    for model in ["fastvithd-qwen2 · run 1", "fastvithd-qwen2 · run 2"] {
        assert!(samples.contains(model), "no {model}");
    }
    assert!(samples.contains("B.\nBecause") && samples.contains("C, of course"));

    // Another question under the same name is another sample.
    let last = candidate.pop();
    assert!(matches!(last, Some(Record::Exhibit(_))));
    candidate.push(exhibit("q1", "What else?"));
    let page = page_of_two(&base, &candidate, &[]);
    let samples = page.split_once("id=\"samples\"").unwrap().1;
    let cards = samples.split("<article").skip(1);
    let cards: Vec<&str> = cards
        .map(|card| card.split_once("</article>").unwrap().0)
        .collect();
    assert_eq!(cards.len(), 2);
    let of = |question: &str| cards.iter().find(|card| card.contains(question)).unwrap();
    assert!(!of("What is right?").contains("run 2"));
    assert!(!of("What else?").contains("run 1"));
}

#[test]
fn the_data_behind_the_picture_has_a_front_for_every_choice() {
    let report = read(&explored_records());
    let data = Data::of(&report).unwrap();
    let front = |name: &str, group: &str| -> Vec<String> {
        let members = &data.fronts[name][group];
        members
            .iter()
            .map(|&i| data.points[i].label.clone())
            .collect()
    };
    assert_eq!(
        front("s0|ttft|all", "all"),
        [
            "fastvithd 256 px · 16 tok",
            "fastvithd 512 px · 64 tok",
            "fastvithd 768 px · 144 tok",
            "fastvithd 1024 px · 256 tok"
        ]
    );
    // What was published was measured elsewhere, and has a front of its own.
    let published = front("s0|ttft|all", "all (published)");
    assert_eq!(published.first().unwrap(), "FastViTHD 256 px");
    assert!(data.fronts["s0|tokens|encoder"].contains_key("FastViT"));
    // The paper's name and ours are one group.
    assert!(data.fronts["s0|ttft|encoder"].contains_key("FastViTHD"));
    assert!(data.fronts["s0|ttft|encoder"].contains_key("FastViTHD (published)"));
    let measured: Vec<_> = data.points.iter().filter(|p| !p.published).collect();
    assert!(
        measured
            .iter()
            .all(|p| p.case.is_some() && p.note.contains("seeded"))
    );
    assert!(
        data.points
            .iter()
            .filter(|p| p.published)
            .all(|p| p.note.contains("M1 Max"))
    );
    insta::assert_json_snapshot!("point_of_the_page", measured[3]);
    // Accuracies alone, or times alone, make no picture.
    let mut timed = explored_records();
    timed.retain(|record| !matches!(record, Record::Published(_)));
    assert!(Data::of(&read(&timed)).is_none());
}

#[test]
fn stages_are_held_against_the_peak_of_as_many_threads() {
    let report = read(&explored_records());
    let case = case_id("fastvithd", 256);
    let summary = report.summaries.iter().find(|s| s.case == case).unwrap();
    let stages = breakdown::stages(&report.runs[0], summary);
    let names: Vec<Figure> = stages.iter().map(|stage| stage.figure).collect();
    // The projector was not separable.
    assert_eq!(
        names,
        [
            Figure::Preprocess,
            Figure::Encode,
            Figure::Prefill,
            Figure::FirstDecode
        ]
    );
    assert_eq!(stages[3].time.median, 40.0);
    // 29.6 GFLOP in 180.2 ms of 400 GFLOP/s.
    let share = stages[1].of_peak().unwrap();
    assert!((share - 29.6 / 0.1802 / 400.0).abs() < 1e-9, "{share}");
    insta::assert_snapshot!("stages", breakdown::table(&report).to_text(200));
    // A peak of other threads is none.
    let mut records = quickstart_records();
    records.push(Record::Peak(vlmbench_reports::record::Peak {
        threads: 4,
        ..peak()
    }));
    let other = read(&records);
    assert!(
        breakdown::stages(&other.runs[0], summary)[1]
            .of_peak()
            .is_none()
    );
    assert!(breakdown::rooflines(&other).is_empty());
}

#[test]
fn every_table_is_a_file_in_three_formats() {
    let folder = tempdir().unwrap();
    write(folder.path(), &explored_records());
    let files = report::report(&[folder.path()], folder.path()).unwrap();
    let mut formats: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for entry in fs::read_dir(&files.tables).unwrap() {
        let path = entry.unwrap().path();
        let part = |part: Option<&std::ffi::OsStr>| part.unwrap().to_str().unwrap().to_owned();
        let formats = formats.entry(part(path.file_stem())).or_default();
        formats.push(part(path.extension()));
        formats.sort();
    }
    // What was measured row by row is no table of a document.
    assert_eq!(formats.remove("repetitions").unwrap(), ["csv", "parquet"]);
    assert!(
        formats
            .values()
            .all(|found| found == &["csv", "parquet", "tex"]),
        "{formats:?}"
    );
    let names: Vec<&str> = formats.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        ["cases-without-a-result", "stages", "time-to-first-token"]
    );
    let csv = fs::read_to_string(files.tables.join("time-to-first-token.csv")).unwrap();
    assert_eq!(csv.lines().count(), 9);
}

#[test]
fn a_figure_leads_back_to_its_lines() {
    let folder = tempdir().unwrap();
    write(folder.path(), &scored_records());
    let run = Run::read(folder.path()).unwrap();
    let timed = explain(&run, &case_id("fastvithd", 1024)).unwrap();
    // Line 1 has the facts, 2 to 8 the repetitions, 9 the end.
    assert_eq!((timed.facts, timed.end), (Some(1), Some(9)));
    assert_eq!(
        timed.repetitions,
        BTreeMap::from([(0, (2..=8).collect::<Vec<_>>())])
    );
    let ttft = timed
        .figures
        .iter()
        .find(|(name, ..)| name == "ttft.paper")
        .unwrap();
    assert!(
        ttft.2.contains("encode_ns + prefill_ns") && ttft.2.contains("n = 7"),
        "{ttft:?}"
    );

    let scored = explain(&run, "textvqa/fastvlm-0.5b/candle-cpu/f32/1024px").unwrap();
    assert_eq!(
        (scored.answered, scored.failed),
        ((11..=15).collect(), vec![16])
    );
    let accuracy = scored
        .figures
        .iter()
        .find(|(name, ..)| name == "accuracy")
        .unwrap();
    assert_eq!(accuracy.1, "32.78 %");
    assert!(
        accuracy.2.contains("59/30 / 6 samples, 1 failed"),
        "{accuracy:?}"
    );

    let Err(Error::NoCase { known, .. }) = explain(&run, "nothing") else {
        panic!("an unknown case is an error");
    };
    assert_eq!(known.len(), 2);

    // Of launches, one that did not come to its end is left out; warm-up always is.
    let with_warm_up = quickstart_records();
    let folder = tempdir().unwrap();
    write(folder.path(), &with_warm_up);
    let run = Run::read(folder.path()).unwrap();
    let explained = explain(&run, &case_id("clip-vit-l-14", 336)).unwrap();
    assert_eq!(explained.left_out, [4]);
    insta::assert_snapshot!(
        "explained",
        explained
            .to_text(100)
            .lines()
            .skip(3)
            .collect::<Vec<_>>()
            .join("\n")
    );
}
