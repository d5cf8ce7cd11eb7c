//! Data sets as their parquet exports have them.
//!
//! Opening a data set reads its text columns, row group by row group; image columns are left on
//! disk until [`Dataset::images`] asks for them. So a scoring pass costs a few megabytes whatever
//! the images weigh.

pub(crate) mod format;
mod images;
mod locate;
mod table;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::fmt::Write as _;
use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

pub use format::{FORMATS, Format};
pub use images::{ImageBytes, ImageSlots, ImageStream};

use crate::error::SuiteError;
use crate::sample::{RowAddress, Sample};
use crate::spec::SuiteSpec;
use format::Layout;
use table::{ColumnKind, Table};

/// Which part of a data set to open; the default is the suite's own split, whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpenOptions {
    /// Another configuration than the suite's.
    pub config: Option<String>,
    /// Another split than the suite's.
    pub split: Option<String>,
    /// Only the first so many samples; later rows are not read.
    pub limit: Option<usize>,
}

/// The samples of one split.
#[derive(Debug)]
pub struct Dataset {
    split: String,
    layout: Layout,
    tables: Vec<Table>,
    missing_shards: usize,
    samples: Vec<Sample>,
    by_id: HashMap<String, usize>,
    excluded: BTreeSet<String>,
}

impl Dataset {
    /// Opens the split of a suite at `path`: a parquet file, a folder of shards, or a snapshot of
    /// the hub.
    ///
    /// # Errors
    /// Where files, columns, types or rows are not what the suite's definition says.
    pub fn open(spec: &SuiteSpec, path: &Path, options: &OpenOptions) -> Result<Self, SuiteError> {
        let layout = Layout::resolve(spec)?;
        let split = options.split.as_deref().unwrap_or(&spec.hub.split);
        let config = options.config.as_deref().or(spec.hub.config.as_deref());
        let located = locate::locate(
            path,
            &locate::Wanted {
                config,
                split,
                revision: &spec.hub.revision,
            },
        )?;
        let mut dataset = Self {
            split: split.to_owned(),
            layout,
            tables: Vec::new(),
            missing_shards: located.missing_shards,
            samples: Vec::new(),
            by_id: HashMap::new(),
            excluded: BTreeSet::new(),
        };
        for file in &located.files {
            let limit = options.limit.unwrap_or(usize::MAX);
            if dataset.samples.len() >= limit {
                break;
            }
            dataset.tables.push(Table::open(file)?);
            dataset.read_samples(&spec.dataset.keep, limit)?;
        }
        Ok(dataset)
    }

    /// Reads the text columns of the file opened last.
    fn read_samples(
        &mut self,
        keep: &BTreeMap<String, Vec<String>>,
        limit: usize,
    ) -> Result<(), SuiteError> {
        let file = self.tables.len() - 1;
        let binding = self.layout.bind(&self.tables[file])?;
        for column in keep.keys() {
            self.tables[file].check(column, ColumnKind::Key)?;
        }
        let mut wanted: BTreeMap<String, ColumnKind> = binding
            .columns()
            .map(|(column, kind)| (column.to_owned(), kind))
            .collect();
        for column in keep.keys() {
            wanted.entry(column.clone()).or_insert(ColumnKind::Key);
        }
        let projection: Vec<String> = wanted.keys().cloned().collect();

        let mut start = 0;
        for rows in self.tables[file].row_groups().to_vec() {
            if self.samples.len() >= limit {
                break;
            }
            let frame = self.tables[file].read(&projection, start, rows)?;
            let mut cells = BTreeMap::new();
            for (column, &kind) in &wanted {
                cells.insert(
                    column.clone(),
                    self.tables[file].cells(&frame, column, kind)?,
                );
            }
            for offset in 0..rows {
                if self.samples.len() >= limit {
                    break;
                }
                let address = RowAddress {
                    file,
                    row: start + offset,
                };
                self.add(&binding.row(&cells, offset), address, keep)?;
            }
            start += rows;
        }
        Ok(())
    }

    fn add(
        &mut self,
        row: &format::Row<'_>,
        address: RowAddress,
        keep: &BTreeMap<String, Vec<String>>,
    ) -> Result<(), SuiteError> {
        let path = self.tables[address.file].path();
        let bad_row = |problem: format::Problem| SuiteError::BadRow {
            path: path.to_owned(),
            row: address.row,
            column: problem.column,
            problem: problem.problem,
        };
        let id = row.id().map_err(bad_row)?;
        if self.by_id.contains_key(id) || self.excluded.contains(id) {
            return Err(SuiteError::DuplicateId {
                path: path.to_owned(),
                row: address.row,
                id: id.to_owned(),
            });
        }
        let kept = keep.iter().all(|(column, values)| {
            let cell = row.cell(column);
            cell.is_some_and(|cell| values.iter().any(|value| value == cell))
        });
        if !kept {
            self.excluded.insert(id.to_owned());
            return Ok(());
        }
        let parts = row.build().map_err(bad_row)?;
        let mut groups = row.groups();
        groups.extend(parts.groups);
        let sample = Sample {
            id: id.to_owned(),
            question: row.question().map_err(bad_row)?.to_owned(),
            kind: parts.kind,
            choices: parts.choices,
            ocr_tokens: parts.ocr_tokens,
            golds: parts.golds,
            groups,
            row: address,
        };
        self.by_id.insert(sample.id.clone(), self.samples.len());
        self.samples.push(sample);
        Ok(())
    }

    /// The split that was opened.
    #[must_use]
    pub fn split(&self) -> &str {
        &self.split
    }

    /// The samples in the order of the files.
    #[must_use]
    pub fn samples(&self) -> &[Sample] {
        &self.samples
    }

    /// Number of samples.
    #[must_use]
    pub fn len(&self) -> usize {
        self.samples.len()
    }

    /// Whether there are no samples.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }

    /// The index of a sample by its id.
    #[must_use]
    pub fn index_of(&self, id: &str) -> Option<usize> {
        self.by_id.get(id).copied()
    }

    /// Ids of the rows that the suite leaves out (SEED-Bench's video questions).
    #[must_use]
    pub fn excluded(&self) -> &BTreeSet<String> {
        &self.excluded
    }

    /// The files that were read, in order. With a limit, files past it are not opened.
    #[must_use]
    pub fn files(&self) -> Vec<&Path> {
        self.tables.iter().map(Table::path).collect()
    }

    /// How many shards the file names announce and the folder lacks. Unless it is 0, a score over
    /// this data set is not a score over the split.
    #[must_use]
    pub fn missing_shards(&self) -> usize {
        self.missing_shards
    }

    /// The images of the samples at these indices, read lazily and in this order.
    ///
    /// # Panics
    /// When advanced to an index that is not below [`len`](Self::len).
    pub fn images(&self, indices: impl IntoIterator<Item = usize>) -> ImageStream<'_> {
        ImageStream::new(self, indices.into_iter().collect::<VecDeque<_>>())
    }

    /// SHA-256, in hexadecimal, of a canonical dump of the samples: one line `["id","question",
    /// ["gold",...]]` of compact JSON each, sorted by id (by bytes). The same questions give the
    /// same digest whatever file format or shards they came in.
    #[must_use]
    pub fn digest(&self) -> String {
        let mut samples: Vec<&Sample> = self.samples.iter().collect();
        samples.sort_by(|a, b| a.id.cmp(&b.id));
        let mut hash = Sha256::new();
        for sample in samples {
            let line = serde_json::json!([sample.id, sample.question, sample.golds]);
            hash.update(line.to_string());
            hash.update("\n");
        }
        hexadecimal(&hash.finalize())
    }
}

/// SHA-256 of a file, in hexadecimal.
///
/// # Errors
/// [`SuiteError::Io`] if it cannot be read.
pub fn sha256_file(path: &Path) -> Result<String, SuiteError> {
    let io = |source| SuiteError::Io {
        path: PathBuf::from(path),
        source,
    };
    let mut file = std::fs::File::open(path).map_err(io)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).map_err(io)? {
            0 => return Ok(hexadecimal(&hash.finalize())),
            read => hash.update(&buffer[..read]),
        }
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, byte| {
        write!(out, "{byte:02x}").expect("writing to a string cannot fail");
        out
    })
}
