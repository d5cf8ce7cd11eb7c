//! The interpreter that records: [`Ops`] as nodes of an ONNX graph.
//!
//! Shapes are inferred, and errors found, by [`CostOps`] on the sizes that the
//! network is traced with; the graph itself keeps batch, sequence and image
//! size free wherever the network does. Only operators of the standard set are
//! used, unless fused attention is asked for. Maps are channels-first, as
//! ONNX's convolutions want them, and are turned only where a norm or product
//! over channels stands between. Attention is in [`super::attention`].

use std::collections::HashMap;

use super::attention::DecoderInputs;
use super::graph::{Attr, GraphBuilder};
use super::proto::Scalar;
use crate::backend::Precision;
use crate::cost::CostOps;
use crate::error::{Error, Result};
use crate::mix::Mix;
use crate::ops::{Act, Conv, Depthwise, Embedding, Heads, Linear, Norm, Ops, Pool, Shape, Take};
use crate::params::ParamSpec;
use crate::reduce::Reducer;
use crate::weights::Part;

/// How a value lies in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Form {
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
    pub(super) form: Form,
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

    pub(super) fn new(name: String, shape: Shape, form: Form) -> Value {
        Value {
            name,
            shape,
            form,
            grid: None,
        }
    }
}

/// The interpreter over the parameters of one part.
pub struct OnnxOps<'a> {
    pub(super) graph: &'a mut GraphBuilder,
    part: Part,
    /// What names of parameters follow.
    scope: String,
    specs: HashMap<&'a str, &'a ParamSpec>,
    shapes: CostOps,
    /// The input that holds token ids.
    ids: Option<String>,
    /// What a decoder needs.
    pub decoder: Option<DecoderInputs>,
    /// What the tokens that come out are to be reduced by, elsewhere.
    pub clue: Option<Value>,
}

impl<'a> OnnxOps<'a> {
    /// Records `part`, whose parameters are `specs`.
    pub fn new(graph: &'a mut GraphBuilder, part: Part, specs: &'a [ParamSpec]) -> OnnxOps<'a> {
        graph.set_scope(part.name());
        OnnxOps {
            graph,
            part,
            scope: String::new(),
            specs: specs.iter().map(|s| (s.name.as_str(), s)).collect(),
            shapes: CostOps::new(4, 0),
            ids: None,
            decoder: None,
            clue: None,
        }
    }

    /// Embeddings look the ids of this graph input up.
    pub fn with_ids(mut self, ids: String) -> OnnxOps<'a> {
        self.ids = Some(ids);
        self
    }

    fn spec(&self, name: &str) -> Result<&'a ParamSpec> {
        let name = format!("{}{name}", self.scope);
        let spec = self.specs.get(name.as_str()).copied();
        spec.ok_or(Error::MissingParam { name })
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

    pub(super) fn node(
        &mut self,
        op: &str,
        inputs: &[&str],
        attributes: &[(&str, Attr)],
    ) -> String {
        self.graph.node(op, inputs, attributes)
    }

    pub(super) fn reshape(&mut self, x: &str, dims: &[i64]) -> String {
        let dims = self.graph.ints(dims);
        self.node("Reshape", &[x, &dims], &[])
    }

    pub(super) fn transpose(&mut self, x: &str, order: &[i64]) -> String {
        self.node("Transpose", &[x], &[("perm", Attr::Ints(order.into()))])
    }

    pub(super) fn split(&mut self, x: &str, axis: i64, sizes: &[usize]) -> Vec<String> {
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
            Act::GeluTanh => self.node("Gelu", &[&x], &[("approximate", Attr::Text("tanh"))]),
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

    fn scope(&mut self, scope: &str) {
        scope.clone_into(&mut self.scope);
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
        let geometry = [p.kernel, p.stride, p.padding, p.channels];
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
        let name = self.act(name, p.act);
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
            _ => self.graph.cast(&x.name, Scalar::F32),
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
            y = self.graph.cast(&y, super::graph::scalar(precision));
        }
        let y = self.node("Mul", &[&y, &weight], &[]);
        let name = self.act(y, p.act);
        Ok(Value { name, shape, ..x })
    }

    fn global_mean(&mut self, x: &Value) -> Result<Value> {
        let shape = self.shapes.global_mean(&x.shape)?;
        let x = self.channels_first(x);
        let mean = self.node("GlobalAveragePool", &[&x.name], &[]);
        let name = self.reshape(&mean, &[0, 1, shape.channels() as i64]);
        Ok(Value::new(name, shape, Form::Tokens))
    }

    fn average_pool(&mut self, x: &Value, p: Pool) -> Result<Value> {
        let shape = self.shapes.average_pool(&x.shape, p)?;
        let x = self.channels_first(x);
        let pair = |v: usize| Attr::Ints(vec![v as i64; 2]);
        let attributes = [
            ("kernel_shape", pair(p.kernel)),
            ("strides", pair(p.stride)),
            ("pads", Attr::Ints(vec![p.padding as i64; 4])),
            ("count_include_pad", Attr::Int(0)),
        ];
        let name = self.node("AveragePool", &[&x.name], &attributes);
        Ok(Value::new(name, shape, Form::ChannelsFirst))
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
                let sides = self.graph.sides(map, start..start + 2);
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
        let batch = self.graph.sides(&x.name, 0..1);
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

    fn concat_channels(&mut self, xs: &[Value]) -> Result<Value> {
        let shapes: Vec<Shape> = xs.iter().map(|x| x.shape).collect();
        let shape = self.shapes.concat_channels(&shapes)?;
        // Tokens have their channels last, maps here first.
        let (form, axis) = match shape {
            Shape::Tokens { .. } => (Form::Tokens, -1),
            Shape::Map { .. } => (Form::ChannelsFirst, 1),
        };
        let names: Vec<String> = xs.iter().map(|x| self.channels_first(x).name).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let name = self.node("Concat", &names, &[("axis", Attr::Int(axis))]);
        Ok(Value::new(name, shape, form))
    }

    fn concat_tokens(&mut self, xs: &[Value]) -> Result<Value> {
        let shapes: Vec<Shape> = xs.iter().map(|x| x.shape).collect();
        let shape = self.shapes.concat_tokens(&shapes)?;
        let names: Vec<&str> = xs.iter().map(|x| x.name.as_str()).collect();
        let name = self.node("Concat", &names, &[("axis", Attr::Int(1))]);
        Ok(Value::new(name, shape, Form::Tokens))
    }

    fn regroup(&mut self, x: &Value, batch: usize) -> Result<Value> {
        let shape = self.shapes.regroup(&x.shape, batch)?;
        let dims = [batch as i64, -1, shape.channels() as i64];
        let name = self.reshape(&x.name, &dims);
        Ok(Value::new(name, shape, Form::Tokens))
    }

    fn mix_tokens(&mut self, x: &Value, mix: &Mix) -> Result<Value> {
        let shape = self.shapes.mix_tokens(&x.shape, mix)?;
        // Every token has as many taps; those that are missing weigh nothing.
        let (tokens, widest) = (mix.len(), mix.widest().max(1));
        let taps = (0..tokens).flat_map(|i| {
            let taps = mix.taps(i).iter().copied();
            taps.chain(std::iter::repeat((0, 0.0))).take(widest)
        });
        let (sources, weights): (Vec<i64>, Vec<f32>) = taps
            .map(|(source, weight)| (i64::from(source), weight))
            .unzip();
        let sources = self.graph.ints(&sources);
        let axis = [("axis", Attr::Int(1))];
        let mut name = self.node("Gather", &[&x.name, &sources], &axis);
        if weights.iter().any(|weight| *weight != 1.0) {
            let what = format!("weights{weights:?}");
            let weights = self.graph.matrix(&what, [tokens * widest, 1], &weights);
            name = self.node("Mul", &[&name, &weights], &[]);
        }
        if widest > 1 {
            let dims = [0, tokens as i64, widest as i64, shape.channels() as i64];
            let dims = self.graph.ints(&dims);
            let apart = self.node("Reshape", &[&name, &dims], &[]);
            let axis = self.graph.ints(&[2]);
            let keep = [("keepdims", Attr::Int(0))];
            name = self.node("ReduceSum", &[&apart, &axis], &keep);
        }
        Ok(Value::new(name, shape, Form::Tokens))
    }

    /// Hands out the clue, and the tokens as they are: the host reduces them.
    fn reduce_tokens(
        &mut self,
        x: &Value,
        clue: &Value,
        heads: Heads,
        by: &dyn Reducer,
    ) -> Result<Value> {
        self.shapes
            .reduce_tokens(&x.shape, &clue.shape, heads, by)?;
        self.clue = Some(clue.clone());
        Ok(x.clone())
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

    fn rotary(&mut self, qkv: &Value, heads: Heads, theta: f32) -> Result<Value> {
        let shape = self.shapes.rotary(&qkv.shape, heads, theta)?;
        self.rotate(qkv, heads, shape)
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

    fn cross_attention(
        &mut self,
        q: &Value,
        keys: &[Value],
        values: &[Value],
        heads: usize,
        hidden: Option<&[bool]>,
    ) -> Result<Value> {
        let shapes = |all: &[Value]| all.iter().map(|x| x.shape).collect::<Vec<_>>();
        let (k, v) = (shapes(keys), shapes(values));
        let shape = (self.shapes).cross_attention(&q.shape, &k, &v, heads, hidden)?;
        if hidden.is_some() {
            return Err(Error::Unavailable {
                what: "attention to windows with padding".into(),
                why: "graphs are recorded for square images".into(),
            });
        }
        let dim = (shape.channels() / heads) as i64;
        let axis = [("axis", Attr::Int(1))];
        let joined = |o: &mut Self, all: &[Value]| {
            let names: Vec<&str> = all.iter().map(|x| x.name.as_str()).collect();
            o.node("Concat", &names, &axis)
        };
        let (k, v) = (joined(self, keys), joined(self, values));
        // (b, n, d) as (b, heads, n, dim), keys turned.
        let apart = [0, 0, heads as i64, dim];
        let [q, k, v] = [&q.name, &k, &v].map(|x| self.reshape(x, &apart));
        let q = self.transpose(&q, &[0, 2, 1, 3]);
        let k = self.transpose(&k, &[0, 2, 3, 1]);
        let v = self.transpose(&v, &[0, 2, 1, 3]);
        let scale = self.graph.float(1.0 / (dim as f32).sqrt());
        let q = self.node("Mul", &[&q, &scale], &[]);
        let scores = self.node("MatMul", &[&q, &k], &[]);
        let shares = self.node("Softmax", &[&scores], &[("axis", Attr::Int(-1))]);
        let y = self.node("MatMul", &[&shares, &v], &[]);
        let y = self.transpose(&y, &[0, 2, 1, 3]);
        let name = self.reshape(&y, &[0, 0, shape.channels() as i64]);
        Ok(Value::new(name, shape, Form::Tokens))
    }

    fn cached_attention(&mut self, qkv: &Value, heads: Heads, layer: usize) -> Result<Value> {
        let shape = self.shapes.cached_attention(&qkv.shape, heads, layer)?;
        let name = self.attend_cached(qkv, heads, layer)?;
        Ok(Value::new(name, shape, Form::Tokens))
    }

    fn glu(&mut self, gate_up: &Value, act: Act) -> Result<Value> {
        let shape = self.shapes.glu(&gate_up.shape, act)?;
        let width = shape.channels();
        let parts = self.split(&gate_up.name, 2, &[width, width]);
        let gate = self.act(parts[0].clone(), act);
        let name = self.node("Mul", &[&gate, &parts[1]], &[]);
        Ok(Value::new(name, shape, Form::Tokens))
    }
}
