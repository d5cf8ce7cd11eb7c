//! Pictures: accuracy against time to first token, and where the time of a request goes.
//!
//! [`ParetoPlot`], [`Icicle`] and [`SeriesPlot`] are pictures as data: what is drawn, in the units of the axes. Tests
//! look at them.
//! Drawing turns it into pixels, the same way for SVG and PNG, with a font that the crate carries, so
//! that a machine without fonts draws the same picture.

mod canvas;
mod data;
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
pub use draw::{HEIGHT, WIDTH, draw_png, draw_svg};
pub use icicle::{Block, Icicle};
pub use series::{Panel, SeriesMark, SeriesPlot};
