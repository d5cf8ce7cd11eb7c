//! Transcendental functions on vectors in registers, and the activations made
//! of them. One formula each: a slice is a run of vectors.

use super::simd::{LANES, Simd, Vector};
use crate::ops::Act;

/// `exp(x)` to about 1 ulp; the smallest normal number below -87.3,
/// saturating above 88.3.
///
/// Range reduction `x = n ln2 + r` and a degree-6 minimax polynomial (Cephes).
#[inline(always)]
pub fn exp<S: Simd>(x: S::Vector) -> S::Vector {
    const LN2_HI: f32 = 0.693_359_4;
    const LN2_LO: f32 = -2.121_944_4e-4;
    // These bounds keep n in -126..=127. The order lets a NaN through.
    let x = S::Vector::splat(-87.336_54).max(x);
    let x = S::Vector::splat(88.37).min(x);
    let n = x.mul(S::Vector::splat(std::f32::consts::LOG2_E)).round();
    let r = n.mul_add(S::Vector::splat(-LN2_HI), x);
    let r = n.mul_add(S::Vector::splat(-LN2_LO), r);
    let p = polynomial::<S, 6>(
        r,
        [
            1.987_569_1e-4,
            1.398_199_9e-3,
            8.333_452e-3,
            4.166_579_6e-2,
            1.666_666_5e-1,
            0.5,
        ],
    );
    let p = p.mul_add(r.mul(r), r).add(S::Vector::splat(1.0));
    p.scale(n)
}

/// `x * Phi(x)`, the exact GELU, with `Phi` to 2e-7.
///
/// As `max(x, 0) - |x| Phi(-|x|)`, which keeps small values exact; the tail of
/// the normal distribution is one of sixteen polynomials, whose coefficients
/// are looked up in registers. That costs half of a rational approximation.
#[inline(always)]
pub fn gelu<S: Simd>(x: S::Vector) -> S::Vector {
    // Adding 1.5 * 2^23 rounds to an integer, in the lowest bits of the sum.
    const ROUND: f32 = 12_582_912.0;
    let zero = S::Vector::splat(0.0);
    let magnitude = S::Vector::splat(END as f32).min(zero.sub(x).max(x));
    let per_piece = S::Vector::splat((1.0 / WIDTH) as f32);
    let piece = magnitude.mul_add(per_piece, S::Vector::splat(ROUND));
    let minus_center = S::Vector::splat(ROUND).sub(piece);
    let at = magnitude.mul_add(per_piece, minus_center);
    let mut tail = S::Vector::load(&TAIL[DEGREE]).pick(piece);
    for coefficients in TAIL[..DEGREE].iter().rev() {
        tail = tail.mul_add(at, S::Vector::load(coefficients).pick(piece));
    }
    magnitude.mul_add(tail, zero.max(x))
}

/// Polynomials of the normal distribution's tail.
const PIECES: usize = LANES;
/// Their degree.
const DEGREE: usize = 4;
/// Where the tail ends: `Phi(-5.425)` is 3e-8.
const END: f64 = 5.425;
/// Distance of the pieces' centers, of which the first is 0. The tail ends
/// just before half a width after the last, where rounding would go on to a
/// piece that is not there.
const WIDTH: f64 = END / (PIECES as f64 - 0.501);
/// Coefficients of `-Phi(-a)` in `a / WIDTH - piece`, by power and piece.
static TAIL: [[f32; PIECES]; DEGREE + 1] = tail_coefficients();

/// Interpolates each piece at its Chebyshev nodes, which comes within a
/// fraction of the best polynomial's error.
const fn tail_coefficients() -> [[f32; PIECES]; DEGREE + 1] {
    // Half the cosines of 18, 54, 90, 126 and 162 degrees.
    const NODES: [f64; DEGREE + 1] = [
        0.475_528_258_147_576_8,
        0.293_892_626_146_236_6,
        0.0,
        -0.293_892_626_146_236_6,
        -0.475_528_258_147_576_8,
    ];
    let mut table = [[0.0; PIECES]; DEGREE + 1];
    let mut piece = 0;
    while piece < PIECES {
        // Divided differences in place (Newton's form).
        let mut d = [0.0; DEGREE + 1];
        let mut i = 0;
        while i <= DEGREE {
            d[i] = -normal_tail((piece as f64 + NODES[i]) * WIDTH);
            i += 1;
        }
        let mut order = 1;
        while order <= DEGREE {
            let mut i = DEGREE;
            while i >= order {
                d[i] = (d[i] - d[i - 1]) / (NODES[i] - NODES[i - order]);
                i -= 1;
            }
            order += 1;
        }
        // Powers of the variable, by multiplying the form out from within.
        let mut powers = [0.0; DEGREE + 1];
        let mut term = DEGREE + 1;
        while term > 0 {
            term -= 1;
            let mut i = DEGREE;
            while i > 0 {
                powers[i] = powers[i - 1] - NODES[term] * powers[i];
                i -= 1;
            }
            powers[0] = d[term] - NODES[term] * powers[0];
        }
        let mut i = 0;
        while i <= DEGREE {
            table[i][piece] = powers[i] as f32;
            i += 1;
        }
        piece += 1;
    }
    table
}

/// `Phi(-a)` by the Taylor series of `Phi`, good to 1e-9 for `|a| < 6`.
const fn normal_tail(a: f64) -> f64 {
    const DENSITY_AT_ZERO: f64 = 0.398_942_280_401_432_7;
    let (mut term, mut sum, mut n) = (a, a, 1.0);
    while n < 100.0 {
        term *= -a * a / (2.0 * n);
        sum += term / (2.0 * n + 1.0);
        n += 1.0;
    }
    0.5 - DENSITY_AT_ZERO * sum
}

/// `2 sqrt(2 / pi)`, of GELU's tanh approximation.
const GELU_SLOPE: f32 = 1.595_769;

/// `1 / (1 + exp(-x))`.
#[inline(always)]
pub fn sigmoid<S: Simd>(x: S::Vector) -> S::Vector {
    let one = S::Vector::splat(1.0);
    let e = exp::<S>(S::Vector::splat(0.0).sub(x));
    one.div(one.add(e))
}

/// A polynomial by Horner's rule, the highest power's coefficient first.
#[inline(always)]
fn polynomial<S: Simd, const N: usize>(x: S::Vector, coefficients: [f32; N]) -> S::Vector {
    let mut sum = S::Vector::splat(coefficients[0]);
    for c in &coefficients[1..] {
        sum = sum.mul_add(x, S::Vector::splat(*c));
    }
    sum
}

/// The activation of every lane; NaN stays NaN.
#[inline(always)]
pub fn activate_vector<S: Simd>(act: Act, v: S::Vector) -> S::Vector {
    match act {
        Act::None => v,
        Act::Gelu => gelu::<S>(v),
        Act::QuickGelu => v.mul(sigmoid::<S>(v.mul(S::Vector::splat(1.702)))),
        // (1 + tanh z) / 2 is the sigmoid of 2 z.
        Act::GeluTanh => {
            let factor = polynomial::<S, 2>(v.mul(v), [0.044_715 * GELU_SLOPE, GELU_SLOPE]);
            v.mul(sigmoid::<S>(v.mul(factor)))
        }
        Act::Relu => S::Vector::splat(0.0).max(v),
        Act::Sigmoid => sigmoid::<S>(v),
        Act::Silu => v.mul(sigmoid::<S>(v)),
    }
}

/// A function of vectors. A trait because a closure would be compiled without
/// the instruction set of the kernel around it: implementations must mark
/// [`Lanewise::apply`] `#[inline(always)]`.
pub trait Lanewise {
    /// The function's value in every lane.
    fn apply<S: Simd>(&self, v: S::Vector) -> S::Vector;
}

impl Lanewise for Act {
    #[inline(always)]
    fn apply<S: Simd>(&self, v: S::Vector) -> S::Vector {
        activate_vector::<S>(*self, v)
    }
}

/// Replaces every value of a slice by `f` of it. A last, partial vector is
/// filled up with zeros.
#[inline(always)]
pub fn map<S: Simd>(xs: &mut [f32], f: &impl Lanewise) {
    let mut vectors = xs.chunks_exact_mut(LANES);
    for x in &mut vectors {
        f.apply::<S>(S::Vector::load(x)).store(x);
    }
    let rest = vectors.into_remainder();
    if !rest.is_empty() {
        let mut lanes = [0.0; LANES];
        lanes[..rest.len()].copy_from_slice(rest);
        let lanes = f.apply::<S>(S::Vector::load(&lanes)).lanes();
        rest.copy_from_slice(&lanes[..rest.len()]);
    }
}

/// Applies an activation in place.
#[inline(always)]
pub fn activate<S: Simd>(act: Act, xs: &mut [f32]) {
    if act != Act::None {
        map::<S>(xs, &act);
    }
}

#[cfg(test)]
mod tests {
    use super::super::simd::{Kernel, at_every_level, dispatch};
    use super::*;

    /// erf by its Taylor series in f64, exact to rounding for |x| <= 4.
    fn erf_series(x: f64) -> f64 {
        let (mut term, mut sum, mut n) = (x, x, 0.0);
        while term.abs() > 1e-17 * sum.abs() && n < 500.0 {
            n += 1.0;
            term *= -x * x / n;
            sum += term / (2.0 * n + 1.0);
        }
        sum * std::f64::consts::FRAC_2_SQRT_PI
    }

    /// The normal distribution, from the series.
    fn phi(x: f64) -> f64 {
        0.5 + 0.5 * erf_series((x / 2f64.sqrt()).clamp(-4.0, 4.0))
    }

    /// A function of this module by name.
    #[derive(Clone, Copy)]
    enum Function {
        Exp,
        Act(Act),
    }

    impl Lanewise for Function {
        #[inline(always)]
        fn apply<S: Simd>(&self, v: S::Vector) -> S::Vector {
            match self {
                Function::Exp => exp::<S>(v),
                Function::Act(act) => activate_vector::<S>(*act, v),
            }
        }
    }

    struct Apply<'a>(Function, &'a mut [f32]);

    impl Kernel for Apply<'_> {
        type Out = ();

        #[inline(always)]
        fn run<S: Simd>(self) {
            map::<S>(self.1, &self.0);
        }
    }

    fn apply(f: Function, x: &[f32]) -> Vec<f32> {
        let mut y = x.to_vec();
        dispatch(Apply(f, &mut y));
        y
    }

    #[test]
    fn exp_is_close_to_the_exact_value() {
        // An odd count, so that the last vector is a partial one.
        let x: Vec<f32> = (-8700..8803).map(|i| i as f32 / 100.0).collect();
        at_every_level(|level| {
            for (x, got) in x.iter().zip(apply(Function::Exp, &x)) {
                let off = f64::from(got) / f64::from(*x).exp() - 1.0;
                assert!(off.abs() < 3e-7, "{level}: exp({x}) = {got}");
            }
            let ends = apply(Function::Exp, &[-1e4, f32::NEG_INFINITY, 1e4, f32::NAN]);
            assert!(ends[0] < 1.2e-38 && ends[1] < 1.2e-38);
            assert!(ends[2] > 2e38 && ends[2].is_finite());
            assert!(ends[3].is_nan());
        });
    }

    #[test]
    fn gelu_keeps_small_values_and_ends_exactly() {
        let x: Vec<f32> = (1..2000).map(|i| 1e-9 * 1.01f32.powi(i)).collect();
        let x: Vec<f32> = x.iter().flat_map(|x| [*x, -x]).collect();
        at_every_level(|level| {
            for (x, got) in x.iter().zip(apply(Function::Act(Act::Gelu), &x)) {
                let exact = f64::from(*x) * phi(f64::from(*x));
                let off = (f64::from(got) - exact).abs();
                // Of the factor Phi, which is what is approximated.
                let allowed = 2e-7 * f64::from(x.abs()).min(5.5) + 1e-7 * exact.abs();
                assert!(off <= allowed, "{level}: gelu({x}) = {got}, not {exact}");
            }
            let ends = [f32::NEG_INFINITY, -1e30, 1e30, f32::INFINITY];
            let got = apply(Function::Act(Act::Gelu), &ends);
            assert!(got[0].abs() < 2e-7 && got[1].abs() < 2e-7);
            assert_eq!(got[2..], ends[2..]);
        });
    }

    #[test]
    fn activations_agree_with_their_formulas() {
        let x: Vec<f32> = (-8000..=8000).map(|i| i as f32 / 1000.0).collect();
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        let slope = (8.0 / std::f64::consts::PI).sqrt();
        let formulas: [(Act, &(dyn Fn(f64) -> f64 + Sync)); 7] = [
            (Act::None, &|x| x),
            (Act::Gelu, &|x| x * phi(x)),
            (Act::QuickGelu, &|x| x * sigmoid(1.702 * x)),
            (Act::GeluTanh, &|x| {
                x * sigmoid(slope * (x + 0.044715 * x.powi(3)))
            }),
            (Act::Relu, &|x| x.max(0.0)),
            (Act::Sigmoid, &sigmoid),
            (Act::Silu, &|x| x * sigmoid(x)),
        ];
        at_every_level(|level| {
            for (act, formula) in formulas {
                for (x, got) in x.iter().zip(apply(Function::Act(act), &x)) {
                    let exact = formula(f64::from(*x));
                    let off = (f64::from(got) - exact).abs();
                    let allowed = 3e-7 * f64::from(x.abs()).max(1.0);
                    assert!(off < allowed, "{level}: {act:?}({x}) = {got}, not {exact}");
                }
                assert!(apply(Function::Act(act), &[f32::NAN])[0].is_nan());
            }
        });
    }
}
