"""Trains one small vision-language model from nothing; see README.md.

    python tools/train/train.py fastvithd --vlmbench target/release/vlmbench --out DIR
"""

import argparse
import json
import time
from pathlib import Path

import data
import torch
import words
from models import Reader, Vlm
from torch.nn import functional as F

# Images a step at each resolution: about the same work.
SIDES = {128: 96, 192: 64, 256: 40, 384: 20, 512: 12}


def settings() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", choices=("vit", "fastvit", "fastvithd"))
    parser.add_argument("--vlmbench", type=Path, required=True, help="the program, which draws the data")
    parser.add_argument("--out", type=Path, required=True, help="folder for data, state and curves")
    parser.add_argument("--samples", type=int, default=12000, help="training samples a suite")
    parser.add_argument("--read-minutes", type=float, default=60, help="encoder alone, dense supervision")
    parser.add_argument("--align-minutes", type=float, default=5, help="projector alone")
    parser.add_argument("--tune-minutes", type=float, default=60, help="everything")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--workers", type=int, default=1, help="processes that decode pictures")
    parser.add_argument("--batch", type=float, default=1.0, help="images a step, times this")
    return parser.parse_args()


class Training:
    """Model, optimiser and clock of a run that can be interrupted."""

    STAGES = ("read", "align", "tune")

    def __init__(self, args: argparse.Namespace) -> None:
        torch.manual_seed(args.seed)
        self.args = args
        args.out.mkdir(parents=True, exist_ok=True)
        tokenizer = args.out / "tokenizer.json"
        made = words.build(tokenizer)
        self.model = Vlm(args.model, made, words.vocabulary(tokenizer)).to(args.device)
        self.model.encoder.to(memory_format=torch.channels_last)
        self.reader = Reader(self.model.encoder.config.features, len(data.CLASSES)).to(args.device)
        self.stage, self.spent, self.step = 0, 0.0, 0
        self.optimizer = self.new_optimizer()
        self.state = args.out / "state.pt"
        if self.state.exists():
            saved = torch.load(self.state, weights_only=True, map_location=args.device)
            self.model.load_state_dict(saved["model"])
            self.reader.load_state_dict(saved["reader"])
            self.stage, self.spent, self.step = saved["stage"], saved["spent"], saved["step"]
            self.optimizer = self.new_optimizer()
            self.optimizer.load_state_dict(saved["optimizer"])
        self.curve = (args.out / "curve.jsonl").open("a")

    def minutes(self) -> float:
        return getattr(self.args, f"{self.STAGES[self.stage]}_minutes")

    def new_optimizer(self) -> torch.optim.Optimizer:
        parts = {
            "read": [self.model.encoder, self.reader],
            "align": [self.model.projector],
            "tune": [self.model, self.reader],
        }[self.STAGES[self.stage]]
        decayed, others = [], []
        for part in parts:
            for parameter in part.parameters():
                (decayed if parameter.ndim > 1 else others).append(parameter)
        groups = [{"params": decayed, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}]
        return torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.98))

    def save(self) -> None:
        saved = {
            "name": self.args.model,
            "model": self.model.state_dict(),
            "reader": self.reader.state_dict(),
            "optimizer": self.optimizer.state_dict(),
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
        warm = min(1.0, (self.step + 1) / 200)
        peak = {"read": 2e-3, "align": 1e-3, "tune": 1e-3}[self.STAGES[self.stage]]
        return peak * warm * (0.05 + 0.95 * 0.5 * (1 + torch.cos(torch.tensor(done * torch.pi)).item()))

    def log(self, **facts: object) -> None:
        facts = {"stage": self.STAGES[self.stage], "step": self.step, "minutes": round(self.spent / 60, 2), **facts}
        print(json.dumps(facts), flush=True)
        self.curve.write(json.dumps(facts) + "\n")
        self.curve.flush()

    def losses(self, batch: dict) -> dict[str, torch.Tensor]:
        stage = self.STAGES[self.stage]
        device = self.args.device
        pixels = batch["pixels"].to(device).permute(0, 3, 1, 2).float() / 255
        # On the CPU bf16 saves no time: depthwise convolutions are slower backwards.
        half = torch.autocast(device, torch.bfloat16, enabled=device != "cpu")
        with half, torch.set_grad_enabled(stage != "align"):
            features = self.model.visual(pixels)
        features = features.float()
        found = {}
        if stage != "align":
            scores = self.reader(features, batch["points"].to(device)).flatten(0, 1)
            classes = batch["classes"].to(device).flatten()
            found["read"] = F.cross_entropy(scores, classes, ignore_index=-100)
            known = (classes >= 0) & (classes != 0)
            found["right"] = (scores.argmax(1) == classes)[known].float().mean().detach()
        if stage != "read":
            with half:
                found["answer"] = self.model.loss(features, batch["prompts"], batch["answers"])
        return found

    def run(self, batches) -> None:
        sums: dict[tuple[int, str], list[float]] = {}
        shown = time.monotonic()
        saved = shown
        while True:
            while self.spent >= 60 * self.minutes():
                self.save()
                if self.stage + 1 == len(self.STAGES):
                    return
                self.stage, self.spent, self.step = self.stage + 1, 0.0, 0
                self.optimizer = self.new_optimizer()
            start = time.monotonic()
            batch = next(batches)
            self.model.train()
            found = self.losses(batch)
            loss = found.get("answer", 0) + found.get("read", 0) * (1.0 if self.stage == 0 else 0.3)
            for group in self.optimizer.param_groups:
                group["lr"] = self.rate()
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            self.optimizer.step()
            now = time.monotonic()
            self.spent += now - start
            self.step += 1
            side = batch["pixels"].shape[1]
            for name, value in found.items():
                sums.setdefault((side, name), []).append(float(value))
            sums.setdefault((side, "images/s"), []).append(len(batch["prompts"]) / (now - start))
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
    sides = {side: max(1, round(count * args.batch)) for side, count in SIDES.items()}
    source = data.Batches(samples, sides, args.seed + training.step)
    loader = torch.utils.data.DataLoader(source, batch_size=None, num_workers=args.workers, prefetch_factor=4)
    training.run(iter(loader))


if __name__ == "__main__":
    main()
