//! What else differs between the two sides of a case: what a change may come from.

use std::collections::BTreeSet;

use super::Difference;
use crate::record::{CaseFacts, GpuNoise, Noise, Weights};

/// A clock that differs by more than this is told.
const CLOCK: f64 = 0.03;

/// Differences of what is counted, set and reported.
pub fn differences(base: &CaseFacts, candidate: &CaseFacts) -> Vec<Difference> {
    let mut found = Vec::new();
    let mut differ = |what: &str, base: String, candidate: String| {
        if base != candidate {
            found.push(Difference {
                what: what.into(),
                base,
                candidate,
            });
        }
    };
    let stages = base.stages.keys().chain(candidate.stages.keys());
    let stages: std::collections::BTreeSet<_> = stages.collect();
    for stage in stages {
        let of = |facts: &CaseFacts| facts.stages.get(stage).copied();
        let flops = |facts| {
            of(facts).map_or("none".into(), |c| {
                format!("{:.3} GFLOP", c.flops as f64 / 1e9)
            })
        };
        differ(&format!("{stage} work"), flops(base), flops(candidate));
        let bytes = |facts| {
            let bytes = of(facts).and_then(|c| c.bytes);
            bytes.map_or("none".into(), |b| format!("{:.1} MB", b as f64 / 1e6))
        };
        differ(&format!("{stage} bytes"), bytes(base), bytes(candidate));
    }
    let count = |n: Option<u32>| n.map_or("varies".into(), |n| n.to_string());
    differ(
        "visual tokens",
        count(base.visual_tokens),
        count(candidate.visual_tokens),
    );
    differ(
        "prompt tokens",
        count(base.prompt_tokens),
        count(candidate.prompt_tokens),
    );
    let parameters = |facts: &CaseFacts| {
        let parts = facts.components.iter();
        let parts: Vec<String> = parts
            .map(|(part, c)| format!("{part} {}", c.parameters))
            .collect();
        parts.join(", ")
    };
    differ("parameters", parameters(base), parameters(candidate));
    differ("weights", weights(base), weights(candidate));
    let (one, other) = (&base.used, &candidate.used);
    let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "unknown".into());
    differ("engine", text(&one.engine), text(&other.engine));
    differ("threads", count(one.threads), count(other.threads));
    differ("device", one.device.clone(), other.device.clone());
    differ("precision", one.dtype.clone(), other.dtype.clone());
    differ("instructions", one.simd.join(" "), other.simd.join(" "));
    let settings = one.settings.keys().chain(other.settings.keys());
    let settings: std::collections::BTreeSet<_> = settings.collect();
    for name in settings {
        let of = |facts: &CaseFacts| facts.used.settings.get(name).cloned();
        differ(name, text(&of(base)), text(&of(candidate)));
    }
    found
}

fn weights(facts: &CaseFacts) -> String {
    match &facts.weights {
        Weights::Seeded { seed } => format!("seeded {seed}"),
        Weights::Checkpoint { origin, digests } => {
            let files: Vec<String> = digests
                .iter()
                .map(|(file, digest)| {
                    let name = file.rsplit('/').next().unwrap_or(file);
                    format!("{name} {}", digest.get(..19).unwrap_or(digest))
                })
                .collect();
            match files.is_empty() {
                true => origin.clone(),
                false => files.join(", "),
            }
        }
    }
}

/// A difference of the cores' clock over the launches of both sides.
pub fn clock(base: &[Noise], candidate: &[Noise]) -> Option<Difference> {
    let mean = |noises: &[Noise]| {
        let clocks: Vec<f64> = noises.iter().filter_map(|n| n.clock_mhz).collect();
        (!clocks.is_empty()).then(|| clocks.iter().sum::<f64>() / clocks.len() as f64)
    };
    let (one, other) = (mean(base)?, mean(candidate)?);
    ((other / one - 1.0).abs() > CLOCK).then(|| Difference {
        what: "clock".into(),
        base: format!("{one:.0} MHz"),
        candidate: format!("{other:.0} MHz"),
    })
}

/// Share of stolen time, or of others' work, from which a launch is flagged.
const DISTURBED: f64 = 0.1;

/// Signs of disturbance over some launches, in words. Of launches that took turns with others (not `alone`), what
/// other processes used is mostly theirs and says nothing.
pub fn flags(noises: &[Noise], alone: bool) -> Vec<String> {
    let n = noises.len();
    let mut flags = Vec::new();
    let mut flag = |what: &str, over: usize| {
        if over > 0 {
            flags.push(format!("{what} in {over} of {n} launches"));
        }
    };
    let shared = |get: fn(&Noise) -> Option<f64>| {
        noises
            .iter()
            .filter(|noise| get(noise).is_some_and(|share| share > DISTURBED))
            .count()
    };
    flag(
        "more than 10 % of the time stolen by the hypervisor",
        shared(|n| n.steal),
    );
    if alone {
        flag(
            "other processes used more than 10 % of the cores",
            shared(|n| n.others),
        );
    }
    let counted = |get: fn(&Noise) -> Option<u64>| {
        noises
            .iter()
            .filter(|noise| get(noise).is_some_and(|count| count > 0))
            .count()
    };
    flag("pages were read from a disk", counted(|n| n.major_faults));
    flag("cores were throttled by heat", counted(|n| n.throttled));
    let gpus = || noises.iter().filter_map(|n| n.gpu.as_ref());
    let reasons: BTreeSet<&str> = gpus().flat_map(GpuNoise::held_back).collect();
    let reasons: Vec<&str> = reasons.into_iter().collect();
    flag(
        &format!("the GPU's clock was held back ({})", reasons.join(", ")),
        gpus().filter(|gpu| !gpu.held_back().is_empty()).count(),
    );
    flags
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::record::{GpuState, StageCost, Used, Workload};

    fn facts() -> CaseFacts {
        let cost = StageCost {
            flops: 2_000_000_000,
            bytes: Some(5_000_000),
        };
        CaseFacts {
            case: "a".into(),
            workload: Workload::EndToEndLatency,
            labels: Default::default(),
            weights: Weights::Seeded { seed: 0 },
            visual_tokens: Some(16),
            visual_tokens_kept: None,
            prompt_tokens: Some(32),
            components: BTreeMap::new(),
            stages: BTreeMap::from([("encode".into(), cost)]),
            activation_peak_bytes: None,
            used: Used {
                threads: Some(2),
                settings: BTreeMap::from([("arena".into(), "true".into())]),
                ..Used::default()
            },
        }
    }

    #[test]
    fn what_differs_is_named_and_what_does_not_is_not() {
        let base = facts();
        assert_eq!(differences(&base, &base), []);
        let mut other = facts();
        other.visual_tokens = Some(64);
        other.used.threads = Some(1);
        other.used.settings.insert("arena".into(), "false".into());
        other.stages.get_mut("encode").unwrap().flops += 1_000_000_000;
        let found = differences(&base, &other);
        let told: Vec<String> = found
            .iter()
            .map(|d| format!("{}: {} -> {}", d.what, d.base, d.candidate))
            .collect();
        assert_eq!(
            told,
            [
                "encode work: 2.000 GFLOP -> 3.000 GFLOP",
                "visual tokens: 16 -> 64",
                "threads: 2 -> 1",
                "arena: true -> false",
            ]
        );
    }

    #[test]
    fn disturbance_is_counted_by_launch() {
        let noise = |steal, others, mhz| Noise {
            steal: Some(steal),
            others: Some(others),
            clock_mhz: Some(mhz),
            major_faults: Some(0),
            ..Noise::default()
        };
        let calm = [noise(0.0, 0.01, 3000.0), noise(0.05, 0.0, 3010.0)];
        assert_eq!(flags(&calm, true), Vec::<String>::new());
        let busy = [noise(0.2, 0.5, 2000.0), noise(0.05, 0.3, 2000.0)];
        let found = flags(&busy, true);
        assert!(
            found[0].contains("stolen") && found[0].ends_with("1 of 2 launches"),
            "{found:?}"
        );
        assert!(found[1].ends_with("2 of 2 launches"), "{found:?}");
        assert_eq!(clock(&calm, &busy).unwrap().candidate, "2000 MHz");
        assert_eq!(clock(&calm, &calm), None);
    }

    #[test]
    fn a_gpu_that_was_held_back_is_a_disturbance_and_one_that_idled_is_none() {
        let state = |reasons: &[&str]| GpuState {
            throttle: Some(reasons.iter().map(|r| (*r).to_owned()).collect()),
            ..GpuState::default()
        };
        let noise = |begin: &[&str], end: &[&str]| Noise {
            gpu: Some(GpuNoise {
                begin: state(begin),
                end: state(end),
            }),
            ..Noise::default()
        };
        let calm = noise(&["gpu_idle"], &["applications_clocks_setting"]);
        assert_eq!(
            flags(&[calm.clone(), Noise::default()], true),
            Vec::<String>::new()
        );
        let hot = noise(&["gpu_idle"], &["sw_thermal_slowdown", "hw_slowdown"]);
        let capped = noise(&["hw_slowdown"], &[]);
        assert_eq!(
            flags(&[calm, hot, capped], false),
            ["the GPU's clock was held back (hw_slowdown, sw_thermal_slowdown) in 2 of 3 launches"]
        );
    }
}
