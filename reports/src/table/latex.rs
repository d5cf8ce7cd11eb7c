//! A table as LaTeX, with the rules of the package booktabs.

use super::{Align, Table};

impl Table {
    /// As a floating table. `label` is what `\ref` calls it by.
    pub fn to_latex(&self, caption: &str, label: &str) -> String {
        let sides: String = (self.columns.iter())
            .map(|column| match column.align {
                Align::Left => 'l',
                Align::Right => 'r',
            })
            .collect();
        let row = |cells: &mut dyn Iterator<Item = &str>| {
            let cells: Vec<String> = cells.map(escaped).collect();
            format!("{} \\\\\n", cells.join(" & "))
        };
        let titles = row(&mut self.columns.iter().map(|column| column.title.as_str()));
        let rows: String = (self.rows.iter())
            .map(|cells| row(&mut cells.iter().map(String::as_str)))
            .collect();
        format!(
            "\\begin{{table}}\n\\centering\\small\n\\caption{{{}}}\\label{{tab:{label}}}\n\
             \\begin{{tabular}}{{{sides}}}\n\\toprule\n{titles}\\midrule\n{rows}\\bottomrule\n\
             \\end{{tabular}}\n\\end{{table}}\n",
            escaped(caption)
        )
    }
}

/// Text in which nothing is a command.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' | '%' | '$' | '#' | '_' | '{' | '}' => {
                out.push('\\');
                out.push(c);
            }
            '\\' => out.push_str("\\textbackslash{}"),
            '~' => out.push_str("\\textasciitilde{}"),
            '^' => out.push_str("\\textasciicircum{}"),
            '<' => out.push_str("\\textless{}"),
            '>' => out.push_str("\\textgreater{}"),
            '–' => out.push_str("--"),
            '±' => out.push_str("$\\pm$"),
            '×' => out.push_str("$\\times$"),
            '·' => out.push_str("$\\cdot$"),
            '✓' => out.push_str("yes"),
            '✗' => out.push_str("no"),
            '\n' | '\r' => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use crate::table::{Align, Table, column};

    #[test]
    fn latex_has_the_rows_and_no_command_of_a_cell() {
        let mut table = Table::new(vec![
            column("case", Align::Left, 0),
            column("95% interval", Align::Right, 0),
        ]);
        table.push(vec!["a_b\\c".into(), "1 – 2".into()]);
        insta::assert_snapshot!(table.to_latex("Times & scores", "times"), @r"
        \begin{table}
        \centering\small
        \caption{Times \& scores}\label{tab:times}
        \begin{tabular}{lr}
        \toprule
        case & 95\% interval \\
        \midrule
        a\_b\textbackslash{}c & 1 -- 2 \\
        \bottomrule
        \end{tabular}
        \end{table}
        ");
    }
}
