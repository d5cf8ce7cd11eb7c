//! Answers with a known score: the gold, a constant, nothing; and what must not change a score.

use std::path::Path;

use vlmbench_suites::{Dataset, IntervalMethod, Outcome, Sample, SampleScore, Suite, SuiteScore};

use crate::fixtures::{self, MMMU, open, suite, write};

const ALL: [(&str, &str); 9] = [
    ("textvqa", "llava-official@c121f04"),
    ("textvqa", "lmms@0.2.2"),
    ("textvqa", "lmms@75571cf"),
    ("docvqa", "lmms@0.2.2"),
    ("docvqa", "lmms@75571cf"),
    ("seedbench", "lmms@0.2.2"),
    ("seedbench", "lmms@75571cf"),
    ("mmmu", "lmms@0.2.2"),
    ("mmmu", "lmms@75571cf"),
];

/// The data of a suite, in a folder of its own.
fn data(id: &str, root: &Path) -> Dataset {
    let rows = match id {
        "textvqa" => fixtures::textvqa(&[1, 2, 3, 4, 5], 7),
        "docvqa" => fixtures::docvqa(&["10", "20", "30"]),
        "seedbench" => fixtures::seedbench(&[
            ("1", "image", "A"),
            ("2", "image", "B"),
            ("v", "video", "A"),
            ("3", "image", "D"),
        ]),
        _ => fixtures::mmmu(&MMMU),
    };
    open(id, &write(root, &format!("{id}.parquet"), &rows))
}

fn gold(sample: &Sample) -> String {
    let gold = sample.golds.last().unwrap();
    match vlmbench_suites::python::parse_list(gold) {
        Ok(list) => list[0].clone(),
        Err(_) => gold.clone(),
    }
}

fn scores(
    suite: &Suite,
    dataset: &Dataset,
    answer: impl Fn(&Sample) -> String,
) -> Vec<SampleScore> {
    let score = |sample: &Sample| {
        suite
            .score(sample, &Outcome::answered(answer(sample)))
            .unwrap()
    };
    dataset.samples().iter().map(score).collect()
}

fn total(id: &str, profile: &str, answer: impl Fn(&Sample) -> String) -> SuiteScore {
    let root = tempfile::tempdir().unwrap();
    let (suite, dataset) = (suite(id, profile), data(id, root.path()));
    let scores = scores(&suite, &dataset, answer);
    suite.aggregate(dataset.split(), scores).unwrap()
}

#[test]
fn gold_reaches_the_known_ceiling() {
    for (id, profile) in ALL {
        let expected = match (id, profile) {
            // Three of ten annotators agree: nobody can get more than 0.9.
            ("textvqa", _) => 90.0,
            // The list of golds is compared as text; later no open question scores at all.
            ("mmmu", "lmms@0.2.2") => 80.0,
            ("mmmu", _) => 60.0,
            _ => 100.0,
        };
        let score = total(id, profile, gold);
        assert_eq!(score.value, Some(expected), "{id} {profile}");
        assert_eq!((score.failed, score.unparsed), (0, 0), "{id} {profile}");
    }
}

#[test]
fn constant_answers() {
    for (id, answer, expected, unparsed) in [
        ("textvqa", "yes", 0.0, 0),
        ("textvqa", "other", 100.0, 0),
        ("textvqa", "", 0.0, 0),
        ("docvqa", "yes", 0.0, 0),
        ("docvqa", "", 0.0, 0),
        ("seedbench", "A", 100.0 / 3.0, 0),
        ("seedbench", "yes", 0.0, 3),
        ("seedbench", "", 0.0, 3),
        // The two open questions take any words for an answer.
        ("mmmu", "A", 20.0, 0),
        ("mmmu", "yes", 0.0, 3),
        ("mmmu", "", 0.0, 5),
    ] {
        let score = total(id, "lmms@0.2.2", |_| answer.to_owned());
        let value = score.value.unwrap();
        assert!((value - expected).abs() < 1e-12, "{id} {answer:?}: {value}");
        assert_eq!(score.unparsed, unparsed, "{id} {answer:?}");
    }
}

#[test]
fn half_right_documents_part_the_profiles() {
    let half = |sample: &Sample| format!("{}xxxx", gold(sample));
    let thresholded = total("docvqa", "lmms@0.2.2", half);
    let graded = total("docvqa", "lmms@75571cf", half);
    assert_eq!(thresholded.value, Some(100.0));
    // "Invoice 10xxxx": 4 edits over 14 characters.
    assert_eq!(graded.value, Some(100.0 * 10.0 / 14.0));
    assert_eq!(thresholded.interval.unwrap().method, IntervalMethod::Wilson);
}

#[test]
fn reasoning_is_removed_at_head_only() {
    for (tags, id, before) in [
        ("think", "seedbench", 0.0),
        ("analysis", "docvqa", 0.0),
        ("think", "textvqa", 0.0),
    ] {
        let answer =
            |sample: &Sample| format!("<{tags}>Could it be X?\n</{tags}>\n {}", gold(sample));
        assert_eq!(total(id, "lmms@0.2.2", answer).value, Some(before), "{id}");
        assert_eq!(
            total(id, "lmms@75571cf", answer).value,
            total(id, "lmms@75571cf", gold).value,
            "{id}"
        );
    }
    // A block that never closes stays, and so does a closing tag before the opening one.
    for answer in ["<think>A", "</think>A<think>"] {
        assert_eq!(
            total("seedbench", "lmms@75571cf", |_| answer.to_owned()).unparsed,
            3,
            "{answer}"
        );
    }
    let twice = |_: &Sample| "<think>B</think> <analysis>C</analysis><think>D</think>A".to_owned();
    assert_eq!(total("seedbench", "lmms@75571cf", twice).unparsed, 0);
}

#[test]
fn order_and_shards_do_not_change_a_bit() {
    for (id, profile) in ALL {
        let root = tempfile::tempdir().unwrap();
        let (suite, dataset) = (suite(id, profile), data(id, root.path()));
        let answers = |sample: &Sample| format!("{} {}", gold(sample), sample.id.len());
        let mut scores = scores(&suite, &dataset, answers);
        let json = |scores: Vec<SampleScore>| {
            let total = suite.aggregate("x", scores).unwrap();
            serde_json::to_string(&total).unwrap()
        };
        let forward = json(scores.clone());
        scores.reverse();
        assert_eq!(json(scores.clone()), forward, "{id}");
        scores.rotate_left(1);
        assert_eq!(json(scores.clone()), forward, "{id}");
        scores.push(scores[0].clone());
        let error = suite.aggregate("x", scores).unwrap_err().to_string();
        assert!(error.contains("was scored twice"), "{error}");
    }
}

#[test]
fn failed_and_truncated_samples_are_counted() {
    let root = tempfile::tempdir().unwrap();
    let (suite, dataset) = (
        suite("seedbench", "lmms@0.2.2"),
        data("seedbench", root.path()),
    );
    let outcomes = [
        Outcome::answered("A"),
        Outcome::Failed {
            reason: "corrupt image".to_owned(),
        },
        Outcome::Answered {
            response: "D and so on and".to_owned(),
            truncated: true,
        },
    ];
    let scores = dataset.samples().iter().zip(&outcomes);
    let scores: Vec<_> = scores
        .map(|(sample, outcome)| suite.score(sample, outcome).unwrap())
        .collect();
    let total = suite.aggregate(dataset.split(), scores).unwrap();
    assert_eq!(
        (total.n, total.failed, total.unparsed, total.truncated),
        (3, 1, 0, 1)
    );
    assert_eq!(total.value, Some(200.0 / 3.0));
    assert_eq!(total.groups["question_type_id"]["1"].n, 1);
    assert!(total.samples[1].failed && total.samples[1].answer.is_none());
    let json = serde_json::to_value(&total).unwrap();
    assert_eq!(json["samples"][0]["id"], "1");
    assert_eq!(json["samples"][0]["answer"]["found"], "A");
    assert_eq!(json["samples"][0]["points"]["num"], 1);
    assert_eq!(serde_json::from_value::<SuiteScore>(json).unwrap(), total);
}

#[test]
fn groups_split_the_score() {
    let score = total("mmmu", "lmms@0.2.2", |_| "A".to_owned());
    let types = &score.groups["question_type"];
    assert_eq!((types["open"].n, types["open"].value), (2, 0.0));
    assert!((types["multiple-choice"].value - 100.0 / 3.0).abs() < 1e-12);
    assert_eq!(score.groups["subject"]["Art"].value, 50.0);
}

#[test]
fn a_secret_gold_cannot_be_scored() {
    let root = tempfile::tempdir().unwrap();
    let mut rows = MMMU;
    rows[0].answer = "?";
    let dataset = open(
        "mmmu",
        &write(root.path(), "test.parquet", &fixtures::mmmu(&rows)),
    );
    let suite = suite("mmmu", "lmms@0.2.2");
    let error = suite
        .score(&dataset.samples()[0], &Outcome::answered("A"))
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("`validation_Art_1` has no gold answer"),
        "{error}"
    );
}
