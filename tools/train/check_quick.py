"""Holds the kernels of `quick.cpp` against PyTorch's own, and the decoder against transformers: outputs and gradients.

    python tools/train/check_quick.py
"""

import torch
from decoder import Decoder, numbers
from quick import BatchNorm, depthwise, gelu, kernels, softmax, swiglu
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import Qwen2Config, Qwen2ForCausalLM


def difference(ours, theirs, x: Tensor, parameters: list[list[Tensor]]) -> float:
    """The largest between outputs, gradients of `x` and of both sides' parameters, relative to the largest value."""
    found = []
    for function, own in zip((ours, theirs), parameters, strict=True):
        given = x.clone().requires_grad_()
        y = function(given)
        weights = torch.linspace(0, 1000, y.numel()).sin().reshape(y.shape).to(y.dtype)
        found.append([y, *torch.autograd.grad(y, [given, *own], weights)])
    pairs = [(a.float(), b.float()) for a, b in zip(*found, strict=True)]
    return max(((a - b).abs().max() / b.abs().max().clamp(min=1e-6)).item() for a, b in pairs)


def decoders() -> float:
    """Our decoder and transformers': hidden states, attention, and gradients of the input and of all weights."""
    config = numbers(64)
    ours = Decoder(config)
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    theirs = Qwen2ForCausalLM(Qwen2Config(**config, attn_implementation="eager")).model
    theirs.load_state_dict(ours.model.state_dict())
    read = lambda x: ours(x)[0]
    torch_s = lambda x: theirs(inputs_embeds=x).last_hidden_state
    pairs = [(p, theirs.get_parameter(name)) for name, p in ours.model.named_parameters() if "embed" not in name]
    return difference(read, torch_s, torch.randn(2, 23, config["hidden_size"]), [list(side) for side in zip(*pairs)])


def main() -> None:
    if kernels() is None:
        raise SystemExit("this CPU has no AVX-512 with bf16, or there is no compiler")
    torch.manual_seed(0)
    worst = {"decoder": decoders()}
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
        y = torch.randn(2, 5, 64).to(dtype)
        apart = lambda y: F.silu(y[..., :32]) * y[..., 32:]
        worst[f"swiglu {dtype}"] = difference(swiglu, apart, y * 3, [[], []])
        y = torch.randn(2, 3, 3 * 37, 37).to(dtype)
        later = torch.ones(37, 37, dtype=torch.bool).triu(1).repeat(3, 1)
        plain = lambda y: y.masked_fill(later, -torch.inf).softmax(-1, dtype=torch.float32).to(y.dtype)
        worst[f"causal softmax {dtype}"] = difference(lambda y: softmax(y, True), plain, y * 3, [[], []])
        whole = lambda y: y.softmax(-1, dtype=torch.float32).to(y.dtype)
        worst[f"softmax {dtype}"] = difference(lambda y: softmax(y, False), whole, y * 3, [[], []])
        worst[f"gelu {dtype}"] = difference(gelu, F.gelu, x * 3, [[], []])
    for name, value in worst.items():
        print(f"{name}: {value:.1e}")
    # Of bf16, a rounding or two of an output and the order of sums.
    if any(value > (2e-2 if "bfloat16" in name else 1e-5) for name, value in worst.items()):
        raise SystemExit("too much")


if __name__ == "__main__":
    main()
