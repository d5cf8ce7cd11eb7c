"""Trains small vision-language models from nothing, first the language model they share; see README.md.

    python tools/train/train.py vit fastvit fastvithd --vlmbench target/release/vlmbench --out DIR
"""

import argparse
import gc
import json
import math
import os
import random
import time
from collections.abc import Hashable
from pathlib import Path

import data
import torch
import words
from batches import ALL, CONVERSATIONS, CROPS, LARGE, LEGIBLE, POINTS, TOKENS, WHOLES, WRITTEN, Batches, Views
from data import SUITES
from export import load
from models import LANGUAGE, Vlm, readers
from muon import Muon
from step import Steps
from torch import Tensor, nn
from torch.nn import functional as F

# One step in so many has its pictures withheld from the decoder.
BLIND = 16
# How often whole pictures come between crops.
BETWEEN = 0.4
# The part of a stage on crops in which words may be cut off, so that few characters are to be read.
CUT = 0.3
# Questions about one picture, each asked apart: in later turns a decoder copies what it has said before. On grids of more
# tokens than this there is one.
QUESTIONS, FINE = 3, 256
# Batches over which the statistics of batch norms are averaged at the end, and of each kind for validation.
SETTLING, CHECKING = 40, 3
VALIDATION_SEED = 7
RATES = {LANGUAGE: 2e-3, "read": 6e-3, "tune": 1.5e-3}


def settings() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", choices=("vit", "fastvit", "fastvithd"))
    parser.add_argument("--vlmbench", type=Path, required=True, help="the program, which draws the data")
    parser.add_argument("--out", type=Path, required=True, help="folder for data, states and curves")
    parser.add_argument("--samples", type=int, default=10000, help="training samples a suite")
    parser.add_argument("--validation", type=int, default=400, help="validation samples a suite")
    parser.add_argument("--language-minutes", type=float, default=1.15, help="decoder alone, without pictures")
    parser.add_argument("--read-minutes", type=float, default=3.15, help="encoders and projectors, crops and whole pictures")
    parser.add_argument("--tune-minutes", type=float, default=2.1, help="everything, on whole pictures")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes that prepare samples")
    parser.add_argument("--batch", type=float, default=1.0, help="images a step, times this")
    parser.add_argument("--log-seconds", type=float, default=15)
    return parser.parse_args()


def label(name: str, kind: Hashable) -> str:
    """Of what is measured in a kind of step."""
    return "@".join([name, *map(str, kind)])


class Training:
    """A model with its optimisers, and what it learns in one step."""

    def __init__(self, args: argparse.Namespace, name: str, samples: Batches, validation: Batches) -> None:
        torch.manual_seed(args.seed)
        self.args, self.kind = args, name
        self.samples, self.validation = samples, validation
        self.stages = (LANGUAGE,) if name == LANGUAGE else ("read", "tune")
        self.stage, self.spent, self.step = 0, 0.0, 0
        folder = args.out / name
        folder.mkdir(parents=True, exist_ok=True)
        tokenizer = folder / "tokenizer.json"
        made = words.build(tokenizer)
        self.model = Vlm(name, made, words.vocabulary(tokenizer)).to(args.device)
        self.model.encoder.to(memory_format=torch.channels_last)
        width = self.model.projector[-1].out_features
        self.reader = readers(self.model.encoder.config.widths, width).to(args.device)
        self.oracle = None if name == LANGUAGE else self.taught()
        # What changes from step to step: the rate, the least print, how often words are cut, tables, shares of the suites.
        self.controls = torch.zeros(4 + len(SUITES), device=args.device)
        self.rate, self.least, self.cut, self.tables = self.controls[:4].unbind()
        self.shares = self.controls[4:]
        # By kind of step what it measures and, of each, what it came to over what.
        self.names: dict[Hashable, list[str]] = {}
        self.totals: dict[Hashable, Tensor] = {}
        self.state, self.momenta = folder / "state.pt", folder / "momenta.pt"
        if self.state.exists():
            saved = torch.load(self.state, weights_only=True, map_location=args.device)
            self.model.load_state_dict(saved["model"])
            self.reader.load_state_dict(saved["reader"])
            self.stage, self.spent, self.step = saved["stage"], saved["spent"], saved["step"]
        self.prepare()
        if self.state.exists() and not self.finished():
            for optimizer, state in zip(self.optimizers, torch.load(self.momenta, weights_only=True), strict=True):
                optimizer.load_state_dict(state)
                for group in optimizer.param_groups:
                    group["lr"] = self.rate
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

    def taught(self) -> Vlm:
        """The language model, of which the model takes the decoder, and the code of visual tokens: what the projector ends
        with, and what reads them."""
        oracle, reader = load(self.args.out / LANGUAGE / "state.pt")
        oracle.requires_grad_(False).to(self.args.device)
        self.model.decoder.load_state_dict(oracle.decoder.state_dict())
        self.model.projector[-1].load_state_dict(oracle.projector[-1].state_dict())
        self.reader[-1].load_state_dict(reader[-1].state_dict())
        return oracle

    def prepare(self) -> None:
        """Optimisers of a stage, and its steps."""
        parts = {
            LANGUAGE: [self.model, self.reader],
            # The decoder and what reads visual tokens stay as they were with the oracle: tokens are to say it in its way.
            "read": [self.model.encoder, self.reader[:-1], self.model.projector],
            "tune": [self.model.encoder, self.reader, self.model.projector, self.model.decoder],
        }[self.name]
        self.model.requires_grad_(False)
        self.reader.requires_grad_(False)
        for part in parts:
            part.requires_grad_(True)
        tables = [m.weight for part in parts for m in part.modules() if isinstance(m, nn.Embedding)]
        # A decoder that can answer has less to learn than an encoder.
        fast, matrices, others = [], [], []
        for part in parts:
            for name, parameter in part.named_parameters():
                # Tables are looked up, and filters of depthwise convolutions stand alone.
                table = any(parameter is t for t in tables) or name.endswith("positions")
                if parameter.ndim not in (2, 4) or parameter.shape[1] == 1 or table:
                    others.append(parameter)
                elif self.name == "tune" and part is not self.model.decoder:
                    fast.append(parameter)
                else:
                    matrices.append(parameter)
        groups = [{"params": matrices}] + [{"params": fast, "scale": 2.0}] * bool(fast)
        on_gpu = self.args.device != "cpu"
        self.optimizers = [
            Muon(groups, lr=self.rate, weight_decay=0.02),
            torch.optim.AdamW(others, lr=self.rate, betas=(0.9, 0.98), weight_decay=0.0, fused=True, capturable=on_gpu),
        ]
        self.steps = Steps(self.learn, self.args.device)
        self.names, self.totals = {}, {}

    def save(self) -> None:
        """Matrices in f16, as checkpoints have them, once there is no more to learn."""
        half = self.finished()

        def stored(module: nn.Module) -> dict[str, Tensor]:
            return {k: v.half() if half and v.ndim > 1 else v for k, v in module.state_dict().items()}

        saved = {
            "name": self.kind,
            "model": stored(self.model),
            "reader": stored(self.reader),
            "stage": self.stage,
            "spent": self.spent,
            "step": self.step,
        }
        for path, value in ((self.momenta, [o.state_dict() for o in self.optimizers]), (self.state, saved)):
            unfinished = path.with_suffix(".part")
            torch.save(value, unfinished)
            unfinished.rename(path)
        if half:
            self.momenta.unlink()

    def controlled(self, kind: Hashable) -> list[float]:
        """Warm-up, then a cosine down to a twentieth, over the stage's time; and what is taught."""
        done = self.done()
        rate = RATES[self.name] * min(1.0, (self.step + 1) / 100) * (0.05 + 0.475 * (1 + math.cos(done * math.pi)))
        least = math.exp(math.log(LARGE) + min(1.0, done / 0.6) * math.log(LEGIBLE / LARGE))
        what, side, *_ = kind
        signs, pages, scenes = (CROPS if what == "crop" else WHOLES)[side][2]
        tables = 1.0
        if self.name == LANGUAGE:
            # Where there is little to find, spelling is learnt first; then come pages, at last those with tables.
            pages *= min(1.0, max(0.0, (done - 0.08) / 0.15))
            tables = min(1.0, max(0.0, (done - 0.2) / 0.2))
        return [rate, least, max(0.0, 1 - done / CUT), tables, signs, pages, scenes]

    def control(self, kind: Hashable) -> None:
        self.controls.copy_(torch.tensor(self.controlled(kind)), non_blocking=True)

    def count(self, of: float) -> int:
        return max(2, round(of * self.args.batch))

    def half(self) -> torch.autocast:
        """bf16 where it is faster; nothing is kept from one captured step for another."""
        return torch.autocast(self.args.device, torch.bfloat16, self.args.device != "cpu", cache_enabled=False)

    def read(self, name: str, reader: nn.Module, seen: Tensor, points: tuple[Tensor, ...], found: dict) -> Tensor:
        """How badly a reader names what stands where, and the colours of signs."""
        at, classes, grounds = points
        what, ground = (rows.float().flatten(0, 1) for rows in reader(seen, at))
        classes, grounds = classes.flatten(), grounds.flatten()
        known = classes > 0
        found[f"{name} right"] = ((what.argmax(1) == classes) & known).sum(), known.sum()
        colors = F.cross_entropy(ground, grounds, ignore_index=-100)
        return F.cross_entropy(what, classes, ignore_index=-100) + 0.3 * colors

    def seen(self, kind: Hashable, source: Batches) -> Views:
        what, side, *rest = kind
        if what == "crop":
            count = self.count(CROPS[side][0])
            return source.crops(side, source.suites(count, self.shares), self.least, self.cut)
        count = CONVERSATIONS * min(1.0, TOKENS / rest[0] ** 2) if what == "written" else WHOLES[side][0]
        return source.wholes(side, source.suites(self.count(count), self.shares), self.tables)

    def losses(self, kind: Hashable, source: Batches) -> tuple[Tensor, dict[str, tuple[Tensor, Tensor]]]:
        """What is to become less; and what is measured, as sums over counts."""
        what, _, *rest = kind
        views = self.seen(kind, source)
        found: dict[str, tuple[Tensor, Tensor]] = {}
        loss = self.controls.new_zeros(())
        with self.half():
            visual = None
            if what != "blind":
                points = views.points(POINTS if what in ("crop", "written") else ALL)
                marks = views.marks()
                if what == "written":
                    last = self.model.encoder.map(*marks, rest[0])
                else:
                    maps = self.model.encoder.maps(views.pixels())
                    last = maps[-1]
                    for i, (reader, one) in enumerate(zip(self.reader[:-1], maps, strict=True)):
                        loss = loss + self.read(f"read{i}", reader, one, points, found)
                visual = self.model.tokens_of(last)
                grid = last.shape[-1]
                tokens = visual.transpose(1, 2).unflatten(2, (grid, grid))
                weight = 0.3 if what == "written" else 1.0
                loss = loss + weight * self.read("read tokens", self.reader[-1], tokens, points, found)
                if what != "written":
                    missed = self.missed(visual, marks, grid)
                    found["missed"] = missed.detach(), torch.ones_like(missed)
                    loss = loss + missed * (1.0 if self.name == "read" else 0.3)
            if self.name == "read":
                return loss, found
            # Some questions come without their picture, so that what is answered without one can be measured.
            few = what in ("written", "blind") or visual.shape[1] > FINE
            asked = source.questions(views, 1 if few else QUESTIONS)
            shown = None if visual is None else visual[asked.picture]
            answer, pointing, right = self.model.loss(shown, asked)
        found["answer"] = answer.detach(), torch.ones_like(answer)
        found["pointing"] = pointing.detach(), torch.ones_like(pointing)
        for number, suite in enumerate(SUITES):
            mine = asked.valid & (asked.suite == number)
            found[f"{suite} right"] = (right & mine).sum(), mine.sum()
        return loss + answer + 0.5 * pointing, found

    def missed(self, visual: Tensor, marks: tuple[Tensor, Tensor], grid: int) -> Tensor:
        """How far the visual tokens are from those that the decoder has learnt to understand, where 1 is their spread."""
        with torch.no_grad():
            wanted = self.oracle.tokens_of(self.oracle.encoder.map(*marks, grid))
        spread = (wanted - wanted.mean((0, 1))).square().mean()
        return (visual - wanted).square().mean() / spread

    def learn(self, kind: Hashable) -> None:
        """One step, of which nothing waits for the device."""
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss, found = self.losses(kind, self.samples)
        loss.backward()
        parameters = [p for o in self.optimizers for group in o.param_groups for p in group["params"]]
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
        found["loss"] = loss.detach(), torch.ones_like(loss)
        rows = torch.stack([torch.stack([a.float(), b.float()]) for a, b in found.values()])
        if kind not in self.totals:
            self.names[kind], self.totals[kind] = list(found), torch.zeros_like(rows)
        self.totals[kind] += rows

    def advance(self, kind: Hashable) -> None:
        self.model.train()
        # After the steps before, without waiting for them.
        with torch.cuda.stream(self.steps.stream):
            self.control(kind)
        self.steps(kind)
        self.step += 1

    def kinds(self) -> dict[Hashable, float]:
        """Kinds of steps with how often each comes."""
        if self.name == LANGUAGE:
            chances = {("written", s, s // of): c for of, row in WRITTEN.items() for s, c in row.items()}
        else:
            chances = {("whole", side): chance for side, (_, chance, _) in WHOLES.items()}
        if self.name == "read":
            chances = {kind: BETWEEN * chance for kind, chance in chances.items()}
            return chances | {("crop", side): (1 - BETWEEN) * chance for side, (_, chance, _) in CROPS.items()}
        return chances | {("blind", 256): sum(chances.values()) / (BLIND - 1)}

    def log(self, **facts: object) -> None:
        facts = {"model": self.kind, "stage": self.name, "step": self.step, "minutes": round(self.spent / 60, 2), **facts}
        print(json.dumps(facts), flush=True)
        self.curve.write(json.dumps(facts) + "\n")
        self.curve.flush()

    def report(self) -> None:
        """What was measured since the last time."""
        facts = {}
        for kind, totals in self.totals.items():
            for name, (sum_of, count) in zip(self.names[kind], totals.tolist(), strict=True):
                if count:
                    facts[label(name, kind)] = round(sum_of / count, 3)
            totals.zero_()
        self.log(**facts)

    @torch.no_grad()
    def check(self) -> None:
        """The same on the validation split."""
        self.model.eval()
        facts: dict[str, float] = {}
        for kind in self.kinds():
            self.control(kind)
            sums: dict[str, Tensor] = {}
            for _ in range(CHECKING):
                for name, (a, b) in self.losses(kind, self.validation)[1].items():
                    sums[name] = sums.get(name, 0) + torch.stack([a.float(), b.float()])
            for name, row in sums.items():
                if (count := row[1].item()) > 0:
                    facts[label(name, kind)] = round(row[0].item() / count, 3)
        self.log(validation=True, **facts)

    @torch.no_grad()
    def settle(self) -> None:
        """Gives batch norms the statistics of many batches instead of the last ten."""
        norms = [m for m in self.model.modules() if isinstance(m, nn.BatchNorm2d)]
        self.model.train()
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None
        rng = random.Random(self.args.seed)
        for _ in range(SETTLING if norms else 0):
            side = rng.choices(list(WHOLES), [chance for _, chance, _ in WHOLES.values()])[0]
            self.control(("whole", side))
            with self.half():
                self.model.encoder(self.seen(("whole", side), self.samples).pixels())

    def begin(self) -> None:
        """The next stage."""
        self.stage, self.spent, self.step = self.stage + 1, 0.0, 0
        self.prepare()


def settled(device: str) -> None:
    """Waits for the device."""
    if device != "cpu":
        torch.cuda.synchronize()


def train(trainings: list[Training], args: argparse.Namespace) -> None:
    """Steps of one kind for one model after the other, so that all see the same and share the time."""
    first = trainings[0]
    if len({(t.stage, round(t.spent)) for t in trainings}) > 1:
        raise SystemExit("these models were interrupted at different times: train one after the other")
    settled(args.device)
    while not first.finished():
        rng = random.Random(f"{args.seed} {first.name} {first.step}")
        kinds = first.kinds()
        last = shown = saved = time.monotonic()
        checked = first.done() >= 0.5
        while first.done() < 1:
            kind = rng.choices(list(kinds), list(kinds.values()))[0]
            for training in trainings:
                training.advance(kind)
            now = time.monotonic()
            for training in trainings:
                # More than this for a step, and the process was stopped meanwhile.
                training.spent += min(now - last, 30)
            last = now
            check, due = first.done() >= 0.5 and not checked, now - saved > 60
            if check or due or now - shown > args.log_seconds or first.done() == 1:
                settled(args.device)
                for training in trainings:
                    training.report()
                    if check:
                        training.check()
                    if due:
                        training.save()
                checked, shown, saved = checked or check, now, now if due else saved
        for training in trainings:
            if training.finished():
                training.settle()
            training.check()
            training.save()
            if not training.finished():
                training.begin()


def main() -> None:
    args = settings()
    torch.set_float32_matmul_precision("high")
    # It compiles a kernel for every shape of a depthwise convolution, which takes as long as all of the training.
    torch.backends.cudnn.enabled = False
    start = time.monotonic()
    (args.out / LANGUAGE).mkdir(parents=True, exist_ok=True)
    tokenizer = words.build(args.out / LANGUAGE / "tokenizer.json")
    prepared, painting = [], []
    for split, count, seed in (("validation", args.validation, VALIDATION_SEED), ("train", args.samples, args.seed)):
        samples = []
        for suite in SUITES:
            samples += data.read(data.draw(args.vlmbench, args.out / "data", suite, split, count, seed), suite)
        tensors, painted = data.prepare(samples, tokenizer, args.workers)
        prepared.append(tensors)
        painting.append(painted)
        del samples
    data.forget()
    # Capturing collects garbage, which is not to look at all that was read.
    gc.collect()
    gc.freeze()
    print(f"{len(prepared[1].suite)} samples after {time.monotonic() - start:.0f} s", flush=True)
    pictures = [samples.pictures for samples in prepared]
    for samples in prepared:
        samples.pictures = samples.pictures[:0]
    sources = [Batches(samples.to(args.device)) for samples in prepared]
    for names in ([LANGUAGE], args.models):
        if names != [LANGUAGE]:
            for wait in painting:
                wait()
            print(f"pictures after {time.monotonic() - start:.0f} s", flush=True)
            for source, all_of in zip(sources, pictures, strict=True):
                source.samples.pictures = all_of.to(args.device)
        trainings = [Training(args, name, sources[1], sources[0]) for name in names]
        for t in trainings:
            parts = {name: sum(p.numel() for p in part.parameters()) for name, part in t.model.named_children()}
            print(json.dumps({"model": t.kind, "parameters": parts}), flush=True)
        train(trainings, args)


if __name__ == "__main__":
    main()
