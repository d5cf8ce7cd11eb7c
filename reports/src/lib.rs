//! What was found: run folders in, statistics, tables and pictures out.
//!
//! | module | question |
//! |---|---|
//! | [`record`] | what happened? The run folder: manifest and append-only records |
//! | [`published`] | what do papers say about the same encoder and resolution? |
//! | [`stats`] | how sure is a figure, and is a difference or a change real? |
//! | [`summary`] | which figures follow from the records? TTFT, TPOT, accuracy per case |
//! | [`energy`] | how much energy does a request take?
//! | [`claims`] | how much faster is one model than another, published and measured? |
//! | [`pack`] | how far were a paper's tables reproduced? |
//! | [`hardware`] | how do machines compare on the same recipes, and beside their own peaks? |
//! | [`gate`] | did it get slower, and does it still answer right? Comparisons and their verdicts |
//! | [`history`] | since which commit is it slower? Runs over time, and where they changed |
//! | [`frame`] | the same as data frames, Parquet and CSV |
//! | [`pareto`] | which points does no other beat? |
//! | [`fronts`] | how sure is that? Fronts of many draws of what was measured |
//! | [`plot`] | accuracy against TTFT, and a profile, as SVG and PNG |
//! | [`breakdown`] | where does the time go, and how far is that from the machine's limits? |
//! | [`gallery`] | what was asked, and what did each model say? Samples with their pictures |
//! | [`table`] | tables for the terminal, Markdown, the page, LaTeX and data files |
//! | [`document`] | what a report says, section by section |
//! | [`markdown`], [`page`] | that as `report.md` and as `report.html` |
//! | [`explain`] | which record lines does a figure come from? |
//! | [`mod@report`] | all of it into a folder |
//!
//! Everything after [`record`] is derived and can be rebuilt from run folders alone. This crate knows
//! no model and no dataset, prints nothing and reads no clock.

pub mod breakdown;
pub mod claims;
pub mod document;
pub mod energy;
pub mod error;
pub mod explain;
pub mod frame;
pub mod fronts;
pub mod gallery;
pub mod gate;
pub mod hardware;
pub mod history;
pub mod markdown;
pub mod pack;
pub mod page;
pub mod pareto;
pub mod plot;
pub mod published;
pub mod record;
pub mod report;
pub mod stats;
pub mod summary;
pub mod table;
mod time;

pub use error::{Error, Result};
pub use report::{ReportFiles, report};
