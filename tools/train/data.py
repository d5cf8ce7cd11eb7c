"""Training data as `vlmbench synth` draws it, as tensors: pictures, what stands where in them, and questions."""

import io
import json
import mmap
import multiprocessing
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image
from tokenizers import Tokenizer
from torch import Tensor
from words import END, asked

SUITES = ("textvqa", "docvqa", "seedbench")
SHORT = "\nAnswer the question using a single word or phrase."
LETTER = "\nAnswer with the option's letter from the given choices directly."

COLORS = ("red", "blue", "green", "yellow", "orange", "purple", "black", "white")
SHAPES = ("circle", "square", "triangle", "star", "diamond", "cross", "ring", "heart")
CHARACTERS = [" "] + [chr(code) for code in range(33, 127)]
CLASSES = CHARACTERS + [f"{c} {s}" for c in COLORS for s in SHAPES]
CLASS = {c: i for i, c in enumerate(CLASSES)}

# Pixels a side of what every picture is kept in the middle of, on black; no picture is larger.
CANVAS = 512
# Of a token that stands nowhere.
NOWHERE = -1e4
# Samples a task of a process that prepares them.
CHUNK = 64


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


def prompt(suite: str, question: str, choices: list[str]) -> str:
    """As lmms-eval asks."""
    if suite == "seedbench":
        return question + "".join(f"\n{letter}. {c}" for letter, c in zip("ABCD", choices, strict=True)) + LETTER
    # TextVQA's question goes through capitalize().
    return (question.capitalize() if suite == "textvqa" else question) + SHORT


@dataclass
class Sample:
    suite: str
    png: bytes
    # Width and height.
    size: tuple[int, int]
    prompt: str
    answer: str
    # All that can be asked, and what there is; places and sizes in tenths of a pixel.
    asks: list[dict]
    texts: list[dict]
    objects: list[dict]

    @property
    def turns(self) -> list[tuple[str, str]]:
        """Questions, as they are put to the model, and answers."""
        suite, asks = self.suite, self.asks
        found = [(prompt(suite, ask["question"], ask.get("choices", [])), ask["answer"]) for ask in asks]
        # In words as well, which is learnt before the letters of choices.
        found += [
            (ask["question"] + SHORT, ask["choices"]["ABCD".index(ask["answer"])]) for ask in asks if "choices" in ask
        ]
        return found

    @property
    def table(self) -> bool:
        """Whether something is asked of what a row names."""
        return any(re.search(r" of [A-Z]", ask["question"]) for ask in self.asks)

    @property
    def corner(self) -> tuple[int, int]:
        """Where the picture begins on its canvas."""
        return (CANVAS - self.size[0]) // 2, (CANVAS - self.size[1]) // 2


def read(path: Path, suite: str) -> list[Sample]:
    def most_common(answers: list[str]) -> str:
        return max(answers, key=answers.count)

    places = map(json.loads, path.with_suffix(".jsonl").read_text().splitlines())
    samples = []
    for row, place in zip(pq.read_table(path).to_pylist(), places, strict=True):
        image = row["image"][0] if suite == "seedbench" else row["image"]
        choices = [row[f"choice_{letter}"] for letter in "abcd"] if suite == "seedbench" else []
        samples.append(
            Sample(
                suite,
                image["bytes"],
                (place["width"], place["height"]),
                prompt(suite, row["question"], choices),
                row["answer"] if suite == "seedbench" else most_common(row["answers"]),
                place["asks"],
                place["texts"],
                place["objects"],
            )
        )
    return samples


def opened(png: bytes) -> Image.Image:
    return Image.open(io.BytesIO(png)).convert("RGB")


# What stands in a picture: x and y, size in pixels (0 of an object), what it is and the colour of the sign it is on as an
# encoder should name it, and both as the oracle takes them. Without any, class -1.
X, Y, SIZE, WHAT, GROUND, NAME, ON = range(7)


def ground(text: dict) -> int:
    """The colour of the sign that a text is on, from 1; 0 on none."""
    return COLORS.index(text["on"]) + 1 if "on" in text else 0


def marks(sample: Sample) -> list[tuple[float, ...]]:
    """All characters and objects."""
    left, top = sample.corner
    found = []
    for text in sample.texts:
        on, size = ground(text), text["size"] / 10
        for c, x, y in zip(text["text"], text["x"], text["y"], strict=True):
            if c != " ":
                found.append((x / 10 + left, y / 10 + top, size, CLASS[c], on, CLASS[c], on))
    for thing in sample.objects:
        color, shape = thing["name"].split()
        name, on = len(CHARACTERS) + SHAPES.index(shape), 1 + COLORS.index(color)
        found.append((thing["x"] / 10 + left, thing["y"] / 10 + top, 0, CLASS[thing["name"]], 0, name, on))
    return found


def words_of(sample: Sample) -> list[tuple[float, ...]]:
    """The middle of every word, its width and its size in pixels; of objects the size is 0."""
    left, top = sample.corner
    found = [(thing["x"] / 10 + left, thing["y"] / 10 + top, 0.0, 0.0) for thing in sample.objects]
    for text in sample.texts:
        at, em = 0, text["size"] / 10
        for part in text["text"].split(" "):
            xs, ys = text["x"][at : at + len(part)], text["y"][at : at + len(part)]
            at += len(part) + 1
            if part:
                width = (xs[-1] - xs[0]) / 10 + em
                found.append(((xs[0] + xs[-1]) / 20 + left, (ys[0] + ys[-1]) / 20 + top, width, em))
    return found


def answered(sample: Sample, answer: str) -> tuple[int | None, list[tuple[float, float]], float]:
    """The number of the text that an answer is written in, where each of its characters is, and the least size in which it
    is written anywhere."""
    said = answer.lower()
    found = [(t["text"].lower() != said, number) for number, t in enumerate(sample.texts) if said in t["text"].lower()]
    if not found:
        return None, [], np.inf
    # Rather a text that is the answer than one in which it stands.
    _, number = min(found)
    text = sample.texts[number]
    at = text["text"].lower().index(said)
    places = list(zip(text["x"][at : at + len(said)], text["y"][at : at + len(said)], strict=True))
    return number, places, min(sample.texts[number]["size"] for _, number in found) / 10


def keys(sample: Sample, question: str, number: int | None) -> dict[int, tuple[float, float, float]]:
    """Where characters of a question stand, by their number, and in which size: of words that stand once in the picture, or
    before the answer, or name one thing in it."""
    found = {}
    things = [(o["name"].split(), o["x"], o["y"]) for o in sample.objects]
    things += [([t["on"]], t["x"][len(t["x"]) // 2], t["y"][len(t["y"]) // 2]) for t in sample.texts if "on" in t]
    for word in re.finditer(r"[\w-]{3,}", question):
        named = word.group().lower()
        texts = [
            (i, text, at.start())
            for i, text in enumerate(sample.texts)
            if named in text["text"].lower() and (at := re.search(rf"\b{re.escape(named)}\b", text["text"].lower()))
        ]
        if len(texts) > 1:
            texts = [(i, text, at) for i, text, at in texts if i + 1 == number]
        meant = [(x, y) for names, x, y in things if named in names]
        for i in range(len(named)):
            if len(texts) == 1:
                _, text, at = texts[0]
                found[word.start() + i] = text["x"][at + i], text["y"][at + i], text["size"] / 10
            elif len(meant) == 1:
                found[word.start() + i] = *meant[0], np.inf
    return found


@dataclass
class Turn:
    """A question with its answer: ids, how many of them ask, where each stands (x, y, size in pixels), and the least size in
    which the answer is written."""

    ids: list[int]
    asks: int
    places: list[tuple[float, float, float]]
    least: float


def turn(sample: Sample, asks: str, answer: str, words: Tokenizer) -> Turn:
    left, top = sample.corner
    number, written, least = answered(sample, answer)
    named = keys(sample, asks.partition("\n")[0], number)
    # The text begins with a line break, which is not the prompt's.
    question = words.encode(asked(asks), add_special_tokens=False)
    said = words.encode(answer, add_special_tokens=False)
    places = [named.get(start - 1) for start, _ in question.offsets]
    places += [(*written[start], np.inf) if written else None for start, _ in said.offsets] + [None]
    return Turn(
        question.ids + said.ids + [words.token_to_id(END)],
        len(question.ids),
        [(p[0] / 10 + left, p[1] / 10 + top, p[2]) if p else (NOWHERE, NOWHERE, 0.0) for p in places],
        least,
    )


def padded(rows: list[list], fill: float, *width: int) -> np.ndarray:
    """Rows of numbers, or of tuples of so many, filled up to the longest."""
    whole = np.full((len(rows), max(map(len, rows)), *width), fill, np.float32 if width else np.int64)
    for i, row in enumerate(rows):
        if row:
            whole[i, : len(row)] = row
    return whole


def joined(parts: list[np.ndarray], fill: float) -> Tensor:
    """Along the first dimension, filled up along the second to a multiple of 8."""
    longest = (max(part.shape[1] for part in parts) + 7) // 8 * 8
    rest = parts[0].shape[2:]
    whole = np.full((sum(map(len, parts)), longest, *rest), fill, parts[0].dtype)
    at = 0
    for part in parts:
        whole[at : at + len(part), : part.shape[1]] = part
        at += len(part)
    return torch.from_numpy(whole)


@dataclass
class Samples:
    """Of `n` pictures with `t` questions."""

    pictures: Tensor  # (n, 3, CANVAS, CANVAS), bytes
    suite: Tensor  # (n)
    span: Tensor  # (n) longer side in pixels
    table: Tensor  # (n)
    marks: Tensor  # (n, m, 7)
    words: Tensor  # (n, w, 4)
    worded: Tensor  # (n) how many words
    first: Tensor  # (n) number of the first question
    asked: Tensor  # (n) how many questions
    ids: Tensor  # (t, l) of question and answer
    begin: Tensor  # (t) where the answer begins
    end: Tensor  # (t) where it ends
    places: Tensor  # (t, l, 3)
    least: Tensor  # (t)

    def to(self, device: str) -> "Samples":
        return Samples(**{name: value.to(device) for name, value in vars(self).items()})


# What processes that prepare samples share with the one that forked them.
_samples: list[Sample] = []
_words: Tokenizer
_canvas: np.ndarray


def _described(begin: int) -> tuple:
    some = _samples[begin : begin + CHUNK]
    turns = [[turn(s, *ask, _words) for ask in s.turns] for s in some]
    flat = [one for row in turns for one in row]
    words = [words_of(s) for s in some]
    return (
        padded([marks(s) for s in some], -1, 7),
        padded(words, 0, 4),
        [len(row) for row in words],
        [len(row) for row in turns],
        padded([one.ids for one in flat], 0),
        [(one.asks, len(one.ids), one.least) for one in flat],
        padded([one.places for one in flat], NOWHERE, 3),
    )


def _painted(begin: int) -> None:
    for i, sample in enumerate(_samples[begin : begin + CHUNK], begin):
        (left, top), (width, height) = sample.corner, sample.size
        _canvas[i, :, top : top + height, left : left + width] = np.asarray(opened(sample.png)).transpose(2, 0, 1)


def prepare(samples: list[Sample], words: Tokenizer, workers: int) -> tuple[Samples, Callable[[], None]]:
    """All samples as tensors, their pictures black until the function that is returned has waited for them."""
    global _samples, _words, _canvas
    _samples, _words = samples, words
    shape = (len(samples), 3, CANVAS, CANVAS)
    _canvas = np.frombuffer(mmap.mmap(-1, int(np.prod(shape))), np.uint8).reshape(shape)
    pictures = torch.from_numpy(_canvas)
    pool = multiprocessing.get_context("fork").Pool(workers)
    begins = range(0, len(samples), CHUNK)
    described = pool.map(_described, begins, chunksize=1)
    painted = pool.map_async(_painted, begins, chunksize=1)
    pool.close()
    marked, worded, wordy, counts, ids, numbers, places = zip(*described, strict=True)
    turns = torch.tensor(sum(counts, []))
    begin, end, least = map(torch.tensor, zip(*sum(numbers, []), strict=True))
    return Samples(
        pictures,
        torch.tensor([SUITES.index(s.suite) for s in samples]),
        torch.tensor([max(s.size) for s in samples]),
        torch.tensor([s.table for s in samples]),
        joined(list(marked), -1),
        joined(list(worded), 0),
        torch.tensor(sum(wordy, [])),
        turns.cumsum(0) - turns,
        turns,
        joined(list(ids), 0),
        begin,
        end,
        joined(list(places), NOWHERE),
        least.float(),
    ), painted.get


def forget() -> None:
    """What processes were given that have begun."""
    global _samples
    _samples = []
