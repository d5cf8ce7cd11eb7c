//! The findings as Markdown, with everything a reader needs to trust or doubt them.

use super::{Findings, Held, overview, tables};

/// The findings as a page.
pub fn render(findings: &Findings) -> String {
    let mut parts = vec![
        format!("# {}, held to what was measured here", findings.title),
        format!("<{}>", findings.url),
        overview::overview(findings).to_markdown(),
        METHOD.to_owned(),
    ];
    for held in &findings.tables {
        table(&mut parts, held);
    }
    let headlines = tables::headlines(findings);
    if !headlines.is_empty() {
        parts.push("## Headline claims".into());
        parts.push(format!(
            "Both sides measured alternately; reproduced within a factor of {}.",
            findings.tolerance
        ));
        parts.push(headlines.to_markdown());
        let mut named: Vec<&str> = Vec::new();
        let mut items = Vec::new();
        for h in &findings.headlines {
            if !named.contains(&h.claim.as_str()) {
                named.push(&h.claim);
                items.push(format!("- **{}**: {} ({}).", h.claim, h.about, h.source));
            }
        }
        parts.push(items.join("\n"));
    }
    let parts: Vec<&str> = parts.iter().map(|part| part.trim_end()).collect();
    format!("{}\n", parts.join("\n\n"))
}

const METHOD: &str = "\
Milliseconds of two devices are not compared; ratios within each are. *Ratio* is the time of the table's reference \
over that of the row, *ours / theirs* the ratio of these two, *by FLOPs* what the work alone would make of it. \
**Ratio reproduced**: ours / theirs is within the table's tolerance, a factor, either way. **Ordering only**: it is \
not, but the row is on the same side of the reference. **Ratio differs**: it is on the other. **Reproduced**, of an \
accuracy measured with the row's own weights: the published value lies in our 95 % interval. A question mark says \
that the range of our ratio, from the 95 % intervals of both medians (the whole range below six repetitions, none of \
one), allows for another verdict. *Same order* counts the pairs of rows that are ordered here as published, *unsure* those whose \
ranges here overlap or are not known.";

fn table(parts: &mut Vec<String>, held: &Held) {
    parts.push(format!("## {}: {}", held.name, held.about));
    parts.extend(held.note.clone());
    for block in &held.blocks {
        let device = held.device.as_deref().unwrap_or("a device not stated");
        let on = block.conditions.as_ref().map(|c| format!("; here: {c}"));
        parts.push(format!(
            "`{}`, tolerance {}. There: {device}{}.",
            block.figure.name(),
            held.tolerance,
            on.unwrap_or_default(),
        ));
        parts.push(tables::latencies(block).to_markdown());
    }
    let scores = tables::scores(held);
    if !scores.is_empty() {
        parts.push("Accuracy, per cent, of rows whose weights were released.".into());
        parts.push(scores.to_markdown());
    }
    let reasons = tables::reasons(held).into_iter();
    let reasons: Vec<String> = reasons.map(|reason| format!("- {reason}")).collect();
    if !reasons.is_empty() {
        parts.push(format!("Not compared:\n\n{}", reasons.join("\n")));
    }
}
