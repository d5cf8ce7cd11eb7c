//! Samples for the report's gallery: question, right answers and the images
//! themselves, copied into the run folder so that it stands alone.

use std::path::Path;

use vlmbench_reports::record::{Exhibit, Record};
use vlmbench_suites::{Dataset, Sample, Suite};

use super::Execution;
use super::quality::text_of;
use crate::error::Failure;
use crate::plan::QualityCase;

/// Folder for images below the run folder.
const FOLDER: &str = "gallery";

impl Execution<'_> {
    /// Records the first samples of a suite, once a run. A sample whose images
    /// cannot be read is left out here; being asked, it fails on record.
    pub(super) fn exhibit(
        &mut self,
        dataset: &Dataset,
        suite: &Suite,
        quality: &QualityCase,
    ) -> Result<(), Failure> {
        let selection = &quality.suite;
        let key = |sample: &Sample| {
            let suite = selection.spec.id.clone();
            (suite, selection.profile.clone(), sample.id.clone())
        };
        let shown = dataset.samples().iter().take(quality.gallery).enumerate();
        let missing: Vec<usize> = shown
            .filter(|(_, sample)| !self.progress.exhibits.contains(&key(sample)))
            .map(|(index, _)| index)
            .collect();
        // Only a run has a folder; launches ask no suites.
        let Some(folder) = self
            .writer
            .as_ref()
            .map(|writer| writer.folder().to_path_buf())
        else {
            return Ok(());
        };
        for (index, slots) in dataset.images(missing) {
            let sample = &dataset.samples()[index];
            let (Ok(slots), Ok(parts)) = (slots, suite.render(sample)) else {
                continue;
            };
            let mut images = Vec::new();
            for (slot, image) in slots.iter().flatten().enumerate() {
                let kind = extension(&image.bytes);
                let name = format!("{FOLDER}/{}-{index}-{slot}.{kind}", selection.spec.id);
                write(&folder.join(&name), &image.bytes)?;
                images.push(name);
            }
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
                question: text_of(&parts),
                references,
                images,
            }))?;
            self.progress.exhibits.insert(key);
        }
        Ok(())
    }
}

fn extension(bytes: &[u8]) -> &'static str {
    match bytes {
        [0x89, b'P', b'N', b'G', ..] => "png",
        [0xff, 0xd8, ..] => "jpg",
        _ => "img",
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let output = |source| Failure::Output {
        path: path.into(),
        source,
    };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(output)?;
    }
    std::fs::write(path, bytes).map_err(output)
}
