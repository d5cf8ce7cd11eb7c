//! The graphs of a recipe, with the inputs and outputs that transformers.js
//! and Optimum give the same networks.
//!
//! Floats enter and leave as f32 whatever the precision, but for the KV cache,
//! which has the graph's own.

use super::attention::{DecoderInputs, Positions};
use super::graph::{Attr, Axis, GraphBuilder, Operators, Target, scalar};
use super::ops::{OnnxOps, Value};
use super::proto::Scalar;
use crate::backend::Precision;
use crate::error::{Error, Result};
use crate::nets::{DecoderConfig, decoder, projector};
use crate::ops::{Ops, Shape};
use crate::params::ParamSpec;
use crate::recipe::Recipe;
use crate::weights::{Inventory, Part};

/// A mask's value where a position must not be seen: far below any score, and
/// finite, so that a row without any visible position is not NaN.
const HIDDEN: f32 = -3e38;
/// The same in f16, whose range is small.
const HIDDEN_F16: f32 = -6e4;
/// Tokens that a decoder is traced with; the graph does not depend on it.
const TRACED: usize = 2;

const BATCH: Axis = Axis::Free("batch_size");
const SEQUENCE: Axis = Axis::Free("sequence_length");
const PAST: Axis = Axis::Free("past_sequence_length");
const TOTAL: Axis = Axis::Free("total_sequence_length");

/// Names of a decoder's cache inputs and outputs, as Optimum has them.
pub fn cache_names(layers: usize) -> impl Iterator<Item = [String; 4]> {
    (0..layers).map(|i| {
        [
            format!("past_key_values.{i}.key"),
            format!("past_key_values.{i}.value"),
            format!("present.{i}.key"),
            format!("present.{i}.value"),
        ]
    })
}

fn specs(inventory: &Inventory, wanted: Part) -> &[ParamSpec] {
    let part = inventory.parts.iter().find(|(part, _)| *part == wanted);
    part.map_or(&[], |(_, specs)| specs)
}

/// `x`, an f32 input, in the graph's precision.
fn enter(graph: &mut GraphBuilder, x: String) -> String {
    match graph.precision() {
        Precision::F32 => x,
        other => graph.cast(&x, scalar(other)),
    }
}

/// Declares `x` an f32 output.
fn leave(graph: &mut GraphBuilder, x: &str, name: &str, axes: &[Axis]) {
    let x = match graph.precision() {
        Precision::F32 => x.to_owned(),
        _ => graph.cast(x, Scalar::F32),
    };
    graph.output(&x, name, Scalar::F32, axes);
}

/// Name of the output that features are reduced by.
pub const CLUE: &str = "clue";

/// `pixel_values` to `image_features`: the encoder, and the projector after it
/// if `projected`. Where the encoder reduces its tokens by attention, these are all
/// of them, and `clue` is the projection that says which are left
/// ([`crate::reduce::mixes`]).
pub fn vision(
    recipe: &Recipe,
    inventory: &Inventory,
    target: Target,
    projected: bool,
) -> Result<GraphBuilder> {
    let encoder = recipe.encoder()?;
    let side = recipe.resolution;
    // Where nothing is learned for one grid or divides it.
    let pools = projected && recipe.projector()?.pools();
    let free = encoder.config.vit().is_none() && !pools;
    let sides = match free {
        true => [Axis::Free("height"), Axis::Free("width")],
        false => [Axis::Fixed(side); 2],
    };
    let mut graph = GraphBuilder::new("vision_encoder", target);
    let axes = [BATCH, Axis::Fixed(3), sides[0], sides[1]];
    let pixels = graph.input("pixel_values", Scalar::F32, &axes);
    let pixels = enter(&mut graph, pixels);
    let shape = Shape::Map {
        b: 1,
        c: 3,
        h: side,
        w: side,
    };
    let mut ops = OnnxOps::new(&mut graph, Part::Vision, specs(inventory, Part::Vision));
    let mut y = encoder
        .config
        .forward(&mut ops, &Value::map(pixels, shape))?;
    let mut tokens = ops.shape(&y).rows();
    let clue = ops
        .clue
        .take()
        .map(|clue| (ops.shape(&clue).channels(), clue));
    if projected && clue.is_some() {
        return Err(Error::Unavailable {
            what: "reducing visual tokens by attention in an exported graph".into(),
            why: "which tokens are left is decided outside of the graphs; export the model without `reduce`".into(),
        });
    }
    let mut width = encoder.config.feature_dim();
    if projected {
        let c = recipe.projector()?;
        let specs = specs(inventory, Part::Projector);
        let mut ops = OnnxOps::new(&mut graph, Part::Projector, specs);
        y = projector::forward(&mut ops, c, &y)?;
        width = c.d_out;
        tokens = ops.shape(&y).rows();
    }
    let rows = match free {
        true => Axis::Free("image_tokens"),
        false => Axis::Fixed(tokens),
    };
    let axes = [BATCH, rows, Axis::Fixed(width)];
    leave(&mut graph, &y.name, "image_features", &axes);
    if let Some((width, clue)) = clue {
        let axes = [BATCH, Axis::Fixed(tokens), Axis::Fixed(width)];
        leave(&mut graph, &clue.name, CLUE, &axes);
    }
    Ok(graph)
}

/// `features` to `image_features`: the projector alone.
pub fn projector(recipe: &Recipe, inventory: &Inventory, target: Target) -> Result<GraphBuilder> {
    let c = recipe.projector()?;
    let mut graph = GraphBuilder::new("projector", target);
    let (from, to) = (recipe.encoder_tokens()?, recipe.input_tokens()?);
    let axes = |tokens, width| match c.pools() {
        true => [BATCH, Axis::Fixed(tokens), Axis::Fixed(width)],
        false => [BATCH, Axis::Free("image_tokens"), Axis::Fixed(width)],
    };
    let x = graph.input("features", Scalar::F32, &axes(from, c.d_in));
    let x = enter(&mut graph, x);
    let shape = Shape::Tokens {
        b: 1,
        n: if c.pools() { from } else { TRACED },
        d: c.d_in,
    };
    let specs = specs(inventory, Part::Projector);
    let mut ops = OnnxOps::new(&mut graph, Part::Projector, specs);
    let y = projector::forward(&mut ops, c, &Value::tokens(x, shape))?;
    leave(&mut graph, &y.name, "image_features", &axes(to, c.d_out));
    Ok(graph)
}

/// `input_ids` to `inputs_embeds`.
pub fn embed_tokens(
    recipe: &Recipe,
    inventory: &Inventory,
    target: Target,
) -> Result<GraphBuilder> {
    let c = &recipe.decoder()?.config;
    let mut graph = GraphBuilder::new("embed_tokens", target);
    let ids = graph.input("input_ids", Scalar::I64, &[BATCH, SEQUENCE]);
    let specs = specs(inventory, Part::Decoder);
    let mut ops = OnnxOps::new(&mut graph, Part::Decoder, specs).with_ids(ids);
    let y = decoder::embed(&mut ops, c, &[0; TRACED])?;
    let axes = [BATCH, SEQUENCE, Axis::Fixed(c.hidden)];
    leave(&mut graph, &y.name, "inputs_embeds", &axes);
    Ok(graph)
}

/// `inputs_embeds`, `attention_mask`, `position_ids` and the past to the
/// `logits` of the last position and the present: prefill with a past of no
/// positions, decode with one new position.
pub fn decoder(recipe: &Recipe, inventory: &Inventory, target: Target) -> Result<GraphBuilder> {
    let c = &recipe.decoder()?.config;
    if c.fastv.is_some() {
        return Err(Error::Unavailable {
            what: "dropping visual tokens inside of a graph (`reduce: {fastv: ...}`)".into(),
            why: "the layers of a decoder's graph run as a whole; use the candle engine (--backend candle)".into(),
        });
    }
    let mut graph = GraphBuilder::new("decoder_model_merged", target);
    let axes = [BATCH, SEQUENCE, Axis::Fixed(c.hidden)];
    let embeddings = graph.input("inputs_embeds", Scalar::F32, &axes);
    let visible = graph.input("attention_mask", Scalar::I64, &[BATCH, TOTAL]);
    let kv = scalar(target.precision);
    let cache_axes = |length| {
        let (heads, dim) = (Axis::Fixed(c.kv_heads), Axis::Fixed(c.head_dim));
        [BATCH, heads, length, dim]
    };
    let mut past = Vec::new();
    for [key, value, ..] in cache_names(c.layers) {
        let mut input = |name: &str| graph.input(name, kv, &cache_axes(PAST));
        past.push((input(&key), input(&value)));
    }
    graph.set_scope("positions");
    let positions = match target.operators {
        Operators::Standard => {
            let ids = graph.input("position_ids", Scalar::I64, &[BATCH, SEQUENCE]);
            let mask = causal_mask(&mut graph, c, &embeddings, &visible);
            let (cos, sin) = rotary_angles(&mut graph, c, &ids);
            Positions::Standard { cos, sin, mask }
        }
        Operators::Fused => fused_positions(&mut graph, c, &visible),
    };
    let x = enter(&mut graph, embeddings);
    let shape = Shape::Tokens {
        b: 1,
        n: TRACED,
        d: c.hidden,
    };
    let specs = specs(inventory, Part::Decoder);
    let mut ops = OnnxOps::new(&mut graph, Part::Decoder, specs);
    ops.decoder = Some(DecoderInputs {
        positions,
        past,
        present: Vec::new(),
    });
    let logits = decoder::forward(&mut ops, c, &Value::tokens(x, shape))?;
    let present = ops.decoder.map(|d| d.present).unwrap_or_default();
    let one = Axis::Fixed(1);
    let axes = [BATCH, one, Axis::Fixed(c.vocab)];
    leave(&mut graph, &logits.name, "logits", &axes);
    for ([.., key, value], (keys, values)) in cache_names(c.layers).zip(present) {
        graph.output(&keys, &key, kv, &cache_axes(TOTAL));
        graph.output(&values, &value, kv, &cache_axes(TOTAL));
    }
    Ok(graph)
}

/// Size of the second axis, without axes.
fn length(graph: &mut GraphBuilder, x: &str) -> String {
    let sides = graph.sides(x, 1..2);
    graph.node("Squeeze", &[&sides], &[])
}

/// What is added to scores `(b, kv_heads, groups * n, past + n)`: nothing where
/// `visible (b, past + n)` is not 0 and the position is not later than the
/// query's.
fn causal_mask(
    graph: &mut GraphBuilder,
    c: &DecoderConfig,
    embeddings: &str,
    visible: &str,
) -> String {
    let (zero, one) = (graph.int(0), graph.int(1));
    let new = length(graph, embeddings);
    let total = length(graph, visible);
    let past = graph.node("Sub", &[&total, &new], &[]);
    let keys = graph.node("Range", &[&zero, &total, &one], &[]);
    let queries = graph.node("Range", &[&past, &total, &one], &[]);
    let column = graph.ints(&[1]);
    let queries = graph.node("Unsqueeze", &[&queries, &column], &[]);
    let causal = graph.node("GreaterOrEqual", &[&queries, &keys], &[]);
    let visible = graph.cast(visible, Scalar::Bool);
    let axes = graph.ints(&[1, 2]);
    let visible = graph.node("Unsqueeze", &[&visible, &axes], &[]);
    let seen = graph.node("And", &[&causal, &visible], &[]);
    let nothing = graph.float(0.0);
    let hidden = match graph.precision() {
        Precision::F16 => HIDDEN_F16,
        Precision::F32 | Precision::Bf16 | Precision::Q8_0 | Precision::Q4KM => HIDDEN,
    };
    let hidden = graph.float(hidden);
    let mask = graph.node("Where", &[&seen, &nothing, &hidden], &[]);
    let groups = c.heads / c.kv_heads;
    if groups == 1 {
        return mask;
    }
    let repeats = graph.ints(&[1, 1, groups as i64, 1]);
    graph.node("Tile", &[&mask, &repeats], &[])
}

/// What fused attention wants to know: tables of every position's angles, and
/// the sequences' lengths after `visible (b, past + n)`.
fn fused_positions(graph: &mut GraphBuilder, c: &DecoderConfig, visible: &str) -> Positions {
    let angles = decoder::rotary_angles(c.rope_theta, c.head_dim, c.max_positions);
    let dims = [c.max_positions, c.head_dim / 2];
    let table = |f: fn(f32) -> f32| -> Vec<f32> { angles.iter().map(|a| f(*a)).collect() };
    let cos = graph.matrix("cosines", dims, &table(f32::cos));
    let sin = graph.matrix("sines", dims, &table(f32::sin));
    let (axis, one) = (graph.ints(&[1]), graph.int(1));
    let keep = [("keepdims", Attr::Int(0))];
    let lengths = graph.node("ReduceSum", &[visible, &axis], &keep);
    let last = graph.node("Sub", &[&lengths, &one], &[]);
    let last = graph.cast(&last, Scalar::I32);
    let total = length(graph, visible);
    let total = graph.cast(&total, Scalar::I32);
    Positions::Fused {
        cos,
        sin,
        last,
        total,
    }
}

/// Cosines and sines of `position * theta^(-2i / head_dim)`,
/// `(b, n, 1, head_dim / 2)`, computed in f32.
fn rotary_angles(graph: &mut GraphBuilder, c: &DecoderConfig, positions: &str) -> (String, String) {
    let frequencies = decoder::rotary_frequencies(c.rope_theta, c.head_dim);
    let frequencies = graph.f32s(&frequencies);
    let positions = graph.cast(positions, Scalar::F32);
    let axes = graph.ints(&[2, 3]);
    let positions = graph.node("Unsqueeze", &[&positions, &axes], &[]);
    let angles = graph.node("Mul", &[&positions, &frequencies], &[]);
    let cos = graph.node("Cos", &[&angles], &[]);
    let sin = graph.node("Sin", &[&angles], &[]);
    (enter(graph, cos), enter(graph, sin))
}
