//! What a model gives to one request, stage by stage.

use vlmbench_backends::generate::ImageInput;
use vlmbench_backends::image::Rgb8;
use vlmbench_backends::sampling::argmax;

use super::failed;
use super::sample::Asked;
use crate::error::Failure;
use crate::measure::session::Session;

/// Everything that can be read of one request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reply {
    /// Of the encoder, all inputs one after another; empty without one.
    pub features: Vec<f32>,
    /// Logits of the first token; empty without a decoder.
    pub logits: Vec<f32>,
    /// Greedy tokens, the first included.
    pub ids: Vec<u32>,
    /// Visual tokens, however counted.
    pub visual: Visual,
}

/// Visual tokens of a request, counted at every place that knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Visual {
    /// By the plan, from the picture's size alone.
    pub planned: usize,
    /// Rows that were read back from the engine, each as wide as it says.
    pub read: usize,
    /// Positions of the prompt that are not text; `None` without a decoder.
    pub prompt: Option<usize>,
}

impl Reply {
    /// Asks with a picture (or none), and decodes `steps` tokens after the
    /// first.
    pub fn of(
        session: &mut Session,
        picture: Option<&Rgb8>,
        prompt: &Asked,
        steps: usize,
    ) -> Result<Reply, Failure> {
        let mut reply = Reply::default();
        let mut images = Vec::new();
        if let Some(picture) = picture.filter(|_| session.recipe.encoder.is_some()) {
            reply.visual.planned = session
                .recipe
                .visual_tokens(picture.width(), picture.height())?;
            let mut runner = session.runner();
            let inputs = runner
                .preprocess(&ImageInput::Rgb(picture), 1, &mut ())
                .map_err(failed)?;
            let encoded = runner.encode(&inputs, &mut ()).map_err(failed)?;
            for part in &encoded {
                let rows = session.model.read(part)?;
                reply.visual.read += rows.len() / part.dim.max(1);
                reply.features.extend(rows);
            }
            if session.recipe.projector.is_some() {
                let projected = session.runner().project(&encoded, &inputs.place, &mut ());
                let projected = projected.map_err(failed)?;
                let rows = session.model.read(&projected)?;
                reply.visual.read = rows.len() / projected.dim.max(1);
                images.push(projected);
            }
        }
        if session.recipe.decoder.is_none() {
            return Ok(reply);
        }
        let visual: Vec<usize> = images.iter().map(|image| image.tokens).collect();
        let tokens = session.runner().tokenize(&prompt.input(), &visual);
        let tokens = tokens.map_err(failed)?;
        let positions: usize = tokens.segments().iter().map(|s| s.len()).sum();
        reply.visual.prompt = Some(positions - tokens.text_len());
        reply.logits = session.model.prefill(&tokens, &images)?;
        reply.ids.extend(argmax(&reply.logits));
        while let Some(&last) = reply.ids.last()
            && reply.ids.len() <= steps
        {
            let logits = session.model.decode(last)?;
            let Some(next) = argmax(&logits) else { break };
            reply.ids.push(next);
        }
        Ok(reply)
    }

    /// The first output in which two replies differ by any bit.
    pub fn first_difference(&self, other: &Reply) -> Option<&'static str> {
        let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        if bits(&self.features) != bits(&other.features) {
            return Some("features");
        }
        if bits(&self.logits) != bits(&other.logits) {
            return Some("logits of the first token");
        }
        (self.ids != other.ids).then_some("greedy tokens")
    }
}
