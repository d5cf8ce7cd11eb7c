//! `profile` and `doctor --peak`: tables, JSON, pictures, and what is refused. No test looks at how
//! long anything took.

use serde_json::Value;

use crate::shell::{arg, checkpoint, fixture, run, run_anywhere};

fn number(value: &Value) -> f64 {
    value
        .as_f64()
        .unwrap_or_else(|| panic!("no number: {value}"))
}

fn list(value: &Value) -> &[Value] {
    value
        .as_array()
        .unwrap_or_else(|| panic!("no list: {value}"))
}

fn names<'a>(values: &'a Value, key: &str) -> Vec<&'a str> {
    let values = list(values).iter();
    values.map(|v| v[key].as_str().unwrap()).collect()
}

/// A rate has a best repetition, and a median that is not above it.
fn check_peak(peak: &Value, threads: usize) {
    assert_eq!(peak["threads"], threads, "{peak}");
    for rate in [
        "f32_flops",
        "f32_product_flops",
        "bf16_product_flops",
        "read_bytes",
        "copy_bytes",
    ] {
        let (best, median) = (number(&peak[rate]["best"]), number(&peak[rate]["median"]));
        assert!(best >= median && median > 0.0, "{rate}: {peak}");
        assert!(number(&peak[rate]["n"]) >= 2.0, "{rate}: {peak}");
    }
    assert!(peak["waited"].is_null() || number(&peak["waited"]) >= 0.0);
    let bf16 = &peak["bf16_flops"];
    assert!(bf16.is_null() || number(&bf16["best"]) > 0.0, "{peak}");
}

/// Sums and shares of anything that has figures.
fn check_figures(figures: &Value, peak_flops: f64) {
    let ms = number(&figures["median_ms"]);
    assert!(
        (0.0..=ms).contains(&number(&figures["min_ms"])),
        "{figures}"
    );
    if ms > 0.0 {
        let rate = number(&figures["flops"]) / ms * 1e3;
        let near = |got: f64, wanted: f64| (got - wanted).abs() <= 1e-6 * wanted.abs();
        assert!(
            near(number(&figures["flops_per_second"]), rate),
            "{figures}"
        );
        assert!(
            near(number(&figures["peak_share"]), rate / peak_flops),
            "{figures}"
        );
    }
    if !figures["over_floor"].is_null() {
        assert!(number(&figures["floor_ms"]) > 0.0, "{figures}");
    }
}

#[test]
fn a_profile_accounts_for_every_operation_of_every_phase() {
    let model = fixture("tiny-fastvlm");
    let folder = tempfile::tempdir().unwrap();
    let args = [
        "profile",
        arg(&model),
        "--iterations",
        "2",
        "--prompt-tokens",
        "7",
        "--threads",
        "2",
        "--scaling",
        "--out",
        "found",
        "--format",
        "json",
    ];
    let found = run(folder.path(), args).json(0);
    let plan = run_anywhere([
        "latency",
        arg(&model),
        "--iterations",
        "1",
        "--warm-up",
        "0",
        "--prompt-tokens",
        "7",
        "--decode-tokens",
        "2",
        "--format",
        "json",
    ])
    .json(0);
    assert_eq!(found["iterations"], 2);
    assert_eq!(found["prompt_tokens"], 7);
    assert_eq!(found["visual_tokens"], 1);
    assert_eq!(found["weights"], "checkpoint");
    assert_eq!(found["used"]["precision"], "f32");
    check_peak(&found["peak"], 2);
    let peak_flops = number(&found["peak_flops"]);
    assert_eq!(found["peak_flops"], found["peak"]["f32_flops"]["best"]);
    assert_eq!(found["peak_bandwidth"], found["peak"]["read_bytes"]["best"]);

    assert_eq!(
        names(&found["phases"], "phase"),
        ["encode", "project", "prefill", "decode"]
    );
    let mut total = 0.0;
    for phase in list(&found["phases"]) {
        let name = phase["phase"].as_str().unwrap();
        total += number(&phase["median_ms"]);
        check_figures(phase, peak_flops);
        // The same FLOPs as the cost of the stage, whichever way they are added up.
        assert_eq!(phase["flops"], plan["stages"][name]["flops"], "{name}");
        for parts in ["stages", "kinds", "operations"] {
            let mut flops = 0.0;
            let mut count = 0.0;
            for part in list(&phase[parts]) {
                check_figures(part, peak_flops);
                flops += number(&part["flops"]);
                count += number(&part["count"]);
            }
            assert_eq!(flops, number(&phase["flops"]), "{name} by {parts}");
            assert_eq!(count, number(&phase["count"]), "{name} by {parts}");
        }
        for stage in list(&phase["stages"]) {
            let kinds = list(&stage["kinds"]).iter();
            let flops: f64 = kinds.map(|kind| number(&kind["flops"])).sum();
            assert_eq!(flops, number(&stage["flops"]), "{stage}");
        }
        for key in ["unobserved_ms", "overhead", "outside_ms"] {
            assert!(phase[key].is_number(), "{name}: {key}");
        }
    }
    assert!((total - number(&found["total_ms"])).abs() < 1e-6 * total);
    let encode = &found["phases"][0];
    assert_eq!(names(&encode["stages"], "name")[0], "stem");
    let kinds = names(&encode["kinds"], "name");
    for kind in ["linear", "depthwise 7x7 s1", "conv 3x3 s2"] {
        assert!(kinds.contains(&kind), "{kind}: {kinds:?}");
    }
    let operation = &encode["operations"][0];
    assert_eq!(operation["name"], "stem.0");
    assert_eq!(list(&operation["shape"]).len(), 4);
    assert!(operation["lost_ms"].is_number());

    let scaling = &found["scaling"];
    assert_eq!(scaling["threads"], serde_json::json!([1, 2]));
    check_peak(&scaling["peaks"][0], 1);
    for row in list(&scaling["rows"]) {
        assert_eq!(list(&row["median_ms"]).len(), 2, "{row}");
        assert_eq!(row["speed_up"][0], 1.0, "{row}");
    }

    let read = |name: &str| std::fs::read(folder.path().join("found").join(name)).unwrap();
    let written: Value = serde_json::from_slice(&read("profile.json")).unwrap();
    assert_eq!(written, found);
    assert!(read("profile.png").starts_with(b"\x89PNG"));
    let svg = String::from_utf8(read("profile.svg")).unwrap();
    for word in ["encode", "prefill", "tiny-fastvlm", "2 repetitions"] {
        assert!(svg.contains(word), "{word}");
    }
}

#[test]
fn an_encoder_alone_has_one_phase_and_the_tables_say_so() {
    let tower = checkpoint("mci0/timm-inference");
    let args = [
        "profile",
        arg(&tower),
        "--iterations",
        "1",
        "--warm-up",
        "0",
        "--threads",
        "1",
        "--precision",
        "bf16",
        "--top",
        "3",
    ];
    let text = run_anywhere(args).ok();
    for part in [
        "candle",
        "cpu bf16, 1 threads, 1 repetitions",
        "measured peak: f32 multiply-add",
        "by stage\n\nstage ",
        "\nencode ",
        "\n  stem ",
        "\n  outside operations ",
        "by kind of operation\n\nphase   kind ",
        "operations that lose most time",
        "what observing costs",
    ] {
        assert!(text.contains(part), "no `{part}` in:\n{text}");
    }
    assert!(!text.contains("prefill"), "{text}");
    assert!(!text.contains("by threads"), "{text}");
    let listed = text.split("operations that lose most").nth(1).unwrap();
    let listed = listed.split("what observing").next().unwrap();
    let rows = listed.lines().filter(|line| line.starts_with("encode "));
    assert_eq!(rows.count(), 3, "{listed}");
}

#[test]
fn what_cannot_be_profiled_or_written_is_refused_before_any_work() {
    let model = fixture("tiny-fastvlm");
    run_anywhere(["profile", "fastvithdd"]).fails(3, &["did you mean `fastvithd`?"]);
    run_anywhere(["profile", arg(&model), "--device", "cuda:0"]).fails(3, &["cuda:0"]);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), "").unwrap();
    let args = ["profile", arg(&model), "--out", "file"];
    run(folder.path(), args).fails(8, &["cannot write file"]);
}

#[test]
fn doctor_measures_the_peak_if_asked() {
    let args = ["doctor", "--peak", "--threads", "1", "--format", "json"];
    check_peak(&run_anywhere(args).json(0)["peak"], 1);
    let text = run_anywhere(["doctor", "--peak"]).ok();
    for part in ["measured peak of ", "f32 multiply-add", "reading memory"] {
        assert!(text.contains(part), "no `{part}` in:\n{text}");
    }
}
