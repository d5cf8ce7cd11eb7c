//! What a model is asked: drawn signs, pages and scenes with their questions,
//! or token ids where a checkpoint has no tokenizer.

use vlmbench_backends::generate::{ImageInput, PromptInput};
use vlmbench_backends::hub::HubOptions;
use vlmbench_backends::image::{ExifPolicy, Rgb8, decode};
use vlmbench_backends::recipe::Recipe;
use vlmbench_backends::text::{IMAGE_SENTINEL, PromptPart, template};
use vlmbench_suites::{Dataset, OpenOptions, PromptPart as SuitePart, Suite, SuiteSpec};

use crate::config::{ConfigKind, Configs};
use crate::data_ref::DataRef;
use crate::error::{Failure, chain};
use crate::measure::latency::prompt_ids;
use crate::measure::session::Session;

/// Suites that questions are drawn of, in turn.
const SUITES: [&str; 3] = ["textvqa", "docvqa", "seedbench"];
/// How they are asked.
const PROFILE: &str = "lmms@0.2.2";
/// Text tokens of a question without a tokenizer.
const IDS: usize = 32;

/// A question about a picture.
pub struct Sample {
    /// `textvqa/0` and the like.
    pub name: String,
    /// The picture.
    pub picture: Rgb8,
    /// The question.
    text: String,
    /// Distinguishes the token ids that stand for it without a tokenizer.
    index: usize,
}

/// A prompt, as words or as ids.
pub enum Asked {
    /// A user's turn.
    Turn(Vec<PromptPart>),
    /// Token ids.
    Ids(Vec<i64>),
}

impl Asked {
    /// As a request has it.
    pub fn input(&self) -> PromptInput<'_> {
        match self {
            Asked::Turn(turn) => PromptInput::Turn(turn),
            Asked::Ids(ids) => PromptInput::Ids(ids),
        }
    }
}

impl Sample {
    /// The prompt, with a place for the picture if it is shown.
    pub fn prompt(&self, session: &Session, shown: bool) -> Asked {
        if session.require_tokenizer().is_ok() {
            return Asked::Turn(template::images_first(usize::from(shown), &self.text));
        }
        let vocab = (session.recipe.decoder.as_ref()).map_or(1, |d| d.config.vocab);
        let seed = self.index as u64;
        let mut ids = prompt_ids(IDS, vocab, session.recipe.image_token, shown, seed);
        ids.retain(|id| shown || *id != IMAGE_SENTINEL);
        Asked::Ids(ids)
    }

    /// The picture as a request has it.
    pub fn image(&self) -> ImageInput<'_> {
        ImageInput::Rgb(&self.picture)
    }

    /// Positions that surely hold the question about a picture: every byte
    /// could be a token of its own.
    pub fn positions(&self, recipe: &Recipe, picture: &Rgb8) -> Result<usize, Failure> {
        let visual = match recipe.encoder {
            Some(_) => recipe.visual_tokens(picture.width(), picture.height())?,
            None => 0,
        };
        let template = recipe.prompt.prefix.len() + recipe.prompt.suffix.len();
        Ok(visual + template + self.text.len().max(IDS) + 8)
    }
}

/// Draws questions, the same for the same number.
pub fn draw(samples: usize) -> Result<Vec<Sample>, Failure> {
    let configs = Configs::embedded();
    let mut drawn = Vec::new();
    for (turn, id) in SUITES.iter().enumerate() {
        let wanted = (turn..samples).step_by(SUITES.len()).count();
        if wanted == 0 {
            continue;
        }
        let spec: SuiteSpec = configs.find(ConfigKind::Suite, id)?.parse()?;
        let data = DataRef::parse(Some(&format!("synth:{wanted}")), &spec);
        // Drawn data is on no hub.
        let path = data.locate(&spec, Some("test"), &HubOptions::new(""), &mut |_| {})?;
        let options = OpenOptions {
            split: Some("test".into()),
            ..OpenOptions::default()
        };
        let dataset = Dataset::open(&spec, &path, &options)?;
        let suite = Suite::new(&spec, PROFILE)?;
        for (row, images) in dataset.images(0..dataset.len()) {
            let parts = suite.render(&dataset.samples()[row])?;
            let bytes = images?.into_iter().flatten().next();
            let bytes =
                bytes.ok_or_else(|| Failure::Internal("a drawn sample has no picture".into()))?;
            let picture = decode(&bytes.bytes, ExifPolicy::Ignore).map_err(|e| {
                Failure::Internal(format!("a drawn picture cannot be read: {}", chain(&e)))
            })?;
            drawn.push(Sample {
                name: format!("{id}/{row}"),
                picture,
                text: text(&parts).trim().to_owned(),
                index: row * SUITES.len() + turn,
            });
        }
    }
    drawn.sort_by_key(|sample| sample.index);
    Ok(drawn)
}

fn text(parts: &[SuitePart]) -> String {
    let texts = parts.iter().filter_map(|part| match part {
        SuitePart::Text(text) => Some(text.as_str()),
        SuitePart::Image(_) => None,
    });
    texts.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_of_every_suite_in_turn() {
        let samples = draw(4).unwrap();
        let names: Vec<&str> = samples.iter().map(|s| s.name.as_str()).collect();
        assert_eq!(names, ["textvqa/0", "docvqa/0", "seedbench/0", "textvqa/1"]);
        assert!(samples.iter().all(|s| !s.text.is_empty()));
        assert_ne!(samples[0].picture, samples[3].picture);
    }
}
