//! What a paper's tables say, held to what was measured here.
//!
//! A [`Pack`] is a file under `configs/packs/`: which published rows make a table, which figure of them
//! is at stake, and which experiment measures them. The numbers stay in `configs/published/`. [`hold`]
//! finds the case of each row in a report and says of every published figure whether it was
//! reproduced, in what sense, or why it cannot be compared.
//!
//! Milliseconds of two devices are no comparison. Ratios within each are: of a table one row is the
//! reference, and a row's verdict is about `(reference / row here) / (reference / row there)`.

mod conditions;
mod file;
mod frame;
mod headlines;
mod latency;
mod matching;
mod overview;
mod scores;
mod sections;
mod select;
mod tables;
mod verdict;

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde::Serialize;

pub use self::{
    conditions::Conditions,
    file::{Asked, Here, Pack, PaperTable, Rows},
    frame::frame,
    headlines::Headline,
    latency::{Block, Latency},
    overview::overview,
    scores::Score,
    sections::sections,
    tables::{headlines, latencies, reasons, scores, terminal},
    verdict::Verdict,
};
use crate::{
    claims::Claim,
    error::{Error, Result, io},
    markdown,
    published::Published,
    report::Report,
};

/// What became of a pack on some runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Findings {
    /// Id of the pack.
    pub id: String,
    /// Title of the paper.
    pub title: String,
    /// Where to find it.
    pub url: String,
    /// Its tables and figures, in order.
    pub tables: Vec<Held>,
    /// Its headline claims.
    pub headlines: Vec<Headline>,
    /// Factor within which a ratio counts as the headline's.
    pub tolerance: f64,
}

/// A table of the paper beside what was measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Held {
    /// Its name, such as `Table 3`.
    pub name: String,
    /// What it shows.
    pub about: String,
    /// What a reader should know.
    pub note: Option<String>,
    /// Device of the published times.
    pub device: Option<String>,
    /// Factor within which a ratio counts as reproduced.
    pub tolerance: f64,
    /// Why nothing of it can be compared, if so.
    pub not_comparable: Option<String>,
    /// Experiment that measures its times.
    pub experiment: Option<String>,
    /// Times, a block for each figure and each set of conditions they were measured under.
    pub blocks: Vec<Block>,
    /// Accuracies of rows whose weights were released.
    pub scores: Vec<Score>,
    /// Accuracies that are not compared, with the reason.
    pub left_out: Vec<String>,
}

/// Holds a pack to the runs of a report. `claims` are those of the pack's experiment, as published.
///
/// # Errors
/// [`Error::Pack`] if the pack does not fit its published file.
pub fn hold(
    pack: &Pack,
    published: &Published,
    claims: &[Claim],
    report: &Report,
) -> Result<Findings> {
    let series = select::series(published)?;
    let held = |table: &PaperTable| {
        let rows = select::rows(table, &series).map_err(|reason| pack.unusable(reason))?;
        let tolerance = table.tolerance.unwrap_or(pack.tolerance);
        let device = rows.iter().find_map(|row| row.series.device.clone());
        let blocks = (table.figures.iter())
            .flat_map(|figure| latency::blocks(table, *figure, &rows, tolerance, report));
        Ok(Held {
            name: table.name.clone(),
            about: table.about.clone(),
            note: table.note.clone(),
            device,
            tolerance,
            not_comparable: table.not_comparable.clone(),
            experiment: table.experiment.clone(),
            blocks: blocks.collect(),
            scores: scores::scores(pack, table, &rows, report),
            left_out: scores::left_out(pack, table, &rows),
        })
    };
    let tables: Result<Vec<Held>> = pack.tables.iter().map(held).collect();
    Ok(Findings {
        id: pack.id.clone(),
        title: pack.title.clone(),
        url: pack.url.clone(),
        tables: tables?,
        headlines: headlines::headlines(pack, claims, report),
        tolerance: pack.tolerance,
    })
}

/// The files of a pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackFiles {
    /// As Markdown.
    pub markdown: PathBuf,
    /// As CSV, one line for each published figure.
    pub csv: PathBuf,
}

impl Findings {
    /// Writes `pack-ID.md` and `pack-ID.csv` into a folder, over earlier ones.
    ///
    /// # Errors
    /// The system's refusal to write; [`Error::Frame`].
    pub fn write(&self, folder: &Path) -> Result<PackFiles> {
        fs::create_dir_all(folder).map_err(io("create", folder))?;
        let files = PackFiles {
            markdown: folder.join(format!("pack-{}.md", self.id)),
            csv: folder.join(format!("pack-{}.csv", self.id)),
        };
        fs::write(&files.markdown, markdown::document(&sections(self)))
            .map_err(io("write", &files.markdown))?;
        crate::frame::write_csv(&frame(self)?, &files.csv)?;
        Ok(files)
    }
}

impl Pack {
    /// Checks what types cannot, against the published file that its rows are from.
    ///
    /// # Errors
    /// [`Error::Pack`] naming the table and what is wrong with it.
    pub fn check(&self, published: &Published) -> Result<()> {
        let series = select::series(published)?;
        self.sound(&series).map_err(|reason| self.unusable(reason))
    }

    fn unusable(&self, reason: String) -> Error {
        Error::Pack {
            pack: self.id.clone(),
            reason,
        }
    }
}
