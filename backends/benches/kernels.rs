//! The CPU kernels on the shapes that the networks give them, in FLOP/s, each
//! beside what candle alone would do where candle has the operation.
//!
//! `cargo bench -p vlmbench-backends --bench kernels`

use std::hint::black_box;
use std::time::Duration;

use candle_core::{Device, Tensor};
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use half::bf16;
use vlmbench_backends::candle::kernels::attention::{Sequence, View, attention};
use vlmbench_backends::candle::kernels::depthwise::{Geometry, depthwise, pack_weight};
use vlmbench_backends::candle::kernels::element::Element;
use vlmbench_backends::candle::kernels::linear::{Dense, Epilogue, linear};
use vlmbench_backends::candle::kernels::norm::{Kind, norm};
use vlmbench_backends::ops::{Act, Heads};

type Group<'a> = BenchmarkGroup<'a, criterion::measurement::WallTime>;

fn group<'a>(c: &'a mut Criterion, name: &str) -> Group<'a> {
    let mut group = c.benchmark_group(name);
    group.sample_size(10);
    group.measurement_time(Duration::from_secs(2));
    group.warm_up_time(Duration::from_millis(500));
    group
}

fn values(n: usize) -> Vec<f32> {
    (0..n).map(|i| (i % 251) as f32 / 251.0 - 0.5).collect()
}

/// Products of FastViTHD's feed-forward networks and Qwen2-0.5B's layers.
fn linears(c: &mut Criterion) {
    let mut group = group(c, "linear");
    let shapes = [
        ("fastvithd stage 1 fc1 @1024", 65_536, 96, 384, Act::Gelu),
        ("fastvithd stage 3 fc1 @1024", 4096, 384, 1536, Act::Gelu),
        ("fastvithd stage 3 fc2 @1024", 4096, 1536, 384, Act::None),
        ("vit-l fc1 @336", 577, 1024, 4096, Act::QuickGelu),
        ("qwen2-0.5b gate_up, 320 tokens", 320, 896, 9728, Act::None),
        ("qwen2-0.5b gate_up, 1 token", 1, 896, 9728, Act::None),
    ];
    for (name, rows, width, cols, act) in shapes {
        let (x, w, bias) = (values(rows * width), values(cols * width), values(cols));
        group.throughput(Throughput::Elements((2 * rows * width * cols) as u64));
        group.bench_function(format!("f32 {name}"), |b| {
            b.iter(|| black_box(run_linear(&x, rows, width, &w, &bias, act)));
        });
        let half = |v: &[f32]| v.iter().map(|v| bf16::from_f32(*v)).collect::<Vec<_>>();
        let (x16, w16, bias16) = (half(&x), half(&w), half(&bias));
        group.bench_function(format!("bf16 {name}"), |b| {
            b.iter(|| black_box(run_linear(&x16, rows, width, &w16, &bias16, act)));
        });
        let device = Device::Cpu;
        let xt = Tensor::from_vec(x, (rows, width), &device).expect("shape fits");
        let wt = Tensor::from_vec(w, (cols, width), &device).expect("shape fits");
        group.bench_function(format!("f32 {name}, candle matmul alone"), |b| {
            b.iter(|| black_box(xt.matmul(&wt.t().expect("matrix")).expect("shapes fit")));
        });
    }
}

fn run_linear<T: Element>(
    x: &[T],
    rows: usize,
    width: usize,
    w: &[T],
    bias: &[T],
    act: Act,
) -> Vec<T> {
    let epilogue = Epilogue {
        bias: Some(bias),
        act,
        residual: None,
    };
    linear(&Dense { data: x, width }, rows, w, &epilogue)
}

/// Depthwise layers of FastViTHD at 1024 px.
fn depthwises(c: &mut Criterion) {
    let mut group = group(c, "depthwise");
    let shapes = [
        ("7x7 stage 1", 256, 96, 7, 1, 1),
        ("7x7 stage 3", 64, 384, 7, 1, 1),
        ("7x7 stage 5", 16, 1536, 7, 1, 1),
        ("3x3 stage 3", 64, 384, 3, 1, 1),
        ("7x7 stride 2 into stage 3", 128, 192, 7, 2, 2),
    ];
    for (name, side, channels, kernel, stride, multiplier) in shapes {
        let g = Geometry {
            batch: 1,
            height: side,
            width: side,
            channels,
            multiplier,
            kernel,
            stride,
        };
        let oc = g.out_channels();
        let x = values(side * side * channels);
        let weight = values(oc * kernel * kernel);
        let packed = pack_weight(&weight, oc, kernel);
        let bias = values(oc);
        let out = g.out_side(side);
        group.throughput(Throughput::Elements(
            (2 * out * out * oc * kernel * kernel) as u64,
        ));
        group.bench_function(format!("f32 {name}"), |b| {
            b.iter(|| black_box(depthwise(&x, &packed, &bias, Act::None, &g)));
        });
    }
    // candle splits a grouped convolution into one per channel: one shape is
    // enough to see what that costs.
    let x = Tensor::from_vec(values(64 * 64 * 384), (1, 384, 64, 64), &Device::Cpu);
    let w = Tensor::from_vec(values(384 * 49), (384, 1, 7, 7), &Device::Cpu);
    let (x, w) = (x.expect("shape fits"), w.expect("shape fits"));
    group.throughput(Throughput::Elements(2 * 64 * 64 * 384 * 49));
    group.bench_function("f32 7x7 stage 3, candle grouped conv2d", |b| {
        b.iter(|| black_box(x.conv2d(&w, 3, 1, 1, 384).expect("shapes fit")));
    });
}

/// Attention of ViT-L/14 at 336 px and of a Qwen2-0.5B prefill.
fn attentions(c: &mut Criterion) {
    let mut group = group(c, "attention");
    let grouped = Heads {
        heads: 14,
        kv_heads: 2,
        head_dim: 64,
    };
    let shapes = [
        ("vit-l @336", Heads::full(16, 64), 577, false),
        ("fastvithd stage 4 @1024", Heads::full(24, 32), 1024, false),
        ("qwen2-0.5b, 608 tokens", grouped, 608, true),
    ];
    for (name, heads, n, causal) in shapes {
        let qkv = values(n * heads.packed());
        group.throughput(Throughput::Elements((4 * n * n * heads.width()) as u64));
        group.bench_function(format!("f32 {name}"), |b| {
            let view = |offset| View {
                data: &qkv[..],
                offset,
                stride: heads.packed(),
            };
            let sequence = Sequence {
                q: view(0),
                k: view(heads.width()),
                v: view(heads.width() + heads.kv_heads * heads.head_dim),
                queries: n,
                keys: n,
            };
            b.iter(|| black_box(attention(std::slice::from_ref(&sequence), heads, causal)));
        });
    }
}

/// Norms, in elements per second.
fn norms(c: &mut Criterion) {
    let mut group = group(c, "norm");
    let (x, w) = (values(608 * 896), values(896));
    group.throughput(Throughput::Elements(608 * 896));
    for (name, kind, bias) in [
        ("layer", Kind::Layer, Some(&w[..])),
        ("rms", Kind::Rms, None),
    ] {
        group.bench_function(format!("f32 {name} 608x896"), |b| {
            b.iter(|| black_box(norm(&x, &w, bias, kind, 1e-5)));
        });
    }
}

criterion_group!(benches, linears, depthwises, attentions, norms);
criterion_main!(benches);
