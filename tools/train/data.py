"""Training data as `vlmbench synth` draws it: pictures, questions, and where every character stands."""

import io
import json
import math
import random
import re
import subprocess
from dataclasses import dataclass, field, replace
from functools import cached_property
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image

SUITES = ("textvqa", "docvqa", "seedbench")
SHORT = "\nAnswer the question using a single word or phrase."
LETTER = "\nAnswer with the option's letter from the given choices directly."

# Images a batch at each side, about the same work; how often each is drawn; shares of the suites at it, in their order.
# Small print is mostly shown where it can be read; crops are as large as 512 for the grids that coarse last stages have there.
CROPS = {128: (24, 0.6, (6, 4, 2)), 256: (7, 0.28, (6, 4, 2)), 512: (2, 0.12, (6, 4, 2))}
WHOLES = {
    128: (18, 0.2, (4, 1, 4)),
    192: (12, 0.25, (4, 2, 4)),
    256: (7, 0.25, (4, 4, 3)),
    384: (4, 0.18, (3, 6, 2)),
    512: (2, 0.12, (3, 6, 2)),
}
# What the decoder learns on before it sees pictures: a stride, and how often each side of a picture comes at it.
WRITTEN = {
    16: {128: 0.11, 192: 0.1, 256: 0.08, 384: 0.03, 512: 0.02},
    32: {128: 0.05, 192: 0.04, 256: 0.04, 384: 0.03, 512: 0.03},
    64: {128: 0.06, 192: 0.06, 256: 0.12, 384: 0.1, 512: 0.13},
}
# Questions a batch of these, each about another picture; of pictures of more tokens than that, accordingly fewer.
CONVERSATIONS, TOKENS = 64, 200
# How often whole pictures come between crops.
BETWEEN = 0.3
# Pictures of a suite that crops are taken from, which are kept decoded.
KEPT = 1000
# Positions of a crop that are asked of an encoder, and of a whole picture.
POINTS, ALL = 64, 192
# Questions about one picture, each asked apart: in later turns a decoder copies what it has said before, which teaches
# less than half as much.
QUESTIONS = 3
# The least pixels an em that are taught, those of the beginning, and the most.
LEGIBLE, LARGE, HUGE = 8.0, 14.0, 100.0
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
    # Where characters of the question, by their number, stand, or the thing that their word names.
    keys: dict[int, tuple[float, float]] = field(default_factory=dict)


@dataclass
class Sample:
    suite: str
    png: bytes
    # Width and height.
    size: tuple[int, int]
    prompt: str
    answer: str
    # More questions with their answers.
    asks: list[Turn]
    texts: list[dict]
    objects: list[dict]

    @cached_property
    def table(self) -> bool:
        """Whether something is asked of what a row names."""
        return any(re.search(r" of [A-Z]", ask.prompt) for ask in self.asks)


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
        samples.append(
            Sample(
                suite,
                image["bytes"],
                (place["width"], place["height"]),
                asked,
                answer,
                asks,
                place["texts"],
                place["objects"],
            )
        )
    return samples


@dataclass
class View:
    """What an encoder sees: a square of a picture. A pixel `x` of the picture is `(x - left) / span` of the view."""

    side: int
    left: float
    top: float
    span: float
    pixels: np.ndarray | None = None

    @property
    def scale(self) -> float:
        """Of a pixel of the picture."""
        return self.side / self.span

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Of a place in tenths of a pixel."""
        return (x / 10 - self.left) / self.span, (y / 10 - self.top) / self.span

    def of(self, image: Image.Image) -> "View":
        """With pixels: cut out, black beyond the edges, resized."""
        cut = image.crop((self.left, self.top, self.left + self.span, self.top + self.span))
        if self.span != self.side:
            cut = cut.resize((self.side, self.side), Image.Resampling.BICUBIC)
        return replace(self, pixels=np.asarray(cut))


def whole(size: tuple[int, int], side: int) -> View:
    """All of a picture, padded to a square as the recipes say."""
    span = max(size)
    return View(side, -((span - size[0]) // 2), -((span - size[1]) // 2), span)


def opened(png: bytes) -> Image.Image:
    return Image.open(io.BytesIO(png)).convert("RGB")


def legible(text: dict, scale: float) -> bool:
    return text["size"] / 10 * scale >= LEGIBLE


def legible_turns(sample: Sample, scale: float) -> list[Turn]:
    """Questions whose answers can be made out: the others would teach to answer without looking."""
    small = [text["text"].lower() for text in sample.texts if not legible(text, scale)]
    asks = sample.asks or [Turn(sample.prompt, sample.answer)]
    return [ask for ask in asks if not any(ask.answer.lower() in text for text in small)]


def located(sample: Sample, turn: Turn, seen: View) -> Turn:
    """The question with where its answer is written, if it is, and what it names."""
    said = turn.answer.lower()
    found = [(text["text"].lower() != said, number) for number, text in enumerate(sample.texts) if said in text["text"].lower()]
    places, number = None, None
    if found:
        # Rather a text that is the answer than one in which it stands.
        _, number = min(found)
        text = sample.texts[number]
        at = text["text"].lower().index(said)
        xs, ys = (text[axis][at : at + len(said)] for axis in "xy")
        places = [seen.place(x, y) for x, y in zip(xs, ys, strict=True)]
    return replace(turn, places=places, keys=keys(sample, turn, seen, number))


def keys(sample: Sample, turn: Turn, seen: View, asked: int | None) -> dict[int, tuple[float, float]]:
    """Words of a question that stand once in the picture, or before the answer, or name one thing in it."""
    found = {}
    things = [(o["name"].split(), o["x"], o["y"]) for o in sample.objects]
    things += [([t["on"]], t["x"][len(t["x"]) // 2], t["y"][len(t["y"]) // 2]) for t in sample.texts if "on" in t]
    for word in re.finditer(r"[\w-]{3,}", turn.prompt.partition("\n")[0]):
        named = word.group().lower()
        texts = [
            (number, text, at.start())
            for number, text in enumerate(sample.texts)
            if legible(text, seen.scale) and (at := re.search(rf"\b{re.escape(named)}\b", text["text"].lower()))
        ]
        if len(texts) > 1:
            texts = [(number, text, at) for number, text, at in texts if number + 1 == asked]
        meant = [(x, y) for names, x, y in things if named in names]
        for i in range(len(named)):
            if len(texts) == 1:
                _, text, at = texts[0]
                found[word.start() + i] = seen.place(text["x"][at + i], text["y"][at + i])
            elif len(meant) == 1:
                found[word.start() + i] = seen.place(*meant[0])
    return found


COLORS = ("red", "blue", "green", "yellow", "orange", "purple", "black", "white")
SHAPES = ("circle", "square", "triangle", "star", "diamond", "cross", "ring", "heart")
CHARACTERS = [" "] + [chr(code) for code in range(33, 127)]
CLASSES = CHARACTERS + [f"{c} {s}" for c in COLORS for s in SHAPES]
CLASS = {c: i for i, c in enumerate(CLASSES)}


def some_turns(sample: Sample, seen: View, most: int, rng: random.Random) -> list[Turn]:
    turns = legible_turns(sample, seen.scale)
    return [located(sample, turn, seen) for turn in rng.sample(turns, min(most, len(turns)))]


def ground(text: dict) -> int:
    """The colour of the sign that a text is on, from 1; 0 on none."""
    return COLORS.index(text["on"]) + 1 if "on" in text else 0


def marks(sample: Sample, seen: View) -> list[tuple[float, float, int, int, float]]:
    """All in a view that can be made out: x and y in 0..1, a character or a shape, 1 and up for its colour or that of the
    sign it is on, size in 0..1."""
    found = []
    for text in sample.texts:
        if legible(text, seen.scale):
            on = ground(text)
            for c, x, y in zip(text["text"], text["x"], text["y"], strict=True):
                if c != " ":
                    found.append((*seen.place(x, y), CLASS[c], on, text["size"] / 10 / seen.span))
    for o in sample.objects:
        color, shape = o["name"].split()
        found.append((*seen.place(o["x"], o["y"]), len(CHARACTERS) + SHAPES.index(shape), 1 + COLORS.index(color), 0.1))
    return [mark for mark in found if 0 <= mark[0] < 1 and 0 <= mark[1] < 1]


def points(sample: Sample, seen: View, count: int, rng: random.Random) -> list[tuple[float, float, int, int]]:
    """Positions in 0..1 with what stands there: characters and objects that can be made out, or nothing (class 0); and
    the colour of the sign that a character is on (from 1), if there is one."""
    found, taken = [], []

    def add(x: float, y: float, name: str, clear: bool, on: int = 0) -> None:
        x, y = seen.place(x, y)
        taken.append((x, y))
        if clear and 0 <= x < 1 and 0 <= y < 1:
            found.append((x, y, CLASS[name], on))

    for text in sample.texts:
        for c, x, y in zip(text["text"], text["x"], text["y"], strict=True):
            if c != " ":
                add(x, y, c, legible(text, seen.scale), ground(text))
    for o in sample.objects:
        add(o["x"], o["y"], o["name"], True)
    rng.shuffle(found)
    found = found[: count - count // 16]
    for _ in range(count // 16):
        x, y = rng.random(), rng.random()
        if all(abs(x - a) > 0.06 or abs(y - b) > 0.06 for a, b in taken):
            found.append((x, y, 0, 0))
    # -100 counts for nothing.
    return found + [(0.0, 0.0, -100, -100)] * (count - len(found))


@dataclass
class Word:
    """A word somewhere in a picture; its middle, its width and its size in pixels."""

    x: float
    y: float
    width: float
    em: float


def word_list(sample: Sample) -> list[Word]:
    found = []
    for text in sample.texts:
        at, em = 0, text["size"] / 10
        for part in text["text"].split(" "):
            xs, ys = text["x"][at : at + len(part)], text["y"][at : at + len(part)]
            at += len(part) + 1
            if part:
                width = (xs[-1] - xs[0]) / 10 + em
                found.append(Word((xs[0] + xs[-1]) / 20, (ys[0] + ys[-1]) / 20, width, em))
    return found


def crops(
    sample: Sample, image: Image.Image, side: int, least: float, cut: bool, many: int, rng: random.Random
) -> list[View]:
    """Up to `many` squares around a word or an object."""
    made = []
    if sample.objects:
        for o in rng.sample(sample.objects, min(many, len(sample.objects))):
            span = round(max(image.size) * rng.uniform(0.3, 0.9))
            shift = [rng.uniform(-0.06, 0.06) * span for _ in range(2)]
            left, top = round(o["x"] / 10 + shift[0] - span / 2), round(o["y"] / 10 + shift[1] - span / 2)
            made.append(View(side, left, top, span).of(image))
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
        made.append(View(side, left, top, span).of(image))
    return made


def placed(rows: list[tuple[Sample, View]], count: int, rng: random.Random) -> dict[str, torch.Tensor]:
    """Points `(b, n, 2)`, classes and colours of signs `(b, n)`."""
    found = torch.tensor([points(sample, seen, count, rng) for sample, seen in rows])
    return {"points": found[..., :2], "classes": found[..., 2].long(), "grounds": found[..., 3].long()}


def stacked(rows: list[tuple[Sample, View]], count: int, rng: random.Random) -> dict[str, torch.Tensor]:
    """Pixels `(b, h, w, 3)`, and what stands at positions."""
    return {"pixels": torch.from_numpy(np.stack([seen.pixels for _, seen in rows]))} | placed(rows, count, rng)


def spoken(rows: list[tuple[Sample, View, list[Turn]]]) -> dict[str, list]:
    """Questions, the number of the picture each is about, and its suite."""
    flat = [(turn, number, sample.suite) for number, (sample, _, turns) in enumerate(rows) for turn in turns]
    return dict(zip(("turns", "pictures", "suites"), map(list, zip(*flat, strict=True)), strict=True))


def marked(rows: list[tuple[Sample, View]]) -> dict[str, torch.Tensor]:
    """All marks, each after the number of its picture, `(n, 6)`."""
    found = [(number, *mark) for number, (sample, seen) in enumerate(rows) for mark in marks(sample, seen)]
    return {"marks": torch.tensor(found).reshape(-1, 6)}


class Batches(torch.utils.data.IterableDataset):
    """Endless batches for a stage, each of one side."""

    def __init__(self, samples: list[Sample], seed: int, batch: float, stage: str, progress: Synchronized) -> None:
        self.samples = {suite: [s for s in samples if s.suite == suite] for suite in SUITES}
        self.seed, self.batch, self.stage, self.progress = seed, batch, stage, progress

    def __iter__(self):
        worker = torch.utils.data.get_worker_info()
        rng = random.Random(f"{self.seed} {self.stage} {worker.id if worker else 0}")
        yield from {"language": self.written, "read": self.cropped}.get(self.stage, self.asked)(rng)

    def count(self, of: int) -> int:
        return max(2, round(of * self.batch))

    def cropped(self, rng: random.Random):
        """Crops with what stands where, first of larger print, then of smaller too; between them whole pictures."""
        kept: dict[tuple[str, int], Image.Image] = {}
        while True:
            done = self.progress.value
            if rng.random() < BETWEEN:
                yield self.whole_batch(1.0, 1, rng)
                continue
            side = rng.choices(list(CROPS), [chance for _, chance, _ in CROPS.values()])[0]
            count, _, shares = CROPS[side]
            least = math.exp(math.log(LARGE) + min(1.0, done / 0.8) * math.log(LEGIBLE / LARGE))
            rows: list[tuple[Sample, View]] = []
            while len(rows) < self.count(count):
                suite = rng.choices(SUITES, shares)[0]
                index = rng.randrange(min(KEPT, len(self.samples[suite])))
                sample = self.samples[suite][index]
                image = kept.get((suite, index)) or opened(sample.png)
                kept[suite, index] = image
                made = crops(sample, image, side, least, rng.random() > done / CUT, 3, rng)
                rows += [(sample, seen) for seen in made]
            rows = rows[: self.count(count)]
            yield stacked(rows, POINTS, rng) | marked(rows)

    def questions(
        self, side: int, count: int, most: int, shares: tuple[float, ...], rng: random.Random, tables: float = 1.0
    ):
        """Samples, how they are seen at a side, and what is asked about them, at most so many questions a picture; so much
        of the pages with tables that there are."""
        rows: list[tuple[Sample, View, list[Turn]]] = []
        while len(rows) < self.count(count):
            sample = rng.choice(self.samples[rng.choices(SUITES, shares)[0]])
            if sample.table and rng.random() >= tables:
                continue
            seen = whole(sample.size, side)
            turns = some_turns(sample, seen, most, rng)
            if turns:
                rows.append((sample, seen, turns))
        return rows

    def whole_batch(self, more: float, most: int, rng: random.Random) -> dict:
        """Whole pictures with what stands where, so many times as much of them as is usual, and questions."""
        side = rng.choices(list(WHOLES), [chance for _, chance, _ in WHOLES.values()])[0]
        count, _, shares = WHOLES[side]
        asked = self.questions(side, count * more, most, shares, rng)
        rows = [(sample, seen.of(opened(sample.png))) for sample, seen, _ in asked]
        return stacked(rows, ALL, rng) | marked(rows) | spoken(asked)

    def asked(self, rng: random.Random):
        """Whole pictures with questions; where not all of the encoder is trained, there is time for more of both."""
        while True:
            yield self.whole_batch(1.5, QUESTIONS + 1, rng) if self.stage == "answer" else self.whole_batch(1.0, QUESTIONS, rng)

    def written(self, rng: random.Random):
        """Questions with all that stands in a picture instead of its pixels."""
        kinds = [(side, side // stride, chance) for stride, row in WRITTEN.items() for side, chance in row.items()]
        while True:
            side, grid, _ = rng.choices(kinds, [chance for _, _, chance in kinds])[0]
            signs, pages, scenes = WHOLES[side][2]
            # Where there is little to find, spelling is learnt first; then come pages, at last those with tables.
            done = self.progress.value
            shares = signs, min(1.0, max(0.0, (done - 0.08) / 0.15)) * pages, scenes
            tables = min(1.0, max(0.0, (done - 0.2) / 0.2))
            count = round(CONVERSATIONS * min(1.0, TOKENS / grid**2))
            rows = self.questions(side, count, 1, shares, rng, tables)
            shown = [(sample, seen) for sample, seen, _ in rows]
            yield {"grid": grid} | placed(shown, POINTS, rng) | marked(shown) | spoken(rows)
