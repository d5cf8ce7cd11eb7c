//! `report.html`: one page that opens from disk, needs no network, and says all it has to say without scripts.
//!
//! The sections are those of `report.md`. On top of them, with scripts, stands the same picture with axes, source and
//! grouping to choose; below them a ledger for every case, the samples, and the answers in which two runs differ.

mod data;
mod ledger;
mod samples;

use std::fs;

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use pulldown_cmark::{Event, Parser, Tag, TagEnd};

pub use data::{Axis, Choice, Data, Point, Value};

use crate::{
    document::{Block, Section},
    error::{Error, Result, io},
    gallery::Suite,
    report::{Picture, Report},
};

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("explore.js");
const D3: &str = include_str!("../../vendor/d3.min.js");
const PLOT: &str = include_str!("../../vendor/plot.min.js");
/// Nothing is fetched, whatever a name in a record may hold.
const POLICY: &str =
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'";

/// The page, with the samples of `suites`. Pictures are read from where they were written and become part of it.
///
/// # Errors
/// [`Error::Io`] for a picture that cannot be read.
pub fn render(report: &Report, sections: &[Section], suites: &[Suite<'_>]) -> Result<String> {
    let data = Data::of(report);
    let mut shown = Vec::new();
    for section in sections {
        shown.push(content(section)?);
    }
    let ledgers = ledger::all(report);
    let mut room = samples::Room::new();
    let flips = samples::flips(report, suites, &mut room);
    let gallery = samples::gallery(suites, &mut room);
    let mut links: Vec<(&str, &str)> = Vec::new();
    if data.is_some() {
        links.push(("explore", "Explore"));
    }
    links.extend(sections.iter().map(|s| (s.id.as_str(), s.title.as_str())));
    for (there, id, title) in [
        (ledgers.is_some(), "ledgers", "Ledgers"),
        (flips.is_some(), "flips", "Answers that differ"),
        (gallery.is_some(), "samples", "Samples"),
    ] {
        if there {
            links.push((id, title));
        }
    }
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                title { "vlmbench report" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                a.skip href="#main" { "To the content" }
                header {
                    h1 { "vlmbench report" }
                    @for line in headlines(report) { p { (line) } }
                }
                nav aria-label="Sections" { ul {
                    @for (id, title) in &links { li { a href={ "#" (id) } { (title) } } }
                } }
                main id="main" {
                    @if data.is_some() { (explorer()) }
                    @for (section, content) in sections.iter().zip(&shown) {
                        section id=(section.id) {
                            h2 { (section.title) }
                            (content)
                        }
                    }
                    @if let Some(ledgers) = ledgers { (ledgers) }
                    @if let Some(flips) = flips { (flips) }
                    @if let Some(gallery) = gallery { (gallery) }
                }
                @if let Some(data) = &data {
                    script id="data" type="application/json" { (PreEscaped(json(data)?)) }
                    @for script in [D3, PLOT, SCRIPT] { script { (PreEscaped(script)) } }
                } @else {
                    script { (PreEscaped(SCRIPT)) }
                }
            }
        }
    };
    Ok(page.into_string())
}

/// JSON that cannot end the element that it stands in.
fn json(data: &Data) -> Result<String> {
    let text = serde_json::to_string(data).map_err(|source| Error::Encode { source })?;
    Ok(text.replace('<', "\\u003c"))
}

/// What a reader should know first: what was run where, and what did not come out.
fn headlines(report: &Report) -> Vec<String> {
    let mut lines = Vec::new();
    for (index, run) in report.runs.iter().enumerate() {
        let manifest = &run.manifest;
        let machine = &manifest.machine;
        let cpu = machine
            .cpu_model
            .as_deref()
            .unwrap_or("a machine that does not say what it is");
        let threads = machine
            .threads
            .map_or(String::new(), |n| format!(", {n} hardware threads"));
        let about = manifest
            .experiment
            .get("about")
            .and_then(serde_json::Value::as_str);
        let about = about.map_or(String::new(), |about| format!(": {about}"));
        let number = match report.runs.len() {
            1 => String::new(),
            _ => format!("Run {}: ", index + 1),
        };
        lines.push(format!(
            "{number}{} {}, {}, {cpu}{threads}{about}",
            manifest.tool.name, manifest.tool.version, manifest.started_at
        ));
    }
    let without = (report.summaries.iter())
        .filter(|summary| !summary.ended_well())
        .count();
    let failed: usize = report.runs.iter().map(|run| run.failed_samples()).sum();
    lines.push(match (without, failed) {
        (0, 0) => format!(
            "{} cases, all of them with a result.",
            report.summaries.len()
        ),
        _ => format!(
            "{} cases, {without} of them without a result, and {failed} samples that failed.",
            report.summaries.len()
        ),
    });
    lines
}

/// What the script fills; hidden until it does.
fn explorer() -> Markup {
    let menu = |id: &str, label: &str| {
        html! { label for=(id) { (label) " " select id=(id) {} } }
    };
    html! {
        section id="explore" hidden {
            h2 { "Explore" }
            div.controls {
                (menu("source", "Accuracy"))
                (menu("axis", "against"))
                (menu("grouping", "a front for each"))
                label { input id="published" type="checkbox" checked; " published points" }
            }
            figure { div id="chart" {} }
            div.controls {
                label for="budget" { "Budget " }
                input id="budget" type="range" min="0" max="1000" value="1000" aria-describedby="best";
            }
            p id="best" aria-live="polite" {}
            p.note {
                "Filled marks were measured here, hollow ones are published and belong to another device; bars are 95 % \
                 intervals. A point leads to its ledger."
            }
        }
    }
}

fn content(section: &Section) -> Result<Markup> {
    let mut parts: Vec<Markup> = Vec::new();
    for block in &section.blocks {
        parts.push(match block {
            Block::Text(text) => html! { p { (inline(text)) } },
            Block::List(items) => html! { ul { @for item in items { li { (inline(item)) } } } },
            Block::Table(table) => table.to_html(&section.title),
            Block::Picture(picture) => figure(picture)?,
        });
    }
    Ok(html! { @for part in &parts { (part) } })
}

/// A picture as part of the page, with its title as the text alternative.
fn figure(picture: &Picture) -> Result<Markup> {
    let svg = fs::read_to_string(&picture.svg).map_err(io("read", &picture.svg))?;
    // Without a width of its own it takes that of the page.
    let body = svg.split_once('>').map_or("", |(_, body)| body);
    let view = svg
        .split_once("viewBox=\"")
        .and_then(|(_, rest)| rest.split_once('"'));
    let view = view.map_or("0 0 1600 1000", |(view, _)| view);
    Ok(html! {
        figure.picture tabindex="0" {
            (PreEscaped(format!("<svg xmlns=\"http://www.w3.org/2000/svg\" role=\"img\" viewBox=\"{view}\" aria-label=")))
            (PreEscaped("\"")) (picture.title) (PreEscaped("\">"))
            (PreEscaped(body))
        }
    })
}

/// The marks that a paragraph may have: code, emphasis, addresses. HTML in it stays text.
fn inline(text: &str) -> Markup {
    let events = Parser::new(text).filter_map(|event| match event {
        Event::Start(Tag::Paragraph) | Event::End(TagEnd::Paragraph) => None,
        Event::Html(html) | Event::InlineHtml(html) => Some(Event::Text(html)),
        event => Some(event),
    });
    let mut out = String::new();
    pulldown_cmark::html::push_html(&mut out, events);
    PreEscaped(out)
}

/// Bytes as an address that holds them.
fn data_url(mime: &str, bytes: &[u8]) -> String {
    format!("data:{mime};base64,{}", BASE64.encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_marked_up_and_nothing_else() {
        let shown = |text| inline(text).into_string();
        assert_eq!(
            shown("`a<b` is **so** <https://x.y/>"),
            "<code>a&lt;b</code> is <strong>so</strong> <a href=\"https://x.y/\">https://x.y/</a>"
        );
        assert_eq!(
            shown("<script>x</script>"),
            "&lt;script&gt;x&lt;/script&gt;"
        );
    }
}
