//! Whether outputs agree: with reference tensors, or one engine's with
//! another's on the same input.
//!
//! The error of an output is relative: the largest absolute difference over
//! the largest absolute value of the reference.

use serde::Serialize;
use vlmbench_backends::backend::Precision;
use vlmbench_backends::generate::{ImageInput, PhaseError, PromptInput};
use vlmbench_backends::image::synthetic;
use vlmbench_backends::recipe::Recipe;
use vlmbench_backends::sampling::argmax;

use super::latency::prompt_ids;
use super::session::Session;
use crate::error::Failure;

/// Relative error allowed on features in f32.
const FEATURES_F32: f64 = 5e-5;
/// Relative error allowed on logits in f32.
const LOGITS_F32: f64 = 1e-3;
/// Relative error allowed in half precision: rounding of 8 significant bits,
/// carried through some tens of layers.
const HALF: f64 = 5e-2;
/// Text tokens of the prompt on which engines are compared.
const PROMPT: usize = 32;
/// Tokens that are decoded after it.
const STEPS: usize = 8;

/// One comparison.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// Suffix of the reference files, or the engine compared with; empty for
    /// files without one.
    pub suffix: String,
    /// `features`, `image_features`, `logits`, `decode_logits` or
    /// `greedy_ids`.
    pub output: &'static str,
    /// Shape of the output.
    pub shape: Vec<usize>,
    /// Largest absolute difference; `None` where there is nothing to subtract.
    pub max_abs_error: Option<f64>,
    /// The same over the reference's largest absolute value.
    pub relative_error: Option<f64>,
    /// Relative error allowed.
    pub tolerance: Option<f64>,
    /// Whether they agree.
    pub ok: bool,
    /// What else there is to say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Relative errors to allow.
#[derive(Clone, Copy, Debug)]
pub struct Tolerances {
    /// On features, projected or not.
    pub features: f64,
    /// On logits.
    pub logits: f64,
    /// Whether generated ids must be equal; rounding in half precision may
    /// turn a near tie.
    pub exact_ids: bool,
}

impl Tolerances {
    /// Those of a precision, or one `given` for everything.
    pub fn new(precision: Precision, given: Option<f64>) -> Tolerances {
        let exact = precision == Precision::F32;
        let or = |f32s: f64| given.unwrap_or(if exact { f32s } else { HALF });
        Tolerances {
            features: or(FEATURES_F32),
            logits: or(LOGITS_F32),
            exact_ids: exact,
        }
    }
}

impl Check {
    /// Compares numbers; `reference` is `None` if its shape does not fit.
    pub fn numbers(
        suffix: &str,
        output: &'static str,
        shape: Vec<usize>,
        got: &[f32],
        reference: Option<&[f32]>,
        tolerance: f64,
    ) -> Check {
        let fitting = reference.filter(|r| r.len() == got.len());
        let error = fitting.map(|reference| {
            let pairs = || got.iter().zip(reference);
            let off = pairs().map(|(a, b)| f64::from((a - b).abs()));
            // A NaN anywhere must not pass as a small error.
            let max = off.fold(
                0.0,
                |m: f64, v| if v.is_nan() { f64::NAN } else { m.max(v) },
            );
            let scale = reference
                .iter()
                .fold(0.0, |m: f64, v| m.max(f64::from(v.abs())));
            (max, max / scale.max(f64::MIN_POSITIVE))
        });
        let nan = got.iter().any(|v| !v.is_finite());
        Check {
            suffix: suffix.to_owned(),
            output,
            note: match (&error, nan) {
                (None, _) => Some(format!("the model gives {} values", got.len())),
                (_, true) => Some("the model gives non-finite values".into()),
                _ => None,
            },
            max_abs_error: error.map(|e| e.0),
            relative_error: error.map(|e| e.1),
            tolerance: Some(tolerance),
            ok: !nan && error.is_some_and(|(_, relative)| relative <= tolerance),
            shape,
        }
    }

    /// The comparison in words, for a message.
    pub fn verdict(&self) -> String {
        match (self.relative_error, self.tolerance, &self.note) {
            (Some(error), Some(allowed), None) => format!(
                "relative error of {} is {error:.1e}, {allowed:.0e} is allowed",
                self.output
            ),
            (.., note) => format!("{}: {}", self.output, note.as_deref().unwrap_or("differ")),
        }
    }

    /// Compares tokens chosen greedily.
    pub fn ids(suffix: &str, expected: &[i64], got: &[u32], tolerances: &Tolerances) -> Check {
        let equal = expected
            .iter()
            .zip(got)
            .take_while(|(e, g)| **e == i64::from(**g))
            .count();
        let same = equal == expected.len();
        Check {
            suffix: suffix.to_owned(),
            output: "greedy_ids",
            shape: vec![expected.len()],
            max_abs_error: None,
            relative_error: None,
            tolerance: None,
            ok: same || !tolerances.exact_ids,
            note: (!same).then(|| {
                format!(
                    "{equal} of {} tokens are equal, then they part",
                    expected.len()
                )
            }),
        }
    }
}

/// Rows of values with their shape.
type Rows = (Vec<usize>, Vec<f32>);

/// What a model gives on a fixed input, stage by stage.
#[derive(Clone, Debug, Default)]
pub struct Outputs {
    features: Option<Rows>,
    image_features: Option<Rows>,
    logits: Option<Vec<f32>>,
    /// Of every decode step, one after another.
    decode_logits: Vec<f32>,
    /// The likeliest token after the prompt and after every step.
    ids: Vec<u32>,
}

/// Width and height in pixels of the photograph that models are compared on.
const PHOTO: (u32, u32) = (640, 480);

/// Positions of the KV cache that [`Outputs::of`] needs.
pub fn positions(recipe: &Recipe) -> Result<usize, Failure> {
    Ok(match (&recipe.decoder, &recipe.encoder) {
        (None, _) => 0,
        (Some(_), None) => PROMPT + STEPS,
        (Some(_), Some(_)) => PROMPT + recipe.visual_tokens(PHOTO.0, PHOTO.1)? + STEPS,
    })
}

impl Outputs {
    /// Runs a loaded model, whose cache has [`positions`], on a synthetic
    /// photograph and a prompt of fixed ids. Tokens are fed back greedily, or
    /// those of `fed` are, so that a near tie does not lead elsewhere.
    pub fn of(session: &mut Session, fed: Option<&Outputs>) -> Result<Outputs, Failure> {
        let mut outputs = Outputs::default();
        let failed = |e: PhaseError| Failure::Backend(*e.source);
        let mut images = Vec::new();
        if session.recipe.encoder.is_some() {
            let photo =
                synthetic::photo(PHOTO.0, PHOTO.1, 0).map_err(vlmbench_backends::Error::from)?;
            let mut runner = session.runner();
            let inputs = runner.preprocess(&ImageInput::Rgb(&photo), 1, &mut ());
            let inputs = inputs.map_err(failed)?;
            let features = runner.encode(&inputs, &mut ()).map_err(failed)?;
            if !session.facts().projects_in_encode {
                let mut rows = Vec::new();
                for part in &features {
                    rows.extend(session.model.read(part)?);
                }
                let first = features.first().map_or(vec![], |f| vec![f.tokens, f.dim]);
                let shape = [vec![inputs.pixels.len()], first].concat();
                outputs.features = Some((shape, rows));
            }
            if session.recipe.projector.is_some() {
                let projected = session.runner().project(&features, &inputs.place, &mut ());
                let projected = projected.map_err(failed)?;
                let shape = vec![projected.tokens, projected.dim];
                outputs.image_features = Some((shape, session.model.read(&projected)?));
                images.push(projected);
            }
        }
        let Some(decoder) = &session.recipe.decoder else {
            return Ok(outputs);
        };
        let vocab = decoder.config.vocab;
        let sees = session.recipe.encoder.is_some();
        let ids = prompt_ids(PROMPT, vocab, session.recipe.image_token, sees, 0);
        let visual: Vec<usize> = images.iter().map(|image| image.tokens).collect();
        let runner = session.runner();
        let prompt = runner.tokenize(&PromptInput::Ids(&ids), &visual);
        let prompt = prompt.map_err(failed)?;
        let logits = session.model.prefill(&prompt, &images)?;
        outputs.ids.extend(argmax(&logits));
        outputs.logits = Some(logits);
        for step in 0..STEPS {
            let ids = fed.map_or(&outputs.ids, |fed| &fed.ids);
            let Some(&id) = ids.get(step) else { break };
            let logits = session.model.decode(id)?;
            outputs.ids.extend(argmax(&logits));
            outputs.decode_logits.extend(logits);
        }
        Ok(outputs)
    }

    /// Compares with what the engine `name` gives.
    pub fn against(&self, name: &str, theirs: &Outputs, tolerances: &Tolerances) -> Vec<Check> {
        let mut checks = Vec::new();
        let mut numbers = |output, shape: &[usize], got: &[f32], reference: &[f32], allowed| {
            let shape = shape.to_vec();
            let check = Check::numbers(name, output, shape, got, Some(reference), allowed);
            checks.push(check);
        };
        let features = [
            ("features", &self.features, &theirs.features),
            (
                "image_features",
                &self.image_features,
                &theirs.image_features,
            ),
        ];
        for (output, got, reference) in features {
            if let (Some((shape, got)), Some((_, reference))) = (got, reference) {
                numbers(output, shape, got, reference, tolerances.features);
            }
        }
        if let (Some(got), Some(reference)) = (&self.logits, &theirs.logits) {
            let allowed = tolerances.logits;
            numbers("logits", &[got.len()], got, reference, allowed);
            let got = &self.decode_logits;
            let shape = [got.len() / reference.len().max(1), reference.len()];
            numbers("decode_logits", &shape, got, &theirs.decode_logits, allowed);
            let expected: Vec<i64> = theirs.ids.iter().map(|id| i64::from(*id)).collect();
            checks.push(Check::ids(name, &expected, &self.ids, tolerances));
        }
        checks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outputs(logits: &[f32], ids: &[u32]) -> Outputs {
        Outputs {
            features: Some((vec![1, 2], vec![4.0, -2.0])),
            logits: Some(logits.to_vec()),
            decode_logits: logits.to_vec(),
            ids: ids.to_vec(),
            ..Outputs::default()
        }
    }

    fn failing(ours: &Outputs, theirs: &Outputs, precision: Precision) -> Vec<&'static str> {
        let checks = ours.against("other", theirs, &Tolerances::new(precision, None));
        assert_eq!(checks.len(), 4);
        let failing = checks.into_iter().filter(|c| !c.ok);
        failing.map(|c| c.output).collect()
    }

    #[test]
    fn engines_agree_within_the_tolerance_of_their_precision() {
        let theirs = outputs(&[10.0, 1.0], &[0, 0]);
        let near = outputs(&[10.009, 1.0], &[0, 0]);
        let far = outputs(&[10.1, 1.0], &[0, 0]);
        assert!(failing(&near, &theirs, Precision::F32).is_empty());
        let both = ["logits", "decode_logits"];
        assert_eq!(failing(&far, &theirs, Precision::F32), both);
        assert!(failing(&far, &theirs, Precision::F16).is_empty());
    }

    #[test]
    fn other_tokens_shapes_and_no_numbers_are_disagreements() {
        let theirs = outputs(&[10.0, 1.0], &[0, 0]);
        let parted = outputs(&[10.0, 1.0], &[0, 1]);
        assert_eq!(failing(&parted, &theirs, Precision::F32), ["greedy_ids"]);
        assert!(failing(&parted, &theirs, Precision::Bf16).is_empty());
        let both = ["logits", "decode_logits"];
        let nan = outputs(&[10.0, f32::NAN], &[0, 0]);
        assert_eq!(failing(&nan, &theirs, Precision::F16), both);
        let long = outputs(&[10.0, 1.0, 1.0], &[0, 0]);
        assert_eq!(failing(&long, &theirs, Precision::F32), both);
        let checks = nan.against("other", &theirs, &Tolerances::new(Precision::F32, None));
        let words = checks[1].verdict();
        assert_eq!(words, "logits: the model gives non-finite values");
    }
}
