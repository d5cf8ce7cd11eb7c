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

/// `erf(x)` to a few ulp: the odd rational approximation on `|x| < 4` that
/// Eigen and XLA use; beyond, erf is 1 in f32.
#[inline(always)]
pub fn erf<S: Simd>(x: S::Vector) -> S::Vector {
    let x = S::Vector::splat(-4.0).max(x);
    let x = S::Vector::splat(4.0).min(x);
    let s = x.mul(x);
    let p = polynomial::<S, 7>(
        s,
        [
            -2.726_142_3e-10,
            2.770_681_4e-8,
            -2.101_024e-6,
            -5.692_506_4e-5,
            -7.349_906_4e-4,
            -2.954_6e-3,
            -1.609_603_3e-2,
        ],
    );
    let q = polynomial::<S, 5>(
        s,
        [
            -1.456_607_2e-5,
            -2.133_740_6e-4,
            -1.682_827e-3,
            -7.373_329_3e-3,
            -1.426_473_9e-2,
        ],
    );
    x.mul(p).div(q)
}

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
        Act::Gelu => {
            let half = v.mul(S::Vector::splat(0.5));
            let x = v.mul(S::Vector::splat(std::f32::consts::FRAC_1_SQRT_2));
            half.mul_add(erf::<S>(x), half)
        }
        Act::QuickGelu => v.mul(sigmoid::<S>(v.mul(S::Vector::splat(1.702)))),
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

    /// A function of this module by name.
    #[derive(Clone, Copy)]
    enum Function {
        Exp,
        Erf,
        Act(Act),
    }

    impl Lanewise for Function {
        #[inline(always)]
        fn apply<S: Simd>(&self, v: S::Vector) -> S::Vector {
            match self {
                Function::Exp => exp::<S>(v),
                Function::Erf => erf::<S>(v),
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
    fn erf_is_close_to_the_exact_value() {
        let x: Vec<f32> = (-4000..=4000).map(|i| i as f32 / 1000.0).collect();
        at_every_level(|level| {
            for (x, got) in x.iter().zip(apply(Function::Erf, &x)) {
                let off = f64::from(got) - erf_series(f64::from(*x));
                assert!(off.abs() < 4e-7, "{level}: erf({x}) = {got}");
            }
            let ends = apply(Function::Erf, &[50.0, f32::NEG_INFINITY, f32::NAN]);
            assert!((ends[0] - 1.0).abs() < 4e-7 && (ends[1] + 1.0).abs() < 4e-7);
            assert!(ends[2].is_nan());
        });
    }

    #[test]
    fn activations_agree_with_their_formulas() {
        let x: Vec<f32> = (-8000..=8000).map(|i| i as f32 / 1000.0).collect();
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        let phi = |x: f64| 0.5 + 0.5 * erf_series((x / 2f64.sqrt()).clamp(-4.0, 4.0));
        let formulas: [(Act, &(dyn Fn(f64) -> f64 + Sync)); 6] = [
            (Act::None, &|x| x),
            (Act::Gelu, &|x| x * phi(x)),
            (Act::QuickGelu, &|x| x * sigmoid(1.702 * x)),
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
