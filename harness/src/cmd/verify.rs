//! `vlmbench verify MODEL --reference DIR`: outputs against reference tensors.
//!
//! The error of an output is relative: the largest absolute difference over
//! the largest absolute value of the reference. The tolerances are those of
//! f32 parity between engines; half precision gets what its rounding needs.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use serde::Serialize;
use vlmbench_backends::backend::Precision;
use vlmbench_backends::generate::PromptInput;
use vlmbench_backends::image::Pixels;
use vlmbench_backends::npy::{Array, read_f32, read_i64};
use vlmbench_backends::recipe::Recipe;
use vlmbench_backends::sampling::argmax;
use vlmbench_backends::text::IMAGE_SENTINEL;
use vlmbench_reports::table::{Align, Column, Table};

use super::Format;
use super::latency::EngineArgs;
use crate::context::Context;
use crate::error::{Failure, Outcome};
use crate::measure::session::{Load, Session};

/// Relative error allowed on features in f32.
const FEATURES_F32: f64 = 5e-5;
/// Relative error allowed on logits in f32.
const LOGITS_F32: f64 = 1e-3;
/// Relative error allowed in half precision: rounding of 8 significant bits,
/// carried through some tens of layers.
const HALF: f64 = 5e-2;

/// Arguments of `verify`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A name from `vlmbench list models`, a checkpoint folder, or a hub id
    pub model: String,
    /// Folder with input.npy, output.npy and, for a vision-language model, input_ids.npy, optionally
    /// image_features.npy and greedy_ids.npy; further references have a suffix: input_S.npy, ...
    #[arg(long, value_name = "DIR")]
    pub reference: PathBuf,
    /// What to run it on
    #[command(flatten)]
    pub engine: EngineArgs,
    /// Relative error to allow on every output [default: by output and precision]
    #[arg(long, value_name = "X")]
    pub tolerance: Option<f64>,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// One comparison.
#[derive(Debug, Serialize)]
struct Check {
    /// Suffix of the reference files; empty for none.
    suffix: String,
    /// `features`, `image_features`, `logits` or `greedy_ids`.
    output: &'static str,
    shape: Vec<usize>,
    max_abs_error: Option<f64>,
    relative_error: Option<f64>,
    tolerance: Option<f64>,
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

/// All comparisons.
#[derive(Debug, Serialize)]
struct Verified<'a> {
    model: &'a str,
    layout: &'a str,
    checks: &'a [Check],
    ok: bool,
}

/// Compares the model with the references and prints the verdict.
pub fn run(args: Args, ctx: &Context) -> Result<Outcome, Failure> {
    let options = args.engine.options()?;
    let recipe = args.engine.recipe(&args.model, ctx)?;
    let suffixes = suffixes(&args.reference)?;
    let mut references = Vec::new();
    for suffix in suffixes {
        references.push(Reference::read(&args.reference, &suffix)?);
    }
    let mut context = 0;
    for reference in &references {
        context = context.max(reference.positions(&recipe)?);
    }
    let bar = ctx.terminal.spinner(format!("loading {}", recipe.name));
    let load = Load {
        recipe: &recipe,
        backend: &args.engine.backend,
        options: &options,
        context,
        hub: &ctx.hub,
    };
    let mut session = Session::open(&load, &mut ctx.terminal.downloads(&bar))?;
    let tolerances = Tolerances::new(options.precision, args.tolerance);
    let mut checks = Vec::new();
    for reference in &references {
        bar.set_message(format!("reference {}", reference.suffix));
        reference.compare(&mut session, &tolerances, &mut checks)?;
    }
    bar.finish_and_clear();
    let ok = checks.iter().all(|c| c.ok);
    match args.format {
        Format::Json => ctx.print_json(&Verified {
            model: &recipe.name,
            layout: &session.facts().weights.layout,
            checks: &checks,
            ok,
        })?,
        Format::Text => ctx.print(&text(&checks, ok, ctx.terminal.width))?,
    }
    Ok(match ok {
        true => Outcome::Done,
        false => Outcome::Mismatch,
    })
}

/// Suffixes `S` of every `input.npy` and `input_S.npy`, sorted, the empty one first.
fn suffixes(folder: &Path) -> Result<Vec<String>, Failure> {
    let unusable = |problem: String| Failure::Input {
        path: folder.into(),
        problem,
    };
    let entries = std::fs::read_dir(folder).map_err(|e| unusable(e.to_string()))?;
    let mut suffixes: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter_map(|name| {
            let stem = name.strip_suffix(".npy")?.strip_prefix("input")?;
            let own = stem.is_empty() || (stem.starts_with('_') && !stem.starts_with("_ids"));
            own.then(|| stem.to_owned())
        })
        .collect();
    suffixes.sort();
    match suffixes.is_empty() {
        true => Err(unusable(
            "it holds no input.npy or input_S.npy; put preprocessed pixels there, f32 (1, 3, H, W)"
                .into(),
        )),
        false => Ok(suffixes),
    }
}

/// Relative errors to allow.
struct Tolerances {
    features: f64,
    logits: f64,
    /// Whether generated ids must be equal; rounding in half precision may
    /// turn a near tie.
    exact_ids: bool,
}

impl Tolerances {
    fn new(precision: Precision, given: Option<f64>) -> Tolerances {
        let exact = precision == Precision::F32;
        let or = |f32s: f64| given.unwrap_or(if exact { f32s } else { HALF });
        Tolerances {
            features: or(FEATURES_F32),
            logits: or(LOGITS_F32),
            exact_ids: exact,
        }
    }
}

/// The files of one suffix.
struct Reference {
    suffix: String,
    pixels: Pixels,
    output: Array<f32>,
    input_ids: Option<Vec<i64>>,
    image_features: Option<Array<f32>>,
    greedy_ids: Option<Vec<i64>>,
}

impl Reference {
    fn read(folder: &Path, suffix: &str) -> Result<Reference, Failure> {
        let file = |name: &str| folder.join(format!("{name}{suffix}.npy"));
        let optional = |name: &str| Some(file(name)).filter(|path| path.is_file());
        let input = file("input");
        let pixels = read_f32(&input)?;
        let [1, channels, height, width] = pixels.shape[..] else {
            return Err(Failure::Input {
                path: input,
                problem: format!("expected shape (1, 3, H, W), got {:?}", pixels.shape),
            });
        };
        let ids = |name: &str| -> Result<Option<Vec<i64>>, Failure> {
            Ok(match optional(name) {
                Some(path) => Some(read_i64(&path)?.data),
                None => None,
            })
        };
        Ok(Reference {
            suffix: suffix.trim_start_matches('_').to_owned(),
            pixels: Pixels {
                data: pixels.data,
                channels,
                height,
                width,
            },
            output: read_f32(&file("output"))?,
            input_ids: ids("input_ids")?,
            image_features: optional("image_features")
                .map(|path| read_f32(&path))
                .transpose()?,
            greedy_ids: ids("greedy_ids")?,
        })
    }

    /// Positions that its prompt and answer need at most: an image may be one
    /// sentinel in the prompt for all its visual tokens.
    fn positions(&self, recipe: &Recipe) -> Result<usize, Failure> {
        let Some(prompt) = &self.input_ids else {
            return Ok(0);
        };
        let config = &recipe.encoder()?.config;
        let visual = config.visual_tokens(self.pixels.height, self.pixels.width)?;
        let answer = self.greedy_ids.as_ref().map_or(0, Vec::len);
        Ok(prompt.len() + visual + answer)
    }

    fn compare(
        &self,
        session: &mut Session,
        tolerances: &Tolerances,
        checks: &mut Vec<Check>,
    ) -> Result<(), Failure> {
        let features = session.model.encode(&self.pixels)?;
        let Some(input_ids) = &self.input_ids else {
            let got = session.model.read(&features)?;
            let reference = rows(&self.output, features.tokens, features.dim);
            let shape = self.output.shape.clone();
            checks.push(self.check("features", shape, &got, reference, tolerances.features));
            return Ok(());
        };
        let projected = session.model.project(&features)?;
        if let Some(expected) = &self.image_features {
            let got = session.model.read(&projected)?;
            let reference = rows(expected, projected.tokens, projected.dim);
            let shape = expected.shape.clone();
            checks.push(self.check(
                "image_features",
                shape,
                &got,
                reference,
                tolerances.features,
            ));
        }
        let ids = mark_image(input_ids, session.recipe.image_token, projected.tokens);
        let prompt = session
            .runner()
            .tokenize(&PromptInput::Ids(&ids), &[projected.tokens])
            .map_err(|e| Failure::Backend(*e.source))?;
        let mut logits = session.model.prefill(&prompt, &[projected])?;
        let shape = self.output.shape.clone();
        let reference = Some(self.output.data.clone());
        checks.push(self.check("logits", shape, &logits, reference, tolerances.logits));
        if let Some(expected) = &self.greedy_ids {
            let mut got = Vec::new();
            for step in 0..expected.len() {
                if step > 0 {
                    logits = session.model.decode(got[step - 1])?;
                }
                let Some(id) = argmax(&logits) else { break };
                got.push(id);
            }
            checks.push(self.check_ids(expected, &got, tolerances));
        }
        Ok(())
    }

    fn check(
        &self,
        output: &'static str,
        shape: Vec<usize>,
        got: &[f32],
        reference: Option<Vec<f32>>,
        tolerance: f64,
    ) -> Check {
        let fitting = reference.filter(|r| r.len() == got.len());
        let error = fitting.as_ref().map(|reference| {
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
            suffix: self.suffix.clone(),
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

    fn check_ids(&self, expected: &[i64], got: &[u32], tolerances: &Tolerances) -> Check {
        let equal = expected
            .iter()
            .zip(got)
            .take_while(|(e, g)| **e == i64::from(**g))
            .count();
        let same = equal == expected.len();
        Check {
            suffix: self.suffix.clone(),
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

fn text(checks: &[Check], ok: bool, width: usize) -> String {
    let column = |title: &str, align| Column {
        title: title.into(),
        align,
        rank: 0,
    };
    let mut table = Table::new(vec![
        column("reference", Align::Left),
        column("output", Align::Left),
        column("shape", Align::Left),
        column("max error", Align::Right),
        column("relative", Align::Right),
        column("allowed", Align::Right),
        column("verdict", Align::Left),
    ]);
    let number = |v: Option<f64>| v.map(|v| format!("{v:.2e}")).unwrap_or_default();
    for c in checks {
        let verdict = if c.ok { "ok" } else { "MISMATCH" };
        let note = c
            .note
            .as_ref()
            .map(|n| format!(": {n}"))
            .unwrap_or_default();
        table.push(vec![
            if c.suffix.is_empty() {
                "-".into()
            } else {
                c.suffix.clone()
            },
            c.output.into(),
            format!("{:?}", c.shape),
            number(c.max_abs_error),
            number(c.relative_error),
            number(c.tolerance),
            format!("{verdict}{note}"),
        ]);
    }
    let verdict = if ok {
        "all outputs agree"
    } else {
        "outputs differ"
    };
    format!("{}\n{verdict}", table.to_text(width))
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

    #[test]
    fn suffixes_leave_the_token_ids_out() {
        let dir = tempfile::tempdir().unwrap();
        for name in [
            "input.npy",
            "input_b.npy",
            "input_ids.npy",
            "input_ids_b.npy",
            "output.npy",
        ] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        assert_eq!(suffixes(dir.path()).unwrap(), ["", "_b"]);
    }
}
