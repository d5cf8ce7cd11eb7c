//! Predictions files.

use std::path::Path;

use vlmbench_suites::{Dataset, Predictions};

use crate::fixtures::{self, open, suite, write};

fn seedbench(root: &Path) -> Dataset {
    let rows = [
        ("1", "image", "A"),
        ("2", "image", "B"),
        ("v", "video", "A"),
        ("x", "image", "D"),
    ];
    open(
        "seedbench",
        &write(root, "seed.parquet", &fixtures::seedbench(&rows)),
    )
}

fn read(lines: &str) -> Result<(Predictions, Dataset), String> {
    let root = tempfile::tempdir().unwrap();
    let dataset = seedbench(root.path());
    let path = root.path().join("answers.jsonl");
    std::fs::write(&path, lines).unwrap();
    match Predictions::read(&path, &dataset) {
        Ok(predictions) => Ok((predictions, dataset)),
        Err(error) => Err(error.to_string()),
    }
}

#[test]
fn ids_are_strings_or_integers_and_a_missing_one_has_failed() {
    let lines = "{\"id\": 1, \"response\": \"A\", \"model\": {\"name\": \"m\"}}\n\n\
                 {\"id\":\"x\",\"response\":\"d.\\u2028\",\"truncated\":true}\r\n\
                 {\"id\": \"v\", \"response\": \"B\"}";
    let (predictions, dataset) = read(lines).unwrap();
    assert_eq!((predictions.len(), predictions.excluded()), (2, 1));
    let score = suite("seedbench", "lmms@0.2.2")
        .score_predictions(&dataset, &predictions)
        .unwrap();
    assert_eq!(
        (score.n, score.failed, score.truncated, score.unparsed),
        (3, 1, 1, 0)
    );
    assert_eq!(score.value, Some(200.0 / 3.0));
    assert_eq!(
        score.samples.iter().map(|s| s.score).collect::<Vec<_>>(),
        [1.0, 0.0, 1.0]
    );
}

#[test]
fn null_is_a_failed_sample_and_an_empty_response_is_not() {
    let (predictions, dataset) =
        read("{\"id\":\"1\",\"response\":null}\n{\"id\":\"2\",\"response\":\"\"}\n").unwrap();
    let score = suite("seedbench", "lmms@0.2.2")
        .score_predictions(&dataset, &predictions)
        .unwrap();
    assert_eq!((score.n, score.failed, score.unparsed), (3, 2, 1));
    assert_eq!(score.value, Some(0.0));
}

#[test]
fn what_is_wrong_names_file_and_line() {
    let good = "{\"id\":\"1\",\"response\":\"A\"}\n";
    for (line, problem) in [
        ("{\"id\":1,\"response\":\"B\"}", "id `1` was already given"),
        (
            "{\"id\":\"9\",\"response\":\"B\"}",
            "id `9` is not in split `test`",
        ),
        ("{\"id\":\"2\"", "not JSON"),
        ("[\"2\", \"B\"]", "not a JSON object"),
        ("{\"response\":\"B\"}", "no `id`"),
        (
            "{\"id\":2.5,\"response\":\"B\"}",
            "`id` is 2.5, expected a string or an integer",
        ),
        ("{\"id\":\"2\",\"answer\":\"B\"}", "no `response`"),
        (
            "{\"id\":\"2\",\"response\":3}",
            "`response` is 3, expected a string or null",
        ),
        (
            "{\"id\":\"2\",\"response\":\"B\",\"truncated\":\"no\"}",
            "`truncated` is \"no\", expected a boolean",
        ),
    ] {
        let error = read(&format!("{good}{line}\n")).map(|_| ()).unwrap_err();
        assert!(
            error.contains("answers.jsonl:2: ") && error.contains(problem),
            "{error}"
        );
    }
}
