//! Suites that are drawn instead of downloaded: scene text, document pages and
//! simple scenes, in the file layouts of TextVQA, DocVQA and SEED-Bench.
//!
//! Everything follows from the request: integers from a generator written down
//! here, outlines from typefaces that ship, IEEE arithmetic without library
//! functions. So the same request gives the same bytes on every machine.
//!
//! Which split a sample belongs to is a property of what it shows, not of a
//! seed: a candidate whose content belongs elsewhere is thrown again. Strings
//! that are asked for are divided in the same way, so that no answer of a test
//! picture was ever written in a training picture; what leads to them (labels,
//! names of rows) comes from lists that all splits share.

mod canvas;
mod dice;
mod lettering;
mod pages;
mod palette;
mod scenes;
mod signs;
mod table;
mod words;

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use polars::prelude::{DataFrame, ParquetCompression, ParquetWriter, PolarsResult};
use rayon::prelude::*;
use serde::Serialize;

use self::canvas::Canvas;
use self::dice::Dice;
use self::lettering::Reading;
use self::words::split_of;
use crate::error::{SuiteError, names};

/// Rows of a row group, as in the published files.
const ROW_GROUP: usize = 100;

/// The suites that can be drawn, by the ids of those whose layout they have.
pub const SYNTHETIC: [&str; 3] = ["docvqa", "seedbench", "textvqa"];

/// A part of a data set that shares no sample with another part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Split {
    /// To learn from.
    Train,
    /// To choose between models.
    Validation,
    /// To report.
    Test,
}

impl Split {
    /// All of them.
    pub const ALL: [Split; 3] = [Split::Train, Split::Validation, Split::Test];

    /// Its name on the hub.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Split::Train => "train",
            Split::Validation => "validation",
            Split::Test => "test",
        }
    }

    /// Its name in the rows of TextVQA and DocVQA.
    fn set_name(self) -> &'static str {
        match self {
            Split::Validation => "val",
            other => other.name(),
        }
    }
}

impl std::str::FromStr for Split {
    type Err = SuiteError;

    fn from_str(name: &str) -> Result<Self, SuiteError> {
        let found = Self::ALL.into_iter().find(|split| split.name() == name);
        found.ok_or_else(|| SuiteError::UnknownSplit {
            split: name.to_owned(),
            known: names(Self::ALL.map(Self::name)),
        })
    }
}

/// What is to be drawn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SynthRequest {
    /// One of [`SYNTHETIC`].
    pub suite: String,
    /// Which part.
    pub split: Split,
    /// Number of samples. A longer data set begins with the shorter one.
    pub samples: usize,
    /// Another seed, other samples.
    pub seed: u64,
}

/// What was drawn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Synthesized {
    /// Number of samples.
    pub samples: usize,
    /// Bytes of all pictures.
    pub image_bytes: u64,
}

/// A picture with what is in it.
struct Picture {
    canvas: Canvas,
    /// Texts in reading order.
    readings: Vec<Reading>,
    /// Things by name, with the pixel of their middle.
    objects: Vec<(String, f32, f32)>,
    /// Questions that can be asked about it, for those who train.
    asks: Vec<Ask>,
}

/// A question that is not in the data set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Ask {
    question: String,
    /// In words, or the letter of a choice.
    answer: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    choices: Vec<String>,
}

impl Ask {
    fn open(question: String, answer: String) -> Self {
        Self {
            question,
            answer,
            choices: Vec::new(),
        }
    }
}

/// A finished row.
struct Item<S> {
    index: usize,
    name: String,
    sample: S,
    png: Vec<u8>,
}

/// What the three kinds of samples have in common.
trait Sampled: Send + Sized {
    /// Distinguishes the kinds' dice.
    const TAG: u64;

    /// Draws one; texts are taken from the split.
    fn draw(dice: &mut Dice, split: Split) -> Self;

    /// What makes it a sample of its own: two with the same content are one.
    fn content(&self) -> String;

    fn picture(&self) -> &Picture;

    fn frame(items: &[Item<Self>], split: Split) -> PolarsResult<DataFrame>;
}

/// All texts of a picture, a line each.
fn texts(picture: &Picture) -> String {
    let texts = picture.readings.iter().map(|reading| reading.text.as_str());
    texts.collect::<Vec<_>>().join("\n")
}

impl Sampled for signs::Signs {
    const TAG: u64 = 1;

    fn draw(dice: &mut Dice, split: Split) -> Self {
        signs::draw(dice, split)
    }

    fn content(&self) -> String {
        format!("{}\n{}", self.question, texts(&self.picture))
    }

    fn picture(&self) -> &Picture {
        &self.picture
    }

    fn frame(items: &[Item<Self>], split: Split) -> PolarsResult<DataFrame> {
        table::textvqa(items, split.set_name())
    }
}

impl Sampled for pages::Page {
    const TAG: u64 = 2;

    fn draw(dice: &mut Dice, split: Split) -> Self {
        pages::draw(dice, split)
    }

    fn content(&self) -> String {
        format!("{}\n{}", self.question, texts(&self.picture))
    }

    fn picture(&self) -> &Picture {
        &self.picture
    }

    fn frame(items: &[Item<Self>], split: Split) -> PolarsResult<DataFrame> {
        table::docvqa(items, split.set_name())
    }
}

impl Sampled for scenes::Scene {
    const TAG: u64 = 3;

    fn draw(dice: &mut Dice, _: Split) -> Self {
        scenes::draw(dice)
    }

    fn content(&self) -> String {
        format!("{}\n{}", self.question, self.description)
    }

    fn picture(&self) -> &Picture {
        &self.picture
    }

    fn frame(items: &[Item<Self>], _: Split) -> PolarsResult<DataFrame> {
        table::seedbench(items)
    }
}

/// Draws a data set into a parquet file; with `places` also writes where every
/// character and object stands and what else could be asked, a JSON object a
/// row, for those who train.
pub fn synthesize(
    request: &SynthRequest,
    out: &Path,
    places: Option<&Path>,
) -> Result<Synthesized, SuiteError> {
    match request.suite.as_str() {
        "textvqa" => write::<signs::Signs>(request, out, places),
        "docvqa" => write::<pages::Page>(request, out, places),
        "seedbench" => write::<scenes::Scene>(request, out, places),
        other => Err(SuiteError::NotSynthetic {
            suite: other.to_owned(),
            known: names(SYNTHETIC),
        }),
    }
}

/// Row `index` of a data set. Which attempts it took depends on its content
/// only, so rows can be drawn in any order.
fn item<S: Sampled>(request: &SynthRequest, index: usize, repeat: u64) -> (Item<S>, String) {
    let SynthRequest { split, seed, .. } = *request;
    for attempt in 0.. {
        let words = [S::TAG, split as u64, seed, index as u64, repeat, attempt];
        let sample = S::draw(&mut Dice::new(&words), split);
        let content = sample.content();
        if split_of(&content) == split {
            let item = Item {
                index,
                name: format!("{}-{}-{seed}-{index}", request.suite, split.name()),
                png: sample.picture().canvas.png(),
                sample,
            };
            return (item, content);
        }
    }
    unreachable!("a tenth of all content belongs to the smallest split")
}

fn write<S: Sampled>(
    request: &SynthRequest,
    out: &Path,
    places: Option<&Path>,
) -> Result<Synthesized, SuiteError> {
    let create = |path: &Path| File::create(path).map_err(|source| cannot_write(path, source));
    let failed = |error: polars::prelude::PolarsError| SuiteError::Write {
        path: out.to_owned(),
        detail: error.to_string(),
    };
    if request.samples == 0 {
        return Err(SuiteError::NoSamples);
    }
    let mut beside = match places {
        Some(path) => Some((path, BufWriter::new(create(path)?))),
        None => None,
    };
    let file = create(out)?;
    let mut file = Some(BufWriter::new(file));
    let mut writer = None;
    let mut seen = HashSet::new();
    let mut image_bytes = 0;
    for first in (0..request.samples).step_by(ROW_GROUP) {
        let rows = first..request.samples.min(first + ROW_GROUP);
        let drawn: Vec<(Item<S>, String)> = rows
            .into_par_iter()
            .map(|index| item(request, index, 0))
            .collect();
        let mut items = Vec::with_capacity(drawn.len());
        for (mut row, mut content) in drawn {
            let mut repeat = 0;
            while !seen.insert(content) {
                repeat += 1;
                (row, content) = item(request, row.index, repeat);
            }
            image_bytes += row.png.len() as u64;
            if let Some((path, beside)) = &mut beside {
                write_places(beside, &row).map_err(|source| cannot_write(path, source))?;
            }
            items.push(row);
        }
        let frame = S::frame(&items, request.split).map_err(failed)?;
        if let Some(file) = file.take() {
            // Pictures are compressed already.
            let plain = ParquetWriter::new(file).with_compression(ParquetCompression::Uncompressed);
            writer = Some(plain.batched(frame.schema()).map_err(failed)?);
        }
        if let Some(writer) = &mut writer {
            writer.write_batch(&frame).map_err(failed)?;
        }
    }
    if let Some(writer) = &writer {
        writer.finish().map_err(failed)?;
    }
    if let Some((path, mut beside)) = beside {
        beside
            .flush()
            .map_err(|source| cannot_write(path, source))?;
    }
    Ok(Synthesized {
        samples: request.samples,
        image_bytes,
    })
}

fn cannot_write(path: &Path, source: std::io::Error) -> SuiteError {
    SuiteError::Write {
        path: PathBuf::from(path),
        detail: source.to_string(),
    }
}

/// A line of the file beside: id, side lengths, each text with its size, the
/// colour of the sign it is on and the centres of its characters, each object
/// with its centre, in tenths of a pixel; and more questions.
fn write_places<S: Sampled>(to: &mut impl Write, item: &Item<S>) -> std::io::Result<()> {
    #[derive(Serialize)]
    struct Text<'a> {
        text: &'a str,
        size: i32,
        #[serde(skip_serializing_if = "Option::is_none")]
        on: Option<&'static str>,
        x: Vec<i32>,
        y: Vec<i32>,
    }
    #[derive(Serialize)]
    struct Object<'a> {
        name: &'a str,
        x: i32,
        y: i32,
    }
    #[derive(Serialize)]
    struct Row<'a> {
        id: &'a str,
        width: usize,
        height: usize,
        texts: Vec<Text<'a>>,
        objects: Vec<Object<'a>>,
        asks: &'a [Ask],
    }
    let tenths = |v: f32| (v * 10.0).round() as i32;
    let picture = item.sample.picture();
    let row = Row {
        id: &item.name,
        width: picture.canvas.width,
        height: picture.canvas.height,
        texts: picture
            .readings
            .iter()
            .map(|reading| Text {
                text: &reading.text,
                size: tenths(reading.size),
                on: reading.on,
                x: reading.centers.iter().map(|c| tenths(c.0)).collect(),
                y: reading.centers.iter().map(|c| tenths(c.1)).collect(),
            })
            .collect(),
        objects: picture
            .objects
            .iter()
            .map(|(name, x, y)| Object {
                name,
                x: tenths(*x),
                y: tenths(*y),
            })
            .collect(),
        asks: &picture.asks,
    };
    serde_json::to_writer(&mut *to, &row)?;
    to.write_all(b"\n")
}
