//! Tables: the same rows for the terminal, Markdown, a page, LaTeX and data files.

mod data;
mod html;
mod latex;

use crate::{
    claims,
    energy::{Consumer, joules},
    hardware::Hardware,
    record::CaseOutcome,
    report::{AccuracySource, Report},
    stats::{Estimate, Interval},
    summary::{CaseSummary, Figure},
};

/// Which side a column leans to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// A column of a [`Table`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Heading.
    pub title: String,
    /// Alignment.
    pub align: Align,
    /// Narrow terminals drop the columns with the highest rank first; rank 0 is never dropped.
    pub rank: u8,
}

/// Rows of text under headings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table.
    pub fn new(columns: Vec<Column>) -> Self {
        Self {
            columns,
            rows: Vec::new(),
        }
    }

    /// Adds a row; missing cells are empty, surplus ones are dropped.
    pub fn push(&mut self, mut row: Vec<String>) {
        row.resize(self.columns.len(), String::new());
        self.rows.push(row);
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// As plain text no wider than `width` characters, if columns of rank 0 leave that choice.
    pub fn to_text(&self, width: usize) -> String {
        const GAP: usize = 2;
        let mut shown: Vec<usize> = (0..self.columns.len()).collect();
        loop {
            let total: usize = shown.iter().map(|&column| self.width(column) + GAP).sum();
            let drop = (shown.iter().rev())
                .max_by_key(|&&column| self.columns[column].rank)
                .copied();
            match drop {
                Some(drop) if total > width + GAP && self.columns[drop].rank > 0 => {
                    shown.retain(|&column| column != drop);
                }
                _ => break,
            }
        }
        let line = |cell: &dyn Fn(usize) -> String| {
            let cells: Vec<String> = (shown.iter())
                .map(|&column| self.pad(column, &cell(column)))
                .collect();
            format!("{}\n", cells.join(&" ".repeat(GAP)).trim_end())
        };
        let mut text = line(&|column| self.columns[column].title.clone());
        text.push_str(&line(&|column| "─".repeat(self.width(column))));
        for row in &self.rows {
            text.push_str(&line(&|column| row[column].clone()));
        }
        text
    }

    /// As a Markdown table.
    pub fn to_markdown(&self) -> String {
        let row = |cells: &mut dyn Iterator<Item = String>| {
            let cells: Vec<String> = cells.collect();
            format!("| {} |\n", cells.join(" | "))
        };
        let mut text = row(&mut self.columns.iter().map(|c| escaped(&c.title)));
        text.push_str(&row(&mut self.columns.iter().map(|column| {
            match column.align {
                Align::Left => ":--".to_owned(),
                Align::Right => "--:".to_owned(),
            }
        })));
        for cells in &self.rows {
            text.push_str(&row(&mut cells.iter().map(|cell| escaped(cell))));
        }
        text
    }

    fn width(&self, column: usize) -> usize {
        let cells = self.rows.iter().map(|row| &row[column]);
        (cells.chain([&self.columns[column].title]))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    }

    fn pad(&self, column: usize, cell: &str) -> String {
        let width = self.width(column);
        match self.columns[column].align {
            Align::Left => format!("{cell:<width$}"),
            Align::Right => format!("{cell:>width$}"),
        }
    }
}

/// A cell that cannot end its column or line.
fn escaped(cell: &str) -> String {
    cell.replace('|', "\\|").replace(['\n', '\r'], " ")
}

/// A column with this heading.
pub fn column(title: impl Into<String>, align: Align, rank: u8) -> Column {
    Column {
        title: title.into(),
        align,
        rank,
    }
}

/// The main table: latency cases with their cost, times, accuracies and memory.
pub fn latency(report: &Report) -> Table {
    let sources = report.accuracy_sources();
    let timed = || report.summaries.iter().filter(|s| !s.latency.is_empty());
    let mut columns = vec![
        column("case", Align::Left, 0),
        column("tokens", Align::Right, 2),
        column("GFLOP", Align::Right, 4),
        column("encode ms", Align::Right, 3),
        column("prefill ms", Align::Right, 3),
        column("TTFT ms", Align::Right, 0),
        column("95% interval", Align::Right, 1),
        column("n", Align::Right, 7),
        column("TTFT user ms", Align::Right, 6),
        column("TPOT ms", Align::Right, 6),
        column("peak MiB", Align::Right, 5),
    ];
    let consumers = Consumer::known(timed().map(|summary| &summary.energy));
    let energies = consumers.iter();
    columns.extend(energies.map(|consumer| column(consumer.title(), Align::Right, 4)));
    for (index, source) in sources.iter().enumerate() {
        let rank = if index == 0 { 1 } else { 8 };
        columns.push(column(source_title(*source), Align::Right, rank));
    }
    let mut table = Table::new(columns);
    for summary in timed() {
        let ttft = summary.figure(Figure::TtftPaper);
        let tokens = summary.facts.as_ref().and_then(|facts| facts.visual_tokens);
        let n = summary.latency.values().next().map(|estimate| estimate.n);
        let mut row = vec![
            case_name(report, summary),
            or_dash(tokens.map(|tokens| tokens.to_string())),
            or_dash(
                summary
                    .flops_to_first_token()
                    .map(|f| format!("{:.1}", f as f64 / 1e9)),
            ),
            median(summary.figure(Figure::Encode)),
            median(summary.figure(Figure::Prefill)),
            median(ttft),
            or_dash(
                ttft.and_then(|t| t.interval)
                    .map(|i| format!("{} – {}", milliseconds(i.low), milliseconds(i.high))),
            ),
            or_dash(n.map(|n| n.to_string())),
            median(summary.figure(Figure::TtftUser)),
            median(summary.figure(Figure::Tpot)),
            or_dash(
                summary
                    .peak_memory_bytes()
                    .map(|bytes| (bytes >> 20).to_string()),
            ),
        ];
        row.extend(consumers.iter().map(|consumer| {
            let estimate = summary.energy.figure(*consumer);
            or_dash(estimate.map(|e| joules(e.median)))
        }));
        row.extend(
            sources
                .iter()
                .map(|source| or_dash(accuracy(report, summary, *source))),
        );
        table.push(row);
    }
    table
}

/// Measured accuracies with everything that qualifies them.
pub fn quality(report: &Report) -> Table {
    let mut table = Table::new(vec![
        column("case", Align::Left, 0),
        column("suite", Align::Left, 1),
        column("profile", Align::Left, 1),
        column("score %", Align::Right, 0),
        column("95% interval", Align::Right, 0),
        column("n", Align::Right, 0),
        column("failed", Align::Right, 0),
        column("unparsed", Align::Right, 0),
        column("truncated", Align::Right, 0),
    ]);
    for summary in report.scored() {
        let (Some(accuracy), Some(facts)) = (&summary.accuracy, &summary.facts) else {
            continue;
        };
        table.push(vec![
            case_name(report, summary),
            or_dash(facts.labels.suite.clone()),
            or_dash(facts.labels.profile.clone()),
            percent(accuracy.mean()),
            range(accuracy.interval()),
            accuracy.n.to_string(),
            accuracy.failed.to_string(),
            accuracy.unparsed.to_string(),
            accuracy.truncated.to_string(),
        ]);
    }
    table
}

/// Cases that did not end well.
pub fn failures(report: &Report) -> Table {
    let mut table = Table::new(vec![
        column("case", Align::Left, 0),
        column("outcome", Align::Left, 0),
    ]);
    for summary in &report.summaries {
        if !summary.ended_well() {
            table.push(vec![case_name(report, summary), outcome(summary)]);
        }
    }
    table
}

/// How a case ended, in words.
pub fn outcome(summary: &CaseSummary) -> String {
    match summary.end.as_ref().map(|end| &end.outcome) {
        None => "unfinished".to_owned(),
        Some(CaseOutcome::Ok) => "ok".to_owned(),
        Some(CaseOutcome::Failed { stage, error }) => format!("failed in {stage}: {error}"),
        Some(CaseOutcome::Skipped { reason }) => format!("skipped: {reason}"),
    }
}

/// All tables for the terminal: figures, accuracies, failures.
pub fn terminal(report: &Report, width: usize) -> String {
    let hardware =
        Hardware::of(report).map(|h| [h.comparison(), h.normalised(), h.not_comparable()]);
    let mut tables = vec![claims::claims(report), latency(report)];
    tables.extend(hardware.into_iter().flatten());
    tables.extend([quality(report), failures(report)]);
    let texts: Vec<String> = (tables.iter())
        .filter(|table| !table.is_empty())
        .map(|table| table.to_text(width))
        .collect();
    texts.join("\n")
}

/// The case id, with its run where there are several.
pub fn case_name(report: &Report, summary: &CaseSummary) -> String {
    if report.runs.len() > 1 {
        format!("{} (run {})", summary.case, summary.run + 1)
    } else {
        summary.case.clone()
    }
}

/// Heading of an accuracy column; says whether the values are published or measured.
pub fn source_title(source: AccuracySource<'_>) -> String {
    match source {
        AccuracySource::Published(series) => {
            let metric = series.metric.as_deref().unwrap_or("accuracy");
            match series.decoders().as_slice() {
                [decoder] => format!("{metric} published, {decoder}"),
                _ => format!("{metric} published, {}", series.id),
            }
        }
        AccuracySource::Mean => "mean of suites, measured".to_owned(),
        AccuracySource::Measured { suite, profile } => format!("{suite} measured, {profile}"),
    }
}

fn accuracy(report: &Report, summary: &CaseSummary, source: AccuracySource<'_>) -> Option<String> {
    match source {
        AccuracySource::Published(series) => {
            let found = report.published_accuracy(summary, series)?;
            Some(format!("{} ({})", found.value, found.point.source.table))
        }
        AccuracySource::Measured { .. } | AccuracySource::Mean => {
            let (mean, interval) = report.measured(summary, source)?;
            Some(format!("{} ({})", percent(mean), range(interval)))
        }
    }
}

fn range(interval: Option<Interval>) -> String {
    or_dash(interval.map(|i| format!("{} – {}", percent(i.low), percent(i.high))))
}

fn percent(share: f64) -> String {
    format!("{:.1}", 100.0 * share)
}

fn median(estimate: Option<&Estimate>) -> String {
    or_dash(estimate.map(|estimate| milliseconds(estimate.median)))
}

/// Milliseconds with about three significant digits.
pub fn milliseconds(ms: f64) -> String {
    match ms {
        ms if ms < 10.0 => format!("{ms:.2}"),
        ms if ms < 100.0 => format!("{ms:.1}"),
        ms => format!("{ms:.0}"),
    }
}

/// What stands for a value that is not known.
pub(crate) fn or_dash(text: Option<String>) -> String {
    text.unwrap_or_else(|| "–".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Table {
        let mut table = Table::new(vec![
            column("case", Align::Left, 0),
            column("tokens", Align::Right, 2),
            column("TTFT ms", Align::Right, 0),
            column("peak", Align::Right, 1),
        ]);
        table.push(vec!["a|b".into(), "16".into(), "12.5".into(), "99".into()]);
        table.push(vec!["long name".into(), "256".into(), "1034".into()]);
        table
    }

    #[test]
    fn text_fits_the_width_by_dropping_ranked_columns() {
        insta::assert_snapshot!(sample().to_text(80), @r"
        case       tokens  TTFT ms  peak
        ─────────  ──────  ───────  ────
        a|b            16     12.5    99
        long name     256     1034
        ");
        insta::assert_snapshot!(sample().to_text(25), @r"
        case       TTFT ms  peak
        ─────────  ───────  ────
        a|b           12.5    99
        long name     1034
        ");
        // Rank 0 stays, however narrow the terminal.
        assert!(sample().to_text(3).starts_with("case       TTFT ms\n"));
    }

    #[test]
    fn markdown_cells_are_escaped() {
        insta::assert_snapshot!(sample().to_markdown(), @r"
        | case | tokens | TTFT ms | peak |
        | :-- | --: | --: | --: |
        | a\|b | 16 | 12.5 | 99 |
        | long name | 256 | 1034 |  |
        ");
    }
}
