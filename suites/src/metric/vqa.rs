//! VQA accuracy: agreement with the annotators, averaged over leaving each of them out.

use super::{Extraction, Judged, evalai};
use crate::rational::Fraction;
use crate::sample::Sample;

pub(super) fn judge(sample: &Sample, response: &str) -> Judged {
    let answer = evalai::normalize(response);
    let golds = sample.golds.iter();
    let matching = golds
        .filter(|gold| evalai::normalize(gold) == answer)
        .count();
    Judged {
        points: accuracy(matching as u64, sample.golds.len() as u64),
        answer: Extraction::Found(answer),
    }
}

/// The mean, over the annotators, of min(1, matches among the others / 3). With ten annotators
/// and 0, 1, 2, 3, 4 matches that is 0, 0.3, 0.6, 0.9, 1.
fn accuracy(matching: u64, annotators: u64) -> Fraction {
    let differing = annotators - matching;
    let thirds = matching * matching.saturating_sub(1).min(3) + differing * matching.min(3);
    Fraction::new(thirds, 3 * annotators)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::testing;

    #[test]
    fn ten_annotators_give_tenths() {
        let tenths = |matching| accuracy(matching, 10);
        assert_eq!(
            [0, 1, 2, 3, 4, 10].map(tenths),
            [0, 3, 6, 9, 10, 10].map(|n| Fraction::new(n, 10))
        );
    }

    #[test]
    fn a_single_annotator_can_never_be_left_out() {
        assert_eq!(accuracy(1, 1), Fraction::ZERO);
    }

    #[test]
    fn both_sides_are_normalised() {
        let sample = testing::open(&[
            "The Cat.", "cat", "a cat", "cats", "dog", "dog", "it", "x", "y", "z",
        ]);
        assert_eq!(judge(&sample, "Cat!\n").points, Fraction::new(9, 10));
        assert_eq!(judge(&sample, "dog").points, Fraction::new(6, 10));
        assert_eq!(judge(&sample, "mouse").points, Fraction::ZERO);
        // Two answers that normalise to nothing match each other.
        assert_eq!(
            judge(&testing::open(&["the"; 10]), "?").points,
            Fraction::ONE
        );
    }
}
