//! The `cost` interpreter: what a network costs, without weights or tensors.
//!
//! It walks the same source as the engines and adds up, per named stage, FLOPs,
//! parameters, bytes and the activation peak; on the way it collects the
//! parameter inventory. FLOPs follow torch's flop counter: convolutions and
//! matrix products, attention included, with one multiply-add as 2, over the
//! full square of attention scores (causal masking is not discounted); norms,
//! activations and softmax are not counted.

use std::collections::HashSet;

use crate::blocks::mix::BlockMix;
use crate::error::{Error, Result};
use crate::mix::Mix;
use crate::nets::Past;
use crate::ops::{Act, Conv, Depthwise, Embedding, Heads, Linear, Norm, Ops, Pool, Shape, Take};
use crate::params::{ParamKind, ParamSpec};
use crate::reduce::Reducer;

/// Costs of one stage.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct StageCost {
    /// Stage name; stages entered again add to their first entry.
    pub name: String,
    /// Floating-point operations, a multiply-add as 2.
    pub flops: u64,
    /// Distinct parameters first used in the stage.
    pub params: u64,
    /// Bytes read and written: parameters once, inputs and outputs of every
    /// operation, cached keys and values.
    pub bytes: u64,
    /// Largest input plus output of one operation, bytes.
    pub activation_peak: u64,
}

/// Costs of a network by stage.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct Cost {
    /// Stages in order of first entry.
    pub stages: Vec<StageCost>,
}

impl Cost {
    /// Total FLOPs.
    pub fn flops(&self) -> u64 {
        self.stages.iter().map(|s| s.flops).sum()
    }

    /// Total parameters.
    pub fn params(&self) -> u64 {
        self.stages.iter().map(|s| s.params).sum()
    }

    /// Total bytes moved.
    pub fn bytes(&self) -> u64 {
        self.stages.iter().map(|s| s.bytes).sum()
    }

    /// The costs of running the network `times` times, one run after another.
    pub fn times(mut self, times: usize) -> Cost {
        for stage in &mut self.stages {
            stage.flops *= times as u64;
            stage.bytes *= times as u64;
        }
        self
    }

    /// Largest activation peak of any stage, bytes.
    pub fn activation_peak(&self) -> u64 {
        self.stages
            .iter()
            .map(|s| s.activation_peak)
            .max()
            .unwrap_or(0)
    }
}

/// The interpreter. A value is its [`Shape`].
pub struct CostOps {
    element_bytes: u64,
    mix: Option<BlockMix>,
    past: Past,
    cost: Cost,
    current: usize,
    scope: String,
    params: Vec<ParamSpec>,
    seen: HashSet<String>,
}

impl CostOps {
    /// Counts for scalars of `element_bytes` bytes, with `past` already in the KV
    /// cache.
    pub fn new(element_bytes: usize, past: impl Into<Past>) -> CostOps {
        CostOps {
            element_bytes: element_bytes as u64,
            mix: None,
            past: past.into(),
            cost: Cost::default(),
            current: 0,
            scope: String::new(),
            params: Vec::new(),
            seen: HashSet::new(),
        }
    }

    /// The same for a decoder whose matrices are held in blocks.
    pub fn with_mix(self, mix: Option<BlockMix>) -> CostOps {
        CostOps { mix, ..self }
    }

    /// The costs and the inventory, in order of first use.
    pub fn finish(self) -> (Cost, Vec<ParamSpec>) {
        (self.cost, self.params)
    }

    fn here(&mut self) -> &mut StageCost {
        if self.cost.stages.is_empty() {
            self.stage("network");
        }
        &mut self.cost.stages[self.current]
    }

    fn param(&mut self, name: String, shape: Vec<usize>, kind: ParamKind) {
        let name = format!("{}{name}", self.scope);
        let spec = ParamSpec { name, shape, kind };
        let elements = spec.elements() as u64;
        // A table is read by row; the rows are part of the operation's bytes.
        let read = if kind == ParamKind::Table {
            0
        } else {
            let blocks = self.mix.as_ref().and_then(|mix| mix.bytes(&spec));
            blocks.unwrap_or(elements * self.element_bytes)
        };
        let new = self.seen.insert(spec.name.clone());
        let here = self.here();
        here.bytes += read;
        if new {
            here.params += elements;
            self.params.push(spec);
        } else if spec.kind == ParamKind::Linear
            && let Some(known) = self.params.iter_mut().find(|p| p.name == spec.name)
        {
            // A table that a product reads as well (tied embeddings).
            known.kind = ParamKind::Linear;
        }
    }

    /// Accounts for one operation and returns its output.
    fn op(&mut self, flops: usize, inputs: &[Shape], out: Shape) -> Shape {
        let elements = inputs.iter().map(Shape::elements).sum::<usize>() + out.elements();
        let moved = elements as u64 * self.element_bytes;
        let here = self.here();
        here.flops += flops as u64;
        here.bytes += moved;
        here.activation_peak = here.activation_peak.max(moved);
        out
    }

    fn attend(&mut self, qkv: Shape, heads: Heads, past: usize) -> Result<Shape> {
        let (b, n) = tokens("attention", "qkv", qkv)?;
        expect("attention", "qkv", heads.packed(), qkv.channels())?;
        let total = past + n;
        let flops = 2 * 2 * b * n * total * heads.width();
        let cached = Shape::Tokens {
            b,
            n: past,
            d: 2 * heads.kv_heads * heads.head_dim,
        };
        let out = Shape::Tokens {
            b,
            n,
            d: heads.width(),
        };
        Ok(self.op(flops, &[qkv, cached], out))
    }
}

fn first_of<'a>(op: &'static str, xs: &'a [Shape]) -> Result<&'a Shape> {
    xs.first().ok_or_else(|| Error::Shape {
        op,
        name: String::new(),
        expected: "at least one value".into(),
        got: "none".into(),
    })
}

fn expect(op: &'static str, name: &str, expected: usize, got: usize) -> Result<()> {
    if expected == got {
        return Ok(());
    }
    Err(Error::Shape {
        op,
        name: name.into(),
        expected: format!("{expected} channels"),
        got: format!("{got}"),
    })
}

/// Output side of a convolution.
fn convolved(side: usize, kernel: usize, stride: usize, padding: usize) -> usize {
    (side + 2 * padding).saturating_sub(kernel) / stride + 1
}

fn map(op: &'static str, name: &str, x: Shape) -> Result<(usize, usize, usize)> {
    match x {
        Shape::Map { b, h, w, .. } => Ok((b, h, w)),
        Shape::Tokens { .. } => Err(Error::Shape {
            op,
            name: name.into(),
            expected: "a feature map".into(),
            got: format!("{x:?}"),
        }),
    }
}

fn tokens(op: &'static str, name: &str, x: Shape) -> Result<(usize, usize)> {
    match x {
        Shape::Tokens { b, n, .. } => Ok((b, n)),
        Shape::Map { .. } => Err(Error::Shape {
            op,
            name: name.into(),
            expected: "tokens".into(),
            got: format!("{x:?}"),
        }),
    }
}

impl Ops for CostOps {
    type V = Shape;

    fn shape(&self, x: &Shape) -> Shape {
        *x
    }

    fn scope(&mut self, scope: &str) {
        scope.clone_into(&mut self.scope);
    }

    fn stage(&mut self, name: &str) {
        let name = format!("{}{name}", self.scope);
        let stages = &mut self.cost.stages;
        self.current = stages
            .iter()
            .position(|s| s.name == name)
            .unwrap_or_else(|| {
                stages.push(StageCost {
                    name,
                    ..StageCost::default()
                });
                stages.len() - 1
            });
    }

    fn conv(&mut self, x: &Shape, p: &Conv) -> Result<Shape> {
        let (b, h, w) = map("conv", &p.name, *x)?;
        expect("conv", &p.name, p.c_in, x.channels())?;
        let side = |s| convolved(s, p.kernel, p.stride, p.padding);
        let out = Shape::Map {
            b,
            c: p.c_out,
            h: side(h),
            w: side(w),
        };
        self.param(
            format!("{}.weight", p.name),
            vec![p.c_out, p.c_in, p.kernel, p.kernel],
            ParamKind::Conv,
        );
        if p.bias {
            self.param(format!("{}.bias", p.name), vec![p.c_out], ParamKind::Bias);
        }
        let flops = 2 * out.elements() * p.c_in * p.kernel * p.kernel;
        Ok(self.op(flops, &[*x], out))
    }

    fn depthwise(&mut self, x: &Shape, p: &Depthwise) -> Result<Shape> {
        let (b, h, w) = map("depthwise", &p.name, *x)?;
        expect("depthwise", &p.name, p.channels, x.channels())?;
        let c = p.channels * p.multiplier;
        let side = |s| convolved(s, p.kernel, p.stride, p.padding);
        let out = Shape::Map {
            b,
            c,
            h: side(h),
            w: side(w),
        };
        self.param(
            format!("{}.weight", p.name),
            vec![c, 1, p.kernel, p.kernel],
            ParamKind::Depthwise,
        );
        self.param(format!("{}.bias", p.name), vec![c], ParamKind::Bias);
        let flops = 2 * out.elements() * p.kernel * p.kernel;
        Ok(self.op(flops, &[*x], out))
    }

    fn linear(&mut self, x: &Shape, p: &Linear, residual: Option<&Shape>) -> Result<Shape> {
        expect("linear", &p.name, p.d_in, x.channels())?;
        let out = x.with_channels(p.d_out);
        if let Some(r) = residual
            && *r != out
        {
            return Err(Error::Shape {
                op: "linear residual",
                name: p.name.clone(),
                expected: format!("{out:?}"),
                got: format!("{r:?}"),
            });
        }
        self.param(
            format!("{}.weight", p.name),
            vec![p.d_out, p.d_in],
            ParamKind::Linear,
        );
        if p.bias {
            self.param(format!("{}.bias", p.name), vec![p.d_out], ParamKind::Bias);
        }
        let flops = 2 * x.rows() * p.d_in * p.d_out;
        let mut inputs = vec![*x];
        inputs.extend(residual);
        Ok(self.op(flops, &inputs, out))
    }

    fn layer_norm(&mut self, x: &Shape, p: &Norm) -> Result<Shape> {
        expect("layer norm", &p.name, p.dim, x.channels())?;
        self.param(format!("{}.weight", p.name), vec![p.dim], ParamKind::Scale);
        self.param(format!("{}.bias", p.name), vec![p.dim], ParamKind::Bias);
        Ok(self.op(0, &[*x], *x))
    }

    fn rms_norm(&mut self, x: &Shape, p: &Norm) -> Result<Shape> {
        expect("rms norm", &p.name, p.dim, x.channels())?;
        self.param(format!("{}.weight", p.name), vec![p.dim], ParamKind::Scale);
        Ok(self.op(0, &[*x], *x))
    }

    fn global_mean(&mut self, x: &Shape) -> Result<Shape> {
        let (b, _, _) = map("global mean", "", *x)?;
        let out = Shape::Tokens {
            b,
            n: 1,
            d: x.channels(),
        };
        Ok(self.op(0, &[*x], out))
    }

    fn average_pool(&mut self, x: &Shape, p: Pool) -> Result<Shape> {
        let (b, h, w) = map("average pool", "", *x)?;
        let (h, w) = (p.out_side(h)?, p.out_side(w)?);
        let c = x.channels();
        Ok(self.op(0, &[*x], Shape::Map { b, c, h, w }))
    }

    fn gate_channels(&mut self, x: &Shape, gate: &Shape, _act: Act) -> Result<Shape> {
        map("gate", "", *x)?;
        expect("gate", "", x.channels(), gate.channels())?;
        Ok(self.op(0, &[*x, *gate], *x))
    }

    fn to_tokens(&mut self, x: &Shape) -> Result<Shape> {
        let (b, h, w) = map("to tokens", "", *x)?;
        Ok(Shape::Tokens {
            b,
            n: h * w,
            d: x.channels(),
        })
    }

    fn to_map(&mut self, x: &Shape, h: usize, w: usize) -> Result<Shape> {
        let (b, n) = tokens("to map", "", *x)?;
        if n != h * w {
            return Err(Error::Shape {
                op: "to map",
                name: String::new(),
                expected: format!("{} tokens", h * w),
                got: format!("{n}"),
            });
        }
        Ok(Shape::Map {
            b,
            c: x.channels(),
            h,
            w,
        })
    }

    fn prepend_token(&mut self, x: &Shape, name: &str) -> Result<Shape> {
        let (b, n) = tokens("prepend token", name, *x)?;
        let d = x.channels();
        self.param(name.into(), vec![d], ParamKind::Bias);
        Ok(self.op(0, &[*x], Shape::Tokens { b, n: n + 1, d }))
    }

    fn add_positions(&mut self, x: &Shape, name: &str) -> Result<Shape> {
        let (_, n) = tokens("add positions", name, *x)?;
        self.param(name.into(), vec![n, x.channels()], ParamKind::Table);
        Ok(self.op(0, &[*x], *x))
    }

    fn take_tokens(&mut self, x: &Shape, take: Take) -> Result<Shape> {
        let (b, n) = tokens("take tokens", "", *x)?;
        let (_, len) = take.range(n)?;
        Ok(Shape::Tokens {
            b,
            n: len,
            d: x.channels(),
        })
    }

    fn concat_channels(&mut self, xs: &[Shape]) -> Result<Shape> {
        let first = *first_of("concat channels", xs)?;
        for x in xs {
            let same = first.with_channels(x.channels());
            if *x != same {
                return Err(Error::Shape {
                    op: "concat channels",
                    name: String::new(),
                    expected: format!("{same:?}"),
                    got: format!("{x:?}"),
                });
            }
        }
        let c = xs.iter().map(Shape::channels).sum();
        Ok(self.op(0, xs, first.with_channels(c)))
    }

    fn concat_tokens(&mut self, xs: &[Shape]) -> Result<Shape> {
        let first = first_of("concat tokens", xs)?;
        let (b, _) = tokens("concat tokens", "", *first)?;
        let mut total = 0;
        for x in xs {
            expect("concat tokens", "", first.channels(), x.channels())?;
            total += tokens("concat tokens", "", *x)?.1;
        }
        let out = Shape::Tokens {
            b,
            n: total,
            d: first.channels(),
        };
        Ok(self.op(0, xs, out))
    }

    fn regroup(&mut self, x: &Shape, batch: usize) -> Result<Shape> {
        let (b, n) = tokens("regroup", "", *x)?;
        if batch == 0 || !(b * n).is_multiple_of(batch) {
            return Err(Error::Shape {
                op: "regroup",
                name: String::new(),
                expected: format!("a multiple of {batch} tokens"),
                got: (b * n).to_string(),
            });
        }
        let (n, d) = (b * n / batch, x.channels());
        Ok(Shape::Tokens { b: batch, n, d })
    }

    fn mix_tokens(&mut self, x: &Shape, mix: &Mix) -> Result<Shape> {
        let (b, n) = tokens("mix tokens", "", *x)?;
        mix.check(n)?;
        let d = x.channels();
        Ok(self.op(0, &[*x], Shape::Tokens { b, n: mix.len(), d }))
    }

    fn reduce_tokens(
        &mut self,
        x: &Shape,
        clue: &Shape,
        heads: Heads,
        by: &dyn Reducer,
    ) -> Result<Shape> {
        const OP: &str = "reduce tokens";
        let (b, n) = tokens(OP, "", *x)?;
        expect(OP, "clue", heads.packed(), clue.channels())?;
        if tokens(OP, "clue", *clue)? != (b, n) || by.tokens(n) > n {
            return Err(Error::Shape {
                op: OP,
                name: "clue".into(),
                expected: format!("{b} sequences of {n} tokens, at least {}", by.tokens(n)),
                got: format!("{clue:?}"),
            });
        }
        let out = Shape::Tokens {
            b,
            n: by.tokens(n),
            d: x.channels(),
        };
        Ok(self.op(b * by.flops(n, heads), &[*x, *clue], out))
    }

    fn embed(&mut self, ids: &[u32], p: &Embedding) -> Result<Shape> {
        self.param(
            format!("{}.weight", p.name),
            vec![p.vocab, p.dim],
            ParamKind::Table,
        );
        let out = Shape::Tokens {
            b: 1,
            n: ids.len(),
            d: p.dim,
        };
        Ok(self.op(0, &[out], out))
    }

    fn rotary(&mut self, qkv: &Shape, heads: Heads, _theta: f32) -> Result<Shape> {
        tokens("rotary", "qkv", *qkv)?;
        expect("rotary", "qkv", heads.packed(), qkv.channels())?;
        Ok(self.op(0, &[*qkv], *qkv))
    }

    fn attention(&mut self, qkv: &Shape, heads: Heads) -> Result<Shape> {
        self.attend(*qkv, heads, 0)
    }

    fn cross_attention(
        &mut self,
        q: &Shape,
        keys: &[Shape],
        values: &[Shape],
        heads: usize,
        hidden: Option<&[bool]>,
    ) -> Result<Shape> {
        const OP: &str = "cross attention";
        let (b, n) = tokens(OP, "queries", *q)?;
        let mut total = 0;
        for (k, v) in keys.iter().zip(values) {
            expect(OP, "keys", q.channels(), k.channels())?;
            if k != v || tokens(OP, "keys", *k)?.0 != b {
                return Err(Error::Shape {
                    op: OP,
                    name: "values".into(),
                    expected: format!("as many as keys, {b} batches of them"),
                    got: format!("{v:?} for {k:?}"),
                });
            }
            total += tokens(OP, "keys", *k)?.1;
        }
        let divides = heads > 0 && q.channels().is_multiple_of(heads);
        if !divides || hidden.is_some_and(|flags| flags.len() != b * total) {
            return Err(Error::Shape {
                op: OP,
                name: "heads".into(),
                expected: format!("a divisor of {}, and {} flags", q.channels(), b * total),
                got: format!("{heads}, and {} flags", hidden.map_or(0, <[bool]>::len)),
            });
        }
        let flops = 2 * 2 * b * n * total * q.channels();
        let mut inputs = vec![*q];
        inputs.extend(keys.iter().chain(values));
        Ok(self.op(flops, &inputs, *q))
    }

    fn cached_attention(&mut self, qkv: &Shape, heads: Heads, layer: usize) -> Result<Shape> {
        self.attend(*qkv, heads, self.past.at(layer))
    }

    fn glu(&mut self, gate_up: &Shape, _act: Act) -> Result<Shape> {
        tokens("glu", "", *gate_up)?;
        Ok(self.op(
            0,
            &[*gate_up],
            gate_up.with_channels(gate_up.channels() / 2),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nets::registry::{DECODERS, ENCODERS, find};
    use crate::nets::{EncoderConfig, MultiScaleConfig, Pooling, decoder};

    fn encoder_cost(name: &str, side: usize, all_layers: bool) -> Cost {
        let mut config = (find("encoder", ENCODERS, name).unwrap().config)();
        if let (EncoderConfig::Vit(c), true) = (&mut config, all_layers) {
            c.layers_run = c.layers;
        }
        cost_of(&config, side)
    }

    fn cost_of(config: &EncoderConfig, side: usize) -> Cost {
        let mut ops = CostOps::new(4, 0);
        let pixels = Shape::Map {
            b: 1,
            c: 3,
            h: side,
            w: side,
        };
        config.forward(&mut ops, &pixels).unwrap();
        ops.finish().0
    }

    /// Reference: torch.utils.flop_counter on timm 1.0.31 (re-parameterised)
    /// and transformers, GFLOP.
    #[test]
    fn encoder_flops_agree_with_torch() {
        let reference = [
            ("clip-vit-l-14-336", 336, 381.9),
            ("fastvit-mci2", 256, 15.7),
            ("fastvit-mci2", 768, 144.0),
            ("fastvithd", 256, 29.6),
            ("fastvithd", 512, 119.1),
            ("fastvithd", 768, 270.4),
            ("fastvithd", 1024, 486.7),
            ("siglip-so400m-14-384", 384, 666.4),
            ("convnext-l", 320, 140.24),
            ("convnext-xxl", 256, 395.93),
            ("dinov2-l-14", 518, 1013.6),
            ("dinov2-g-14", 518, 3566.7),
            ("vitamin-l-224", 224, 149.85),
            ("vitamin-l-384", 384, 468.16),
        ];
        for (name, side, expected) in reference {
            let got = encoder_cost(name, side, true).flops() as f64 / 1e9;
            let off = (got / expected - 1.0).abs();
            assert!(off < 0.01, "{name}@{side}: {got:.1} against {expected}");
        }
    }

    /// Reference: as above, with average pools or depthwise convolutions of
    /// kernel and stride 8, 4 and 2 on the outputs of the first three stages.
    #[test]
    fn several_scales_cost_what_pools_them() {
        let config = || (find("encoder", ENCODERS, "fastvit-mci2").unwrap().config)();
        let alone = cost_of(&config(), 768);
        let scaled = |pool| {
            let config = MultiScaleConfig::around(config(), &[0, 1, 2], pool).unwrap();
            assert_eq!(config.feature_dim(), 80 + 160 + 320 + 1280);
            cost_of(&config, 768)
        };
        let average = scaled(Pooling::Average);
        assert_eq!(average.flops(), alone.flops());
        assert_eq!(average.params(), alone.params());
        let learned = scaled(Pooling::Depthwise);
        assert_eq!(learned.flops() - alone.flops(), 10_321_920);
        // Kernels and biases.
        assert_eq!(learned.params() - alone.params(), 9_520);
    }

    #[test]
    fn the_unused_last_layer_is_not_counted() {
        let all = encoder_cost("clip-vit-l-14-336", 336, true);
        let used = encoder_cost("clip-vit-l-14-336", 336, false);
        assert!(used.flops() < all.flops() * 97 / 100);
    }

    #[test]
    fn parameters_equal_the_published_counts() {
        assert_eq!(
            encoder_cost("fastvithd", 256, false).params(),
            122_714_208 - bn(&FASTVITHD)
        );
        assert_eq!(
            encoder_cost("fastvit-mci2", 256, false).params(),
            35_047_120 - bn(&MCI2) + qkv_bias()
        );
        // 26 layers, without the norm and the pooling after them.
        assert_eq!(
            encoder_cost("siglip-so400m-14-384", 384, false).params(),
            397_745_440
        );
        assert_eq!(encoder_cost("convnext-l", 320, false).params(), 196_200_192);
        assert_eq!(
            encoder_cost("convnext-xxl", 256, false).params(),
            843_332_352
        );
        // Without the layer scales, which we fold, and the mask token.
        assert_eq!(
            encoder_cost("dinov2-l-14", 518, false).params(),
            304_318_464
        );
        assert_eq!(
            encoder_cost("dinov2-g-14", 518, false).params(),
            1_136_356_352
        );
        // Without the norm after pooling and the head.
        assert_eq!(
            encoder_cost("vitamin-l-224", 224, false).params(),
            332_529_568
        );
        assert_eq!(
            encoder_cost("vitamin-l-384", 384, false).params(),
            332_918_688
        );
    }

    const FASTVITHD: [(u64, u64); 5] = [(2, 96), (12, 192), (24, 384), (4, 768), (2, 1536)];
    const MCI2: [(u64, u64); 4] = [(4, 80), (12, 160), (24, 320), (4, 640)];

    /// The published inference form keeps the feed-forward batch norm (2 per
    /// channel against 1 folded bias) and the layer scales, which we fold.
    fn bn(stages: &[(u64, u64)]) -> u64 {
        let last = stages.len();
        stages
            .iter()
            .enumerate()
            .map(|(i, (blocks, dim))| {
                let attention = i + if last == 5 { 2 } else { 1 } >= last;
                blocks * dim * (1 + 1 + u64::from(attention))
            })
            .sum()
    }

    /// MCi2's attention batch norm, 2 per channel, becomes a bias of 3: one more.
    fn qkv_bias() -> u64 {
        4 * 640
    }

    #[test]
    fn decoder_flops_and_parameters() {
        let c = (find("decoder", DECODERS, "qwen2-0.5b").unwrap().config)();
        let mut ops = CostOps::new(4, 0);
        let x = decoder::embed(&mut ops, &c, &[0; 320]).unwrap();
        decoder::forward(&mut ops, &c, &x).unwrap();
        let (cost, params) = ops.finish();
        let gflop = cost.flops() as f64 / 1e9;
        assert!((gflop / 238.1 - 1.0).abs() < 0.01, "{gflop}");
        assert_eq!(cost.params(), 494_032_768);
        assert!(params.iter().all(|p| p.name != "head.weight"));
    }

    /// Published counts; of MobileLLaMA and Qwen1.5 transformers' for their numbers.
    #[test]
    fn decoders_have_as_many_parameters_as_published() {
        for (name, expected) in [
            ("llama-3-8b", 8_030_261_248),
            ("mobilellama-1.4b", 1_364_297_728),
            ("qwen1.5-0.5b", 463_987_712),
            ("qwen2-1.5b", 1_543_714_304),
            ("qwen2-7b", 7_615_616_512),
            ("vicuna-7b", 6_738_415_616),
        ] {
            let c = (find("decoder", DECODERS, name).unwrap().config)();
            let mut ops = CostOps::new(4, 0);
            let x = decoder::embed(&mut ops, &c, &[0]).unwrap();
            decoder::forward(&mut ops, &c, &x).unwrap();
            assert_eq!(ops.finish().0.params(), expected, "{name}");
        }
    }
}
