//! The comparison as dots: times, and shares of what each machine can do.

use super::{Cell, Hardware};
use crate::{
    plot::{Dot, DotPanel, DotPlot, DotUnit},
    stats::Interval,
    summary::Figure,
};

impl Hardware<'_> {
    /// A row a recipe, a line a column; panels of TTFT and of the shares that are known.
    pub fn picture(&self) -> DotPlot {
        let used: Vec<usize> = (0..self.columns.len())
            .filter(|column| self.cells().any(|(_, cell)| cell.column == *column))
            .collect();
        let line = |cell: &Cell<'_>| used.iter().position(|column| *column == cell.column);
        let panel = |title: &str, unit, value: &dyn Fn(&Cell<'_>) -> Option<Measured>| {
            let dots = self.cells().filter_map(|(row, cell)| {
                let (value, interval) = value(cell)?;
                Some(Dot {
                    row,
                    line: line(cell)?,
                    value,
                    interval,
                })
            });
            DotPanel {
                title: title.to_owned(),
                unit,
                dots: dots.collect(),
            }
        };
        let share = |figure: fn(&Cell<'_>) -> Figure| {
            move |cell: &Cell<'_>| Some((100.0 * cell.share(figure(cell))?, None))
        };
        let mut panels = vec![
            panel("TTFT (log scale)", DotUnit::Milliseconds, &|cell| {
                let estimate = cell.figure(first_token(cell))?;
                Some((estimate.median, estimate.interval))
            }),
            panel(
                "share of product peak",
                DotUnit::Percent,
                &share(first_token),
            ),
            panel(
                "decode, share of bandwidth",
                DotUnit::Percent,
                &share(|_| Figure::Tpot),
            ),
        ];
        panels.retain(|panel| !panel.dots.is_empty());
        let lines = used.iter().map(|column| {
            let column = &self.columns[*column];
            format!("{}: {}", column.label, self.cpu(column.machine))
        });
        let machines = match self.machines.len() {
            1 => "one machine".to_owned(),
            n => format!("{n} machines"),
        };
        let mut caption = vec![
            "TTFT = encode + prefill, medians with their intervals; encode alone for a model without a decoder.".to_owned(),
        ];
        let has_shares = panels.len() > 1;
        if has_shares {
            caption.push(
                "Shares are FLOPs over TTFT, of the machine's measured matrix product in this element type, and bytes of a \
                 decode step over TPOT, of the measured reading of memory, on as many threads."
                    .to_owned(),
            );
        }
        if !self.apart.is_empty() {
            caption.push(
                "Cases that are not comparable are left out; the report lists them.".to_owned(),
            );
        }
        DotPlot {
            title: format!("The same recipes on {machines}"),
            subtitle: match has_shares {
                true => "time to first token, and how much of each machine is used".to_owned(),
                false => "time to first token; no peak of a machine is recorded".to_owned(),
            },
            caption,
            rows: self
                .recipes
                .iter()
                .map(|recipe| recipe.label.clone())
                .collect(),
            lines: lines.collect(),
            panels,
        }
    }

    /// Every cell with the position of its recipe.
    fn cells(&self) -> impl Iterator<Item = (usize, &Cell<'_>)> {
        let recipes = self.recipes.iter().enumerate();
        recipes.flat_map(|(row, recipe)| recipe.cells.iter().map(move |cell| (row, cell)))
    }
}

/// A value with its interval.
type Measured = (f64, Option<Interval>);

/// The time to the first token, or of all that there is without a decoder.
fn first_token(cell: &Cell<'_>) -> Figure {
    match cell.facts.labels.decoder {
        Some(_) => Figure::TtftPaper,
        None => Figure::Encode,
    }
}
