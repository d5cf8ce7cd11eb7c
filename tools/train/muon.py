"""Muon: momentum whose matrices are made orthogonal before they are a step (Jordan et al. 2024).

Every direction of a weight is then moved as far, also those that the gradients seldom have.
"""

import torch
from torch import Tensor


def orthogonal(matrices: Tensor, iterations: int = 5) -> Tensor:
    """The nearest matrices whose singular values are about one, of `(n, rows, columns)` with no more rows than columns, by
    Newton and Schulz's iteration in bf16."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrices.bfloat16()
    x = x / (x.float().norm(dim=(1, 2), keepdim=True).to(x.dtype) + 1e-7)
    for _ in range(iterations):
        square = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return x


class Muon(torch.optim.Optimizer):
    """For weights of layers with many inputs and outputs; convolutions are matrices from their windows."""

    def __init__(self, parameters, lr: Tensor, momentum: float = 0.95, weight_decay: float = 0.0) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            # Matrices of one shape, lying or standing, go through the iteration together.
            shapes: dict[tuple[int, int], list[tuple[Tensor, Tensor, bool]]] = {}
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if not state:
                    state["momentum"] = torch.zeros_like(weight)
                state["momentum"].lerp_(weight.grad, 1 - group["momentum"])
                # Nesterov's: as it will be after the next gradient like this one.
                ahead = weight.grad.lerp(state["momentum"], group["momentum"]).flatten(1)
                tall = ahead.shape[0] > ahead.shape[1]
                ahead = ahead.T if tall else ahead
                shapes.setdefault(tuple(ahead.shape), []).append((weight, ahead, tall))
            for shape, rows in shapes.items():
                # Root mean squares as AdamW's steps have (Liu et al. 2025).
                steps = orthogonal(torch.stack([ahead for _, ahead, _ in rows])).float() * (0.2 * max(shape) ** 0.5)
                for (weight, _, tall), step in zip(rows, steps, strict=True):
                    weight.mul_(1 - group["lr"] * group["weight_decay"])
                    weight.sub_((step.T if tall else step).reshape(weight.shape) * group["lr"])
