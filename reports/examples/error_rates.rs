//! How often the statistics of comparisons are wrong, by simulation: the tables of METHODOLOGY.md.
//!
//! ```sh
//! cargo run --release --example error_rates
//! ```
//!
//! Seeds are fixed. Some minutes, on one core.

use std::f64::consts::TAU;

use vlmbench_reports::stats::{
    ChangeSettings, Interval, bounded_interval, change_points, cluster_interval, holm,
    shift_interval, sign_flips,
};

/// SplitMix64 and what is drawn from it.
struct Noise(u64);

impl Noise {
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn chance(&mut self, p: f64) -> bool {
        self.uniform() < p
    }

    fn normal(&mut self) -> f64 {
        (-2.0 * (1.0 - self.uniform()).ln()).sqrt() * (TAU * self.uniform()).cos()
    }

    /// Logarithm of a slowdown by 10 to 30 % in one of twenty.
    fn spike(&mut self) -> f64 {
        let size = (1.1 + 0.2 * self.uniform()).ln();
        if self.chance(0.05) { size } else { 0.0 }
    }
}

fn row(name: &str, cells: impl IntoIterator<Item = f64>) {
    let cells: Vec<String> = cells
        .into_iter()
        .map(|c| format!("{:.1} %", 100.0 * c))
        .collect();
    println!("| {name} | {} |", cells.join(" | "));
}

fn share(times: usize, mut hit: impl FnMut() -> bool) -> f64 {
    (0..times).filter(|_| hit()).count() as f64 / times as f64
}

type Draw = fn(&mut Noise) -> f64;

/// Distributions of mean 0.
const DIFFERENCES: [(&str, Draw); 3] = [
    ("normal", |n| n.normal()),
    ("Student's t, 3 degrees", |n| {
        let squares = n.normal().powi(2) + n.normal().powi(2) + n.normal().powi(2);
        n.normal() / (squares / 3.0).sqrt()
    }),
    ("lognormal, sigma 1 (skewed)", |n| {
        n.normal().exp() - 0.5_f64.exp()
    }),
];

fn covers(interval: Option<Interval>, truth: f64) -> bool {
    interval.is_some_and(|i| i.low <= truth && truth <= i.high)
}

fn coverage() {
    println!("| `shift_interval`, 95 % | n = 8 | n = 12 | n = 24 |\n| :-- | --: | --: | --: |");
    for (name, draw) in DIFFERENCES {
        let mut noise = Noise(1);
        row(
            name,
            [(8, 4000), (12, 4000), (24, 500)].map(|(n, times)| {
                share(times, || {
                    let values: Vec<f64> = (0..n).map(|_| draw(&mut noise)).collect();
                    covers(shift_interval(&values, 0.95), 0.0)
                })
            }),
        );
    }
    println!("\n| clusters, 95 % | 12 clusters | 24 | 180 |\n| :-- | --: | --: | --: |");
    let clustered = |name: &str, change: Option<f64>, draw: Draw, most: Option<f64>| {
        let mut noise = Noise(2);
        row(
            name,
            [12, 24, 180].map(|clusters| {
                share(500, || {
                    let (mut differences, mut keys) = (Vec::new(), Vec::new());
                    for cluster in 0..clusters {
                        let one = |noise: &mut Noise| match change {
                            // Three gains for two losses.
                            Some(p) if noise.chance(p) => f64::from(noise.chance(0.6)) * 2.0 - 1.0,
                            Some(_) => 0.0,
                            None => draw(noise),
                        };
                        let common = one(&mut noise);
                        for _ in 0..1 + (noise.uniform() * 3.0) as usize {
                            let alike = noise.chance(0.3);
                            differences.push(if alike { common } else { one(&mut noise) });
                            keys.push(cluster);
                        }
                    }
                    let interval = match most {
                        Some(most) => bounded_interval(&differences, &keys, most, 0.95),
                        None => cluster_interval(&differences, &keys, 0.95),
                    };
                    covers(interval, 0.2 * change.unwrap_or(0.0))
                })
            }),
        );
    };
    for (name, draw) in DIFFERENCES {
        clustered(&format!("`cluster_interval`, {name}"), None, draw, None);
    }
    for (routine, most) in [("cluster_interval", None), ("bounded_interval", Some(1.0))] {
        for percent in [20, 3] {
            let name = format!("`{routine}`, right or wrong, {percent} % changed");
            clustered(
                &name,
                Some(f64::from(percent) / 100.0),
                DIFFERENCES[0].1,
                most,
            );
        }
    }
}

const FIGURES: usize = 10;
const LOOKS: [usize; 3] = [12, 24, 48];
const ALPHA: f64 = 0.01;
const RELEVANT: f64 = 0.01;

/// A sitting of 48 pairs, each four turns in the order ABBA or BAAB, and what disturbs it.
#[derive(Clone, Copy)]
struct Sitting {
    /// Standard deviation of the logarithm of a pair's ratio.
    sd: f64,
    /// Slowdown of the first figure.
    slower: f64,
    /// Rise over the whole sitting.
    drift: f64,
    /// Standard deviation of a step of the walk, turn by turn.
    walk: f64,
    spikes: bool,
    host: bool,
    /// Share of the variance that all figures have in common.
    common: f64,
}

const QUIET: Sitting = Sitting {
    sd: 0.02,
    slower: 0.0,
    drift: 0.0,
    walk: 0.0,
    spikes: false,
    host: false,
    common: 0.0,
};

impl Sitting {
    /// For every figure the logarithm of candidate / base of every pair.
    fn ratios(&self, noise: &mut Noise) -> Vec<Vec<f64>> {
        let mut ratios = vec![Vec::new(); FIGURES];
        let turns = 4 * LOOKS[LOOKS.len() - 1];
        let switch = turns / 4 + (noise.uniform() * turns as f64 / 2.0) as usize;
        let mut walk = 0.0;
        for pair in 0..LOOKS[LOOKS.len() - 1] {
            let first = if noise.chance(0.5) { 1.0 } else { -1.0 };
            let mut sums = [0.0; FIGURES];
            for (place, side) in [first, -first, -first, first].into_iter().enumerate() {
                let turn = 4 * pair + place;
                walk += self.walk * noise.normal();
                let level = walk
                    + self.drift * turn as f64 / turns as f64
                    + if self.host && turn >= switch {
                        0.1
                    } else {
                        0.0
                    };
                let common = noise.normal() * self.common.sqrt();
                for sum in &mut sums {
                    let own = common + noise.normal() * (1.0 - self.common).sqrt();
                    let spike = if self.spikes { noise.spike() } else { 0.0 };
                    // A side is the mean of two turns, a ratio the difference of two sides.
                    *sum += side * (level + self.sd * own + spike) / 2.0;
                }
            }
            sums[0] += self.slower.ln_1p();
            ratios
                .iter_mut()
                .zip(sums)
                .for_each(|(ratios, sum)| ratios.push(sum));
        }
        ratios
    }

    /// Which figures are called regressed at any look.
    fn regressed(&self, noise: &mut Noise) -> [bool; FIGURES] {
        let ratios = self.ratios(noise);
        let mut regressed = [false; FIGURES];
        for look in LOOKS {
            let p = ratios.iter().map(|ratios| {
                let (sum, squares) = (ratios[..look].iter())
                    .fold((0.0, 0.0), |(sum, squares), r| (sum + r, squares + r * r));
                // Of random signs, 3 in 32 exceed one standard deviation at least (Dvorak and Tiep,
                // 2022): such a p decides nothing, and need not be counted.
                if sum <= f64::sqrt(squares) {
                    return 1.0;
                }
                sign_flips(&ratios[..look]).expect("finite").p_greater
            });
            let adjusted = holm(&p.collect::<Vec<_>>());
            for (figure, p) in adjusted.iter().enumerate() {
                let mean = ratios[figure][..look].iter().sum::<f64>() / look as f64;
                let relevant = mean.exp_m1() > RELEVANT;
                regressed[figure] |= relevant && *p <= ALPHA / LOOKS.len() as f64;
            }
        }
        regressed
    }
}

fn latencies() {
    println!("\n| false alarms of a comparison, 10 figures, no change | pair sd 1 % | 2 % | 5 % |");
    println!("| :-- | --: | --: | --: |");
    for (name, sitting) in [
        ("independent", QUIET),
        (
            "drift of 10 % over the sitting",
            Sitting {
                drift: 0.1,
                ..QUIET
            },
        ),
        (
            "random walk, 1 % a turn",
            Sitting {
                walk: 0.01,
                ..QUIET
            },
        ),
        (
            "5 % spikes of +10..30 %",
            Sitting {
                spikes: true,
                ..QUIET
            },
        ),
        (
            "another host (+10 %) from the middle on",
            Sitting {
                host: true,
                ..QUIET
            },
        ),
        (
            "figures correlated by 0.8",
            Sitting {
                common: 0.8,
                ..QUIET
            },
        ),
    ] {
        let mut noise = Noise(3);
        row(
            name,
            [0.01, 0.02, 0.05].map(|sd| {
                let sitting = Sitting { sd, ..sitting };
                share(2000, || sitting.regressed(&mut noise).contains(&true))
            }),
        );
    }
    println!("\n| power, one of 10 figures slower | pair sd 1 % | 2 % | 3 % |");
    println!("| :-- | --: | --: | --: |");
    for slower in [0.02, 0.05] {
        let mut noise = Noise(4);
        row(
            &format!("by {:.0} %", 100.0 * slower),
            [0.01, 0.02, 0.03].map(|sd| {
                let sitting = Sitting {
                    sd,
                    slower,
                    ..QUIET
                };
                share(500, || sitting.regressed(&mut noise)[0])
            }),
        );
    }
}

/// A series of a level of 100 with 2 % of noise, and the host of each value.
fn series(kind: usize, count: usize, noise: &mut Noise) -> Vec<(f64, bool)> {
    let (mut before, mut host) = (noise.normal(), noise.chance(0.5));
    (0..count)
        .map(|_| {
            let fresh = noise.normal();
            before = 0.5 * before + 0.75_f64.sqrt() * fresh;
            host ^= noise.chance(0.1);
            let log = match kind {
                1 => 0.02 * before,
                2 => 0.02 * fresh + noise.spike(),
                3 | 4 => 0.02 * fresh + if host { 0.1 } else { 0.0 },
                _ => 0.02 * fresh,
            };
            (100.0 * log.exp(), host)
        })
        .collect()
}

fn histories() {
    println!("\n| series without a change, any found | n = 50 | n = 100 | n = 200 |");
    println!("| :-- | --: | --: | --: |");
    let settings = ChangeSettings::default();
    let changed = |values: Vec<f64>| !change_points(&values, settings).is_empty();
    for (kind, name) in [
        "white noise",
        "AR(1), 0.5",
        "5 % spikes of +10..30 %",
        "two hosts (+10 %), sticky (switch 0.1), as one series",
        "the same, a series a host",
    ]
    .into_iter()
    .enumerate()
    {
        let mut noise = Noise(5);
        row(
            name,
            [50, 100, 200].map(|count| {
                share(if kind == 3 { 10 } else { 300 }, || {
                    let series = series(kind, count, &mut noise);
                    let of = |wanted: &dyn Fn(bool) -> bool| {
                        let values = series.iter().filter(|(_, host)| wanted(*host));
                        changed(values.map(|&(value, _)| value).collect())
                    };
                    match kind {
                        4 => of(&|host| host) || of(&|host| !host),
                        _ => of(&|_| true),
                    }
                })
            }),
        );
    }
    println!(
        "\n| change found within 2 places, 50 values before | 3 after | 5 after | 7 after | 12 after |"
    );
    println!("| :-- | --: | --: | --: | --: |");
    for (name, step) in [
        ("2 sd (4 %)", 1.04),
        ("3 sd (6 %)", 1.06),
        ("5 sd (10 %)", 1.1),
    ] {
        let mut noise = Noise(6);
        row(
            name,
            [3, 5, 7, 12].map(|after| {
                share(40, || {
                    let mut values: Vec<f64> = Vec::new();
                    for (value, _) in series(0, 50 + after, &mut noise) {
                        values.push(value * if values.len() >= 50 { step } else { 1.0 });
                    }
                    let found = change_points(&values, settings);
                    found.iter().any(|change| change.index.abs_diff(50) <= 2)
                })
            }),
        );
    }
}

fn main() {
    coverage();
    latencies();
    histories();
}
