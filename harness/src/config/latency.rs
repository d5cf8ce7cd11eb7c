//! The latency workload of an experiment: as written, and with its defaults.

use serde::{Deserialize, Serialize};

use super::ConfigError;
use super::must::Must;

/// The latency workload as written; absent keys take the defaults of
/// [`Latency`].
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LatencyFile {
    /// Text tokens of the prompt, besides the visual ones.
    pub prompt_tokens: Option<usize>,
    /// Tokens to generate, the first included.
    pub decode_tokens: Option<usize>,
    /// Processes that measure a case one after another, sharing repetitions and
    /// seconds; their number is what its interval rests on. 1 by default.
    pub launches: Option<u32>,
    /// Repetitions of each launch that are run and not counted.
    pub warm_up: Option<u32>,
    /// Repetitions at least.
    pub min_iterations: Option<u32>,
    /// Repetitions at most.
    pub max_iterations: Option<u32>,
    /// Seconds after which a case starts no further repetition, once it has
    /// `min_iterations`.
    pub budget_seconds: Option<f64>,
    /// Stop when the half-width of the median's interval over the median is
    /// below this.
    pub target_relative_interval: Option<f64>,
    /// The synthetic photograph.
    pub image: Option<ImageSize>,
}

/// Size of an image in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageSize {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
}

impl ImageSize {
    /// Number of pixels.
    pub fn pixels(&self) -> f64 {
        f64::from(self.width) * f64::from(self.height)
    }
}

impl std::fmt::Display for ImageSize {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}

impl std::str::FromStr for ImageSize {
    type Err = String;

    fn from_str(text: &str) -> Result<ImageSize, String> {
        let side = |text: &str| text.parse().ok().filter(|side: &u32| *side > 0);
        text.split_once('x')
            .and_then(|(width, height)| {
                let (width, height) = (side(width)?, side(height)?);
                Some(ImageSize { width, height })
            })
            .ok_or_else(|| "expected WIDTHxHEIGHT in pixels, such as 1152x1152".into())
    }
}

/// A resolved latency workload.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Latency {
    /// Text tokens of the prompt, besides the visual ones.
    pub prompt_tokens: usize,
    /// Tokens to generate, the first included; at least 1.
    pub decode_tokens: usize,
    /// Processes that measure a case one after another, at least 1.
    #[serde(skip_serializing_if = "is_one")]
    pub launches: u32,
    /// Repetitions of each launch that are run and not counted.
    pub warm_up: u32,
    /// Repetitions at least, 1 or more.
    pub min_iterations: u32,
    /// Repetitions at most, `min_iterations` or more.
    pub max_iterations: u32,
    /// Seconds after which a case with `min_iterations` starts no further one.
    pub budget_seconds: f64,
    /// Half-width of the median's interval over the median that is enough.
    pub target_relative_interval: f64,
    /// The synthetic photograph.
    pub image: ImageSize,
}

impl Default for Latency {
    /// A photograph of a common size, a short question, a short answer, and
    /// repetition for half a minute at most.
    fn default() -> Latency {
        Latency {
            prompt_tokens: 32,
            decode_tokens: 16,
            launches: 1,
            warm_up: 2,
            min_iterations: 5,
            max_iterations: 50,
            budget_seconds: 30.0,
            target_relative_interval: 0.05,
            image: ImageSize {
                width: 1024,
                height: 768,
            },
        }
    }
}

// What is off is left out of the manifest, so that experiments of before it
// existed keep their digests.
fn is_one(n: &u32) -> bool {
    *n == 1
}

impl Latency {
    /// Fills the keys that a file leaves out with the defaults.
    pub fn from_file(file: LatencyFile) -> Latency {
        let d = Latency::default();
        let min = file.min_iterations.unwrap_or(d.min_iterations);
        Latency {
            prompt_tokens: file.prompt_tokens.unwrap_or(d.prompt_tokens),
            decode_tokens: file.decode_tokens.unwrap_or(d.decode_tokens),
            launches: file.launches.unwrap_or(d.launches),
            warm_up: file.warm_up.unwrap_or(d.warm_up),
            min_iterations: min,
            // Someone who asks for more than the default at least means it.
            max_iterations: file.max_iterations.unwrap_or(d.max_iterations.max(min)),
            budget_seconds: file.budget_seconds.unwrap_or(d.budget_seconds),
            target_relative_interval: file
                .target_relative_interval
                .unwrap_or(d.target_relative_interval),
            image: file.image.unwrap_or(d.image),
        }
    }

    /// What one of the launches does: its share of repetitions and seconds.
    pub fn of_launch(&self) -> Latency {
        let share = |n: u32| n.div_ceil(self.launches);
        Latency {
            min_iterations: share(self.min_iterations),
            max_iterations: share(self.max_iterations),
            budget_seconds: self.budget_seconds / f64::from(self.launches),
            ..self.clone()
        }
    }

    pub(super) fn check(&self, must: &Must<'_>) -> Result<(), ConfigError> {
        let Latency {
            prompt_tokens,
            decode_tokens,
            launches,
            warm_up: _,
            min_iterations: min,
            max_iterations: max,
            budget_seconds: budget,
            target_relative_interval: target,
            image,
        } = *self;
        let key = |name: &str| format!("latency.{name}");
        must.be(
            &key("prompt_tokens"),
            prompt_tokens,
            prompt_tokens >= 1,
            "at least 1",
        )?;
        must.be(
            &key("decode_tokens"),
            decode_tokens,
            decode_tokens >= 1,
            "at least 1",
        )?;
        must.be(&key("launches"), launches, launches >= 1, "at least 1")?;
        must.be(&key("min_iterations"), min, min >= 1, "at least 1")?;
        must.be(
            &key("max_iterations"),
            max,
            max >= min,
            "at least min_iterations",
        )?;
        let finite = budget.is_finite() && budget >= 0.0;
        must.be(
            &key("budget_seconds"),
            budget,
            finite,
            "a number of seconds, 0 or more",
        )?;
        let share = (0.0..1.0).contains(&target);
        let meaning = "a share of the median, at least 0 and below 1";
        must.be(&key("target_relative_interval"), target, share, meaning)?;
        let some = image.width >= 1 && image.height >= 1;
        must.be(&key("image"), image, some, "at least 1x1 pixels")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn image_sizes_are_width_and_height() {
        let size: ImageSize = "1152x768".parse().unwrap();
        assert_eq!((size.width, size.height), (1152, 768));
        assert_eq!(size.to_string(), "1152x768");
        for wrong in ["1152", "0x5", "5x", "axb", "5x5x5"] {
            assert!(wrong.parse::<ImageSize>().is_err(), "{wrong}");
        }
    }
}
