//! Reference tensors of one suffix, and the comparison with what a model gives.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use vlmbench_backends::anyres::Placement;
use vlmbench_backends::backend::Features;
use vlmbench_backends::generate::PromptInput;
use vlmbench_backends::image::Pixels;
use vlmbench_backends::npy::{Array, read_f32, read_i64};
use vlmbench_backends::recipe::{Inputs, Recipe};
use vlmbench_backends::sampling::argmax;
use vlmbench_backends::text::IMAGE_SENTINEL;

use crate::error::Failure;
use crate::measure::agreement::{Check, Tolerances};
use crate::measure::session::Session;

/// Preprocessed pixels `(1, 3, H, W)`, or `(N, 3, H, W)` of an image in tiles.
fn read_pixels(path: &Path) -> Result<Vec<Pixels>, Failure> {
    let pixels = read_f32(path)?;
    let shape = match pixels.shape[..] {
        // transformers' processors put the images of a batch before an image's inputs.
        [1, n, c, h, w] | [n, c, h, w] if n * c * h * w > 0 => [c, h, w],
        _ => {
            let expected = "expected shape (1, 3, H, W), or (N, 3, H, W) of an image in tiles";
            return Err(Failure::Input {
                path: path.into(),
                problem: format!("{expected}, got {:?}", pixels.shape),
            });
        }
    };
    let [channels, height, width] = shape;
    let inputs = pixels.data.chunks(channels * height * width);
    let inputs = inputs.map(|data| Pixels {
        data: data.to_vec(),
        channels,
        height,
        width,
    });
    Ok(inputs.collect())
}

/// The files of one suffix.
pub(super) struct Reference {
    pub(super) suffix: String,
    /// The encoder inputs of one image; empty for a decoder alone.
    pixels: Vec<Pixels>,
    /// Height and width of the image, where it is in tiles.
    image_sizes: Option<Vec<i64>>,
    /// Where they are to be.
    sizes_file: PathBuf,
    output: Array<f32>,
    /// `None` for an encoder alone.
    input_ids: Option<Vec<i64>>,
    image_features: Option<Array<f32>>,
    greedy_ids: Option<Vec<i64>>,
}

impl Reference {
    pub(super) fn read(folder: &Path, suffix: &str) -> Result<Reference, Failure> {
        let file = |name: &str| folder.join(format!("{name}{suffix}.npy"));
        let optional = |name: &str| Some(file(name)).filter(|path| path.is_file());
        let ids = |name: &str| -> Result<Option<Vec<i64>>, Failure> {
            Ok(match optional(name) {
                Some(path) => Some(read_i64(&path)?.data),
                None => None,
            })
        };
        Ok(Reference {
            suffix: suffix.trim_start_matches('_').to_owned(),
            pixels: match optional("input") {
                Some(path) => read_pixels(&path)?,
                None => Vec::new(),
            },
            image_sizes: ids("image_sizes")?,
            sizes_file: file("image_sizes"),
            output: read_f32(&file("output"))?,
            input_ids: ids("input_ids")?,
            image_features: optional("image_features")
                .map(|path| read_f32(&path))
                .transpose()?,
            greedy_ids: ids("greedy_ids")?,
        })
    }

    /// The image as the recipe's encoder takes it.
    fn inputs(&self, recipe: &Recipe) -> Result<Option<Inputs>, Failure> {
        if self.pixels.is_empty() {
            return Ok(None);
        }
        let given = self.pixels.len();
        let wrong = |problem: String| Failure::Input {
            path: self.sizes_file.clone(),
            problem,
        };
        let place = match (&recipe.tiles, self.image_sizes.as_deref()) {
            (Some(_), Some(&[height, width])) => recipe.place(width as u32, height as u32),
            (Some(_), _) if given > 1 => {
                return Err(wrong(
                    "needed beside an image in tiles: its height and width in pixels".into(),
                ));
            }
            _ => Placement {
                width: 0,
                height: 0,
                grid: None,
            },
        };
        if place.inputs() != given {
            return Err(wrong(format!(
                "an image of {}x{} pixels is {} inputs here, the reference has {given}",
                place.width,
                place.height,
                place.inputs()
            )));
        }
        Ok(Some(Inputs {
            pixels: self.pixels.clone(),
            batched: true,
            place,
        }))
    }

    /// Positions that its prompt and answer need at most: an image may be one
    /// sentinel in the prompt for all its visual tokens.
    pub(super) fn positions(&self, recipe: &Recipe) -> Result<usize, Failure> {
        let Some(prompt) = &self.input_ids else {
            return Ok(0);
        };
        let arrangement = match self.inputs(recipe)? {
            Some(inputs) => recipe.arrangement(&inputs.place)?,
            None => None,
        };
        let visual = match (arrangement, self.pixels.first()) {
            (Some(mix), _) => mix.len(),
            (None, Some(p)) => recipe.input_tokens_of(p.height, p.width)?,
            (None, None) => 0,
        };
        let answer = self.greedy_ids.as_ref().map_or(0, Vec::len);
        Ok(prompt.len() + visual + answer)
    }

    pub(super) fn compare(
        &self,
        session: &mut Session,
        tolerances: &Tolerances,
        checks: &mut Vec<Check>,
    ) -> Result<(), Failure> {
        let inputs = self.inputs(&session.recipe)?;
        match (&self.input_ids, inputs) {
            (None, Some(inputs)) => {
                let allowed = tolerances.features;
                let features = session.model.encode(&inputs.pixels)?;
                let check =
                    self.check_features("features", &self.output, session, &features, allowed)?;
                checks.push(check);
            }
            (None, None) => {}
            (Some(ids), inputs) => {
                self.compare_answer(ids, inputs.as_ref(), session, tolerances, checks)?;
            }
        }
        Ok(())
    }

    /// Projected features, where there is an image, then the logits of the
    /// prompt and the tokens of greedy decoding.
    fn compare_answer(
        &self,
        input_ids: &[i64],
        inputs: Option<&Inputs>,
        session: &mut Session,
        tolerances: &Tolerances,
        checks: &mut Vec<Check>,
    ) -> Result<(), Failure> {
        let images: Vec<Features> = match inputs {
            Some(inputs) => {
                let seen = session.runner().see(inputs, &mut ());
                vec![seen.map_err(|e| Failure::Backend(*e.source))?]
            }
            None => Vec::new(),
        };
        if let (Some(expected), Some(projected)) = (&self.image_features, images.first()) {
            let allowed = tolerances.features;
            checks.push(self.check_features(
                "image_features",
                expected,
                session,
                projected,
                allowed,
            )?);
        }
        let visual: Vec<usize> = images.iter().map(|image| image.tokens).collect();
        let ids = match visual[..] {
            [tokens] => mark_image(input_ids, session.recipe.image_token, tokens),
            _ => input_ids.into(),
        };
        let prompt = session
            .runner()
            .tokenize(&PromptInput::Ids(&ids), &visual)
            .map_err(|e| Failure::Backend(*e.source))?;
        let mut logits = session.model.prefill(&prompt, &images)?;
        let shape = self.output.shape.clone();
        let reference = Some(self.output.data.as_slice());
        let allowed = tolerances.logits;
        checks.push(Check::numbers(
            &self.suffix,
            "logits",
            shape,
            &logits,
            reference,
            allowed,
        ));
        if let Some(expected) = &self.greedy_ids {
            let mut got = Vec::new();
            for step in 0..expected.len() {
                if step > 0 {
                    logits = session.model.decode(got[step - 1])?;
                }
                let Some(id) = argmax(&logits) else { break };
                got.push(id);
            }
            checks.push(Check::ids(&self.suffix, expected, &got, tolerances));
        }
        Ok(())
    }

    /// Features against a reference of tokens or of a map.
    fn check_features(
        &self,
        output: &'static str,
        expected: &Array<f32>,
        session: &Session,
        features: &Features,
        tolerance: f64,
    ) -> Result<Check, Failure> {
        let got = session.model.read(features)?;
        let reference = rows(expected, features.tokens, features.dim);
        Ok(Check::numbers(
            &self.suffix,
            output,
            expected.shape.clone(),
            &got,
            reference.as_deref(),
            tolerance,
        ))
    }
}

/// Puts the sentinel for an image whose token the checkpoint does not name
/// (LLaVA's and Apple's configurations have no key for it): the only run of
/// one id that is as long as the image has visual tokens.
fn mark_image(ids: &[i64], image_token: Option<u32>, visual_tokens: usize) -> Cow<'_, [i64]> {
    let marked =
        |id: &i64| *id == IMAGE_SENTINEL || image_token.is_some_and(|t| *id == i64::from(t));
    if ids.iter().any(marked) {
        return ids.into();
    }
    let mut runs = Vec::new();
    let mut start = 0;
    for run in ids.chunk_by(|a, b| a == b) {
        if run.len() == visual_tokens {
            runs.push(start);
        }
        start += run.len();
    }
    let [start] = runs[..] else {
        return ids.into();
    };
    let mut marked = ids.to_vec();
    marked.splice(start..start + visual_tokens, [IMAGE_SENTINEL]);
    marked.into()
}

/// A reference `(1, tokens, dim)` as it is, `(1, dim, h, w)` transposed to
/// rows of features; `None` if it is neither.
fn rows(reference: &Array<f32>, tokens: usize, dim: usize) -> Option<Vec<f32>> {
    match reference.shape[..] {
        [1, n, d] | [n, d] if (n, d) == (tokens, dim) => Some(reference.data.clone()),
        [1, c, h, w] if (h * w, c) == (tokens, dim) => {
            let mut rows = Vec::with_capacity(reference.data.len());
            for token in 0..tokens {
                rows.extend((0..dim).map(|channel| reference.data[channel * tokens + token]));
            }
            Some(rows)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_transposed_to_rows_and_other_shapes_refused() {
        let array = |shape: &[usize]| Array {
            shape: shape.to_vec(),
            data: (0..12).map(|v| v as f32).collect(),
        };
        let map = rows(&array(&[1, 3, 2, 2]), 4, 3).unwrap();
        assert_eq!(map[..6], [0.0, 4.0, 8.0, 1.0, 5.0, 9.0]);
        assert_eq!(rows(&array(&[1, 4, 3]), 4, 3).unwrap(), array(&[12]).data);
        assert_eq!(rows(&array(&[1, 3, 4]), 4, 3), None);
    }

    #[test]
    fn an_image_whose_token_nobody_names_is_the_only_run_of_its_length() {
        let mark = |ids: &[i64], token| mark_image(ids, token, 3).into_owned();
        assert_eq!(mark(&[1, 9, 9, 9, 2, 2], None), [1, -200, 2, 2]);
        assert_eq!(mark(&[1, 9, 9, 9, 2, 2], Some(7)), [1, -200, 2, 2]);
        for clear in [[1, 9, 9, 9, 2, 7], [1, 9, 9, 9, 2, -200]] {
            assert_eq!(mark(&clear, Some(7)), clear);
        }
        for unclear in [[1, 1, 1, 9, 9, 9], [1, 9, 9, 9, 9, 2]] {
            assert_eq!(mark(&unclear, None), unclear);
        }
    }
}
