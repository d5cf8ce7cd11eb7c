//! `report.md`: the sections as Markdown.

use std::path::Path;

use crate::document::{Block, Section};

/// The report as Markdown. Pictures, `page` and `gallery` are linked by file name: they lie beside it.
pub fn render(sections: &[Section], page: &Path, gallery: Option<&Path>) -> String {
    let mut text = Text::default();
    text.paragraph("# vlmbench report");
    text.paragraph(&format!("The same as a [page]({}).", name(page)));
    for section in sections {
        text.section("##", section);
    }
    if let Some(path) = gallery {
        text.paragraph("## Samples");
        text.paragraph(&format!(
            "Samples with their pictures and every model's answer: [gallery]({}).",
            name(path),
        ));
    }
    text.0
}

/// Sections as a document of their own, the first of which names it.
pub fn document(sections: &[Section]) -> String {
    let mut text = Text::default();
    for (index, section) in sections.iter().enumerate() {
        text.section(if index == 0 { "#" } else { "##" }, section);
    }
    text.0
}

fn name(path: &Path) -> String {
    (path.file_name()).map_or(String::new(), |name| name.to_string_lossy().into_owned())
}

/// Markdown under construction.
#[derive(Default)]
struct Text(String);

impl Text {
    fn paragraph(&mut self, text: &str) {
        if !self.0.is_empty() {
            self.0.push('\n');
        }
        self.0.push_str(text.trim_end());
        self.0.push('\n');
    }

    fn section(&mut self, marks: &str, section: &Section) {
        self.paragraph(&format!("{marks} {}", section.title));
        for block in &section.blocks {
            self.block(block);
        }
    }

    fn block(&mut self, block: &Block) {
        match block {
            Block::Text(text) => self.paragraph(text),
            Block::List(items) => {
                let items: Vec<String> = items.iter().map(|item| format!("- {item}")).collect();
                self.paragraph(&items.join("\n"));
            }
            Block::Table(table) => self.paragraph(&table.to_markdown()),
            Block::Picture(picture) => {
                self.paragraph(&format!("![{}]({})", picture.title, name(&picture.svg)));
                self.paragraph(&format!("The same as [PNG]({}).", name(&picture.png)));
            }
        }
    }
}
