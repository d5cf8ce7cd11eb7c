//! The findings as sections of a document, with everything a reader needs to trust or doubt them.

use super::{Findings, Held, overview, tables};
use crate::document::{Block, Section};

/// The findings: an overview, a section for every table, the headline claims.
pub fn sections(findings: &Findings) -> Vec<Section> {
    let mut all = vec![Section::new(
        &format!("{}, held to what was measured here", findings.title),
        vec![
            Block::Text(format!("<{}>", findings.url)),
            Block::Table(overview::overview(findings)),
            Block::Text(METHOD.to_owned()),
        ],
    )];
    all.extend(findings.tables.iter().map(table));
    let headlines = tables::headlines(findings);
    if !headlines.is_empty() {
        let mut named: Vec<&str> = Vec::new();
        let mut items = Vec::new();
        for h in &findings.headlines {
            if !named.contains(&h.claim.as_str()) {
                named.push(&h.claim);
                items.push(format!("**{}**: {} ({}).", h.claim, h.about, h.source));
            }
        }
        let how = format!(
            "Both sides measured alternately; reproduced within a factor of {}.",
            findings.tolerance
        );
        all.push(Section::new(
            "Headline claims",
            vec![
                Block::Text(how),
                Block::Table(headlines),
                Block::List(items),
            ],
        ));
    }
    all
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

fn table(held: &Held) -> Section {
    let mut blocks: Vec<Block> = held.note.clone().into_iter().map(Block::Text).collect();
    for block in &held.blocks {
        let device = held.device.as_deref().unwrap_or("a device not stated");
        let on = block.conditions.as_ref().map(|c| format!("; here: {c}"));
        blocks.push(Block::Text(format!(
            "`{}`, tolerance {}. There: {device}{}.",
            block.figure.name(),
            held.tolerance,
            on.unwrap_or_default(),
        )));
        blocks.push(Block::Table(tables::latencies(block)));
    }
    let scores = tables::scores(held);
    if !scores.is_empty() {
        let what = "Accuracy, per cent, of rows whose weights were released.";
        blocks.push(Block::Text(what.into()));
        blocks.push(Block::Table(scores));
    }
    let reasons = tables::reasons(held);
    if !reasons.is_empty() {
        blocks.push(Block::Text("Not compared:".into()));
        blocks.push(Block::List(reasons));
    }
    Section::new(&format!("{}: {}", held.name, held.about), blocks)
}
