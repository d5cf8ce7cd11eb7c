//! JUnit XML: what test reporters of CI systems read.
//!
//! One `testsuite` for a case's latencies, one for scores, one for what the comparison itself rests
//! on; one `testcase` for each figure that decides. The document is valid against the xUnit plug-in's
//! `junit-10.xsd`, which is the strictest in use.

use std::fmt::Write as _;

use super::{CaseChange, Comparison, Settings, Verdict, words};

/// What became of a test case.
enum Outcome {
    Passed,
    /// A regression: message and text.
    Failure(String, String),
    /// The comparison is broken: message and text.
    Error(String, String),
    /// Undecided: message.
    Skipped(String),
}

struct TestCase {
    name: String,
    outcome: Outcome,
    /// What was found, for those that passed.
    output: String,
}

struct Suite {
    name: String,
    cases: Vec<TestCase>,
}

/// The comparison as JUnit XML.
///
/// | found | element |
/// | :-- | :-- |
/// | passed, improved | a bare `testcase`, its figures in `system-out` |
/// | regressed | `failure`, with effect, interval and thresholds |
/// | inconclusive | `skipped`, with a message |
/// | a control that failed, a problem | `error` |
///
/// Times are left out: a latency of a candidate is not the duration of a test.
pub fn junit(comparison: &Comparison) -> String {
    let settings = &comparison.settings;
    let mut suites: Vec<Suite> = (comparison.cases.iter())
        .map(|case| latencies(case, settings))
        .filter(|suite| !suite.cases.is_empty())
        .collect();
    if !comparison.scores.is_empty() {
        suites.push(scores(comparison));
    }
    suites.push(foundations(comparison));
    render(&suites, &comparison.ended_at)
}

fn latencies(case: &CaseChange, settings: &Settings) -> Suite {
    let gated = case.latencies.iter().filter(|l| l.gated);
    let test = |l: &super::LatencyChange| {
        let mut lines = words::latency_lines(l, settings);
        if case
            .blamed()
            .is_some_and(|blamed| blamed.figure == l.figure)
        {
            lines.extend(
                case.differences
                    .iter()
                    .map(|d| format!("{}: base {}, candidate {}", d.what, d.base, d.candidate)),
            );
        }
        lines.extend(case.flags.iter().map(|flag| format!("flag: {flag}")));
        let title = format!("{} {}", l.figure, words::percent(l.change));
        TestCase {
            name: l.figure.clone(),
            outcome: outcome(l.verdict, &title, &lines),
            output: lines.join("\n"),
        }
    };
    Suite {
        name: case.case.clone(),
        cases: gated.map(test).collect(),
    }
}

fn scores(comparison: &Comparison) -> Suite {
    let test = |s: &super::ScoreChange| {
        let lines = words::score_lines(s, &comparison.settings);
        let title = format!("score {}", words::points(s.change));
        TestCase {
            name: s.case.clone(),
            outcome: outcome(s.verdict, &title, &lines),
            output: lines.join("\n"),
        }
    };
    Suite {
        name: "scores".into(),
        cases: comparison.scores.iter().map(test).collect(),
    }
}

/// Controls and problems. Never empty, so that a comparison of nothing is a report, too.
fn foundations(comparison: &Comparison) -> Suite {
    let control = |c: &super::Control| TestCase {
        name: format!("control {}", c.name),
        outcome: match c.held {
            true => Outcome::Passed,
            false => Outcome::Error(format!("{} did not hold", c.name), c.found.clone()),
        },
        output: format!("{}: {}", c.what, c.found),
    };
    let mut cases: Vec<TestCase> = comparison.controls.iter().map(control).collect();
    cases.push(TestCase {
        name: "comparable".into(),
        outcome: match comparison.problems.as_slice() {
            [] if comparison.figures() == 0 => Outcome::Skipped(words::meaning(comparison)),
            [] => Outcome::Passed,
            [first, ..] => Outcome::Error(first.clone(), comparison.problems.join("\n")),
        },
        output: words::meaning(comparison),
    });
    Suite {
        name: "comparison".into(),
        cases,
    }
}

fn outcome(verdict: Verdict, title: &str, lines: &[String]) -> Outcome {
    match verdict {
        Verdict::Improved | Verdict::Pass => Outcome::Passed,
        Verdict::Inconclusive => Outcome::Skipped(format!("{title}: {}", lines.join("; "))),
        Verdict::Regressed => Outcome::Failure(title.to_owned(), lines.join("\n")),
    }
}

fn render(suites: &[Suite], ended_at: &str) -> String {
    let count = |cases: &[TestCase]| {
        let of = |wanted: fn(&Outcome) -> bool| cases.iter().filter(|c| wanted(&c.outcome)).count();
        (
            cases.len(),
            of(|o| matches!(o, Outcome::Failure(..))),
            of(|o| matches!(o, Outcome::Error(..))),
            of(|o| matches!(o, Outcome::Skipped(_))),
        )
    };
    let total = suites
        .iter()
        .map(|s| count(&s.cases))
        .fold((0, 0, 0), |a, b| (a.0 + b.0, a.1 + b.1, a.2 + b.2));
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let _ = writeln!(
        xml,
        "<testsuites name=\"vlmbench compare\" tests=\"{}\" failures=\"{}\" errors=\"{}\">",
        total.0, total.1, total.2
    );
    for suite in suites {
        let (tests, failures, errors, skipped) = count(&suite.cases);
        let name = escaped(&suite.name);
        let _ = writeln!(
            xml,
            "  <testsuite name=\"{name}\" tests=\"{tests}\" failures=\"{failures}\" \
             errors=\"{errors}\" skipped=\"{skipped}\" timestamp=\"{}\">",
            escaped(ended_at)
        );
        for case in &suite.cases {
            let _ = write!(
                xml,
                "    <testcase classname=\"vlmbench.{name}\" name=\"{}\">",
                escaped(&case.name)
            );
            let element = |tag: &str, message: &str, text: &str| {
                let (message, text) = (escaped(message), escaped(text));
                format!("<{tag} type=\"{tag}\" message=\"{message}\">{text}</{tag}>")
            };
            xml.push_str(&match &case.outcome {
                Outcome::Passed => {
                    format!("<system-out>{}</system-out>", escaped(&case.output))
                }
                Outcome::Failure(message, text) => element("failure", message, text),
                Outcome::Error(message, text) => element("error", message, text),
                Outcome::Skipped(message) => element("skipped", message, ""),
            });
            xml.push_str("</testcase>\n");
        }
        xml.push_str("  </testsuite>\n");
    }
    xml.push_str("</testsuites>\n");
    xml
}

/// Text fit for attributes and content. A line feed in an attribute would be read as a space, so it
/// is a character reference; what XML 1.0 cannot hold at all becomes U+FFFD.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' => out.push_str("&#10;"),
            '\r' => out.push_str("&#13;"),
            '\t' => out.push_str("&#9;"),
            '\u{0}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}
