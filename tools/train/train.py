"""Trains one small vision-language model from nothing; see README.md.

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
from models import Vlm, readers, unit
from muon import Muon
from quick import kernels
from torch.nn import functional as F

# One step in so many has its pictures withheld from the decoder.
BLIND = 16
# Batches over which the statistics of batch norms are averaged at the end.
SETTLING = 80


def settings() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", choices=("vit", "fastvit", "fastvithd"))
    parser.add_argument("--vlmbench", type=Path, required=True, help="the program, which draws the data")
    parser.add_argument("--out", type=Path, required=True, help="folder for data, state and curves")
    parser.add_argument("--samples", type=int, default=8000, help="training samples a suite")
    parser.add_argument("--read-minutes", type=float, default=40, help="encoder alone, on crops")
    parser.add_argument("--spell-minutes", type=float, default=20, help="projector and decoder, on crops")
    parser.add_argument("--tune-minutes", type=float, default=60, help="everything, whole pictures")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--workers", type=int, default=1, help="processes that decode pictures")
    parser.add_argument("--batch", type=float, default=1.0, help="images a step, times this")
    return parser.parse_args()


class Training:
    """Model, optimiser and clock of a run that can be interrupted."""

    STAGES = ("read", "spell", "tune")

    def __init__(self, args: argparse.Namespace) -> None:
        torch.manual_seed(args.seed)
        self.args = args
        args.out.mkdir(parents=True, exist_ok=True)
        tokenizer = args.out / "tokenizer.json"
        made = words.build(tokenizer)
        self.model = Vlm(args.model, made, words.vocabulary(tokenizer)).to(args.device)
        self.model.encoder.to(memory_format=torch.channels_last)
        self.reader = readers(self.model.encoder.config.widths).to(args.device)
        self.stage, self.spent, self.step = 0, 0.0, 0
        self.optimizers = self.new_optimizers()
        # Of the stage, for the processes that draw batches; 1 in the last one.
        self.progress = multiprocessing.Value("d", 0.0)
        self.state = args.out / "state.pt"
        if self.state.exists():
            saved = torch.load(self.state, weights_only=True, map_location=args.device)
            self.model.load_state_dict(saved["model"])
            self.reader.load_state_dict(saved["reader"])
            self.stage, self.spent, self.step = saved["stage"], saved["spent"], saved["step"]
            self.optimizers = self.new_optimizers()
            for optimizer, state in zip(self.optimizers, saved["optimizers"], strict=True):
                optimizer.load_state_dict(state)
        self.curve = (args.out / "curve.jsonl").open("a")

    @property
    def name(self) -> str:
        return self.STAGES[self.stage]

    def minutes(self) -> float:
        return getattr(self.args, f"{self.name}_minutes")

    def new_optimizers(self) -> list[torch.optim.Optimizer]:
        parts = {
            "read": [self.model.encoder, self.reader],
            # Only now: a decoder that has seen features which say nothing learns to do without them, and stays so.
            "spell": [self.model.projector, self.model.decoder],
            "tune": [self.model, self.reader],
        }[self.name]
        matrices, others = [], []
        for part in parts:
            for name, parameter in part.named_parameters():
                # Tables are looked up, and filters of depthwise convolutions stand alone.
                table = "embed_tokens" in name or name.endswith("positions")
                matrix = parameter.ndim in (2, 4) and parameter.shape[1] > 1 and not table
                (matrices if matrix else others).append(parameter)
        return [
            Muon(matrices, lr=1e-3, weight_decay=0.02),
            torch.optim.AdamW(others, lr=1e-3, betas=(0.9, 0.98), weight_decay=0.0, fused=True),
        ]

    def save(self) -> None:
        saved = {
            "name": self.args.model,
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
        done = min(1.0, self.spent / (60 * self.minutes()))
        warm = min(1.0, (self.step + 1) / 100)
        peak = {"read": 6e-3, "spell": 5e-3, "tune": 3e-3}[self.name]
        return peak * warm * (0.05 + 0.95 * 0.5 * (1 + torch.cos(torch.tensor(done * torch.pi)).item()))

    def log(self, **facts: object) -> None:
        facts = {"stage": self.name, "step": self.step, "minutes": round(self.spent / 60, 2), **facts}
        print(json.dumps(facts), flush=True)
        self.curve.write(json.dumps(facts) + "\n")
        self.curve.flush()

    def losses(self, batch: dict) -> dict[str, torch.Tensor]:
        stage = self.name
        device = self.args.device
        pixels = unit(batch["pixels"].to(device))
        # On the CPU bf16 saves time only with our own kernels.
        half = torch.autocast(device, torch.bfloat16, enabled=device != "cpu" or kernels() is not None)
        found = {}
        with half:
            with torch.set_grad_enabled(stage != "spell"):
                maps = self.model.encoder.maps(pixels)
            if stage != "spell":
                places, classes = batch["points"].to(device), batch["classes"].to(device).flatten()
                known = classes > 0
                for i, (reader, seen) in enumerate(zip(self.reader, maps, strict=True)):
                    scores = reader(seen, places).flatten(0, 1).float()
                    found[f"read{i}"] = F.cross_entropy(scores, classes, ignore_index=-100)
                    found[f"read{i} right"] = (scores.argmax(1) == classes)[known].float().mean().detach()
            if stage == "read":
                return found
            # Some questions come without their picture, so that what is answered without one can be measured.
            blind = stage == "tune" and self.step % BLIND == 0
            found["answer"], pointing, right = self.model.loss(None if blind else maps[-1], batch["turns"])
        if blind:
            return found | {"blind": found["answer"].detach()}
        found["pointing"] = pointing
        for suite, turns, row in zip(batch["suites"], batch["turns"], right, strict=True):
            for turn, hit in zip(turns, row, strict=True):
                name = "read" if turn.prompt in (data.READ, data.NEAREST, data.THING) else suite
                found.setdefault(f"{name} right", []).append(hit)
        return {k: torch.tensor(v).float().mean() if isinstance(v, list) else v for k, v in found.items()}

    @torch.no_grad()
    def settle(self, batches) -> None:
        """Gives batch norms the statistics of many batches instead of the last ten."""
        norms = [m for m in self.model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None
        for _ in range(SETTLING):
            self.model.visual(unit(next(batches)["pixels"].to(self.args.device)))

    def run(self, batches) -> None:
        sums: dict[tuple[int, str], list[float]] = {}
        shown = time.monotonic()
        saved = shown
        while True:
            while self.spent >= 60 * self.minutes():
                if self.stage + 1 == len(self.STAGES):
                    self.settle(batches)
                    self.save()
                    return
                self.save()
                self.stage, self.spent, self.step = self.stage + 1, 0.0, 0
                self.optimizers = self.new_optimizers()
            start = time.monotonic()
            done = self.spent / (60 * self.minutes())
            self.progress.value = 1.0 if self.name == "tune" else min(0.999, done)
            batch = next(batches)
            self.model.train()
            self.model.encoder.train(self.name != "spell")
            found = self.losses(batch)
            dense = sum(value for name, value in found.items() if name.startswith("read") and value.requires_grad)
            beside = dense * (1.0 if self.name == "read" else 0.3) + 0.5 * found.get("pointing", 0)
            loss = found.get("answer", 0) + beside
            parameters = []
            for optimizer in self.optimizers:
                optimizer.zero_grad(set_to_none=True)
                for group in optimizer.param_groups:
                    group["lr"] = self.rate()
                    parameters += group["params"]
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            for optimizer in self.optimizers:
                optimizer.step()
            now = time.monotonic()
            self.spent += now - start
            self.step += 1
            side = batch["pixels"].shape[1]
            for name, value in found.items():
                sums.setdefault((side, name), []).append(float(value.detach()))
            sums.setdefault((side, "images/s"), []).append(len(batch["turns"]) / (now - start))
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
        path = data.draw(args.vlmbench, args.out.parent / "data", suite, "train", args.samples, args.seed)
        samples += data.read(path, suite)
    training = Training(args)
    parts = {
        name: sum(p.numel() for p in part.parameters()) for name, part in training.model.named_children()
    }
    print(json.dumps({"parameters": parts, "samples": len(samples)}), flush=True)
    source = data.Batches(samples, args.seed + training.step, args.batch, training.progress)
    loader = torch.utils.data.DataLoader(source, batch_size=None, num_workers=args.workers, prefetch_factor=4)
    training.run(iter(loader))


if __name__ == "__main__":
    main()
