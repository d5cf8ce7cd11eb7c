//! A model loaded onto candle.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use candle_core::{D, DType, Device, Tensor};
use rayon::ThreadPool;

use super::backend::thread_pool;
use super::kernels::rotary::RotaryTable;
use super::kernels::simd::Level;
use super::ops::{Angles, CandleOps, DecoderState, KvCache, Place};
use super::store::{Params, Storage};
use crate::anyres::Placement;
use crate::backend::{
    Features, LoadOptions, LoadedModel, ModelFacts, input_sides, prompt_positions, within,
};
use crate::blocks::mix::BlockMix;
use crate::error::{Error, Result};
use crate::image::Pixels;
use crate::nets::sva::{self, Seen};
use crate::nets::{DecoderConfig, EncoderConfig, Past, ProjectorKind, decoder, projector};
use crate::ops::Ops;
use crate::recipe::Recipe;
use crate::text::{PromptTokens, Segment};
use crate::trace::{Meter, Observer, Traced, Watch};
use crate::weights::{Inventory, Part, WeightSource};

/// A recipe's decoder is loaded with it.
const LOADED: &str = "a recipe with a decoder has it loaded";

struct LoadedDecoder {
    params: Params,
    dtype: DType,
    mix: Option<BlockMix>,
    config: DecoderConfig,
    cache: KvCache,
    angles: Angles,
}

/// A loaded model; every computation runs on the engine's own threads.
pub struct CandleModel {
    recipe: Recipe,
    facts: ModelFacts,
    place: Place,
    dtype: DType,
    pool: Arc<ThreadPool>,
    /// Pools used before, kept with their threads' buffers.
    idle_pools: Vec<Arc<ThreadPool>>,
    observer: Option<Box<dyn Observer>>,
    vision: Params,
    projector: Params,
    decoder: Option<LoadedDecoder>,
}

impl CandleModel {
    /// Pulls the weights of every part and allocates the KV cache.
    pub fn load(
        recipe: &Recipe,
        inventory: &Inventory,
        source: &dyn WeightSource,
        options: LoadOptions,
        storage: &Storage<'_>,
        pool: Arc<ThreadPool>,
    ) -> Result<CandleModel> {
        let Storage { dtype, place, .. } = *storage;
        if let Some(gpu) = place.gpu() {
            gpu.runtime().reset_peak_memory();
        }
        let mut loaded: Vec<(Part, Params)> = Vec::new();
        for (part, specs) in &inventory.parts {
            let params = pool.install(|| Params::load(source, *part, specs, storage))?;
            loaded.push((*part, params));
        }
        let part = |wanted| {
            loaded
                .iter()
                .find(|(part, _)| *part == wanted)
                .map_or_else(|| Params::none(place), |(_, params)| params.clone())
        };
        let decoder = match &recipe.decoder {
            None => None,
            Some(d) => {
                let c = d.config.clone();
                let context = options.positions(&c)?;
                // Of a prompt with one image.
                let dropped = match recipe.encoder {
                    Some(_) => c.past(context, [recipe.input_tokens()?]).dropped,
                    None => 0,
                };
                Some(LoadedDecoder {
                    params: part(Part::Decoder),
                    dtype,
                    mix: storage.mix.cloned(),
                    cache: KvCache::new(&c, context, dropped, dtype, place.device())?,
                    angles: Angles::new(
                        RotaryTable::new(c.rope_theta, c.head_dim, context),
                        place,
                    )?,
                    config: c,
                })
            }
        };
        let facts = ModelFacts {
            param_bytes: loaded.iter().map(|(_, p)| p.bytes()).sum(),
            context: decoder.as_ref().map_or(0, |d| d.cache.capacity()),
            ..ModelFacts::of(inventory, source)
        };
        Ok(CandleModel {
            recipe: recipe.clone(),
            facts,
            place: place.clone(),
            dtype,
            vision: part(Part::Vision),
            projector: part(Part::Projector),
            decoder,
            pool,
            idle_pools: Vec::new(),
            observer: None,
        })
    }

    fn features(&self, tensors: Vec<Tensor>, seen: Option<Seen<Tensor>>) -> Result<Features> {
        let held = Held { tensors, seen };
        let first = held.only().ok().map(Tensor::dims3).transpose()?;
        // Those of several encoders have channels of their own.
        let apart = held
            .tensors
            .iter()
            .map(|t| t.dim(1))
            .sum::<candle_core::Result<_>>()?;
        let (inputs, tokens, dim) = first.unwrap_or((1, apart, 0));
        Ok(Features {
            inputs,
            tokens,
            dim,
            value: Box::new(held),
        })
    }
}

/// What features are here.
struct Held {
    /// `(inputs, tokens, dim)`; of several encoders one each.
    tensors: Vec<Tensor>,
    /// What samplers in the decoder see, of projected features.
    seen: Option<Seen<Tensor>>,
}

impl Held {
    fn only(&self) -> Result<&Tensor> {
        match self.tensors.as_slice() {
            [one] => Ok(one),
            several => Err(Error::Shape {
                op: "features",
                name: "value".into(),
                expected: "features of one encoder".into(),
                got: format!("those of {}", several.len()),
            }),
        }
    }
}

/// What the features are here.
fn held(f: &Features) -> Result<&Held> {
    f.value("candle")
}

/// Those of one encoder, or projected.
fn tensor(f: &Features) -> Result<&Tensor> {
    held(f)?.only()
}

/// Pixels `(channels, height, width)` as channels-last maps: one map of all
/// inputs, or, for several encoders (`apart`), one of each.
fn upload(inputs: &[Pixels], apart: bool, dtype: DType, device: &Device) -> Result<Vec<Tensor>> {
    let map = |pixels: &Pixels| -> Result<Tensor> {
        let shape = (1, pixels.channels, pixels.height, pixels.width);
        let t = Tensor::from_slice(&pixels.data, shape, device)?;
        Ok(t.permute((0, 2, 3, 1))?.contiguous()?.to_dtype(dtype)?)
    };
    let maps = inputs.iter().map(map).collect::<Result<Vec<_>>>()?;
    match maps.len() {
        2.. if !apart => Ok(vec![Tensor::cat(&maps, 0)?]),
        _ => Ok(maps),
    }
}

/// What operations on `dtype` are counted with, after `past`.
fn meter(dtype: DType, mix: Option<&BlockMix>, past: impl Into<Past>) -> Meter<'_> {
    Meter {
        element_bytes: dtype.size_in_bytes(),
        mix,
        past: past.into(),
    }
}

impl LoadedDecoder {
    fn ops<'a>(&'a self, observer: Watch<'a>) -> Traced<'a, CandleOps<'a>> {
        let state = DecoderState {
            cache: &self.cache,
            angles: &self.angles,
        };
        let ops = CandleOps::with_state(&self.params, state);
        let meter = meter(self.dtype, self.mix.as_ref(), self.cache.past());
        Traced::new(ops, observer, meter)
    }

    /// Tokens that are dropped of the images of a prompt.
    fn dropped(&self, images: &[Range<usize>]) -> usize {
        let images = images.iter().map(Range::len);
        self.config.past(0, images).dropped
    }

    /// Runs new positions, `images` among them, and returns the last one's logits;
    /// `after` changes the hidden states after each layer.
    fn forward(
        &mut self,
        embeddings: &Tensor,
        images: &[Range<usize>],
        observer: Watch<'_>,
        after: impl FnMut(&mut Traced<'_, CandleOps<'_>>, usize, Tensor) -> Result<Tensor>,
    ) -> Result<Vec<f32>> {
        let (_, n, _) = embeddings.dims3()?;
        within(self.cache.past().positions, n, self.cache.capacity())?;
        let mut ops = self.ops(observer);
        let logits = decoder::forward_with(&mut ops, &self.config, embeddings, images, after)?;
        self.cache.advance(n, self.dropped(images));
        let logits = logits.flatten_all()?.to_dtype(DType::F32)?;
        // Copying waits for the host, too.
        self.params.place().end()?;
        Ok(logits.to_vec1()?)
    }
}

impl LoadedModel for CandleModel {
    fn facts(&self) -> &ModelFacts {
        &self.facts
    }

    fn encode(&mut self, inputs: &[Pixels]) -> Result<Features> {
        let encoder = self.recipe.encoder()?;
        input_sides(&self.recipe, inputs)?;
        self.place.begin()?;
        let watch = self.observer.as_deref_mut();
        let apart = matches!(encoder.config, EncoderConfig::Towers(_));
        let features = self.pool.install(|| -> Result<Vec<Tensor>> {
            let inputs = upload(inputs, apart, self.dtype, self.place.device())?;
            let ops = CandleOps::new(&self.vision);
            let mut ops = Traced::new(ops, watch, meter(self.dtype, None, 0));
            encoder.config.encode(&mut ops, &inputs)
        })?;
        self.features(features, None)
    }

    fn project(&mut self, inputs: &[Features], place: &Placement) -> Result<Features> {
        let c = self.recipe.projector()?;
        Features::check(inputs, place)?;
        self.place.begin()?;
        if let (ProjectorKind::Sva(sva), [features]) = (&c.kind, inputs) {
            let features = &held(features)?.tensors;
            let watch = self.observer.as_deref_mut();
            let (y, seen) = self.pool.install(|| {
                let ops = CandleOps::new(&self.projector);
                let mut ops = Traced::new(ops, watch, meter(self.dtype, None, 0));
                projector::aggregate(&mut ops, c, sva, features, place)
            })?;
            return self.features(vec![y], Some(seen));
        }
        let mix = self.recipe.arrangement(place)?;
        let tensors = inputs.iter().map(tensor).collect::<Result<Vec<_>>>()?;
        let watch = self.observer.as_deref_mut();
        let y = self.pool.install(|| -> Result<Tensor> {
            let ops = CandleOps::new(&self.projector);
            let mut ops = Traced::new(ops, watch, meter(self.dtype, None, 0));
            let mut projected = Vec::with_capacity(tensors.len());
            for x in tensors {
                let y = projector::forward(&mut ops, c, x)?;
                let (inputs, tokens, dim) = y.dims3()?;
                projected.push(y.reshape((1, inputs * tokens, dim))?);
            }
            let x = match projected.as_slice() {
                [only] => only.clone(),
                several => ops.concat_tokens(several)?,
            };
            match &mix {
                None => Ok(x),
                Some(mix) => projector::arrange(&mut ops, c, &x, mix),
            }
        })?;
        self.features(vec![y], None)
    }

    fn prefill(&mut self, prompt: &PromptTokens, images: &[Features]) -> Result<Vec<f32>> {
        let context = self.facts.context;
        self.recipe.decoder()?;
        let d = self.decoder.as_mut().expect(LOADED);
        prompt_positions(prompt, context)?;
        self.place.begin()?;
        let mut watch = self.observer.as_deref_mut();
        self.pool.install(|| {
            let spans = prompt.images();
            d.cache.clear(d.dropped(&spans))?;
            let mut ops = d.ops(watch.as_deref_mut());
            let mut parts = Vec::new();
            let mut looks = Vec::new();
            let mut position = 0;
            for segment in prompt.segments() {
                parts.push(match segment {
                    Segment::Text(ids) => decoder::embed(&mut ops, &d.config, ids)?,
                    Segment::Image { index, tokens } => {
                        let held = held(Features::of(images, *index, *tokens)?)?;
                        looks.extend(held.seen.as_ref().map(|seen| (position, seen)));
                        held.only()?.clone()
                    }
                });
                position += segment.len();
            }
            let x = ops.concat_tokens(&parts)?;
            let sva = self.recipe.projector.as_ref().map(|c| &c.kind);
            d.forward(&x, &spans, watch, |o, layer, x| match sva {
                Some(ProjectorKind::Sva(sva)) => sva::look_after(o, sva, layer, x, &looks),
                _ => Ok(x),
            })
        })
    }

    fn decode(&mut self, token: u32) -> Result<Vec<f32>> {
        self.recipe.decoder()?;
        self.place.begin()?;
        let d = self.decoder.as_mut().expect(LOADED);
        let mut watch = self.observer.as_deref_mut();
        self.pool.install(|| {
            let mut ops = d.ops(watch.as_deref_mut());
            let x = decoder::embed(&mut ops, &d.config, &[token])?;
            d.forward(&x, &[], watch, |_, _, x| Ok(x))
        })
    }

    fn read(&self, features: &Features) -> Result<Vec<f32>> {
        let mut values = Vec::new();
        for tensor in &held(features)?.tensors {
            let flat = tensor.flatten(0, D::Minus1)?.to_dtype(DType::F32)?;
            values.extend(flat.to_vec1::<f32>()?);
        }
        Ok(values)
    }

    fn synchronize(&self) -> Result<Option<Duration>> {
        match self.place.gpu() {
            Some(gpu) => Ok(gpu.runtime().lap()?),
            None => Ok(None),
        }
    }

    fn peak_device_memory(&self) -> Option<u64> {
        self.place.gpu()?.runtime().peak_memory()
    }

    fn observe(&mut self, observer: Option<Box<dyn Observer>>) -> Result<()> {
        self.observer = observer;
        Ok(())
    }

    fn use_threads(&mut self, threads: usize) -> Result<()> {
        let sized = |pool: &Arc<ThreadPool>| pool.current_num_threads() == threads;
        if sized(&self.pool) {
            return Ok(());
        }
        let idle = self.idle_pools.iter().position(sized);
        let pool = match idle {
            Some(at) => self.idle_pools.swap_remove(at),
            None => thread_pool(threads, self.pool.install(Level::current))?,
        };
        self.idle_pools
            .push(std::mem::replace(&mut self.pool, pool));
        Ok(())
    }
}
