//! Random choices that are the same on every machine and in every release:
//! integers only, from a generator that is written down here.

use sha2::{Digest, Sha256};

/// SplitMix64 (Steele, Lea and Flood 2014).
pub(super) struct Dice(u64);

impl Dice {
    /// Dice whose throws depend on the words alone.
    pub(super) fn new(words: &[u64]) -> Self {
        let mut hash = Sha256::new();
        for word in words {
            hash.update(word.to_le_bytes());
        }
        Self(first_word(&hash.finalize()))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// One of `0..n`.
    pub(super) fn below(&mut self, n: usize) -> usize {
        assert!(n > 0, "a choice among nothing");
        ((u128::from(self.next()) * n as u128) >> 64) as usize
    }

    /// One of `low..=high`.
    pub(super) fn between(&mut self, low: i32, high: i32) -> i32 {
        low + self.below((high - low + 1) as usize) as i32
    }

    /// Whether an event of that probability happens.
    pub(super) fn percent(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// One of them.
    pub(super) fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }

    /// `n` different ones of them, in random order.
    pub(super) fn some<T: Copy>(&mut self, items: &[T], n: usize) -> Vec<T> {
        let mut all = items.to_vec();
        self.shuffle(&mut all);
        all.truncate(n);
        all
    }

    /// Any order (Fisher and Yates).
    pub(super) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

/// The first eight bytes of a digest as a number.
pub(super) fn first_word(digest: &[u8]) -> u64 {
    let bytes = digest[..8].try_into().expect("eight bytes");
    u64::from_le_bytes(bytes)
}
