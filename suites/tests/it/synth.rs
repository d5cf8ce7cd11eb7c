//! Drawn data sets: the published layouts, the same bytes for the same request, and splits that
//! share nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use vlmbench_suites::{
    Outcome, QuestionKind, SYNTHETIC, Split, SuiteError, SynthRequest, sha256_file, synthesize,
};

use crate::fixtures;

fn request(suite: &str, split: Split, samples: usize, seed: u64) -> SynthRequest {
    SynthRequest {
        suite: suite.to_owned(),
        split,
        samples,
        seed,
    }
}

fn draw(root: &Path, request: &SynthRequest) -> std::path::PathBuf {
    let file = format!(
        "{}-{}-{}.parquet",
        request.suite,
        request.split.name(),
        request.seed
    );
    let path = root.join(file);
    synthesize(request, &path, None).expect("a data set");
    path
}

/// The texts in each picture of a data set, by row.
fn places(root: &Path, request: &SynthRequest) -> Vec<serde_json::Value> {
    let beside = root.join("places.jsonl");
    synthesize(request, &root.join("any.parquet"), Some(&beside)).expect("a data set");
    let lines = std::fs::read_to_string(beside).expect("places");
    let rows = lines
        .lines()
        .map(|line| serde_json::from_str(line).expect("an object"));
    rows.collect()
}

#[test]
fn they_open_as_the_suites_whose_layout_they_have_and_their_golds_score_full() {
    let root = tempfile::tempdir().expect("a folder");
    for suite in SYNTHETIC {
        let path = draw(root.path(), &request(suite, Split::Test, 120, 3));
        let dataset = fixtures::open(suite, &path);
        assert_eq!(dataset.len(), 120);
        let spec = fixtures::spec(suite);
        let scored = fixtures::suite(suite, &spec.profiles[0].id);
        for (index, images) in dataset.images(0..dataset.len()) {
            let sample = &dataset.samples()[index];
            let images = images.expect("a picture");
            assert_eq!(images.len(), 1);
            assert!(!scored.render(sample).expect("a prompt").is_empty());
            let choice = sample.kind == QuestionKind::MultipleChoice;
            assert_eq!(choice, suite == "seedbench");
            // Most annotators agree.
            let gold = sample
                .golds
                .iter()
                .max_by_key(|gold| sample.golds.iter().filter(|other| other == gold).count());
            let gold = gold.expect("a gold answer").clone();
            let score = scored
                .score(sample, &Outcome::answered(gold))
                .expect("a score");
            assert_eq!(score.points.to_f64(), 1.0, "{}", sample.id);
        }
    }
}

#[test]
fn the_same_request_gives_the_same_bytes_and_a_longer_one_begins_with_them() {
    // Digests are of this generator: a change of what is drawn must be meant, since scores of
    // models on these suites change with it.
    let root = tempfile::tempdir().expect("a folder");
    let mut digests = BTreeMap::new();
    for suite in SYNTHETIC {
        let short = request(suite, Split::Validation, 7, 1);
        let path = draw(root.path(), &short);
        digests.insert(suite, sha256_file(&path).expect("a file"));
        let first = places(root.path(), &short);
        let longer = places(
            root.path(),
            &SynthRequest {
                samples: 130,
                ..short
            },
        );
        assert_eq!(first, longer[..7]);
        let other = places(root.path(), &request(suite, Split::Validation, 7, 2));
        assert_ne!(first, other);
    }
    let expected = BTreeMap::from([
        ("docvqa", "4cc01a6cc289282e"),
        ("seedbench", "08795aee14ec8d69"),
        ("textvqa", "406bcb655a02c3f5"),
    ]);
    let digests: BTreeMap<_, _> = digests
        .iter()
        .map(|(suite, hex)| (*suite, &hex[..16]))
        .collect();
    assert_eq!(digests, expected);
}

#[test]
fn nothing_that_is_to_be_read_is_in_two_splits() {
    let root = tempfile::tempdir().expect("a folder");
    let mut read: BTreeMap<String, Split> = BTreeMap::new();
    let mut asked: BTreeSet<String> = BTreeSet::new();
    for split in Split::ALL {
        // Different seeds: the division does not depend on them.
        let path = draw(root.path(), &request("textvqa", split, 200, split as u64));
        let dataset = fixtures::open("textvqa", &path);
        for sample in dataset.samples() {
            for word in &sample.ocr_tokens {
                let known = read.entry(word.to_lowercase()).or_insert(split);
                assert_eq!(*known, split, "{word}");
            }
            let content = format!("{} {:?}", sample.question, sample.ocr_tokens);
            assert!(asked.insert(content), "{} comes twice", sample.id);
        }
    }
    assert!(read.len() > 500, "only {} words", read.len());
}

#[test]
fn choices_have_their_answer_anywhere_and_questions_are_of_every_kind() {
    let root = tempfile::tempdir().expect("a folder");
    let path = draw(root.path(), &request("seedbench", Split::Test, 400, 0));
    let dataset = fixtures::open("seedbench", &path);
    let mut letters: BTreeMap<&str, usize> = BTreeMap::new();
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for sample in dataset.samples() {
        *letters.entry(&sample.golds[0]).or_default() += 1;
        for kind in sample.groups.values() {
            *kinds.entry(kind).or_default() += 1;
        }
        let choices: BTreeSet<_> = sample.choices.iter().collect();
        assert_eq!(choices.len(), 4);
    }
    assert_eq!(letters.len(), 4);
    assert!(
        letters.values().all(|n| (70..130).contains(n)),
        "{letters:?}"
    );
    assert!(
        kinds.len() >= 5 && kinds.values().all(|n| *n > 40),
        "{kinds:?}"
    );
}

#[test]
fn characters_are_where_the_places_say() {
    let root = tempfile::tempdir().expect("a folder");
    for row in places(root.path(), &request("docvqa", Split::Train, 20, 5)) {
        let side = |key: &str| row[key].as_i64().expect("a side") * 10;
        for text in row["texts"].as_array().expect("texts") {
            let (x, y) = (
                text["x"].as_array().expect("x"),
                text["y"].as_array().expect("y"),
            );
            let count = text["text"].as_str().expect("a text").chars().count();
            assert_eq!((x.len(), y.len()), (count, count));
            let inside = |v: &serde_json::Value, side: i64| {
                (0..side).contains(&v.as_i64().expect("a number"))
            };
            assert!(x.iter().all(|x| inside(x, side("width"))), "{text}");
            assert!(y.iter().all(|y| inside(y, side("height"))), "{text}");
        }
    }
}

#[test]
fn more_questions_are_answered_by_what_is_there() {
    let root = tempfile::tempdir().expect("a folder");
    let text = |value: &serde_json::Value| value.as_str().expect("a text").to_owned();
    for suite in SYNTHETIC {
        let (mut questions, mut colors) = (0, 0);
        for row in places(root.path(), &request(suite, Split::Train, 20, 5)) {
            let texts = row["texts"].as_array().expect("texts").iter();
            let written: Vec<String> = texts.map(|t| text(&t["text"]).to_lowercase()).collect();
            let objects = row["objects"].as_array().expect("objects");
            for ask in row["asks"].as_array().expect("asks") {
                questions += 1;
                let (question, answer) = (text(&ask["question"]), text(&ask["answer"]));
                if suite != "seedbench" {
                    assert!(written.contains(&answer.to_lowercase()), "{ask} of {row}");
                    for sign in row["texts"].as_array().expect("texts") {
                        let on = sign["on"].as_str();
                        if on.is_some_and(|on| question.contains(&format!("the {on} sign"))) {
                            assert_eq!(text(&sign["text"]).to_lowercase(), answer, "{question}");
                            colors += 1;
                        }
                    }
                    continue;
                }
                let choices = ask["choices"].as_array().expect("choices");
                let at = ["A", "B", "C", "D"]
                    .iter()
                    .position(|letter| *letter == answer);
                let right = text(&choices[at.expect("a letter")]).to_lowercase();
                if let Some(shape) = question.strip_prefix("What color is the ") {
                    let object = format!("{right} {}", shape.trim_end_matches('?'));
                    assert!(
                        objects.iter().any(|o| o["name"] == object.as_str()),
                        "{ask} of {row}"
                    );
                }
            }
        }
        assert!(questions > 40, "{suite}: {questions}");
        assert!(colors > 5 || suite != "textvqa", "{colors}");
    }
}

#[test]
fn what_cannot_be_drawn_is_an_error_that_names_what_can() {
    let root = tempfile::tempdir().expect("a folder");
    let out = root.path().join("x.parquet");
    let error = synthesize(&request("mmmu", Split::Test, 1, 0), &out, None).unwrap_err();
    assert!(matches!(error, SuiteError::NotSynthetic { .. }), "{error}");
    assert!(error.to_string().contains("`docvqa`"));
    let error = synthesize(&request("docvqa", Split::Test, 0, 0), &out, None).unwrap_err();
    assert!(matches!(error, SuiteError::NoSamples));
    assert!(!out.exists(), "nothing is written for nothing");
    let nowhere = root.path().join("no/folder/x.parquet");
    let error = synthesize(&request("docvqa", Split::Test, 1, 0), &nowhere, None).unwrap_err();
    assert!(error.to_string().contains("no/folder"), "{error}");
    assert!(
        "dev"
            .parse::<Split>()
            .unwrap_err()
            .to_string()
            .contains("`validation`")
    );
}
