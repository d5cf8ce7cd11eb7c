"""Batches of views of pictures with what stands in them and what is asked, all made where the samples are: nothing here
waits for the device or has a shape that depends on data, so that a training step can be captured whole.
"""

import math
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from data import CANVAS, GROUND, NAME, ON, SIZE, SUITES, WHAT, Samples, X, Y
from torch import Tensor

# Images a batch at each side, about the same work; how often each is drawn; shares of the suites at it, in their order.
# Small print is mostly shown where it can be read; crops are as large as 512 for the grids that coarse last stages have there.
CROPS = {128: (96, 0.5, (6, 4, 2)), 256: (40, 0.33, (6, 4, 2)), 512: (12, 0.17, (6, 4, 2))}
WHOLES = {
    128: (96, 0.2, (4, 1, 4)),
    192: (56, 0.25, (4, 2, 4)),
    256: (40, 0.25, (4, 4, 3)),
    384: (20, 0.18, (3, 6, 2)),
    512: (12, 0.12, (3, 6, 2)),
}
# What the decoder learns on before it sees pictures: a stride, and how often each side of a picture comes at it.
WRITTEN = {
    16: {128: 0.09, 192: 0.08, 256: 0.08, 384: 0.04, 512: 0.03},
    32: {128: 0.05, 192: 0.04, 256: 0.06, 384: 0.05, 512: 0.05},
    64: {128: 0.05, 192: 0.05, 256: 0.12, 384: 0.12, 512: 0.14},
}
# Questions a batch of these, each about another picture; of pictures of more tokens than that, accordingly fewer.
CONVERSATIONS, TOKENS = 256, 200
# Positions of a crop that are asked of an encoder, and of a whole picture.
POINTS, ALL = 64, 192
# The least pixels an em that are taught, those of the beginning, and the most.
LEGIBLE, LARGE, HUGE = 8.0, 14.0, 100.0


def cubic(x: Tensor) -> Tensor:
    """Keys' kernel with -0.5, which is Pillow's."""
    x = x.abs()
    near, far = (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x < 1, near, torch.where(x < 2, far, 0.0))


def taps(begin: Tensor, span: Tensor, side: int) -> Tensor:
    """What each pixel of a canvas counts in each of a view, `(b, side, CANVAS)`, along one direction: resized bicubically with
    antialiasing, as Pillow does it."""
    begin, span = begin[:, None, None], span[:, None, None]
    at = torch.arange(CANVAS, device=span.device)
    middle = (torch.arange(side, device=span.device)[:, None] + 0.5) * span / side
    wide = (span / side).clamp(min=1)
    weights = cubic((at - begin + 0.5 - middle) / wide) * ((at >= begin) & (at < begin + span))
    # Beyond a canvas there is nothing to count.
    return weights / weights.sum(-1, keepdim=True).clamp(min=0.5 * wide)


def picked(count: Tensor) -> Tensor:
    """A number below each count by chance."""
    count = count.float()
    return torch.minimum(torch.rand_like(count) * count, count - 1).long().clamp(min=0)


@dataclass
class Views:
    """Squares of pictures. A pixel `x` of a canvas is `(x - left) / span` of the view."""

    samples: Samples
    index: Tensor  # (b)
    left: Tensor
    top: Tensor
    span: Tensor
    side: int

    @property
    def scale(self) -> Tensor:
        return self.side / self.span

    def pixels(self) -> Tensor:
        """`(b, 3, side, side)` in 0..1."""
        kind = torch.float32 if self.span.device.type == "cpu" else torch.float16
        canvas = self.samples.pictures[self.index].to(kind)
        across, down = (taps(begin, self.span, self.side).to(kind)[:, None] for begin in (self.left, self.top))
        wide = (canvas @ across.mT).round().clamp(0, 255)
        return (down @ wide).float().round().clamp(0, 255) / 255

    def at(self, rows: Tensor) -> "Views":
        """Some of them, perhaps several times."""
        index, left, top, span = (of[rows] for of in (self.index, self.left, self.top, self.span))
        return replace(self, index=index, left=left, top=top, span=span)

    def place(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Places `(b, n)` in 0..1."""
        return (x - self.left[:, None]) / self.span[:, None], (y - self.top[:, None]) / self.span[:, None]

    @cached_property
    def found(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """All marks `(b, n, 7)`, x and y of them, whether each is there, and whether it can be made out."""
        marks = self.samples.marks[self.index]
        x, y = self.place(marks[..., X], marks[..., Y])
        there = (marks[..., WHAT] >= 0) & (x >= 0) & (x < 1) & (y >= 0) & (y < 1)
        size = marks[..., SIZE]
        return marks, x, y, there, there & ((size == 0) | (size * self.scale[:, None] >= LEGIBLE))

    def marks(self) -> tuple[Tensor, Tensor]:
        """Of all that can be made out x and y in 0..1, size in 0..1, name and colour, `(b, n, 5)`, and what counts."""
        marks, x, y, _, clear = self.found
        size = torch.where(marks[..., SIZE] == 0, 0.1, marks[..., SIZE] / self.span[:, None]).clamp(min=1e-3)
        rows = torch.stack([x, y, size, marks[..., NAME], marks[..., ON]], -1)
        return rows * clear[..., None] + 1e-3 * ~clear[..., None], clear

    def points(self, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """Positions `(b, count, 2)` in 0..1 with what stands there, `(b, count)`: characters and objects that can be made
        out, or nothing (class 0); and the colour of the sign that a character is on (from 1), if there is one."""
        marks, x, y, there, clear = self.found
        empty = count // 16
        key, chosen = torch.rand_like(x).masked_fill(~clear, -1).topk(min(count - empty, x.shape[1]), 1)
        # -100 counts for nothing.
        named = [torch.where(key >= 0, marks[..., of].gather(1, chosen), -100) for of in (WHAT, GROUND)]
        at = torch.stack([x.gather(1, chosen), y.gather(1, chosen)], -1).clamp(0, 1)
        spot = torch.rand(len(x), empty, 2, device=x.device)
        near = ((spot[..., :1] - x[:, None]).abs() < 0.06) & ((spot[..., 1:] - y[:, None]).abs() < 0.06)
        nothing = torch.where((near & there[:, None]).any(2), -100.0, 0.0)
        what, ground = (torch.cat([of, nothing], 1).long() for of in named)
        return torch.cat([at, spot], 1), what, ground


@dataclass
class Asked:
    """Questions of a batch."""

    picture: Tensor  # (r) number of the view
    suite: Tensor  # (r)
    valid: Tensor  # (r) whether there was a question
    ids: Tensor  # (r, l)
    answer: Tensor  # (r, l) which of them are the answer
    places: Tensor  # (r, l, 2) in 0..1, else negative


class Batches:
    def __init__(self, samples: Samples) -> None:
        self.samples = samples
        device = samples.suite.device
        self.most = int(samples.asked.max())
        # By side and suite: pictures of which something can be asked, those without tables first, and how many there are
        # without and in all.
        self.askable: dict[int, tuple[Tensor, Tensor]] = {}
        for side in WHOLES:
            enough = samples.least * (side / samples.span.repeat_interleave(samples.asked)) >= LEGIBLE
            there = torch.segment_reduce(enough.float(), "sum", lengths=samples.asked, unsafe=True) > 0
            rows, counts = [], []
            for suite in range(len(SUITES)):
                mine = there & (samples.suite == suite)
                plain, table = (torch.nonzero(mine & (samples.table == with_one))[:, 0] for with_one in (False, True))
                rows.append(torch.cat([plain, table]))
                counts.append((len(plain), len(plain) + len(table)))
            table = torch.zeros(len(SUITES), max(map(len, rows)), dtype=torch.long, device=device)
            for suite, row in enumerate(rows):
                table[suite, : len(row)] = row
            self.askable[side] = table, torch.tensor(counts, device=device)
        # Samples of a suite follow each other.
        self.each = torch.bincount(samples.suite, minlength=len(SUITES))
        self.start = self.each.cumsum(0) - self.each

    def suites(self, count: int, shares: Tensor) -> Tensor:
        """Suites `(count)` by chance."""
        limits = shares.cumsum(0) / shares.sum()
        return (torch.rand(count, 1, device=shares.device) >= limits).sum(1).clamp(max=len(SUITES) - 1)

    def wholes(self, side: int, suites: Tensor, tables: Tensor) -> Views:
        """Whole pictures of which something can be asked, padded to squares as the recipes say; so much of those with tables
        as there are."""
        table, counts = self.askable[side]
        plain, all_of = counts[suites].unbind(1)
        index = table[suites, picked((plain + tables * (all_of - plain)).floor())]
        span = self.samples.span[index].float()
        begin = ((CANVAS - span) / 2).floor()
        return Views(self.samples, index, begin, begin, span, side)

    def crops(self, side: int, suites: Tensor, least: Tensor, cut: Tensor) -> Views:
        """Squares around words or objects, print of at least so many pixels an em; so often words may be cut off."""
        s, chance = self.samples, lambda: torch.rand(len(suites), device=suites.device)
        index = self.start[suites] + picked(self.each[suites])
        word = s.words[index, picked(s.worded[index])]
        x, y, width, drawn = word.unbind(1)
        may_cut = chance() < cut
        em = (least.log() + chance() * (math.log(HUGE) - least.log())).exp()
        # No more than three times as large as drawn, and with room for all of it unless it may be cut.
        room = torch.where(may_cut, math.inf, 0.92 * side * drawn / width.clamp(min=1))
        span = (side * drawn / torch.minimum(torch.minimum(em, 3 * drawn), room).clamp(min=LEGIBLE)).clamp(min=16)
        slack = torch.where(may_cut, width / 2, torch.minimum(0.3 * drawn, 0.5 * (span - width)).clamp(min=0))
        dx, dy = (2 * chance() - 1) * slack, (2 * chance() - 1) * 0.3 * drawn
        thing = drawn == 0
        span = torch.where(thing, s.span[index] * (0.3 + 0.6 * chance()), span).round()
        dx, dy = (torch.where(thing, (2 * chance() - 1) * 0.06 * span, d) for d in (dx, dy))
        return Views(s, index, (x + dx - span / 2).round(), (y + dy - span / 2).round(), span, side)

    def questions(self, seen: Views, most: int) -> Asked:
        """Up to so many questions about every view whose answers can be made out: the others would teach to answer without
        looking."""
        s, rows = self.samples, len(seen.index)
        number = torch.arange(self.most, device=seen.index.device)
        turns = (s.first[seen.index][:, None] + number).clamp(max=len(s.least) - 1)
        there = number < s.asked[seen.index][:, None]
        there &= s.least[turns] * seen.scale[:, None] >= LEGIBLE
        key, chosen = torch.rand(there.shape, device=there.device).masked_fill(~there, -1).topk(most, 1)
        turn = turns.gather(1, chosen).flatten()
        picture = torch.arange(rows, device=turn.device).repeat_interleave(most)
        at = torch.arange(s.ids.shape[1], device=turn.device)
        answer = (at >= s.begin[turn][:, None]) & (at < s.end[turn][:, None])
        x, y, size = s.places[turn].unbind(-1)
        shown = seen.at(picture)
        known = (x >= 0) & (size * shown.scale[:, None] >= LEGIBLE)
        places = torch.where(known[..., None], torch.stack(shown.place(x, y), -1), -1)
        valid = (key >= 0).flatten()
        return Asked(picture, s.suite[shown.index], valid, s.ids[turn], answer & valid[:, None], places)
