//! Attention and what a decoder's graph has for it: positions, mask, cache.

use super::graph::Attr;
use super::ops::{Form, OnnxOps, Value};
use crate::error::{Error, Result};
use crate::ops::{Heads, Shape};

/// Where new positions are and what they see, in names of the graph.
#[derive(Clone)]
pub enum Positions {
    /// For standard operators.
    Standard {
        /// Cosines of the rotary angles, `(b, n, 1, head_dim / 2)`.
        cos: String,
        /// Their sines.
        sin: String,
        /// What is added to the scores, `(b, 1, groups * n, past + n)`.
        mask: String,
    },
    /// For fused attention.
    Fused {
        /// Cosines of every position's angles, `(positions, head_dim / 2)`.
        cos: String,
        /// Their sines.
        sin: String,
        /// The last position of each sequence, `(b)`, 32-bit.
        last: String,
        /// Length of the longest one, 32-bit.
        total: String,
    },
}

/// What a decoder's graph has beside its embeddings.
pub struct DecoderInputs {
    /// Positions.
    pub positions: Positions,
    /// Keys and values so far per layer, `(b, kv_heads, past, head_dim)`.
    pub past: Vec<(String, String)>,
    /// Keys and values with the new positions per layer, once recorded.
    pub present: Vec<(String, String)>,
}

impl OnnxOps<'_> {
    /// `(b, n, heads * head_dim)` to `(b, heads, n, head_dim)`.
    fn heads(&mut self, x: &str, heads: usize, head_dim: usize) -> String {
        let x = self.reshape(x, &[0, 0, heads as i64, head_dim as i64]);
        self.transpose(&x, &[0, 2, 1, 3])
    }

    /// A packed projection as queries, keys and values by head.
    pub(super) fn divide(&mut self, qkv: &Value, heads: Heads) -> [String; 3] {
        if let Form::Divided { keys, values } = &qkv.form {
            return [qkv.name.clone(), keys.clone(), values.clone()];
        }
        let kv = heads.kv_heads * heads.head_dim;
        let parts = self.split(&qkv.name, 2, &[heads.width(), kv, kv]);
        [
            self.heads(&parts[0], heads.heads, heads.head_dim),
            self.heads(&parts[1], heads.kv_heads, heads.head_dim),
            self.heads(&parts[2], heads.kv_heads, heads.head_dim),
        ]
    }

    /// Softmax of scaled scores times values; queries `(b, h, n, d)`, keys and
    /// values `(b, h, total, d)`.
    pub(super) fn attend(
        &mut self,
        queries: &str,
        keys: &str,
        values: &str,
        mask: Option<&str>,
        head_dim: usize,
    ) -> String {
        let scale = self.graph.float(1.0 / (head_dim as f32).sqrt());
        let queries = self.node("Mul", &[queries, &scale], &[]);
        let keys = self.transpose(keys, &[0, 1, 3, 2]);
        let mut scores = self.node("MatMul", &[&queries, &keys], &[]);
        if let Some(mask) = mask {
            scores = self.node("Add", &[&scores, mask], &[]);
        }
        let weights = self.node("Softmax", &[&scores], &[("axis", Attr::Int(-1))]);
        self.node("MatMul", &[&weights, values], &[])
    }

    /// `(b, heads, n, head_dim)` to `(b, n, heads * head_dim)`.
    pub(super) fn join_heads(&mut self, x: &str, heads: Heads) -> String {
        let x = self.transpose(x, &[0, 2, 1, 3]);
        self.reshape(&x, &[0, 0, heads.width() as i64])
    }

    fn decoder(&mut self, op: &'static str) -> Result<&mut DecoderInputs> {
        self.decoder.as_mut().ok_or_else(|| Error::Shape {
            op,
            name: "cache".into(),
            expected: "a decoder with a KV cache".into(),
            got: "a network without one".into(),
        })
    }

    /// Queries and keys of a packed projection of `shape` turned by their
    /// positions, together, while they lie side by side.
    pub(super) fn rotate(&mut self, qkv: &Value, heads: Heads, shape: Shape) -> Result<Value> {
        let (cos, sin) = match &self.decoder("rotary")?.positions {
            Positions::Standard { cos, sin, .. } => (cos.clone(), sin.clone()),
            // Fused attention turns them itself.
            Positions::Fused { .. } => return Ok(qkv.clone()),
        };
        let (d, kv) = (heads.head_dim, heads.kv_heads * heads.head_dim);
        let turned = heads.heads + heads.kv_heads;
        let parts = self.split(&qkv.name, 2, &[turned * d, kv]);
        let x = self.reshape(&parts[0], &[0, 0, turned as i64, d as i64]);
        let halves = self.split(&x, 3, &[d / 2, d / 2]);
        let (a, b) = (&halves[0], &halves[1]);
        let times = |ops: &mut Self, x: &str, y: &str| ops.node("Mul", &[x, y], &[]);
        let (ac, bs) = (times(self, a, &cos), times(self, b, &sin));
        let (bc, r#as) = (times(self, b, &cos), times(self, a, &sin));
        let first = self.node("Sub", &[&ac, &bs], &[]);
        let second = self.node("Add", &[&bc, &r#as], &[]);
        let x = self.node("Concat", &[&first, &second], &[("axis", Attr::Int(-1))]);
        let x = self.transpose(&x, &[0, 2, 1, 3]);
        let parts_by_head = self.split(&x, 1, &[heads.heads, heads.kv_heads]);
        let [queries, keys] = <[String; 2]>::try_from(parts_by_head).expect("split in two");
        let values = self.heads(&parts[1], heads.kv_heads, d);
        Ok(Value::new(queries, shape, Form::Divided { keys, values }))
    }

    /// Attention over the cache of `layer` and the new positions, which become
    /// part of its present; tokens `(b, n, heads * head_dim)`.
    pub(super) fn attend_cached(
        &mut self,
        qkv: &Value,
        heads: Heads,
        layer: usize,
    ) -> Result<String> {
        let decoder = self.decoder("cached attention")?;
        let (keys, values) = &decoder.past[layer];
        let past = [keys.clone(), values.clone()];
        let (y, present) = match decoder.positions.clone() {
            Positions::Standard { mask, .. } => self.attend_standard(qkv, heads, past, &mask),
            Positions::Fused {
                cos,
                sin,
                last,
                total,
            } => self.attend_fused(qkv, heads, past, [&last, &total, &cos, &sin]),
        };
        self.decoder("cached attention")?.present.push(present);
        Ok(y)
    }

    /// Query heads that share a key head are rows of one product, so that
    /// keys and values are never repeated.
    fn attend_standard(
        &mut self,
        qkv: &Value,
        heads: Heads,
        [past_keys, past_values]: [String; 2],
        mask: &str,
    ) -> (String, (String, String)) {
        let [queries, keys, values] = self.divide(qkv, heads);
        let axis = [("axis", Attr::Int(2))];
        let keys = self.node("Concat", &[&past_keys, &keys], &axis);
        let values = self.node("Concat", &[&past_values, &values], &axis);
        let (kv, d) = (heads.kv_heads as i64, heads.head_dim as i64);
        let queries = match heads.heads == heads.kv_heads {
            true => queries,
            false => self.reshape(&queries, &[0, kv, -1, d]),
        };
        let mut y = self.attend(&queries, &keys, &values, Some(mask), heads.head_dim);
        if heads.heads != heads.kv_heads {
            y = self.reshape(&y, &[0, heads.heads as i64, -1, d]);
        }
        (self.join_heads(&y, heads), (keys, values))
    }

    /// ONNX Runtime's own; keys and values come packed with the queries.
    fn attend_fused(
        &mut self,
        qkv: &Value,
        heads: Heads,
        [past_keys, past_values]: [String; 2],
        [last, total, cos, sin]: [&str; 4],
    ) -> (String, (String, String)) {
        let cache = [past_keys.as_str(), &past_values];
        let packed = [qkv.name.as_str(), "", ""];
        let inputs = [&packed[..], &cache, &[last, total, cos, sin]].concat();
        let attributes = [
            ("num_heads", Attr::Int(heads.heads as i64)),
            ("kv_num_heads", Attr::Int(heads.kv_heads as i64)),
            ("do_rotary", Attr::Int(1)),
        ];
        let made = self
            .graph
            .fused("GroupQueryAttention", &inputs, &attributes, 3);
        let [y, keys, values] = <[String; 3]>::try_from(made).expect("three outputs");
        (y, (keys, values))
    }
}
