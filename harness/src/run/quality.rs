//! A quality case: a pass over a suite, every sample a record.
//!
//! Images are decoded in parallel a few samples ahead of the model, which
//! answers one sample after another. A sample that cannot be answered is a
//! recorded failure and stays in the denominator.

use rayon::prelude::*;
use sha2::{Digest, Sha256};
use vlmbench_backends::generate::{
    Finish, Generation, ImageInput, PhaseError, PromptInput, Request,
};
use vlmbench_backends::image::{ExifPolicy, Rgb8, decode};
use vlmbench_backends::sampling::Sampling;
use vlmbench_backends::text::{PromptPart, template};
use vlmbench_reports::record::{
    Answer, Extraction, FinishReason, Record, SampleOutcome, SampleRecord, Score, StageTimes,
    TokenCounts,
};
use vlmbench_suites::{
    Dataset, Extraction as Extracted, ImageSlots, Outcome, PromptPart as SuitePart, Sample,
    SampleScore, Suite, SuiteError,
};

use super::{Execution, Failed};
use crate::error::{Failure, chain};
use crate::measure::clock::{Monotonic, Stopwatch};
use crate::measure::session::Session;
use crate::plan::{Case, QualityCase};

/// Why a sample has no answer.
struct SampleError {
    stage: &'static str,
    error: String,
}

impl Execution<'_> {
    /// Asks a suite's samples; how many failed, or why the case did.
    pub(super) fn quality(
        &mut self,
        case: &Case,
        quality: &QualityCase,
        session: &mut Session,
    ) -> Result<Result<usize, Failed>, Failure> {
        let dataset = match self.dataset(quality, session) {
            Ok(dataset) => dataset,
            Err(failure) => {
                return Ok(Err(Failed {
                    stage: "data".into(),
                    error: chain(&failure),
                }));
            }
        };
        let suite = Suite::new(&quality.suite.spec, &quality.suite.profile)?;

        let id = case.id.to_string();
        let mut standings = vec![0.0; dataset.len()];
        for (index, standing) in self.earlier_standings(&id, &dataset) {
            standings[index] = standing;
        }
        let done = self.progress.case(&id).samples;
        let left: Vec<usize> = (dataset.samples().iter().enumerate())
            .filter(|(_, sample)| !done.contains(&sample.id))
            .map(|(index, _)| index)
            .collect();
        let total = dataset.len();
        let mut answered = total - left.len();
        let mut failed = 0;
        for chunk in left.chunks(quality.decode_ahead) {
            let images: Vec<(usize, Result<ImageSlots, SuiteError>)> = match quality.blind {
                true => chunk.iter().map(|i| (*i, Ok(Vec::new()))).collect(),
                false => dataset.images(chunk.iter().copied()).collect(),
            };
            let decoded: Vec<_> = images
                .into_par_iter()
                .map(|(index, slots)| {
                    let sample = &dataset.samples()[index];
                    let images = slots.as_ref().ok().and_then(of_images);
                    (
                        index,
                        images,
                        pictures(&suite, sample, slots, quality.blind),
                    )
                })
                .collect();
            for (index, images, pictures) in decoded {
                let sample = &dataset.samples()[index];
                let outcome = self.sample(&suite, sample, pictures, quality, session)?;
                failed += usize::from(matches!(outcome, SampleOutcome::Failed { .. }));
                standings[index] = outcome.standing();
                self.append(&Record::Sample(SampleRecord {
                    case: id.clone(),
                    sample: sample.id.clone(),
                    images,
                    outcome,
                }))?;
                answered += 1;
                self.bar
                    .set_message(format!("{id}: sample {answered}/{total}"));
            }
        }
        // What was answered blind says nothing of what is to be seen.
        if !quality.blind {
            self.exhibit(&dataset, &suite, quality, &standings)?;
        }
        Ok(Ok(failed))
    }

    /// The samples to ask, and that the model can be asked in words.
    fn dataset(&self, quality: &QualityCase, session: &Session) -> Result<Dataset, Failure> {
        session.require_tokenizer()?;
        quality.suite.open(&self.ctx.hub, &mut |_| {})
    }

    fn sample(
        &self,
        suite: &Suite,
        sample: &Sample,
        pictures: Result<Vec<Rgb8>, SampleError>,
        quality: &QualityCase,
        session: &mut Session,
    ) -> Result<SampleOutcome, Failure> {
        let answered = pictures
            .and_then(|pictures| answer(suite, sample, &pictures, quality, session, &self.clock));
        let failed = |e: SampleError| SampleOutcome::Failed {
            stage: e.stage.into(),
            error: e.error,
        };
        let (generation, stages) = match answered {
            Ok(answered) => answered,
            Err(error) => return Ok(failed(error)),
        };
        let outcome = Outcome::Answered {
            response: generation.text.clone(),
            truncated: generation.finish == Finish::Length,
        };
        Ok(match suite.score(sample, &outcome) {
            Ok(score) => SampleOutcome::Ok(recorded(generation, &score, stages)),
            Err(e) => failed(SampleError {
                stage: "score",
                error: chain(&e),
            }),
        })
    }
}

/// [`digest`] of a sample's images; `None` without images.
fn of_images(slots: &ImageSlots) -> Option<String> {
    let images = slots.iter().flatten();
    images.clone().next()?;
    Some(digest(images.map(|image| image.bytes.as_slice())))
}

/// SHA-256 of files one after the other, half of it: enough to know them again.
pub(super) fn digest<'a>(files: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut sha = Sha256::new();
    files.into_iter().for_each(|file| sha.update(file));
    let half = sha.finalize().into_iter().take(16);
    half.map(|byte| format!("{byte:02x}")).collect()
}

/// The images of a sample in the order of its prompt's markers, decoded.
fn pictures(
    suite: &Suite,
    sample: &Sample,
    slots: Result<ImageSlots, SuiteError>,
    blind: bool,
) -> Result<Vec<Rgb8>, SampleError> {
    let data = |error: String| SampleError {
        stage: "data",
        error,
    };
    let slots = slots.map_err(|e| data(chain(&e)))?;
    let parts = prompt(suite, sample, blind)?;
    let asked = parts.iter().filter_map(|part| match part {
        SuitePart::Image(slot) => Some(*slot),
        SuitePart::Text(_) => None,
    });
    asked
        .map(|slot| {
            let image = slots.get(slot).and_then(Option::as_ref);
            let bytes = image.map(|i| i.bytes.as_slice()).ok_or_else(|| {
                data(format!(
                    "image {slot} of the sample is missing from its row"
                ))
            })?;
            decode(bytes, ExifPolicy::Ignore).map_err(|e| SampleError {
                stage: "decode_image",
                error: chain(&e),
            })
        })
        .collect()
}

fn answer(
    suite: &Suite,
    sample: &Sample,
    pictures: &[Rgb8],
    quality: &QualityCase,
    session: &mut Session,
    clock: &Monotonic,
) -> Result<(Generation, StageTimes), SampleError> {
    let turn = turn(&prompt(suite, sample, quality.blind)?);
    let limits = suite.limits();
    let max = quality.max_new_tokens.unwrap_or(limits.max_new_tokens);
    let request = Request {
        images: pictures.iter().map(ImageInput::Rgb).collect(),
        prompt: PromptInput::Turn(&turn),
        max_new_tokens: max as usize,
        sampling: Sampling::Greedy,
        stop: &limits.stop,
        ignore_stop: false,
    };
    let mut watch = Stopwatch::start(clock);
    let generation = session
        .runner()
        .generate(&request, &mut watch)
        .map_err(|e: PhaseError| SampleError {
            stage: e.phase.name(),
            error: chain(e.source.as_ref()),
        })?;
    let mut stages = watch.stages();
    // Images were decoded ahead, so this pass does not know that time.
    stages.preprocess_ns = None;
    Ok((generation, stages))
}

/// A sample's prompt, without its images if they are withheld.
fn prompt(suite: &Suite, sample: &Sample, blind: bool) -> Result<Vec<SuitePart>, SampleError> {
    let parts = suite.render(sample).map_err(|e| SampleError {
        stage: "data",
        error: chain(&e),
    })?;
    Ok(match blind {
        true => vec![SuitePart::Text(text_of(&parts))],
        false => parts,
    })
}

/// The text of a prompt.
pub(super) fn text_of(parts: &[SuitePart]) -> String {
    let texts = parts.iter().filter_map(|part| match part {
        SuitePart::Text(text) => Some(text.as_str()),
        SuitePart::Image(_) => None,
    });
    texts.collect::<String>().trim().to_owned()
}

/// A suite's prompt as a user's turn. Images that come before all text are put
/// as the models were trained to see them; the others stay where they are.
fn turn(parts: &[SuitePart]) -> Vec<PromptPart> {
    let leading = parts
        .iter()
        .take_while(|part| matches!(part, SuitePart::Image(_)))
        .count();
    let later = parts[leading..].iter().map(|part| match part {
        SuitePart::Text(text) => PromptPart::Text(text.clone()),
        SuitePart::Image(_) => PromptPart::Image,
    });
    let mut turn = template::images_first(leading, "");
    turn.extend(later);
    turn
}

fn recorded(generation: Generation, score: &SampleScore, stages: StageTimes) -> Answer {
    let narrow = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Answer {
        finish_reason: match generation.finish {
            Finish::Stop => FinishReason::Stop,
            Finish::Length => FinishReason::Length,
        },
        tokens: TokenCounts {
            prompt: narrow(generation.tokens.text),
            visual: narrow(generation.tokens.visual),
            output: narrow(generation.tokens.output),
        },
        extraction: match &score.answer {
            Some(Extracted::Found(answer)) => Extraction::Parsed {
                answer: answer.clone(),
            },
            Some(Extracted::Unparsed) | None => Extraction::Unparsed,
        },
        score: Score {
            numerator: i64::try_from(score.points.numerator()).unwrap_or(i64::MAX),
            denominator: score
                .points
                .denominator()
                .try_into()
                .unwrap_or(std::num::NonZeroU64::MIN),
        },
        response: generation.text,
        stages,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leading_images_get_the_line_break_that_models_know() {
        let text = |t: &str| SuitePart::Text(t.into());
        let turn = turn(&[SuitePart::Image(0), SuitePart::Image(2), text("what?")]);
        assert_eq!(template::display(&turn), "<image> <image>\nwhat?");
        let inline = super::turn(&[text("see "), SuitePart::Image(0), text("?")]);
        assert_eq!(template::display(&inline), "see <image>?");
    }
}
