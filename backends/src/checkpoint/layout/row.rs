//! Rows of a dialect: from a canonical module's name to the source modules that
//! make it.

use crate::nets::FastVitConfig;

/// How a source stores a canonical module (its `.weight` and `.bias`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As it is: source 0 is the module.
    Module,
    /// One tensor without suffix: source 0 is its key.
    Tensor,
    /// Several modules, one after another on the output axis.
    Stacked(Split),
    /// A MobileOne block: re-parameterised, or convolution, 1x1 scale and
    /// identity branches with a batch norm each.
    Block {
        /// Kernel side of the convolution branch.
        kernel: usize,
        /// Whether there is an identity branch.
        skip: Skip,
        /// Whether a 1x1 branch stands beside the convolution.
        scale: ScaleBranch,
    },
    /// A 7x7 and a 3x3 convolution, summed.
    LargeKernel,
    /// `x + layer_scale * (mixer(x) - norm(x))`.
    RepMixer,
    /// `x + conv7x7(x)`.
    PositionEncoding,
    /// `x + conv(x)`: source 0 is the depthwise convolution.
    Residual {
        /// Its kernel side.
        kernel: usize,
    },
    /// A convolution without bias (`conv`), then a batch norm (`bn`).
    ConvNorm,
    /// Source 0 is a module whose output is multiplied by the layer scale at
    /// source 1, where the checkpoint has layer scales.
    Scaled,
    /// Source 0 is a norm before the module at source 1: a batch norm is folded
    /// into the module, a layer norm is a canonical module of its own.
    Normed,
}

/// Row counts of stacked modules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// All the same.
    Equal,
    /// Query heads, key heads, value heads of the decoder.
    Heads,
}

/// When a MobileOne block has an identity branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skip {
    /// Stride or width changes.
    Never,
    /// Stride 1, equal widths.
    Always,
    /// If the final convolution does not widen.
    IfHeadKeepsWidth,
}

/// When a MobileOne block has a 1x1 branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScaleBranch {
    /// The kernel is 1x1 itself.
    Never,
    /// In every network.
    Always,
    /// In the stem: MCi0 to MCi2 have it, FastViTHD does not.
    IfStemHasIt,
}

/// One line of a dialect. `{s}`, `{b}` and `{i}` stand for the numbers of the
/// canonical name; `{down}`, `{cpe}` and `{blocks}` for the positions of stage
/// `{s}`'s modules in a flat list.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Canonical module.
    pub canonical: &'static str,
    /// Source modules or keys below the part's prefix.
    pub sources: &'static [&'static str],
    /// How they make the canonical module.
    pub form: Form,
}

/// The numbers of a canonical name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    stage: usize,
    block: usize,
    layer: usize,
}

impl Numbers {
    /// The stage `{s}`; 0 where there is none.
    pub fn stage(&self) -> usize {
        self.stage
    }

    fn slot(&mut self, placeholder: &str) -> Option<&mut usize> {
        match placeholder {
            "{s}" => Some(&mut self.stage),
            "{b}" => Some(&mut self.block),
            "{i}" => Some(&mut self.layer),
            _ => None,
        }
    }
}

impl Row {
    /// A row; see the fields.
    pub const fn new(canonical: &'static str, sources: &'static [&'static str], form: Form) -> Row {
        Row {
            canonical,
            sources,
            form,
        }
    }

    /// The numbers of `module` if this row is about it.
    pub fn captures(&self, module: &str) -> Option<Numbers> {
        let mut numbers = Numbers::default();
        let mut segments = module.split('.');
        for expected in self.canonical.split('.') {
            let segment = segments.next()?;
            match numbers.slot(expected) {
                Some(slot) => *slot = segment.parse().ok()?,
                None if segment == expected => {}
                None => return None,
            }
        }
        segments.next().is_none().then_some(numbers)
    }

    /// Source `index` with the numbers put in, below `prefix`.
    pub fn source(
        &self,
        index: usize,
        prefix: &str,
        numbers: Numbers,
        encoder: Option<&FastVitConfig>,
    ) -> String {
        let flat = encoder
            .map(|config| FlatIndices::of(config, numbers.stage))
            .unwrap_or_default();
        let places = [
            ("{s}", numbers.stage),
            ("{b}", numbers.block),
            ("{i}", numbers.layer),
            ("{down}", flat.down),
            ("{cpe}", flat.cpe),
            ("{blocks}", flat.blocks),
        ];
        let source = self.sources[index].to_owned();
        let filled = places.iter().fold(source, |source, (place, number)| {
            source.replace(place, &number.to_string())
        });
        format!("{prefix}{filled}")
    }
}

/// Positions of a stage's modules in Apple's flat `network` list: for every
/// stage its downsampling (but the first), its position encoding if it has one,
/// and its blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct FlatIndices {
    down: usize,
    cpe: usize,
    blocks: usize,
}

impl FlatIndices {
    fn of(config: &FastVitConfig, stage: usize) -> FlatIndices {
        let mut next = 0;
        let mut take = || {
            next += 1;
            next - 1
        };
        let mut at = FlatIndices::default();
        for (index, &encoded) in config.position_encodings.iter().enumerate().take(stage + 1) {
            if index > 0 {
                at.down = take();
            }
            if encoded {
                at.cpe = take();
            }
            at.blocks = take();
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nets::EncoderConfig;
    use crate::nets::registry::{ENCODERS, find};

    fn fastvit(name: &str) -> FastVitConfig {
        match (find("encoder", ENCODERS, name).unwrap().config)() {
            EncoderConfig::FastVit(config) => config,
            _ => panic!("{name} is a FastViT"),
        }
    }

    #[test]
    fn flat_indices_are_those_of_the_published_networks() {
        let at = |down, cpe, blocks| FlatIndices { down, cpe, blocks };
        let hd = fastvit("fastvithd");
        assert_eq!(FlatIndices::of(&hd, 0), at(0, 0, 0));
        assert_eq!(FlatIndices::of(&hd, 2), at(3, 0, 4));
        assert_eq!(FlatIndices::of(&hd, 3), at(5, 6, 7));
        assert_eq!(FlatIndices::of(&hd, 4), at(8, 9, 10));
        assert_eq!(FlatIndices::of(&fastvit("fastvit-mci2"), 3), at(5, 6, 7));
    }

    #[test]
    fn rows_capture_the_numbers_of_names() {
        let mixer = Row::new(
            "stages.{s}.blocks.{b}.mixer",
            &["network.{blocks}.{b}.token_mixer"],
            Form::RepMixer,
        );
        let numbers = mixer.captures("stages.2.blocks.17.mixer").unwrap();
        assert_eq!((numbers.stage, numbers.block), (2, 17));
        let hd = fastvit("fastvithd");
        assert_eq!(
            mixer.source(0, "v.", numbers, Some(&hd)),
            "v.network.4.17.token_mixer"
        );
        assert_eq!(mixer.captures("stages.2.blocks.17.proj"), None);
        assert_eq!(mixer.captures("stages.2.blocks.17.mixer.more"), None);
        assert_eq!(mixer.captures("stages.x.blocks.17.mixer"), None);
    }
}
