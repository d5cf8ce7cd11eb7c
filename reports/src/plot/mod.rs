//! Pictures: accuracy against time to first token, where the time of a request goes, and rows of values beside each other.
//!
//! [`ParetoPlot`], [`Icicle`], [`SeriesPlot`] and [`DotPlot`] are pictures as data: what is drawn, in the units of the axes. Tests
//! look at them.
//! Drawing turns it into pixels, the same way for SVG and PNG, with a font that the crate carries, so
//! that a machine without fonts draws the same picture.

mod canvas;
mod data;
mod dots;
mod draw;
mod font;
mod icicle;
mod icicle_draw;
mod labels;
mod layout;
mod picture;
mod scale;
mod series;
mod words;

pub use data::{ParetoPlot, PlotPoint, Reference, ReferencePoint};
pub use dots::{Dot, DotPanel, DotPlot, DotUnit};
pub use draw::{HEIGHT, WIDTH, draw_png, draw_svg};
pub use icicle::{Block, Icicle};
pub use series::{Panel, SeriesMark, SeriesPlot};
