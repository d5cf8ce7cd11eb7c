"""PyTorch as a contender: eager, eager in channels-last, compiled."""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import networks
import numpy as np
import torch
import torch._inductor.config
from serve import Served, serve
from transformers import DynamicCache, Qwen2ForCausalLM, StaticCache

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}


def milliseconds(work: Callable[[], object]) -> float:
    """Wall time of one call, until its work is done."""
    start = time.perf_counter()
    work()
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return (time.perf_counter() - start) * 1e3


def once(args: argparse.Namespace) -> Served:
    """`encode` and `prefill`: one forward pass is one repetition."""
    dtype = DTYPES[args.precision]
    model = networks.network(args.work, args.checkpoint).to(args.device, dtype)
    given = networks.input_of(args.work, args.reference).to(args.device)
    if given.is_floating_point():
        given = given.to(dtype)
    if args.variant == "channels-last" or (args.variant == "compile" and args.channels_last):
        model = model.to(memory_format=torch.channels_last)
        given = given.contiguous(memory_format=torch.channels_last)
    if args.variant == "compile":
        # Nobody runs the model uncompiled, so its own weights need not stay beside the packed ones. The decoder's must: its
        # tied head is recognised by them.
        torch._inductor.config.freezing_discard_parameters = args.work == "encode"
        model = torch.compile(model)

    def output() -> np.ndarray:
        result = model(given)
        return (result[0] if isinstance(result, tuple) else result).float().cpu().numpy()

    return Served(about(args), output, lambda: [milliseconds(lambda: model(given))])


class Decoding:
    """Steps of one token after a filled KV cache, which is filled once and cut back before each repetition."""

    def __init__(self, model: Qwen2ForCausalLM, ids: torch.Tensor, static: int | None):
        self.model = model
        self.ids = ids
        self.capacity = static
        if static is None:
            self.cache = DynamicCache(config=model.config)
            self.step = model.forward
        else:
            # Only a cache of a fixed size can be compiled without recompiling at every length.
            self.cache = StaticCache(config=model.config, max_cache_len=static)
            self.step = torch.compile(model.forward)
        self.fill()

    def fill(self) -> None:
        """Prefills; the logits are dropped."""
        positions = torch.arange(self.ids.shape[1], device=self.ids.device)[None]
        self.model(
            input_ids=self.ids, past_key_values=self.cache, position_ids=positions, use_cache=True, logits_to_keep=1
        )

    def back(self) -> None:
        """As after the prefill."""
        beyond = self.cache.get_seq_length() - self.ids.shape[1]
        if self.capacity is not None:
            # A cache of a fixed size cannot be cut.
            self.cache.reset()
            self.fill()
        elif beyond > 0:
            self.cache.crop(-beyond)

    def token(self, token: torch.Tensor, position: int) -> torch.Tensor:
        """Logits (1, V) after one token."""
        positions = torch.tensor([[position]], device=self.ids.device)
        answer = self.step(
            input_ids=token, past_key_values=self.cache, position_ids=positions, use_cache=True, logits_to_keep=1
        )
        return answer.logits[:, -1]


def decode(args: argparse.Namespace) -> Served:
    """`decode`: a repetition is a number of steps, one value each."""
    model = networks.qwen2(args.checkpoint).to(args.device, DTYPES[args.precision])
    ids = networks.input_of(args.work, args.reference).to(args.device)
    length = ids.shape[1]
    forced = torch.from_numpy(np.load(args.reference / "forced.npy")).to(args.device)
    static = length + max(args.steps, 16) if args.variant == "compile" else None
    decoding = Decoding(model, ids, static)

    def output() -> np.ndarray:
        decoding.back()
        for position in range(length, forced.shape[1]):
            logits = decoding.token(forced[:, position : position + 1], position)
        return logits.float().cpu().numpy()

    def run() -> list[float]:
        decoding.back()
        token, samples = ids[:, :1], []
        for position in range(length, length + args.steps):

            def step(position: int = position) -> None:
                nonlocal token
                token = decoding.token(token, position).argmax(dim=-1, keepdim=True)

            samples.append(milliseconds(step))
        return samples

    return Served(about(args), output, run)


def about(args: argparse.Namespace) -> dict[str, str]:
    """For the record."""
    on = {"cpu": torch.backends.cpu.get_cpu_capability()}
    if args.device != "cpu":
        on = {"gpu": torch.cuda.get_device_name(args.device)}
    return {"version": f"PyTorch {torch.__version__}", "variant": args.variant, **on}


def product(threads: int, precision: str, device: str) -> Served:
    """The best rate of a large matrix product, GFLOP/s in place of milliseconds."""
    side = 2048 if device == "cpu" else 8192

    def rate(dtype: torch.dtype) -> float:
        a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
        best = min(milliseconds(lambda: a @ b) for _ in range(15))
        return 2 * side**3 / best / 1e6

    return Served({"threads": str(threads)}, lambda: np.zeros(1), lambda: [rate(DTYPES[precision])])


def load(args: argparse.Namespace) -> Served:
    """Settings, then the contender."""
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    # Weights do not change, so a compiled model may pack them once.
    torch._inductor.config.freezing = True
    if args.work == "product":
        return product(args.threads, args.precision, args.device)
    return decode(args) if args.work == "decode" else once(args)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", choices=["encode", "prefill", "decode", "product"], required=True)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--reference", type=Path)
    parser.add_argument("--precision", choices=list(DTYPES), default="f32")
    parser.add_argument("--variant", choices=["eager", "channels-last", "compile"], default="eager")
    parser.add_argument("--channels-last", action="store_true", help="compile in channels-last")
    parser.add_argument("--steps", type=int, default=0)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    with torch.inference_mode():
        serve(lambda: load(args))


if __name__ == "__main__":
    main()
