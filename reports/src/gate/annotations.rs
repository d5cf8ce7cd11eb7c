//! GitHub's workflow commands: lines on standard output that become annotations of a run.
//!
//! `::error title=...::message`. Data escapes `%`, CR and LF; a property `:` and `,` too, as GitHub's
//! toolkit does. GitHub shows ten of a kind for a step, so the conclusion comes first and figures
//! that passed get none.

use super::{Comparison, Conclusion, Verdict, words};

/// The comparison as workflow commands, a line each: the conclusion, then errors (problems, controls
/// that failed, regressions), warnings (inconclusive figures) and notices (improvements).
pub fn annotations(comparison: &Comparison) -> String {
    let kind = match comparison.conclusion {
        Conclusion::Pass => "notice",
        Conclusion::Inconclusive => "warning",
        Conclusion::Regressed | Conclusion::Broken => "error",
    };
    let title = format!("vlmbench: {}", words::conclusion(comparison.conclusion));
    let mut text = command(kind, &title, &words::meaning(comparison));
    for problem in &comparison.problems {
        text.push_str(&command("error", "vlmbench: problem", problem));
    }
    for control in comparison.controls.iter().filter(|c| !c.held) {
        let title = format!("vlmbench: control {} failed", control.name);
        let found = format!("{}: {}", control.what, control.found);
        text.push_str(&command("error", &title, &found));
    }
    // The worst first: only so many are shown.
    for verdict in [Verdict::Regressed, Verdict::Inconclusive, Verdict::Improved] {
        text.push_str(&of_verdict(comparison, verdict));
    }
    text
}

fn of_verdict(comparison: &Comparison, verdict: Verdict) -> String {
    let kind = match verdict {
        Verdict::Regressed => "error",
        Verdict::Inconclusive => "warning",
        Verdict::Pass | Verdict::Improved => "notice",
    };
    let title = |case: &str, figure: &str| {
        format!("vlmbench: {case}: {figure} {}", words::verdict(verdict))
    };
    let mut text = String::new();
    for case in &comparison.cases {
        let blamed = case.blamed().map(|l| l.figure.as_str());
        for l in (case.latencies.iter()).filter(|l| l.gated && l.verdict == verdict) {
            let mut lines = words::latency_lines(l, &comparison.settings);
            if blamed == Some(&l.figure) {
                lines.extend(
                    case.differences
                        .iter()
                        .map(|d| format!("{}: {} -> {}", d.what, d.base, d.candidate)),
                );
            }
            text.push_str(&command(
                kind,
                &title(&case.case, &l.figure),
                &lines.join("\n"),
            ));
        }
    }
    for s in comparison.scores.iter().filter(|s| s.verdict == verdict) {
        let lines = words::score_lines(s, &comparison.settings);
        text.push_str(&command(kind, &title(&s.case, "score"), &lines.join("\n")));
    }
    text
}

fn command(kind: &str, title: &str, message: &str) -> String {
    format!("::{kind} title={}::{}\n", property(title), data(message))
}

fn data(text: &str) -> String {
    // The escape character itself comes first.
    text.replace('%', "%25")
        .replace('\r', "%0D")
        .replace('\n', "%0A")
}

fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}
