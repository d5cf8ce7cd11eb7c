//! Which published points make a table.

use super::file::{PaperTable, Rows};
use crate::{
    error::Result,
    published::{Point, Published, Series},
};

/// A published point with what the pack says of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row<'a> {
    pub(super) series: &'a Series,
    pub(super) point: &'a Point,
    pub(super) spec: &'a Rows,
}

/// Every series of a file, with the file's aliases.
pub(super) fn series(published: &Published) -> Result<Vec<Series>> {
    let ids = published.series.iter().map(|series| &series.id);
    ids.map(|id| published.series(id)).collect()
}

/// The points of a table, in the order of the published file; or what is wrong with an entry.
pub(super) fn rows<'a>(
    table: &'a PaperTable,
    series: &'a [Series],
) -> std::result::Result<Vec<Row<'a>>, String> {
    let mut found: Vec<((usize, usize), Row<'a>)> = Vec::new();
    for spec in &table.rows {
        let Some(place) = series.iter().position(|s| s.id == spec.series) else {
            let known: Vec<&str> = series.iter().map(|s| s.id.as_str()).collect();
            return Err(format!(
                "{}: there is no series {:?}; there are {}",
                table.name,
                spec.series,
                known.join(", ")
            ));
        };
        let series = &series[place];
        let before = found.len();
        for (index, point) in series.points.iter().enumerate() {
            let taken = found.iter().any(|(key, _)| *key == (place, index));
            if !taken && spec.selects(series, point) {
                let row = Row {
                    series,
                    point,
                    spec,
                };
                found.push(((place, index), row));
            }
        }
        if found.len() == before {
            return Err(format!(
                "{}: `{}` selects no published point that an earlier entry has not; look at {:?} in the \
                 published file",
                table.name,
                spec.words(),
                series.id,
            ));
        }
    }
    found.sort_by_key(|(key, _)| *key);
    Ok(found.into_iter().map(|(_, row)| row).collect())
}

impl Rows {
    fn selects(&self, series: &Series, point: &Point) -> bool {
        fn fits(wanted: &Option<String>, found: Option<&str>) -> bool {
            wanted.is_none() || wanted.as_deref() == found
        }
        let named = |wanted: &Option<String>, found: Option<&str>| match (wanted, found) {
            (None, _) => true,
            (Some(wanted), Some(found)) => series.same(wanted, found),
            (Some(_), None) => false,
        };
        let source = &point.source;
        fits(&self.table, Some(&source.table))
            && fits(&self.row, source.row.as_deref())
            && fits(&self.method, point.method.as_deref())
            && fits(&self.variant, point.variant.as_deref())
            && fits(&self.data, point.data.as_deref())
            && named(&self.encoder, Some(&point.encoder))
            && named(&self.decoder, point.decoder.as_deref())
            && (self.resolution.is_none() || self.resolution == point.resolution)
    }

    /// What it selects by.
    fn words(&self) -> String {
        let side = self.resolution.map(|side| side.to_string());
        let given = [
            ("table", &self.table),
            ("row", &self.row),
            ("method", &self.method),
            ("variant", &self.variant),
            ("encoder", &self.encoder),
            ("decoder", &self.decoder),
            ("resolution", &side),
            ("data", &self.data),
        ];
        let given = given
            .into_iter()
            .filter_map(|(key, value)| Some(format!(", {key}: {}", value.as_ref()?)));
        format!("series: {}{}", self.series, given.collect::<String>())
    }
}

impl Row<'_> {
    /// The row in words: method, encoder, side, visual tokens, language model.
    pub(super) fn label(&self) -> String {
        let point = self.point;
        let method = point.method.iter().map(|method| format!("{method}: "));
        let parts = [
            point.resolution.map(|side| format!(" {side} px")),
            point.visual_tokens.map(|tokens| format!(" · {tokens} tok")),
            (point.decoder.as_ref()).map(|decoder| format!(" · {decoder}")),
            (point.variant.as_ref()).map(|variant| format!(" ({variant})")),
        ];
        (method.chain([point.encoder.clone()]))
            .chain(parts.into_iter().flatten())
            .collect()
    }
}
