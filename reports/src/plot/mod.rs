//! Pictures: accuracy against time to first token, where the time of a request goes, how far that is from the machine's
//! limits, and rows of values beside each other.
//!
//! [`ParetoPlot`], [`BarPlot`], [`Roofline`], [`Icicle`], [`SeriesPlot`] and [`DotPlot`] are pictures as data: what is drawn, in the units of the axes. Tests
//! look at them.
//! Drawing turns it into pixels, the same way for SVG and PNG, with a font that the crate carries, so
//! that a machine without fonts draws the same picture.

mod bars;
mod canvas;
mod data;
mod dots;
mod draw;
mod font;
mod icicle;
mod icicle_draw;
mod labels;
mod layout;
pub(crate) mod naming;
mod picture;
mod roofline;
mod scale;
mod series;
pub mod styles;
mod text;
pub(crate) mod words;

pub use bars::{Bar, BarPlot};
pub use data::{ParetoPlot, PlotPoint, Reference, ReferencePoint};
pub use dots::{Dot, DotPanel, DotPlot, DotUnit};
pub use draw::{HEIGHT, WIDTH};
pub use icicle::{Block, Icicle};
pub use picture::Draw;
pub use roofline::{Roofline, RooflinePoint};
pub use series::{Panel, SeriesMark, SeriesPlot};
