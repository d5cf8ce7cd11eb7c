use super::*;
use crate::config::Overrides;
use crate::config::experiment::ExperimentFile;
use crate::config::yaml;
use crate::error::Exit;

fn experiment(text: &str) -> Experiment {
    let file: ExperimentFile = yaml::read("x.yaml", text).unwrap();
    Experiment::resolve("x", "x.yaml", file, &Overrides::default(), 2).unwrap()
}

/// The plan of an experiment with embedded configurations and an empty hub
/// cache, offline.
fn build(experiment: &Experiment) -> Result<Plan, Failure> {
    let cache = tempfile::tempdir().unwrap();
    let hub = HubOptions {
        offline: true,
        ..HubOptions::new(cache.path())
    };
    let sources = Sources {
        configs: &Configs::embedded(),
        hub: &hub,
    };
    Plan::build(experiment, &sources, &mut |_| {
        panic!("planning fetched something")
    })
}

pub(crate) fn plan(text: &str) -> Plan {
    build(&experiment(text)).unwrap_or_else(|e| panic!("{}", chain(&e)))
}

fn failure(text: &str) -> Failure {
    build(&experiment(text)).expect_err("a plan")
}

/// The reason of the only case that cannot run.
fn reason(plan: &Plan) -> &str {
    let [case] = plan.cases.as_slice() else {
        panic!("{:?}", plan.ids())
    };
    assert!(case.ready().is_none(), "{} can run", case.id);
    case.reason().unwrap()
}

#[test]
fn ids_name_workload_model_engine_precision_and_side_in_order() {
    let plan = plan(
        "about: x
models:
  - {model: fastvithd, resolutions: [256, 512]}
  - model: qwen2-0.5b
precisions: [f32, bf16]
latency: {}
quality: {suites: [{suite: textvqa}, {suite: mmmu, split: dev}, {suite: mmmu, profile: lmms@75571cf, split: validation}]}
",
    );
    let ids = plan.ids();
    assert_eq!(
        ids[..6],
        [
            "latency/fastvithd/candle-cpu/f32/256px",
            "latency/fastvithd/candle-cpu/bf16/256px",
            "latency/fastvithd/candle-cpu/f32/512px",
            "latency/fastvithd/candle-cpu/bf16/512px",
            "latency/qwen2-0.5b/candle-cpu/f32",
            "latency/qwen2-0.5b/candle-cpu/bf16",
        ]
    );
    assert_eq!(ids.len(), 4 * 6);
    // The first profile is the default, and only a split that is not the suite's own is named.
    assert_eq!(
        ids[6],
        "textvqa.llava-official@c121f04/fastvithd/candle-cpu/f32/256px"
    );
    assert_eq!(
        ids[12],
        "mmmu.lmms@0.2.2:dev/fastvithd/candle-cpu/f32/256px"
    );
    assert_eq!(ids[18], "mmmu.lmms@75571cf/fastvithd/candle-cpu/f32/256px");
}

#[test]
fn the_workload_is_what_the_recipe_can_do() {
    let plan = plan(
        "{about: x, models: [{model: fastvithd}, {model: fastvithd-qwen2-0.5b}], latency: {decode_tokens: 5}}",
    );
    let kinds = plan.cases.iter().map(|case| match &case.workload {
        Workload::EncoderLatency(_) => "encoder",
        Workload::EndToEndLatency(l) if l.decode_tokens == 5 => "end to end",
        _ => "other",
    });
    assert_eq!(kinds.collect::<Vec<_>>(), ["encoder", "end to end"]);
    // The recipe's own side, where the experiment names none.
    assert_eq!(plan.cases[0].resolution, Some(1024));
}

#[test]
fn a_side_that_the_encoder_does_not_admit_fails_its_case_only() {
    let plan = plan(
        "{about: x, models: [{model: clip-vit-l-14-336, resolutions: [336, 10]}], latency: {}}",
    );
    let [good, bad] = plan.cases.as_slice() else {
        panic!("{:?}", plan.ids())
    };
    assert!(good.ready().is_some());
    assert!(matches!(bad.state, CaseState::Failed { .. }));
    assert_eq!(
        bad.id.as_str(),
        "latency/clip-vit-l-14-336/candle-cpu/f32/10px"
    );
    assert!(bad.reason().unwrap().contains("10"), "{:?}", bad.reason());
}

#[test]
fn what_is_missing_on_this_machine_fails_its_case_with_what_to_do() {
    let absent = plan("{about: x, models: [{model: ./no/such/folder}], latency: {}}");
    assert!(
        reason(&absent).contains("no such folder"),
        "{}",
        reason(&absent)
    );
    assert_eq!(absent.ids(), ["latency/folder/candle-cpu/f32"]);
    assert!(absent.definitions.models.is_empty());

    let uncached = plan("{about: x, models: [{model: no-such/model}], latency: {}}");
    assert!(
        reason(&uncached).contains("no-such/model"),
        "{}",
        reason(&uncached)
    );
    assert_eq!(uncached.ids(), ["latency/no-such/model/candle-cpu/f32"]);

    let device = plan("{about: x, models: [{model: fastvithd}], devices: [gpu], latency: {}}");
    assert!(
        reason(&device).contains("no device `gpu`; it has cpu"),
        "{}",
        reason(&device)
    );
}

#[test]
fn quality_is_skipped_on_seeded_weights_and_fails_without_a_decoder() {
    let quality = |model: &str| {
        plan(&format!(
            "{{about: x, models: [{{model: {model}}}], quality: {{suites: [{{suite: docvqa}}]}}}}"
        ))
    };
    let seeded = quality("fastvithd-qwen2-0.5b");
    assert!(matches!(seeded.cases[0].state, CaseState::Skipped { .. }));
    assert!(
        reason(&seeded).contains("seeded weights"),
        "{}",
        reason(&seeded)
    );
    let blind = quality("qwen2-0.5b");
    assert!(matches!(blind.cases[0].state, CaseState::Failed { .. }));
    let mute = quality("fastvithd");
    assert!(matches!(mute.cases[0].state, CaseState::Failed { .. }));
}

#[test]
fn a_mistake_in_the_experiment_is_an_error_before_anything_runs() {
    for (text, exit, message) in [
        (
            "{about: x, models: [{model: fastvithdd}], latency: {}}",
            Exit::InvalidConfig,
            "unknown model `fastvithdd`, did you mean `fastvithd`?",
        ),
        (
            "{about: x, models: [{model: fastvithd}], backends: [candel], latency: {}}",
            Exit::InvalidConfig,
            "unknown backend `candel`, did you mean `candle`?",
        ),
        (
            "{about: x, models: [{model: fastvithd}], quality: {suites: [{suite: texvqa}]}}",
            Exit::InvalidConfig,
            "unknown suite `texvqa`, did you mean `textvqa`?",
        ),
        (
            "{about: x, models: [{model: fastvithd}], quality: {suites: [{suite: docvqa, profile: lmms@9}]}}",
            Exit::InvalidConfig,
            "lmms@0.2.2",
        ),
        (
            "{about: x, models: [{model: fastvithd}], latency: {}, published: {file: fastvlm, series: [avg6]}}",
            Exit::InvalidConfig,
            "avg6",
        ),
        (
            "{about: x, models: [{model: fastvithd}], latency: {}, published: {file: fastvlm, series: [avg5-vicuna-7b], metric: avg6}}",
            Exit::InvalidConfig,
            "unknown published metric `avg6`",
        ),
        (
            "{about: x, models: [{model: fastvithd}]}",
            Exit::NothingSelected,
            "experiment `x` selects nothing: add `latency: {}`",
        ),
    ] {
        let failure = failure(text);
        let message_is = chain(&failure);
        assert_eq!(failure.exit(), exit, "{message_is}");
        assert!(message_is.contains(message), "{message_is}");
    }
}

#[test]
fn two_cases_of_one_id_are_an_error_that_names_it() {
    for twice in [
        "{about: x, models: [{model: fastvithd, resolutions: [256, 256]}], latency: {}}",
        "{about: x, models: [{model: fastvithd}, {model: fastvithd, resolutions: [1024]}], latency: {}}",
        "{about: x, models: [{model: a/b/weights}, {model: ./c/weights}], latency: {}}",
        "{about: x, models: [{model: fastvithd}], precisions: [f16, f16], latency: {}}",
    ] {
        // `a/b/weights` has too many parts for a hub id, so both are paths.
        let failure = failure(twice);
        assert_eq!(failure.exit(), Exit::InvalidConfig);
        let message = chain(&failure);
        assert!(message.contains("planning latency/"), "{message}");
        assert!(message.contains("twice"), "{message}");
    }
}

#[test]
fn the_context_of_a_quality_case_is_what_was_asked_for_or_the_model_has() {
    let context = |asked: usize| {
        let plan = plan(&format!(
            "{{about: x, models: [{{model: vicuna-7b}}], quality: {{context: {asked}, suites: [{{suite: docvqa}}]}}}}"
        ));
        match &plan.cases[0].workload {
            Workload::Quality(quality) => quality.context,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(context(512), 512);
    assert_eq!(context(1_000_000), 4096);
}

#[test]
fn the_manifest_says_what_names_mean() {
    let experiment = experiment(
        "{about: x, models: [{model: fastvithd-qwen2-0.5b}], quality: {suites: [{suite: docvqa, limit: 3}]}}",
    );
    let plan = build(&experiment).unwrap();
    let value = plan.manifest_experiment(&experiment).unwrap();
    assert_eq!(value["quality"]["suites"][0]["limit"], 3);
    let model = &value["definitions"]["models"]["fastvithd-qwen2-0.5b"]["recipe"]["file"];
    assert_eq!(model["encoder"], "fastvithd");
    let metric = &value["definitions"]["suites"]["docvqa"]["profiles"][0]["metric"];
    assert_eq!(metric, "anls-any");
}

/// The shipped experiment against torch's flop counter on the same networks.
#[test]
fn the_full_size_networks_cost_what_torch_counts() {
    let found = Configs::embedded()
        .find(ConfigKind::Experiment, "paper-pareto")
        .unwrap();
    let file: ExperimentFile = found.parse().unwrap();
    let flags = Overrides::default();
    let experiment = Experiment::resolve("paper-pareto", &found.origin, file, &flags, 2).unwrap();
    let plan = build(&experiment).unwrap();
    let close = |got: u64, gflop: f64, what: &str| {
        let got = got as f64 / 1e9;
        assert!(
            (got / gflop - 1.0).abs() < 0.01,
            "{what}: {got} for {gflop}"
        );
    };
    let expected = [
        // torch counts all 24 layers; the features are those of layer 23.
        (336, 576, Some(381.9 * 23.0 / 24.0)),
        (256, 64, Some(15.7)),
        (512, 256, None),
        (768, 576, Some(144.0)),
        (256, 16, Some(29.6)),
        (512, 64, Some(119.1)),
        (768, 144, Some(270.4)),
        (1024, 256, Some(486.7)),
    ];
    assert_eq!(plan.cases.len(), expected.len());
    for (case, (side, visual, gflop)) in plan.cases.iter().zip(expected) {
        let cost = &case.ready().unwrap().cost;
        let id = case.id.as_str();
        assert_eq!(case.resolution, Some(side), "{id}");
        assert_eq!(cost.visual_tokens, Some(visual), "{id}");
        if let Some(gflop) = gflop {
            close(cost.stage("encode").unwrap().flops, gflop, id);
        }
        // The prompt, and the tokens that are fed back.
        assert_eq!(cost.context, visual + 32 + 3, "{id}");
        let decoder = cost
            .params
            .iter()
            .find(|p| p.component == "decoder")
            .unwrap();
        assert_eq!(decoder.params, 494_032_768, "{id}");
        // Keys and values of 24 layers with 2 heads of 64, four bytes a scalar.
        assert_eq!(
            cost.kv_cache_bytes,
            (2 * 24 * 2 * 64 * cost.context * 4) as u64
        );
        assert_eq!(cost.weight_bytes, cost.total_params() * 4);
    }
    // 32 text tokens behind 576 and 256 visual ones; Qwen2-0.5B is linear in them but for attention.
    let prefill = |index: usize| {
        plan.cases[index]
            .ready()
            .unwrap()
            .cost
            .stage("prefill")
            .unwrap()
            .flops
    };
    close(prefill(7), 238.1 * 288.0 / 320.0, "prefill of 288 tokens");
    let series: Vec<&str> = plan.published.iter().map(|s| s.id.as_str()).collect();
    assert_eq!(series, ["avg5-vicuna-7b", "avg5-qwen2-0.5b"]);
}

/// Prompts of 32 text tokens, a context of 3 more.
#[test]
fn fewer_visual_tokens_are_planned_with_what_they_cost() {
    let cost = |model: &str| {
        let plan = plan(&format!(
            "{{about: x, models: [{{model: {model}}}], latency: {{prompt_tokens: 32, decode_tokens: 4}}}}"
        ));
        plan.cases[0].ready().unwrap().cost.clone()
    };
    let whole = cost("clip-vit-l-14-336-vicuna-7b");
    let scalars = |held: usize| (2 * 4096 * held * 4) as u64;
    assert_eq!(whole.visual_tokens, Some(576));
    assert_eq!(whole.kv_cache_bytes, scalars(32 * (576 + 35)));
    for (model, visual) in [
        ("llava-1.5-m3-9", 9),
        ("llava-1.5-m3-36", 36),
        ("llava-1.5-m3-144", 144),
        ("llava-1.5-prumerge-40", 40),
        ("llava-1.5-prumerge-plus-145", 145),
        ("llava-1.5-visionzip-64", 64),
        ("llava-1.5-visionzip-192", 192),
    ] {
        let cost = cost(model);
        assert_eq!(
            (cost.visual_tokens, cost.visual_tokens_kept),
            (Some(visual), None)
        );
        assert_eq!(cost.kv_cache_bytes, scalars(32 * (visual + 35)), "{model}");
        assert!(cost.total_params() >= whole.total_params(), "{model}");
    }
    for (model, kept) in [("llava-1.5-fastv-64", 64), ("llava-1.5-fastv-192", 192)] {
        let cost = cost(model);
        assert_eq!(
            (cost.visual_tokens, cost.visual_tokens_kept),
            (Some(576), Some(kept))
        );
        assert_eq!(cost.context, whole.context, "{model}");
        let held = 2 * (576 + 35) + 30 * (kept + 35);
        assert_eq!(cost.kv_cache_bytes, scalars(held), "{model}");
        assert_eq!(cost.total_params(), whole.total_params(), "{model}");
        let part = |name| {
            let of = |cost: &super::cost::CaseCost| cost.stage(name).unwrap().flops as f64;
            of(&cost) / of(&whole)
        };
        assert!(
            part("prefill") < (held as f64 / (32.0 * 611.0)) * 1.05,
            "{model}"
        );
        assert!(part("decode") < 1.0 && part("encode") == 1.0, "{model}");
    }
}
