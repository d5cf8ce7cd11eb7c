//! `vlmbench score`: answers made elsewhere, on the fixtures' parquet files.

use std::path::Path;

use serde_json::{Value, json};

use crate::shell::{Done, arg, fixture, run};

/// What the ten annotators of the TextVQA fixture agree on, by question from 34602 on.
const SIGNS: [&str; 10] = [
    "exit", "stop", "open", "taxi", "cafe", "bank", "park", "hotel", "sale", "north",
];

/// Gold answers by id, in the order of the rows.
fn gold(suite: &str) -> Vec<(String, String)> {
    let letter = |n: usize| "ABCD"[n..=n].to_owned();
    match suite {
        "textvqa" => (34602..)
            .zip(SIGNS)
            .map(|(id, sign)| (id.to_string(), sign.to_owned()))
            .collect(),
        "docvqa" => (0..9)
            .map(|n| {
                let name = SIGNS[n];
                let name = format!("{}{} Ltd", name[..1].to_uppercase(), &name[1..]);
                let answer = match n % 2 {
                    0 => format!("${}.50", 117 + 31 * n),
                    _ => name,
                };
                ((49153 + n).to_string(), answer)
            })
            .collect(),
        // The options are four colours turned by `n % 3`; two rows are videos.
        "seedbench" => (0..12)
            .filter(|n| ![5, 11].contains(n))
            .map(|n| ((101669 + n).to_string(), letter((n % 4 + 4 - n % 3) % 4)))
            .collect(),
        _ => {
            let subjects = ["Accounting", "Art", "Computer_Science", "Design", "Math"];
            let mut rows: Vec<(String, String)> = (1..=5)
                .map(|n| (format!("validation_{}_{n}", subjects[n - 1]), letter(n % 4)))
                .collect();
            for (id, answer) in [
                ("validation_Math_6", "1"),
                ("validation_Art_7", "hotel"),
                ("validation_Design_8", "A"),
                ("validation_Accounting_9", "(A)"),
            ] {
                rows.push((id.into(), answer.into()));
            }
            rows
        }
    }
}

/// Scores lines against a fixture.
fn score(suite: &str, profile: &str, lines: &str, more: &[&str]) -> Done {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("answers.jsonl"), lines).unwrap();
    let data = fixture(&format!("suites/{suite}"));
    let mut args = vec!["score", suite, "--profile", profile, "--data", arg(&data)];
    args.extend(["--predictions", "answers.jsonl"]);
    args.extend(more);
    run(folder.path(), args)
}

fn lines(answers: &[(String, String)]) -> String {
    let line = |(id, response): &(String, String)| {
        // Ids that are numbers may be given as numbers.
        let id: Value = id.parse::<u64>().map_or(json!(id), Value::from);
        format!("{}\n", json!({"id": id, "response": response}))
    };
    answers.iter().map(line).collect()
}

fn score_json(suite: &str, profile: &str, lines: &str) -> Value {
    score(suite, profile, lines, &["--format", "json"]).json(0)
}

#[test]
fn gold_answers_reach_the_known_ceiling_of_every_profile() {
    for (suite, profile, points, n) in [
        // Annotators who agree: six of ten questions by all, then 9, 4, 3, 2 and 1 of ten.
        ("textvqa", "llava-official@c121f04", 8.8, 10),
        ("textvqa", "lmms@0.2.2", 8.8, 10),
        ("textvqa", "lmms@75571cf", 8.8, 10),
        ("docvqa", "lmms@0.2.2", 9.0, 9),
        ("docvqa", "lmms@75571cf", 9.0, 9),
        ("seedbench", "lmms@0.2.2", 10.0, 10),
        ("seedbench", "lmms@75571cf", 10.0, 10),
        // A list of gold answers is not looked into; later no open question can score.
        ("mmmu", "lmms@0.2.2", 8.0, 9),
        ("mmmu", "lmms@75571cf", 7.0, 9),
    ] {
        let found = score_json(suite, profile, &lines(&gold(suite)));
        let value = found["score"].as_f64().unwrap();
        let expected = 100.0 * points / f64::from(n);
        assert!(
            (value - expected).abs() < 1e-9,
            "{suite} {profile}: {found}"
        );
        assert_eq!(found["n"], n, "{suite} {profile}");
        assert_eq!(found["failed"], 0, "{suite} {profile}");
        assert_eq!(found["unparsed"], 0, "{suite} {profile}");
    }
}

#[test]
fn the_json_has_every_sample_by_its_id() {
    let found = score_json("textvqa", "lmms@75571cf", &lines(&gold("textvqa")));
    for (key, value) in [
        ("suite", json!("textvqa")),
        ("profile", json!("lmms@75571cf")),
        ("metric", json!("vqa-accuracy")),
        ("split", json!("validation")),
        ("truncated", json!(0)),
        ("missing_shards", json!(0)),
        ("excluded_predictions", json!(0)),
    ] {
        assert_eq!(found[key], value, "{key}");
    }
    let samples = found["samples"].as_object().unwrap();
    assert_eq!(samples.len(), 10);
    for (id, share) in [
        ("34602", 1.0),
        ("34606", 1.0),
        ("34607", 0.9),
        ("34608", 0.6),
        ("34610", 0.3),
    ] {
        assert_eq!(samples[id], share, "{id}");
    }
    assert_eq!(found["answers"]["34602"]["status"], "found");
    let interval = &found["interval"];
    assert!(
        interval["low"].as_f64() < found["score"].as_f64(),
        "{interval}"
    );
    assert!(
        interval["high"].as_f64() > found["score"].as_f64(),
        "{interval}"
    );
    assert!(
        found["dataset_digest"]
            .as_str()
            .unwrap()
            .starts_with("sha256:")
    );
}

#[test]
fn what_was_not_answered_stays_in_the_denominator() {
    let mut answers = gold("mmmu");
    answers.truncate(2);
    let mut text = lines(&answers);
    text.push_str("{\"id\": \"validation_Computer_Science_3\", \"response\": null}\n");
    text.push_str("{\"id\": \"validation_Design_4\", \"response\": \"no idea\"}\n");
    let found = score_json("mmmu", "lmms@0.2.2", &text);
    assert_eq!(found["n"], 9);
    let value = found["score"].as_f64().unwrap();
    assert!((value - 200.0 / 9.0).abs() < 1e-9, "{found}");
    assert_eq!(found["failed"], 6);
    assert_eq!(found["unparsed"], 1);
    assert_eq!(
        found["answers"]["validation_Computer_Science_3"]["status"],
        "failed"
    );
    assert_eq!(
        found["answers"]["validation_Design_4"]["status"],
        "unparsed"
    );
    assert_eq!(found["groups"]["subject"]["Accounting"]["n"], 2);
}

#[test]
fn rows_that_a_suite_leaves_out_may_have_answers() {
    let mut answers = gold("seedbench");
    answers.push(("101674".into(), "A".into()));
    let found = score_json("seedbench", "lmms@0.2.2", &lines(&answers));
    assert_eq!(found["n"], 10);
    assert_eq!(found["excluded_predictions"], 1);
}

#[test]
fn another_split_is_another_data_set() {
    let answer = "{\"id\": \"dev_Accounting_1\", \"response\": \"A\"}\n";
    let found = score(
        "mmmu",
        "lmms@0.2.2",
        answer,
        &["--split", "dev", "--format", "json"],
    )
    .json(0);
    assert_eq!(found["split"], "dev");
    assert_eq!(found["n"], 1);
    assert_eq!(found["score"], 100.0);
    score("mmmu", "lmms@0.2.2", answer, &["--split", "tset"])
        .fails(7, &["tset", "dev", "validation"]);
}

#[test]
fn a_bad_line_is_named_by_file_and_number() {
    let good = "{\"id\": 34602, \"response\": \"exit\"}\n";
    for (bad, message) in [
        (good, "id `34602` was already given"),
        ("{\"id\": 34603, \"response\": ", "not JSON"),
        ("{\"id\": 34603}", "no `response`"),
        ("{\"response\": \"x\"}", "no `id`"),
        ("{\"id\": 34603, \"response\": 5}", "`response` is 5"),
        (
            "{\"id\": 1, \"response\": \"x\"}",
            "id `1` is not in split `validation`",
        ),
        ("[]", "not a JSON object"),
    ] {
        // A blank line is no line of data and still counts for the number.
        let text = format!("{good}\n{bad}\n");
        let failed = score("textvqa", "lmms@75571cf", &text, &[]);
        failed.fails(7, &["answers.jsonl", "3", message]);
    }
}

#[test]
fn a_whole_repository_is_read_for_the_suites_own_configuration() {
    // InfographicVQA lies beside DocVQA in the same snapshot, under ids of its own.
    let info = "{\"id\": \"info-49153\", \"response\": \"x\"}\n";
    score("docvqa", "lmms@0.2.2", info, &[]).fails(7, &["info-49153"]);
    // One file alone works too.
    let folder = tempfile::tempdir().unwrap();
    let answers = lines(&gold("docvqa"));
    std::fs::write(folder.path().join("answers.jsonl"), answers).unwrap();
    let file = fixture("suites/docvqa/DocVQA/validation-00000-of-00001.parquet");
    let args = [
        "score",
        "docvqa",
        "--data",
        arg(&file),
        "--predictions",
        "answers.jsonl",
    ];
    let text = run(folder.path(), args).ok();
    assert!(text.contains("100.00 %"), "{text}");
    assert!(
        text.contains("n 9, failed 0, unparsed 0, truncated 0"),
        "{text}"
    );
}

#[test]
fn names_and_paths_that_do_not_exist_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let fails = |args: [&str; 6], code: i32, parts: &[&str]| {
        run(folder.path(), args).fails(code, parts);
    };
    std::fs::write(folder.path().join("p.jsonl"), "").unwrap();
    let data = fixture("suites/docvqa");
    let data = arg(&data);
    fails(
        [
            "score",
            "docvqaa",
            "--data",
            data,
            "--predictions",
            "p.jsonl",
        ],
        3,
        &["docvqa`?"],
    );
    fails(
        [
            "score",
            "docvqa",
            "--data",
            data,
            "--predictions",
            "q.jsonl",
        ],
        7,
        &["q.jsonl"],
    );
    let nowhere = Path::new("/nonexistent/data");
    fails(
        [
            "score",
            "docvqa",
            "--data",
            arg(nowhere),
            "--predictions",
            "p.jsonl",
        ],
        7,
        &["/nonexistent/data"],
    );
    score("docvqa", "lmms@1", "", &[]).fails(3, &["lmms@1", "lmms@0.2.2", "lmms@75571cf"]);
}
