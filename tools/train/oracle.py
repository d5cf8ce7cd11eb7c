"""An encoder that sees everything, to teach a decoder what tokens of pictures are before there are any."""

import math
from dataclasses import dataclass

import torch
from data import CHARACTERS, COLORS, SHAPES
from torch import Tensor, nn
from torch.nn import functional as F

WIDTH = 384
# Deviation of where a character is put, in its own size: no encoder knows its middle to the pixel.
BLURRED = 0.1


@dataclass(frozen=True)
class OracleConfig:
    features: int
    widths: tuple[int, ...] = ()


def bands(values: Tensor, count: int) -> Tensor:
    """Sines and cosines of values of about 1, `(..., n)` to `(..., 2 n count)`."""
    angles = values[..., None] * (math.pi * 2.0 ** torch.arange(count, device=values.device) / 2)
    return torch.cat([angles.sin(), angles.cos()], -1).flatten(-2)


class Oracle(nn.Module):
    """All characters and objects of a cell, each with its place in it, put into the cell's one token."""

    # In a cell, of which finer ones than two periods encoders would have to measure rather than see; and in a picture.
    BANDS, WHERE = 4, 6

    def __init__(self, features: int = 192) -> None:
        super().__init__()
        self.config = OracleConfig(features)
        self.name = nn.Embedding(len(CHARACTERS) + len(SHAPES), WIDTH)
        self.on = nn.Embedding(1 + len(COLORS), WIDTH)
        self.size = nn.Linear(1, WIDTH)
        self.place = nn.Linear(4 * self.BANDS, WIDTH)
        self.gate = nn.Linear(4 * self.BANDS, WIDTH)
        self.one = nn.Linear(WIDTH, features)
        self.where = nn.Linear(4 * self.WHERE, features)

    def map(self, marks: Tensor, there: Tensor, grid: int) -> Tensor:
        """Marks `(b, n, 5)`, as `batches.marks` has them, and which of them count to `(b, features, grid, grid)`."""
        at, size, (name, on) = marks[..., :2], marks[..., 2:3], marks[..., 3:].long().unbind(-1)
        if self.training:
            at = at + BLURRED * size * torch.randn_like(at)
        scaled = at * grid
        cell = scaled.floor().clamp(0, grid - 1)
        inside = bands(scaled - cell - 0.5, self.BANDS)
        seen = self.name(name) + self.on(on) + self.size(size.log())
        seen = self.one(F.gelu(seen * (1 + self.gate(inside)) + self.place(inside)))
        # Nothing comes after the sum but the projector: who is not sure of a character can then make the mean of what it
        # may be, and does not need to know the rest of the cell for it.
        seen = F.rms_norm(seen.float(), seen.shape[-1:]) * there[..., None]
        token = (cell[..., 1] * grid + cell[..., 0]).long()[..., None].expand_as(seen)
        tokens = seen.new_zeros(len(seen), grid * grid, seen.shape[-1]).scatter_add(1, token, seen)
        line = (torch.arange(grid, device=marks.device) + 0.5) / grid
        y, x = torch.meshgrid(line, line, indexing="ij")
        tokens = tokens + self.where(bands(torch.stack([x, y], -1).flatten(0, 1), self.WHERE))
        return tokens.transpose(1, 2).unflatten(2, (grid, grid))
