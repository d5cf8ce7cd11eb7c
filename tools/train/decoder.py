"""Qwen2's decoder, with transformers' names, in the form it is trained in: without a cache.

`check.py` holds vlmbench against it, whose tests hold vlmbench against transformers.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Deviation of the weights at the beginning; transformers' is meant for wider ones.
INITIAL = 0.05


def numbers(vocab: int) -> dict:
    """As in config.json."""
    return {
        "hidden_size": 192,
        "intermediate_size": 416,
        "num_hidden_layers": 4,
        "num_attention_heads": 6,
        "num_key_value_heads": 6,
        "vocab_size": vocab,
        "rope_theta": 10000.0,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": True,
        "max_position_embeddings": 2048,
    }


class RmsNorm(nn.Module):
    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)


def rotated(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """`(b, h, n, d)` turned by angles `(n, d / 2)`."""
    first, second = x.chunk(2, -1)
    return torch.cat([first * cosines - second * sines, second * cosines + first * sines], -1).to(x.dtype)


class Attention(nn.Module):
    def __init__(self, config: dict) -> None:
        super().__init__()
        width, self.heads, self.shared = (
            config[key] for key in ("hidden_size", "num_attention_heads", "num_key_value_heads")
        )
        self.dim = width // self.heads
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, self.shared * self.dim)
        self.v_proj = nn.Linear(width, self.shared * self.dim)
        self.o_proj = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, cosines: Tensor, sines: Tensor, last: int) -> tuple[Tensor, Tensor]:
        """With the weights `(b, heads, last, n)` of the last places."""
        b, n, width = x.shape
        q, k, v = (
            part(x).view(b, n, -1, self.dim).transpose(1, 2) for part in (self.q_proj, self.k_proj, self.v_proj)
        )
        q, k = rotated(q, cosines, sines), rotated(k, cosines, sines)
        grouped = {"enable_gqa": True} if self.shared < self.heads else {}
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True, **grouped)
        later = torch.ones(last, n, dtype=torch.bool, device=x.device).triu(n - last + 1)
        scores = q[:, :, n - last :] * self.dim**-0.5 @ k.repeat_interleave(self.heads // self.shared, 1).transpose(2, 3)
        weights = scores.float().masked_fill(later, -torch.inf).softmax(-1)
        return self.o_proj(mixed.transpose(1, 2).reshape(b, n, width)), weights


class Mlp(nn.Module):
    def __init__(self, config: dict) -> None:
        super().__init__()
        width, hidden = config["hidden_size"], config["intermediate_size"]
        self.gate_proj = nn.Linear(width, hidden, bias=False)
        self.up_proj = nn.Linear(width, hidden, bias=False)
        self.down_proj = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, config: dict) -> None:
        super().__init__()
        width, eps = config["hidden_size"], config["rms_norm_eps"]
        self.self_attn = Attention(config)
        self.mlp = Mlp(config)
        self.input_layernorm = RmsNorm(width, eps)
        self.post_attention_layernorm = RmsNorm(width, eps)

    def forward(self, x: Tensor, cosines: Tensor, sines: Tensor, last: int) -> tuple[Tensor, Tensor]:
        mixed, weights = self.self_attn(self.input_layernorm(x), cosines, sines, last)
        x = x + mixed
        return x + self.mlp(self.post_attention_layernorm(x)), weights


class Model(nn.Module):
    def __init__(self, config: dict) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config["vocab_size"], config["hidden_size"])
        self.layers = nn.ModuleList(Layer(config) for _ in range(config["num_hidden_layers"]))
        self.norm = RmsNorm(config["hidden_size"], config["rms_norm_eps"])


class Decoder(nn.Module):
    """Embeddings `(b, n, width)` to hidden states of the same shape; logits are products with the embedding table."""

    def __init__(self, config: dict) -> None:
        super().__init__()
        self.model = Model(config)
        dim = config["hidden_size"] // config["num_attention_heads"]
        rates = config["rope_theta"] ** (-torch.arange(0, dim, 2) / dim)
        angles = torch.outer(torch.arange(config["max_position_embeddings"]), rates)
        self.register_buffer("cosines", angles.cos(), persistent=False)
        self.register_buffer("sines", angles.sin(), persistent=False)
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                nn.init.normal_(parameter, std=INITIAL)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def embed(self, ids: Tensor) -> Tensor:
        return self.model.embed_tokens(ids)

    def forward(self, x: Tensor, last: int = 0) -> tuple[Tensor, list[Tensor]]:
        """With the attention of each layer from the last places. Nothing is masked: what pads a row stands at its end."""
        n = x.shape[1]
        attention = []
        for layer in self.model.layers:
            x, weights = layer(x, self.cosines[:n], self.sines[:n], last)
            attention.append(weights)
        return self.model.norm(x), attention

    def logits(self, hidden: Tensor) -> Tensor:
        return F.linear(hidden, self.model.embed_tokens.weight)
