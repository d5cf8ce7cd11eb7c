//! GGUF files of llama.cpp: logits against transformers on the dequantised
//! weights, quantising as they do, and what is refused.
//!
//! The fixtures are written by `tools/fixtures/gguf_fixtures.py`.

use std::path::{Path, PathBuf};

use vlmbench_backends::backend::{
    self, EngineOptions, LoadOptions, LoadedModel, ModelFacts, Precision,
};
use vlmbench_backends::blocks::mix::BlockMix;
use vlmbench_backends::checkpoint::{
    CheckpointSource, GgufSource, SeededSource, recipe_from_folder, recipe_from_gguf,
};
use vlmbench_backends::recipe::{Recipe, Weights};
use vlmbench_backends::text::PromptTokens;
use vlmbench_backends::weights::{Inventory, Part, WeightSource};
use vlmbench_backends::{Error, Result};

use crate::parity::{
    self, CANDLE, Engine, RELATIVE_TOLERANCE, argmax, assert_close, engines, floats, integers,
    largest, load, project,
};

const QWEN2: &str = "qwen2-q8_0";
const LLAMA: &str = "llama-q4_k_m";

/// Largest error of logits, relative to their maximum, where activations are
/// bf16: that of `vlmbench verify`.
const HALF_TOLERANCE: f32 = 5e-2;

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/gguf")
        .join(name)
        .join("model.gguf")
}

fn open(path: &Path) -> Result<(Recipe, GgufSource)> {
    let recipe = recipe_from_gguf(path)?;
    let inventory = Inventory::of(&recipe)?;
    let source = GgufSource::open(path, None, &recipe, &inventory)?;
    Ok((recipe, source))
}

fn problem(path: &Path) -> String {
    let error = open(path).err().expect("a file that is refused");
    error.to_string()
}

fn prompt(ids: &[i64]) -> PromptTokens {
    PromptTokens::from_input_ids(ids, None, &[]).unwrap()
}

/// Logits of the reference's prompt, and of its greedy tokens one by one.
fn logits(name: &str, model: &mut dyn LoadedModel) -> (Vec<f32>, Vec<Vec<f32>>) {
    let reference = file(name).with_file_name("reference");
    let ids = integers(&reference.join("input_ids.npy"));
    let first = model.prefill(&prompt(&ids), &[]).unwrap();
    let greedy = integers(&reference.join("greedy_ids.npy"));
    let steps = greedy.iter().map(|id| model.decode(*id as u32).unwrap());
    (first, steps.collect())
}

fn check(name: &str, precision: Precision, tolerance: f32, engine: Engine) {
    let (recipe, source) = open(&file(name)).unwrap();
    let mut model = load(&recipe, &source, precision, engine);
    let (first, steps) = logits(name, model.as_mut());
    let reference = file(name).with_file_name("reference");
    let (_, expected) = floats(&reference.join("output.npy"));
    assert!(
        largest(&expected) > 1.0,
        "a reference of zeros proves nothing"
    );
    let what = format!("{name} in {precision} with {engine:?}");
    assert_close(&what, &first, &expected, tolerance * largest(&expected));
    if precision == Precision::F32 {
        let greedy = integers(&reference.join("greedy_ids.npy"));
        let said = std::iter::once(&first).chain(&steps);
        for (said, expected) in said.zip(&greedy) {
            assert_eq!(i64::from(argmax(said)), *expected, "{what}");
        }
    }
}

#[test]
fn dequantised_files_agree_with_transformers_on_every_engine() {
    for engine in engines() {
        for name in [QWEN2, LLAMA] {
            check(name, Precision::F32, RELATIVE_TOLERANCE, engine);
        }
    }
}

#[test]
fn blocks_agree_with_transformers_at_every_instruction_set() {
    for engine in engines().into_iter().filter(Engine::is_quantised) {
        check(QWEN2, Precision::Q8_0, HALF_TOLERANCE, engine);
        check(LLAMA, Precision::Q4KM, HALF_TOLERANCE, engine);
    }
}

/// Prefill multiplies with weights rounded to bf16, decode with exact ones.
#[test]
fn one_token_after_another_is_about_the_same_as_all_at_once() {
    for (name, precision) in [(QWEN2, Precision::Q8_0), (LLAMA, Precision::Q4KM)] {
        let (recipe, source) = open(&file(name)).unwrap();
        let mut model = load(&recipe, &source, precision, CANDLE);
        let ids = [3, 9, 27, 81, 5, 15, 8, 2];
        let whole = model.prefill(&prompt(&ids), &[]).unwrap();
        let mut step = model.prefill(&prompt(&ids[..1]), &[]).unwrap();
        for id in &ids[1..] {
            step = model.decode(*id as u32).unwrap();
        }
        assert_close(name, &step, &whole, HALF_TOLERANCE * largest(&whole));
    }
}

#[test]
fn as_many_bytes_are_held_as_the_file_has() {
    for (name, precision) in [(QWEN2, Precision::Q8_0), (LLAMA, Precision::Q4KM)] {
        let (recipe, source) = open(&file(name)).unwrap();
        let model = load(&recipe, &source, precision, CANDLE);
        let ModelFacts {
            param_bytes,
            weights,
            ..
        } = model.facts();
        let decoder = recipe.decoder().unwrap();
        let mix = BlockMix::of(precision, &decoder.config).unwrap();
        let inventory = Inventory::of(&recipe).unwrap();
        let planned: u64 = inventory
            .iter()
            .map(|(_, spec)| mix.bytes(spec).unwrap_or(2 * spec.elements() as u64))
            .sum();
        // The vocabulary of 150 is stored in panels of 16.
        assert!(
            (planned..planned * 103 / 100).contains(param_bytes),
            "{param_bytes} held, {planned} planned"
        );
        assert_eq!(weights.source, "gguf");
        assert!(weights.origin.ends_with("model.gguf"), "{weights:?}");
    }
}

/// Seeded weights: llama.cpp's blocks are as near to f32 as their bits allow.
#[test]
fn quantising_stays_within_the_error_of_its_bits() {
    let mut recipe = open(&file(LLAMA)).unwrap().0;
    recipe.weights = Weights::Seeded(3);
    let run = |precision| {
        let mut model = load(&recipe, &SeededSource::new(3), precision, CANDLE);
        model.prefill(&prompt(&[3, 9, 27, 81, 5, 15]), &[]).unwrap()
    };
    let exact = run(Precision::F32);
    let error = |precision| {
        let got = run(precision);
        let off = got.iter().zip(&exact).map(|(a, b)| (a - b).powi(2));
        let scale: f32 = exact.iter().map(|v| v * v).sum();
        (off.sum::<f32>() / scale).sqrt()
    };
    let (half, eight, four) = (
        error(Precision::Bf16),
        error(Precision::Q8_0),
        error(Precision::Q4KM),
    );
    // A step of uniform weights is a 127th, or two fifteenths, of the largest:
    // by its variance a matrix is off by 0.4 %, or 7 %, and there are nine.
    assert!(half < 0.015 && eight < 0.03, "bf16 {half}, q8_0 {eight}");
    assert!(four > eight && four < 0.25, "q4_k_m {four}");
}

#[test]
fn a_file_and_a_checkpoint_folder_make_a_model() {
    let folder = parity::fixture("fastvlm/fast_vlm");
    let whole = recipe_from_folder(&folder).unwrap();
    let decoder = open(&file(QWEN2)).unwrap().0.decoder;
    let recipe = Recipe {
        decoder,
        ..whole.clone()
    };
    let inventory = Inventory::of(&recipe).unwrap();
    let source = GgufSource::open(&file(QWEN2), Some(&folder), &recipe, &inventory).unwrap();
    assert_eq!(source.holds(), Some(Precision::Q8_0));
    let parts = inventory.parts.iter().filter(|(p, _)| *p != Part::Decoder);
    let own = Inventory::of(&whole).unwrap();
    let checkpoint = CheckpointSource::open(&folder, &whole, &own).unwrap();
    for (part, spec) in parts.flat_map(|(part, specs)| specs.iter().map(move |s| (*part, s))) {
        let (a, b) = (source.get(part, spec), checkpoint.get(part, spec));
        assert_eq!(a.unwrap().data.to_f32(), b.unwrap().data.to_f32());
    }
    let mut model = load(&recipe, &source, Precision::Q8_0, CANDLE);
    let pixels = parity::pixels(&parity::fixture("fastvlm/reference/input.npy"));
    let features = model.encode(&[pixels]).unwrap();
    let image = project(model.as_mut(), &features).unwrap();
    let prompt = PromptTokens::from_input_ids(&[3, -200, 5], None, &[image.tokens]).unwrap();
    let logits = model.prefill(&prompt, &[image]).unwrap();
    assert!(logits.iter().all(|v| v.is_finite()) && largest(&logits) > 0.1);
}

#[test]
fn another_quantised_precision_than_the_files_is_refused() {
    for (name, other, own) in [
        (QWEN2, Precision::Q4KM, "q8_0"),
        (LLAMA, Precision::Q8_0, "q4_k_m"),
    ] {
        let (recipe, source) = open(&file(name)).unwrap();
        let engine = backend::open("candle", &EngineOptions::new("cpu", other, 1)).unwrap();
        let inventory = Inventory::of(&recipe).unwrap();
        let options = LoadOptions { context: 8 };
        let Err(error) = engine.load(&recipe, &inventory, &source, options) else {
            panic!("{name} was loaded in {other}")
        };
        let text = error.to_string();
        assert!(text.contains(&format!("stored in {own}")), "{text}");
        assert!(text.contains("model.gguf"), "{text}");
    }
    let options = EngineOptions::new("cpu", Precision::Q8_0, 1);
    let Err(error) = backend::open("onnxruntime", &options) else {
        panic!("ONNX Runtime computes nothing on blocks")
    };
    assert!(matches!(error, Error::Unavailable { .. }), "{error}");
}

/// A fixture with a run of bytes replaced by another as long, wherever it is.
fn edited(name: &str, from: &[u8], to: &[u8]) -> tempfile::NamedTempFile {
    let mut bytes = std::fs::read(file(name)).unwrap();
    assert_eq!(from.len(), to.len());
    let places: Vec<usize> = (0..=bytes.len() - from.len())
        .filter(|at| bytes[*at..].starts_with(from))
        .collect();
    assert!(!places.is_empty(), "nothing to replace");
    for at in places {
        bytes[at..at + to.len()].copy_from_slice(to);
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    file
}

#[track_caller]
fn refused(name: &str, from: &[u8], to: &[u8], parts: &[&str]) {
    let text = problem(edited(name, from, to).path());
    for part in parts {
        assert!(text.contains(part), "`{part}` is not in: {text}");
    }
}

#[test]
fn a_file_that_does_not_fit_is_refused_by_name() {
    refused(
        QWEN2,
        b"\x05\0\0\0\0\0\0\0qwen2",
        b"\x05\0\0\0\0\0\0\0qwen9",
        &["`general.architecture` is `qwen9`", "llama, qwen2"],
    );
    refused(
        QWEN2,
        b"general.file_type\x04\0\0\0\x07",
        b"general.file_type\x04\0\0\0\x02",
        &["`general.file_type` is 2", "15 (Q4_K_M)"],
    );
    refused(
        QWEN2,
        b"qwen2.block_count\x04\0\0\0\x02",
        b"qwen2.block_count\x04\0\0\0\x03",
        &[
            "missing tensor `blk.2.attn_q.weight` (for decoder parameter `layers.2.qkv.weight`)",
            "missing tensor `blk.2.ffn_norm.weight`",
        ],
    );
    refused(
        QWEN2,
        b"blk.0.attn_q.bias",
        b"blk.0.attn_x.bias",
        &[
            "missing tensor `blk.0.attn_q.bias` (for decoder parameter `layers.0.qkv.bias`); nearest unused key is \
             `blk.0.attn_x.bias`",
            "unused tensor `blk.0.attn_x.bias`",
        ],
    );
    refused(
        QWEN2,
        b"qwen2.feed_forward_length\x04\0\0\0\x60",
        b"qwen2.feed_forward_length\x04\0\0\0\x40",
        &[
            "tensor `blk.1.ffn_up.weight`",
            "has shape [96, 64], expected [64, 64]",
        ],
    );
    refused(
        QWEN2,
        b"qwen2.rope.dimension_count\x04\0\0\0\x10",
        b"qwen2.rope.dimension_count\x04\0\0\0\x08",
        &["`qwen2.rope.dimension_count` is 8", "16"],
    );
    // A matrix of a type that nobody here reads (Q5_K).
    let mut typed = b"blk.0.ffn_up.weight\x02\0\0\0".to_vec();
    typed.extend(256_u64.to_le_bytes());
    typed.extend(256_u64.to_le_bytes());
    let (mut from, mut to) = (typed.clone(), typed);
    from.extend(12_u32.to_le_bytes());
    to.extend(13_u32.to_le_bytes());
    refused(
        LLAMA,
        &from,
        &to,
        &["tensor `blk.0.ffn_up.weight`", "ggml type 13", "Q4_K (12)"],
    );
    // The sixteen frequency factors of a scaled rotary embedding.
    let ones = [1_f32.to_le_bytes(); 16].concat();
    let eights = [8_f32.to_le_bytes(); 16].concat();
    refused(
        LLAMA,
        &ones,
        &eights,
        &["rope_freqs.weight", "not supported"],
    );
}

#[test]
fn a_truncated_file_is_refused_wherever_it_ends() {
    let bytes = std::fs::read(file(QWEN2)).unwrap();
    let short = tempfile::NamedTempFile::new().unwrap();
    for len in [0, 3, 10, 30, 500, 2000, bytes.len() / 2, bytes.len() - 64] {
        std::fs::write(short.path(), &bytes[..len]).unwrap();
        let text = problem(short.path());
        assert!(text.contains("it ends "), "{len} bytes: {text}");
    }
    let missing = problem(Path::new("no/such/model.gguf"));
    assert!(missing.contains("no/such/model.gguf"), "{missing}");
}

#[test]
fn a_recipe_of_another_decoder_is_refused() {
    let (mut recipe, _) = open(&file(QWEN2)).unwrap();
    recipe.decoder.as_mut().unwrap().config.rope_theta = 1e4;
    let inventory = Inventory::of(&recipe).unwrap();
    let error = GgufSource::open(&file(QWEN2), None, &recipe, &inventory)
        .err()
        .unwrap();
    let text = error.to_string();
    assert!(text.contains("`qwen2.rope.freq_base` is 1000000"), "{text}");
    assert!(text.contains("the recipe's decoder has 10000"), "{text}");
}
