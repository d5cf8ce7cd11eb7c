"""Depthwise convolution, batch norm, GELU, and what a decoder has between its products, that train quickly on a CPU with
AVX-512; PyTorch's own elsewhere.

PyTorch takes ten times as long for the gradient of a depthwise convolution's weights as for the convolution, and batch
norm in bf16 is slower than in f32. With these a step takes half of the time.
"""

from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@cache
def kernels():
    """The compiled kernels; nothing where they cannot be had."""
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    if "avx512_bf16" not in flags:
        return None
    from torch.utils import cpp_extension

    try:
        source = Path(__file__).with_suffix(".cpp")
        return cpp_extension.load("quick", [str(source)], extra_cflags=["-O3", "-march=native", "-fopenmp"])
    except (OSError, RuntimeError) as error:
        print(f"without own kernels, which is slower: {error}", flush=True)
        return None


def usable(x: Tensor, channels: int) -> bool:
    return x.device.type == "cpu" and channels % 16 == 0 and torch.is_grad_enabled() and kernels() is not None


def last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


class Depthwise(torch.autograd.Function):
    """A convolution without bias, one filter a channel, half of the kernel as padding."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, stride: int) -> Tensor:
        x, used = last(x), weight.to(x.dtype)
        ctx.save_for_backward(x, used)
        ctx.stride = stride
        return F.conv2d(x, used, None, stride, weight.shape[-1] // 2, 1, x.shape[1])

    @staticmethod
    def backward(ctx, grad: Tensor):
        x, weight = ctx.saved_tensors
        grad = last(grad.to(x.dtype))
        below = None
        if ctx.needs_input_grad[0]:
            spread = grad
            if ctx.stride > 1:
                spread = torch.zeros_like(x)
                spread[:, :, :: ctx.stride, :: ctx.stride] = grad
            below = F.conv2d(spread, weight.flip(2, 3), None, 1, weight.shape[-1] // 2, 1, x.shape[1])
        return below, kernels().weight_gradient(x, grad, weight.shape[-1], ctx.stride), None


class Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor, eps: float):
        x = last(x)
        y, mean, inverse = kernels().norm(x, weight, bias, eps)
        ctx.save_for_backward(x, weight, mean, inverse)
        ctx.mark_non_differentiable(mean, inverse)
        return y, mean, inverse

    @staticmethod
    def backward(ctx, grad: Tensor, *_):
        x, *rest = ctx.saved_tensors
        return *kernels().norm_gradient(last(grad.to(x.dtype)), x, *rest), None


class Gelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return kernels().gelu(x)

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        # In the order of `x` in memory.
        return kernels().gelu_gradient(torch.empty_like(x).copy_(grad), x)


class RmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, eps: float, half: bool) -> Tensor:
        x = x.contiguous()
        y, inverse = kernels().rms(x, weight, eps, half)
        ctx.save_for_backward(x, weight, inverse)
        return y

    @staticmethod
    def backward(ctx, grad: Tensor):
        return *kernels().rms_gradient(grad.contiguous(), *ctx.saved_tensors), None, None


class Swiglu(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        x = x.contiguous()
        ctx.save_for_backward(x)
        return kernels().swiglu(x)

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        return kernels().swiglu_gradient(grad.contiguous(), *ctx.saved_tensors)


class Softmax(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, causal: bool) -> Tensor:
        y = kernels().softmax(x.contiguous(), causal)
        ctx.save_for_backward(y)
        ctx.causal = causal
        return y

    @staticmethod
    def backward(ctx, grad: Tensor):
        return kernels().softmax_gradient(grad.contiguous(), *ctx.saved_tensors, ctx.causal), None


class Heads(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, cosines: Tensor, sines: Tensor, turned: int) -> Tensor:
        ctx.save_for_backward(cosines, sines)
        ctx.turned = turned
        return kernels().heads(x.contiguous(), cosines, sines, turned, False)

    @staticmethod
    def backward(ctx, grad: Tensor):
        return kernels().heads(grad.contiguous(), *ctx.saved_tensors, ctx.turned, True), None, None, None


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """In the precision of products."""
    half = torch.is_autocast_enabled(x.device.type)
    if usable(x, x.shape[-1]) and x.dtype == torch.float32:
        return RmsNorm.apply(x, weight, eps, half)
    return F.rms_norm(x, weight.shape, weight, eps)


def swiglu(x: Tensor) -> Tensor:
    """`silu(a) * b` of the halves of each row."""
    if usable(x, x.shape[-1] // 2):
        return Swiglu.apply(x)
    gate, up = x.chunk(2, -1)
    return F.silu(gate) * up


def softmax(x: Tensor, causal: bool) -> Tensor:
    """Over the last dimension of `(..., m n, n)`, where a causal row counts up to its place in its square."""
    if usable(x, 16):
        return Softmax.apply(x, causal)
    if causal:
        n = x.shape[-1]
        later = torch.ones(n, n, dtype=torch.bool, device=x.device).triu(1)
        x = x.masked_fill(later.repeat(x.shape[-2] // n, 1), -torch.inf)
    return x.softmax(-1, dtype=x.dtype)


def heads(x: Tensor, cosines: Tensor, sines: Tensor, turned: int) -> Tensor:
    """`(b, n, h, d)` to `(b, h, n, d)`, the first `turned` heads turned by rotary angles `(n, d / 2)`."""
    if usable(x, 16) and x.shape[-1] == 32:
        return Heads.apply(x, cosines, sines, turned)
    x = x.transpose(1, 2)
    first, second = x[:, :turned].chunk(2, -1)
    rotated = torch.cat([first * cosines - second * sines, second * cosines + first * sines], -1)
    return torch.cat([rotated.to(x.dtype), x[:, turned:]], 1)


def depthwise(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """`x` `(b, c, h, w)` with filters `(m * c, 1, k, k)`: channel `i` of the output from channel `i / m` of the input."""
    if torch.is_autocast_enabled(x.device.type):
        x = x.to(torch.get_autocast_dtype(x.device.type))
    groups, many = x.shape[1], weight.shape[0] // x.shape[1]
    if not usable(x, weight.shape[0]):
        return F.conv2d(x, weight.to(x.dtype), None, stride, weight.shape[-1] // 2, 1, groups)
    return Depthwise.apply(x.repeat_interleave(many, 1) if many > 1 else x, weight, stride)


class BatchNorm(nn.BatchNorm2d):
    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not usable(x, self.num_features):
            return super().forward(x)
        y, mean, inverse = Norm.apply(x, self.weight, self.bias, self.eps)
        with torch.no_grad():
            count = x.numel() / x.shape[1]
            variance = (inverse.pow(-2) - self.eps) * (count / max(1.0, count - 1))
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance, self.momentum)
        return y


def gelu(x: Tensor) -> Tensor:
    if x.numel() % 16 or not x.requires_grad or not usable(x, 16):
        return F.gelu(x)
    return Gelu.apply(x)
