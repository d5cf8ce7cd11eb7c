//! The interpreter that records: [`Ops`] as nodes of an ONNX graph.
//!
//! Shapes are inferred, and errors found, by [`CostOps`] on the sizes that the
//! network is traced with; the graph itself keeps batch, sequence and image
//! size free wherever the network does. Only operators of the standard set are
//! used, unless fused attention is asked for. Maps are channels-first, as ONNX's convolutions want them, and are
//! turned only where a norm or product over channels stands between.

use std::collections::HashMap;

use super::graph::{Attr, GraphBuilder};
use super::proto::Scalar;
use crate::backend::Precision;
use crate::cost::CostOps;
use crate::error::{Error, Result};
use crate::ops::{Act, Conv, Depthwise, Embedding, Heads, Linear, Norm, Ops, Shape, Take};
use crate::params::ParamSpec;
use crate::weights::Part;

/// How a value lies in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Form {
    /// A map `(b, c, h, w)`.
    ChannelsFirst,
    /// A map `(b, h, w, c)`.
    ChannelsLast,
    /// Tokens `(b, n, d)`.
    Tokens,
    /// A packed projection already divided: this value is the queries
    /// `(b, heads, n, head_dim)`.
    Divided {
        /// `(b, kv_heads, n, head_dim)`.
        keys: String,
        /// `(b, kv_heads, n, head_dim)`.
        values: String,
    },
}

/// A value of the graph.
#[derive(Clone, Debug)]
pub struct Value {
    /// Name in the graph.
    pub name: String,
    shape: Shape,
    form: Form,
    /// The map, and its form, whose rows these tokens are.
    grid: Option<(String, Form)>,
}

impl Value {
    /// A graph input that is a map `(b, c, h, w)`, traced with `shape`.
    pub fn map(name: String, shape: Shape) -> Value {
        Value::new(name, shape, Form::ChannelsFirst)
    }

    /// A graph input that is tokens `(b, n, d)`, traced with `shape`.
    pub fn tokens(name: String, shape: Shape) -> Value {
        Value::new(name, shape, Form::Tokens)
    }

    fn new(name: String, shape: Shape, form: Form) -> Value {
        Value {
            name,
            shape,
            form,
            grid: None,
        }
    }
}

/// Where new positions are and what they see, in names of the graph.
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

/// The interpreter over the parameters of one part.
pub struct OnnxOps<'a> {
    graph: &'a mut GraphBuilder,
    part: Part,
    specs: HashMap<&'a str, &'a ParamSpec>,
    shapes: CostOps,
    /// The input that holds token ids.
    ids: Option<String>,
    /// What a decoder needs.
    pub decoder: Option<DecoderInputs>,
}

impl<'a> OnnxOps<'a> {
    /// Records `part`, whose parameters are `specs`.
    pub fn new(graph: &'a mut GraphBuilder, part: Part, specs: &'a [ParamSpec]) -> OnnxOps<'a> {
        graph.set_scope(part.name());
        OnnxOps {
            graph,
            part,
            specs: specs.iter().map(|s| (s.name.as_str(), s)).collect(),
            shapes: CostOps::new(4, 0),
            ids: None,
            decoder: None,
        }
    }

    /// Embeddings look the ids of this graph input up.
    pub fn with_ids(mut self, ids: String) -> OnnxOps<'a> {
        self.ids = Some(ids);
        self
    }

    fn spec(&self, name: &str) -> Result<&'a ParamSpec> {
        let spec = self.specs.get(name).copied();
        spec.ok_or_else(|| Error::MissingParam { name: name.into() })
    }

    /// A parameter in its canonical shape.
    fn param(&mut self, name: &str) -> Result<String> {
        let spec = self.spec(name)?;
        Ok(self
            .graph
            .weight(self.part, spec, spec.shape.clone(), false))
    }

    /// A matrix `(out, in)` as `(in, out)`.
    fn matrix(&mut self, name: &str, p: &Linear) -> Result<String> {
        let spec = self.spec(name)?;
        let dims = vec![p.d_in, p.d_out];
        Ok(self.graph.weight(self.part, spec, dims, true))
    }

    fn node(&mut self, op: &str, inputs: &[&str], attributes: &[(&str, Attr)]) -> String {
        self.graph.node(op, inputs, attributes)
    }

    fn reshape(&mut self, x: &str, dims: &[i64]) -> String {
        let dims = self.graph.ints(dims);
        self.node("Reshape", &[x, &dims], &[])
    }

    fn transpose(&mut self, x: &str, order: &[i64]) -> String {
        self.node("Transpose", &[x], &[("perm", Attr::Ints(order.into()))])
    }

    fn split(&mut self, x: &str, axis: i64, sizes: &[usize]) -> Vec<String> {
        let lengths: Vec<i64> = sizes.iter().map(|s| *s as i64).collect();
        let lengths = self.graph.ints(&lengths);
        let axis = [("axis", Attr::Int(axis))];
        self.graph
            .nodes_of("Split", &[x, &lengths], &axis, sizes.len())
    }

    fn channels_first(&mut self, x: &Value) -> Value {
        if x.form != Form::ChannelsLast {
            return x.clone();
        }
        let name = self.transpose(&x.name, &[0, 3, 1, 2]);
        Value::new(name, x.shape, Form::ChannelsFirst)
    }

    fn channels_last(&mut self, x: &Value) -> Value {
        if x.form != Form::ChannelsFirst {
            return x.clone();
        }
        let name = self.transpose(&x.name, &[0, 2, 3, 1]);
        Value::new(name, x.shape, Form::ChannelsLast)
    }

    fn act(&mut self, x: String, act: Act) -> String {
        match act {
            Act::None => x,
            Act::Gelu => self.node("Gelu", &[&x], &[("approximate", Attr::Text("none"))]),
            Act::Relu => self.node("Relu", &[&x], &[]),
            Act::Sigmoid => self.node("Sigmoid", &[&x], &[]),
            Act::Silu => {
                let gate = self.node("Sigmoid", &[&x], &[]);
                self.node("Mul", &[&x, &gate], &[])
            }
            Act::QuickGelu => {
                let slope = self.graph.float(1.702);
                let scaled = self.node("Mul", &[&x, &slope], &[]);
                let gate = self.node("Sigmoid", &[&scaled], &[]);
                self.node("Mul", &[&x, &gate], &[])
            }
        }
    }

    /// A convolution with weight and bias of `name`, in the given shape.
    fn convolution(
        &mut self,
        x: &Value,
        weight: String,
        bias: Option<String>,
        [kernel, stride, padding, groups]: [usize; 4],
        act: Act,
    ) -> String {
        let mut inputs = vec![x.name.as_str(), &weight];
        inputs.extend(bias.as_deref());
        let pair = |v: usize| Attr::Ints(vec![v as i64; 2]);
        let attributes = [
            ("kernel_shape", pair(kernel)),
            ("strides", pair(stride)),
            ("pads", Attr::Ints(vec![padding as i64; 4])),
            ("group", Attr::Int(groups as i64)),
        ];
        let y = self.graph.node("Conv", &inputs, &attributes);
        self.act(y, act)
    }

    fn bias(&mut self, name: &str, wanted: bool) -> Result<Option<String>> {
        match wanted {
            true => self.param(&format!("{name}.bias")).map(Some),
            false => Ok(None),
        }
    }

    /// `(b, n, heads * head_dim)` to `(b, heads, n, head_dim)`.
    fn heads(&mut self, x: &str, heads: usize, head_dim: usize) -> String {
        let x = self.reshape(x, &[0, 0, heads as i64, head_dim as i64]);
        self.transpose(&x, &[0, 2, 1, 3])
    }

    /// A packed projection as queries, keys and values by head.
    fn divide(&mut self, qkv: &Value, heads: Heads) -> [String; 3] {
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
    fn attend(
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
    fn join_heads(&mut self, x: &str, heads: Heads) -> String {
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
}

impl Ops for OnnxOps<'_> {
    type V = Value;

    fn shape(&self, x: &Value) -> Shape {
        x.shape
    }

    fn stage(&mut self, name: &str) {
        self.graph
            .set_scope(&format!("{}/{name}", self.part.name()));
    }

    fn conv(&mut self, x: &Value, p: &Conv) -> Result<Value> {
        let shape = self.shapes.conv(&x.shape, p)?;
        let x = self.channels_first(x);
        let weight = self.param(&format!("{}.weight", p.name))?;
        let bias = self.bias(&p.name, p.bias)?;
        let geometry = [p.kernel, p.stride, p.padding, 1];
        let name = self.convolution(&x, weight, bias, geometry, p.act);
        Ok(Value::new(name, shape, Form::ChannelsFirst))
    }

    fn depthwise(&mut self, x: &Value, p: &Depthwise) -> Result<Value> {
        let shape = self.shapes.depthwise(&x.shape, p)?;
        let x = self.channels_first(x);
        let weight = self.param(&format!("{}.weight", p.name))?;
        let bias = self.bias(&p.name, true)?;
        let geometry = [p.kernel, p.stride, p.kernel / 2, p.channels];
        let name = self.convolution(&x, weight, bias, geometry, p.act);
        Ok(Value::new(name, shape, Form::ChannelsFirst))
    }

    fn linear(&mut self, x: &Value, p: &Linear, residual: Option<&Value>) -> Result<Value> {
        let shape = self
            .shapes
            .linear(&x.shape, p, residual.map(|r| &r.shape))?;
        let weight = format!("{}.weight", p.name);
        let bias = self.bias(&p.name, p.bias)?;
        let name = if x.form == Form::ChannelsFirst {
            let dims = vec![p.d_out, p.d_in, 1, 1];
            let spec = self.spec(&weight)?;
            let weight = self.graph.weight(self.part, spec, dims, false);
            self.convolution(x, weight, bias, [1, 1, 0, 1], p.act)
        } else {
            let weight = self.matrix(&weight, p)?;
            let mut y = self.node("MatMul", &[&x.name, &weight], &[]);
            if let Some(bias) = bias {
                y = self.node("Add", &[&y, &bias], &[]);
            }
            self.act(y, p.act)
        };
        let mut y = Value {
            name,
            shape,
            form: x.form.clone(),
            grid: x.grid.clone(),
        };
        if let Some(residual) = residual {
            let residual = match y.form {
                Form::ChannelsLast => {
                    y = self.channels_first(&y);
                    self.channels_first(residual)
                }
                Form::ChannelsFirst => self.channels_first(residual),
                _ => residual.clone(),
            };
            y.name = self.node("Add", &[&residual.name, &y.name], &[]);
        }
        Ok(y)
    }

    fn layer_norm(&mut self, x: &Value, p: &Norm) -> Result<Value> {
        let shape = self.shapes.layer_norm(&x.shape, p)?;
        let x = self.channels_last(x);
        let weight = self.param(&format!("{}.weight", p.name))?;
        let bias = self.param(&format!("{}.bias", p.name))?;
        let attributes = [("axis", Attr::Int(-1)), ("epsilon", Attr::Float(p.eps))];
        let name = self.node(
            "LayerNormalization",
            &[&x.name, &weight, &bias],
            &attributes,
        );
        Ok(Value { name, shape, ..x })
    }

    /// Mean square and root in f32 in every precision, as transformers does.
    fn rms_norm(&mut self, x: &Value, p: &Norm) -> Result<Value> {
        let shape = self.shapes.rms_norm(&x.shape, p)?;
        let x = self.channels_last(x);
        let weight = self.param(&format!("{}.weight", p.name))?;
        let precision = self.graph.precision();
        let wide = match precision {
            Precision::F32 => x.name.clone(),
            _ => cast(self.graph, &x.name, Scalar::F32),
        };
        let two = self.graph.f32s(&[2.0]);
        let eps = self.graph.f32s(&[p.eps]);
        let last = self.graph.ints(&[-1]);
        let square = self.node("Pow", &[&wide, &two], &[]);
        let mean = self.node("ReduceMean", &[&square, &last], &[]);
        let mean = self.node("Add", &[&mean, &eps], &[]);
        let root = self.node("Sqrt", &[&mean], &[]);
        let mut y = self.node("Div", &[&wide, &root], &[]);
        if precision != Precision::F32 {
            y = cast(self.graph, &y, super::graph::scalar(precision));
        }
        let name = self.node("Mul", &[&y, &weight], &[]);
        Ok(Value { name, shape, ..x })
    }

    fn global_mean(&mut self, x: &Value) -> Result<Value> {
        let shape = self.shapes.global_mean(&x.shape)?;
        let x = self.channels_first(x);
        let mean = self.node("GlobalAveragePool", &[&x.name], &[]);
        let name = self.reshape(&mean, &[0, 1, shape.channels() as i64]);
        Ok(Value::new(name, shape, Form::Tokens))
    }

    fn gate_channels(&mut self, x: &Value, gate: &Value, act: Act) -> Result<Value> {
        let shape = self.shapes.gate_channels(&x.shape, &gate.shape, act)?;
        let x = self.channels_first(x);
        let gate = self.reshape(&gate.name, &[0, shape.channels() as i64, 1, 1]);
        let y = self.node("Mul", &[&x.name, &gate], &[]);
        let name = self.act(y, act);
        Ok(Value::new(name, shape, Form::ChannelsFirst))
    }

    fn to_tokens(&mut self, x: &Value) -> Result<Value> {
        let shape = self.shapes.to_tokens(&x.shape)?;
        let channels = shape.channels() as i64;
        let name = if x.form == Form::ChannelsFirst {
            let rows = self.reshape(&x.name, &[0, channels, -1]);
            self.transpose(&rows, &[0, 2, 1])
        } else {
            self.reshape(&x.name, &[0, -1, channels])
        };
        Ok(Value {
            grid: Some((x.name.clone(), x.form.clone())),
            ..Value::new(name, shape, Form::Tokens)
        })
    }

    fn to_map(&mut self, x: &Value, h: usize, w: usize) -> Result<Value> {
        let shape = self.shapes.to_map(&x.shape, h, w)?;
        let channels = shape.channels() as i64;
        let name = match &x.grid {
            // The sides of the map that the tokens came from, whatever they are.
            Some((map, form)) => {
                let start = if *form == Form::ChannelsFirst { 2 } else { 1 };
                let sides = [("start", Attr::Int(start)), ("end", Attr::Int(start + 2))];
                let sides = self.node("Shape", &[map], &sides);
                let batch = self.graph.ints(&[0]);
                let channels = self.graph.ints(&[channels]);
                let axis = [("axis", Attr::Int(0))];
                let dims = self.node("Concat", &[&batch, &sides, &channels], &axis);
                self.node("Reshape", &[&x.name, &dims], &[])
            }
            None => self.reshape(&x.name, &[0, h as i64, w as i64, channels]),
        };
        Ok(Value::new(name, shape, Form::ChannelsLast))
    }

    fn prepend_token(&mut self, x: &Value, name: &str) -> Result<Value> {
        let shape = self.shapes.prepend_token(&x.shape, name)?;
        let token = self.param(name)?;
        let sides = [("start", Attr::Int(0)), ("end", Attr::Int(1))];
        let batch = self.node("Shape", &[&x.name], &sides);
        let rest = self.graph.ints(&[1, shape.channels() as i64]);
        let axis = [("axis", Attr::Int(0))];
        let dims = self.node("Concat", &[&batch, &rest], &axis);
        let token = self.node("Expand", &[&token, &dims], &[]);
        let axis = [("axis", Attr::Int(1))];
        let name = self.node("Concat", &[&token, &x.name], &axis);
        Ok(Value::new(name, shape, Form::Tokens))
    }

    fn add_positions(&mut self, x: &Value, name: &str) -> Result<Value> {
        let shape = self.shapes.add_positions(&x.shape, name)?;
        let table = self.param(name)?;
        let name = self.node("Add", &[&x.name, &table], &[]);
        Ok(Value::new(name, shape, Form::Tokens))
    }

    fn take_tokens(&mut self, x: &Value, take: Take) -> Result<Value> {
        let shape = self.shapes.take_tokens(&x.shape, take)?;
        let start = match take {
            Take::After(n) => n as i64,
            Take::Last(n) => -(n as i64),
        };
        let start = self.graph.ints(&[start]);
        let end = self.graph.ints(&[i64::MAX]);
        let axis = self.graph.ints(&[1]);
        let name = self.node("Slice", &[&x.name, &start, &end, &axis], &[]);
        Ok(Value::new(name, shape, Form::Tokens))
    }

    fn concat_tokens(&mut self, xs: &[Value]) -> Result<Value> {
        let shapes: Vec<Shape> = xs.iter().map(|x| x.shape).collect();
        let shape = self.shapes.concat_tokens(&shapes)?;
        let names: Vec<&str> = xs.iter().map(|x| x.name.as_str()).collect();
        let name = self.node("Concat", &names, &[("axis", Attr::Int(1))]);
        Ok(Value::new(name, shape, Form::Tokens))
    }

    fn embed(&mut self, ids: &[u32], p: &Embedding) -> Result<Value> {
        let shape = self.shapes.embed(ids, p)?;
        let table = self.param(&format!("{}.weight", p.name))?;
        let ids = self.ids.clone().ok_or_else(|| Error::Shape {
            op: "embed",
            name: p.name.clone(),
            expected: "a graph with an input of token ids".into(),
            got: "one without".into(),
        })?;
        let name = self.node("Gather", &[&table, &ids], &[("axis", Attr::Int(0))]);
        Ok(Value::new(name, shape, Form::Tokens))
    }

    /// Queries and keys are turned together, while they lie side by side.
    fn rotary(&mut self, qkv: &Value, heads: Heads, theta: f32) -> Result<Value> {
        let shape = self.shapes.rotary(&qkv.shape, heads, theta)?;
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

    fn attention(&mut self, qkv: &Value, heads: Heads) -> Result<Value> {
        let shape = self.shapes.attention(&qkv.shape, heads)?;
        let [queries, keys, values] = self.divide(qkv, heads);
        let y = self.attend(&queries, &keys, &values, None, heads.head_dim);
        let name = self.join_heads(&y, heads);
        Ok(Value {
            grid: qkv.grid.clone(),
            ..Value::new(name, shape, Form::Tokens)
        })
    }

    /// Query heads that share a key head are rows of one product, so that
    /// keys and values are never repeated.
    fn cached_attention(&mut self, qkv: &Value, heads: Heads, layer: usize) -> Result<Value> {
        let shape = self.shapes.cached_attention(&qkv.shape, heads, layer)?;
        let decoder = self.decoder("cached attention")?;
        let (past_keys, past_values) = decoder.past[layer].clone();
        let mask = match &decoder.positions {
            Positions::Standard { mask, .. } => mask.clone(),
            Positions::Fused {
                cos,
                sin,
                last,
                total,
            } => {
                let [cos, sin, last, total] = [cos, sin, last, total].map(Clone::clone);
                // Keys and values come packed with the queries.
                let inputs = [
                    &qkv.name,
                    "",
                    "",
                    &past_keys,
                    &past_values,
                    &last,
                    &total,
                    &cos,
                    &sin,
                ];
                let attributes = [
                    ("num_heads", Attr::Int(heads.heads as i64)),
                    ("kv_num_heads", Attr::Int(heads.kv_heads as i64)),
                    ("do_rotary", Attr::Int(1)),
                ];
                let made = self
                    .graph
                    .fused("GroupQueryAttention", &inputs, &attributes, 3);
                let [y, keys, values] = <[String; 3]>::try_from(made).expect("three outputs");
                self.decoder("cached attention")?
                    .present
                    .push((keys, values));
                return Ok(Value::new(y, shape, Form::Tokens));
            }
        };
        let [queries, keys, values] = self.divide(qkv, heads);
        let axis = [("axis", Attr::Int(2))];
        let keys = self.node("Concat", &[&past_keys, &keys], &axis);
        let values = self.node("Concat", &[&past_values, &values], &axis);
        let present = (keys.clone(), values.clone());
        self.decoder("cached attention")?.present.push(present);
        let (kv, d) = (heads.kv_heads as i64, heads.head_dim as i64);
        let queries = match heads.heads == heads.kv_heads {
            true => queries,
            false => self.reshape(&queries, &[0, kv, -1, d]),
        };
        let mut y = self.attend(&queries, &keys, &values, Some(&mask), heads.head_dim);
        if heads.heads != heads.kv_heads {
            y = self.reshape(&y, &[0, heads.heads as i64, -1, d]);
        }
        let name = self.join_heads(&y, heads);
        Ok(Value::new(name, shape, Form::Tokens))
    }

    fn swiglu(&mut self, gate_up: &Value) -> Result<Value> {
        let shape = self.shapes.swiglu(&gate_up.shape)?;
        let width = shape.channels();
        let parts = self.split(&gate_up.name, 2, &[width, width]);
        let gate = self.act(parts[0].clone(), Act::Silu);
        let name = self.node("Mul", &[&gate, &parts[1]], &[]);
        Ok(Value::new(name, shape, Form::Tokens))
    }
}

/// `x` as another type.
pub fn cast(graph: &mut GraphBuilder, x: &str, to: Scalar) -> String {
    graph.node("Cast", &[x], &[("to", Attr::Int(to as i64))])
}
