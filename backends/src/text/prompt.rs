//! A prompt as the decoder sees it: runs of text ids with the visual tokens of images between.
//!
//! Made either from a rendered template (split at the images, each side tokenized on its own, as
//! LLaVA's `tokenizer_image_token` does) or from ids prepared elsewhere, in either of the two ways
//! in which the field marks images.

use std::ops::Range;

use super::{PromptPart, TextError, Tokenizer};

/// What LLaVA writes in place of a whole image.
pub const IMAGE_SENTINEL: i64 = -200;

/// A run of equal meaning in a prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Segment {
    /// Token ids to embed; never empty.
    Text(Vec<u32>),
    /// Visual tokens.
    Image {
        /// Which of the request's images, counted from 0.
        index: usize,
        /// How many rows of features it fills.
        tokens: usize,
    },
}

impl Segment {
    /// Positions that the segment takes in the decoder's input.
    pub fn len(&self) -> usize {
        match self {
            Self::Text(ids) => ids.len(),
            Self::Image { tokens, .. } => *tokens,
        }
    }

    /// Whether it takes none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A prompt in tokens. Images appear in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PromptTokens {
    segments: Vec<Segment>,
}

impl PromptTokens {
    /// Tokenizes a rendered prompt; `visual_tokens` holds the number of visual tokens of each
    /// image, and `bos` the id to put first.
    pub fn from_parts(
        parts: &[PromptPart],
        tokenizer: &dyn Tokenizer,
        bos: Option<u32>,
        visual_tokens: &[usize],
    ) -> Result<Self, TextError> {
        let markers = parts
            .iter()
            .filter(|part| **part == PromptPart::Image)
            .count();
        if markers != visual_tokens.len() {
            return Err(TextError::ImageCount {
                prompt: markers,
                given: visual_tokens.len(),
            });
        }
        let mut prompt = Self::default();
        prompt.push_text(bos);
        for part in parts {
            match part {
                PromptPart::Text(text) => prompt.push_text(tokenizer.encode(text)?),
                PromptPart::Image => prompt.push_image(visual_tokens),
            }
        }
        Ok(prompt)
    }

    /// Reads ids in which an image is one [`IMAGE_SENTINEL`] (LLaVA, FastVLM) or `image_token`
    /// repeated once per visual token (transformers). The marks must fit `visual_tokens`.
    pub fn from_input_ids(
        ids: &[i64],
        image_token: Option<u32>,
        visual_tokens: &[usize],
    ) -> Result<Self, TextError> {
        let is_image = |id: i64| id >= 0 && u32::try_from(id).ok() == image_token;
        let mut prompt = Self::default();
        let mut position = 0;
        while position < ids.len() {
            let id = ids[position];
            let mut step = 1;
            if id == IMAGE_SENTINEL {
                if prompt.image_count() < visual_tokens.len() {
                    prompt.push_image(visual_tokens);
                } else {
                    let prompt = ids.iter().filter(|id| **id == IMAGE_SENTINEL).count();
                    return Err(TextError::ImageCount {
                        prompt,
                        given: visual_tokens.len(),
                    });
                }
            } else if is_image(id) {
                // Neighbouring images leave no seam in the ids, so a run is dealt out by count.
                step = ids[position..]
                    .iter()
                    .take_while(|id| is_image(**id))
                    .count();
                prompt.deal_run(position, step, visual_tokens)?;
            } else {
                let text = u32::try_from(id).map_err(|_| TextError::BadId { id, position })?;
                prompt.push_text([text]);
            }
            position += step;
        }
        if prompt.image_count() != visual_tokens.len() {
            let given = visual_tokens.len();
            return Err(TextError::ImageCount {
                prompt: prompt.image_count(),
                given,
            });
        }
        Ok(prompt)
    }

    /// Gives a run of `got` image tokens at `position` to the next images that together need it.
    fn deal_run(
        &mut self,
        position: usize,
        got: usize,
        visual_tokens: &[usize],
    ) -> Result<(), TextError> {
        let mut expected = 0;
        while expected < got {
            let Some(tokens) = visual_tokens.get(self.image_count()) else {
                return Err(TextError::ImageRun {
                    position,
                    got,
                    expected,
                });
            };
            expected += tokens;
            self.push_image(visual_tokens);
        }
        if expected == got {
            Ok(())
        } else {
            Err(TextError::ImageRun {
                position,
                got,
                expected,
            })
        }
    }

    fn push_text(&mut self, ids: impl IntoIterator<Item = u32>) {
        let mut ids = ids.into_iter().peekable();
        if let Some(Segment::Text(before)) = self.segments.last_mut() {
            before.extend(ids);
        } else if ids.peek().is_some() {
            self.segments.push(Segment::Text(ids.collect()));
        }
    }

    /// Appends the next image, which must be in `visual_tokens`.
    fn push_image(&mut self, visual_tokens: &[usize]) {
        let index = self.image_count();
        self.segments.push(Segment::Image {
            index,
            tokens: visual_tokens[index],
        });
    }

    /// The segments in order.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Positions of each image.
    pub fn images(&self) -> Vec<Range<usize>> {
        let mut end = 0;
        let spans = self.segments.iter().filter_map(|segment| {
            let start = end;
            end += segment.len();
            matches!(segment, Segment::Image { .. }).then_some(start..end)
        });
        spans.collect()
    }

    /// Number of images.
    pub fn image_count(&self) -> usize {
        self.segments
            .iter()
            .filter(|segment| matches!(segment, Segment::Image { .. }))
            .count()
    }

    /// Positions taken by text.
    pub fn text_len(&self) -> usize {
        self.total_len() - self.visual_len()
    }

    /// Positions taken by visual tokens.
    pub fn visual_len(&self) -> usize {
        let visual = |segment: &&Segment| matches!(segment, Segment::Image { .. });
        self.segments.iter().filter(visual).map(Segment::len).sum()
    }

    /// All positions: the length of the prefill.
    pub fn total_len(&self) -> usize {
        self.segments.iter().map(Segment::len).sum()
    }
}
