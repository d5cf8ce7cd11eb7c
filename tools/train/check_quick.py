"""Holds the kernels of `quick.cpp` against PyTorch's own: outputs and gradients.

    python tools/train/check_quick.py
"""

import torch
from quick import BatchNorm, depthwise, gelu, kernels
from torch import Tensor, nn
from torch.nn import functional as F


def difference(ours, theirs, x: Tensor, parameters: list[list[Tensor]]) -> float:
    """The largest between outputs, gradients of `x` and of both sides' parameters, relative to the largest value."""
    found = []
    for function, own in zip((ours, theirs), parameters, strict=True):
        given = x.clone().requires_grad_()
        y = function(given)
        weights = torch.linspace(-1, 1, y.numel()).reshape(y.shape).to(y.dtype)
        found.append([y, *torch.autograd.grad(y, [given, *own], weights)])
    pairs = [(a.float(), b.float()) for a, b in zip(*found, strict=True)]
    return max(((a - b).abs().max() / b.abs().max().clamp(min=1e-6)).item() for a, b in pairs)


def main() -> None:
    if kernels() is None:
        raise SystemExit("this CPU has no AVX-512 with bf16, or there is no compiler")
    torch.manual_seed(0)
    worst = {}
    for dtype in (torch.float32, torch.bfloat16):
        for channels, side, kernel, stride, many in ((32, 17, 7, 1, 1), (32, 18, 7, 2, 2), (16, 9, 3, 1, 1), (16, 2, 7, 1, 1)):
            x = torch.randn(3, channels, side, side).to(dtype).contiguous(memory_format=torch.channels_last)
            weight = (torch.randn(channels * many, 1, kernel, kernel) / kernel).requires_grad_()
            own = lambda x: depthwise(x, weight, stride)
            torch_s = lambda x: F.conv2d(x, weight.to(x.dtype), None, stride, kernel // 2, 1, channels)
            name = f"depthwise {dtype}"
            worst[name] = max(worst.get(name, 0), difference(own, torch_s, x, [[weight], [weight]]))
        x = torch.randn(3, 32, 9, 9).to(dtype).contiguous(memory_format=torch.channels_last) * 2 + 1
        ours, theirs = BatchNorm(32), nn.BatchNorm2d(32)
        nn.init.normal_(ours.weight), nn.init.normal_(ours.bias)
        theirs.load_state_dict(ours.state_dict())
        worst[f"batch norm {dtype}"] = difference(ours, theirs, x, [list(ours.parameters()), list(theirs.parameters())])
        statistics = torch.cat([ours.running_mean - theirs.running_mean, ours.running_var - theirs.running_var])
        worst[f"statistics {dtype}"] = statistics.abs().max().item()
        worst[f"gelu {dtype}"] = difference(gelu, F.gelu, x * 3, [[], []])
    for name, value in worst.items():
        print(f"{name}: {value:.1e}")
    # Of bf16, a rounding or two of an output and the order of sums.
    if any(value > (2e-2 if "bfloat16" in name else 1e-5) for name, value in worst.items()):
        raise SystemExit("too much")


if __name__ == "__main__":
    main()
