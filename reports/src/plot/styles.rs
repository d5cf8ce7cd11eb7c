//! Colours and shapes of series, for those who draw with something else.

use serde::Serialize;

use super::{canvas::Shape, layout::STYLES};

/// How the marks of a series look.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Style {
    /// Colour, `#rrggbb`.
    pub color: String,
    /// Shape, by the names that Observable Plot has for symbols.
    pub symbol: &'static str,
}

/// The styles of the pictures, in turn.
pub fn all() -> Vec<Style> {
    let style = |(color, shape): (plotters::style::RGBColor, Shape)| Style {
        color: format!("#{:02x}{:02x}{:02x}", color.0, color.1, color.2),
        symbol: match shape {
            Shape::Circle => "circle",
            Shape::Square => "square",
            Shape::TriangleUp => "triangle",
            Shape::Diamond => "diamond",
            Shape::TriangleDown => "wye",
            Shape::Pentagon => "star",
        },
    };
    STYLES.into_iter().map(style).collect()
}
