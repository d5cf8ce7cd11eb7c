"""Training data as `vlmbench synth` draws it: pictures, questions, and where every character stands."""

import io
import json
import random
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image

SUITES = ("textvqa", "docvqa", "seedbench")
SHORT = "\nAnswer the question using a single word or phrase."
LETTER = "\nAnswer with the option's letter from the given choices directly."
READ = "Read the text"


def draw(vlmbench: Path, folder: Path, suite: str, split: str, samples: int, seed: int) -> Path:
    """Draws a data set unless it is there."""
    folder.mkdir(parents=True, exist_ok=True)
    out = folder / f"{suite}-{split}-{seed}-{samples}.parquet"
    if not out.exists():
        unfinished = out.with_suffix(".part")
        command = [vlmbench, "synth", suite, "--split", split, "--n", str(samples), "--seed", str(seed)]
        command += ["--out", unfinished, "--places", out.with_suffix(".jsonl")]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        unfinished.rename(out)
    return out


@dataclass
class Sample:
    suite: str
    png: bytes
    prompt: str
    answer: str
    texts: list[dict]
    objects: list[dict]


def most_common(answers: list[str]) -> str:
    return max(answers, key=answers.count)


def read(path: Path, suite: str) -> list[Sample]:
    places = [json.loads(line) for line in path.with_suffix(".jsonl").read_text().splitlines()]
    samples = []
    for row, place in zip(pq.read_table(path).to_pylist(), places, strict=True):
        image = row["image"][0] if suite == "seedbench" else row["image"]
        if suite == "seedbench":
            choices = "".join(f"\n{letter.upper()}. {row[f'choice_{letter}']}" for letter in "abcd")
            prompt, answer = row["question"] + choices + LETTER, row["answer"]
        else:
            # TextVQA's question goes through capitalize() in lmms-eval.
            question = row["question"].capitalize() if suite == "textvqa" else row["question"]
            prompt, answer = question + SHORT, most_common(row["answers"])
        samples.append(Sample(suite, image["bytes"], prompt, answer, place["texts"], place.get("objects", [])))
    return samples


def pixels(png: bytes, side: int) -> tuple[np.ndarray, tuple[float, float, float]]:
    """Padded to a black square and resized as the recipes say; with the offsets and side of the square."""
    image = Image.open(io.BytesIO(png)).convert("RGB")
    width, height = image.size
    square = max(width, height)
    left, top = (square - width) // 2, (square - height) // 2
    if width != height:
        padded = Image.new("RGB", (square, square))
        padded.paste(image, (left, top))
        image = padded
    if square != side:
        image = image.resize((side, side), Image.Resampling.BICUBIC)
    return np.asarray(image), (left, top, square)


COLORS = ("red", "blue", "green", "yellow", "orange", "purple", "black", "white")
SHAPES = ("circle", "square", "triangle", "star", "diamond", "cross", "ring", "heart")
CLASSES = [" "] + [chr(code) for code in range(33, 127)] + [f"{c} {s}" for c in COLORS for s in SHAPES]
CLASS = {c: i for i, c in enumerate(CLASSES)}


def points(sample: Sample, frame: tuple[float, float, float], count: int, rng: random.Random):
    """Positions in 0..1 with what stands there: characters, objects, or nothing (class 0)."""
    left, top, square = frame
    found = []
    for text in sample.texts:
        for c, x, y in zip(text["text"], text["x"], text["y"], strict=True):
            if c != " ":
                found.append(((x / 10 + left) / square, (y / 10 + top) / square, CLASS[c]))
    for o in sample.objects:
        found.append(((o["x"] / 10 + left) / square, (o["y"] / 10 + top) / square, CLASS[o["name"]]))
    empty = count // 6
    rng.shuffle(found)
    found = found[: count - empty]
    characters = [(x, y) for x, y, _ in found]
    for _ in range(4 * count):
        if len(found) == count:
            break
        x, y = rng.random(), rng.random()
        if all(abs(x - a) > 0.03 or abs(y - b) > 0.03 for a, b in characters):
            found.append((x, y, 0))
    # -100 counts for nothing.
    return found + [(0.0, 0.0, -100)] * (count - len(found))


class Batches(torch.utils.data.IterableDataset):
    """Endless batches, each of one resolution: pixels, points, prompts and answers."""

    def __init__(self, samples: list[Sample], sides: dict[int, int], seed: int, count: int = 64) -> None:
        self.samples, self.sides, self.seed, self.count = samples, sides, seed, count

    def __iter__(self):
        worker = torch.utils.data.get_worker_info()
        rng = random.Random(f"{self.seed} {worker.id if worker else 0}")
        order: list[int] = []
        sides = list(self.sides)
        while True:
            side = rng.choice(sides)
            size = self.sides[side]
            chosen = []
            while len(chosen) < size:
                if not order:
                    order = list(range(len(self.samples)))
                    rng.shuffle(order)
                chosen.append(self.samples[order.pop()])
            images, dense = [], []
            for sample in chosen:
                image, frame = pixels(sample.png, side)
                images.append(image)
                dense.append(points(sample, frame, self.count, rng))
            yield {
                "pixels": torch.from_numpy(np.stack(images)),
                "points": torch.tensor([[p[:2] for p in row] for row in dense]),
                "classes": torch.tensor([[p[2] for p in row] for row in dense]),
                "prompts": [sample.prompt for sample in chosen],
                "answers": [sample.answer for sample in chosen],
                "texts": [" ".join(text["text"] for text in sample.texts) for sample in chosen],
                "suites": [sample.suite for sample in chosen],
            }
