"""The networks as PyTorch modules that do the work of a row and nothing else, from the row's checkpoint."""

import json
from pathlib import Path

import numpy as np
import timm
import torch
from safetensors.torch import load_file
from timm.layers import BatchNormAct2d
from timm.utils.model import reparameterize_model
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from transformers import CLIPVisionModel, DynamicCache, Qwen2ForCausalLM


class Features(nn.Module):
    """FastViT up to the features that a VLM reads: no pooling, no classifier."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.model.forward_features(pixels)


def fastvit(checkpoint: Path) -> nn.Module:
    """timm's inference form: branches merged, and the batch norms that timm leaves beside a convolution folded too."""
    config = json.loads((checkpoint / "config.json").read_text())
    model = timm.create_model(config["architecture"], num_classes=0).eval()
    model.load_state_dict(load_file(checkpoint / "model.safetensors"))
    model = reparameterize_model(model)
    for module in model.modules():
        norm = getattr(module, "bn", None)
        if isinstance(norm, BatchNormAct2d) and isinstance(getattr(module, "conv", None), nn.Conv2d):
            module.conv = fuse_conv_bn_eval(module.conv, norm)
            module.bn = norm.act
    left = [name for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d) and "norm" not in name]
    if left:
        raise SystemExit(f"batch norms were not folded: {left}")
    return Features(model)


class Penultimate(nn.Module):
    """CLIP's vision tower as LLaVA reads it: the input of the last layer, without the class token."""

    def __init__(self, model: CLIPVisionModel):
        super().__init__()
        tower = getattr(model, "vision_model", model)
        tower.encoder.layers = tower.encoder.layers[:-1]
        # The tower pools and normalises the class token, which nobody reads.
        tower.post_layernorm = nn.Identity()
        self.model = model

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.model(pixel_values=pixels).last_hidden_state[:, 1:]


def clip(checkpoint: Path) -> nn.Module:
    """ViT-L/14 of 23 layers."""
    return Penultimate(CLIPVisionModel.from_pretrained(checkpoint, dtype=torch.float32).eval())


class Prefill(nn.Module):
    """A prompt to the logits of its last position and the filled KV cache."""

    def __init__(self, model: Qwen2ForCausalLM):
        super().__init__()
        self.model = model

    def forward(self, ids: torch.Tensor) -> tuple[torch.Tensor, ...]:
        cache = DynamicCache(config=self.model.config)
        logits = self.model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1).logits
        kept = [tensor for layer in cache.layers for tensor in (layer.keys, layer.values)]
        return logits[:, -1], *kept


def qwen2(checkpoint: Path) -> Qwen2ForCausalLM:
    """The decoder with its tied head."""
    return Qwen2ForCausalLM.from_pretrained(checkpoint, dtype=torch.float32).eval()


def encoder(checkpoint: Path) -> nn.Module:
    """The encoder of a checkpoint folder."""
    config = json.loads((checkpoint / "config.json").read_text())
    return fastvit(checkpoint) if "architecture" in config else clip(checkpoint)


def network(work: str, checkpoint: Path) -> nn.Module:
    """What `encode` and `prefill` rows run: one tensor in, the output first."""
    return encoder(checkpoint) if work == "encode" else Prefill(qwen2(checkpoint))


def input_of(work: str, reference: Path) -> torch.Tensor:
    """The input of a row: pixels, or token ids."""
    name = "input.npy" if work == "encode" else "input_ids.npy"
    return torch.from_numpy(np.load(reference / name))
