"""The vision-language model around an encoder, and the head that teaches encoders to read."""

import math
from pathlib import Path

import torch
import words as vocabulary
from data import CLASSES, COLORS, Turn
from decoder import Decoder, numbers
from encoders import encoder
from oracle import Oracle, bands
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F

IGNORED = -100
# The "model" whose decoder the others begin with.
LANGUAGE = "language"
# Of a token that stands nowhere in a picture.
NOWHERE = (-1.0, -1.0)
# The most noise in the oracle's tokens, in deviations.
BLUR = 0.5
# Heads that are taught where to look, by layer: from words of a question at where these stand in the picture, and from the
# answer so far at its next character. That is soon learnt where there is little to look at; where a word has to be found
# first, it takes another layer.
KEYS, NEXT = ((1, 0),), ((1, 3), (2, 0))


class Reader(nn.Module):
    """What stands at a position: from the one visual token in whose cell it lies, or from between the nearest four.

    From one token, the encoder has to put into it all that is written in its cell, and where; a decoder can then spell
    it. Between tokens is quicker to learn, for earlier maps.
    """

    BANDS = 6

    def __init__(self, features: int, between: bool, width: int = 256) -> None:
        super().__init__()
        self.between = between
        self.content = nn.Linear(features, width)
        self.place = nn.Linear(4 * self.BANDS, width)
        self.mix = nn.Linear(width, width)
        self.gate = nn.Linear(4 * self.BANDS, width)
        self.out = nn.Linear(width, len(CLASSES))
        self.ground = nn.Linear(width, 1 + len(COLORS))

    def forward(self, features: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
        """A map `(b, c, h, w)` and points `(b, n, 2)` as x, y in 0..1 to scores `(b, n, classes)` of what stands there
        and of the colour of the sign it is on."""
        b, c, h, w = features.shape
        scaled = points * points.new_tensor([w, h])
        cell = scaled.floor().clamp(max=w - 1).clamp(min=0)
        if self.between:
            grid = (points * 2 - 1)[:, None].to(features.dtype)
            found = F.grid_sample(features, grid, mode="bilinear", padding_mode="border", align_corners=False)
            tokens = self.content(found[:, :, 0].transpose(1, 2))
        else:
            index = (cell[..., 1] * w + cell[..., 0]).long()
            tokens = self.content(features.flatten(2).transpose(1, 2))
            tokens = tokens.gather(1, index[..., None].expand(-1, -1, tokens.shape[-1]))
        offset = scaled - cell - 0.5
        inside = bands(offset, self.BANDS)
        hidden = F.gelu(tokens + self.place(inside))
        hidden = F.gelu(self.mix(hidden) * (1 + self.gate(inside)))
        return self.out(hidden), self.ground(hidden)


def readers(widths: tuple[int, ...], token: int) -> nn.ModuleList:
    """One for each map that is taught, of which only the last reads from cells, and one for visual tokens."""
    last = len(widths) - 1
    maps = [Reader(width, between=i < last) for i, width in enumerate(widths)]
    return nn.ModuleList([*maps, Reader(token, between=False)])


def unit(pixels: Tensor) -> Tensor:
    """Pixels `(b, h, w, 3)` of 0 to 255 to `(b, 3, h, w)` of 0 to 1."""
    return pixels.permute(0, 3, 1, 2).float() / 255


class Vlm(nn.Module):
    """LLaVA: encoder, projector, decoder. The language model alone has an oracle for its encoder."""

    def __init__(self, name: str, words: Tokenizer, vocab: int) -> None:
        super().__init__()
        self.encoder = Oracle() if name == LANGUAGE else encoder(name)
        self.decoder = Decoder(numbers(vocab))
        width = self.decoder.model.embed_tokens.weight.shape[1]
        self.projector = nn.Sequential(
            nn.Linear(self.encoder.config.features, width), nn.GELU(), nn.Linear(width, width)
        )
        self.words = words
        self.eos = words.token_to_id(vocabulary.END)
        self.before = self.tokens(vocabulary.BEFORE_IMAGE)

    @property
    def device(self) -> torch.device:
        return self.projector[0].weight.device

    def tokens(self, text: str) -> list[int]:
        return self.words.encode(text, add_special_tokens=False).ids

    def visual(self, pixels: Tensor) -> Tensor:
        return self.encoder(pixels)

    def asked(self, prompt: str) -> str:
        """What stands between a picture and the answer."""
        return "\n" + prompt + vocabulary.AFTER_TURN

    def batch(self, turns: list[Turn]) -> tuple[Tensor, Tensor, Tensor]:
        """Ids, padded at the end, targets (the answers only), and where each id stands in the picture if that is known
        (x and y in 0..1, else negative)."""
        rows, targets, places = [], [], []
        for turn in turns:
            encoded = self.words.encode(self.asked(turn.prompt), add_special_tokens=False)
            question = encoded.ids
            # The text begins with a line break, which is not the prompt's.
            named = [turn.keys.get(start - 1, NOWHERE) for start, _ in encoded.offsets]
            spelt = self.words.encode(turn.answer, add_special_tokens=False)
            said = spelt.ids + [self.eos]
            rows.append(question + said)
            targets.append([IGNORED] * len(question) + said)
            known = [turn.places[start] for start, _ in spelt.offsets] if turn.places else [NOWHERE] * len(spelt)
            places.append(named + known + [NOWHERE])
        longest = max(map(len, rows))

        def padded(all_rows: list[list], fill: object) -> Tensor:
            return torch.tensor([row + [fill] * (longest - len(row)) for row in all_rows], device=self.device)

        return padded(rows, 0), padded(targets, IGNORED), padded(places, NOWHERE)

    def tokens_of(self, features: Tensor) -> Tensor:
        """Visual tokens `(b, n, width)`."""
        tokens = self.projector(features.flatten(2).transpose(1, 2)).float()
        if self.training and isinstance(self.encoder, Oracle):
            # No encoder will ever make quite these tokens.
            noise = BLUR * torch.rand(len(tokens), 1, 1, device=tokens.device) * tokens.detach().std()
            tokens = tokens + noise * torch.randn_like(tokens)
        return tokens

    def inputs(self, tokens: Tensor | None, ids: Tensor) -> Tensor:
        parts = [self.decoder.embed(ids.new_tensor(self.before)).expand(len(ids), -1, -1)]
        if tokens is not None:
            parts.append(tokens)
        return torch.cat([*parts, self.decoder.embed(ids)], 1)

    def pointing(self, attention: Tensor, grid: int, places: Tensor) -> Tensor:
        """What a head misses of the cells it should look at: attention `(b, n, keys)`, places `(b, n, 2)`."""
        ahead = len(self.before)
        known = places[..., 0] >= 0
        x, y = (places[known] * grid).long().clamp(max=grid - 1).unbind(-1)
        cells = y * grid + x
        seen = attention[:, :, ahead : ahead + grid * grid][known].float()
        return -(seen.gather(1, cells[:, None]) + 1e-4).log().sum() / max(1, len(cells))

    def loss(self, visual: Tensor | None, turns: list[Turn]) -> tuple[Tensor, Tensor, list[bool]]:
        """Of every token of the answers, of the heads that are taught where to look, and which answers are right as a
        whole, for a square of visual tokens a question."""
        ids, targets, places = self.batch(turns)
        hidden, attention = self.decoder(self.inputs(visual, ids))
        hidden = hidden[:, -ids.shape[1] : -1]
        wanted = targets[:, 1:]
        pointing = hidden.new_zeros(())
        if visual is not None:
            grid = math.isqrt(visual.shape[1])
            asked = targets == IGNORED
            # What comes next is looked for one token before.
            for heads, wanted_of, before in ((KEYS, asked, 0), (NEXT, ~asked, 1)):
                where = places.where(wanted_of[..., None], -1)
                begin = attention[0].shape[2] - ids.shape[1] - before
                for layer, head in heads:
                    looks = attention[layer][:, head, begin : begin + ids.shape[1]]
                    pointing = pointing + self.pointing(looks, grid, where)
        chosen = wanted != IGNORED
        logits = self.decoder.logits(hidden[chosen])
        missed = torch.zeros_like(wanted, dtype=torch.bool)
        missed[chosen] = logits.argmax(-1) != wanted[chosen]
        right = (~missed.any(1)).tolist()
        # Between a mean over tokens, in which a letter would not count beside a line, and one over answers.
        weights = chosen.sum(1, keepdim=True).rsqrt().expand_as(wanted)[chosen]
        loss = F.cross_entropy(logits.float(), wanted[chosen], reduction="none")
        return (loss * weights).sum() / weights.sum(), pointing, right

    @torch.no_grad()
    def answer(self, features: Tensor | None, prompts: list[str], most: int = 24) -> list[str]:
        """Greedy answers."""
        visual = None if features is None else self.tokens_of(features)
        said = []
        for i, prompt in enumerate(prompts):
            ids = self.tokens(self.asked(prompt))
            asked = len(ids)
            while len(ids) - asked < most:
                one = None if visual is None else visual[i : i + 1]
                hidden, _ = self.decoder(self.inputs(one, torch.tensor([ids], device=self.device)))
                ids.append(int(self.decoder.logits(hidden[0, -1]).argmax()))
                if ids[-1] == self.eos:
                    break
            said.append(self.words.decode([i for i in ids[asked:] if i != self.eos]))
        return said


def load_words(path: Path) -> Tokenizer:
    return Tokenizer.from_file(str(path))
