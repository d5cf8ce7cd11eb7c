//! A table as a data frame: numbers where a column is of numbers, text elsewhere.

use polars::{frame::DataFrame, prelude::Column as Series};

use super::{Align, Table};
use crate::error::Result;

/// What a cell without a value shows.
const NOTHING: [&str; 2] = ["", "–"];

impl Table {
    /// As a frame. A column that leans right and holds nothing but numbers becomes one of numbers, in the
    /// digits that are shown; a cell without a value is null. Of columns with one title, later ones are numbered.
    ///
    /// # Errors
    /// [`crate::Error::Frame`].
    pub fn frame(&self) -> Result<DataFrame> {
        let columns = self.columns.iter().enumerate().map(|(index, column)| {
            let title = &column.title;
            let earlier = self.columns[..index].iter();
            let name = match earlier.filter(|other| other.title == *title).count() {
                0 => title.clone(),
                n => format!("{title} ({})", n + 1),
            };
            let cells = self.rows.iter().map(|row| row[index].as_str());
            let cells: Vec<Option<&str>> = cells
                .map(|cell| (!NOTHING.contains(&cell)).then_some(cell))
                .collect();
            let numbers: Option<Vec<Option<f64>>> = cells
                .iter()
                .map(|cell| cell.map(str::parse).transpose().ok())
                .collect();
            match numbers {
                Some(numbers) if column.align == Align::Right => Series::new(name.into(), numbers),
                _ => Series::new(name.into(), cells),
            }
        });
        Ok(DataFrame::new(self.rows.len(), columns.collect())?)
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        frame::csv,
        table::{Align, Table, column},
    };

    #[test]
    fn columns_of_numbers_are_numbers() {
        let mut table = Table::new(vec![
            column("case", Align::Left, 0),
            column("ms", Align::Right, 0),
            column("range", Align::Right, 0),
            column("ms", Align::Right, 0),
        ]);
        table.push(vec!["7".into(), "1.50".into(), "1 – 2".into(), "3".into()]);
        table.push(vec!["a,b".into(), "–".into(), "–".into()]);
        let frame = table.frame().unwrap();
        assert_eq!(
            csv(&frame).unwrap(),
            "case,ms,range,ms (2)\n7,1.5,1 – 2,3\n\"a,b\",,,\n"
        );
        assert!(frame.column("ms").unwrap().dtype().is_float());
        assert!(!frame.column("case").unwrap().dtype().is_float());
    }
}
