//! What is written on signs and pages: words, made-up names, numbers, codes
//! and dates, each string belonging to one split.

use sha2::{Digest, Sha256};

use super::Split;
use super::dice::{Dice, first_word};

/// Words of signs and shop fronts.
const LEXICON: &[&str] = &[
    "airport", "album", "antique", "apple", "arcade", "arena", "artist", "atlas", "autumn",
    "avenue", "bagel", "bakery", "balcony", "bamboo", "bank", "barber", "basket", "bazaar",
    "beach", "berry", "bicycle", "bistro", "blossom", "bonus", "books", "border", "boulder",
    "bridge", "bronze", "buffet", "burger", "cabin", "cactus", "cafe", "camera", "candy", "canvas",
    "captain", "carpet", "castle", "cedar", "cellar", "center", "chapel", "cheese", "cherry",
    "cinema", "circus", "clinic", "closed", "clover", "coast", "coffee", "comet", "copper",
    "coral", "cotton", "crystal", "curry", "dairy", "dance", "dental", "depot", "diesel", "diner",
    "dragon", "eagle", "east", "echo", "elegant", "ember", "empire", "entry", "exit", "express",
    "fabric", "falcon", "farm", "ferry", "festival", "fitness", "flora", "flowers", "forest",
    "fresh", "garage", "garden", "gate", "ginger", "glass", "golden", "grand", "grill", "grocer",
    "gym", "harbor", "hazel", "health", "hotel", "hunter", "island", "ivory", "jacket", "jasmine",
    "jewel", "jungle", "junior", "karate", "kettle", "kitchen", "lagoon", "lantern", "laundry",
    "leather", "lemon", "library", "light", "lodge", "lotus", "lunch", "magic", "mango", "maple",
    "marble", "marina", "market", "meadow", "melody", "metro", "mint", "mobile", "modern", "motel",
    "motor", "museum", "music", "nature", "nectar", "noodle", "north", "ocean", "office", "olive",
    "opal", "open", "optics", "orange", "orchid", "organic", "outlet", "oyster", "palace", "panda",
    "paper", "parade", "park", "pasta", "peach", "pearl", "pepper", "pharmacy", "photo", "piano",
    "pilot", "pizza", "planet", "plaza", "police", "polo", "post", "pottery", "press", "prime",
    "pub", "quartz", "quick", "quilt", "radio", "ramen", "ranch", "repair", "ribbon", "river",
    "rocket", "royal", "saddle", "sailor", "salon", "sandals", "school", "senior", "service",
    "shoes", "silk", "silver", "smile", "solar", "south", "spice", "sport", "spring", "stadium",
    "station", "steak", "stop", "studio", "sugar", "summit", "sunny", "super", "sushi", "tailor",
    "tango", "taxi", "temple", "tennis", "theater", "tiger", "timber", "toast", "topaz", "tours",
    "towing", "toys", "tram", "travel", "tulip", "tunnel", "turbo", "union", "urban", "valley",
    "vanilla", "velvet", "video", "villa", "vinyl", "violet", "vision", "wagon", "walnut", "water",
    "west", "willow", "window", "winter", "wonder", "yacht", "yoga", "zebra", "zenith", "zone",
];

const ONSETS: &[&str] = &[
    "b", "br", "c", "d", "dr", "f", "g", "gr", "h", "j", "k", "l", "m", "n", "p", "pr", "r", "s",
    "st", "t", "tr", "v", "w", "z",
];
const VOWELS: &[&str] = &["a", "e", "i", "o", "u", "a", "e", "o", "ai", "ea"];
const CODAS: &[&str] = &["", "", "", "n", "r", "l", "s", "k", "m", "x", "nd", "rt"];

/// Which split a string or description belongs to: a tenth each is kept for
/// validation and test, whatever the seed.
pub(super) fn split_of(text: &str) -> Split {
    match first_word(&Sha256::digest(text.to_lowercase())) % 10 {
        0 => Split::Test,
        1 => Split::Validation,
        _ => Split::Train,
    }
}

/// A maker of strings that belong to one split.
pub(super) struct Words<'a> {
    pub(super) dice: &'a mut Dice,
    pub(super) split: Split,
}

impl Words<'_> {
    /// Throws until a string of the split comes.
    fn kept(&mut self, mut make: impl FnMut(&mut Dice) -> String) -> String {
        loop {
            let text = make(self.dice);
            if split_of(&text) == self.split {
                return text;
            }
        }
    }

    /// A word of a sign, in lower case: one of the language or a made-up one.
    pub(super) fn word(&mut self) -> String {
        self.kept(|dice| match dice.percent(40) {
            true => (*dice.pick(LEXICON)).to_owned(),
            false => syllables(dice),
        })
    }

    /// A made-up name such as `Brenza`.
    pub(super) fn name(&mut self) -> String {
        capitalized(&self.kept(syllables))
    }

    /// A whole number of `digits` digits.
    pub(super) fn number(&mut self, digits: u32) -> String {
        self.kept(|dice| {
            dice.between(10_i32.pow(digits - 1), 10_i32.pow(digits) - 1)
                .to_string()
        })
    }

    /// A price between 1.00 and 99.95.
    pub(super) fn price(&mut self) -> String {
        self.kept(|dice| format!("${}.{:02}", dice.between(1, 99), dice.between(0, 19) * 5))
    }

    /// A code such as `KM-4821`.
    pub(super) fn code(&mut self) -> String {
        self.kept(|dice| {
            let letters: String = (0..2)
                .map(|_| char::from(b'A' + dice.below(26) as u8))
                .collect();
            format!("{letters}-{}", dice.between(100, 9999))
        })
    }

    /// A day such as `14 May 2019`.
    pub(super) fn date(&mut self) -> String {
        const MONTHS: [&str; 12] = [
            "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
        ];
        self.kept(|dice| {
            format!(
                "{} {} {}",
                dice.between(1, 28),
                dice.pick(&MONTHS),
                dice.between(1985, 2025)
            )
        })
    }

    /// A telephone number such as `555-0142`.
    pub(super) fn phone(&mut self) -> String {
        self.kept(|dice| format!("{}-{:04}", dice.between(200, 999), dice.between(0, 9999)))
    }
}

fn syllables(dice: &mut Dice) -> String {
    let count = 2 + usize::from(dice.percent(25));
    let mut word = String::new();
    for i in 0..count {
        word += *dice.pick(ONSETS);
        word += *dice.pick(VOWELS);
        // Inner syllables are open, so that words can be said.
        if i + 1 == count {
            word += *dice.pick(CODAS);
        }
    }
    word
}

/// With its first letter in upper case.
pub(super) fn capitalized(word: &str) -> String {
    let mut chars = word.chars();
    let first = chars.next().map(|c| c.to_ascii_uppercase());
    first.into_iter().chain(chars).collect()
}
