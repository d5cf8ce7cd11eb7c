//! Transcendental functions that vectorise, and the activations made of them.

use super::simd::{Simd, fma};
use crate::ops::Act;

/// `exp(x)` to about 1 ulp in the normal range; 0 below -87.3, saturating above 88.7.
///
/// Range reduction `x = n ln2 + r` and a degree-6 minimax polynomial (Cephes).
#[inline(always)]
pub fn exp<S: Simd>(x: f32) -> f32 {
    const LN2_HI: f32 = 0.693_359_4;
    const LN2_LO: f32 = -2.121_944_4e-4;
    let clamped = x.clamp(-87.336_54, 88.722_83);
    // Adding and subtracting 1.5 * 2^23 rounds to the nearest integer.
    let magic = 12_582_912.0_f32;
    let n = fma::<S>(clamped, std::f32::consts::LOG2_E, magic) - magic;
    let r = fma::<S>(n, -LN2_HI, clamped);
    let r = fma::<S>(n, -LN2_LO, r);
    let mut p = 1.987_569_1e-4_f32;
    p = fma::<S>(p, r, 1.398_199_9e-3);
    p = fma::<S>(p, r, 8.333_452e-3);
    p = fma::<S>(p, r, 4.166_579_6e-2);
    p = fma::<S>(p, r, 1.666_666_5e-1);
    p = fma::<S>(p, r, 0.5);
    p = fma::<S>(p, r * r, r) + 1.0;
    // Scale by 2^n in two steps, so that n = 128 does not overflow the exponent.
    let n = n as i32;
    let half = n >> 1;
    let scale = |k: i32| f32::from_bits(((k + 127) << 23) as u32);
    p * scale(half) * scale(n - half)
}

/// `erf(x)` to a few ulp: the odd rational approximation on `|x| < 4` that
/// Eigen and XLA use; beyond, erf is 1 in f32.
#[inline(always)]
pub fn erf<S: Simd>(x: f32) -> f32 {
    let x = x.clamp(-4.0, 4.0);
    let s = x * x;
    let mut p = -2.726_142_3e-10_f32;
    p = fma::<S>(p, s, 2.770_681_4e-8);
    p = fma::<S>(p, s, -2.101_024e-6);
    p = fma::<S>(p, s, -5.692_506_4e-5);
    p = fma::<S>(p, s, -7.349_906_4e-4);
    p = fma::<S>(p, s, -2.954_6e-3);
    p = fma::<S>(p, s, -1.609_603_3e-2);
    let mut q = -1.456_607_2e-5_f32;
    q = fma::<S>(q, s, -2.133_740_6e-4);
    q = fma::<S>(q, s, -1.682_827e-3);
    q = fma::<S>(q, s, -7.373_329_3e-3);
    q = fma::<S>(q, s, -1.426_473_9e-2);
    x * p / q
}

/// `1 / (1 + exp(-x))`.
#[inline(always)]
pub fn sigmoid<S: Simd>(x: f32) -> f32 {
    1.0 / (1.0 + exp::<S>(-x))
}

/// Applies an activation in place.
#[inline(always)]
pub fn activate<S: Simd>(act: Act, xs: &mut [f32]) {
    match act {
        Act::None => {}
        Act::Gelu => {
            for x in xs {
                let half = 0.5 * *x;
                *x = fma::<S>(half, erf::<S>(*x * std::f32::consts::FRAC_1_SQRT_2), half);
            }
        }
        Act::QuickGelu => {
            for x in xs {
                *x *= sigmoid::<S>(1.702 * *x);
            }
        }
        Act::Relu => {
            for x in xs {
                *x = x.max(0.0);
            }
        }
        Act::Sigmoid => {
            for x in xs {
                *x = sigmoid::<S>(*x);
            }
        }
        Act::Silu => {
            for x in xs {
                *x *= sigmoid::<S>(*x);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::simd::Portable;
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

    #[test]
    fn exp_is_close_to_the_exact_value() {
        for i in -8700..8800 {
            let x = i as f32 / 100.0;
            let exact = f64::from(x).exp();
            let got = exp::<Portable>(x);
            assert!(
                (f64::from(got) / exact - 1.0).abs() < 3e-7,
                "exp({x}) = {got}"
            );
        }
        assert!(exp::<Portable>(-1e4) < 1.2e-38);
        assert!(exp::<Portable>(f32::NEG_INFINITY) < 1.2e-38);
    }

    #[test]
    fn erf_is_close_to_the_exact_value() {
        for i in -400..=400 {
            let x = i as f32 / 100.0;
            let got = f64::from(erf::<Portable>(x));
            assert!(
                (got - erf_series(f64::from(x))).abs() < 4e-7,
                "erf({x}) = {got}"
            );
        }
        assert!((erf::<Portable>(50.0) - 1.0).abs() < 4e-7);
    }

    #[test]
    fn activations_have_their_known_values() {
        let apply = |act, x: f32| {
            let mut v = [x];
            activate::<Portable>(act, &mut v);
            v[0]
        };
        let close = |a: f32, b: f32| assert!((a - b).abs() < 2e-6, "{a} against {b}");
        close(apply(Act::Gelu, 1.0), 0.841_344_7);
        close(apply(Act::Gelu, -10.0), 0.0);
        close(apply(Act::QuickGelu, 1.0), 0.845_795_8);
        close(apply(Act::Silu, -1.0), -0.268_941_4);
        close(apply(Act::Sigmoid, 0.0), 0.5);
        close(apply(Act::Relu, -3.0), 0.0);
        close(apply(Act::None, -3.0), -3.0);
    }
}
