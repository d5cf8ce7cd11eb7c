//! Markdown for the summary of a CI job, and for reading at all.

use super::{CaseChange, Comparison, Conclusion, ScoreChange, words};
use crate::table::{Align, Table, column};

/// Changed answers shown for a score; the rest is counted.
const ANSWERS: usize = 50;
/// Letters of an answer that are shown.
const LETTERS: usize = 120;

/// The comparison as Markdown: the conclusion, what it rests on, then case by case the stages with
/// their changes, intervals and verdicts, the blamed stage with what else differs, scores with their
/// changed answers, controls, and the rules.
pub fn summary(comparison: &Comparison) -> String {
    let mut page = String::new();
    let sign = match comparison.conclusion {
        Conclusion::Pass => "✅",
        Conclusion::Inconclusive => "❔",
        Conclusion::Regressed => "❌",
        Conclusion::Broken => "⚠️",
    };
    let word = words::conclusion(comparison.conclusion);
    paragraph(&mut page, &format!("## {sign} vlmbench: {word}"));
    paragraph(&mut page, &inline(&words::meaning(comparison)));
    paragraph(
        &mut page,
        &format!(
            "Base: {}. Candidate: {}.",
            inline(&words::side(&comparison.base)),
            inline(&words::side(&comparison.candidate))
        ),
    );
    list(
        &mut page,
        comparison
            .problems
            .iter()
            .map(|p| format!("**Problem:** {}", inline(p))),
    );
    for case in &comparison.cases {
        latencies(&mut page, case);
    }
    scores(&mut page, comparison);
    both_axes(&mut page, comparison);
    controls(&mut page, comparison);
    rules(&mut page, comparison);
    page
}

fn latencies(page: &mut String, case: &CaseChange) {
    paragraph(page, &format!("### {}", inline(&case.case)));
    let mut table = Table::new(vec![
        column("stage", Align::Left, 0),
        column("base ms", Align::Right, 0),
        column("candidate ms", Align::Right, 0),
        column("change", Align::Right, 0),
        column("interval %", Align::Right, 0),
        column("share", Align::Right, 0),
        column("launches", Align::Right, 0),
        column("verdict", Align::Left, 0),
    ]);
    for l in &case.latencies {
        let verdict = match l.gated {
            true => format!("**{}**", words::verdict(l.verdict)),
            // A sum of what is gated, or too small a part: its own verdict decides nothing and would mislead.
            false => "not gated".to_owned(),
        };
        table.push(vec![
            inline(&l.figure),
            words::milliseconds(l.base_ms),
            words::milliseconds(l.candidate_ms),
            words::percent(l.change),
            words::percents(l.interval),
            words::share(l.share),
            l.launches.to_string(),
            verdict,
        ]);
    }
    paragraph(page, &table.to_markdown());
    if let Some(blamed) = case.blamed() {
        let text = format!(
            "Blamed: **{}**, {} ms of it.",
            inline(&blamed.figure),
            words::milliseconds(blamed.candidate_ms - blamed.base_ms)
        );
        paragraph(page, &text);
    }
    if !case.differences.is_empty() {
        let mut table = Table::new(vec![
            column("what else differs", Align::Left, 0),
            column("base", Align::Left, 0),
            column("candidate", Align::Left, 0),
        ]);
        for d in &case.differences {
            table.push(vec![inline(&d.what), inline(&d.base), inline(&d.candidate)]);
        }
        paragraph(page, &table.to_markdown());
    }
    list(
        page,
        case.flags
            .iter()
            .map(|flag| format!("Flag: {}", inline(flag))),
    );
}

fn scores(page: &mut String, comparison: &Comparison) {
    if comparison.scores.is_empty() {
        return;
    }
    paragraph(page, "### Scores");
    let mut table = Table::new(vec![
        column("case", Align::Left, 0),
        column("samples", Align::Right, 0),
        column("answers differ", Align::Right, 0),
        column("base", Align::Right, 0),
        column("candidate", Align::Right, 0),
        column("change", Align::Right, 0),
        column("interval", Align::Right, 0),
        column("test", Align::Left, 0),
        column("verdict", Align::Left, 0),
    ]);
    for s in &comparison.scores {
        table.push(vec![
            inline(&s.case),
            s.samples.to_string(),
            s.differing.to_string(),
            format!("{:.1}", s.base),
            format!("{:.1}", s.candidate),
            words::points(s.change),
            words::points_range(s.interval),
            inline(&s.test),
            format!("**{}**", words::verdict(s.verdict)),
        ]);
    }
    paragraph(page, &table.to_markdown());
    for score in comparison.scores.iter().filter(|s| !s.changed.is_empty()) {
        answers(page, score);
    }
}

fn both_axes(page: &mut String, comparison: &Comparison) {
    let lines = comparison.tradeoffs.iter().map(|t| inline(&t.sentence()));
    let fronts = comparison.fronts.iter().map(|front| {
        format!(
            "{}: the area under the front of accuracy against TTFT changes by {} of the whole ({} %)",
            inline(&front.suite),
            words::percent(front.change),
            words::percents(Some(front.interval)),
        )
    });
    list(page, lines.chain(fronts));
}

fn answers(page: &mut String, score: &ScoreChange) {
    let count = score.changed.len();
    // A blank line after `<summary>`, or the table within is not read as Markdown.
    paragraph(
        page,
        &format!(
            "<details><summary>{count} changed answers of {}</summary>",
            inline(&score.case)
        ),
    );
    let mut table = Table::new(vec![
        column("sample", Align::Left, 0),
        column("base", Align::Left, 0),
        column("candidate", Align::Left, 0),
        column("points", Align::Right, 0),
    ]);
    let answer = |text: &Option<String>| match text {
        Some(text) => inline(&shortened(text)),
        None => "*failed*".to_owned(),
    };
    for changed in score.changed.iter().take(ANSWERS) {
        table.push(vec![
            inline(&changed.sample),
            answer(&changed.base),
            answer(&changed.candidate),
            format!(
                "{:.0} → {:.0}",
                changed.base_points, changed.candidate_points
            ),
        ]);
    }
    paragraph(page, &table.to_markdown());
    if count > ANSWERS {
        paragraph(page, &format!("And {} more.", count - ANSWERS));
    }
    paragraph(page, "</details>");
}

fn controls(page: &mut String, comparison: &Comparison) {
    list(
        page,
        comparison.controls.iter().map(|c| {
            let held = if c.held { "held" } else { "**failed**" };
            format!(
                "Control *{}* ({}) {held}: {}",
                inline(&c.name),
                inline(&c.what),
                inline(&c.found)
            )
        }),
    );
}

fn rules(page: &mut String, comparison: &Comparison) {
    let s = &comparison.settings;
    let design = comparison.design.map_or(String::new(), |d| {
        format!(" Replicated by {}.", words::design(d))
    });
    let looks = match s.looks.as_slice() {
        [] => String::new(),
        looks => {
            let looks: Vec<String> = looks.iter().map(usize::to_string).collect();
            format!(" and looks (after {} pairs)", looks.join(" and "))
        }
    };
    paragraph(
        page,
        &format!(
            "A latency is *regressed* if it is slower by more than {}, beyond chance, and a *pass* if its \
             interval ends below {}; a score likewise at {} and {} points, and a *pass* if no answer differs. \
             The chance of any false alarm is held to {} over all figures{looks}.{design} Ended {}.",
            words::share(s.relevant),
            words::share(s.tolerated),
            s.relevant_points,
            s.tolerated_points,
            words::share(s.alpha),
            inline(&comparison.ended_at),
        ),
    );
}

fn paragraph(page: &mut String, text: &str) {
    if !page.is_empty() {
        page.push('\n');
    }
    page.push_str(text.trim_end());
    page.push('\n');
}

fn list(page: &mut String, items: impl Iterator<Item = String>) {
    let items: Vec<String> = items.map(|item| format!("- {item}")).collect();
    if !items.is_empty() {
        paragraph(page, &items.join("\n"));
    }
}

fn shortened(text: &str) -> String {
    let mut letters = text.chars();
    let head: String = letters.by_ref().take(LETTERS).collect();
    match letters.next() {
        Some(_) => format!("{head}…"),
        None => head,
    }
}

/// Text of others, as text: neither markup nor the end of its line. Bars are the table's affair.
fn inline(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '\n' | '\r' => out.push(' '),
            '\\' | '`' | '*' | '_' | '[' | ']' | '~' => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
    }
    out
}
