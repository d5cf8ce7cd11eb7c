"""Training data as `vlmbench synth` draws it: pictures, questions, and where every character stands."""

import io
import json
import math
import random
import subprocess
from dataclasses import dataclass
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image

SUITES = ("textvqa", "docvqa", "seedbench")
SHORT = "\nAnswer the question using a single word or phrase."
LETTER = "\nAnswer with the option's letter from the given choices directly."
READ, NEAREST, THING = "Read the text", "Read the text in the middle", "What object is in the middle"

# Images a batch at each side, about the same work; how often each is drawn; shares of the suites at it. Small print is
# mostly shown where it can be read.
CROPS = {128: (24, 0.8, (4, 5, 2)), 256: (7, 0.2, (4, 5, 2))}
WHOLES = {
    128: (18, 0.15, (4, 1, 4)),
    192: (12, 0.2, (4, 2, 4)),
    256: (7, 0.25, (4, 4, 3)),
    384: (4, 0.2, (3, 6, 2)),
    512: (2, 0.2, (3, 6, 2)),
}
# Pictures of a suite that crops are taken from, which are kept decoded.
KEPT = 1000
# Questions about one picture, turn by turn.
TURNS = 5
# Batches of crops among those of whole pictures, so that spelling is not forgotten.
PRACTICE = 0.3
# The least pixels an em that are taught, those of the beginning, and the most.
LEGIBLE, LARGE, HUGE = 7.0, 14.0, 72.0
# The part of a stage on crops in which words may be cut off, so that few characters are to be read.
CUT = 0.4


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
class Turn:
    prompt: str
    answer: str
    # Where each character of the answer stands in the view, x and y in 0..1, if it is written there.
    places: list[tuple[float, float]] | None = None


@dataclass
class Sample:
    suite: str
    png: bytes
    prompt: str
    answer: str
    # More questions with their answers.
    asks: list[Turn]
    texts: list[dict]
    objects: list[dict]


def most_common(answers: list[str]) -> str:
    return max(answers, key=answers.count)


def prompt(suite: str, question: str, choices: list[str]) -> str:
    """As lmms-eval asks."""
    if suite == "seedbench":
        return question + "".join(f"\n{letter}. {c}" for letter, c in zip("ABCD", choices, strict=True)) + LETTER
    # TextVQA's question goes through capitalize().
    return (question.capitalize() if suite == "textvqa" else question) + SHORT


def read(path: Path, suite: str) -> list[Sample]:
    places = [json.loads(line) for line in path.with_suffix(".jsonl").read_text().splitlines()]
    samples = []
    for row, place in zip(pq.read_table(path).to_pylist(), places, strict=True):
        image = row["image"][0] if suite == "seedbench" else row["image"]
        if suite == "seedbench":
            asked, answer = prompt(suite, row["question"], [row[f"choice_{letter}"] for letter in "abcd"]), row["answer"]
        else:
            asked, answer = prompt(suite, row["question"], []), most_common(row["answers"])
        asks = [Turn(prompt(suite, ask["question"], ask.get("choices", [])), ask["answer"]) for ask in place["asks"]]
        # In words as well, which is learnt before the letters of choices.
        asks += [
            Turn(ask["question"] + SHORT, ask["choices"]["ABCD".index(ask["answer"])])
            for ask in place["asks"]
            if "choices" in ask
        ]
        samples.append(Sample(suite, image["bytes"], asked, answer, asks, place["texts"], place["objects"]))
    return samples


@dataclass
class View:
    """What an encoder sees: a square of a picture. A pixel `x` of the picture is `(x - left) / span` of the view."""

    pixels: np.ndarray
    left: float
    top: float
    span: float

    @property
    def scale(self) -> float:
        """Of a pixel of the picture."""
        return self.pixels.shape[0] / self.span

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Of a place in tenths of a pixel."""
        return (x / 10 - self.left) / self.span, (y / 10 - self.top) / self.span


def opened(png: bytes) -> Image.Image:
    return Image.open(io.BytesIO(png)).convert("RGB")


def view(image: Image.Image, left: int, top: int, span: int, side: int) -> View:
    """A square cut out, black beyond the edges, resized to `side` pixels."""
    cut = image.crop((left, top, left + span, top + span))
    if span != side:
        cut = cut.resize((side, side), Image.Resampling.BICUBIC)
    return View(np.asarray(cut), left, top, span)


def legible(text: dict, scale: float) -> bool:
    return text["size"] / 10 * scale >= LEGIBLE


def legible_turns(sample: Sample, side: int) -> list[Turn]:
    """Questions whose answers can be made out at a side: the others would teach to answer without looking."""
    scale = side / max(Image.open(io.BytesIO(sample.png)).size)
    small = [text["text"].lower() for text in sample.texts if not legible(text, scale)]
    asks = sample.asks or [Turn(sample.prompt, sample.answer)]
    return [ask for ask in asks if not any(ask.answer.lower() in text for text in small)]


def located(sample: Sample, turn: Turn, seen: View) -> Turn:
    """The question with where its answer is written, if it is."""
    for text in sample.texts:
        at = text["text"].lower().find(turn.answer.lower())
        if at >= 0:
            end = at + len(turn.answer)
            places = [seen.place(x, y) for x, y in zip(text["x"][at:end], text["y"][at:end], strict=True)]
            return Turn(turn.prompt, turn.answer, places)
    return turn


def whole(image: Image.Image, side: int) -> View:
    """Padded to a black square and resized as the recipes say."""
    width, height = image.size
    span = max(width, height)
    return view(image, -((span - width) // 2), -((span - height) // 2), span, side)


COLORS = ("red", "blue", "green", "yellow", "orange", "purple", "black", "white")
SHAPES = ("circle", "square", "triangle", "star", "diamond", "cross", "ring", "heart")
CLASSES = [" "] + [chr(code) for code in range(33, 127)] + [f"{c} {s}" for c in COLORS for s in SHAPES]
CLASS = {c: i for i, c in enumerate(CLASSES)}


def points(sample: Sample, seen: View, count: int, rng: random.Random) -> list[tuple[float, float, int]]:
    """Positions in 0..1 with what stands there: characters and objects that can be made out, or nothing (class 0)."""
    found, taken = [], []

    def add(x: float, y: float, name: str, clear: bool) -> None:
        x, y = seen.place(x, y)
        taken.append((x, y))
        if clear and 0 <= x < 1 and 0 <= y < 1:
            found.append((x, y, CLASS[name]))

    for text in sample.texts:
        for c, x, y in zip(text["text"], text["x"], text["y"], strict=True):
            if c != " ":
                add(x, y, c, legible(text, seen.scale))
    for o in sample.objects:
        add(o["x"], o["y"], o["name"], True)
    rng.shuffle(found)
    found = found[: count - count // 16]
    for _ in range(count // 16):
        x, y = rng.random(), rng.random()
        if all(abs(x - a) > 0.06 or abs(y - b) > 0.06 for a, b in taken):
            found.append((x, y, 0))
    # -100 counts for nothing.
    return found + [(0.0, 0.0, -100)] * (count - len(found))


@dataclass
class Word:
    """A word somewhere in a picture; its middle, its width and the places of its characters in pixels."""

    text: str
    x: float
    y: float
    width: float
    em: float
    xs: list[float]
    ys: list[float]

    def turn(self, view: "View") -> Turn:
        """A question for the part of it that can be read in a view."""
        margin = 0.2 * self.em / view.span
        places = [view.place(10 * x, 10 * y) for x, y in zip(self.xs, self.ys, strict=True)]
        inside = [all(margin <= v <= 1 - margin for v in place) for place in places]
        text = "".join(c for c, there in zip(self.text, inside, strict=True) if there)
        return Turn(NEAREST, text, [place for place, there in zip(places, inside, strict=True) if there])


def word_list(sample: Sample) -> list[Word]:
    found = []
    for text in sample.texts:
        at, em = 0, text["size"] / 10
        for part in text["text"].split(" "):
            xs, ys = text["x"][at : at + len(part)], text["y"][at : at + len(part)]
            at += len(part) + 1
            if part:
                xs, ys = [x / 10 for x in xs], [y / 10 for y in ys]
                width = xs[-1] - xs[0] + em
                found.append(Word(part, (xs[0] + xs[-1]) / 2, (ys[0] + ys[-1]) / 2, width, em, xs, ys))
    return found


def crops(
    sample: Sample, image: Image.Image, side: int, least: float, cut: bool, many: int, rng: random.Random
) -> list[tuple[View, Turn]]:
    """Up to `many` squares around a word or an object, with a question for it."""
    made = []
    if sample.objects:
        for o in rng.sample(sample.objects, min(many, len(sample.objects))):
            span = round(max(image.size) * rng.uniform(0.3, 0.9))
            shift = [rng.uniform(-0.06, 0.06) * span for _ in range(2)]
            left, top = round(o["x"] / 10 + shift[0] - span / 2), round(o["y"] / 10 + shift[1] - span / 2)
            seen = view(image, left, top, span, side)
            made.append((seen, Turn(THING, o["name"], [seen.place(o["x"], o["y"])] * len(o["name"]))))
        return made
    words = word_list(sample)
    for word in rng.sample(words, min(many, len(words))):
        em = math.exp(rng.uniform(math.log(least), math.log(HUGE)))
        # No more than three times as large as drawn, and with room for all of it unless it may be cut.
        em = min(em, 3 * word.em, math.inf if cut else 0.92 * side * word.em / word.width)
        if em < LEGIBLE:
            continue
        span = max(16, round(side * word.em / em))
        slack = word.width / 2 if cut else max(0.0, min(0.3 * word.em, 0.5 * (span - word.width)))
        dx, dy = rng.uniform(-slack, slack), rng.uniform(-0.3, 0.3) * word.em
        left, top = round(word.x + dx - span / 2), round(word.y + dy - span / 2)
        seen = view(image, left, top, span, side)
        turn = word.turn(seen)
        if turn.answer:
            made.append((seen, turn))
    return made


def legible_text(sample: Sample, seen: View) -> str | None:
    """All that is written, where that is little and can be made out."""
    text = " ".join(text["text"] for text in sample.texts)
    fits = 0 < len(text) <= 64 and all(legible(t, seen.scale) for t in sample.texts)
    return text if fits else None


def stacked(views: list[View], places: list[list[tuple[float, float, int]]]) -> dict[str, torch.Tensor]:
    """Pixels `(b, h, w, 3)`, points `(b, n, 2)` and classes `(b, n)`."""
    return {
        "pixels": torch.from_numpy(np.stack([seen.pixels for seen in views])),
        "points": torch.tensor([[p[:2] for p in row] for row in places]),
        "classes": torch.tensor([[p[2] for p in row] for row in places]),
    }


class Batches(torch.utils.data.IterableDataset):
    """Endless batches, each of one side: pixels, points, prompts and answers.

    While `progress` is below 1 they are crops, first of larger print, then of smaller too; later mostly whole pictures
    with their questions.
    """

    def __init__(self, samples: list[Sample], seed: int, batch: float, progress: Synchronized, count: int = 64) -> None:
        self.samples = {suite: [s for s in samples if s.suite == suite] for suite in SUITES}
        self.seed, self.batch, self.progress, self.count = seed, batch, progress, count

    def __iter__(self):
        worker = torch.utils.data.get_worker_info()
        rng = random.Random(f"{self.seed} {worker.id if worker else 0}")
        kept: dict[tuple[str, int], Image.Image] = {}
        while True:
            done = self.progress.value
            crop = done < 1 or rng.random() < PRACTICE
            plan = CROPS if crop else WHOLES
            side = rng.choices(list(plan), [chance for _, chance, _ in plan.values()])[0]
            size, _, shares = plan[side]
            size = max(2, round(size * self.batch))
            rows: list[tuple[Sample, View, list[Turn]]] = []
            while len(rows) < size:
                suite = rng.choices(SUITES, shares)[0]
                if crop:
                    index = rng.randrange(min(KEPT, len(self.samples[suite])))
                    sample = self.samples[suite][index]
                    image = kept.get((suite, index)) or opened(sample.png)
                    kept[suite, index] = image
                    least = math.exp(math.log(LARGE) + min(1.0, done / 0.8) * math.log(LEGIBLE / LARGE))
                    made = crops(sample, image, side, least, rng.random() > done / CUT, 3, rng)
                    rows += [(sample, seen, [turn]) for seen, turn in made]
                    continue
                sample = rng.choice(self.samples[suite])
                turns = legible_turns(sample, side)
                if not turns:
                    continue
                seen = whole(opened(sample.png), side)
                turns = [located(sample, turn, seen) for turn in rng.sample(turns, min(TURNS, len(turns)))]
                text = legible_text(sample, seen) if rng.random() < 0.25 else None
                rows.append((sample, seen, [Turn(READ, text), *turns] if text else turns))
            rows = rows[:size]
            dense = [points(sample, seen, self.count, rng) for sample, seen, _ in rows]
            yield {
                **stacked([seen for _, seen, _ in rows], dense),
                "turns": [turns for _, _, turns in rows],
                "suites": [sample.suite for sample, _, _ in rows],
            }
