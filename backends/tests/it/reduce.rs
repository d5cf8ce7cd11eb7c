//! Fewer visual tokens against references of each method's definition: which are
//! left, what they are made of, and what a model answers; and what it costs.
//!
//! References are computed by `tools/fixtures/reduce_fixtures.py`.

use std::path::PathBuf;

use serde_json::{Value, json};
use vlmbench_backends::anyres::{EncodeTiles, Grids, Merge, Tiling};
use vlmbench_backends::backend::{Features, LoadedModel, Precision};
use vlmbench_backends::checkpoint::{CheckpointSource, SeededSource, recipe_from_folder};
use vlmbench_backends::cost::Cost;
use vlmbench_backends::onnx::{self, Target};
use vlmbench_backends::recipe::Recipe;
use vlmbench_backends::reduce::Reduce;
use vlmbench_backends::weights::{Inventory, encoder_cost, projector_cost};

use super::parity::{
    CANDLE, Engine, check_answer, check_projected, engines, fixture, load, pixels, project,
};

/// The methods of the references, by the suffix of their files.
fn methods() -> Vec<(&'static str, Value)> {
    vec![
        ("_m3_36", json!({"m3": 36})),
        ("_m3_1", json!({"m3": 1})),
        ("_prumerge", json!({"prumerge": {"tokens": 10}})),
        ("_prumerge_plus", json!({"prumerge_plus": {"tokens": 25}})),
        (
            "_visionzip",
            json!({"visionzip": {"dominant": 11, "contextual": 5}}),
        ),
    ]
}

fn plain() -> Recipe {
    recipe_from_folder(&fixture("reduce/llava")).unwrap()
}

fn reduced(method: Value) -> vlmbench_backends::Result<Recipe> {
    let reduce: Reduce = serde_json::from_value(method).unwrap();
    reduce.apply(plain())
}

fn open(recipe: &Recipe, engine: Engine) -> Box<dyn LoadedModel> {
    let inventory = Inventory::of(recipe).unwrap();
    let source = CheckpointSource::open(&fixture("reduce/llava"), recipe, &inventory).unwrap();
    load(recipe, &source, Precision::F32, engine)
}

fn file(name: &str) -> PathBuf {
    fixture("reduce/reference").join(format!("{name}.npy"))
}

fn see(model: &mut dyn LoadedModel, input: &str) -> Features {
    let encoded = model.encode(&[pixels(&file(input))]).unwrap();
    project(model, &encoded).unwrap()
}

#[test]
fn every_method_agrees_with_a_reference_of_it_on_every_engine() {
    for (suffix, method) in methods() {
        let recipe = reduced(method).unwrap();
        for engine in engines() {
            let mut model = open(&recipe, engine);
            let file = |name: &str| file(&format!("{name}{suffix}"));
            let what = |part: &str| format!("{suffix} {part} {engine:?}");
            let seen = see(model.as_mut(), "input");
            assert_eq!(recipe.visual_tokens(48, 48).unwrap(), seen.tokens);
            check_projected(model.as_ref(), &seen, &file, &what);
            check_answer(&recipe, model.as_mut(), vec![seen], &file, &what);
        }
    }
}

#[test]
fn inputs_encoded_at_once_are_reduced_each_by_itself() {
    for method in [json!({"prumerge": {"tokens": 10}}), json!({"m3": 9})] {
        let recipe = reduced(method).unwrap();
        for engine in engines() {
            let mut model = open(&recipe, engine);
            let inputs = ["input", "input_second"].map(|name| pixels(&file(name)));
            let mut alone = Vec::new();
            for input in &inputs {
                let encoded = model.encode(std::slice::from_ref(input)).unwrap();
                alone.extend(model.read(&encoded).unwrap());
            }
            let together = model.encode(&inputs).unwrap();
            assert_eq!(together.inputs, 2);
            let together = model.read(&together).unwrap();
            let off = |(a, b): (&f32, &f32)| (a - b).abs();
            let worst = alone.iter().zip(&together).map(off).fold(0.0, f32::max);
            assert_eq!(alone.len(), together.len());
            assert!(worst < 1e-4, "{engine:?}: off by {worst}");
        }
    }
}

#[test]
fn a_budget_that_cannot_be_kept_is_an_error_naming_it() {
    for (method, wanted) in [
        (json!({"m3": 100}), ["reduce.m3", "1, 4, 9, 16, 36, 144"]),
        (json!({"m3": 12}), ["reduce.m3", "`12`"]),
        (
            json!({"prumerge": {"tokens": 145}}),
            ["reduce.prumerge.tokens", "at most the 144 patches"],
        ),
        (
            json!({"prumerge": {"tokens": 1}}),
            ["reduce.prumerge.tokens", "at least 2"],
        ),
        (
            json!({"prumerge_plus": {"tokens": 24}}),
            ["reduce.prumerge_plus.tokens", "odd"],
        ),
        (
            json!({"prumerge_plus": {"tokens": 99}}),
            ["reduce.prumerge_plus.tokens", "at most 97"],
        ),
        (
            json!({"visionzip": {"dominant": 140, "contextual": 6}}),
            ["reduce.visionzip", "144 patches"],
        ),
    ] {
        let error = reduced(method).unwrap_err().to_string();
        assert!(wanted.iter().all(|text| error.contains(text)), "{error}");
    }
    // Another side has other patches.
    let recipe = reduced(json!({"prumerge": {"tokens": 100}})).unwrap();
    let error = recipe.at_resolution(32).unwrap_err().to_string();
    assert!(error.contains("at most the 64 patches"), "{error}");
}

#[test]
fn a_model_that_a_method_does_not_fit_is_an_error_saying_what_does() {
    let apply = |method: &Value, recipe: Recipe| {
        let reduce: Reduce = serde_json::from_value(method.clone()).unwrap();
        reduce.apply(recipe).map(drop).unwrap_err().to_string()
    };
    for method in [
        json!({"prumerge": {"tokens": 2}}),
        json!({"visionzip": {"dominant": 1, "contextual": 1}}),
    ] {
        for name in [
            "siglip/siglip",
            "dinov2/transformers",
            "fastvlm/fast_vlm",
            "qwen2/qwen2",
        ] {
            let error = apply(&method, recipe_from_folder(&fixture(name)).unwrap());
            assert!(error.contains("class token"), "{name}: {error}");
        }
        let tiles = Tiling {
            grids: Grids::Of(vec![[1, 1].into()]),
            merge: Merge::Flat,
            shrink_above: None,
            encode: EncodeTiles::default(),
            single_image_only: false,
        };
        let recipe = Recipe {
            tiles: Some(tiles),
            ..plain()
        };
        assert!(apply(&method, recipe).contains("`tiles`"));
    }
    let bare = recipe_from_folder(&fixture("clip/clip")).unwrap();
    assert!(apply(&json!({"m3": 1}), bare).contains("projector"));
}

#[test]
fn graphs_that_reduce_by_attention_are_not_exported() {
    let export = |method: Value| {
        let recipe = reduced(method).unwrap();
        let inventory = Inventory::of(&recipe).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let source = SeededSource::new(1);
        onnx::export(
            &recipe,
            &inventory,
            &source,
            Target::default(),
            folder.path(),
        )
    };
    let error = export(json!({"prumerge": {"tokens": 10}})).map(drop);
    let error = error.unwrap_err().to_string();
    assert!(error.contains("without `reduce`"), "{error}");
    assert_eq!(export(json!({"m3": 36})).unwrap().len(), 3);
}

#[test]
fn costs_follow_the_tokens_that_are_left() {
    let encode = |recipe: &Recipe| encoder_cost(recipe, 48, 1, 4).unwrap().0;
    let part = |cost: &Cost, name: &str| {
        let found = cost.stages.iter().find(|s| s.name == name).cloned();
        found.map_or((0, 0), |s| (s.flops, s.params))
    };
    let whole = plain();
    assert!(!whole.is_reduced());
    let recipe = |method| {
        let recipe = reduced(method).unwrap();
        assert!(recipe.is_reduced());
        assert_eq!(
            part(&encode(&recipe), "layers"),
            part(&encode(&whole), "layers")
        );
        recipe
    };
    // Norm, queries, keys and values of the third layer for 145 tokens of 64; the class token's
    // attention, and how like each of 9 patches the 143 others are.
    let prumerge = recipe(json!({"prumerge": {"tokens": 10}}));
    let flops = 2 * 145 * 64 * 192 + 2 * 64 * (145 + 9 * 143);
    assert_eq!(
        part(&encode(&prumerge), "reduce"),
        (flops, 2 * 64 + 193 * 64 + 128)
    );
    // The class token's attention in a layer that is run anyway; how like each of 129 patches 5 keys of 32 are.
    let visionzip = recipe(json!({"visionzip": {"dominant": 11, "contextual": 5}}));
    assert_eq!(
        part(&encode(&visionzip), "reduce"),
        (2 * (145 * 64 + 129 * 5 * 32), 0)
    );
    let place = whole.place(48, 48);
    let projected = |recipe: &Recipe| projector_cost(recipe, &place, 4).unwrap().0;
    // Ten tokens are projected in place of 144; M3 projects all before it averages.
    assert_eq!(
        projected(&prumerge).flops() * 144,
        projected(&whole).flops() * 10
    );
    let m3 = recipe(json!({"m3": 36}));
    assert_eq!(projected(&m3).flops(), projected(&whole).flops());
    assert_eq!(
        (m3.input_tokens().unwrap(), m3.encoder_tokens().unwrap()),
        (36, 144)
    );
    assert_eq!(
        m3.encoder().unwrap().label,
        format!("{} M3", whole.encoder().unwrap().label)
    );
}

#[test]
fn half_precision_reduces_too() {
    for (_, method) in methods() {
        let recipe = reduced(method).unwrap();
        let mut model = load(&recipe, &SeededSource::new(5), Precision::Bf16, CANDLE);
        let seen = see(model.as_mut(), "input");
        assert_eq!(seen.tokens, recipe.input_tokens().unwrap());
        let read = model.read(&seen).unwrap();
        assert!(read.iter().all(|v| v.is_finite()) && read.iter().any(|v| *v != 0.0));
    }
}
