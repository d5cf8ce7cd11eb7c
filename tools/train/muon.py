"""Muon: momentum whose matrices are made orthogonal before they are a step (Jordan et al. 2024).

Every direction of a weight is then moved as far, also those that the gradients seldom have.
"""

import torch
from torch import Tensor


def orthogonal(matrix: Tensor, iterations: int = 5) -> Tensor:
    """The nearest matrix whose singular values are about one, by Newton and Schulz's iteration in bf16."""
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = matrix.shape[0] > matrix.shape[1]
    x = (matrix.T if tall else matrix).bfloat16().contiguous()
    x = x / (x.norm() + 1e-7)
    for _ in range(iterations):
        square = x @ x.T
        x = torch.addmm(x, torch.addmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x


class Muon(torch.optim.Optimizer):
    """For weights of layers with many inputs and outputs; convolutions are matrices from their windows."""

    def __init__(self, parameters, lr: float, momentum: float = 0.95, weight_decay: float = 0.0) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if not state:
                    state["momentum"] = torch.zeros_like(weight)
                state["momentum"].lerp_(weight.grad, 1 - group["momentum"])
                # Nesterov's: as it will be after the next gradient like this one.
                ahead = weight.grad.lerp(state["momentum"], group["momentum"]).flatten(1)
                step = orthogonal(ahead).to(weight.dtype)
                # Root mean squares as AdamW's steps have (Liu et al. 2025).
                step *= 0.2 * max(step.shape) ** 0.5
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                weight.add_(step.view_as(weight), alpha=-group["lr"])
