//! How the keys of each part are written, by those who publish it.

use super::row::{Form, Row, ScaleBranch, Skip, Split};
use super::{Dialect, Family, Pieces};

const fn row(canonical: &'static str, sources: &'static [&'static str], form: Form) -> Row {
    Row::new(canonical, sources, form)
}

const STEM_BLOCK: Form = Form::Block {
    kernel: 3,
    skip: Skip::Never,
    scale: ScaleBranch::IfStemHasIt,
};
const POINTWISE_BLOCK: Form = Form::Block {
    kernel: 1,
    skip: Skip::Always,
    scale: ScaleBranch::Never,
};
const HEAD_BLOCK: Form = Form::Block {
    kernel: 3,
    skip: Skip::IfHeadKeepsWidth,
    scale: ScaleBranch::Always,
};

/// What pools a stage's output. Nobody has published one: the name is ours.
const SCALES: Row = row("scales.{s}", &["scales.{s}"], Form::Module);

/// FastViT as timm writes it (and transformers, which wraps timm).
pub(super) static TIMM_FASTVIT: Dialect = Dialect {
    family: Family::FastVit,
    probe: "stages.",
    rows: &[
        row("stem.0", &["stem.0"], STEM_BLOCK),
        row("stem.1", &["stem.1"], STEM_BLOCK),
        row("stem.2", &["stem.2"], POINTWISE_BLOCK),
        row(
            "stages.{s}.down.conv",
            &["stages.{s}.downsample.proj.0"],
            Form::LargeKernel,
        ),
        row(
            "stages.{s}.down.se.reduce",
            &["stages.{s}.downsample.proj.0.se.fc1"],
            Form::Module,
        ),
        row(
            "stages.{s}.down.se.expand",
            &["stages.{s}.downsample.proj.0.se.fc2"],
            Form::Module,
        ),
        row(
            "stages.{s}.down.pointwise",
            &["stages.{s}.downsample.proj.1"],
            POINTWISE_BLOCK,
        ),
        row(
            "stages.{s}.cpe",
            &["stages.{s}.pos_emb"],
            Form::PositionEncoding,
        ),
        row(
            "stages.{s}.blocks.{b}.mixer",
            &["stages.{s}.blocks.{b}.token_mixer"],
            Form::RepMixer,
        ),
        row(
            "stages.{s}.blocks.{b}.norm",
            &["stages.{s}.blocks.{b}.norm"],
            Form::Module,
        ),
        row(
            "stages.{s}.blocks.{b}.qkv",
            &[
                "stages.{s}.blocks.{b}.norm",
                "stages.{s}.blocks.{b}.token_mixer.qkv",
            ],
            Form::Normed,
        ),
        row(
            "stages.{s}.blocks.{b}.proj",
            &[
                "stages.{s}.blocks.{b}.token_mixer.proj",
                "stages.{s}.blocks.{b}.layer_scale_1.gamma",
            ],
            Form::Scaled,
        ),
        row(
            "stages.{s}.blocks.{b}.ffn.conv",
            &["stages.{s}.blocks.{b}.mlp.conv"],
            Form::ConvNorm,
        ),
        row(
            "stages.{s}.blocks.{b}.ffn.fc1",
            &["stages.{s}.blocks.{b}.mlp.fc1"],
            Form::Module,
        ),
        row(
            "stages.{s}.blocks.{b}.ffn.fc2",
            &[
                "stages.{s}.blocks.{b}.mlp.fc2",
                "stages.{s}.blocks.{b}.layer_scale.gamma",
                "stages.{s}.blocks.{b}.layer_scale_2.gamma",
            ],
            Form::Scaled,
        ),
        row("head.conv", &["final_conv"], HEAD_BLOCK),
        row("head.se.reduce", &["final_conv.se.fc1"], Form::Module),
        row("head.se.expand", &["final_conv.se.fc2"], Form::Module),
        SCALES,
    ],
    unneeded: &["head.", ".num_batches_tracked"],
    layers: None,
    pieces: Some(&Pieces {
        folded: "reparam_conv",
        folded_large: "reparam_conv",
        conv: "conv_kxk",
        scale: "conv_scale",
        skip: "identity",
        large: "large_conv",
        small: "small_conv",
        position: "pos_enc",
        layer_scale: "layer_scale.gamma",
    }),
};

/// FastViT as Apple writes it in MobileCLIP and FastVLM.
pub(super) static APPLE_FASTVIT: Dialect = Dialect {
    family: Family::FastVit,
    probe: "network.",
    rows: &[
        row("stem.0", &["patch_embed.0"], STEM_BLOCK),
        row("stem.1", &["patch_embed.1"], STEM_BLOCK),
        row("stem.2", &["patch_embed.2"], POINTWISE_BLOCK),
        row(
            "stages.{s}.down.conv",
            &["network.{down}.proj.0"],
            Form::LargeKernel,
        ),
        row(
            "stages.{s}.down.se.reduce",
            &["network.{down}.proj.0.se.fc1"],
            Form::Module,
        ),
        row(
            "stages.{s}.down.se.expand",
            &["network.{down}.proj.0.se.fc2"],
            Form::Module,
        ),
        row(
            "stages.{s}.down.pointwise",
            &["network.{down}.proj.1"],
            POINTWISE_BLOCK,
        ),
        row("stages.{s}.cpe", &["network.{cpe}"], Form::PositionEncoding),
        row(
            "stages.{s}.blocks.{b}.mixer",
            &["network.{blocks}.{b}.token_mixer"],
            Form::RepMixer,
        ),
        row(
            "stages.{s}.blocks.{b}.norm",
            &["network.{blocks}.{b}.norm"],
            Form::Module,
        ),
        row(
            "stages.{s}.blocks.{b}.qkv",
            &[
                "network.{blocks}.{b}.norm",
                "network.{blocks}.{b}.token_mixer.qkv",
            ],
            Form::Normed,
        ),
        row(
            "stages.{s}.blocks.{b}.proj",
            &[
                "network.{blocks}.{b}.token_mixer.proj",
                "network.{blocks}.{b}.layer_scale_1",
            ],
            Form::Scaled,
        ),
        row(
            "stages.{s}.blocks.{b}.ffn.conv",
            &["network.{blocks}.{b}.convffn.conv"],
            Form::ConvNorm,
        ),
        row(
            "stages.{s}.blocks.{b}.ffn.fc1",
            &["network.{blocks}.{b}.convffn.fc1"],
            Form::Module,
        ),
        row(
            "stages.{s}.blocks.{b}.ffn.fc2",
            &[
                "network.{blocks}.{b}.convffn.fc2",
                "network.{blocks}.{b}.layer_scale",
                "network.{blocks}.{b}.layer_scale_2",
            ],
            Form::Scaled,
        ),
        row("head.conv", &["conv_exp"], HEAD_BLOCK),
        row("head.se.reduce", &["conv_exp.se.reduce"], Form::Module),
        row("head.se.expand", &["conv_exp.se.expand"], Form::Module),
    ],
    unneeded: &["head.", ".num_batches_tracked"],
    layers: None,
    pieces: Some(&Pieces {
        folded: "reparam_conv",
        folded_large: "lkb_reparam",
        conv: "rbr_conv",
        scale: "rbr_scale",
        skip: "rbr_skip",
        large: "lkb_origin",
        small: "small_conv",
        position: "pe",
        layer_scale: "layer_scale",
    }),
};

/// CLIP and SigLIP vision towers as transformers writes them.
pub(super) static CLIP: Dialect = Dialect {
    family: Family::Vit,
    probe: "encoder.layers.",
    rows: &[
        row("patch", &["embeddings.patch_embedding"], Form::Module),
        row("class", &["embeddings.class_embedding"], Form::Tensor),
        row(
            "positions",
            &["embeddings.position_embedding.weight"],
            Form::Tensor,
        ),
        row("pre_norm", &["pre_layrnorm"], Form::Module),
        row("post_norm", &["post_layernorm"], Form::Module),
        row(
            "layers.{i}.norm1",
            &["encoder.layers.{i}.layer_norm1"],
            Form::Module,
        ),
        row(
            "layers.{i}.qkv",
            &[
                "encoder.layers.{i}.self_attn.q_proj",
                "encoder.layers.{i}.self_attn.k_proj",
                "encoder.layers.{i}.self_attn.v_proj",
            ],
            Form::Stacked(Split::Equal),
        ),
        row(
            "layers.{i}.proj",
            &["encoder.layers.{i}.self_attn.out_proj"],
            Form::Module,
        ),
        row(
            "layers.{i}.norm2",
            &["encoder.layers.{i}.layer_norm2"],
            Form::Module,
        ),
        row(
            "layers.{i}.fc1",
            &["encoder.layers.{i}.mlp.fc1"],
            Form::Module,
        ),
        row(
            "layers.{i}.fc2",
            &["encoder.layers.{i}.mlp.fc2"],
            Form::Module,
        ),
    ],
    unneeded: &["post_layernorm.", "head.", "embeddings.position_ids"],
    layers: Some("encoder.layers."),
    pieces: None,
};

/// DINOv2 as transformers writes it.
pub(super) static DINOV2: Dialect = Dialect {
    family: Family::Vit,
    probe: "encoder.layer.",
    rows: &[
        row(
            "patch",
            &["embeddings.patch_embeddings.projection"],
            Form::Module,
        ),
        row("class", &["embeddings.cls_token"], Form::Tensor),
        row(
            "positions",
            &["embeddings.position_embeddings"],
            Form::Tensor,
        ),
        row(
            "layers.{i}.norm1",
            &["encoder.layer.{i}.norm1"],
            Form::Module,
        ),
        row(
            "layers.{i}.qkv",
            &[
                "encoder.layer.{i}.attention.attention.query",
                "encoder.layer.{i}.attention.attention.key",
                "encoder.layer.{i}.attention.attention.value",
            ],
            Form::Stacked(Split::Equal),
        ),
        row(
            "layers.{i}.proj",
            &[
                "encoder.layer.{i}.attention.output.dense",
                "encoder.layer.{i}.layer_scale1.lambda1",
            ],
            Form::Scaled,
        ),
        row(
            "layers.{i}.norm2",
            &["encoder.layer.{i}.norm2"],
            Form::Module,
        ),
        row(
            "layers.{i}.fc1",
            &["encoder.layer.{i}.mlp.fc1"],
            Form::Module,
        ),
        row(
            "layers.{i}.fc2",
            &[
                "encoder.layer.{i}.mlp.fc2",
                "encoder.layer.{i}.layer_scale2.lambda1",
            ],
            Form::Scaled,
        ),
        row(
            "layers.{i}.gate_up",
            &["encoder.layer.{i}.mlp.weights_in"],
            Form::Module,
        ),
        row(
            "layers.{i}.down",
            &[
                "encoder.layer.{i}.mlp.weights_out",
                "encoder.layer.{i}.layer_scale2.lambda1",
            ],
            Form::Scaled,
        ),
        row("post_norm", &["layernorm"], Form::Module),
    ],
    unneeded: &["embeddings.mask_token"],
    layers: Some("encoder.layer."),
    pieces: None,
};

/// ViTamin as timm writes it. The last norm stands after the pooling.
pub(super) static TIMM_VITAMIN: Dialect = Dialect {
    family: Family::Vitamin,
    probe: "patch_embed.backbone.stages.",
    rows: &[
        row(
            "stem.conv1",
            &["patch_embed.backbone.stem.conv1"],
            Form::Module,
        ),
        row(
            "stem.norm",
            &["patch_embed.backbone.stem.norm1"],
            Form::Module,
        ),
        row(
            "stem.conv2",
            &["patch_embed.backbone.stem.conv2"],
            Form::Module,
        ),
        row(
            "stages.{s}.blocks.{b}.shortcut",
            &["patch_embed.backbone.stages.{s}.{b}.shortcut.expand"],
            Form::Module,
        ),
        row(
            "stages.{s}.blocks.{b}.norm",
            &["patch_embed.backbone.stages.{s}.{b}.pre_norm"],
            Form::Module,
        ),
        row(
            "stages.{s}.blocks.{b}.fc1",
            &["patch_embed.backbone.stages.{s}.{b}.conv1_1x1"],
            Form::Module,
        ),
        row(
            "stages.{s}.blocks.{b}.conv",
            &["patch_embed.backbone.stages.{s}.{b}.conv2_kxk"],
            Form::Module,
        ),
        row(
            "stages.{s}.blocks.{b}.fc2",
            &["patch_embed.backbone.stages.{s}.{b}.conv3_1x1"],
            Form::Module,
        ),
        row(
            "embed.norm",
            &["patch_embed.backbone.pool.norm"],
            Form::Module,
        ),
        row(
            "embed.conv",
            &["patch_embed.backbone.pool.proj"],
            Form::Module,
        ),
        row("positions", &["pos_embed"], Form::Tensor),
        row("layers.{i}.norm1", &["blocks.{i}.norm1"], Form::Module),
        row("layers.{i}.qkv", &["blocks.{i}.attn.qkv"], Form::Module),
        row("layers.{i}.proj", &["blocks.{i}.attn.proj"], Form::Module),
        row("layers.{i}.norm2", &["blocks.{i}.norm2"], Form::Module),
        row(
            "layers.{i}.mlp_norm",
            &["blocks.{i}.mlp.norm"],
            Form::Module,
        ),
        row(
            "layers.{i}.gate_up",
            &["blocks.{i}.mlp.w0", "blocks.{i}.mlp.w1"],
            Form::Stacked(Split::Equal),
        ),
        row("layers.{i}.down", &["blocks.{i}.mlp.w2"], Form::Module),
    ],
    unneeded: &["fc_norm.", "head."],
    layers: Some("blocks."),
    pieces: None,
};

/// ConvNeXt as timm writes it.
pub(super) static TIMM_CONVNEXT: Dialect = Dialect {
    family: Family::ConvNext,
    probe: "stages.0.blocks.0.conv_dw.",
    rows: &[
        row("stem.conv", &["stem.0"], Form::Module),
        row("stem.norm", &["stem.1"], Form::Module),
        row(
            "stages.{s}.down.norm",
            &["stages.{s}.downsample.0"],
            Form::Module,
        ),
        row(
            "stages.{s}.down.conv",
            &["stages.{s}.downsample.1"],
            Form::Module,
        ),
        row(
            "stages.{s}.blocks.{b}.conv",
            &["stages.{s}.blocks.{b}.conv_dw"],
            Form::Module,
        ),
        row(
            "stages.{s}.blocks.{b}.norm",
            &["stages.{s}.blocks.{b}.norm"],
            Form::Module,
        ),
        row(
            "stages.{s}.blocks.{b}.fc1",
            &["stages.{s}.blocks.{b}.mlp.fc1"],
            Form::Module,
        ),
        row(
            "stages.{s}.blocks.{b}.fc2",
            &[
                "stages.{s}.blocks.{b}.mlp.fc2",
                "stages.{s}.blocks.{b}.gamma",
            ],
            Form::Scaled,
        ),
        SCALES,
    ],
    unneeded: &["head."],
    layers: None,
    pieces: None,
};

/// ConvNeXt as transformers writes it.
pub(super) static HF_CONVNEXT: Dialect = Dialect {
    family: Family::ConvNext,
    probe: "encoder.stages.",
    rows: &[
        row("stem.conv", &["embeddings.patch_embeddings"], Form::Module),
        row("stem.norm", &["embeddings.layernorm"], Form::Module),
        row(
            "stages.{s}.down.norm",
            &["encoder.stages.{s}.downsampling_layer.0"],
            Form::Module,
        ),
        row(
            "stages.{s}.down.conv",
            &["encoder.stages.{s}.downsampling_layer.1"],
            Form::Module,
        ),
        row(
            "stages.{s}.blocks.{b}.conv",
            &["encoder.stages.{s}.layers.{b}.dwconv"],
            Form::Module,
        ),
        row(
            "stages.{s}.blocks.{b}.norm",
            &["encoder.stages.{s}.layers.{b}.layernorm"],
            Form::Module,
        ),
        row(
            "stages.{s}.blocks.{b}.fc1",
            &["encoder.stages.{s}.layers.{b}.pwconv1"],
            Form::Module,
        ),
        row(
            "stages.{s}.blocks.{b}.fc2",
            &[
                "encoder.stages.{s}.layers.{b}.pwconv2",
                "encoder.stages.{s}.layers.{b}.layer_scale_parameter",
            ],
            Form::Scaled,
        ),
    ],
    unneeded: &["layernorm."],
    layers: None,
    pieces: None,
};

/// LLaVA's own projector: a sequence in which activations have numbers too.
pub(super) static SEQUENTIAL_PROJECTOR: Dialect = Dialect {
    family: Family::Projector,
    probe: "",
    rows: &[
        row("0", &["0"], Form::Module),
        row("1", &["2"], Form::Module),
        row("2", &["4"], Form::Module),
        row("3", &["6"], Form::Module),
    ],
    unneeded: &[],
    layers: None,
    pieces: None,
};

/// MobileVLM v2's projector.
pub(super) static LDPV2: Dialect = Dialect {
    family: Family::Projector,
    probe: "mlp.mlp.",
    rows: &[
        row("0", &["mlp.mlp.0"], Form::Module),
        row("1", &["mlp.mlp.2"], Form::Module),
        row("position", &["peg.peg.0"], Form::Residual { kernel: 3 }),
    ],
    unneeded: &[],
    layers: None,
    pieces: None,
};

/// LLaVA's projector as transformers writes it.
pub(super) static LINEAR_PROJECTOR: Dialect = Dialect {
    family: Family::Projector,
    probe: "linear_",
    rows: &[
        row("0", &["linear_1"], Form::Module),
        row("1", &["linear_2"], Form::Module),
    ],
    unneeded: &[],
    layers: None,
    pieces: None,
};

/// Llama and Qwen2 as transformers writes them. The output head lies outside
/// the part's prefix and is named by the layout.
pub(super) static LLAMA: Dialect = Dialect {
    family: Family::Decoder,
    probe: "layers.",
    rows: &[
        row("embed", &["embed_tokens"], Form::Module),
        row(
            "layers.{i}.norm1",
            &["layers.{i}.input_layernorm"],
            Form::Module,
        ),
        row(
            "layers.{i}.qkv",
            &[
                "layers.{i}.self_attn.q_proj",
                "layers.{i}.self_attn.k_proj",
                "layers.{i}.self_attn.v_proj",
            ],
            Form::Stacked(Split::Heads),
        ),
        row(
            "layers.{i}.out",
            &["layers.{i}.self_attn.o_proj"],
            Form::Module,
        ),
        row(
            "layers.{i}.norm2",
            &["layers.{i}.post_attention_layernorm"],
            Form::Module,
        ),
        row(
            "layers.{i}.gate_up",
            &["layers.{i}.mlp.gate_proj", "layers.{i}.mlp.up_proj"],
            Form::Stacked(Split::Equal),
        ),
        row(
            "layers.{i}.down",
            &["layers.{i}.mlp.down_proj"],
            Form::Module,
        ),
        row("norm", &["norm"], Form::Module),
        // Of Cambrian-1 alone: what looks at the encoders inside the decoder.
        row(
            "samplers.{i}.context",
            &["vision_sampler_layers.{i}.layers.0.proj_context"],
            Form::Module,
        ),
        row(
            "samplers.{i}.in",
            &["vision_sampler_layers.{i}.layers.0.proj_in"],
            Form::Module,
        ),
        row(
            "samplers.{i}.q.norm",
            &["vision_sampler_layers.{i}.layers.0.cross_attn.q_proj.0"],
            Form::Module,
        ),
        row(
            "samplers.{i}.q.linear",
            &["vision_sampler_layers.{i}.layers.0.cross_attn.q_proj.1"],
            Form::Module,
        ),
        row(
            "samplers.{i}.k.{b}.norm",
            &["vision_sampler_layers.{i}.layers.0.cross_attn.k_proj_{b}.0"],
            Form::Module,
        ),
        row(
            "samplers.{i}.k.{b}.linear",
            &["vision_sampler_layers.{i}.layers.0.cross_attn.k_proj_{b}.1"],
            Form::Module,
        ),
        row(
            "samplers.{i}.v.{b}.norm",
            &["vision_sampler_layers.{i}.layers.0.cross_attn.v_proj_{b}.0"],
            Form::Module,
        ),
        row(
            "samplers.{i}.v.{b}.linear",
            &["vision_sampler_layers.{i}.layers.0.cross_attn.v_proj_{b}.1"],
            Form::Module,
        ),
        row(
            "samplers.{i}.o",
            &["vision_sampler_layers.{i}.layers.0.cross_attn.o_proj"],
            Form::Module,
        ),
        row(
            "samplers.{i}.norm",
            &["vision_sampler_layers.{i}.layers.0.norm"],
            Form::Module,
        ),
        row(
            "samplers.{i}.out.0",
            &["vision_sampler_layers.{i}.layers.0.proj_out.linear_1"],
            Form::Module,
        ),
        row(
            "samplers.{i}.out.1",
            &["vision_sampler_layers.{i}.layers.0.proj_out.linear_2"],
            Form::Module,
        ),
        row(
            "samplers.{i}.positions.{b}",
            &["vision_sampler_layers.{i}.layers.0.pos_embed_{b}"],
            Form::Tensor,
        ),
    ],
    unneeded: &[".rotary_emb.inv_freq", "rotary_emb.inv_freq"],
    layers: None,
    pieces: None,
};

/// Cambrian-1's connector, before the decoder.
pub(super) static SVA: Dialect = Dialect {
    family: Family::Projector,
    probe: "vision_sampler_0.",
    rows: &[
        row("aux.{b}.0", &["mm_projector_aux_{b}.0"], Form::Module),
        row("aux.{b}.1", &["mm_projector_aux_{b}.2"], Form::Module),
        row("aux.{b}.norm", &["mm_projector_aux_{b}.3"], Form::Module),
        row("query", &["vision_query"], Form::Tensor),
        row(
            "layers.{i}.context",
            &["vision_sampler_0.layers.{i}.proj_context"],
            Form::Module,
        ),
        row(
            "layers.{i}.in",
            &["vision_sampler_0.layers.{i}.proj_in"],
            Form::Module,
        ),
        row(
            "layers.{i}.q.norm",
            &["vision_sampler_0.layers.{i}.cross_attn.q_proj.0"],
            Form::Module,
        ),
        row(
            "layers.{i}.q.linear",
            &["vision_sampler_0.layers.{i}.cross_attn.q_proj.1"],
            Form::Module,
        ),
        row(
            "layers.{i}.k.{b}.norm",
            &["vision_sampler_0.layers.{i}.cross_attn.k_proj_{b}.0"],
            Form::Module,
        ),
        row(
            "layers.{i}.k.{b}.linear",
            &["vision_sampler_0.layers.{i}.cross_attn.k_proj_{b}.1"],
            Form::Module,
        ),
        row(
            "layers.{i}.v.{b}.norm",
            &["vision_sampler_0.layers.{i}.cross_attn.v_proj_{b}.0"],
            Form::Module,
        ),
        row(
            "layers.{i}.v.{b}.linear",
            &["vision_sampler_0.layers.{i}.cross_attn.v_proj_{b}.1"],
            Form::Module,
        ),
        row(
            "layers.{i}.o",
            &["vision_sampler_0.layers.{i}.cross_attn.o_proj"],
            Form::Module,
        ),
        row(
            "layers.{i}.norm",
            &["vision_sampler_0.layers.{i}.norm"],
            Form::Module,
        ),
        row(
            "layers.{i}.out.0",
            &["vision_sampler_0.layers.{i}.proj_out.linear_1"],
            Form::Module,
        ),
        row(
            "layers.{i}.out.1",
            &["vision_sampler_0.layers.{i}.proj_out.linear_2"],
            Form::Module,
        ),
        row(
            "layers.{i}.positions.{b}",
            &["vision_sampler_0.layers.{i}.pos_embed_{b}"],
            Form::Tensor,
        ),
        row("0", &["mm_projector.0"], Form::Module),
        row("1", &["mm_projector.2"], Form::Module),
    ],
    unneeded: &[],
    layers: None,
    pieces: None,
};
