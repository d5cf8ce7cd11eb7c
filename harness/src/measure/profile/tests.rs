use vlmbench_backends::trace::OpKind;

use super::*;
use crate::measure::peak::Rate;

/// 100 GFLOP/s and 10 GB/s.
fn peak() -> Peak {
    let rate = |best| Rate {
        best,
        median: best,
        n: 1,
    };
    Peak {
        device: "cpu".into(),
        threads: 1,
        waited: None,
        f32_flops: rate(1e11),
        bf16_flops: Some(rate(2e11)),
        f32_product_flops: rate(9e10),
        bf16_product_flops: rate(9e10),
        read_bytes: rate(1e10),
        copy_bytes: rate(8e9),
    }
}

fn op(stage: &str, name: &str, kind: OpKind, (flops, bytes): (u64, u64), us: u64) -> OpRun {
    OpRun {
        stage: stage.into(),
        kind,
        name: name.into(),
        shape: Shape::Tokens { b: 1, n: 2, d: 3 },
        flops,
        bytes,
        time: Duration::from_micros(us),
    }
}

/// A request of an encoder: 3 ms of floor for arithmetic, 1 ms for memory, and
/// `us` for each operation; 500 us lie outside.
fn request(us: [u64; 3]) -> Vec<PhaseRun> {
    let ops = vec![
        op("stem", "stem.0", OpKind::Linear, (300_000_000, 1000), us[0]),
        op(
            "layers",
            "l.norm",
            OpKind::LayerNorm,
            (0, 10_000_000),
            us[1],
        ),
        op("layers", "l.fc1", OpKind::Linear, (0, 0), us[2]),
    ];
    let inside: u64 = us.iter().sum();
    vec![
        PhaseRun {
            phase: Phase::Preprocess,
            time: Duration::from_secs(1),
            ops: Vec::new(),
        },
        PhaseRun {
            phase: Phase::Encode,
            time: Duration::from_micros(inside + 500),
            ops,
        },
    ]
}

fn unobserved(us: u64) -> Vec<PhaseRun> {
    vec![PhaseRun {
        phase: Phase::Encode,
        time: Duration::from_micros(us),
        ops: Vec::new(),
    }]
}

fn close(got: f64, wanted: f64) {
    assert!(
        (got - wanted).abs() < 1e-9 * wanted.abs().max(1.0),
        "{got}, not {wanted}"
    );
}

#[test]
fn times_are_medians_beside_floors_and_shares() {
    let samples = Samples {
        observed: vec![vec![
            request([6000, 2000, 100]),
            request([4000, 1000, 300]),
            request([5000, 3000, 200]),
        ]],
        unobserved: vec![unobserved(8000), unobserved(7000), unobserved(9000)],
    };
    let phases = samples.phases(Precision::F32, &peak()).unwrap();
    assert_eq!(phases.len(), 1, "preprocessing runs no network");
    let encode = &phases[0];
    // 8.6, 5.8 and 8.7 ms; the request is this phase alone.
    close(encode.figures.median_ms, 8.6);
    close(encode.figures.min_ms, 5.8);
    close(encode.figures.share, 1.0);
    close(encode.unobserved_ms, 8.0);
    close(encode.overhead, 0.075);
    close(encode.outside_ms, 0.5);
    close(encode.figures.floor_ms, 4.0);
    close(encode.figures.over_floor.unwrap(), 2.15);
    close(encode.figures.peak_share, 3e8 / 8.6e-3 / 1e11);

    let names: Vec<&str> = encode
        .stages
        .iter()
        .map(|s| s.group.name.as_str())
        .collect();
    assert_eq!(names, ["stem", "layers"]);
    // Summed before the median is taken: 2.1, 1.3 and 3.2 ms.
    close(encode.stages[1].group.figures.median_ms, 2.1);
    assert_eq!(encode.stages[1].group.figures.count, 2);

    // The longest kind first: linear 6.1, 4.3 and 5.2 ms.
    assert_eq!(encode.kinds[0].name, "linear");
    close(encode.kinds[0].figures.median_ms, 5.2);
    close(encode.kinds[0].figures.min_ms, 4.3);
    close(encode.kinds[0].figures.flops_per_second, 3e8 / 5.2e-3);

    let stem = &encode.operations[0];
    close(stem.figures.floor_ms, 3.0);
    close(stem.lost_ms, 2.0);
    assert_eq!(stem.shape, [1, 2, 3]);
    assert_eq!(encode.operations[2].figures.over_floor, None);

    // bfloat16 has the higher peak, the same bytes have the same floor.
    let phases = samples.phases(Precision::Bf16, &peak()).unwrap();
    close(phases[0].figures.floor_ms, 1.5 + 1.0);
}

#[test]
fn scaling_compares_medians_of_thread_counts() {
    let samples = Samples {
        observed: vec![
            vec![request([6000, 2000, 0])],
            vec![request([3000, 2500, 0])],
        ],
        unobserved: vec![unobserved(6000)],
    };
    let rows = samples.scaling();
    let names: Vec<Option<&str>> = rows.iter().map(|r| r.stage.as_deref()).collect();
    assert_eq!(names, [None, Some("stem"), Some("layers")]);
    close(rows[0].speed_up[0], 1.0);
    close(rows[0].speed_up[1], 8.5 / 6.0);
    close(rows[1].speed_up[1], 2.0);
    close(rows[2].speed_up[1], 0.8);
}

#[test]
fn repetitions_that_differ_are_refused() {
    let mut other = request([1, 2, 3]);
    other[1].ops.pop();
    let samples = Samples {
        observed: vec![vec![request([1, 2, 3]), other]],
        unobserved: vec![unobserved(10)],
    };
    let error = samples.phases(Precision::F32, &peak()).unwrap_err();
    assert!(error.to_string().contains("3 operations"), "{error}");
}
