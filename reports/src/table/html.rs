//! A table as HTML.

use maud::{Markup, html};

use super::{Align, Table};

impl Table {
    /// As HTML that scrolls sideways where it is wider than the page. Cells of the first column are the
    /// headings of their rows.
    pub fn to_html(&self, caption: &str) -> Markup {
        let class = |align: Align| match align {
            Align::Left => None,
            Align::Right => Some("number"),
        };
        html! {
            // Focus, so that the keyboard can scroll it.
            div.scroll tabindex="0" role="region" aria-label=(caption) {
                table {
                    caption.unseen { (caption) }
                    thead { tr {
                        @for column in &self.columns {
                            th scope="col" class=[class(column.align)] { (column.title) }
                        }
                    } }
                    tbody {
                        @for row in &self.rows { tr {
                            @for (index, (cell, column)) in row.iter().zip(&self.columns).enumerate() {
                                @if index == 0 {
                                    th scope="row" { (cell) }
                                } @else {
                                    td class=[class(column.align)] { (cell) }
                                }
                            }
                        } }
                    }
                }
            }
        }
    }
}
