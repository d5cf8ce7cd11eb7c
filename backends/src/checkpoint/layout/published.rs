//! The known layouts.

use super::dialects::{
    APPLE_FASTVIT, CLIP, DINOV2, HF_CONVNEXT, LDPV2, LINEAR_PROJECTOR, LLAMA, SEQUENTIAL_PROJECTOR,
    SVA, TIMM_CONVNEXT, TIMM_FASTVIT, TIMM_VITAMIN,
};
use super::{Dialect, Layout, Place};

const fn place(prefix: &'static str, dialect: &'static Dialect) -> Option<Place> {
    Some(Place { prefix, dialect })
}

/// What a full CLIP or SigLIP checkpoint carries beside the vision tower.
const CLIP_TEXT: &[&str] = &[
    "text_model.",
    "visual_projection.",
    "text_projection.",
    "logit_scale",
    "logit_bias",
    "vision_model.embeddings.position_ids",
];
/// What MobileCLIP and OpenCLIP checkpoints carry beside the image tower.
const MOBILECLIP_TEXT: &[&str] = &[
    "text_encoder.",
    "text.",
    "logit_scale",
    "logit_bias",
    "visual.head.",
    "image_encoder.projection.",
];

/// What OpenCLIP's own checkpoints carry beside the image tower.
const OPEN_CLIP_TEXT: &[&str] = &[
    "attn_mask",
    "ln_final.",
    "logit_scale",
    "positional_embedding",
    "text.",
    "text_projection",
    "token_embedding.",
    "transformer.",
    "visual.head.",
];

/// A layout of an encoder alone.
const fn encoder(
    name: &'static str,
    prefix: &'static str,
    dialect: &'static Dialect,
    unneeded: &'static [&'static str],
) -> Layout {
    Layout {
        name,
        vision: place(prefix, dialect),
        projector: None,
        decoder: None,
        head: "",
        newline: "",
        unneeded,
    }
}

/// A layout of a decoder alone.
const fn decoder(name: &'static str, prefix: &'static str) -> Layout {
    Layout {
        name,
        vision: None,
        projector: None,
        decoder: place(prefix, &LLAMA),
        head: "lm_head",
        newline: "",
        unneeded: &[],
    }
}

/// A layout of a whole vision-language model.
const fn whole(
    name: &'static str,
    vision: (&'static str, &'static Dialect),
    projector: (&'static str, &'static Dialect),
    decoder: &'static str,
    head: &'static str,
) -> Layout {
    Layout {
        name,
        vision: place(vision.0, vision.1),
        projector: place(projector.0, projector.1),
        decoder: place(decoder, &LLAMA),
        head,
        newline: "",
        unneeded: &[],
    }
}

/// A layout with the key of the vector that ends rows of visual tokens.
const fn with_newline(newline: &'static str, layout: Layout) -> Layout {
    Layout { newline, ..layout }
}

const MM_PROJECTOR: (&str, &Dialect) = ("model.mm_projector.", &SEQUENTIAL_PROJECTOR);
const HF_PROJECTOR: (&str, &Dialect) = ("model.multi_modal_projector.", &LINEAR_PROJECTOR);
const OLD_HF_PROJECTOR: (&str, &Dialect) = ("multi_modal_projector.", &LINEAR_PROJECTOR);

/// The known layouts. Where two fit equally well, the first is taken.
pub static LAYOUTS: &[Layout] = &[
    whole(
        "llava_qwen2 (Apple FastVLM)",
        ("model.vision_tower.vision_tower.model.", &APPLE_FASTVIT),
        MM_PROJECTOR,
        "model.",
        "lm_head",
    ),
    whole(
        "fast_vlm (transformers)",
        ("model.vision_tower.timm_model.", &TIMM_FASTVIT),
        HF_PROJECTOR,
        "model.language_model.",
        "lm_head",
    ),
    whole(
        "fast_vlm (transformers, nested)",
        ("vision_tower.timm_model.", &TIMM_FASTVIT),
        OLD_HF_PROJECTOR,
        "language_model.model.",
        "language_model.lm_head",
    ),
    with_newline(
        "image_newline",
        whole(
            "llava (transformers, published)",
            ("vision_tower.vision_model.", &CLIP),
            OLD_HF_PROJECTOR,
            "language_model.model.",
            "language_model.lm_head",
        ),
    ),
    with_newline(
        "image_newline",
        whole(
            "llava (transformers 5)",
            ("vision_tower.", &CLIP),
            OLD_HF_PROJECTOR,
            "language_model.model.",
            "language_model.lm_head",
        ),
    ),
    with_newline(
        "model.image_newline",
        whole(
            "llava (transformers 5, in memory)",
            ("model.vision_tower.", &CLIP),
            HF_PROJECTOR,
            "model.language_model.",
            "lm_head",
        ),
    ),
    with_newline(
        "model.image_newline",
        whole(
            "llava (transformers 4, in memory)",
            ("model.vision_tower.vision_model.", &CLIP),
            HF_PROJECTOR,
            "model.language_model.",
            "lm_head",
        ),
    ),
    whole(
        "mobilevlm (MobileVLM v2)",
        ("model.vision_tower.vision_tower.vision_model.", &CLIP),
        ("model.mm_projector.", &LDPV2),
        "model.",
        "lm_head",
    ),
    with_newline(
        "model.image_newline",
        whole(
            "llava (LLaVA)",
            ("model.vision_tower.vision_tower.vision_model.", &CLIP),
            MM_PROJECTOR,
            "model.",
            "lm_head",
        ),
    ),
    // Its tower is in a folder of its own, or was never taken out of the model.
    whole(
        "llava (ConvLLaVA)",
        ("vision_tower.", &HF_CONVNEXT),
        MM_PROJECTOR,
        "model.",
        "lm_head",
    ),
    whole(
        "llava (ConvLLaVA, in one)",
        ("model.vision_tower.vision_tower.", &HF_CONVNEXT),
        MM_PROJECTOR,
        "model.",
        "lm_head",
    ),
    Layout {
        name: "cambrian_llama (Cambrian-1)",
        vision: None,
        projector: place("model.", &SVA),
        decoder: place("model.", &LLAMA),
        head: "lm_head",
        newline: "model.image_newline",
        unneeded: &[],
    },
    encoder("clip", "vision_model.", &CLIP, CLIP_TEXT),
    encoder("clip (bare)", "", &CLIP, CLIP_TEXT),
    encoder("dinov2 (transformers)", "", &DINOV2, &[]),
    encoder("convnext (transformers)", "", &HF_CONVNEXT, &[]),
    encoder(
        "convnext (transformers, with classifier)",
        "convnext.",
        &HF_CONVNEXT,
        &["classifier."],
    ),
    encoder(
        "convnext (OpenCLIP)",
        "visual.trunk.",
        &TIMM_CONVNEXT,
        OPEN_CLIP_TEXT,
    ),
    encoder("convnext (timm)", "", &TIMM_CONVNEXT, &[]),
    encoder(
        "vitamin (OpenCLIP)",
        "visual.trunk.",
        &TIMM_VITAMIN,
        OPEN_CLIP_TEXT,
    ),
    encoder("vitamin (timm)", "", &TIMM_VITAMIN, &[]),
    encoder(
        "mobileclip (Apple)",
        "image_encoder.model.",
        &APPLE_FASTVIT,
        MOBILECLIP_TEXT,
    ),
    encoder(
        "mobileclip (Apple, bare)",
        "",
        &APPLE_FASTVIT,
        MOBILECLIP_TEXT,
    ),
    encoder(
        "fastvit (OpenCLIP)",
        "visual.trunk.",
        &TIMM_FASTVIT,
        MOBILECLIP_TEXT,
    ),
    encoder(
        "fastvit (transformers timm wrapper)",
        "timm_model.",
        &TIMM_FASTVIT,
        &[],
    ),
    encoder("fastvit (timm)", "", &TIMM_FASTVIT, &[]),
    decoder("causal language model (transformers)", "model."),
    decoder("language model without head (transformers)", ""),
];
