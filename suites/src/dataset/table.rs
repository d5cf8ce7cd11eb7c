//! Parquet files as typed columns, read by row ranges with only the columns that are asked for.
//!
//! Exports differ in details that mean nothing (string against large string, 32 against 64 bit,
//! dictionary encoding); those are accepted. Everything else is an error with file and column.

use std::fs::File;
use std::path::{Path, PathBuf};

use polars::prelude::{
    AnyValue, DataFrame, DataType, ParquetReader, PolarsError, PolarsResult, SerReader, Series,
};

use super::images::ImageBytes;
use crate::error::{SuiteError, names};

/// What a column must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ColumnKind {
    /// Text or an integer, used as text.
    Key,
    /// Text.
    Text,
    /// A list of texts.
    TextList,
    /// An encoded image, or a list of them.
    Images,
}

impl ColumnKind {
    pub(super) fn expected(self) -> &'static str {
        match self {
            Self::Key => "text or an integer",
            Self::Text => "text",
            Self::TextList => "a list of texts",
            Self::Images => "an image {bytes, path} or a list of them",
        }
    }

    fn accepts(self, dtype: &DataType) -> bool {
        match self {
            Self::Key => is_text(dtype) || dtype.is_integer(),
            Self::Text => is_text(dtype),
            Self::TextList => inner(dtype).is_some_and(is_text),
            Self::Images => is_image(inner(dtype).unwrap_or(dtype)),
        }
    }
}

fn is_text(dtype: &DataType) -> bool {
    matches!(
        dtype,
        // A column without a single value carries no type of its own.
        DataType::String | DataType::Categorical(..) | DataType::Enum(..) | DataType::Null
    )
}

fn inner(dtype: &DataType) -> Option<&DataType> {
    match dtype {
        DataType::List(inner) | DataType::Array(inner, _) => Some(inner),
        _ => None,
    }
}

fn is_image(dtype: &DataType) -> bool {
    match dtype {
        DataType::Struct(fields) => fields.iter().any(|field| {
            field.name() == "bytes" && matches!(field.dtype(), DataType::Binary | DataType::Null)
        }),
        DataType::Binary | DataType::Null => true,
        _ => false,
    }
}

/// The cells of one column.
#[derive(Debug)]
pub(super) enum Cells {
    Text(Vec<Option<String>>),
    List(Vec<Option<Vec<Option<String>>>>),
}

/// A parquet file whose footer has been read.
#[derive(Debug)]
pub(super) struct Table {
    path: PathBuf,
    /// Number of rows of each row group.
    row_groups: Vec<usize>,
    columns: Vec<(String, DataType)>,
}

impl Table {
    pub(super) fn open(path: &Path) -> Result<Self, SuiteError> {
        let in_file = |error: PolarsError| parquet_error(path, &error);
        let mut reader = ParquetReader::new(open_file(path)?);
        let metadata = reader.get_metadata().map_err(in_file)?;
        let row_groups = metadata
            .row_groups
            .iter()
            .map(|group| group.num_rows())
            .collect();
        let empty = reader.with_slice(Some((0, 0))).finish().map_err(in_file)?;
        let columns = empty
            .columns()
            .iter()
            .map(|column| (column.name().to_string(), column.dtype().clone()))
            .collect();
        Ok(Self {
            path: path.to_owned(),
            row_groups,
            columns,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn row_groups(&self) -> &[usize] {
        &self.row_groups
    }

    pub(super) fn has(&self, column: &str) -> bool {
        self.columns.iter().any(|(name, _)| name == column)
    }

    /// Errors unless the column is there and can hold `kind`.
    pub(super) fn check(&self, column: &str, kind: ColumnKind) -> Result<(), SuiteError> {
        let found = self.columns.iter().find(|(name, _)| name == column);
        let (_, dtype) = found.ok_or_else(|| SuiteError::MissingColumn {
            path: self.path.clone(),
            column: column.to_owned(),
            expected: kind.expected(),
            found: names(self.columns.iter().map(|(name, _)| name)),
        })?;
        if kind.accepts(dtype) {
            return Ok(());
        }
        Err(SuiteError::ColumnType {
            path: self.path.clone(),
            column: column.to_owned(),
            expected: kind.expected(),
            got: dtype.to_string(),
        })
    }

    /// Reads `len` rows from row `start` on, of the given columns only.
    pub(super) fn read(
        &self,
        columns: &[String],
        start: usize,
        len: usize,
    ) -> Result<DataFrame, SuiteError> {
        ParquetReader::new(open_file(&self.path)?)
            .with_columns(Some(columns.to_vec()))
            .with_slice(Some((start, len)))
            .set_rechunk(true)
            .finish()
            .map_err(|error| parquet_error(&self.path, &error))
    }

    /// The cells of a column that was read, as `kind`.
    pub(super) fn cells(
        &self,
        frame: &DataFrame,
        column: &str,
        kind: ColumnKind,
    ) -> Result<Cells, SuiteError> {
        let cells = || match kind {
            ColumnKind::Key | ColumnKind::Text => Ok(Cells::Text(texts(
                frame.column(column)?.as_materialized_series(),
            )?)),
            ColumnKind::TextList => lists(frame.column(column)?.as_materialized_series()),
            ColumnKind::Images => unreachable!("images are read with `images`"),
        };
        cells().map_err(|error: PolarsError| parquet_error(&self.path, &error))
    }

    /// The images in row `row` of a column that was read, one slot per image of the cell.
    pub(super) fn images(
        &self,
        frame: &DataFrame,
        column: &str,
        row: usize,
    ) -> Result<Vec<ImageCell>, SuiteError> {
        let cells = || -> PolarsResult<Vec<ImageCell>> {
            let series = frame.column(column)?.as_materialized_series();
            if inner(series.dtype()).is_none() {
                return image_cells(&series.slice(row as i64, 1));
            }
            match series.get(row)? {
                AnyValue::List(list) | AnyValue::Array(list, _) => image_cells(&list),
                _ => Ok(Vec::new()),
            }
        };
        cells().map_err(|error| parquet_error(&self.path, &error))
    }
}

/// One image of a cell.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ImageCell {
    Null,
    /// Only a path was stored, without the file.
    PathOnly(String),
    Bytes(ImageBytes),
}

fn open_file(path: &Path) -> Result<File, SuiteError> {
    File::open(path).map_err(|source| SuiteError::Io {
        path: path.to_owned(),
        source,
    })
}

fn parquet_error(path: &Path, error: &PolarsError) -> SuiteError {
    SuiteError::Parquet {
        path: path.to_owned(),
        detail: error.to_string(),
    }
}

fn texts(series: &Series) -> PolarsResult<Vec<Option<String>>> {
    let text = series.cast(&DataType::String)?;
    Ok(text
        .str()?
        .iter()
        .map(|cell| cell.map(str::to_owned))
        .collect())
}

fn lists(series: &Series) -> PolarsResult<Cells> {
    let lists = series.cast(&DataType::List(Box::new(DataType::String)))?;
    let lists = lists.list()?;
    let cell = |row| {
        lists
            .get_as_series(row)
            .map(|list| texts(&list))
            .transpose()
    };
    Ok(Cells::List(
        (0..lists.len()).map(cell).collect::<PolarsResult<_>>()?,
    ))
}

/// The images of a series of structs `{bytes, path}` or of plain binary.
fn image_cells(series: &Series) -> PolarsResult<Vec<ImageCell>> {
    let (bytes, path) = match series.dtype() {
        DataType::Struct(_) => {
            let fields = series.struct_()?.fields_as_series();
            let field = |name: &str| fields.iter().find(|field| field.name() == name).cloned();
            (field("bytes"), field("path"))
        }
        _ => (Some(series.clone()), None),
    };
    let path = path
        .map(|path| texts(&path))
        .transpose()?
        .unwrap_or_default();
    let mut path = path.into_iter();
    let bytes = bytes
        .map(|bytes| bytes.cast(&DataType::Binary))
        .transpose()?;
    let Some(bytes) = bytes else {
        return Ok(Vec::new());
    };
    let cells = bytes.binary()?.iter().map(|bytes| {
        let path = path.next().flatten();
        match (bytes, path) {
            (Some(bytes), path) => ImageCell::Bytes(ImageBytes {
                bytes: bytes.to_vec(),
                path,
            }),
            (None, Some(path)) => ImageCell::PathOnly(path),
            (None, None) => ImageCell::Null,
        }
    });
    Ok(cells.collect())
}
