//! Samples for the report's gallery: question, right answers and the pictures,
//! small copies in the run folder, so that it stands alone.
//!
//! They are chosen when all samples of a case are scored, by the scores alone:
//! a run that was resumed ends with the same ones.

use std::path::Path;

use vlmbench_backends::image::{ExifPolicy, decode, thumbnail};
use vlmbench_reports::gallery::chosen;
use vlmbench_reports::record::{Exhibit, Record};
use vlmbench_suites::{Dataset, ImageSlots, Sample, Suite};

use super::Execution;
use super::quality::{digest, text_of};
use crate::error::Failure;
use crate::plan::QualityCase;

/// Folder for pictures below the run folder.
const FOLDER: &str = "gallery";
/// A picture of more bytes is copied smaller.
const MOST_BYTES: usize = 48 << 10;
/// Longest sides of such a copy in pixels, tried in turn until it is small
/// enough; noise of the last one is.
const SIDES: [u32; 4] = [640, 448, 320, 160];
/// Quality of its JPEG.
const QUALITY: u8 = 80;

impl Execution<'_> {
    /// Records what the gallery keeps of a case whose samples are all scored.
    /// `standings` has where each sample of `dataset` stands.
    pub(super) fn exhibit(
        &mut self,
        dataset: &Dataset,
        suite: &Suite,
        quality: &QualityCase,
        standings: &[f64],
    ) -> Result<(), Failure> {
        // Only a run has a folder; launches ask no suites.
        let Some(writer) = &self.writer else {
            return Ok(());
        };
        let folder = writer.folder().join(FOLDER);
        let selection = &quality.suite;
        let key = |sample: &Sample| {
            let suite = selection.spec.id.clone();
            (suite, selection.profile.clone(), sample.id.clone())
        };
        let mut missing = chosen(standings, quality.gallery);
        missing.retain(|index| {
            let key = key(&dataset.samples()[*index]);
            !self.progress.exhibits.contains(&key)
        });
        for (index, slots) in dataset.images(missing) {
            let sample = &dataset.samples()[index];
            // What could not be read has failed on record, and is shown without.
            let images = match slots {
                Ok(slots) => keep(&folder, &slots)?,
                Err(_) => Vec::new(),
            };
            let question = match suite.render(sample) {
                Ok(parts) => text_of(&parts),
                Err(_) => sample.question.clone(),
            };
            let mut references: Vec<String> = Vec::new();
            for gold in &sample.golds {
                if !references.contains(gold) {
                    references.push(gold.clone());
                }
            }
            let key = key(sample);
            self.append(&Record::Exhibit(Exhibit {
                suite: key.0.clone(),
                profile: key.1.clone(),
                sample: key.2.clone(),
                question,
                references,
                images,
            }))?;
            self.progress.exhibits.insert(key);
        }
        Ok(())
    }

    /// What an earlier launch recorded of a case, by index in the data set.
    pub(super) fn earlier_standings<'a>(
        &'a self,
        case: &'a str,
        dataset: &'a Dataset,
    ) -> impl Iterator<Item = (usize, f64)> + 'a {
        let samples = self.earlier.iter().flat_map(|run| &run.samples);
        samples
            .filter(move |sample| sample.case == case)
            .filter_map(|sample| {
                let index = dataset.index_of(&sample.sample)?;
                Some((index, sample.outcome.standing()))
            })
    }
}

/// Keeps a sample's pictures, named by their content; their paths below the run
/// folder. One that no reader knows is left out.
fn keep(folder: &Path, slots: &ImageSlots) -> Result<Vec<String>, Failure> {
    let mut kept = Vec::new();
    for image in slots.iter().flatten() {
        let Some((bytes, kind)) = small(&image.bytes) else {
            continue;
        };
        let name = format!("{}.{kind}", digest([image.bytes.as_slice()]));
        write(folder, &name, &bytes)?;
        kept.push(format!("{FOLDER}/{name}"));
    }
    Ok(kept)
}

/// A picture as it is, if it is small and browsers know it, or a smaller copy.
fn small(bytes: &[u8]) -> Option<(Vec<u8>, &'static str)> {
    if let Some(kind) = extension(bytes).filter(|_| bytes.len() <= MOST_BYTES) {
        return Some((bytes.to_vec(), kind));
    }
    let pixels = decode(bytes, ExifPolicy::Ignore).ok()?;
    let copy = thumbnail(&pixels, &SIDES, QUALITY, MOST_BYTES).ok()?;
    Some((copy, "jpg"))
}

fn extension(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0x89, b'P', b'N', b'G', ..] => Some("png"),
        [0xff, 0xd8, ..] => Some("jpg"),
        _ => None,
    }
}

/// Writes a file that is not there yet. Renamed into place: a process that is
/// killed leaves no half of a picture under its name.
fn write(folder: &Path, name: &str, bytes: &[u8]) -> Result<(), Failure> {
    let path = folder.join(name);
    if path.exists() {
        return Ok(());
    }
    let unfinished = folder.join(format!("{name}.part"));
    let written = std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::write(&unfinished, bytes))
        .and_then(|()| std::fs::rename(&unfinished, &path));
    written.map_err(|source| Failure::Output { path, source })
}

#[cfg(test)]
mod tests {
    use vlmbench_backends::image::Rgb8;
    use vlmbench_backends::image::thumbnail::jpeg;

    use super::*;

    /// Pixels of which nothing can be foreseen.
    fn noise(width: u32, height: u32) -> Rgb8 {
        let mut state = 1_u64;
        let mut byte = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 56) as u8
        };
        let data = (0..3 * width * height).map(|_| byte()).collect();
        Rgb8::new(width, height, data).unwrap()
    }

    #[test]
    fn no_picture_takes_more_than_its_share() {
        let tiny = jpeg(&noise(40, 30), 90).unwrap();
        assert_eq!(small(&tiny), Some((tiny.clone(), "jpg")));
        // Noise is what JPEG does worst, most of all if it is not averaged.
        for side in [160, 300, 320, 640, 1500] {
            let large = jpeg(&noise(side, side), 100).unwrap();
            assert!(large.len() > MOST_BYTES);
            let (copy, kind) = small(&large).unwrap();
            assert!(copy.len() <= MOST_BYTES, "{side}: {}", copy.len());
            assert_eq!(kind, "jpg");
        }
        assert_eq!(small(b"no picture"), None);
    }
}
