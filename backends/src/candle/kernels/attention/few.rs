//! Attention of a few queries, which is bound by reading the keys and values.

use rayon::prelude::*;

use super::super::element::Element;
use super::super::product::Widening;
use super::super::simd::{Kernel, LANES, Simd, Vector, dispatch};
use super::super::{Output, Scratch};
use super::{Problem, Sequence, exponents};

impl<T: Element> Problem<'_, T> {
    /// One task per head.
    pub(super) fn few(&self, out: &Output<T>) {
        (0..self.heads.heads).into_par_iter().for_each(|head| {
            for query in 0..self.sequence.queries {
                dispatch(OneQuery {
                    problem: self,
                    head,
                    query,
                    out,
                });
            }
        });
    }
}

/// One query of one head.
struct OneQuery<'a, T> {
    problem: &'a Problem<'a, T>,
    head: usize,
    query: usize,
    out: &'a Output<T>,
}

impl<T: Element> Kernel for OneQuery<'_, T> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let Problem {
            sequence: Sequence { q, k, v, .. },
            heads,
            first,
            ..
        } = self.problem;
        let (d, kv) = (heads.head_dim, self.problem.kv_column(self.head));
        let padded = d.next_multiple_of(LANES);
        let seen = self.problem.seen(self.query);
        let keys = seen.next_multiple_of(LANES);
        let mut scratch = Scratch::take(padded * 2 + keys);
        let (query, rest) = scratch.split_at_mut(padded);
        let (mixed, scores) = rest.split_at_mut(padded);
        query[d..].fill(0.0);
        T::widen(q.row(self.query, self.head * d, d), &mut query[..d]);
        for (key, score) in scores[..seen].iter_mut().enumerate() {
            let key = k.row(key, kv, d);
            let mut sum = S::Vector::splat(0.0);
            for at in (0..d).step_by(LANES) {
                sum = S::Vector::load(&query[at..]).mul_add(T::load(&key[at..]), sum);
            }
            *score = sum.sum();
        }
        let total = exponents::<S, Widening<T>>(scores, seen, self.problem.scale());
        mixed.fill(0.0);
        for (key, weight) in scores[..seen].iter().enumerate() {
            let value = v.row(key, kv, d);
            let weight = S::Vector::splat(*weight);
            for at in (0..d).step_by(LANES) {
                let sum = S::Vector::load(&mixed[at..]);
                weight
                    .mul_add(T::load(&value[at..]), sum)
                    .store(&mut mixed[at..]);
            }
        }
        let inverse = S::Vector::splat(1.0 / total);
        let at = first + self.query * heads.width() + self.head * d;
        // SAFETY: queries and heads do not overlap.
        let dst = unsafe { self.out.slice(at, d) };
        for at in (0..d).step_by(LANES) {
            T::store(S::Vector::load(&mixed[at..]).mul(inverse), &mut dst[at..]);
        }
    }
}
