//! Watching a network run, operation by operation.
//!
//! [`Traced`] is an interpreter around another one: it hands every operation
//! on, tells an [`Observer`] before and after, and has [`CostOps`] count what
//! the operation costs by the shapes of its inputs. So an engine that computes
//! with any interpreter can be profiled without a line in its kernels or in
//! the networks. The observer may read a clock; nothing here does.

use std::borrow::Cow;
use std::fmt;

use crate::blocks::mix::BlockMix;
use crate::cost::CostOps;
use crate::error::Result;
use crate::mix::Mix;
use crate::nets::Past;
use crate::ops::{Act, Conv, Depthwise, Embedding, Heads, Linear, Norm, Ops, Pool, Shape, Take};
use crate::reduce::Reducer;

/// The stage of operations before a network names its first one.
const UNNAMED: &str = "network";

/// Kind of an operation: what one kernel would be written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OpKind {
    /// Dense convolution.
    Conv {
        /// Kernel side.
        kernel: usize,
        /// Stride.
        stride: usize,
    },
    /// Depthwise convolution.
    Depthwise {
        /// Kernel side.
        kernel: usize,
        /// Stride.
        stride: usize,
    },
    /// Linear layer or pointwise convolution.
    Linear,
    /// Two linear layers, one after the other.
    Mlp,
    /// Layer norm.
    LayerNorm,
    /// RMS norm.
    RmsNorm,
    /// Mean over a map.
    GlobalMean,
    /// Means over windows of a map.
    AveragePool,
    /// Map times a factor per channel.
    GateChannels,
    /// Map to tokens.
    ToTokens,
    /// Tokens to map.
    ToMap,
    /// Class token put before the others.
    PrependToken,
    /// Learned positions added.
    AddPositions,
    /// Part of a sequence.
    TakeTokens,
    /// Maps side by side on channels.
    ConcatChannels,
    /// Sequences one after another.
    ConcatTokens,
    /// Sequences cut or joined.
    Regroup,
    /// Tokens made of tokens.
    MixTokens,
    /// Fewer tokens by attention.
    ReduceTokens,
    /// Rows of an embedding table.
    Embed,
    /// Rotary embedding.
    Rotary,
    /// Bidirectional attention.
    Attention,
    /// Attention to windows.
    CrossAttention,
    /// Causal attention over the KV cache.
    CachedAttention,
    /// Gated linear unit.
    Glu,
}

impl fmt::Display for OpKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            OpKind::Conv { kernel, stride } => {
                return write!(f, "conv {kernel}x{kernel} s{stride}");
            }
            OpKind::Depthwise { kernel, stride } => {
                return write!(f, "depthwise {kernel}x{kernel} s{stride}");
            }
            OpKind::Linear => "linear",
            OpKind::Mlp => "mlp",
            OpKind::LayerNorm => "layer norm",
            OpKind::RmsNorm => "rms norm",
            OpKind::GlobalMean => "global mean",
            OpKind::AveragePool => "average pool",
            OpKind::GateChannels => "gate channels",
            OpKind::ToTokens => "to tokens",
            OpKind::ToMap => "to map",
            OpKind::PrependToken => "prepend token",
            OpKind::AddPositions => "add positions",
            OpKind::TakeTokens => "take tokens",
            OpKind::ConcatChannels => "concat channels",
            OpKind::ConcatTokens => "concat tokens",
            OpKind::Regroup => "regroup",
            OpKind::MixTokens => "mix tokens",
            OpKind::ReduceTokens => "reduce tokens",
            OpKind::Embed => "embed",
            OpKind::Rotary => "rotary",
            OpKind::Attention => "attention",
            OpKind::CrossAttention => "cross attention",
            OpKind::CachedAttention => "cached attention",
            OpKind::Glu => "glu",
        };
        f.write_str(name)
    }
}

/// An operation that is about to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpEvent<'a> {
    /// Stage of the network that it belongs to.
    pub stage: &'a str,
    /// Kind.
    pub kind: OpKind,
    /// Canonical path of its parameters; empty without parameters.
    pub name: &'a str,
    /// Shape of its output.
    pub shape: Shape,
    /// Floating-point operations, a multiply-add as 2; counted as by
    /// [`CostOps`].
    pub flops: u64,
    /// Bytes of its parameters, inputs and output, counted as by [`CostOps`].
    pub bytes: u64,
}

/// Told of every operation of a model, on the thread that runs the network.
/// Operations do not nest: each `enter` is followed by its `leave`, and by
/// that the operation's work is done, on asynchronous devices too.
pub trait Observer: Send {
    /// An operation begins.
    fn enter(&mut self, op: &OpEvent<'_>);

    /// It has ended, successfully or not.
    fn leave(&mut self);
}

/// Who is told of the operations of one pass, if anybody.
pub type Watch<'a> = Option<&'a mut (dyn Observer + 'static)>;

/// What [`CostOps`] must know to count one operation of a running network.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Meter<'a> {
    /// Bytes of a scalar at the engine's precision.
    pub element_bytes: usize,
    /// How a quantised decoder is held.
    pub mix: Option<&'a BlockMix>,
    /// What the KV cache holds before the pass.
    pub past: Past,
}

/// An interpreter that reports what another one does, and waits for each
/// operation to be done. Without an observer it only hands on.
pub struct Traced<'a, O> {
    inner: O,
    observer: Watch<'a>,
    meter: Meter<'a>,
    scope: String,
    stage: String,
}

impl<'a, O: Ops> Traced<'a, O> {
    /// Reports the operations of `inner` to `observer`.
    pub fn new(inner: O, observer: Watch<'a>, meter: Meter<'a>) -> Self {
        Traced {
            inner,
            observer,
            meter,
            scope: String::new(),
            stage: UNNAMED.into(),
        }
    }

    /// Runs one operation; `count` is the same operation on its inputs'
    /// shapes.
    fn op(
        &mut self,
        kind: OpKind,
        name: &str,
        inputs: &[&O::V],
        count: impl FnOnce(&mut CostOps, &[Shape]) -> Result<Shape>,
        run: impl FnOnce(&mut O) -> Result<O::V>,
    ) -> Result<O::V> {
        let Some(observer) = self.observer.as_deref_mut() else {
            return run(&mut self.inner);
        };
        let shapes: Vec<Shape> = inputs.iter().map(|x| self.inner.shape(x)).collect();
        // One counter for each operation: parameters that are read again count
        // again as bytes, which is how a whole network is counted too.
        let mut ops = CostOps::new(self.meter.element_bytes, self.meter.past)
            .with_mix(self.meter.mix.cloned());
        let shape = count(&mut ops, &shapes)?;
        let (cost, _) = ops.finish();
        let name = match self.scope.as_str() {
            "" => Cow::Borrowed(name),
            scope => Cow::Owned(format!("{scope}{name}")),
        };
        observer.enter(&OpEvent {
            stage: &self.stage,
            kind,
            name: &name,
            shape,
            flops: cost.flops(),
            bytes: cost.bytes(),
        });
        let y = run(&mut self.inner);
        let waited = self.inner.synchronize();
        observer.leave();
        waited.and(y)
    }
}

impl<O: Ops> Ops for Traced<'_, O> {
    type V = O::V;

    fn shape(&self, x: &O::V) -> Shape {
        self.inner.shape(x)
    }

    fn scope(&mut self, scope: &str) {
        scope.clone_into(&mut self.scope);
        self.inner.scope(scope);
    }

    fn synchronize(&self) -> Result<()> {
        self.inner.synchronize()
    }

    fn stage(&mut self, name: &str) {
        if self.observer.is_some() {
            self.stage = format!("{}{name}", self.scope);
        }
        self.inner.stage(name);
    }

    fn conv(&mut self, x: &O::V, p: &Conv) -> Result<O::V> {
        let kind = OpKind::Conv {
            kernel: p.kernel,
            stride: p.stride,
        };
        let count = |c: &mut CostOps, s: &[Shape]| c.conv(&s[0], p);
        self.op(kind, &p.name, &[x], count, |o| o.conv(x, p))
    }

    fn depthwise(&mut self, x: &O::V, p: &Depthwise) -> Result<O::V> {
        let kind = OpKind::Depthwise {
            kernel: p.kernel,
            stride: p.stride,
        };
        let count = |c: &mut CostOps, s: &[Shape]| c.depthwise(&s[0], p);
        self.op(kind, &p.name, &[x], count, |o| o.depthwise(x, p))
    }

    fn linear(&mut self, x: &O::V, p: &Linear, residual: Option<&O::V>) -> Result<O::V> {
        let inputs: Vec<&O::V> = [x].into_iter().chain(residual).collect();
        let count = |c: &mut CostOps, s: &[Shape]| c.linear(&s[0], p, s.get(1));
        self.op(OpKind::Linear, &p.name, &inputs, count, |o| {
            o.linear(x, p, residual)
        })
    }

    fn mlp(
        &mut self,
        x: &O::V,
        first: &Linear,
        second: &Linear,
        residual: Option<&O::V>,
    ) -> Result<O::V> {
        let inputs: Vec<&O::V> = [x].into_iter().chain(residual).collect();
        let last = second.name.rsplit('.').next().unwrap_or_default();
        let name = format!("{}+{last}", first.name);
        let count = |c: &mut CostOps, s: &[Shape]| c.mlp(&s[0], first, second, s.get(1));
        self.op(OpKind::Mlp, &name, &inputs, count, |o| {
            o.mlp(x, first, second, residual)
        })
    }

    fn layer_norm(&mut self, x: &O::V, p: &Norm) -> Result<O::V> {
        let count = |c: &mut CostOps, s: &[Shape]| c.layer_norm(&s[0], p);
        self.op(OpKind::LayerNorm, &p.name, &[x], count, |o| {
            o.layer_norm(x, p)
        })
    }

    fn rms_norm(&mut self, x: &O::V, p: &Norm) -> Result<O::V> {
        let count = |c: &mut CostOps, s: &[Shape]| c.rms_norm(&s[0], p);
        self.op(OpKind::RmsNorm, &p.name, &[x], count, |o| o.rms_norm(x, p))
    }

    fn global_mean(&mut self, x: &O::V) -> Result<O::V> {
        let count = |c: &mut CostOps, s: &[Shape]| c.global_mean(&s[0]);
        self.op(OpKind::GlobalMean, "", &[x], count, |o| o.global_mean(x))
    }

    fn average_pool(&mut self, x: &O::V, p: Pool) -> Result<O::V> {
        let count = |c: &mut CostOps, s: &[Shape]| c.average_pool(&s[0], p);
        self.op(OpKind::AveragePool, "", &[x], count, |o| {
            o.average_pool(x, p)
        })
    }

    fn gate_channels(&mut self, x: &O::V, gate: &O::V, act: Act) -> Result<O::V> {
        let count = |c: &mut CostOps, s: &[Shape]| c.gate_channels(&s[0], &s[1], act);
        self.op(OpKind::GateChannels, "", &[x, gate], count, |o| {
            o.gate_channels(x, gate, act)
        })
    }

    fn to_tokens(&mut self, x: &O::V) -> Result<O::V> {
        let count = |c: &mut CostOps, s: &[Shape]| c.to_tokens(&s[0]);
        self.op(OpKind::ToTokens, "", &[x], count, |o| o.to_tokens(x))
    }

    fn to_map(&mut self, x: &O::V, h: usize, w: usize) -> Result<O::V> {
        let count = |c: &mut CostOps, s: &[Shape]| c.to_map(&s[0], h, w);
        self.op(OpKind::ToMap, "", &[x], count, |o| o.to_map(x, h, w))
    }

    fn prepend_token(&mut self, x: &O::V, name: &str) -> Result<O::V> {
        let count = |c: &mut CostOps, s: &[Shape]| c.prepend_token(&s[0], name);
        self.op(OpKind::PrependToken, name, &[x], count, |o| {
            o.prepend_token(x, name)
        })
    }

    fn add_positions(&mut self, x: &O::V, name: &str) -> Result<O::V> {
        let count = |c: &mut CostOps, s: &[Shape]| c.add_positions(&s[0], name);
        self.op(OpKind::AddPositions, name, &[x], count, |o| {
            o.add_positions(x, name)
        })
    }

    fn take_tokens(&mut self, x: &O::V, take: Take) -> Result<O::V> {
        let count = |c: &mut CostOps, s: &[Shape]| c.take_tokens(&s[0], take);
        self.op(OpKind::TakeTokens, "", &[x], count, |o| {
            o.take_tokens(x, take)
        })
    }

    fn concat_channels(&mut self, xs: &[O::V]) -> Result<O::V> {
        let inputs: Vec<&O::V> = xs.iter().collect();
        let count = |c: &mut CostOps, s: &[Shape]| c.concat_channels(s);
        self.op(OpKind::ConcatChannels, "", &inputs, count, |o| {
            o.concat_channels(xs)
        })
    }

    fn concat_tokens(&mut self, xs: &[O::V]) -> Result<O::V> {
        let inputs: Vec<&O::V> = xs.iter().collect();
        let count = |c: &mut CostOps, s: &[Shape]| c.concat_tokens(s);
        self.op(OpKind::ConcatTokens, "", &inputs, count, |o| {
            o.concat_tokens(xs)
        })
    }

    fn regroup(&mut self, x: &O::V, batch: usize) -> Result<O::V> {
        let count = |c: &mut CostOps, s: &[Shape]| c.regroup(&s[0], batch);
        self.op(OpKind::Regroup, "", &[x], count, |o| o.regroup(x, batch))
    }

    fn mix_tokens(&mut self, x: &O::V, mix: &Mix) -> Result<O::V> {
        let count = |c: &mut CostOps, s: &[Shape]| c.mix_tokens(&s[0], mix);
        self.op(OpKind::MixTokens, "", &[x], count, |o| o.mix_tokens(x, mix))
    }

    fn reduce_tokens(
        &mut self,
        x: &O::V,
        clue: &O::V,
        heads: Heads,
        by: &dyn Reducer,
    ) -> Result<O::V> {
        let count = |c: &mut CostOps, s: &[Shape]| c.reduce_tokens(&s[0], &s[1], heads, by);
        self.op(OpKind::ReduceTokens, "", &[x, clue], count, |o| {
            o.reduce_tokens(x, clue, heads, by)
        })
    }

    fn embed(&mut self, ids: &[u32], p: &Embedding) -> Result<O::V> {
        let count = |c: &mut CostOps, _: &[Shape]| c.embed(ids, p);
        self.op(OpKind::Embed, &p.name, &[], count, |o| o.embed(ids, p))
    }

    fn rotary(&mut self, qkv: &O::V, heads: Heads, theta: f32) -> Result<O::V> {
        let count = |c: &mut CostOps, s: &[Shape]| c.rotary(&s[0], heads, theta);
        self.op(OpKind::Rotary, "", &[qkv], count, |o| {
            o.rotary(qkv, heads, theta)
        })
    }

    fn attention(&mut self, qkv: &O::V, heads: Heads) -> Result<O::V> {
        let count = |c: &mut CostOps, s: &[Shape]| c.attention(&s[0], heads);
        self.op(OpKind::Attention, "", &[qkv], count, |o| {
            o.attention(qkv, heads)
        })
    }

    fn cross_attention(
        &mut self,
        q: &O::V,
        keys: &[O::V],
        values: &[O::V],
        heads: usize,
        hidden: Option<&[bool]>,
    ) -> Result<O::V> {
        let inputs: Vec<&O::V> = [q].into_iter().chain(keys).chain(values).collect();
        let n = keys.len();
        let count = |c: &mut CostOps, s: &[Shape]| {
            c.cross_attention(&s[0], &s[1..=n], &s[1 + n..], heads, hidden)
        };
        self.op(OpKind::CrossAttention, "", &inputs, count, |o| {
            o.cross_attention(q, keys, values, heads, hidden)
        })
    }

    fn cached_attention(&mut self, qkv: &O::V, heads: Heads, layer: usize) -> Result<O::V> {
        let count = |c: &mut CostOps, s: &[Shape]| c.cached_attention(&s[0], heads, layer);
        self.op(OpKind::CachedAttention, "", &[qkv], count, |o| {
            o.cached_attention(qkv, heads, layer)
        })
    }

    fn glu(&mut self, gate_up: &O::V, act: Act) -> Result<O::V> {
        let count = |c: &mut CostOps, s: &[Shape]| c.glu(&s[0], act);
        self.op(OpKind::Glu, "", &[gate_up], count, |o| o.glu(gate_up, act))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::nets::registry::{DECODERS, ENCODERS, find};
    use crate::nets::{EncoderConfig, MultiScaleConfig, Pooling, decoder};

    /// Adds up what it is told, by stage.
    #[derive(Default)]
    struct Sums {
        stages: BTreeMap<String, (u64, u64)>,
        kinds: BTreeMap<OpKind, usize>,
        open: bool,
    }

    impl Observer for Sums {
        fn enter(&mut self, op: &OpEvent<'_>) {
            assert!(!self.open, "operations do not nest");
            self.open = true;
            let sum = self.stages.entry(op.stage.to_owned()).or_default();
            sum.0 += op.flops;
            sum.1 += op.bytes;
            *self.kinds.entry(op.kind).or_default() += 1;
        }

        fn leave(&mut self) {
            assert!(self.open, "a leave without its enter");
            self.open = false;
        }
    }

    /// Runs a network on shapes, traced and not; the sums must agree stage by
    /// stage.
    fn check(past: usize, network: impl Fn(&mut dyn Run) -> Result<()>) -> Sums {
        let mut plain = CostOps::new(2, past);
        network(&mut plain).unwrap();
        let (cost, _) = plain.finish();
        let mut sums = Sums::default();
        let meter = Meter {
            element_bytes: 2,
            mix: None,
            past: past.into(),
        };
        let mut traced = Traced::new(CostOps::new(2, past), Some(&mut sums), meter);
        network(&mut traced).unwrap();
        let (inner, _) = traced.inner.finish();
        assert_eq!(inner, cost, "the inner interpreter sees the same network");
        let counted: BTreeMap<String, (u64, u64)> = (cost.stages.iter())
            .map(|s| (s.name.clone(), (s.flops, s.bytes)))
            .collect();
        assert_eq!(sums.stages, counted);
        assert!(!sums.open);
        sums
    }

    /// What the tests run on both interpreters.
    trait Run {
        fn encode(&mut self, config: &EncoderConfig, side: usize) -> Result<()>;
        fn decode(&mut self, config: &crate::nets::DecoderConfig, tokens: usize) -> Result<()>;
    }

    impl<O: Ops<V = Shape>> Run for O {
        fn encode(&mut self, config: &EncoderConfig, side: usize) -> Result<()> {
            let pixels = Shape::Map {
                b: 1,
                c: 3,
                h: side,
                w: side,
            };
            config.forward(self, &pixels).map(|_| ())
        }

        fn decode(&mut self, config: &crate::nets::DecoderConfig, tokens: usize) -> Result<()> {
            let x = decoder::embed(self, config, &vec![0; tokens])?;
            decoder::forward(self, config, &x).map(|_| ())
        }
    }

    #[test]
    fn the_operations_of_every_network_add_up_to_its_cost() {
        for entry in ENCODERS {
            let config = (entry.config)();
            let side = config.vit().map_or(64, |c| c.image);
            let sums = check(0, |ops| ops.encode(&config, side));
            let seen = |kind| sums.kinds.contains_key(&kind);
            assert!(seen(OpKind::Linear) || seen(OpKind::Mlp));
            let attends = !matches!(config, EncoderConfig::ConvNext(_));
            assert_eq!(seen(OpKind::Attention), attends, "{}", entry.name);
            let kernel = match config {
                EncoderConfig::Vitamin(_) => 3,
                _ => 7,
            };
            let depthwise = OpKind::Depthwise { kernel, stride: 1 };
            let convolves = !matches!(config, EncoderConfig::Vit(_));
            assert_eq!(seen(depthwise), convolves, "{}", entry.name);
        }
        for pool in [Pooling::Average, Pooling::Depthwise] {
            let fastvit = (find("encoder", ENCODERS, "fastvit-mci0").unwrap().config)();
            let config = MultiScaleConfig::around(fastvit, &[0, 2], pool).unwrap();
            let sums = check(0, |ops| ops.encode(&config, 64));
            assert_eq!(sums.kinds[&OpKind::ConcatChannels], 1);
            assert!(sums.stages.contains_key("scales"));
        }
        for entry in DECODERS {
            let config = (entry.config)();
            let prefill = check(0, |ops| ops.decode(&config, 5));
            assert_eq!(prefill.kinds[&OpKind::CachedAttention], config.layers);
            check(5, |ops| ops.decode(&config, 1));
        }
    }

    #[test]
    fn a_failing_operation_is_left_too_and_without_an_observer_nothing_is_counted() {
        let meter = Meter {
            element_bytes: 4,
            mix: None,
            past: Past::default(),
        };
        let tokens = Shape::Tokens { b: 1, n: 4, d: 8 };
        let mut sums = Sums::default();
        let mut traced = Traced::new(CostOps::new(4, 0), Some(&mut sums), meter);
        assert!(traced.global_mean(&tokens).is_err());
        assert!(traced.take_tokens(&tokens, Take::Last(2)).is_ok());
        assert!(!sums.open);
        let mut plain = Traced::new(CostOps::new(4, 0), None, meter);
        assert!(plain.global_mean(&tokens).is_err());
        assert!(plain.take_tokens(&tokens, Take::Last(2)).is_ok());
    }

    #[test]
    fn kinds_read_like_kernels() {
        let kind = OpKind::Depthwise {
            kernel: 7,
            stride: 2,
        };
        assert_eq!(kind.to_string(), "depthwise 7x7 s2");
        let kind = OpKind::Conv {
            kernel: 3,
            stride: 1,
        };
        assert_eq!(kind.to_string(), "conv 3x3 s1");
        assert_eq!(OpKind::CachedAttention.to_string(), "cached attention");
    }
}
