//! A comparison in each format.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{xml::Element, *};

/// Attributes of junit-10.xsd that an element must and may have, and the children that it may have.
fn schema(name: &str) -> (&[&str], &[&str], &[&str]) {
    match name {
        "testsuites" => (
            &[],
            &["name", "time", "tests", "failures", "errors"],
            &["testsuite"],
        ),
        "testsuite" => (
            &["name", "tests", "failures", "errors"],
            &[
                "group",
                "time",
                "skipped",
                "timestamp",
                "hostname",
                "id",
                "package",
                "file",
            ],
            &[
                "testsuite",
                "properties",
                "testcase",
                "system-out",
                "system-err",
            ],
        ),
        "testcase" => (
            &["name"],
            &["time", "classname", "group"],
            &["skipped", "error", "failure", "system-out", "system-err"],
        ),
        "failure" | "error" | "skipped" => (&[], &["type", "message"], &[]),
        "system-out" => (&[], &[], &[]),
        other => panic!("{other} is not in the schema"),
    }
}

fn valid(element: &Element) {
    let (must, may, children) = schema(&element.name);
    let keys: Vec<&str> = element
        .attributes
        .iter()
        .map(|(key, _)| key.as_str())
        .collect();
    assert!(must.iter().all(|key| keys.contains(key)), "{element:?}");
    assert!(
        keys.iter()
            .all(|key| must.contains(key) || may.contains(key)),
        "{element:?}"
    );
    for child in &element.children {
        assert!(children.contains(&child.name.as_str()), "{element:?}");
        valid(child);
    }
}

#[test]
fn junit_has_a_test_for_each_decision_and_is_valid() {
    for (comparison, tests, failures, errors, skipped) in [
        (comparison(), 7, 1, 0, 2),
        (broken(), 7, 1, 2, 2),
        (empty(), 1, 0, 0, 1),
    ] {
        let text = junit(&comparison);
        let root = xml::parse(&text);
        valid(&root);
        let count = |name: &str| root.get(name).parse::<usize>().unwrap();
        assert_eq!(
            (count("tests"), count("failures"), count("errors")),
            (tests, failures, errors)
        );
        let mut seen = (0, 0, 0, 0);
        let mut names = BTreeSet::new();
        for suite in root.all("testsuite") {
            let cases: Vec<&Element> = suite.all("testcase").collect();
            assert_eq!(suite.get("tests"), cases.len().to_string());
            for case in cases {
                let has = |name: &str| case.all(name).count();
                seen.0 += 1;
                seen.1 += has("failure");
                seen.2 += has("error");
                seen.3 += has("skipped");
                assert!(names.insert((case.get("classname"), case.get("name"))));
            }
        }
        assert_eq!(seen, (tests, failures, errors, skipped));
    }
}

#[test]
fn junit_says_why_and_keeps_names() {
    let text = junit(&comparison());
    insta::assert_snapshot!("junit", junit(&broken()));
    let root = xml::parse(&text);
    let suites: Vec<&str> = root.all("testsuite").map(|s| s.get("name")).collect();
    assert!(suites.contains(&NASTY), "{suites:?}");
    let failure = root.all("testsuite").flat_map(|s| s.all("testcase"));
    let failure = failure.flat_map(|c| c.all("failure")).next().unwrap();
    assert_eq!(failure.get("message"), "encode +10.0 %");
    insta::assert_snapshot!(failure.text, @r"
    base 20.0 ms, candidate 22.0 ms: +10.0 %
    99 % interval +9.0 … +11.0 %
    irrelevant below 1 %, tolerated up to 3 %
    p of being worse 2e-5, adjusted 8e-5 (12 launches)
    encode FLOPs: base 29.6 G, candidate 32.1 G
    flag: launch 7 of the base waited 12 % of its time
    ");
    // Characters that XML cannot hold do not end up in it.
    let mut odd = comparison();
    odd.cases[0].flags = vec!["bell \u{7} and \u{1b}[31m".into()];
    xml::parse(&junit(&odd));
    assert!(!junit(&odd).contains(['\u{7}', '\u{1b}']));
}

#[test]
fn the_summary_begins_with_the_conclusion() {
    insta::assert_snapshot!("summary", summary(&comparison()));
    insta::assert_snapshot!("summary_of_nothing", summary(&empty()));
    let broken = summary(&broken());
    assert!(broken.starts_with("## ⚠️ vlmbench: broken\n"), "{broken}");
    assert!(
        broken.contains("- **Problem:** latency/x did not run, on the candidate: &lt;oom&gt;\n")
    );
    assert!(
        broken.contains("**failed**: encode regressed: +7 %"),
        "{broken}"
    );
}

#[test]
fn markup_in_names_and_answers_stays_text() {
    let text = summary(&comparison());
    assert!(
        !text.contains("<script>") && !text.contains("<b>"),
        "{text}"
    );
    // Every row of the table of answers has its four cells, whatever is in them.
    let row = text
        .lines()
        .find(|line| line.starts_with("| q1 |"))
        .unwrap();
    assert_eq!(
        row,
        r"| q1 | stop | &lt;script&gt;\|\*shop\* or \`x\` | 100 → 0 |"
    );
    assert_eq!(
        text.matches("<details>").count(),
        text.matches("</details>").count()
    );
}

#[test]
fn annotations_are_escaped_lines() {
    insta::assert_snapshot!("annotations", annotations(&broken()));
    let mut odd = comparison();
    odd.cases[1].latencies[0].verdict = Verdict::Regressed;
    let text = annotations(&odd);
    let named = |line: &&str| line.contains("new line/é%3A encode regressed::");
    let line = text.lines().find(named).unwrap();
    let (title, _) = line
        .strip_prefix("::error title=")
        .unwrap()
        .split_once("::")
        .unwrap();
    assert!(
        title.contains("a|b%2C 50%25%3A Größe%0Anew line"),
        "{title}"
    );
    assert!(!title.contains([',', ':']), "{title}");
    assert_eq!(annotations(&empty()).lines().count(), 1);
}

#[test]
fn bencher_has_values_with_bounds_of_their_changes() {
    let value = bencher(&comparison());
    let case = &value["latency/fastvithd/candle-cpu/f32/256px"];
    assert_eq!(case["encode-ms"], serde_json::json!({"value": 22.0}));
    let change = &case["encode-change"];
    assert!((change["value"].as_f64().unwrap() - 10.0).abs() < 1e-9);
    assert!((change["lower_value"].as_f64().unwrap() - 9.0).abs() < 1e-9);
    assert!(case["ttft-paper-ms"]["value"].is_f64());
    assert_eq!(case["prefill-change"].as_object().unwrap().len(), 1);
    assert!(value[NASTY]["encode-ms"]["value"].is_f64());
    for measures in value.as_object().unwrap().values() {
        for (slug, metric) in measures.as_object().unwrap() {
            assert!(
                slug.chars().all(|c| c.is_ascii_lowercase() || c == '-'),
                "{slug}"
            );
            assert!(metric["value"].is_number(), "{metric}");
        }
    }
    assert_eq!(bencher(&empty()), serde_json::json!({}));
}

#[test]
fn action_benchmark_has_one_direction_a_file() {
    let latencies = action_benchmark(&comparison(), Direction::Latencies);
    let scores = action_benchmark(&comparison(), Direction::Scores);
    assert_eq!(latencies.as_array().unwrap().len(), 5);
    insta::assert_json_snapshot!("action_benchmark_scores", scores);
    for entry in latencies.as_array().unwrap() {
        assert!(entry["name"].is_string() && entry["value"].is_number());
        assert_eq!(entry["unit"], "ms");
    }
    assert_eq!(
        action_benchmark(&empty(), Direction::Scores),
        serde_json::json!([])
    );
}

#[test]
fn rows_have_every_figure_once() {
    let rows = rows(&comparison()).unwrap();
    assert_eq!(rows.height(), 6);
    insta::assert_snapshot!("rows", crate::frame::csv(&rows).unwrap());
    assert_eq!(super::super::rows(&empty()).unwrap().height(), 0);
}

#[test]
fn what_is_no_number_is_nowhere_written_as_one() {
    let mut odd = comparison();
    for l in odd.cases.iter_mut().flat_map(|c| &mut c.latencies) {
        (l.candidate_ms, l.change, l.p_slower) = (f64::NAN, f64::INFINITY, f64::NAN);
        l.interval = interval(f64::NEG_INFINITY, f64::INFINITY);
    }
    odd.scores[0].change = f64::NAN;
    for (export, name, _) in Export::ALL {
        let bytes = export.render(&odd).unwrap();
        if export == Export::Parquet {
            continue;
        }
        let text = String::from_utf8(bytes).unwrap();
        assert!(
            !text.contains("NaN") && !text.contains("inf "),
            "{name}: {text}"
        );
        if export.file_name().ends_with(".json") {
            serde_json::from_str::<Value>(&text).unwrap();
        }
    }
    let value = bencher(&odd);
    assert_eq!(
        value.as_object().unwrap().len(),
        1,
        "only the score has a value: {value}"
    );
}

#[test]
fn formats_are_found_by_name_and_written_to_files() {
    let folder = tempfile::tempdir().unwrap();
    for (export, name, file) in Export::ALL {
        assert_eq!(name.parse(), Ok(export));
        let path = folder.path().join("new").join(file);
        export.write(&comparison(), &path).unwrap();
        assert_eq!(
            std::fs::read(&path).unwrap(),
            export.render(&comparison()).unwrap()
        );
    }
    let error = "xml".parse::<Export>().unwrap_err();
    assert!(
        error.contains("`xml`") && error.contains("junit, summary, annotations"),
        "{error}"
    );
    let json = Export::Json.render(&comparison()).unwrap();
    assert_eq!(
        serde_json::from_slice::<Comparison>(&json).unwrap(),
        comparison()
    );
}
