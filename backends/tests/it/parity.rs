//! Parity of every engine with timm and transformers: encoder features,
//! projected visual tokens, last-position logits and greedy tokens.
//!
//! candle is tried with every instruction set that the machine has, and, built with
//! `--features cuda-emulated`, with the kernels for GPUs on the host. ONNX
//! Runtime is tried where its library is found; where it has to be there, the
//! environment says so with `VLMBENCH_REQUIRE_ONNXRUNTIME`.
//!
//! References are computed in f32 by `tools/fixtures/checkpoint_fixtures.py`
//! from the same files.

use std::path::{Path, PathBuf};

use vlmbench_backends::Result;
use vlmbench_backends::anyres::Placement;
use vlmbench_backends::backend::{
    self, EngineOptions, Features, Level, LoadOptions, LoadedModel, Precision, Settings,
};
use vlmbench_backends::checkpoint::{CheckpointSource, SeededSource, recipe_from_folder};
use vlmbench_backends::image::Pixels;
use vlmbench_backends::npy;
use vlmbench_backends::onnx::Operators;
use vlmbench_backends::recipe::Recipe;
use vlmbench_backends::text::PromptTokens;
use vlmbench_backends::weights::{Inventory, WeightSource};

/// Largest error of encoder features relative to their maximum: 5e-4 on
/// outputs of magnitude 10.
const ENCODER_TOLERANCE: f32 = 5e-5;
/// Largest error of logits and projected features relative to their maximum.
pub const RELATIVE_TOLERANCE: f32 = 1e-3;
/// Positions of the KV cache in these tests.
pub const CONTEXT: usize = 320;

pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/checkpoints")
        .join(name)
}

pub fn floats(path: &Path) -> (Vec<usize>, Vec<f32>) {
    let array = npy::read_f32(path).unwrap();
    (array.shape, array.data)
}

pub fn integers(path: &Path) -> Vec<i64> {
    npy::read_i64(path).unwrap().data
}

pub fn pixels(path: &Path) -> Pixels {
    let (shape, data) = floats(path);
    let [1, channels, height, width] = shape[..] else {
        panic!("{shape:?}")
    };
    Pixels {
        data,
        channels,
        height,
        width,
    }
}

/// An engine, and the instruction set of its kernels if it lets us choose.
#[derive(Clone, Copy, Debug)]
pub struct Engine {
    pub backend: &'static str,
    device: &'static str,
    simd: Option<Level>,
    operators: Operators,
}

impl Engine {
    /// Whether it is candle, at any level, on any device.
    pub fn is_candle(&self) -> bool {
        self.backend == CANDLE.backend
    }

    /// Whether it has the quantised precisions.
    pub fn is_quantised(&self) -> bool {
        self.is_candle() && self.device == CANDLE.device
    }
}

/// candle as it runs by default.
pub const CANDLE: Engine = Engine {
    backend: "candle",
    device: "cpu",
    simd: None,
    operators: Operators::Standard,
};

/// Every engine there is here.
pub fn engines() -> Vec<Engine> {
    let levels = Level::available().map(|level| Engine {
        simd: Some(level),
        ..CANDLE
    });
    let mut engines: Vec<Engine> = levels.chain(gpus()).collect();
    let runtime = Engine {
        backend: "onnxruntime",
        ..CANDLE
    };
    let fused = Engine {
        operators: Operators::Fused,
        ..runtime
    };
    let options = EngineOptions::new("cpu", Precision::F32, 1);
    match backend::open(runtime.backend, &options) {
        Ok(_) => engines.extend([runtime, fused]),
        Err(e) if std::env::var_os("VLMBENCH_REQUIRE_ONNXRUNTIME").is_some() => panic!("{e}"),
        Err(e) => eprintln!("not tried: {e}"),
    }
    engines
}

/// candle on every GPU there is here, an emulated one among them.
pub fn gpus() -> impl Iterator<Item = Engine> {
    let candle = backend::BACKENDS.iter().find(|b| b.name == CANDLE.backend);
    let devices = candle.map(|b| (b.devices)()).unwrap_or_default();
    let there = devices.into_iter().filter(|d| d.missing.is_none());
    there
        .filter(|d| d.name.starts_with("cuda"))
        .map(|d| Engine {
            device: d.name.leak(),
            ..CANDLE
        })
}

pub fn load(
    recipe: &Recipe,
    source: &dyn WeightSource,
    precision: Precision,
    engine: Engine,
) -> Box<dyn LoadedModel> {
    let options = EngineOptions {
        simd: engine.simd,
        onnxruntime: Settings {
            operators: engine.operators,
            ..Settings::default()
        },
        ..EngineOptions::new(engine.device, precision, 1)
    };
    let engine = backend::open(engine.backend, &options).unwrap();
    let inventory = Inventory::of(recipe).unwrap();
    engine
        .load(recipe, &inventory, source, LoadOptions { context: CONTEXT })
        .unwrap()
}

pub fn open(name: &str) -> (Recipe, Box<dyn LoadedModel>) {
    open_on(name, CANDLE)
}

pub fn open_on(name: &str, engine: Engine) -> (Recipe, Box<dyn LoadedModel>) {
    let folder = fixture(name);
    let recipe = recipe_from_folder(&folder).unwrap();
    let inventory = Inventory::of(&recipe).unwrap();
    let source = CheckpointSource::open(&folder, &recipe, &inventory).unwrap();
    let model = load(&recipe, &source, Precision::F32, engine);
    (recipe, model)
}

/// Projects the features of an image that is one encoder input.
pub fn project(model: &mut dyn LoadedModel, features: &Features) -> Result<Features> {
    let place = Placement {
        width: 0,
        height: 0,
        grid: None,
    };
    model.project(std::slice::from_ref(features), &place)
}

pub fn largest(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |most, v| most.max(v.abs()))
}

#[track_caller]
pub fn assert_close(what: &str, got: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(got.len(), expected.len(), "{what}");
    let worst = got
        .iter()
        .zip(expected)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max);
    assert!(
        worst <= tolerance,
        "{what}: off by {worst}, largest value {}",
        largest(expected)
    );
}

/// Expected features as `(tokens, dim)`, from `[1, N, D]` or `[1, C, H, W]`.
fn features(path: &Path) -> (usize, usize, Vec<f32>) {
    let (shape, values) = floats(path);
    match shape[..] {
        [1, tokens, dim] => (tokens, dim, values),
        [1, channels, height, width] => {
            let tokens = height * width;
            let rows = (0..tokens).flat_map(|t| (0..channels).map(move |c| c * tokens + t));
            (tokens, channels, rows.map(|at| values[at]).collect())
        }
        _ => panic!("{shape:?}"),
    }
}

#[track_caller]
fn check_encoder(checkpoint: &str, suffixes: &[&str]) {
    for engine in engines() {
        check_encoder_on(engine, checkpoint, suffixes);
    }
}

#[track_caller]
fn check_encoder_on(engine: Engine, checkpoint: &str, suffixes: &[&str]) {
    let (_, mut model) = open_on(checkpoint, engine);
    let reference = fixture(checkpoint).parent().unwrap().join("reference");
    for suffix in suffixes {
        let encoded = model
            .encode(&[pixels(&reference.join(format!("input{suffix}.npy")))])
            .unwrap();
        let (tokens, dim, expected) = features(&reference.join(format!("output{suffix}.npy")));
        assert_eq!((encoded.tokens, encoded.dim), (tokens, dim));
        assert!(
            largest(&expected) > 1.0,
            "a reference of zeros proves nothing"
        );
        let what = format!("{checkpoint}{suffix} with {engine:?}");
        assert_close(
            &what,
            &model.read(&encoded).unwrap(),
            &expected,
            ENCODER_TOLERANCE * largest(&expected),
        );
    }
}

#[test]
fn fastvit_mci0_agrees_with_timm_at_every_size_and_layout() {
    for layout in [
        "timm-train",
        "timm-inference",
        "apple-train",
        "apple-inference",
    ] {
        check_encoder(&format!("mci0/{layout}"), &["", "_96", "_70"]);
    }
}

#[test]
fn fastvithd_agrees_with_timm_at_every_size_and_layout() {
    for layout in [
        "timm-train",
        "timm-inference",
        "apple-train",
        "apple-inference",
    ] {
        check_encoder(&format!("mci3/{layout}"), &["", "_96"]);
    }
}

#[test]
fn clip_agrees_with_transformers() {
    check_encoder("clip/clip", &[""]);
    check_encoder("clip/clip_vision_model", &[""]);
}

#[test]
fn siglip_agrees_with_transformers() {
    check_encoder("siglip/siglip", &[""]);
    check_encoder("siglip/siglip_vision_model", &[""]);
}

#[test]
fn dinov2_agrees_with_transformers() {
    check_encoder("dinov2/transformers", &[""]);
    check_encoder("dinov2-gated/transformers", &[""]);
}

#[test]
fn mobilevlm_agrees_with_its_published_definition() {
    check_model("mobilevlm/mobilevlm", &[""]);
}

#[test]
fn convllava_agrees_with_transformers_parts_of_it() {
    check_model("convllava/beside", &[""]);
    check_model("convllava/one", &[""]);
}

#[test]
fn convnext_agrees_with_timm_at_every_size_and_layout() {
    for layout in ["timm", "open_clip", "transformers"] {
        check_encoder(&format!("convnext/{layout}"), &["", "_70"]);
    }
}

#[test]
fn vitamin_agrees_with_timm_in_both_layouts() {
    check_encoder("vitamin/timm", &[""]);
    check_encoder("vitamin/open_clip", &[""]);
}

#[test]
fn features_of_several_scales_agree_with_a_reference_of_them() {
    check_encoder("multiscale/fastvit-average/timm", &["", "_96"]);
    check_encoder("multiscale/fastvit-depthwise/timm", &["", "_96"]);
    check_encoder("multiscale/convnext-depthwise/timm", &[""]);
}

#[track_caller]
fn check_model(checkpoint: &str, suffixes: &[&str]) {
    for engine in engines() {
        check_model_on(engine, checkpoint, suffixes);
    }
}

#[track_caller]
fn check_model_on(engine: Engine, checkpoint: &str, suffixes: &[&str]) {
    let (recipe, mut model) = open_on(checkpoint, engine);
    let reference = fixture(checkpoint).parent().unwrap().join("reference");
    for suffix in suffixes {
        let file = |name: &str| reference.join(format!("{name}{suffix}.npy"));
        let what = |part: &str| format!("{checkpoint}{suffix} {part} with {engine:?}");
        let mut images: Vec<Features> = Vec::new();
        if recipe.encoder.is_some() {
            let encoded = model.encode(&[pixels(&file("input"))]).unwrap();
            let projected = project(model.as_mut(), &encoded).unwrap();
            check_projected(model.as_ref(), &projected, &file, &what);
            images.push(projected);
        }
        check_answer(&recipe, model.as_mut(), images, &file, &what);
    }
}

/// Projected features of an image.
#[track_caller]
pub fn check_projected(
    model: &dyn LoadedModel,
    projected: &Features,
    file: &dyn Fn(&str) -> PathBuf,
    what: &dyn Fn(&str) -> String,
) {
    let (tokens, dim, expected) = features(&file("image_features"));
    let what = what("features");
    assert_eq!((projected.tokens, projected.dim), (tokens, dim), "{what}");
    let got = model.read(projected).unwrap();
    assert_close(
        &what,
        &got,
        &expected,
        RELATIVE_TOLERANCE * largest(&expected),
    );
}

/// Logits and greedy tokens after the reference's prompt with `images`.
#[track_caller]
pub fn check_answer(
    recipe: &Recipe,
    model: &mut dyn LoadedModel,
    images: Vec<Features>,
    file: &dyn Fn(&str) -> PathBuf,
    what: &dyn Fn(&str) -> String,
) {
    let tokens: Vec<usize> = images.iter().map(|image| image.tokens).collect();
    let ids = integers(&file("input_ids"));
    let prompt = PromptTokens::from_input_ids(&ids, recipe.image_token, &tokens).unwrap();
    let (_, expected) = floats(&file("output"));
    let logits = model.prefill(&prompt, &images).unwrap();
    assert_close(
        &what("logits"),
        &logits,
        &expected,
        RELATIVE_TOLERANCE * largest(&expected),
    );
    if !file("greedy_ids").is_file() {
        return;
    }
    let mut next = argmax(&logits);
    for (step, &expected) in integers(&file("greedy_ids")).iter().enumerate() {
        let step = what(&format!("token {step}"));
        assert_eq!(i64::from(next), expected, "{step}");
        next = argmax(&model.decode(next).unwrap());
    }
}

pub fn argmax(logits: &[f32]) -> u32 {
    let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
    best.map_or(0, |(index, _)| index as u32)
}

#[test]
fn fastvlm_agrees_with_transformers_in_both_layouts() {
    check_model("fastvlm/fast_vlm", &["", "_100"]);
    check_model("fastvlm/llava_qwen2", &["", "_100"]);
}

#[test]
fn llava_agrees_with_transformers_in_every_layout() {
    check_model("llava/published", &[""]);
    check_model("llava/transformers5", &[""]);
}

#[test]
fn a_bare_tied_qwen2_agrees_with_transformers() {
    check_model("qwen2/qwen2", &[""]);
}

#[test]
fn seeded_weights_keep_activations_finite_and_alive() {
    let mut recipe = recipe_from_folder(&fixture("fastvlm/fast_vlm")).unwrap();
    recipe.decoder.as_mut().unwrap().config.layers = 24;
    let ids = [5, 9, -200, 11];
    for precision in [Precision::F32, Precision::Bf16] {
        let mut model = load(&recipe, &SeededSource::new(1), precision, CANDLE);
        let image = pixels(&fixture("fastvlm/reference/input.npy"));
        let encoded = model.encode(&[image]).unwrap();
        let read = model.read(&encoded).unwrap();
        assert!(read.iter().all(|v| v.is_finite()), "{precision}");
        let scale = largest(&read);
        assert!(
            (0.05..100.0).contains(&scale),
            "{precision}: features up to {scale}"
        );
        let projected = project(model.as_mut(), &encoded).unwrap();
        let prompt = PromptTokens::from_input_ids(&ids, None, &[projected.tokens]).unwrap();
        let logits = model.prefill(&prompt, &[projected]).unwrap();
        assert!(logits.iter().all(|v| v.is_finite()), "{precision}");
        let scale = largest(&logits);
        assert!(
            (0.5..50.0).contains(&scale),
            "{precision}: logits up to {scale}"
        );
    }
}
