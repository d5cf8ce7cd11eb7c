"""Trains one small vision-language model from nothing, first the language model they share; see README.md.

    python tools/train/train.py fastvithd --vlmbench target/release/vlmbench --out DIR
"""

import argparse
import json
import multiprocessing
import time
from pathlib import Path

import data
import torch
import words
from export import load
from models import LANGUAGE, Vlm, readers, unit
from muon import Muon
from quick import kernels
from torch import nn
from torch.nn import functional as F

# One step in so many has its pictures withheld from the decoder.
BLIND = 16
# Batches over which the statistics of batch norms are averaged at the end.
SETTLING = 80


def settings() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", choices=(LANGUAGE, "vit", "fastvit", "fastvithd"))
    parser.add_argument("--vlmbench", type=Path, required=True, help="the program, which draws the data")
    parser.add_argument("--out", type=Path, required=True, help="folder for data, state and curves")
    parser.add_argument("--samples", type=int, default=8000, help="training samples a suite")
    parser.add_argument("--language-minutes", type=float, default=60, help="decoder alone, without pictures")
    parser.add_argument("--read-minutes", type=float, default=35, help="encoder and projector, mostly on crops")
    parser.add_argument("--answer-minutes", type=float, default=40, help="all but early layers of the encoder, on whole pictures")
    parser.add_argument("--tune-minutes", type=float, default=40, help="everything, on whole pictures")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--workers", type=int, default=1, help="processes that decode pictures")
    parser.add_argument("--batch", type=float, default=1.0, help="images a step, times this")
    return parser.parse_args()


class Training:
    """Model, optimiser and clock of a run that can be interrupted."""

    def __init__(self, args: argparse.Namespace, name: str) -> None:
        torch.manual_seed(args.seed)
        self.args = args
        self.kind = name
        self.stages = (LANGUAGE,) if name == LANGUAGE else ("read", "answer", "tune")
        folder = args.out / name
        folder.mkdir(parents=True, exist_ok=True)
        tokenizer = folder / "tokenizer.json"
        made = words.build(tokenizer)
        self.model = Vlm(name, made, words.vocabulary(tokenizer)).to(args.device)
        self.model.encoder.to(memory_format=torch.channels_last)
        width = self.model.projector[-1].out_features
        self.reader = readers(self.model.encoder.config.widths, width).to(args.device)
        self.oracle = None if name == LANGUAGE else self.taught()
        self.stage, self.spent, self.step = 0, 0.0, 0
        self.optimizers = self.new_optimizers()
        # Of the stage, for the processes that draw batches.
        self.progress = multiprocessing.Value("d", 0.0)
        self.state = folder / "state.pt"
        if self.state.exists():
            saved = torch.load(self.state, weights_only=True, map_location=args.device)
            self.model.load_state_dict(saved["model"])
            self.reader.load_state_dict(saved["reader"])
            self.stage, self.spent, self.step = saved["stage"], saved["spent"], saved["step"]
            self.optimizers = self.new_optimizers()
            for optimizer, state in zip(self.optimizers, saved["optimizers"], strict=True):
                optimizer.load_state_dict(state)
        self.curve = (folder / "curve.jsonl").open("a")

    @property
    def name(self) -> str:
        return self.stages[self.stage]

    def done(self) -> float:
        """The part of the stage's time that is spent."""
        given = 60 * getattr(self.args, f"{self.name}_minutes")
        return self.spent / given if self.spent < given else 1.0

    def finished(self) -> bool:
        return self.stage + 1 == len(self.stages) and self.done() == 1

    def new_optimizers(self) -> list[torch.optim.Optimizer]:
        late = [] if self.name == LANGUAGE else self.model.encoder.late
        parts = {
            LANGUAGE: [self.model, self.reader],
            # The decoder and what reads visual tokens stay as they were with the oracle: tokens are to say it in its way.
            "read": [self.model.encoder, self.reader[:-1], self.model.projector],
            "answer": [*late, self.model.projector, self.model.decoder, self.reader[-1]],
            "tune": [self.model, self.reader],
        }[self.name]
        self.model.requires_grad_(False)
        self.reader.requires_grad_(False)
        for part in parts:
            part.requires_grad_(True)
        tables = [m.weight for part in parts for m in part.modules() if isinstance(m, nn.Embedding)]
        # What stands between early layers that read and a decoder that answers has to learn faster than these.
        new = {p for part in parts if part is not self.model.decoder for p in part.parameters()}
        new = new if self.name == "answer" else set()
        matrices, between, others = [], [], []
        for part in parts:
            for name, parameter in part.named_parameters():
                # Tables are looked up, and filters of depthwise convolutions stand alone.
                table = any(parameter is t for t in tables) or name.endswith("positions")
                matrix = parameter.ndim in (2, 4) and parameter.shape[1] > 1 and not table
                (between if matrix and parameter in new else matrices if matrix else others).append(parameter)
        groups = [{"params": matrices}] + [{"params": between, "scale": 4.0}] * bool(between)
        return [
            Muon(groups, lr=1e-3, weight_decay=0.02),
            torch.optim.AdamW(others, lr=1e-3, betas=(0.9, 0.98), weight_decay=0.0, fused=True),
        ]

    def taught(self) -> Vlm:
        """The language model, of which the model takes the decoder, and the code of visual tokens: what the projector ends
        with, and what reads them."""
        oracle, reader = load(self.args.out / LANGUAGE / "state.pt")
        oracle.requires_grad_(False).to(self.args.device)
        self.model.decoder.load_state_dict(oracle.decoder.state_dict())
        self.model.projector[-1].load_state_dict(oracle.projector[-1].state_dict())
        self.reader[-1].load_state_dict(reader[-1].state_dict())
        return oracle

    def save(self) -> None:
        saved = {
            "name": self.kind,
            "model": self.model.state_dict(),
            "reader": self.reader.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "stage": self.stage,
            "spent": self.spent,
            "step": self.step,
        }
        unfinished = self.state.with_suffix(".part")
        torch.save(saved, unfinished)
        unfinished.rename(self.state)

    def rate(self) -> float:
        """Warm-up, then a cosine down to a twentieth, over the stage's time."""
        warm = min(1.0, (self.step + 1) / 100)
        peak = {LANGUAGE: 1.5e-3, "read": 6e-3, "answer": 1.5e-3, "tune": 1e-3}[self.name]
        return peak * warm * (0.05 + 0.95 * 0.5 * (1 + torch.cos(torch.tensor(self.done() * torch.pi)).item()))

    def log(self, **facts: object) -> None:
        facts = {"stage": self.name, "step": self.step, "minutes": round(self.spent / 60, 2), **facts}
        print(json.dumps(facts), flush=True)
        self.curve.write(json.dumps(facts) + "\n")
        self.curve.flush()

    def seen(self, batch: dict, found: dict[str, torch.Tensor]) -> torch.Tensor:
        """What the encoder makes of a batch; how well it reads is put into `found`."""
        device = self.args.device
        if self.name == LANGUAGE:
            return self.model.encoder.map(batch["marks"].to(device), len(batch["turns"]), batch["grid"])
        pixels = unit(batch["pixels"].to(device))
        if self.name == "answer":
            self.model.encoder.eval()
            for part in self.model.encoder.late:
                part.train()
            return self.model.encoder(pixels)
        maps = self.model.encoder.maps(pixels)
        for i, (reader, seen) in enumerate(zip(self.reader[:-1], maps, strict=True)):
            self.read(f"read{i}", reader, seen, batch, found)
        return maps[-1]

    def read(self, name: str, reader: nn.Module, seen: torch.Tensor, batch: dict, found: dict) -> None:
        """How well a reader names what stands where, and the colours of signs."""
        scores = reader(seen, batch["points"].to(self.args.device))
        wanted = [batch[key].to(self.args.device).flatten() for key in ("classes", "grounds")]
        (what, ground), (classes, grounds) = [rows.flatten(0, 1).float() for rows in scores], wanted
        found[name] = F.cross_entropy(what, classes, ignore_index=-100)
        found[f"{name} ground"] = 0.3 * F.cross_entropy(ground, grounds, ignore_index=-100)
        known = classes > 0
        found[f"{name} right"] = (what.argmax(1) == classes)[known].float().mean().detach()

    def losses(self, batch: dict) -> dict[str, torch.Tensor]:
        # On the CPU bf16 saves time only with our own kernels.
        half = torch.autocast(
            self.args.device, torch.bfloat16, enabled=self.args.device != "cpu" or kernels() is not None
        )
        found: dict[str, torch.Tensor] = {}
        with half:
            features = self.seen(batch, found)
            visual = self.model.tokens_of(features)
            self.read("read tokens", self.reader[-1], visual.transpose(1, 2).unflatten(2, features.shape[2:]), batch, found)
            if self.name in ("read", "answer"):
                found["missed"] = self.missed(visual, batch["marks"].to(self.args.device), features.shape[-1])
            if self.name == "read":
                return found
            # Some questions come without their picture, so that what is answered without one can be measured.
            blind = self.step % BLIND == 0
            shown = None if blind else visual[batch["pictures"]]
            found["answer"], pointing, right = self.model.loss(shown, batch["turns"])
        if blind:
            return found | {"blind": found["answer"].detach()}
        hits: dict[str, list[bool]] = {}
        for suite, hit in zip(batch["suites"], right, strict=True):
            hits.setdefault(f"{suite} right", []).append(hit)
        shares = {suite: torch.tensor(row).float().mean() for suite, row in hits.items()}
        return found | {"pointing": pointing} | shares

    def missed(self, visual: torch.Tensor, marks: torch.Tensor, grid: int) -> torch.Tensor:
        """How far the visual tokens are from those that the decoder has learnt to understand, where 1 is their spread."""
        with torch.no_grad():
            wanted = self.oracle.tokens_of(self.oracle.encoder.map(marks, len(visual), grid))
        spread = (wanted - wanted.mean((0, 1))).square().mean()
        return (visual - wanted).square().mean() / spread

    @staticmethod
    def pictures(batch: dict) -> int:
        return len(batch["pixels"] if "pixels" in batch else batch["turns"])

    @torch.no_grad()
    def settle(self, batches) -> None:
        """Gives batch norms the statistics of many batches instead of the last ten."""
        norms = [m for m in self.model.modules() if isinstance(m, nn.BatchNorm2d)]
        if not norms:
            return
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None
        for _ in range(SETTLING):
            self.model.visual(unit(next(batches)["pixels"].to(self.args.device)))

    def begin(self) -> None:
        """A stage, with its optimisers."""
        self.stage, self.spent, self.step = self.stage + 1, 0.0, 0
        self.optimizers = self.new_optimizers()

    def batches(self, samples: list[data.Sample]):
        source = data.Batches(samples, self.args.seed + self.step, self.args.batch, self.name, self.progress)
        return iter(torch.utils.data.DataLoader(source, batch_size=None, num_workers=self.args.workers, prefetch_factor=4))

    def run(self, samples: list[data.Sample]) -> None:
        batches = self.batches(samples)
        sums: dict[tuple[int, str], list[float]] = {}
        shown = saved = time.monotonic()
        while True:
            if self.finished():
                self.settle(batches)
                self.save()
                return
            if self.done() == 1:
                self.save()
                self.begin()
                batches = self.batches(samples)
            start = time.monotonic()
            self.progress.value = self.done()
            batch = next(batches)
            self.model.train()
            found = self.losses(batch)
            dense = sum(value for name, value in found.items() if name.startswith("read") and value.requires_grad)
            dense = dense + found.get("missed", 0)
            beside = dense * (0.3 if self.name == LANGUAGE else 1.0) + 0.5 * found.get("pointing", 0)
            loss = found.get("answer", 0) + beside
            parameters = []
            for optimizer in self.optimizers:
                optimizer.zero_grad(set_to_none=True)
                for group in optimizer.param_groups:
                    group["lr"] = self.rate() * group.get("scale", 1.0)
                    parameters += group["params"]
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            for optimizer in self.optimizers:
                optimizer.step()
            now = time.monotonic()
            # More than this, and the process was stopped meanwhile.
            self.spent += min(now - start, 30)
            self.step += 1
            side = batch["grid"] if self.name == LANGUAGE else batch["pixels"].shape[1]
            for name, value in found.items():
                sums.setdefault((side, name), []).append(float(value.detach()))
            sums.setdefault((side, "images/s"), []).append(self.pictures(batch) / (now - start))
            if now - shown > 30:
                means = {f"{name}@{side}": round(sum(v) / len(v), 3) for (side, name), v in sorted(sums.items())}
                self.log(**means)
                sums, shown = {}, now
            if now - saved > 300:
                self.save()
                saved = now


def main() -> None:
    args = settings()
    samples = []
    for suite in data.SUITES:
        path = data.draw(args.vlmbench, args.out / "data", suite, "train", args.samples, args.seed)
        samples += data.read(path, suite)
    for name in dict.fromkeys((LANGUAGE, args.model)):
        training = Training(args, name)
        if training.finished():
            continue
        parts = {name: sum(p.numel() for p in part.parameters()) for name, part in training.model.named_children()}
        print(json.dumps({"model": name, "parameters": parts, "samples": len(samples)}), flush=True)
        training.run(samples)


if __name__ == "__main__":
    main()
