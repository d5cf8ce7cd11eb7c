//! The formats on comparisons that leave nothing out, and on one of nothing.

mod formats;
mod xml;

use super::*;

pub(super) fn interval(low: f64, high: f64) -> Option<Interval> {
    Some(Interval {
        low,
        high,
        confidence: 0.99,
    })
}

fn latency(figure: &str, base: f64, change: f64, verdict: Verdict) -> LatencyChange {
    LatencyChange {
        figure: figure.into(),
        base_ms: base,
        candidate_ms: base * (1.0 + change),
        change,
        interval: interval(change - 0.01, change + 0.01),
        p_slower: 0.00002,
        p_faster: 0.99998,
        adjusted: Some(0.00008),
        launches: 12,
        share: 0.25,
        gated: true,
        verdict,
    }
}

/// A name with everything that a format could trip over.
pub(super) const NASTY: &str = "latency/\"q\" <b>&amp; a|b, 50%: Größe\nnew line/é";

/// A regression with its blame, an inconclusive stage, an improvement, one that does not decide, a
/// score with changed answers, and controls that held.
pub(super) fn comparison() -> Comparison {
    let mut ttft = latency("ttft.paper", 50.0, 0.04, Verdict::Regressed);
    ttft.gated = false;
    let mut prefill = latency("prefill", 30.0, 0.002, Verdict::Inconclusive);
    prefill.interval = None;
    let changed = |sample: &str, base: Option<&str>, candidate: Option<&str>| ChangedAnswer {
        sample: sample.into(),
        base: base.map(str::to_owned),
        candidate: candidate.map(str::to_owned),
        base_points: 100.0,
        candidate_points: 0.0,
    };
    let mut comparison = Comparison {
        ended_at: "2026-11-27T12:00:00Z".into(),
        base: Side {
            name: "main".into(),
            version: Some("0.1.0".into()),
            revision: Some("0123abc".into()),
        },
        candidate: Side {
            name: "branch".into(),
            version: None,
            revision: None,
        },
        design: Some(Design::Pairs),
        settings: Settings::default(),
        cases: vec![
            CaseChange {
                case: "latency/fastvithd/candle-cpu/f32/256px".into(),
                latencies: vec![
                    latency("encode", 20.0, 0.1, Verdict::Regressed),
                    prefill,
                    latency("tpot", 8.0, -0.05, Verdict::Improved),
                    ttft,
                ],
                differences: vec![Difference {
                    what: "encode FLOPs".into(),
                    base: "29.6 G".into(),
                    candidate: "32.1 G".into(),
                }],
                flags: vec!["launch 7 of the base waited 12 % of its time".into()],
            },
            CaseChange {
                case: NASTY.into(),
                latencies: vec![latency("encode", 5.0, 0.0, Verdict::Pass)],
                differences: Vec::new(),
                flags: Vec::new(),
            },
        ],
        scores: vec![ScoreChange {
            case: "textvqa.lmms@0.2.2/small-vit/candle-cpu/f32/224px".into(),
            samples: 200,
            base: 61.5,
            candidate: 60.5,
            change: -1.0,
            interval: interval(-3.0, 1.0),
            p_worse: 0.2,
            p_better: 0.9,
            adjusted: Some(0.4),
            test: "McNemar, exact".into(),
            differing: 7,
            changed: vec![
                changed("q1", Some("stop"), Some("<script>|*shop*\nor `x`")),
                changed("q2", Some("taxi"), None),
            ],
            verdict: Verdict::Inconclusive,
        }],
        tradeoffs: Vec::new(),
        fronts: Vec::new(),
        controls: vec![Control {
            name: "null".into(),
            what: "base against base".into(),
            held: true,
            found: "no figure regressed".into(),
        }],
        problems: Vec::new(),
        conclusion: Conclusion::Pass,
    };
    comparison.conclude();
    comparison
}

/// A comparison of nothing.
pub(super) fn empty() -> Comparison {
    let mut comparison = comparison();
    comparison.cases.clear();
    comparison.scores.clear();
    comparison.controls.clear();
    comparison.conclude();
    comparison
}

/// One whose control failed, with a problem.
pub(super) fn broken() -> Comparison {
    let mut comparison = comparison();
    comparison.controls[0].held = false;
    comparison.controls[0].found = "encode regressed: +7 %".into();
    comparison.problems = vec!["latency/x did not run, on the candidate: <oom>".into()];
    comparison.conclude();
    comparison
}
