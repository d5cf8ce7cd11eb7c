//! The published networks by name: one line each, with its numbers.

use super::convnext::ConvNextConfig;
use super::fastvit::{AttentionNorm, FastVitConfig, Mixer};
use super::vit::VitConfig;
use super::vitamin::VitaminConfig;
use super::{DecoderConfig, EncoderConfig};
use crate::error::{Error, Result};
use crate::ops::Act;

/// A named published configuration.
pub struct Entry<C: 'static> {
    /// Name used in recipes and on the command line.
    pub name: &'static str,
    /// One line for listings.
    pub about: &'static str,
    /// Name as papers print it; joins with published tables.
    pub label: &'static str,
    /// Default input side in pixels; 0 for decoders.
    pub resolution: usize,
    /// The numbers.
    pub config: fn() -> C,
}

/// Vision encoders, sorted by name.
pub const ENCODERS: &[Entry<EncoderConfig>] = &[
    Entry {
        name: "clip-vit-l-14-224",
        about: "CLIP ViT-L/14 at 224 px, 256 tokens, layer 23",
        label: "ViT-L/14",
        resolution: 224,
        config: || EncoderConfig::Vit(clip_vit_l_14(224)),
    },
    Entry {
        name: "clip-vit-l-14-336",
        about: "CLIP ViT-L/14 at 336 px, 576 tokens, layer 23 (LLaVA-1.5)",
        label: "ViT-L/14",
        resolution: 336,
        config: || EncoderConfig::Vit(clip_vit_l_14(336)),
    },
    Entry {
        name: "convllava-l",
        about: "ConvNeXt-L with ConvLLaVA's fifth stage, stride 64",
        label: "ConvLLaVA",
        resolution: 1536,
        config: || convnext(&[3, 3, 27, 3, 6], 192, 1e-6),
    },
    Entry {
        name: "convnext-l",
        about: "ConvNeXt-L (LAION CLIP), stride 32",
        label: "ConvNeXt-L",
        resolution: 320,
        config: || convnext(&[3, 3, 27, 3], 192, 1e-6),
    },
    Entry {
        name: "convnext-xxl",
        about: "ConvNeXt-XXL (LAION CLIP), stride 32",
        label: "ConvNeXt-XXL",
        resolution: 256,
        config: || convnext(&[3, 4, 30, 3], 384, 1e-5),
    },
    Entry {
        name: "dinov2-g-14",
        about: "DINOv2 ViT-g/14 at 518 px, 1369 tokens, after the last norm (Cambrian-1, at 378 px)",
        label: "DINOv2-G/14",
        resolution: 518,
        config: || EncoderConfig::Vit(dinov2(1536, 40, 24, 4096, true)),
    },
    Entry {
        name: "dinov2-l-14",
        about: "DINOv2 ViT-L/14 at 518 px, 1369 tokens, after the last norm",
        label: "DINOv2-L/14",
        resolution: 518,
        config: || EncoderConfig::Vit(dinov2(1024, 24, 16, 4096, false)),
    },
    Entry {
        name: "fastvit-mci0",
        about: "FastViT MCi0 (MobileCLIP-S0), stride 32",
        label: "FastViT-MCi0",
        resolution: 256,
        config: || EncoderConfig::FastVit(mci([2, 6, 10, 2], [64, 128, 256, 512])),
    },
    Entry {
        name: "fastvit-mci1",
        about: "FastViT MCi1 (MobileCLIP-S1), stride 32",
        label: "FastViT-MCi1",
        resolution: 256,
        config: || EncoderConfig::FastVit(mci([4, 12, 20, 4], [64, 128, 256, 512])),
    },
    Entry {
        name: "fastvit-mci2",
        about: "FastViT MCi2 (MobileCLIP-S2), stride 32: FastVLM's FastViT",
        label: "FastViT",
        resolution: 256,
        config: || EncoderConfig::FastVit(mci([4, 12, 24, 4], [80, 160, 320, 640])),
    },
    Entry {
        name: "fastvit-naive",
        about: "FastViT scaled plainly (FastVLM's appendix B.1, never released), stride 32",
        label: "FastViT-Naive",
        resolution: 256,
        config: || EncoderConfig::FastVit(mci([2, 12, 16, 6], [128, 256, 512, 1024])),
    },
    Entry {
        name: "fastvithd",
        about: "FastViTHD (MobileCLIP-L), five stages, stride 64",
        label: "FastViTHD",
        resolution: 1024,
        config: || EncoderConfig::FastVit(fastvithd()),
    },
    Entry {
        name: "siglip-so400m-14-384",
        about: "SigLIP SO400M/14 at 384 px, 729 tokens, layer 26 (LLaVA-OneVision)",
        label: "SigLIP-SO400M/14",
        resolution: 384,
        config: || EncoderConfig::Vit(siglip_so400m_14()),
    },
    Entry {
        name: "vitamin-l-224",
        about: "ViTamin-L at 224 px, 196 tokens, after the last layer",
        label: "ViTamin-L",
        resolution: 224,
        config: || vitamin_l(224),
    },
    Entry {
        name: "vitamin-l-256",
        about: "ViTamin-L at 256 px, 256 tokens, after the last layer",
        label: "ViTamin-L",
        resolution: 256,
        config: || vitamin_l(256),
    },
    Entry {
        name: "vitamin-l-336",
        about: "ViTamin-L at 336 px, 441 tokens, after the last layer",
        label: "ViTamin-L",
        resolution: 336,
        config: || vitamin_l(336),
    },
    Entry {
        name: "vitamin-l-384",
        about: "ViTamin-L at 384 px, 576 tokens, after the last layer",
        label: "ViTamin-L",
        resolution: 384,
        config: || vitamin_l(384),
    },
];

/// Decoders, sorted by name.
pub const DECODERS: &[Entry<DecoderConfig>] = &[
    Entry {
        name: "llama-3-8b",
        about: "Llama-3-8B, 32 layers, 32 heads over 8 key/value heads",
        label: "Llama-3-8B",
        resolution: 0,
        config: || llama(4096, 14_336, 32, [32, 8], 128_256, 5e5, 8192),
    },
    Entry {
        name: "mobilellama-1.4b",
        about: "MobileLLaMA-1.4B (MobileVLM v2), 24 layers, 16 heads",
        label: "MobileLLaMA-1.4B",
        resolution: 0,
        config: || DecoderConfig {
            rms_eps: 1e-6,
            ..llama(2048, 5632, 24, [16, 16], 32_000, 1e4, 2048)
        },
    },
    Entry {
        name: "qwen1.5-0.5b",
        about: "Qwen1.5-0.5B (nanoLLaVA), 24 layers, 16 heads, tied head",
        label: "Qwen1.5-0.5B",
        resolution: 0,
        config: || qwen2(1024, 2816, 24, [16, 16], 151_936, true),
    },
    Entry {
        name: "qwen2-0.5b",
        about: "Qwen2-0.5B, 24 layers, 14 heads over 2 key/value heads, tied head",
        label: "Qwen2-0.5B",
        resolution: 0,
        config: || qwen2(896, 4864, 24, [14, 2], 151_936, true),
    },
    Entry {
        name: "qwen2-1.5b",
        about: "Qwen2-1.5B, 28 layers, 12 heads over 2 key/value heads, tied head",
        label: "Qwen2-1.5B",
        resolution: 0,
        config: || qwen2(1536, 8960, 28, [12, 2], 151_936, true),
    },
    Entry {
        name: "qwen2-7b",
        about: "Qwen2-7B, 28 layers, 28 heads over 4 key/value heads",
        label: "Qwen2-7B",
        resolution: 0,
        config: || qwen2(3584, 18_944, 28, [28, 4], 152_064, false),
    },
    Entry {
        name: "vicuna-7b",
        about: "Vicuna-7B v1.5 (Llama 2), 32 layers, 32 heads",
        label: "Vicuna-7B",
        resolution: 0,
        config: || llama(4096, 11_008, 32, [32, 32], 32_000, 1e4, 4096),
    },
];

/// Looks a name up; the error lists what there is.
pub fn find<C>(
    kind: &'static str,
    entries: &'static [Entry<C>],
    name: &str,
) -> Result<&'static Entry<C>> {
    entries.iter().find(|e| e.name == name).ok_or_else(|| {
        let names: Vec<&str> = entries.iter().map(|e| e.name).collect();
        unknown(kind, name, &names)
    })
}

/// The one of `all` that is called `name`; the error lists all.
pub fn one_of<T: Copy, const N: usize>(
    kind: &'static str,
    name: &str,
    all: [T; N],
    name_of: fn(T) -> &'static str,
) -> Result<T> {
    let found = all.into_iter().find(|one| name_of(*one) == name);
    found.ok_or_else(|| unknown(kind, name, &all.map(name_of)))
}

/// The error for a name that is not among `known`, nearest first.
pub fn unknown(kind: &'static str, name: &str, known: &[&str]) -> Error {
    let mut names = known.to_vec();
    names.sort_by(|a, b| strsim::jaro_winkler(b, name).total_cmp(&strsim::jaro_winkler(a, name)));
    Error::Unknown {
        kind,
        name: name.into(),
        known: names.join(", "),
    }
}

fn clip_vit_l_14(image: usize) -> VitConfig {
    VitConfig {
        hidden: 1024,
        layers: 24,
        layers_run: 23,
        heads: 16,
        mlp: 4096,
        gated: false,
        mlp_norm: false,
        patch: 14,
        image,
        act: Act::QuickGelu,
        eps: 1e-5,
        class_token: true,
        patch_bias: false,
        pre_norm: true,
        post_norm: false,
        reduce: None,
    }
}

/// The layers that LLaVA-OneVision keeps: all but the last, no norm after them.
fn siglip_so400m_14() -> VitConfig {
    VitConfig {
        hidden: 1152,
        layers: 27,
        layers_run: 26,
        heads: 16,
        mlp: 4304,
        gated: false,
        mlp_norm: false,
        patch: 14,
        image: 384,
        act: Act::GeluTanh,
        eps: 1e-6,
        class_token: false,
        patch_bias: true,
        pre_norm: false,
        post_norm: false,
        reduce: None,
    }
}

/// Positions are learned for `image` pixels; the rest is one network at every side.
fn vitamin_l(image: usize) -> EncoderConfig {
    EncoderConfig::Vitamin(VitaminConfig {
        stem: 160,
        depths: vec![2, 4],
        dims: vec![160, 320],
        vit: VitConfig {
            hidden: 1024,
            layers: 31,
            layers_run: 31,
            heads: 16,
            mlp: 2048,
            gated: true,
            mlp_norm: true,
            patch: 16,
            image,
            act: Act::Gelu,
            eps: 1e-6,
            class_token: false,
            patch_bias: true,
            pre_norm: false,
            post_norm: false,
            reduce: None,
        },
    })
}

/// Every stage is twice as wide as the one before.
fn convnext(depths: &[usize], first: usize, eps: f32) -> EncoderConfig {
    EncoderConfig::ConvNext(ConvNextConfig {
        depths: depths.to_vec(),
        dims: (0..depths.len()).map(|stage| first << stage).collect(),
        eps,
    })
}

/// Layer scales are folded into the projections before them.
fn dinov2(hidden: usize, layers: usize, heads: usize, mlp: usize, gated: bool) -> VitConfig {
    VitConfig {
        hidden,
        layers,
        layers_run: layers,
        heads,
        mlp,
        gated,
        mlp_norm: false,
        patch: 14,
        image: 518,
        act: if gated { Act::Silu } else { Act::Gelu },
        eps: 1e-6,
        class_token: true,
        patch_bias: true,
        pre_norm: false,
        post_norm: true,
        reduce: None,
    }
}

fn mci(layers: [usize; 4], dims: [usize; 4]) -> FastVitConfig {
    use Mixer::{Attention, Rep};
    FastVitConfig {
        layers: layers.to_vec(),
        embed_dims: dims.to_vec(),
        mlp_ratios: vec![3.0; 4],
        mixers: vec![Rep, Rep, Rep, Attention],
        se_downsamples: vec![false, false, true, true],
        position_encodings: vec![false, false, false, true],
        large_kernel_act: true,
        attention_norm: AttentionNorm::Batch,
        cls_ratio: 2.0,
    }
}

fn fastvithd() -> FastVitConfig {
    use Mixer::{Attention, Rep};
    FastVitConfig {
        layers: vec![2, 12, 24, 4, 2],
        embed_dims: vec![96, 192, 384, 768, 1536],
        mlp_ratios: vec![4.0; 5],
        mixers: vec![Rep, Rep, Rep, Attention, Attention],
        se_downsamples: vec![false; 5],
        position_encodings: vec![false, false, false, true, true],
        large_kernel_act: true,
        attention_norm: AttentionNorm::LayerChannel,
        cls_ratio: 2.0,
    }
}

/// Heads are those of queries and those of keys and values.
fn llama(
    hidden: usize,
    intermediate: usize,
    layers: usize,
    [heads, kv_heads]: [usize; 2],
    vocab: usize,
    rope_theta: f32,
    max_positions: usize,
) -> DecoderConfig {
    DecoderConfig {
        hidden,
        intermediate,
        layers,
        heads,
        kv_heads,
        head_dim: hidden / heads,
        vocab,
        rope_theta,
        rms_eps: 1e-5,
        tied: false,
        qkv_bias: false,
        max_positions,
        fastv: None,
    }
}

fn qwen2(
    hidden: usize,
    intermediate: usize,
    layers: usize,
    heads: [usize; 2],
    vocab: usize,
    tied: bool,
) -> DecoderConfig {
    DecoderConfig {
        rms_eps: 1e-6,
        tied,
        qkv_bias: true,
        ..llama(hidden, intermediate, layers, heads, vocab, 1e6, 32_768)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_registry<C>(entries: &[Entry<C>], check: impl Fn(C)) {
        for pair in entries.windows(2) {
            assert!(pair[0].name < pair[1].name, "sorted and unique");
        }
        for e in entries {
            assert!(!e.about.is_empty() && !e.label.is_empty());
            check((e.config)());
        }
    }

    #[test]
    fn registries_are_sorted_described_and_valid() {
        check_registry(ENCODERS, |c| match c {
            EncoderConfig::FastVit(c) => c.check().unwrap(),
            EncoderConfig::ConvNext(c) => c.check().unwrap(),
            EncoderConfig::Vitamin(c) => c.check().unwrap(),
            EncoderConfig::Vit(c) => assert!(c.layers_run < c.layers || c.post_norm),
            EncoderConfig::MultiScale(_) | EncoderConfig::Towers(_) => {
                panic!("a network is an encoder alone")
            }
        });
        check_registry(DECODERS, |c| c.check().unwrap());
    }

    #[test]
    fn visual_tokens_round_up_for_fastvit_and_are_whole_patches_for_vit() {
        let tokens = |name, side| {
            let e = find("encoder", ENCODERS, name).unwrap();
            (e.config)().visual_tokens(side, side).ok()
        };
        assert_eq!(tokens("fastvithd", 1024), Some(256));
        assert_eq!(tokens("fastvithd", 336), Some(36));
        assert_eq!(tokens("fastvit-mci2", 336), Some(121));
        assert_eq!(tokens("fastvit-mci2", 768), Some(576));
        assert_eq!(tokens("clip-vit-l-14-336", 336), Some(576));
        assert_eq!(tokens("clip-vit-l-14-336", 224), Some(256));
        assert_eq!(tokens("dinov2-g-14", 378), Some(729));
        assert_eq!(tokens("convnext-l", 336), Some(100));
        assert_eq!(tokens("convnext-l", 31), None);
        assert_eq!(tokens("convllava-l", 1536), Some(576));
        assert_eq!(tokens("siglip-so400m-14-384", 384), Some(729));
        assert_eq!(tokens("vitamin-l-224", 224), Some(196));
        assert_eq!(tokens("vitamin-l-384", 384), Some(576));
        assert_eq!(tokens("vitamin-l-384", 378), None);
        assert_eq!(tokens("clip-vit-l-14-336", 225), None);
        assert_eq!(tokens("clip-vit-l-14-336", 0), None);
    }

    #[test]
    fn an_unknown_name_lists_the_nearest_first() {
        let Err(e) = find("encoder", ENCODERS, "fastvithdd") else {
            panic!("found");
        };
        assert!(e.to_string().contains("known: fastvithd,"), "{e}");
    }
}
