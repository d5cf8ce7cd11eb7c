//! What the encoder is given, and whether what it gives depends on it.

use vlmbench_backends::generate::ImageInput;
use vlmbench_backends::image::{Interpolation, Pixels, Rgb8, resize};
use vlmbench_backends::nets::EncoderConfig;
use vlmbench_backends::recipe::{Inputs, Recipe};

use super::{Finding, NO_ENCODER, Row, Sample, distance, failed};
use crate::error::{Failure, chain};
use crate::measure::agreement::{Check, Tolerances};
use crate::measure::session::Session;

/// Factor of the enlarged picture.
const FACTOR: u32 = 2;
/// Most of another picture's distance that enlarging may cause.
const SCALED: f64 = 0.5;
/// Least relative change of features that counts as one: what rounding in f32
/// may do.
const CHANGED: f64 = 5e-5;
/// Inputs of the batch where the recipe does not say.
const BATCH: usize = 2;

/// The checks of the encoder.
pub fn rows(
    session: &mut Session,
    samples: &[Sample],
    tolerances: &Tolerances,
) -> Result<Vec<Row>, Failure> {
    let row = |kind: usize, finding| {
        let (check, done) = [
            (
                "input.resolution",
                "shape of what preprocessing gives for each picture",
            ),
            (
                "input.scaled",
                "a picture with every pixel doubled against another picture: distance of features",
            ),
            (
                "input.detail",
                "a picture with an eighth of its side inverted: distance of features",
            ),
            (
                "batch",
                "inputs encoded at once against one by one: relative error of features",
            ),
        ][kind];
        Row::new(check, done, finding)
    };
    if session.recipe.encoder.is_none() {
        let none = || Finding::not_applicable(NO_ENCODER);
        return Ok((0..4).map(|kind| row(kind, none())).collect());
    }
    let mut shapes = Vec::new();
    for sample in samples {
        let inputs = session.recipe.prepare(&sample.picture, 1)?;
        shapes.push((sides(&session.recipe, &inputs)?, inputs.pixels));
    }
    let [scaled, detail] = changes(session, samples)?;
    Ok(vec![
        row(0, fitting(&shapes)),
        row(1, scaled),
        row(2, detail),
        row(3, batch(session, samples, tolerances)?),
    ])
}

/// The side in pixels that each input is to have.
fn sides(recipe: &Recipe, inputs: &Inputs) -> Result<Vec<usize>, Failure> {
    Ok(match &recipe.encoder()?.config {
        EncoderConfig::Towers(c) => c.towers.iter().map(|tower| tower.side).collect(),
        _ => vec![recipe.resolution; inputs.place.inputs()],
    })
}

fn fitting(shapes: &[(Vec<usize>, Vec<Pixels>)]) -> Finding {
    let fits = |side: usize, p: &Pixels| {
        let whole = p.data.len() == 3 * side * side;
        let varied = p.data.iter().any(|v| *v != p.data[0]);
        (p.height, p.width, p.channels) == (side, side, 3)
            && whole
            && varied
            && p.data.iter().all(|v| v.is_finite())
    };
    let ok = |(sides, pixels): &(Vec<usize>, Vec<Pixels>)| {
        let all = || sides.iter().zip(pixels);
        // A tile may be of one colour; a whole picture is not.
        sides.len() == pixels.len()
            && all().take(1).all(|(side, p)| fits(*side, p))
            && all().all(|(side, p)| (p.height, p.width) == (*side, *side))
    };
    let odd = shapes.iter().find(|shape| !ok(shape));
    let words = |(_, pixels): &(Vec<usize>, Vec<Pixels>)| {
        let first = pixels.first();
        let size = first.map(|p| format!("{} x {} x {}", p.channels, p.height, p.width));
        let size = size.unwrap_or_else(|| "nothing".into());
        match pixels.len() {
            0 | 1 => size,
            n => format!("{n} inputs, the first {size}"),
        }
    };
    let wanted = odd
        .map(|(sides, _)| format!("{sides:?} pixels a side, not all of one colour, are expected"));
    let shown = odd.or(shapes.first()).map(words);
    Finding::judged(
        odd.is_none() && !shapes.is_empty(),
        shown.unwrap_or_default(),
        wanted.unwrap_or_default(),
    )
    .value("pictures", shapes.len() as f64)
}

fn features(session: &mut Session, picture: &Rgb8) -> Result<Vec<f32>, Failure> {
    let mut runner = session.runner();
    let inputs = runner.preprocess(&ImageInput::Rgb(picture), 1, &mut ());
    let encoded = runner.encode(&inputs.map_err(failed)?, &mut ());
    let mut rows = Vec::new();
    for part in &encoded.map_err(failed)? {
        rows.extend(session.model.read(part)?);
    }
    Ok(rows)
}

/// What an enlarged picture and a changed detail do to the features.
fn changes(session: &mut Session, samples: &[Sample]) -> Result<[Finding; 2], Failure> {
    let image = |e| Failure::from(vlmbench_backends::Error::from(e));
    let picture = &samples[0].picture;
    let shorter = picture.width().min(picture.height());
    // At least as large as the input, so that both sizes are made smaller.
    let factor = (session.recipe.resolution as u32).div_ceil(shorter).max(1);
    let (width, height) = (factor * picture.width(), factor * picture.height());
    let resized = |p: &Rgb8| resize(p, width, height, Interpolation::Bicubic).map_err(image);
    let base = resized(picture)?;
    let other = resized(&samples[1].picture)?;
    let of_base = features(session, &base)?;
    let of_other = distance(&features(session, &other)?, &of_base);
    let detail = inverted(&base).map_err(image)?;
    let of_detail = distance(&features(session, &detail)?, &of_base);
    let large = enlarged(&base).map_err(image)?;
    let grid = |p: &Rgb8| session.recipe.place(p.width(), p.height()).grid;
    let scaled = match grid(&large) == grid(&base) {
        false => Finding::not_applicable("a larger picture is cut into other tiles"),
        true => {
            let large = features(session, &large)?;
            resembles(distance(&large, &of_base), of_other)
        }
    };
    Ok([scaled, depends(of_detail)])
}

/// Every pixel as a square of pixels.
fn enlarged(picture: &Rgb8) -> Result<Rgb8, vlmbench_backends::image::ImageError> {
    let (width, height) = (FACTOR * picture.width(), FACTOR * picture.height());
    let stride = 3 * picture.width() as usize;
    let mut data = Vec::with_capacity(3 * width as usize * height as usize);
    for row in picture.data().chunks(stride) {
        let wide = row.chunks(3).flat_map(|p| p.repeat(FACTOR as usize));
        data.extend(wide.collect::<Vec<u8>>().repeat(FACTOR as usize));
    }
    Rgb8::new(width, height, data)
}

/// With a square in the middle in inverted colours.
fn inverted(picture: &Rgb8) -> Result<Rgb8, vlmbench_backends::image::ImageError> {
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let side = (width.min(height) / 8).max(1);
    let (left, top) = ((width - side) / 2, (height - side) / 2);
    let mut data = picture.data().to_vec();
    for y in top..top + side {
        let row = 3 * (y * width + left);
        data[row..row + 3 * side]
            .iter_mut()
            .for_each(|v| *v = 255 - *v);
    }
    Rgb8::new(picture.width(), picture.height(), data)
}

/// A picture twice as large is the same picture.
fn resembles(scaled: f64, other: f64) -> Finding {
    let figure = format!("{scaled:.1e}; another picture {other:.1e}");
    let why = format!("at most {SCALED} times the distance of another picture is expected");
    let like = scaled.is_finite() && other > 0.0 && scaled <= SCALED * other;
    Finding::judged(like, figure, why)
        .value("scaled", scaled)
        .value("other", other)
}

/// A picture with a changed detail is another picture.
fn depends(detail: f64) -> Finding {
    let why = format!("the features hardly depend on the picture: {CHANGED:.0e} is expected");
    let changed = detail.is_finite() && detail > CHANGED;
    Finding::judged(changed, format!("{detail:.1e}"), why).value("detail", detail)
}

/// Inputs encoded at once against one by one.
fn batch(
    session: &mut Session,
    samples: &[Sample],
    tolerances: &Tolerances,
) -> Result<Finding, Failure> {
    if !session.recipe.towers.is_empty() {
        return Ok(Finding::not_applicable(
            "several encoders take inputs of their own, not a batch",
        ));
    }
    let mut first = session.recipe.prepare(&samples[0].picture, 1)?;
    let batched = first.batched && first.pixels.len() > 1;
    if !batched {
        first.pixels.truncate(1);
        for sample in &samples[1..BATCH] {
            let inputs = session.recipe.prepare(&sample.picture, 1)?;
            first.pixels.extend(inputs.pixels.into_iter().take(1));
        }
    }
    let mut single = Vec::new();
    for input in first.pixels.chunks(1) {
        let features = session.model.encode(input)?;
        single.extend(session.model.read(&features)?);
    }
    let together = match session.model.encode(&first.pixels) {
        Ok(features) => session.model.read(&features)?,
        Err(error) if !batched => {
            let why = format!("the engine takes no batch: {}", chain(&error));
            return Ok(Finding::not_applicable(why));
        }
        Err(error) => return Err(error.into()),
    };
    Ok(agree(&together, &single, first.pixels.len(), tolerances))
}

fn agree(together: &[f32], single: &[f32], inputs: usize, tolerances: &Tolerances) -> Finding {
    let allowed = tolerances.features;
    let shape = vec![inputs];
    let check = Check::numbers("", "features", shape, together, Some(single), allowed);
    let error = check.relative_error.unwrap_or(f64::NAN);
    let figure = match error == 0.0 {
        true => format!("equal over {inputs} inputs"),
        false => format!("{error:.1e} over {inputs} inputs"),
    };
    let ok = check.ok && !single.is_empty();
    Finding::judged(ok, figure, check.verdict())
        .value("relative_error", error)
        .value("allowed", allowed)
        .value("inputs", inputs as f64)
}

#[cfg(test)]
mod tests {
    use vlmbench_backends::backend::Precision;

    use super::super::Verdict;
    use super::*;

    fn pixels(height: usize, width: usize) -> Pixels {
        Pixels {
            data: (0..3 * height * width).map(|i| i as f32).collect(),
            channels: 3,
            height,
            width,
        }
    }

    #[test]
    fn inputs_of_another_size_number_or_of_one_colour_fail() {
        let judge = |sides: &[usize], p: Vec<Pixels>| fitting(&[(sides.to_vec(), p)]).verdict;
        assert_eq!(judge(&[4], vec![pixels(4, 4)]), Verdict::Pass);
        assert_eq!(judge(&[4], vec![pixels(4, 3)]), Verdict::Fail);
        assert_eq!(judge(&[4, 4], vec![pixels(4, 4)]), Verdict::Fail);
        let mut cut = pixels(4, 4);
        cut.data.pop();
        assert_eq!(judge(&[4], vec![cut]), Verdict::Fail);
        let mut grey = pixels(4, 4);
        grey.data.fill(0.5);
        assert_eq!(judge(&[4], vec![grey]), Verdict::Fail);
        assert_eq!(fitting(&[]).verdict, Verdict::Fail);
    }

    #[test]
    fn constant_features_fail_and_so_does_a_copy_unlike_its_original() {
        assert_eq!(depends(0.2).verdict, Verdict::Pass);
        assert_eq!(depends(0.0).verdict, Verdict::Fail);
        assert_eq!(depends(f64::NAN).verdict, Verdict::Fail);
        assert_eq!(resembles(0.1, 0.9).verdict, Verdict::Pass);
        assert_eq!(resembles(0.8, 0.9).verdict, Verdict::Fail);
        assert_eq!(resembles(0.0, 0.0).verdict, Verdict::Fail);
    }

    #[test]
    fn a_batch_whose_features_lie_elsewhere_fails() {
        let tolerances = Tolerances::new(Precision::F32, None);
        let judge = |a: &[f32], b: &[f32]| agree(a, b, 2, &tolerances).verdict;
        assert_eq!(judge(&[1.0, 2.0], &[1.0, 2.00001]), Verdict::Pass);
        assert_eq!(judge(&[2.0, 1.0], &[1.0, 2.0]), Verdict::Fail);
        assert_eq!(judge(&[1.0], &[1.0, 2.0]), Verdict::Fail);
        assert_eq!(judge(&[], &[]), Verdict::Fail);
    }

    #[test]
    fn pictures_are_enlarged_and_inverted_where_they_should_be() {
        let data: Vec<u8> = (0..3 * 4 * 2).collect();
        let picture = Rgb8::new(4, 2, data).unwrap();
        let large = enlarged(&picture).unwrap();
        assert_eq!((large.width(), large.height()), (8, 4));
        assert_eq!(large.data()[..9], [0, 1, 2, 0, 1, 2, 3, 4, 5]);
        assert_eq!(large.data()[..24], large.data()[24..48]);
        let changed = inverted(&picture).unwrap();
        let off = picture.data().iter().zip(changed.data());
        assert_eq!(off.filter(|(a, b)| a != b).count(), 3);
    }
}
