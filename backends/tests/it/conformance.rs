//! What every engine owes the harness, whatever it computes with: one body,
//! run on all of them.

use vlmbench_backends::Error;
use vlmbench_backends::backend::{Features, LoadedModel, Precision};
use vlmbench_backends::checkpoint::{SeededSource, recipe_from_folder};
use vlmbench_backends::image::Pixels;
use vlmbench_backends::recipe::Recipe;
use vlmbench_backends::text::PromptTokens;
use vlmbench_backends::weights::Part;

use crate::parity::{CONTEXT, Engine, engines, fixture, largest, load, project};

/// A small vision-language model on every engine.
fn each(check: impl Fn(Engine, &Recipe, &mut dyn LoadedModel)) {
    let recipe = recipe_from_folder(&fixture("fastvlm/fast_vlm")).unwrap();
    for engine in engines() {
        let mut model = load(&recipe, &SeededSource::new(7), Precision::F32, engine);
        check(engine, &recipe, model.as_mut());
    }
}

pub fn pixels(side: usize) -> Pixels {
    let wave = |i: usize| ((i * 37 % 101) as f32 - 50.0) / 50.0;
    Pixels {
        data: (0..3 * side * side).map(wave).collect(),
        channels: 3,
        height: side,
        width: side,
    }
}

fn text(ids: &[i64]) -> PromptTokens {
    PromptTokens::from_input_ids(ids, None, &[]).unwrap()
}

#[track_caller]
fn assert_same(engine: Engine, a: &[f32], b: &[f32]) {
    assert_eq!(a.len(), b.len());
    let off = a.iter().zip(b).map(|(a, b)| (a - b).abs());
    let worst = off.fold(0.0, f32::max);
    assert!(worst <= 1e-4 * largest(a), "{engine:?}: off by {worst}");
}

#[test]
fn one_token_after_another_is_the_same_as_all_at_once() {
    each(|engine, _, model| {
        let ids = [3, 9, 27, 81, 5, 15];
        let whole = model.prefill(&text(&ids), &[]).unwrap();
        let mut step = model.prefill(&text(&ids[..3]), &[]).unwrap();
        for id in &ids[3..] {
            step = model.decode(*id as u32).unwrap();
        }
        assert_same(engine, &whole, &step);
    });
}

#[test]
fn a_prompt_forgets_what_was_before_it() {
    each(|engine, _, model| {
        let first = model.prefill(&text(&[4, 5, 6]), &[]).unwrap();
        model.decode(7).unwrap();
        let again = model.prefill(&text(&[4, 5, 6]), &[]).unwrap();
        assert_eq!(first, again, "{engine:?}");
        let other = model.prefill(&text(&[6, 5, 4]), &[]).unwrap();
        assert_ne!(first, other, "{engine:?}");
    });
}

#[test]
fn an_image_changes_the_answer_and_its_rows_have_the_decoders_width() {
    each(|engine, recipe, model| {
        let hidden = recipe.decoder.as_ref().unwrap().config.hidden;
        let mut answers = Vec::new();
        for side in [64, 100] {
            let encoded = model.encode(&[pixels(side)]).unwrap();
            let tokens = recipe.encoder().unwrap().config.visual_tokens(side, side);
            assert_eq!(encoded.tokens, tokens.unwrap(), "{engine:?}");
            let projected = project(model, &encoded).unwrap();
            assert_eq!((projected.tokens, projected.dim), (encoded.tokens, hidden));
            let rows = model.read(&projected).unwrap();
            assert_eq!(rows.len(), projected.tokens * hidden);
            let prompt = PromptTokens::from_input_ids(&[1, -200, 2], None, &[projected.tokens]);
            answers.push(model.prefill(&prompt.unwrap(), &[projected]).unwrap());
        }
        assert_ne!(answers[0], answers[1], "{engine:?}");
    });
}

#[test]
fn what_does_not_fit_is_an_error_that_says_so() {
    each(|engine, recipe, model| {
        let vocab = recipe.decoder.as_ref().unwrap().config.vocab;
        let error = |result: Result<Vec<f32>, Error>| match result {
            Ok(_) => panic!("{engine:?}: it ran"),
            Err(e) => e.to_string(),
        };
        let unknown = error(model.prefill(&text(&[vocab as i64]), &[]));
        assert!(unknown.contains(&vocab.to_string()), "{unknown}");
        let long = vec![1; CONTEXT + 1];
        let long = error(model.prefill(&text(&long), &[]));
        assert!(long.contains(&format!("context of {CONTEXT}")), "{long}");
        let full = vec![1; CONTEXT];
        model.prefill(&text(&full), &[]).unwrap();
        let full = error(model.decode(1));
        assert!(full.contains(&format!("context of {CONTEXT}")), "{full}");

        let prompt = PromptTokens::from_input_ids(&[1, -200], None, &[4]).unwrap();
        let missing = error(model.prefill(&prompt, &[]));
        assert!(missing.contains("image 0"), "{missing}");
        let image = model.encode(&[pixels(100)]).unwrap();
        let image = project(model, &image).unwrap();
        let wrong = PromptTokens::from_input_ids(&[1, -200], None, &[image.tokens + 1]).unwrap();
        let wrong = error(model.prefill(&wrong, &[image]));
        assert!(wrong.contains("visual tokens"), "{wrong}");
        let foreign = Features {
            inputs: 1,
            tokens: 1,
            dim: 1,
            value: Box::new("no engine's"),
        };
        assert!(project(model, &foreign).is_err(), "{engine:?}");
    });
}

#[test]
fn a_part_that_the_recipe_lacks_is_named() {
    let mut recipe = recipe_from_folder(&fixture("fastvlm/fast_vlm")).unwrap();
    recipe.decoder = None;
    recipe.projector = None;
    for engine in engines() {
        let mut model = load(&recipe, &SeededSource::new(7), Precision::F32, engine);
        let encoded = model.encode(&[pixels(64)]).unwrap();
        assert!(matches!(
            project(model.as_mut(), &encoded),
            Err(Error::NoPart { .. })
        ));
        let answer = model.prefill(&text(&[1]), &[]);
        assert!(matches!(answer, Err(Error::NoPart { .. })), "{engine:?}");
        assert_eq!(model.facts().context, 0);
        let parts: Vec<Part> = model.facts().params.iter().map(|(part, _)| *part).collect();
        assert_eq!(parts, [Part::Vision], "{engine:?}");
    }
}

#[test]
fn half_precision_is_near_and_not_the_same() {
    let recipe = recipe_from_folder(&fixture("fastvlm/fast_vlm")).unwrap();
    let run = |engine, precision| {
        let mut model = load(&recipe, &SeededSource::new(7), precision, engine);
        let encoded = model.encode(&[pixels(64)]).unwrap();
        let projected = project(model.as_mut(), &encoded).unwrap();
        let prompt = PromptTokens::from_input_ids(&[1, -200, 2], None, &[projected.tokens]);
        model.prefill(&prompt.unwrap(), &[projected]).unwrap();
        model.decode(3).unwrap()
    };
    for engine in engines() {
        let (exact, half) = (run(engine, Precision::F32), run(engine, Precision::F16));
        assert_ne!(exact, half, "{engine:?}");
        let off = exact.iter().zip(&half).map(|(a, b)| (a - b).abs());
        let worst = off.fold(0.0, f32::max);
        assert!(worst < 0.02 * largest(&exact), "{engine:?}: off by {worst}");
    }
}
