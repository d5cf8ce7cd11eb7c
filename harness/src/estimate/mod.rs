//! How long an experiment will take on this machine.
//!
//! What a case costs is counted; what a unit of it takes is fitted to probes,
//! a few seconds of small networks with the layers of large ones, on every
//! engine, device and precision of the plan. An estimate is for planning: it
//! is nowhere recorded as a measurement.

mod fit;
mod probe;

pub use fit::Rates;
pub use probe::{Fitted, Kind, measure};

use serde::Serialize;
use vlmbench_backends::backend::Precision;
use vlmbench_backends::hub::HubOptions;
use vlmbench_backends::weights::prefill_cost;

use crate::config::latency::Latency;
use crate::data_ref::DataRef;
use crate::error::{Failure, chain};
use crate::measure::clock::Clock;
use crate::plan::{
    Case, NOMINAL_IMAGE, NOMINAL_QUESTION_TOKENS, Plan, QualityCase, Ready, SuiteSelection,
    Workload,
};

/// Tokens that a suite's answers are taken to have, unless its limit is lower.
const NOMINAL_ANSWER_TOKENS: u32 = 8;

/// What a case is expected to take, seconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct CaseTime {
    /// Making or reading the weights.
    pub load_seconds: f64,
    /// From the encoded image to the first token, without decoding, resizing
    /// and projecting; `None` unless the model has an encoder and a decoder.
    pub ttft_paper_seconds: Option<f64>,
    /// One request, all of it.
    pub request_seconds: f64,
    /// Requests, warm-up included: those of a latency workload at most, as it
    /// stops when the median is known; `None` if a suite's samples are not here.
    pub requests: Option<usize>,
}

impl CaseTime {
    /// All of the case, as far as it is known.
    pub fn seconds(&self) -> f64 {
        self.load_seconds + self.request_seconds * self.requests.unwrap_or(0) as f64
    }
}

/// What one engine of a plan does here.
#[derive(Clone, Debug, Serialize)]
pub struct EngineRates {
    /// Engine.
    pub backend: String,
    /// Device.
    pub device: String,
    /// Precision.
    pub precision: Precision,
    /// Its rates; `None` if the probes could not be run.
    pub fitted: Option<Fitted>,
    /// Why not.
    pub problem: Option<String>,
}

/// What a plan is expected to take.
#[derive(Clone, Debug)]
pub struct Estimates {
    /// Rates of every engine of the plan.
    pub engines: Vec<EngineRates>,
    /// The time of every case, in the plan's order; `None` if it cannot run or
    /// its engine's probes could not.
    pub cases: Vec<Option<CaseTime>>,
}

impl Estimates {
    /// Estimates the cases of a plan by the rates of its engines. Samples of
    /// suites are counted where they are; `hub` is to be offline.
    pub fn of(
        plan: &Plan,
        engines: Vec<EngineRates>,
        hub: &HubOptions,
    ) -> Result<Estimates, Failure> {
        let mut cases = vec![None; plan.cases.len()];
        let mut counted: Vec<(&SuiteSelection, Option<usize>)> = Vec::new();
        for group in plan.groups() {
            let mut alone = Vec::new();
            for index in group {
                let case = &plan.cases[index];
                let engine = engines.iter().find(|e| e.runs(case));
                let fitted = engine.and_then(|e| e.fitted.as_ref());
                if let (Some(ready), Some(fitted)) = (case.ready(), fitted) {
                    alone.push((index, one(case, ready, fitted)?));
                }
            }
            // A round has one request of each, and the budget is for all of them.
            let round: f64 = alone.iter().map(|(_, time)| time.request_seconds).sum();
            let parties = alone.len();
            for (index, mut time) in alone {
                time.requests = match &plan.cases[index].workload {
                    Workload::EncoderLatency(l) | Workload::EndToEndLatency(l) => {
                        Some(repetitions(l, round, parties))
                    }
                    Workload::Quality(quality) => {
                        let suite = &quality.suite;
                        let found = counted.iter().find(|(known, _)| *known == suite);
                        let count = found.map_or_else(|| samples(suite, hub), |(_, count)| *count);
                        counted.push((suite, count));
                        count
                    }
                };
                cases[index] = Some(time);
            }
        }
        Ok(Estimates { engines, cases })
    }

    /// Seconds of all cases, and of loading among them.
    pub fn seconds(&self) -> (f64, f64) {
        let known = || self.cases.iter().flatten();
        (
            known().map(CaseTime::seconds).sum(),
            known().map(|time| time.load_seconds).sum(),
        )
    }
}

impl EngineRates {
    /// Runs the probes of a plan's engines, in the order of its cases. `say`
    /// hears of each engine before its probes.
    pub fn measure(
        plan: &Plan,
        clock: &dyn Clock,
        say: &mut dyn FnMut(&EngineRates),
    ) -> Vec<EngineRates> {
        let mut engines: Vec<EngineRates> = Vec::new();
        for case in &plan.cases {
            if case.ready().is_none() || engines.iter().any(|e| e.runs(case)) {
                continue;
            }
            let mut engine = EngineRates {
                backend: case.backend.clone(),
                device: case.options.device.clone(),
                precision: case.options.precision,
                fitted: None,
                problem: None,
            };
            say(&engine);
            let own = plan.cases.iter().filter(|case| engine.runs(case));
            let kinds = own.filter_map(Case::ready).flat_map(kinds).collect();
            match measure(&case.backend, &case.options, &kinds, clock) {
                Ok(fitted) => engine.fitted = Some(fitted),
                Err(failure) => engine.problem = Some(chain(&failure)),
            }
            engines.push(engine);
        }
        engines
    }

    fn runs(&self, case: &Case) -> bool {
        self.backend == case.backend
            && self.device == case.options.device
            && self.precision == case.options.precision
    }
}

/// Kinds of work that a case has.
fn kinds(ready: &Ready) -> Vec<Kind> {
    let encoder = ready.recipe.encoder.as_ref();
    let mut kinds: Vec<Kind> = encoder.map(|e| Kind::of(&e.config)).into_iter().collect();
    if ready.recipe.decoder.is_some() {
        kinds.extend([Kind::Prefill, Kind::Decode]);
    }
    kinds
}

/// A case's load and request.
fn one(case: &Case, ready: &Ready, fitted: &Fitted) -> Result<CaseTime, Failure> {
    let cost = &ready.cost;
    let seconds = |kind: Kind, stage| {
        let (rates, stage) = (fitted.rates.get(&kind)?, cost.stage(stage)?);
        let unseen = match kind {
            Kind::Prefill if stage.stage == "prefill" => unseen_flops(case, ready),
            _ => 0,
        };
        Some(rates.seconds(stage.flops - unseen, stage.bytes))
    };
    let encoder = ready
        .recipe
        .encoder
        .as_ref()
        .filter(|_| !case.workload.is_blind());
    let encode = encoder.and_then(|e| seconds(Kind::of(&e.config), "encode"));
    let project = encoder.and_then(|_| seconds(Kind::Prefill, "project"));
    let prefill = match case.workload.is_blind() {
        true => blind_prefill(ready, case, fitted)?,
        false => seconds(Kind::Prefill, "prefill"),
    };
    let decode = seconds(Kind::Decode, "decode").unwrap_or(0.0);
    let (image, tokens) = match &case.workload {
        Workload::EncoderLatency(l) | Workload::EndToEndLatency(l) => (l.image, l.decode_tokens),
        Workload::Quality(q) => (NOMINAL_IMAGE, answer_tokens(q) as usize),
    };
    let preprocess = encoder.map(|_| fitted.preprocess_seconds_per_pixel * image.pixels());
    let before_decode = [preprocess, encode, project, prefill];
    Ok(CaseTime {
        load_seconds: fitted.load_seconds_per_byte * cost.weight_bytes as f64,
        ttft_paper_seconds: encode
            .zip(prefill)
            .map(|(encode, prefill)| encode + prefill),
        request_seconds: before_decode.into_iter().flatten().sum::<f64>()
            + decode * tokens.saturating_sub(1) as f64,
        requests: None,
    })
}

/// What is counted of a prompt's attention and left out by causal kernels, which
/// candle's are: half of the square of scores.
fn unseen_flops(case: &Case, ready: &Ready) -> u64 {
    let Some(decoder) = ready
        .recipe
        .decoder
        .as_ref()
        .filter(|_| case.backend == "candle")
    else {
        return 0;
    };
    let cost = &ready.cost;
    let kept = cost.visual_tokens_kept.or(cost.visual_tokens).unwrap_or(0);
    let n = (kept + cost.prompt_tokens.unwrap_or(0)) as u64;
    let c = &decoder.config;
    2 * n * n * (c.heads * c.head_dim * c.layers) as u64
}

/// Prefill of a question without its image, which the case's cost has with it.
fn blind_prefill(ready: &Ready, case: &Case, fitted: &Fitted) -> Result<Option<f64>, Failure> {
    let precision = case.options.precision;
    let (cost, _) = prefill_cost(&ready.recipe, None, NOMINAL_QUESTION_TOKENS, precision)?;
    let rates = fitted.rates.get(&Kind::Prefill);
    Ok(rates.map(|rates| rates.seconds(cost.flops(), cost.bytes())))
}

/// Requests of each of `parties` at most, if one of each takes `round` seconds.
fn repetitions(latency: &Latency, round: f64, parties: usize) -> usize {
    let budget = latency.budget_seconds * parties as f64;
    let within = (budget / round.max(1e-9)).ceil().min(f64::from(u32::MAX)) as u32;
    let timed = within.clamp(latency.min_iterations, latency.max_iterations);
    (latency.warm_up + timed) as usize
}

fn answer_tokens(quality: &QualityCase) -> u32 {
    let suite = &quality.suite;
    let profile = suite.spec.profiles.iter().find(|p| p.id == suite.profile);
    let limit = quality.max_new_tokens.or(profile.map(|p| p.max_new_tokens));
    limit.map_or(NOMINAL_ANSWER_TOKENS, |limit| {
        limit.min(NOMINAL_ANSWER_TOKENS)
    })
}

/// Samples of a suite, if they can be counted without fetching or drawing them.
fn samples(suite: &SuiteSelection, hub: &HubOptions) -> Option<usize> {
    let all = match &suite.data {
        DataRef::Synth { samples, .. } => *samples,
        _ => suite.open(hub, &mut |_| {}).ok()?.len(),
    };
    Some(suite.limit.map_or(all, |limit| limit.min(all)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::plan::tests::plan;

    /// A second for every 10^11 FLOPs, every 10^9 bytes, every byte of weights
    /// loaded at a nanosecond.
    fn fitted() -> Fitted {
        let flops = Rates {
            seconds_per_flop: 1e-11,
            seconds_per_byte: 0.0,
        };
        let bytes = Rates {
            seconds_per_flop: 0.0,
            seconds_per_byte: 1e-9,
        };
        Fitted {
            rates: BTreeMap::from([
                (Kind::Convolutional, flops),
                (Kind::VisionTransformer, flops),
                (Kind::Prefill, flops),
                (Kind::Decode, bytes),
            ]),
            load_seconds_per_byte: 1e-9,
            preprocess_seconds_per_pixel: 1e-6,
        }
    }

    fn estimates(text: &str) -> (Plan, Estimates) {
        let plan = plan(text);
        let hub = HubOptions {
            offline: true,
            ..HubOptions::new("/nonexistent-cache")
        };
        let engine = |case: &Case| EngineRates {
            backend: case.backend.clone(),
            device: case.options.device.clone(),
            precision: case.options.precision,
            fitted: Some(fitted()),
            problem: None,
        };
        let engines = plan.cases.iter().map(engine).collect();
        let estimates = Estimates::of(&plan, engines, &hub).unwrap();
        (plan, estimates)
    }

    fn close(found: f64, wanted: f64) {
        assert!((found / wanted - 1.0).abs() < 1e-9, "{found} {wanted}");
    }

    #[test]
    fn a_request_is_the_sum_of_its_stages() {
        let (plan, estimates) = estimates(
            "about: x\nmodels: [{model: fastvithd-qwen2-0.5b, resolutions: [256]}]\n\
             latency: {decode_tokens: 5, warm_up: 1, min_iterations: 3, max_iterations: 3}\n",
        );
        let cost = &plan.cases[0].ready().unwrap().cost;
        let stage = |name| cost.stage(name).unwrap();
        let time = estimates.cases[0].unwrap();
        // 48 positions of 14 heads of 64 in 24 layers; half of their square is left out.
        let unseen = 2 * 48 * 48 * 14 * 64 * 24;
        let prefill = (stage("prefill").flops - unseen) as f64 * 1e-11;
        let encode = stage("encode").flops as f64 * 1e-11;
        close(time.ttft_paper_seconds.unwrap(), encode + prefill);
        let rest =
            stage("project").flops as f64 * 1e-11 + 4.0 * stage("decode").bytes as f64 * 1e-9;
        let image = 1024.0 * 768.0 * 1e-6;
        close(time.request_seconds, encode + prefill + rest + image);
        assert_eq!(time.requests, Some(4));
        close(time.load_seconds, cost.weight_bytes as f64 * 1e-9);
        close(
            time.seconds(),
            time.load_seconds + 4.0 * time.request_seconds,
        );
        close(estimates.seconds().0, time.seconds());
    }

    #[test]
    fn repetitions_end_with_the_budget_between_their_bounds() {
        let latency = Latency {
            warm_up: 2,
            min_iterations: 5,
            max_iterations: 50,
            budget_seconds: 30.0,
            ..Latency::default()
        };
        assert_eq!(repetitions(&latency, 0.01, 1), 52);
        assert_eq!(repetitions(&latency, 3.0, 1), 12);
        assert_eq!(repetitions(&latency, 100.0, 1), 7);
        // Two that take turns have the budget of two.
        assert_eq!(repetitions(&latency, 3.0, 2), 22);
    }

    #[test]
    fn a_suite_takes_as_many_requests_as_it_has_samples_here() {
        let of = |data: &str| {
            format!(
                "about: x\nmodels: [{{model: small-fastvithd, resolutions: [128]}}]\n\
                 quality: {{blind: true, suites: [{{suite: textvqa, {data}}}]}}\n"
            )
        };
        let (_, drawn) = estimates(&of("data: 'synth:300', limit: 40"));
        let [seeing, blind] = [0, 1].map(|i| drawn.cases[i].unwrap());
        assert_eq!(seeing.requests, Some(40));
        assert_eq!((blind.requests, blind.ttft_paper_seconds), (Some(40), None));
        assert!(blind.request_seconds < seeing.request_seconds);
        let (_, elsewhere) = estimates(&of("limit: 40"));
        let unknown = elsewhere.cases[0].unwrap();
        assert_eq!(unknown.requests, None);
        close(unknown.seconds(), unknown.load_seconds);
    }
}
