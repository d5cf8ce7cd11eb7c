"""Vision encoders in the form they are trained in: one branch, batch norms apart.

The inference form, which vlmbench loads, follows by folding (`export.py`). Numbers are those of the recipes under
configs/models/.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

HEAD_DIM = 32
# The stage at stride 16.
MIDDLE = 2


@dataclass(frozen=True)
class FastVitConfig:
    layers: tuple[int, ...]
    dims: tuple[int, ...]
    ratio: float
    attention: tuple[bool, ...]
    squeeze: tuple[bool, ...]
    layer_norm: bool
    cls_ratio: float

    @property
    def features(self) -> int:
        return int(self.dims[-1] * self.cls_ratio)

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of the maps that are taught."""
        return *self.dims[MIDDLE:-1], self.features


@dataclass(frozen=True)
class VitConfig:
    hidden: int
    layers: int
    heads: int
    mlp: int
    patch: int
    image: int

    @property
    def features(self) -> int:
        return self.hidden

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of the maps that are taught."""
        return self.hidden, self.hidden


def pointwise(x: Tensor, conv: nn.Conv2d) -> Tensor:
    """A convolution of kernel 1 as the product that it is."""
    rows = F.linear(x.permute(0, 2, 3, 1), conv.weight.flatten(1), conv.bias)
    return rows.permute(0, 3, 1, 2)


def convolved(x: Tensor, conv: nn.Conv2d) -> Tensor:
    if conv.kernel_size == (1, 1):
        return pointwise(x, conv)
    if conv.groups > 1:
        return conv(x)
    # The first of all: as a product of its windows.
    (k, _), (step, _), (pad, _) = conv.kernel_size, conv.stride, conv.padding
    side = x.shape[-1]
    x = F.pad(x, (pad, pad, pad, pad))
    windows = [x[..., i : i + side : step, j : j + side : step] for i in range(k) for j in range(k)]
    rows = torch.stack(windows, 2).flatten(1, 2).permute(0, 2, 3, 1)
    return F.linear(rows, conv.weight.flatten(1)).permute(0, 3, 1, 2)


class ConvBn(nn.Module):
    """A convolution with a batch norm, which folding makes one convolution."""

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(c_out)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(convolved(x, self.conv))

    def folded(self) -> tuple[Tensor, Tensor]:
        scale = (self.bn.weight.double() / (self.bn.running_var.double() + self.bn.eps).sqrt())
        weight = self.conv.weight.double() * scale[:, None, None, None]
        return weight, self.bn.bias.double() - self.bn.running_mean.double() * scale


class Squeeze(nn.Module):
    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(dim, hidden, 1)
        self.expand = nn.Conv2d(hidden, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        gate = x.mean((2, 3), keepdim=True)
        return x * pointwise(pointwise(gate, self.reduce).relu(), self.expand).sigmoid()


class RepMixer(nn.Module):
    """`x + scale * (conv(x) - norm(x))`, one depthwise convolution when folded."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(dim)
        self.mixer = ConvBn(dim, dim, 3, groups=dim)
        self.scale = nn.Parameter(torch.full((dim, 1, 1), 0.1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.scale.to(x.dtype) * (self.mixer(x) - self.norm(x))

    def folded(self) -> tuple[Tensor, Tensor]:
        weight, bias = self.mixer.folded()
        norm = self.norm.weight.double() / (self.norm.running_var.double() + self.norm.eps).sqrt()
        weight[:, 0, 1, 1] -= norm
        bias = bias - (self.norm.bias.double() - self.norm.running_mean.double() * norm)
        scale = self.scale.double().flatten()
        weight = weight * scale[:, None, None, None]
        weight[:, 0, 1, 1] += 1
        return weight, bias * scale


class ChannelNorm(nn.Module):
    """Layer norm over the channels of a map."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        rows = F.layer_norm(x.permute(0, 2, 3, 1), self.weight.shape, self.weight, self.bias, 1e-5)
        return rows.permute(0, 3, 1, 2)


class Attention(nn.Module):
    def __init__(self, dim: int, layer_norm: bool) -> None:
        super().__init__()
        self.norm = ChannelNorm(dim) if layer_norm else nn.BatchNorm2d(dim)
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.proj = nn.Linear(dim, dim)
        self.scale = nn.Parameter(torch.full((dim, 1, 1), 0.1))

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        rows = self.norm(x).flatten(2).transpose(1, 2)
        q, k, v = self.qkv(rows).reshape(b, h * w, 3, c // HEAD_DIM, HEAD_DIM).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, h * w, c)
        mixed = self.proj(mixed).transpose(1, 2).reshape(b, c, h, w)
        return x + self.scale.to(x.dtype) * mixed.to(x.dtype)


class ConvFfn(nn.Module):
    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.conv = ConvBn(dim, dim, 7, groups=dim)
        self.fc1 = nn.Conv2d(dim, hidden, 1)
        self.fc2 = nn.Conv2d(hidden, dim, 1)
        self.scale = nn.Parameter(torch.full((dim, 1, 1), 0.1))

    def forward(self, x: Tensor) -> Tensor:
        hidden = F.gelu(pointwise(self.conv(x), self.fc1))
        return x + self.scale.to(x.dtype) * pointwise(hidden, self.fc2)


class Block(nn.Module):
    def __init__(self, config: FastVitConfig, stage: int) -> None:
        super().__init__()
        dim = config.dims[stage]
        attention = config.attention[stage]
        self.token_mixer = Attention(dim, config.layer_norm) if attention else RepMixer(dim)
        self.mlp = ConvFfn(dim, int(dim * config.ratio))

    def forward(self, x: Tensor) -> Tensor:
        return self.mlp(self.token_mixer(x))


class Downsample(nn.Module):
    def __init__(self, c_in: int, c_out: int, squeeze: bool) -> None:
        super().__init__()
        self.large = ConvBn(c_in, c_out, 7, 2, c_in)
        self.se = Squeeze(c_out, max(8, int(c_out / 4 + 4) // 8 * 8)) if squeeze else nn.Identity()
        self.pointwise = ConvBn(c_out, c_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(self.pointwise(F.gelu(self.se(self.large(x)))))


class Position(nn.Module):
    """Conditional position encoding: `x + conv(x)`."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(dim, dim, 7, 1, 3, groups=dim)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x)


class FastVit(nn.Module):
    """Pixels `(b, 3, s, s)` in 0..1 to a map `(b, features, s / stride, s / stride)`."""

    def __init__(self, config: FastVitConfig) -> None:
        super().__init__()
        self.config = config
        dims = config.dims
        self.stem = nn.ModuleList(
            [ConvBn(3, dims[0], 3, 2), ConvBn(dims[0], dims[0], 3, 2, dims[0]), ConvBn(dims[0], dims[0], 1)]
        )
        self.stages = nn.ModuleList()
        for stage, count in enumerate(config.layers):
            parts: list[nn.Module] = []
            if stage > 0:
                parts.append(Downsample(dims[stage - 1], dims[stage], config.squeeze[stage]))
            if config.attention[stage]:
                parts.append(Position(dims[stage]))
            parts += [Block(config, stage) for _ in range(count)]
            self.stages.append(nn.Sequential(*parts))
        self.final = ConvBn(dims[-1], config.features, 3, groups=dims[-1])
        self.se = Squeeze(config.features, max(1, int(config.features / 16 + 0.5)))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def maps(self, pixels: Tensor) -> list[Tensor]:
        """The maps from stride 16 on; the last one is the output."""
        x = pixels.contiguous(memory_format=torch.channels_last)
        for conv in self.stem:
            x = F.gelu(conv(x))
        maps = []
        for i, stage in enumerate(self.stages):
            x = stage(x)
            if MIDDLE <= i < len(self.stages) - 1:
                maps.append(x)
        return [*maps, F.gelu(self.se(self.final(x)))]

    def forward(self, pixels: Tensor) -> Tensor:
        return self.maps(pixels)[-1]


class VitLayer(nn.Module):
    def __init__(self, config: VitConfig) -> None:
        super().__init__()
        d = config.hidden
        self.heads = config.heads
        self.norm1, self.norm2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.qkv, self.proj = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.fc1, self.fc2 = nn.Linear(d, config.mlp), nn.Linear(config.mlp, d)

    def forward(self, x: Tensor) -> Tensor:
        b, n, d = x.shape
        q, k, v = self.qkv(self.norm1(x)).reshape(b, n, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        x = x + self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, d))
        hidden = self.fc1(self.norm2(x))
        return x + self.fc2(hidden * torch.sigmoid(1.702 * hidden))


class Vit(nn.Module):
    """CLIP's transformer without a class token's use downstream; positions are interpolated to the input's grid."""

    def __init__(self, config: VitConfig) -> None:
        super().__init__()
        self.config = config
        d, grid = config.hidden, config.image // config.patch
        self.patch = nn.Conv2d(3, d, config.patch, config.patch, bias=False)
        self.cls = nn.Parameter(torch.randn(d) * 0.02)
        self.positions = nn.Parameter(torch.randn(grid * grid + 1, d) * 0.02)
        self.pre_norm = nn.LayerNorm(d)
        self.layers = nn.ModuleList(VitLayer(config) for _ in range(config.layers))

    def table(self, side: int) -> Tensor:
        """The positions for a square input of `side` pixels, as transformers interpolates them."""
        grid, wanted = self.config.image // self.config.patch, side // self.config.patch
        if wanted == grid:
            return self.positions
        table = self.positions[1:].reshape(1, grid, grid, -1).permute(0, 3, 1, 2)
        table = F.interpolate(table.float(), size=(wanted, wanted), mode="bicubic", align_corners=False)
        return torch.cat([self.positions[:1], table.permute(0, 2, 3, 1).reshape(wanted * wanted, -1)])

    def maps(self, pixels: Tensor) -> list[Tensor]:
        """The map after half of the layers and the output, both at stride 16."""
        b, _, side, _ = pixels.shape
        # As a product: rows of pixels of a patch.
        p, n = self.config.patch, side // self.config.patch
        rows = pixels.reshape(b, 3, n, p, n, p).permute(0, 2, 4, 1, 3, 5).reshape(b, n * n, 3 * p * p)
        x = F.linear(rows, self.patch.weight.flatten(1))
        x = torch.cat([self.cls.expand(b, 1, -1).to(x.dtype), x], 1) + self.table(side)
        x = self.pre_norm(x)
        wanted = side // self.config.patch
        maps = []
        for i, layer in enumerate(self.layers):
            x = layer(x)
            if i + 1 in (len(self.layers) // 2, len(self.layers)):
                maps.append(x[:, 1:].transpose(1, 2).reshape(b, -1, wanted, wanted))
        return maps

    def forward(self, pixels: Tensor) -> Tensor:
        return self.maps(pixels)[-1]


ENCODERS = {
    # FastViT in small: four stages, stride 32; as many parameters as the one below.
    "fastvit": FastVitConfig(
        layers=(1, 2, 3, 2),
        dims=(16, 32, 128, 256),
        ratio=4.0,
        attention=(False, False, False, True),
        squeeze=(False,) * 4,
        layer_norm=True,
        cls_ratio=2.0,
    ),
    # FastViTHD in small: a stage more, stride 64.
    "fastvithd": FastVitConfig(
        layers=(1, 2, 3, 1, 1),
        dims=(16, 32, 128, 256, 256),
        ratio=4.0,
        attention=(False, False, False, True, True),
        squeeze=(False,) * 5,
        layer_norm=True,
        cls_ratio=2.0,
    ),
    "vit": VitConfig(hidden=192, layers=4, heads=6, mlp=768, patch=16, image=512),
}


def encoder(name: str) -> nn.Module:
    config = ENCODERS[name]
    return Vit(config) if isinstance(config, VitConfig) else FastVit(config)
