"""A trained model as a checkpoint folder in the layouts that vlmbench and the authors' code read.

FastViT and FastViTHD in Apple's llava_qwen2 layout in inference form, ViT in LLaVA's own with transformers' CLIP; f16.

    python tools/train/export.py DIR/state.pt FOLDER
"""

import json
import shutil
import sys
from pathlib import Path

import torch
import words
from decoder import numbers
from encoders import FastVit, FastVitConfig, RepMixer, VitConfig
from models import Vlm, load_words, readers
from safetensors.torch import save_file
from torch import Tensor, nn

SIDE = 512


def norm(prefix: str, module: nn.Module) -> dict[str, Tensor]:
    """Weight, bias, and the running statistics of a batch norm."""
    found = {f"{prefix}.weight": module.weight, f"{prefix}.bias": module.bias}
    if isinstance(module, nn.BatchNorm2d):
        found |= {f"{prefix}.running_mean": module.running_mean, f"{prefix}.running_var": module.running_var}
    return found


def plain(prefix: str, module: nn.Module) -> dict[str, Tensor]:
    found = {f"{prefix}.weight": module.weight}
    if module.bias is not None:
        found[f"{prefix}.bias"] = module.bias
    return found


def folded(prefix: str, module: nn.Module) -> dict[str, Tensor]:
    weight, bias = module.folded()
    return {f"{prefix}.weight": weight, f"{prefix}.bias": bias}


def fastvit(model: FastVit) -> dict[str, Tensor]:
    """Apple's names; stages, downsamplings and position encodings are numbered through as `network.{i}`."""
    found: dict[str, Tensor] = {}
    for i, conv in enumerate(model.stem):
        found |= folded(f"patch_embed.{i}.reparam_conv", conv)
    index = 0
    for stage, parts in enumerate(model.stages):
        modules = list(parts)
        if stage > 0:
            down, at = modules.pop(0), f"network.{index}.proj"
            found |= folded(f"{at}.0.lkb_reparam", down.large) | folded(f"{at}.1.reparam_conv", down.pointwise)
            if isinstance(down.se, nn.Module) and hasattr(down.se, "reduce"):
                found |= plain(f"{at}.0.se.fc1", down.se.reduce) | plain(f"{at}.0.se.fc2", down.se.expand)
            index += 1
        if model.config.attention[stage]:
            conv = modules.pop(0).conv
            weight = conv.weight.double().clone()
            weight[:, 0, 3, 3] += 1
            found |= {f"network.{index}.reparam_conv.weight": weight, f"network.{index}.reparam_conv.bias": conv.bias}
            index += 1
        for b, block in enumerate(modules):
            at, mixer, ffn = f"network.{index}.{b}", block.token_mixer, block.mlp
            if isinstance(mixer, RepMixer):
                found |= folded(f"{at}.token_mixer.reparam_conv", mixer)
                found[f"{at}.layer_scale"] = ffn.scale
            else:
                found |= norm(f"{at}.norm", mixer.norm)
                found |= plain(f"{at}.token_mixer.qkv", mixer.qkv) | plain(f"{at}.token_mixer.proj", mixer.proj)
                found |= {f"{at}.layer_scale_1": mixer.scale, f"{at}.layer_scale_2": ffn.scale}
            found |= plain(f"{at}.convffn.conv.conv", ffn.conv.conv) | norm(f"{at}.convffn.conv.bn", ffn.conv.bn)
            found |= plain(f"{at}.convffn.fc1", ffn.fc1) | plain(f"{at}.convffn.fc2", ffn.fc2)
        index += 1
    found |= folded("conv_exp.reparam_conv", model.final)
    return found | plain("conv_exp.se.reduce", model.se.reduce) | plain("conv_exp.se.expand", model.se.expand)


def vit(model: nn.Module) -> dict[str, Tensor]:
    found = {
        "embeddings.patch_embedding.weight": model.patch.weight,
        "embeddings.class_embedding": model.cls,
        "embeddings.position_embedding.weight": model.positions,
    } | norm("pre_layrnorm", model.pre_norm)
    for i, layer in enumerate(model.layers):
        at = f"encoder.layers.{i}"
        found |= norm(f"{at}.layer_norm1", layer.norm1) | norm(f"{at}.layer_norm2", layer.norm2)
        weights, biases = layer.qkv.weight.chunk(3), layer.qkv.bias.chunk(3)
        for name, weight, bias in zip("qkv", weights, biases, strict=True):
            found |= {f"{at}.self_attn.{name}_proj.weight": weight, f"{at}.self_attn.{name}_proj.bias": bias}
        found |= plain(f"{at}.self_attn.out_proj", layer.proj)
        found |= plain(f"{at}.mlp.fc1", layer.fc1) | plain(f"{at}.mlp.fc2", layer.fc2)
    return found


def tower(config: FastVitConfig | VitConfig) -> dict:
    """What LLaVA's configuration says of the vision tower, with vlmbench's description of small variants."""
    if isinstance(config, VitConfig):
        return {
            "mm_vision_tower": f"clip-vit-large-patch14-{SIDE}",
            "mm_vision_select_layer": -1,
            "vision_config": {
                "hidden_size": config.hidden,
                "intermediate_size": config.mlp,
                "num_hidden_layers": config.layers,
                "num_attention_heads": config.heads,
                "patch_size": config.patch,
                "image_size": config.image,
                "hidden_act": "quick_gelu",
            },
        }
    return {
        "mm_vision_tower": f"mobileclip_l_{SIDE}",
        "mm_vision_select_layer": -2,
        "model_args": {
            "layers": config.layers,
            "embed_dims": config.dims,
            "mlp_ratios": [config.ratio] * len(config.layers),
            "token_mixers": ["attention" if on else "repmixer" for on in config.attention],
            "se_downsamples": config.squeeze,
            "pos_embs": config.attention,
            "norm_layer": "layernorm2d" if config.layer_norm else "batchnorm2d",
            "cls_ratio": config.cls_ratio,
        },
    }


def export(model: Vlm, tokenizer: Path, folder: Path, dtype: torch.dtype = torch.float16) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    encoder = model.encoder
    hybrid = isinstance(encoder, FastVit)
    prefix = "model.vision_tower.vision_tower." + ("model." if hybrid else "vision_model.")
    tensors = {prefix + name: value for name, value in (fastvit if hybrid else vit)(encoder).items()}
    for name, value in model.projector.state_dict().items():
        tensors[f"model.mm_projector.{name}"] = value
    for name, value in model.decoder.state_dict().items():
        tensors[name] = value
    tensors = {name: value.detach().to(dtype).contiguous() for name, value in tensors.items()}
    save_file(tensors, folder / "model.safetensors")
    shutil.copy(tokenizer, folder / "tokenizer.json")
    ids = {token: model.words.token_to_id(token) for token in words.SPECIAL}
    config = {
        "architectures": ["LlavaQwen2ForCausalLM"],
        "model_type": "llava_qwen2",
        **numbers(len(model.decoder.model.embed_tokens.weight)),
        "hidden_act": "silu",
        "use_sliding_window": False,
        "bos_token_id": ids[words.UNKNOWN],
        "eos_token_id": ids[words.END],
        "image_aspect_ratio": "pad",
        "mm_hidden_size": encoder.config.features,
        "mm_projector_type": "mlp2x_gelu",
        "mm_vision_select_feature": "patch",
        **tower(encoder.config),
        "tokenizer_model_max_length": 2048,
        "torch_dtype": str(dtype).removeprefix("torch."),
    }
    processor = {
        "crop_size": {"height": SIDE, "width": SIDE},
        "size": {"shortest_edge": SIDE},
        "do_center_crop": True,
        "do_normalize": True,
        "image_mean": [0.0, 0.0, 0.0],
        "image_std": [1.0, 1.0, 1.0],
        "resample": 3,
    }
    generation = {"bos_token_id": ids[words.UNKNOWN], "eos_token_id": [ids[words.END], ids[words.UNKNOWN]]}
    for name, value in (
        ("config.json", config),
        ("preprocessor_config.json", processor),
        ("generation_config.json", generation),
    ):
        (folder / name).write_text(json.dumps(value, indent=2) + "\n")


def load(state: Path) -> tuple[Vlm, nn.ModuleList]:
    """A trained model, and what reads its maps and tokens."""
    saved = torch.load(state, weights_only=True, map_location="cpu")
    tokenizer = state.parent / "tokenizer.json"
    model = Vlm(saved["name"], load_words(tokenizer), words.vocabulary(tokenizer))
    model.load_state_dict(saved["model"])
    reader = readers(model.encoder.config.widths, model.projector[-1].out_features)
    reader.load_state_dict(saved["reader"])
    return model.eval(), reader


def main() -> None:
    state, folder = Path(sys.argv[1]), Path(sys.argv[2])
    export(load(state)[0], state.parent / "tokenizer.json", folder)


if __name__ == "__main__":
    main()
