//! Fewer visual tokens against references of each method's definition: which are
//! left, what they are made of, and what a model answers; and what it costs.
//!
//! References are computed by `tools/fixtures/reduce_fixtures.py`.

use std::path::PathBuf;

use serde_json::{Value, json};
use vlmbench_backends::Error;
use vlmbench_backends::anyres::{EncodeTiles, Grids, Merge, Tiling};
use vlmbench_backends::backend::{Features, LoadedModel, Precision};
use vlmbench_backends::checkpoint::{CheckpointSource, SeededSource, recipe_from_folder};
use vlmbench_backends::cost::Cost;
use vlmbench_backends::nets::Past;
use vlmbench_backends::onnx::{self, Target};
use vlmbench_backends::recipe::Recipe;
use vlmbench_backends::reduce::Reduce;
use vlmbench_backends::text::PromptTokens;
use vlmbench_backends::weights::{
    Inventory, decoder_cost, encoder_cost, prefill_cost, projector_cost,
};

use super::cambrian;
use super::parity::{
    CANDLE, CONTEXT, Engine, check_answer, check_projected, engines, fixture, load, pixels, project,
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

/// What the references have FastV keep.
fn fastv() -> Recipe {
    reduced(json!({"fastv": {"after": 2, "tokens": 20}})).unwrap()
}

/// Every instruction set of the engine that can drop tokens in its decoder.
fn candles() -> impl Iterator<Item = Engine> {
    engines().into_iter().filter(Engine::is_candle)
}

#[test]
fn tokens_dropped_inside_of_the_decoder_are_those_that_a_reference_masks() {
    let recipe = fastv();
    for engine in candles() {
        let mut model = open(&recipe, engine);
        // One after another on one model: with two images more is dropped, with none nothing is.
        for (suffix, inputs) in [
            ("_fastv", &["input"][..]),
            ("_fastv_two", &["input", "input_second"]),
            ("_fastv", &["input"]),
        ] {
            let file = |name: &str| file(&format!("{name}{suffix}"));
            let what = |part: &str| format!("{suffix} {part} {engine:?}");
            let seen: Vec<Features> = inputs.iter().map(|i| see(model.as_mut(), i)).collect();
            assert_eq!(seen[0].tokens, 144);
            check_answer(&recipe, model.as_mut(), seen, &file, &what);
        }
        let text = PromptTokens::from_input_ids(&[1, 9, 11, 12], None, &[]).unwrap();
        let whole = open(&plain(), engine).prefill(&text, &[]).unwrap();
        assert_eq!(model.prefill(&text, &[]).unwrap(), whole, "{engine:?}");
    }
}

#[test]
fn keeping_all_is_dropping_none() {
    let all = reduced(json!({"fastv": {"after": 1, "tokens": 144}})).unwrap();
    for engine in candles() {
        let mut model = open(&all, engine);
        let seen = see(model.as_mut(), "input");
        let what = |part: &str| format!("{part} {engine:?}");
        check_answer(&all, model.as_mut(), vec![seen], &file, &what);
    }
}

#[test]
fn a_context_is_full_when_its_positions_are_whatever_was_dropped() {
    let recipe = fastv();
    let mut model = open(&recipe, CANDLE);
    let ids: Vec<i64> = [-200].into_iter().chain((0..40).map(|i| i % 9)).collect();
    let prompt = PromptTokens::from_input_ids(&ids, None, &[144]).unwrap();
    let seen = see(model.as_mut(), "input");
    model.prefill(&prompt, &[seen]).unwrap();
    for _ in 184..CONTEXT {
        model.decode(3).unwrap();
    }
    let error = model.decode(3).unwrap_err();
    assert!(matches!(error, Error::ContextOverflow { .. }), "{error}");
    // Text alone fills every layer as far.
    let ids: Vec<i64> = (0..CONTEXT as i64).map(|i| i % 9).collect();
    let text = PromptTokens::from_input_ids(&ids, None, &[]).unwrap();
    let whole = open(&plain(), CANDLE).prefill(&text, &[]).unwrap();
    assert_eq!(model.prefill(&text, &[]).unwrap(), whole);
}

#[test]
fn engines_that_run_a_decoder_as_a_whole_say_so() {
    let recipe = fastv();
    let inventory = Inventory::of(&recipe).unwrap();
    let target = Target::default();
    let error = onnx::parts::decoder(&recipe, &inventory, target).map(drop);
    let error = error.unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }), "{error}");
    assert!(error.to_string().contains("--backend candle"), "{error}");
}

#[test]
fn what_is_dropped_is_saved_behind_the_layer_that_drops() {
    let (whole, recipe) = (plain(), fastv());
    let layers = |cost: &Cost| {
        cost.stages
            .iter()
            .find(|s| s.name == "layers")
            .unwrap()
            .flops
    };
    let place = whole.place(48, 48);
    let text = |tokens| {
        prefill_cost(&whole, None, tokens, Precision::F32)
            .unwrap()
            .0
    };
    // 144 and 12 positions in two layers of four, 20 and 12 in the others.
    let (got, _) = prefill_cost(&recipe, Some(&place), 12, Precision::F32).unwrap();
    let reduce = got.stages.iter().find(|s| s.name == "reduce").unwrap();
    assert_eq!((reduce.flops, reduce.params), (2 * 156 * 64, 0));
    assert_eq!(2 * layers(&got), layers(&text(156)) + layers(&text(32)));
    assert_eq!(got.params(), text(156).params());

    let c = &recipe.decoder().unwrap().config;
    let past = c.past(300, [144, 144]);
    assert_eq!((past.at(1), past.at(2)), (300, 52));
    let decode = |recipe: &Recipe, past: Past| {
        layers(&decoder_cost(recipe, 1, past, Precision::F32).unwrap().0)
    };
    let both = decode(&whole, 300.into()) + decode(&whole, 52.into());
    assert_eq!(2 * decode(&recipe, past), both);
    // Keys and values of one head of 32.
    assert_eq!(c.kv_elements(past), 2 * 32 * (2 * 300 + 2 * 52));
    let whole = &whole.decoder().unwrap().config;
    assert_eq!(whole.kv_elements(300.into()), 2 * 32 * 4 * 300);
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
        (
            json!({"fastv": {"after": 4, "tokens": 9}}),
            ["reduce.fastv.after", "4 layers"],
        ),
        (
            json!({"fastv": {"after": 0, "tokens": 9}}),
            ["reduce.fastv.after", "at least 1"],
        ),
        (
            json!({"fastv": {"after": 2, "tokens": 145}}),
            ["reduce.fastv.tokens", "144 visual tokens"],
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
    // An aggregator and its samplers know where every token is.
    assert!(apply(&json!({"m3": 36}), cambrian::recipe()).contains("not `sva`"));
    let fastv = json!({"fastv": {"after": 1, "tokens": 1}});
    assert!(apply(&fastv, cambrian::recipe()).contains("not several `towers`"));
    let bare = recipe_from_folder(&fixture("clip/clip")).unwrap();
    assert!(apply(&json!({"m3": 1}), bare.clone()).contains("projector"));
    assert!(apply(&json!({"fastv": {"after": 1, "tokens": 1}}), bare).contains("decoder"));
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
