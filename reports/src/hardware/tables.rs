//! The comparison in words.

use std::collections::BTreeSet;

use super::{COMPARED, Cell, Hardware, Recipe, Throughput, passport::tool};
use crate::{
    energy::{Consumer, joules},
    record::Used,
    stats::Estimate,
    summary::Figure,
    table::{Align, Column, Table, column, milliseconds, or_dash},
};

/// Times that are shown, in the order of a request, with the ranks of their columns.
const TIMES: [(Figure, u8); 5] = [
    (Figure::Encode, 2),
    (Figure::Prefill, 2),
    (Figure::TtftPaper, 0),
    (Figure::TtftUser, 4),
    (Figure::Tpot, 1),
];

/// A figure's name in headings.
fn title(figure: Figure) -> &'static str {
    match figure {
        Figure::TtftPaper => "TTFT",
        Figure::TtftUser => "TTFT user",
        Figure::Tpot => "TPOT",
        figure => figure.name(),
    }
}

/// A table with its heading and what a reader should know of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// Heading.
    pub title: &'static str,
    /// The table.
    pub table: Table,
    /// A paragraph below it.
    pub about: &'static str,
}

impl Hardware<'_> {
    /// The tables that have rows, in the order of reading.
    pub fn sections(&self) -> Vec<Section> {
        let section = |title, table, about| Section {
            title,
            table,
            about,
        };
        let all = [
            section(
                "Machines side by side",
                self.comparison(),
                "Times are medians, in brackets their intervals, which of one launch cover its repetitions and no other launch. A \
                 recipe is a row where weights, FLOPs, bytes, tokens, image, recipe and version of the tool agree. \
                 Visual tokens/s are over encode, prompt tokens/s all positions of the prompt over prefill, decode tokens/s \
                 1 / TPOT, first tokens/s 1 / TTFT user: requests one after the other.",
            ),
            section(
                "Machines against their own limits",
                self.normalised(),
                "A share is work / time / limit. For encode and prefill the work is FLOPs (a multiply-add as 2, the whole square of \
                 attention scores) and the limit the machine's measured matrix product in this element type, on as many threads; \
                 for TPOT the work is the bytes of one decode step and the limit measured reading of memory. *Times the \
                 first* is a time over that of the recipe's first line; in brackets the same over what the limits alone \
                 would make of it: 1 where the machines differ as their limits do, more where this one uses less of its own.",
            ),
            section(
                "Machines and engines compared",
                self.passport(),
                "Facts are those of the manifests; – where the system did not say, or the run is of before it was recorded.",
            ),
            section(
                "Not comparable",
                self.not_comparable(),
                "Cases of one model, resolution and precision that are not the same recipe, or that were measured in one column \
                 only. They are in no row above.",
            ),
        ];
        all.into_iter()
            .filter(|section| !section.table.is_empty())
            .collect()
    }

    /// A line a recipe and column: times with their intervals, energy where it was measured, and throughput.
    pub fn comparison(&self) -> Table {
        let times =
            TIMES.map(|(figure, rank)| column(format!("{} ms", title(figure)), Align::Right, rank));
        let cells = self.recipes.iter().flat_map(|recipe| &recipe.cells);
        let consumers = Consumer::known(cells.map(|cell| &cell.summary.energy));
        let energies = consumers.iter();
        let energies = energies.map(|consumer| column(consumer.title(), Align::Right, 3));
        let rates = Throughput::ALL.map(|rate| column(rate.name(), Align::Right, 5));
        self.lines(
            times.into_iter().chain(energies).chain(rates).collect(),
            |cell, _| {
                let times = TIMES.map(|(figure, _)| {
                    or_dash(cell.figure(figure).map(|e| with_interval(e, milliseconds)))
                });
                let energies = consumers.iter().map(|consumer| {
                    let estimate = cell.summary.energy.figure(*consumer);
                    or_dash(estimate.map(|e| with_interval(e, joules)))
                });
                let rates = Throughput::ALL.map(|rate| or_dash(rate.of(cell).map(milliseconds)));
                times.into_iter().chain(energies).chain(rates).collect()
            },
        )
    }

    /// A line a recipe and column: shares of the machine's limits, and times over those of the first line.
    pub fn normalised(&self) -> Table {
        let shares = SHARES
            .map(|(figure, limit)| column(format!("{}, {limit}", title(figure)), Align::Right, 0));
        let ratios = COMPARED.map(|figure| {
            let rank = if figure == Figure::TtftPaper { 1 } else { 2 };
            column(
                format!("{}, times the first", title(figure)),
                Align::Right,
                rank,
            )
        });
        self.lines(shares.into_iter().chain(ratios).collect(), |cell, first| {
            let percent = |share: f64| format!("{:.1} %", 100.0 * share);
            let shares = SHARES.map(|(figure, _)| or_dash(cell.share(figure).map(percent)));
            let times = |ratio: f64| format!("{ratio:.2}");
            let ratios = COMPARED.map(|figure| {
                let over = or_dash(cell.ratio_over_limits(first, figure).map(times));
                or_dash(
                    cell.ratio(first, figure)
                        .map(|r| format!("{} ({over})", times(r))),
                )
            });
            shares.into_iter().chain(ratios).collect()
        })
    }

    /// A line for every key in which a case differs from others of its name.
    pub fn not_comparable(&self) -> Table {
        let mut table = Table::new(
            [
                "recipe",
                "differs in",
                "on",
                "value",
                "other",
                "value there",
            ]
            .map(|title| column(title, Align::Left, 0))
            .to_vec(),
        );
        for apart in &self.apart {
            let (other, there) = apart.other.clone().unzip();
            table.push(vec![
                apart.recipe.clone(),
                apart.key.clone(),
                apart.column.clone(),
                apart.value.clone(),
                or_dash(other),
                or_dash(there),
            ]);
        }
        table
    }

    /// What differs between columns without making them incomparable, and what is missing.
    pub fn notes(&self) -> Vec<String> {
        let tools = self.machines.iter().flat_map(|site| {
            let of = |run: &usize| {
                let on = format!("{} (run {})", site.name, run + 1);
                (on, tool(&self.runs[*run]))
            };
            site.runs.iter().map(of).collect::<Vec<_>>()
        });
        let mut notes: Vec<String> = differing("the tool differs", tools).into_iter().collect();
        let backends: BTreeSet<&str> = self.columns.iter().map(|c| c.backend).collect();
        for backend in backends {
            let used: [(&str, Word); 3] = [
                ("version", |used| used.engine.clone()),
                ("settings", |used| {
                    let all = used.settings.iter();
                    let all: Vec<String> =
                        all.map(|(key, value)| format!("{key} {value}")).collect();
                    Some(all.join(", "))
                }),
                ("instruction set", |used| Some(used.simd.join(" "))),
            ];
            for (what, of) in used {
                // Recipe by recipe: some settings are of a case, and one that shows the difference is enough.
                notes.extend(self.recipes.iter().find_map(|recipe| {
                    let own = recipe
                        .cells
                        .iter()
                        .map(|cell| (cell, &self.columns[cell.column]));
                    let own = own.filter(|(_, column)| column.backend == backend);
                    let values = own.filter_map(|(cell, column)| {
                        Some((column.label.clone(), of(&cell.facts.used)?))
                    });
                    differing(&format!("{backend} differs in its {what}"), values)
                }));
            }
        }
        for column in &self.columns {
            if column.device == "cpu" && column.peak.is_none() {
                notes.push(format!(
                    "no peak is recorded of {}; for its shares run `vlmbench peak {}` on that machine",
                    column.label,
                    self.runs[column.run].folder.display(),
                ));
            }
        }
        notes
    }

    /// A line a recipe and column. `cells` gets the cell and the first of its recipe.
    fn lines(
        &self,
        columns: Vec<Column>,
        cells: impl Fn(&Cell<'_>, &Cell<'_>) -> Vec<String>,
    ) -> Table {
        let first = ["recipe", "on"].map(|title| column(title, Align::Left, 0));
        let mut table = Table::new(first.into_iter().chain(columns).collect());
        for Recipe { label, cells: own } in &self.recipes {
            for cell in own {
                let on = self.columns[cell.column].label.clone();
                let row = [label.clone(), on].into_iter().chain(cells(cell, &own[0]));
                table.push(row.collect());
            }
        }
        table
    }
}

/// Shares that are shown, with what they are of. That of TTFT lies between those of its parts.
const SHARES: [(Figure, &str); 3] = [
    (Figure::Encode, "of peak"),
    (Figure::Prefill, "of peak"),
    (Figure::Tpot, "of bandwidth"),
];

/// What was used, in a word.
type Word = fn(&Used) -> Option<String>;

/// A note with the values of each column, unless they are all the same.
fn differing(what: &str, values: impl Iterator<Item = (String, String)>) -> Option<String> {
    let values: Vec<(String, String)> = values.collect();
    let differ = values.windows(2).any(|two| two[0].1 != two[1].1);
    let list = values.iter().map(|(on, value)| format!("{value} on {on}"));
    differ.then(|| format!("{what}: {}", list.collect::<Vec<_>>().join("; ")))
}

/// `162 (150 – 176)`, each written by `digits`.
fn with_interval(estimate: &Estimate, digits: fn(f64) -> String) -> String {
    let median = digits(estimate.median);
    match estimate.interval {
        Some(i) => format!("{median} ({} – {})", digits(i.low), digits(i.high)),
        None => median,
    }
}
