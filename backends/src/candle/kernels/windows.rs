//! Attention of queries to windows of their own: thousands of small problems
//! (Cambrian-1's are one query and 19 keys), none of them worth packing.

use rayon::prelude::*;

use super::element::Element;
use super::{Scratch, produce};

/// Keys and values of one source, `n` rows of a batch each.
#[derive(Clone, Copy)]
pub struct Window<'a, T> {
    /// Keys.
    pub keys: &'a [T],
    /// Values.
    pub values: &'a [T],
    /// Keys of one batch.
    pub n: usize,
}

/// Attention of `queries` queries of each batch to the keys of all sources of
/// that batch, in `heads` heads of `width` values in all. `hidden` says which
/// keys are not looked at, a batch's after another's.
pub fn windowed<T: Element>(
    q: &[T],
    windows: &[Window<'_, T>],
    hidden: Option<&[bool]>,
    (queries, heads, width): (usize, usize, usize),
) -> Vec<T> {
    let keys: usize = windows.iter().map(|w| w.n).sum();
    let batches = q.len() / (queries * width).max(1);
    produce(q.len(), |out| {
        (0..batches).into_par_iter().for_each(|batch| {
            let mut k = Scratch::take(keys * width);
            let mut v = Scratch::take(keys * width);
            let mut at = 0;
            for window in windows {
                let (from, len) = (batch * window.n * width, window.n * width);
                T::widen(&window.keys[from..][..len], &mut k[at..][..len]);
                T::widen(&window.values[from..][..len], &mut v[at..][..len]);
                at += len;
            }
            let hidden = hidden.map(|all| &all[batch * keys..][..keys]);
            let mut query = Scratch::take(width);
            let mut sums = Scratch::take(width);
            let mut scores = Scratch::take(keys);
            for i in 0..queries {
                let at = (batch * queries + i) * width;
                T::widen(&q[at..][..width], &mut query);
                attend(&query, &k, &v, hidden, heads, &mut scores, &mut sums);
                // SAFETY: every query writes its own row.
                T::narrow(&sums, unsafe { out.slice(at, width) });
            }
        });
    })
}

/// One query: softmax over its keys, head by head.
fn attend(
    query: &[f32],
    keys: &[f32],
    values: &[f32],
    hidden: Option<&[bool]>,
    heads: usize,
    scores: &mut [f32],
    sums: &mut [f32],
) {
    let width = query.len();
    let dim = width / heads;
    let scale = 1.0 / (dim as f32).sqrt();
    sums.fill(0.0);
    for head in 0..heads {
        let part = head * dim..(head + 1) * dim;
        let mut most = f32::NEG_INFINITY;
        for (row, score) in scores.iter_mut().enumerate() {
            let key = &keys[row * width..][part.clone()];
            let products = query[part.clone()].iter().zip(key);
            *score = scale * products.map(|(a, b)| a * b).sum::<f32>();
            if hidden.is_some_and(|hidden| hidden[row]) {
                *score = f32::NEG_INFINITY;
            }
            most = most.max(*score);
        }
        let mut total = 0.0;
        for score in scores.iter_mut() {
            *score = (*score - most).exp();
            total += *score;
        }
        for (row, score) in scores.iter().enumerate() {
            let share = score / total;
            let values = &values[row * width..][part.clone()];
            for (sum, value) in sums[part.clone()].iter_mut().zip(values) {
                *sum += share * value;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_sees_its_own_window_but_for_what_is_hidden() {
        // Two batches, one query each, two heads of one value, two sources of 1 and 2 keys.
        let q = [1.0, 0.0, 1.0, 0.0];
        let (k1, v1) = ([0.0, 0.0, 0.0, 0.0], [1.0, 10.0, 5.0, 50.0]);
        let (k2, v2) = ([0.0; 8], [2.0, 20.0, 3.0, 30.0, 6.0, 60.0, 7.0, 70.0]);
        let windows = |k2| {
            let one = Window {
                keys: &k1[..],
                values: &v1[..],
                n: 1,
            };
            let two = Window {
                keys: k2,
                values: &v2[..],
                n: 2,
            };
            [one, two]
        };
        let y: Vec<f32> = windowed(&q, &windows(&k2), None, (1, 2, 2));
        assert_eq!(y, [2.0, 20.0, 6.0, 60.0]);
        let hidden = [false, true, true, false, false, false];
        let y: Vec<f32> = windowed(&q, &windows(&k2), Some(&hidden), (1, 2, 2));
        assert_eq!(y, [1.0, 10.0, 6.0, 60.0]);
        // The first head of the first batch looks at the last key alone.
        let mut far = k2;
        far[2] = 100.0;
        let y: Vec<f32> = windowed(&q, &windows(&far), None, (1, 2, 2));
        assert_eq!(y[..2], [3.0, 20.0]);
    }
}
