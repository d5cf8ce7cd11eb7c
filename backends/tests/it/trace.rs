//! A model that is observed computes what it computes unobserved, and reports
//! what the cost interpreter counts.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use vlmbench_backends::backend::{Features, LoadedModel, Precision};
use vlmbench_backends::checkpoint::{SeededSource, recipe_from_folder};
use vlmbench_backends::image::Pixels;
use vlmbench_backends::recipe::Recipe;
use vlmbench_backends::reduce::Reduce;
use vlmbench_backends::text::PromptTokens;
use vlmbench_backends::trace::{Observer, OpEvent};
use vlmbench_backends::weights::{decoder_cost, encoder_cost, prefill_cost, projector_cost};

use crate::parity::{CANDLE, fixture, load, open, project};

/// Where the image stands among the ids.
const IMAGE: i64 = -200;

/// FLOPs and bytes by stage, and the number of operations.
#[derive(Clone, Debug, Default, PartialEq)]
struct Seen {
    stages: BTreeMap<String, (u64, u64)>,
    operations: usize,
}

#[derive(Clone, Default)]
struct Watcher(Arc<Mutex<Seen>>);

impl Watcher {
    fn cut(&self) -> Seen {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl Observer for Watcher {
    fn enter(&mut self, op: &OpEvent<'_>) {
        let mut seen = self.0.lock().unwrap();
        let sum = seen.stages.entry(op.stage.to_owned()).or_default();
        sum.0 += op.flops;
        sum.1 += op.bytes;
        seen.operations += 1;
    }

    fn leave(&mut self) {}
}

fn pixels(side: usize) -> Pixels {
    Pixels {
        data: (0..3 * side * side)
            .map(|i| (i % 17) as f32 / 17.0)
            .collect(),
        channels: 3,
        height: side,
        width: side,
    }
}

/// Features, logits after the prompt, logits of one step; and what was seen of
/// encoding, projecting, prefill and decoding.
fn run(model: &mut dyn LoadedModel, side: usize, watcher: &Watcher) -> (Vec<Vec<f32>>, Vec<Seen>) {
    let mut seen = Vec::new();
    watcher.cut();
    let features = model.encode(&[pixels(side)]).unwrap();
    seen.push(watcher.cut());
    let projected = project(model, &features).unwrap();
    seen.push(watcher.cut());
    let images: [Features; 1] = [projected];
    let prompt = PromptTokens::from_input_ids(&[1, 2, IMAGE, 3], None, &[images[0].tokens]);
    let prefill = model.prefill(&prompt.unwrap(), &images).unwrap();
    seen.push(watcher.cut());
    let decode = model.decode(5).unwrap();
    seen.push(watcher.cut());
    let read = model.read(&features).unwrap();
    (vec![read, prefill, decode], seen)
}

fn counted(cost: &vlmbench_backends::cost::Cost) -> BTreeMap<String, (u64, u64)> {
    let stages = cost.stages.iter();
    stages
        .map(|s| (s.name.clone(), (s.flops, s.bytes)))
        .collect()
}

fn fastvlm() -> (Recipe, Box<dyn LoadedModel>) {
    open("fastvlm/llava_qwen2")
}

#[test]
fn an_observed_run_equals_an_unobserved_one() {
    let (recipe, mut model) = fastvlm();
    let side = recipe.resolution;
    let watcher = Watcher::default();
    let (plain, silent) = run(model.as_mut(), side, &watcher);
    assert_eq!(silent, vec![Seen::default(); 4]);
    model.observe(Some(Box::new(watcher.clone()))).unwrap();
    let (observed, seen) = run(model.as_mut(), side, &watcher);
    assert_eq!(observed, plain);
    assert!(seen.iter().all(|phase| phase.operations > 0), "{seen:?}");
    model.observe(None).unwrap();
    let (after, silent) = run(model.as_mut(), side, &watcher);
    assert_eq!(after, plain);
    assert_eq!(silent, vec![Seen::default(); 4]);
}

#[test]
fn what_is_reported_is_what_was_counted_beforehand() {
    let reduced = |reduce: Value| {
        let reduce: Reduce = serde_json::from_value(reduce).unwrap();
        let recipe = recipe_from_folder(&fixture("reduce/llava")).unwrap();
        reduce.apply(recipe).unwrap()
    };
    let recipes = [
        fastvlm().0,
        reduced(json!({"fastv": {"after": 1, "tokens": 7}})),
        reduced(json!({"prumerge": {"tokens": 5}})),
    ];
    for (precision, recipe) in [Precision::F32, Precision::Bf16, Precision::Q4KM]
        .into_iter()
        .flat_map(|precision| recipes.clone().map(|recipe| (precision, recipe)))
    {
        let mut model = load(&recipe, &SeededSource::new(3), precision, CANDLE);
        let watcher = Watcher::default();
        model.observe(Some(Box::new(watcher.clone()))).unwrap();
        let (_, seen) = run(model.as_mut(), recipe.resolution, &watcher);
        let bytes = precision.bytes();
        let tokens = recipe.input_tokens().unwrap();
        let side = recipe.resolution as u32;
        let place = recipe.place(side, side);
        let (encode, _) = encoder_cost(&recipe, recipe.resolution, 1, bytes).unwrap();
        let (project, _) = projector_cost(&recipe, &place, bytes).unwrap();
        let past = recipe.decoder().unwrap().config.past(tokens + 3, [tokens]);
        let (decode, _) = decoder_cost(&recipe, 1, past, precision).unwrap();
        assert_eq!(seen[0].stages, counted(&encode));
        assert_eq!(seen[1].stages, counted(&project));
        assert_eq!(seen[3].stages, counted(&decode));
        // A prompt with an image is embedded in pieces that are put together,
        // which the cost of a plain prompt has not.
        let (prefill, _) = prefill_cost(&recipe, Some(&place), 3, precision).unwrap();
        let (mut got, mut wanted) = (seen[2].stages.clone(), counted(&prefill));
        assert!(got.remove("embed").is_some() && wanted.remove("embed").is_some());
        assert_eq!(got, wanted);
    }
}

#[test]
fn threads_can_be_changed_and_change_no_value() {
    let (recipe, mut model) = fastvlm();
    let watcher = Watcher::default();
    let (one, _) = run(model.as_mut(), recipe.resolution, &watcher);
    for threads in [2, 1, 3, 2] {
        model.use_threads(threads).unwrap();
        let (more, _) = run(model.as_mut(), recipe.resolution, &watcher);
        assert_eq!(more, one, "{threads} threads");
    }
    let error = model.use_threads(0).unwrap_err();
    assert!(error.to_string().contains("at least 1"), "{error}");
}
