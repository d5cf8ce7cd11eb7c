//! Encoded images, read late and in small batches.
//!
//! Scoring never comes here. A pass over a suite asks for the images of the samples it still has
//! to run; they come in that order as the bytes of the original files, so that the caller can
//! decode them in parallel, and at most one batch is in memory.

use std::collections::VecDeque;

use super::Dataset;
use super::table::ImageCell;
use crate::error::SuiteError;

/// Rows read at once. One row is a few hundred kilobytes of JPEG, or a few megabytes of PNG for
/// document scans.
const ROWS_PER_READ: usize = 16;

/// An encoded image file as the data set stores it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageBytes {
    /// The file's bytes, JPEG or PNG for the most part.
    pub bytes: Vec<u8>,
    /// The file's original name, where the data set kept it.
    pub path: Option<String>,
}

/// The images of one sample, by slot; [`PromptPart::Image`](crate::PromptPart::Image) is an index
/// into it. `None` is a slot that this sample leaves empty.
pub type ImageSlots = Vec<Option<ImageBytes>>;

/// The images of chosen samples, in the order in which they were asked for.
///
/// Yields the sample's index with its images; an error concerns this one sample.
#[derive(Debug)]
pub struct ImageStream<'a> {
    dataset: &'a Dataset,
    wanted: VecDeque<usize>,
    ready: VecDeque<(usize, Result<ImageSlots, SuiteError>)>,
}

impl<'a> ImageStream<'a> {
    pub(super) fn new(dataset: &'a Dataset, wanted: VecDeque<usize>) -> Self {
        Self {
            dataset,
            wanted,
            ready: VecDeque::new(),
        }
    }

    /// Reads the next run of wanted samples that lie close together in one file.
    fn fill(&mut self) {
        let Some(&first) = self.wanted.front() else {
            return;
        };
        let start = self.dataset.samples()[first].row;
        let mut batch = Vec::new();
        while let Some(&index) = self.wanted.front() {
            let row = self.dataset.samples()[index].row;
            let near = (start.row..start.row + ROWS_PER_READ).contains(&row.row);
            if row.file != start.file || !near || batch.len() == ROWS_PER_READ {
                break;
            }
            batch.push((index, row.row));
            self.wanted.pop_front();
        }
        let table = &self.dataset.tables[start.file];
        let mut columns = self.dataset.layout.image_columns();
        columns.retain(|column| table.has(column));
        let last = batch.iter().map(|&(_, row)| row).max().unwrap_or(start.row);
        let frame = table.read(&columns, start.row, last - start.row + 1);
        for (index, row) in batch {
            let slots = match &frame {
                Ok(frame) => self.slots(frame, row - start.row, row, start.file),
                // A damaged page must not take its neighbours along: each row is tried alone.
                Err(_) => table
                    .read(&columns, row, 1)
                    .and_then(|frame| self.slots(&frame, 0, row, start.file)),
            };
            self.ready.push_back((index, slots));
        }
    }

    fn slots(
        &self,
        frame: &polars::prelude::DataFrame,
        at: usize,
        row: usize,
        file: usize,
    ) -> Result<ImageSlots, SuiteError> {
        let table = &self.dataset.tables[file];
        let mut slots = Vec::new();
        for column in self.dataset.layout.image_columns() {
            if !table.has(&column) {
                slots.push(None);
                continue;
            }
            for cell in table.images(frame, &column, at)? {
                slots.push(match cell {
                    ImageCell::Null => None,
                    ImageCell::Bytes(image) => Some(image),
                    ImageCell::PathOnly(path) => {
                        return Err(SuiteError::BadRow {
                            path: table.path().to_owned(),
                            row,
                            column,
                            problem: format!("holds the path `{path}` and not the image itself"),
                        });
                    }
                });
            }
        }
        Ok(slots)
    }
}

impl Iterator for ImageStream<'_> {
    type Item = (usize, Result<ImageSlots, SuiteError>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.ready.is_empty() {
            self.fill();
        }
        self.ready.pop_front()
    }
}
