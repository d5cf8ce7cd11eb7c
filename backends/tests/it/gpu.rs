//! The kernels for GPUs where the parity tests do not lead them: halves, rows wider
//! than a warp's, and how operations are told of. Without a GPU, and without the
//! feature `cuda-emulated`, there is nothing to try.

use vlmbench_backends::backend::Precision;
use vlmbench_backends::checkpoint::{SeededSource, recipe_from_folder};
use vlmbench_backends::recipe::Recipe;
use vlmbench_backends::text::PromptTokens;

use crate::conformance::pixels;
use crate::parity::{CANDLE, Engine, fixture, gpus, largest, load, project};

/// A recipe whose decoder has rows that are a whole block's work.
fn wide() -> Recipe {
    let mut recipe = recipe_from_folder(&fixture("fastvlm/fast_vlm")).unwrap();
    let decoder = &mut recipe.decoder.as_mut().unwrap().config;
    decoder.hidden = 1152;
    decoder.head_dim = 96;
    recipe.projector.as_mut().unwrap().d_out = 1152;
    recipe
}

/// Logits after a picture and a word, and after another word.
fn answers(recipe: &Recipe, precision: Precision, engine: Engine) -> [Vec<f32>; 2] {
    let mut model = load(recipe, &SeededSource::new(11), precision, engine);
    let encoded = model.encode(&[pixels(100)]).unwrap();
    let seen = project(model.as_mut(), &encoded).unwrap();
    let ids = [3, 9, -200, 27, 81];
    let prompt = PromptTokens::from_input_ids(&ids, None, &[seen.tokens]).unwrap();
    let first = model.prefill(&prompt, &[seen]).unwrap();
    [first, model.decode(5).unwrap()]
}

#[track_caller]
fn assert_near(a: &[f32], b: &[f32], tolerance: f32, what: &str) {
    assert_eq!(a.len(), b.len());
    let off = a.iter().zip(b).map(|(a, b)| (a - b).abs());
    let worst = off.fold(0.0, f32::max) / largest(a);
    assert!(worst <= tolerance, "{what}: off by {worst}");
}

#[test]
fn every_precision_answers_as_on_the_cpu() {
    let recipe = wide();
    for (precision, tolerance) in [
        (Precision::F32, 1e-4),
        // Rounded after every operation, at other places than on the CPU.
        (Precision::F16, 1e-2),
        (Precision::Bf16, 8e-2),
    ] {
        let expected = answers(&recipe, precision, CANDLE);
        for engine in gpus() {
            let got = answers(&recipe, precision, engine);
            for (got, expected) in got.iter().zip(&expected) {
                assert_near(expected, got, tolerance, &format!("{precision} {engine:?}"));
            }
        }
    }
}
