//! The published key layouts, as tables.
//!
//! A [`Layout`] says under which prefix each part of a model lies and in which
//! [`Dialect`] its keys are written. A dialect is a table of [`Row`]s from
//! canonical parameter modules to source modules and the [`Form`] in which the
//! source stores them. `dialects` and `published` hold the tables, and this
//! file recognises a layout; planning tensors from it is
//! `plan`'s business.

mod dialects;
mod published;
mod row;

use std::cmp::Reverse;

pub use published::LAYOUTS;
pub use row::{Form, Numbers, Row, ScaleBranch, Skip, Split};

use super::{CheckpointError, WeightFiles};
use crate::nets::EncoderConfig;
use crate::recipe::Recipe;
use crate::weights::Part;

/// Which networks a dialect describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// FastViT encoders.
    FastVit,
    /// Vision transformers.
    Vit,
    /// Vision transformers behind convolutional stages.
    Vitamin,
    /// ConvNeXt encoders.
    ConvNext,
    /// Projectors.
    Projector,
    /// Llama-style decoders.
    Decoder,
}

/// What a dialect calls the pieces of re-parameterisable blocks.
#[derive(Clone, Copy, Debug)]
pub struct Pieces {
    /// The folded convolution.
    pub folded: &'static str,
    /// The folded large-kernel convolution.
    pub folded_large: &'static str,
    /// List of convolution branches.
    pub conv: &'static str,
    /// 1x1 branch.
    pub scale: &'static str,
    /// Identity branch, a batch norm.
    pub skip: &'static str,
    /// 7x7 branch of the large kernel.
    pub large: &'static str,
    /// 3x3 branch of the large kernel.
    pub small: &'static str,
    /// Convolution of the position encoding.
    pub position: &'static str,
    /// Layer scale of a RepMixer.
    pub layer_scale: &'static str,
}

/// How one part's keys are written.
#[derive(Debug)]
pub struct Dialect {
    /// Networks it describes.
    pub family: Family,
    /// Keys that start so, below the prefix, show that the part is there.
    pub probe: &'static str,
    /// The table.
    pub rows: &'static [Row],
    /// Keys below the prefix that no network needs: exact, a prefix ending in
    /// a dot, or a suffix starting with one.
    pub unneeded: &'static [&'static str],
    /// Prefix of numbered layers; those that are not run are not needed.
    pub layers: Option<&'static str>,
    /// Names of re-parameterisable pieces.
    pub pieces: Option<&'static Pieces>,
}

/// Where a part lies in a layout.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Prefix of its keys.
    pub prefix: &'static str,
    /// How they are written below it.
    pub dialect: &'static Dialect,
}

/// A published layout.
#[derive(Debug)]
pub struct Layout {
    /// Name, for messages and records.
    pub name: &'static str,
    /// Vision encoder.
    pub vision: Option<Place>,
    /// Projector.
    pub projector: Option<Place>,
    /// Decoder.
    pub decoder: Option<Place>,
    /// Module of a separate output head.
    pub head: &'static str,
    /// Key of the vector that ends rows of visual tokens; empty where there is none.
    pub newline: &'static str,
    /// Keys outside every part that are not needed; written as in [`Dialect`].
    pub unneeded: &'static [&'static str],
}

impl Layout {
    /// Where `part` lies.
    pub fn place(&self, part: Part) -> Option<Place> {
        match part {
            Part::Vision => self.vision,
            Part::Projector => self.projector,
            Part::Decoder => self.decoder,
        }
    }

    /// The part a key belongs to: the one with the longest prefix.
    pub fn part_of(&self, key: &str) -> Option<(Part, Place)> {
        [Part::Vision, Part::Projector, Part::Decoder]
            .into_iter()
            .filter_map(|part| Some((part, self.place(part)?)))
            .filter(|(_, place)| key.starts_with(place.prefix))
            .max_by_key(|(_, place)| place.prefix.len())
    }

    /// How many parts of `wanted` the files hold in this layout, and less how
    /// many parts of the layout they lack or the recipe has otherwise.
    fn fit(&self, files: &WeightFiles, wanted: &[(Part, Family)]) -> (usize, Reverse<usize>) {
        let (mut held, mut lacking) = (0, 0);
        for part in [Part::Vision, Part::Projector, Part::Decoder] {
            let Some(place) = self.place(part) else {
                continue;
            };
            let start = format!("{}{}", place.prefix, place.dialect.probe);
            let there = files.keys_under(&start).next().is_some();
            let family = wanted.iter().find(|(p, _)| *p == part).map(|(_, f)| *f);
            let other = family.is_some_and(|family| family != place.dialect.family);
            if there && family.is_some() && !other {
                held += 1;
            }
            lacking += usize::from(!there) + usize::from(other);
        }
        (held, Reverse(lacking))
    }
}

/// The networks among which an encoder is.
fn family_of(encoder: &EncoderConfig) -> Option<Family> {
    Some(match encoder {
        EncoderConfig::FastVit(_) => Family::FastVit,
        EncoderConfig::Vit(_) => Family::Vit,
        EncoderConfig::Vitamin(_) => Family::Vitamin,
        EncoderConfig::ConvNext(_) => Family::ConvNext,
        EncoderConfig::MultiScale(c) => return family_of(c.encoder()),
        // Each has files of its own.
        EncoderConfig::Towers(_) => return None,
    })
}

/// The layout that holds most of the recipe's parts and least besides.
pub fn recognise(files: &WeightFiles, recipe: &Recipe) -> Result<&'static Layout, CheckpointError> {
    let mut wanted = Vec::new();
    if let Some(encoder) = &recipe.encoder {
        wanted.extend(family_of(&encoder.config).map(|family| (Part::Vision, family)));
    }
    if recipe.projector.is_some() {
        wanted.push((Part::Projector, Family::Projector));
    }
    if recipe.decoder.is_some() {
        wanted.push((Part::Decoder, Family::Decoder));
    }
    // `max_by_key` takes the last of equals, so the table is walked from its end.
    let best = LAYOUTS
        .iter()
        .rev()
        .max_by_key(|layout| layout.fit(files, &wanted));
    best.filter(|layout| layout.fit(files, &wanted).0 > 0)
        .ok_or_else(|| {
            let sample: Vec<String> = files.keys().take(3).map(|key| format!("`{key}`")).collect();
            let known: Vec<&str> = LAYOUTS.iter().map(|layout| layout.name).collect();
            CheckpointError::UnknownLayout {
                folder: files.folder().to_path_buf(),
                sample: if sample.is_empty() {
                    "(none)".into()
                } else {
                    sample.join(", ")
                },
                known: known.join(", "),
            }
        })
}

/// Whether `key` is one of `patterns`: exact, a prefix ending in a dot, or a
/// suffix starting with one.
pub fn listed(patterns: &[&str], key: &str) -> bool {
    patterns.iter().any(|pattern| {
        if pattern.starts_with('.') {
            key.ends_with(pattern)
        } else if pattern.ends_with('.') {
            key.starts_with(pattern)
        } else {
            key == *pattern
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unneeded_patterns() {
        assert!(listed(&["head."], "head.proj"));
        assert!(!listed(&["head."], "heads.proj"));
        assert!(listed(
            &[".num_batches_tracked"],
            "a.bn.num_batches_tracked"
        ));
        assert!(listed(&["logit_scale"], "logit_scale"));
        assert!(!listed(&["logit_scale"], "logit_scale_2"));
    }
}
