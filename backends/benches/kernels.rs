//! The CPU kernels on the shapes that the networks give them, each beside what
//! candle alone would do, or beside the plain loop that the kernel replaces:
//! products and convolutions in FLOP/s, row operations in bytes read and written.
//!
//! `cargo bench -p vlmbench-backends --bench kernels`

use std::hint::black_box;
use std::time::Duration;

use candle_core::quantized::{GgmlDType, QMatMul, QTensor};
use candle_core::{Device, Module, Tensor};
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use half::bf16;
use vlmbench_backends::blocks::BlockType;
use vlmbench_backends::candle::kernels::attention::{Sequence, View, attention};
use vlmbench_backends::candle::kernels::blocks::BlockMatrix;
use vlmbench_backends::candle::kernels::depthwise::{Geometry, depthwise, pack_weight};
use vlmbench_backends::candle::kernels::element::Element;
use vlmbench_backends::candle::kernels::linear::{Dense, Epilogue, Weight, linear, linear_blocks};
use vlmbench_backends::candle::kernels::norm::{Kind, norm};
use vlmbench_backends::candle::kernels::packed::Packing;
use vlmbench_backends::candle::kernels::pointwise::{gate, glu, row_mean};
use vlmbench_backends::candle::kernels::rotary::RotaryTable;
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

/// A group of fast operations: more shapes in less time.
fn quick<'a>(c: &'a mut Criterion, name: &str) -> Group<'a> {
    let mut group = group(c, name);
    group.measurement_time(Duration::from_millis(500));
    group.warm_up_time(Duration::from_millis(100));
    group
}

fn half(v: &[f32]) -> Vec<bf16> {
    v.iter().map(|v| bf16::from_f32(*v)).collect()
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
    // One shape is enough for the plain loop, which takes a hundred times as long.
    let (x, w) = (values(64 * 384), values(1536 * 384));
    let packed = pack(&w, 1536, 384);
    let bias = values(1536);
    group.throughput(Throughput::Elements(2 * 64 * 384 * 1536));
    group.bench_function("f32 64 rows of fastvithd stage 3 fc1", |b| {
        b.iter(|| black_box(run_linear(&x, 64, 384, &packed, 1536, &bias, Act::None)));
    });
    group.bench_function("f32 64 rows of fastvithd stage 3 fc1, plain loop", |b| {
        b.iter(|| black_box(naive_linear(&x, 384, &w)));
    });
    for (name, rows, width, cols, act) in shapes {
        let (x, w, bias) = (values(rows * width), values(cols * width), values(cols));
        group.throughput(Throughput::Elements((2 * rows * width * cols) as u64));
        let packed = pack(&w, cols, width);
        group.bench_function(format!("f32 {name}"), |b| {
            b.iter(|| black_box(run_linear(&x, rows, width, &packed, cols, &bias, act)));
        });
        let (x16, packed16, bias16) = (half(&x), pack(&half(&w), cols, width), half(&bias));
        group.bench_function(format!("bf16 {name}"), |b| {
            b.iter(|| black_box(run_linear(&x16, rows, width, &packed16, cols, &bias16, act)));
        });
        let device = Device::Cpu;
        let xt = Tensor::from_vec(x, (rows, width), &device).expect("shape fits");
        let wt = Tensor::from_vec(w, (cols, width), &device).expect("shape fits");
        group.bench_function(format!("f32 {name}, candle matmul alone"), |b| {
            b.iter(|| black_box(xt.matmul(&wt.t().expect("matrix")).expect("shapes fit")));
        });
    }
}

fn pack<T: Element>(w: &[T], cols: usize, width: usize) -> Vec<T> {
    Packing::of::<T>().pack(cols, width, |c, from, dst: &mut [T]| {
        dst.copy_from_slice(&w[c * width + from..][..dst.len()]);
    })
}

fn run_linear<T: Element>(
    x: &[T],
    rows: usize,
    width: usize,
    packed: &[T],
    cols: usize,
    bias: &[T],
    act: Act,
) -> Vec<T> {
    let epilogue = Epilogue {
        bias: Some(bias),
        act,
        residual: None,
    };
    let weight = Weight {
        data: packed,
        cols,
        packing: Packing::of::<T>(),
    };
    linear(&Dense { data: x, width }, rows, &weight, &epilogue)
}

/// Matrices of Qwen2-7B and Qwen2-0.5B in blocks, for a decode step and for a
/// prefill, beside candle's quantised product (which rounds activations to
/// eight bits); bytes are those of the blocks.
fn blocks(c: &mut Criterion) {
    let mut group = group(c, "blocks");
    let shapes = [
        (
            "qwen2-7b down",
            18_944,
            3584,
            BlockType::Q4K,
            GgmlDType::Q4K,
        ),
        (
            "qwen2-7b down",
            18_944,
            3584,
            BlockType::Q6K,
            GgmlDType::Q6K,
        ),
        (
            "qwen2-7b down",
            18_944,
            3584,
            BlockType::Q8_0,
            GgmlDType::Q8_0,
        ),
        (
            "qwen2-0.5b gate_up",
            896,
            9728,
            BlockType::Q5_0,
            GgmlDType::Q5_0,
        ),
    ];
    for (name, width, cols, kind, dtype) in shapes {
        let w = values(width * cols);
        let matrix = BlockMatrix::pack(width, &[(kind, cols)], |kind, rows, bytes| {
            kind.quantise(&w[rows.start * width..rows.end * width], bytes)
        });
        let matrix = matrix.expect("whole blocks");
        let wt = Tensor::from_vec(w, (cols, width), &Device::Cpu).expect("shape fits");
        let theirs = QTensor::quantize(&wt, dtype).expect("whole blocks");
        let theirs = QMatMul::from_qtensor(theirs).expect("a matrix");
        for rows in [1, 320] {
            let x = values(rows * width);
            let x16 = half(&x);
            let epilogue = Epilogue {
                bias: None,
                act: Act::None,
                residual: None,
            };
            group.throughput(match rows {
                1 => Throughput::Bytes(matrix.bytes()),
                _ => Throughput::Elements((2 * rows * width * cols) as u64),
            });
            let kind = kind.name();
            group.bench_function(format!("{kind} {name}, {rows} tokens"), |b| {
                b.iter(|| black_box(linear_blocks(&x16, rows, &matrix, &epilogue)));
            });
            let xt = Tensor::from_vec(x, (rows, width), &Device::Cpu).expect("shape fits");
            group.bench_function(
                format!("{kind} {name}, {rows} tokens, candle QMatMul"),
                |b| {
                    b.iter(|| black_box(theirs.forward(&xt).expect("shapes fit")));
                },
            );
        }
    }
}

/// The plain loop over rows, output features and the inner dimension.
fn naive_linear(x: &[f32], width: usize, w: &[f32]) -> Vec<f32> {
    let mut out = Vec::with_capacity(x.len() / width * (w.len() / width));
    for row in x.chunks_exact(width) {
        for w in w.chunks_exact(width) {
            out.push(row.iter().zip(w).map(|(x, w)| x * w).sum());
        }
    }
    out
}

/// The plain loop over pixels, taps and channels.
fn naive_depthwise(x: &[f32], weight: &[f32], bias: &[f32], g: &Geometry) -> Vec<f32> {
    let (oh, ow, oc) = (g.out_side(g.height), g.out_side(g.width), g.out_channels());
    let pad = g.kernel / 2;
    let mut out = vec![0.0; oh * ow * oc];
    for (pixel, out) in out.chunks_exact_mut(oc).enumerate() {
        out.copy_from_slice(bias);
        for tap in 0..g.kernel * g.kernel {
            let y = (pixel / ow * g.stride + tap / g.kernel).wrapping_sub(pad);
            let x0 = (pixel % ow * g.stride + tap % g.kernel).wrapping_sub(pad);
            if y < g.height && x0 < g.width {
                let x = &x[(y * g.width + x0) * g.channels..][..g.channels];
                for (c, out) in out.iter_mut().enumerate() {
                    *out += x[c / g.multiplier] * weight[tap * oc + c];
                }
            }
        }
    }
    out
}

/// Depthwise layers of FastViTHD at 1024 px, and its last maps at 256 px.
fn depthwises(c: &mut Criterion) {
    let mut group = quick(c, "depthwise");
    let shapes = [
        ("7x7 stage 2", 128, 192, 7, 1, 1),
        ("7x7 stage 3", 64, 384, 7, 1, 1),
        ("7x7 stage 5", 16, 1536, 7, 1, 1),
        ("7x7 stage 5 @256", 4, 1536, 7, 1, 1),
        ("3x3 stage 3", 64, 384, 3, 1, 1),
        ("3x3 stem, stride 2", 512, 96, 3, 2, 1),
        ("3x3 head, multiplier 2", 16, 1536, 3, 1, 2),
        ("7x7 stride 2 into stage 4", 64, 384, 7, 2, 2),
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
            padding: kernel / 2,
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
        let (x16, bias16) = (half(&x), half(&bias));
        group.bench_function(format!("bf16 {name}"), |b| {
            b.iter(|| black_box(depthwise(&x16, &packed, &bias16, Act::None, &g)));
        });
        group.bench_function(format!("f32 {name}, plain loop"), |b| {
            b.iter(|| black_box(naive_depthwise(&x, &weight, &bias, &g)));
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
        attend(&mut group, &format!("f32 {name}"), &qkv, heads, causal);
        attend(
            &mut group,
            &format!("bf16 {name}"),
            &half(&qkv),
            heads,
            causal,
        );
    }
}

/// Self-attention of packed rows `[q | k | v]`.
fn attend<T: Element>(group: &mut Group<'_>, name: &str, qkv: &[T], heads: Heads, causal: bool) {
    let n = qkv.len() / heads.packed();
    let view = |offset| View {
        data: qkv,
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
    group.bench_function(name, |b| {
        b.iter(|| black_box(attention(std::slice::from_ref(&sequence), heads, causal)));
    });
}

/// Norms of a Qwen2-0.5B prefill.
fn norms(c: &mut Criterion) {
    let mut group = quick(c, "norm");
    let (x, w) = (values(608 * 896), values(896));
    let (x16, w16) = (half(&x), half(&w));
    for (name, kind) in [("layer", Kind::Layer), ("rms", Kind::Rms)] {
        let bias = (kind == Kind::Layer).then_some(&w[..]);
        let bias16 = (kind == Kind::Layer).then_some(&w16[..]);
        group.throughput(Throughput::Bytes(8 * 608 * 896));
        group.bench_function(format!("f32 {name} 608x896"), |b| {
            b.iter(|| black_box(norm(&x, (&w, bias), kind, 1e-5, Act::None)));
        });
        group.bench_function(format!("f32 {name} 608x896, plain loop"), |b| {
            b.iter(|| black_box(naive_norm(&x, &w, bias, 1e-5)));
        });
        group.throughput(Throughput::Bytes(4 * 608 * 896));
        group.bench_function(format!("bf16 {name} 608x896"), |b| {
            b.iter(|| black_box(norm(&x16, (&w16, bias16), kind, 1e-5, Act::None)));
        });
    }
}

/// Layer norm with a bias, RMS norm without.
fn naive_norm(x: &[f32], w: &[f32], bias: Option<&[f32]>, eps: f32) -> Vec<f32> {
    let d = w.len() as f32;
    let mut out = Vec::with_capacity(x.len());
    for row in x.chunks_exact(w.len()) {
        let mean = bias.map_or(0.0, |_| row.iter().sum::<f32>() / d);
        let square = row.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / d;
        let scale = 1.0 / (square + eps).sqrt();
        for (i, v) in row.iter().enumerate() {
            out.push((v - mean) * scale * w[i] + bias.map_or(0.0, |b| b[i]));
        }
    }
    out
}

/// Means and gates of FastViTHD's squeeze-and-excitation at 1024 px; SwiGLU
/// and rotation of a Qwen2-0.5B prefill.
fn rows(c: &mut Criterion) {
    let mut group = quick(c, "rows");
    let (rows, channels) = (256, 3072);
    let x = values(rows * channels);
    let x16 = half(&x);
    group.throughput(Throughput::Bytes((4 * x.len()) as u64));
    group.bench_function("f32 mean 256x3072", |b| {
        b.iter(|| black_box(row_mean(&x, rows, channels)));
    });
    group.bench_function("f32 mean 256x3072, plain loop", |b| {
        b.iter(|| {
            let mut sums = vec![0.0; channels];
            for row in x.chunks_exact(channels) {
                for (sum, v) in sums.iter_mut().zip(row) {
                    *sum += v / rows as f32;
                }
            }
            black_box(sums)
        });
    });
    group.throughput(Throughput::Bytes((8 * x.len()) as u64));
    let factors = values(channels);
    group.bench_function("f32 gate 256x3072, quick gelu", |b| {
        b.iter(|| black_box(gate(&x, &factors, channels, Act::QuickGelu)));
    });
    group.bench_function("f32 gate 256x3072, quick gelu, plain loop", |b| {
        b.iter(|| {
            let gated = x.iter().zip(factors.iter().cycle()).map(|(v, g)| v * g);
            black_box(
                gated
                    .map(|v| v / (1.0 + (-1.702 * v).exp()))
                    .collect::<Vec<_>>(),
            )
        });
    });
    group.throughput(Throughput::Bytes((4 * x.len()) as u64));
    group.bench_function("bf16 gate 256x3072, gelu", |b| {
        let factors = half(&factors);
        b.iter(|| black_box(gate(&x16, &factors, channels, Act::Gelu)));
    });

    let (tokens, width) = (320, 4864);
    let x = values(tokens * 2 * width);
    group.throughput(Throughput::Bytes((12 * tokens * width) as u64));
    group.bench_function("f32 swiglu 320x4864", |b| {
        b.iter(|| black_box(glu(&x, width, Act::Silu)));
    });
    group.bench_function("f32 swiglu 320x4864, plain loop", |b| {
        b.iter(|| {
            let mut out = Vec::with_capacity(tokens * width);
            for row in x.chunks_exact(2 * width) {
                for (g, u) in row[..width].iter().zip(&row[width..]) {
                    out.push(g * u / (1.0 + (-g).exp()));
                }
            }
            black_box(out)
        });
    });

    let heads = Heads {
        heads: 14,
        kv_heads: 2,
        head_dim: 64,
    };
    let qkv = values(tokens * heads.packed());
    let table = RotaryTable::new(1e6, heads.head_dim, tokens);
    let positions: Vec<usize> = (0..tokens).collect();
    group.throughput(Throughput::Bytes((8 * qkv.len()) as u64));
    group.bench_function("f32 rotary 320 tokens", |b| {
        b.iter(|| black_box(table.rotate(&qkv, heads, &positions)));
    });
    group.bench_function("f32 rotary 320 tokens, plain loop", |b| {
        b.iter(|| black_box(naive_rotary(&qkv, heads)));
    });
}

fn naive_rotary(qkv: &[f32], heads: Heads) -> Vec<f32> {
    let half = heads.head_dim / 2;
    let mut out = qkv.to_vec();
    for (position, row) in out.chunks_exact_mut(heads.packed()).enumerate() {
        let rotated = (heads.heads + heads.kv_heads) * heads.head_dim;
        for head in row[..rotated].chunks_exact_mut(heads.head_dim) {
            for i in 0..half {
                let frequency = 1e6_f32.powf(-(i as f32) / half as f32);
                let (sin, cos) = (position as f32 * frequency).sin_cos();
                let (a, b) = (head[i], head[half + i]);
                head[i] = a * cos - b * sin;
                head[half + i] = b * cos + a * sin;
            }
        }
    }
    out
}

criterion_group!(
    benches, linears, blocks, depthwises, attentions, norms, rows
);
criterion_main!(benches);
