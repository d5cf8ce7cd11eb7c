//! The comparison as a data frame, a row a recipe and column.

use polars::frame::DataFrame;

use super::{COMPARED, Cell, Hardware, Recipe, Throughput};
use crate::{error::Result, frame::Columns, summary::Figure};

/// A cell with its recipe.
struct Row<'a> {
    recipe: &'a Recipe<'a>,
    cell: &'a Cell<'a>,
}

impl Hardware<'_> {
    /// Everything that the tables are made of, unrounded. A null is a figure that was not measured, or one that needs
    /// a peak that was not recorded.
    ///
    /// # Errors
    /// [`crate::Error::Frame`].
    pub fn frame(&self) -> Result<DataFrame> {
        let rows = self.recipes.iter();
        let rows =
            rows.flat_map(|recipe| recipe.cells.iter().map(move |cell| Row { recipe, cell }));
        let rows: Vec<Row<'_>> = rows.collect();
        let column = |r: &Row<'_>| &self.columns[r.cell.column];
        let mut frame = Columns::over(&rows);
        frame.text("recipe", |r| Some(r.recipe.label.clone()));
        frame.text("on", |r| Some(column(r).label.clone()));
        frame.text("machine", |r| {
            Some(self.machines[column(r).machine].fingerprint.clone())
        });
        frame.text("cpu", |r| Some(self.cpu(column(r).machine).to_owned()));
        frame.text("run", |r| {
            Some(self.runs[column(r).run].folder.display().to_string())
        });
        frame.text("case", |r| Some(r.cell.facts.case.clone()));
        frame.text("backend", |r| Some(column(r).backend.to_owned()));
        frame.text("engine", |r| r.cell.facts.used.engine.clone());
        frame.text("device", |r| Some(column(r).device.to_owned()));
        frame.text("dtype", |r| Some(r.cell.facts.used.dtype.clone()));
        frame.whole("threads", |r| column(r).threads.map(u64::from));
        frame.whole("visual_tokens", |r| {
            r.cell.facts.visual_tokens.map(u64::from)
        });
        frame.whole("prompt_tokens", |r| {
            r.cell.facts.prompt_tokens.map(u64::from)
        });
        frame.figures(|r, figure| r.cell.figure(figure));
        frame.energies(|r| &r.cell.summary.energy);
        for rate in Throughput::ALL {
            let name = rate.name().replace(' ', "_").replace("/s", "_per_s");
            frame.number(&name, |r| rate.of(r.cell));
        }
        frame.number("product_peak_flops", |r| r.cell.limit(Figure::Encode));
        frame.number("read_bytes_peak", |r| r.cell.limit(Figure::Tpot));
        for figure in COMPARED {
            let name = figure.name();
            frame.number(&format!("{name}_share"), |r| r.cell.share(figure));
            frame.number(&format!("{name}_times_first"), |r| {
                r.cell.ratio(&r.recipe.cells[0], figure)
            });
            frame.number(&format!("{name}_times_first_over_limits"), |r| {
                r.cell.ratio_over_limits(&r.recipe.cells[0], figure)
            });
        }
        frame.finish()
    }
}
