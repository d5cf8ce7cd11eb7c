//! Right-or-wrong answers to the same questions: did as many turn right as turned wrong?

use super::binomial::cumulative;
use super::shifts::Significance;

/// McNemar's test (1947), exact: of the answers that changed, each is a gain with chance 1/2.
///
/// `p_less` is the chance of so few gains or fewer (a loss), `P(Bin(lost + gained, 1/2) <= gained)`;
/// `p_greater` that of so many or more. Without a change all are 1. Answers are taken as independent;
/// where images repeat, [`cluster_flips`](super::cluster_flips) is the test.
pub fn mcnemar(lost: u64, gained: u64) -> Significance {
    let changed = lost + gained;
    Significance::new(
        cumulative(lost, changed, 0.5),
        cumulative(gained, changed, 0.5),
        true,
    )
}

#[cfg(test)]
mod tests {
    use super::mcnemar;

    #[test]
    fn few_changes_by_hand() {
        let p = |lost, gained| {
            let found = mcnemar(lost, gained);
            (found.p_greater, found.p_less, found.p_two)
        };
        assert_eq!(p(0, 0), (1.0, 1.0, 1.0));
        assert_eq!(p(0, 1), (0.5, 1.0, 1.0));
        let close = |a: (f64, f64, f64), b: (f64, f64, f64)| {
            (a.0 - b.0).abs() + (a.1 - b.1).abs() + (a.2 - b.2).abs() < 1e-14
        };
        assert!(close(p(5, 0), (1.0, 1.0 / 32.0, 2.0 / 32.0)));
        // 1 + 5 of 32 have at most one gain.
        assert!(close(p(4, 1), (31.0 / 32.0, 6.0 / 32.0, 12.0 / 32.0)));
        assert!(close(p(3, 3), (42.0 / 64.0, 42.0 / 64.0, 1.0)));
    }
}
