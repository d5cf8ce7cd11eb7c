//! The request loop: encoded image and question in, tokens out, with a mark at
//! the end of every phase.
//!
//! The loop is the same for every engine. It never reads a clock: the caller's
//! [`Marks`] does, and the device is synchronised before every mark, so that
//! the time between two marks is the time of the phase between them.

use std::time::Duration;

use serde::Serialize;

use crate::anyres::Placement;
use crate::backend::{Features, LoadedModel};
use crate::error::{Error, Result};
use crate::image::{ExifPolicy, Rgb8, decode};
use crate::recipe::{Inputs, Recipe};
use crate::sampling::{Sampler, Sampling};
use crate::text::{PromptPart, PromptTokens, Stop, StopRule, TextStream, Tokenizer};

/// A phase of a request, in the order of execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Encoded bytes to RGB.
    DecodeImage,
    /// RGB to normalised pixels.
    Preprocess,
    /// Vision encoder.
    Encode,
    /// Projector.
    Project,
    /// Prompt text to token ids.
    Tokenize,
    /// Decoder over the whole prompt, to the logits of the first token.
    Prefill,
    /// Choosing the first token.
    FirstToken,
    /// One later token: decoder step and choice.
    Decode,
}

impl Phase {
    /// Lower-case name, as in records.
    pub fn name(self) -> &'static str {
        match self {
            Phase::DecodeImage => "decode_image",
            Phase::Preprocess => "preprocess",
            Phase::Encode => "encode",
            Phase::Project => "project",
            Phase::Tokenize => "tokenize",
            Phase::Prefill => "prefill",
            Phase::FirstToken => "first_token",
            Phase::Decode => "decode",
        }
    }
}

/// Told when a phase has ended. With several images, each image's phases up
/// to the projection are marked for each, and encoding for each batch of an
/// image's inputs.
pub trait Marks {
    /// `phase` has ended now.
    fn mark(&mut self, phase: Phase);

    /// `phase`, whose mark comes next, took the device so long by its own clock.
    fn device(&mut self, phase: Phase, time: Duration) {
        let _ = (phase, time);
    }
}

/// Marks nothing.
impl Marks for () {
    fn mark(&mut self, _: Phase) {}
}

/// An image of a request.
pub enum ImageInput<'a> {
    /// A file's bytes.
    Encoded(&'a [u8], ExifPolicy),
    /// Decoded pixels.
    Rgb(&'a Rgb8),
}

/// The prompt of a request.
pub enum PromptInput<'a> {
    /// A user's turn, to be put into the recipe's template.
    Turn(&'a [PromptPart]),
    /// Token ids prepared elsewhere, an image as one -200 or as the recipe's
    /// image token repeated.
    Ids(&'a [i64]),
}

/// What to generate.
pub struct Request<'a> {
    /// Images in the order of their markers.
    pub images: Vec<ImageInput<'a>>,
    /// Prompt.
    pub prompt: PromptInput<'a>,
    /// Tokens to generate at most, the first included; fewer if the context
    /// ends before.
    pub max_new_tokens: usize,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Stop strings besides the template's.
    pub stop: &'a [String],
    /// Whether end-of-sequence tokens and stop strings are ignored, so that
    /// the length is exact (latency workloads).
    pub ignore_stop: bool,
}

/// Why generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// An end-of-sequence token or a stop string.
    Stop,
    /// The token limit, or the end of the context.
    Length,
}

/// Tokens of a request by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TokenCounts {
    /// Text of the prompt, template included.
    pub text: usize,
    /// Visual tokens.
    pub visual: usize,
    /// Generated.
    pub output: usize,
}

/// What was generated.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Generation {
    /// Answer without stop string or special tokens.
    pub text: String,
    /// Generated ids, the one that ended the answer included.
    pub ids: Vec<u32>,
    /// Why it ended.
    pub finish: Finish,
    /// Token counts.
    pub tokens: TokenCounts,
}

/// An error with the phase in which it happened.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", phase.name())]
pub struct PhaseError {
    /// Phase.
    pub phase: Phase,
    /// Cause.
    pub source: Box<Error>,
}

/// Names the phase of a failure.
trait During<T> {
    fn during(self, phase: Phase) -> Result<T, PhaseError>;
}

impl<T, E: Into<Error>> During<T> for Result<T, E> {
    fn during(self, phase: Phase) -> Result<T, PhaseError> {
        self.map_err(|e| PhaseError {
            phase,
            source: Box::new(e.into()),
        })
    }
}

/// Runs requests on a loaded model.
pub struct Runner<'a> {
    /// The model.
    pub model: &'a mut dyn LoadedModel,
    /// Its recipe.
    pub recipe: &'a Recipe,
    /// Its tokenizer.
    pub tokenizer: &'a dyn Tokenizer,
}

impl Runner<'_> {
    /// Turns one of a prompt's `images` images into encoder inputs, marking both
    /// phases.
    pub fn preprocess(
        &self,
        image: &ImageInput<'_>,
        images: usize,
        marks: &mut dyn Marks,
    ) -> Result<Inputs, PhaseError> {
        let decoded;
        let rgb = match image {
            ImageInput::Rgb(rgb) => rgb,
            ImageInput::Encoded(bytes, exif) => {
                decoded = decode(bytes, *exif).during(Phase::DecodeImage)?;
                &decoded
            }
        };
        marks.mark(Phase::DecodeImage);
        let inputs = self.recipe.prepare(rgb, images).during(Phase::Preprocess)?;
        marks.mark(Phase::Preprocess);
        Ok(inputs)
    }

    /// Encodes the inputs of one image, marking the phase for each batch.
    pub fn encode(
        &mut self,
        inputs: &Inputs,
        marks: &mut dyn Marks,
    ) -> Result<Vec<Features>, PhaseError> {
        let mut encoded = Vec::new();
        for batch in inputs.batches() {
            encoded.push(self.model.encode(batch).during(Phase::Encode)?);
            self.wait(Phase::Encode, marks)?;
            marks.mark(Phase::Encode);
        }
        Ok(encoded)
    }

    /// Waits for the device at the end of a phase.
    fn wait(&self, phase: Phase, marks: &mut dyn Marks) -> Result<(), PhaseError> {
        if let Some(time) = self.model.synchronize().during(phase)? {
            marks.device(phase, time);
        }
        Ok(())
    }

    /// Projects the features of an image's inputs and makes them one sequence,
    /// marking the phase; where the encoder has done it all there is no mark.
    pub fn project(
        &mut self,
        encoded: &[Features],
        place: &Placement,
        marks: &mut dyn Marks,
    ) -> Result<Features, PhaseError> {
        let features = (self.model.project(encoded, place)).during(Phase::Project)?;
        if !self.model.facts().projects_in_encode || place.inputs() > 1 {
            self.wait(Phase::Project, marks)?;
            marks.mark(Phase::Project);
        }
        Ok(features)
    }

    /// Encodes and projects one image, marking both phases.
    pub fn see(&mut self, inputs: &Inputs, marks: &mut dyn Marks) -> Result<Features, PhaseError> {
        let encoded = self.encode(inputs, marks)?;
        self.project(&encoded, &inputs.place, marks)
    }

    /// The prompt of a request in tokens, for images of the given sizes.
    pub fn tokenize(
        &self,
        prompt: &PromptInput<'_>,
        visual_tokens: &[usize],
    ) -> Result<PromptTokens, PhaseError> {
        match prompt {
            PromptInput::Ids(ids) => {
                PromptTokens::from_input_ids(ids, self.recipe.image_token, visual_tokens)
            }
            PromptInput::Turn(turn) => {
                self.recipe
                    .prompt
                    .tokenize(turn, self.tokenizer, visual_tokens)
            }
        }
        .during(Phase::Tokenize)
    }

    /// Runs a request from encoded images to the last token.
    pub fn generate(
        &mut self,
        request: &Request<'_>,
        marks: &mut dyn Marks,
    ) -> Result<Generation, PhaseError> {
        let mut images = Vec::with_capacity(request.images.len());
        for image in &request.images {
            let inputs = self.preprocess(image, request.images.len(), marks)?;
            images.push(self.see(&inputs, marks)?);
        }
        let visual: Vec<usize> = images.iter().map(|f| f.tokens).collect();
        let prompt = self.tokenize(&request.prompt, &visual)?;
        let max_new_tokens = self.room(&prompt, request)?;
        marks.mark(Phase::Tokenize);

        let logits = self
            .model
            .prefill(&prompt, &images)
            .during(Phase::Prefill)?;
        self.wait(Phase::Prefill, marks)?;
        marks.mark(Phase::Prefill);
        self.answer(request, max_new_tokens, &prompt, logits, marks)
    }

    /// Tokens that may be generated: as many as asked for, or what the context
    /// has left. An exact length (`ignore_stop`) must fit whole.
    fn room(&self, prompt: &PromptTokens, request: &Request<'_>) -> Result<usize, PhaseError> {
        let (tokens, context) = (prompt.total_len(), self.model.facts().context);
        if request.max_new_tokens == 0 {
            return Err(Error::Config {
                what: "max_new_tokens".into(),
                value: "0".into(),
                problem: "must be at least 1".into(),
            })
            .during(Phase::Tokenize);
        }
        // The last token is never fed back, so it needs no position.
        let room = (context + 1).saturating_sub(tokens);
        let least = match request.ignore_stop {
            true => request.max_new_tokens,
            false => 1,
        };
        if room < least {
            return Err(Error::ContextOverflow {
                tokens,
                new: least - 1,
                context,
            })
            .during(Phase::Tokenize);
        }
        Ok(request.max_new_tokens.min(room))
    }

    fn answer(
        &mut self,
        request: &Request<'_>,
        max_new_tokens: usize,
        prompt: &PromptTokens,
        mut logits: Vec<f32>,
        marks: &mut dyn Marks,
    ) -> Result<Generation, PhaseError> {
        let template_stop = self.recipe.prompt.stop.iter().cloned();
        let strings = template_stop.chain(request.stop.iter().cloned());
        let rule = StopRule::new(self.tokenizer.special().eos.clone(), strings);
        let mut sampler = Sampler::new(request.sampling);
        let mut stream = TextStream::new(self.tokenizer);
        let mut text = String::new();
        let mut ids = Vec::with_capacity(max_new_tokens);
        let mut phase = Phase::FirstToken;
        let finish = loop {
            let id = sampler.sample(&logits).ok_or_else(|| PhaseError {
                phase,
                source: Box::new(Error::NonFinite {
                    stage: "the language model".into(),
                }),
            })?;
            ids.push(id);
            marks.mark(phase);
            phase = Phase::Decode;
            if !request.ignore_stop {
                if rule.eos.contains(&id) {
                    break Finish::Stop;
                }
                text.push_str(&stream.push(id).during(phase)?);
                if rule.check(id, &text) == Some(Stop::String) {
                    break Finish::Stop;
                }
            }
            if ids.len() == max_new_tokens {
                break Finish::Length;
            }
            logits = self.model.decode(id).during(phase)?;
            self.wait(phase, marks)?;
        };
        if !request.ignore_stop {
            text.push_str(&stream.finish().during(Phase::Decode)?);
        }
        Ok(Generation {
            text: rule.cut(&text).to_string(),
            finish,
            tokens: TokenCounts {
                text: prompt.text_len(),
                visual: prompt.visual_len(),
                output: ids.len(),
            },
            ids,
        })
    }
}
