"""The vision-language model around an encoder, and the head that teaches encoders to read."""

import math
from pathlib import Path

import torch
import words as vocabulary
from batches import Asked
from data import CLASSES, COLORS
from decoder import Decoder, numbers
from encoders import encoder
from oracle import Oracle, bands
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F

# The "model" whose decoder the others begin with.
LANGUAGE = "language"
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
        scaled = torch.stack([points[..., 0] * w, points[..., 1] * h], -1)
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
        self.register_buffer("head", torch.tensor(self.before), persistent=False)

    def tokens(self, text: str) -> list[int]:
        return self.words.encode(text, add_special_tokens=False).ids

    def tokens_of(self, features: Tensor) -> Tensor:
        """Visual tokens `(b, n, width)`."""
        tokens = self.projector(features.flatten(2).transpose(1, 2)).float()
        if self.training and isinstance(self.encoder, Oracle):
            # No encoder will ever make quite these tokens.
            noise = BLUR * torch.rand(len(tokens), 1, 1, device=tokens.device) * tokens.detach().std()
            tokens = tokens + noise * torch.randn_like(tokens)
        return tokens

    def inputs(self, tokens: Tensor | None, ids: Tensor) -> Tensor:
        parts = [self.decoder.embed(self.head).expand(len(ids), -1, -1)]
        if tokens is not None:
            parts.append(tokens)
        return torch.cat([*parts, self.decoder.embed(ids)], 1)

    def pointing(self, looks: Tensor, grid: int, places: Tensor) -> Tensor:
        """What a head misses of the cells it should look at: attention `(b, n, keys)`, places `(b, n, 2)`."""
        ahead = len(self.before)
        known = places[..., 0] >= 0
        x, y = (places * grid).long().clamp(0, grid - 1).unbind(-1)
        seen = looks[..., ahead : ahead + grid * grid].gather(2, (y * grid + x)[..., None])[..., 0]
        return -((seen + 1e-4).log() * known).sum() / known.sum().clamp(min=1)

    def loss(self, visual: Tensor | None, asked: Asked) -> tuple[Tensor, Tensor, Tensor]:
        """Of every token of the answers, of the heads that are taught where to look, and which answers are right as a
        whole, for a square of visual tokens a question."""
        length = asked.ids.shape[1]
        hidden, attention = self.decoder(self.inputs(visual, asked.ids), length + 1)
        hidden, wanted, chosen = hidden[:, -length:-1], asked.ids[:, 1:], asked.answer[:, 1:]
        pointing = hidden.new_zeros(())
        if visual is not None:
            # What comes next is looked for one token before.
            for heads, of, begin in ((KEYS, ~asked.answer, 1), (NEXT, asked.answer, 0)):
                places = asked.places.where(of[..., None] & asked.valid[:, None, None], -1)
                for layer, head in heads:
                    looks = attention[layer][:, head, begin : begin + length]
                    pointing = pointing + self.pointing(looks, math.isqrt(visual.shape[1]), places)
        logits = self.decoder.logits(hidden)
        right = ((logits.argmax(-1) == wanted) | ~chosen).all(1)
        # Between a mean over tokens, in which a letter would not count beside a line, and one over answers.
        weights = chosen * chosen.sum(1, keepdim=True).clamp(min=1).rsqrt()
        loss = F.cross_entropy(logits.flatten(0, 1).float(), wanted.flatten(), reduction="none")
        return (loss.view_as(weights) * weights).sum() / weights.sum().clamp(min=1), pointing, right

    @torch.no_grad()
    def answer(self, features: Tensor | None, prompts: list[str], most: int = 24) -> list[str]:
        """Greedy answers."""
        visual = None if features is None else self.tokens_of(features)
        said = []
        for i, prompt in enumerate(prompts):
            ids = self.tokens(vocabulary.asked(prompt))
            asked = len(ids)
            while len(ids) - asked < most:
                one = None if visual is None else visual[i : i + 1]
                hidden, _ = self.decoder(self.inputs(one, torch.tensor([ids], device=self.head.device)))
                ids.append(int(self.decoder.logits(hidden[0, -1]).argmax()))
                if ids[-1] == self.eos:
                    break
            said.append(self.words.decode([i for i in ids[asked:] if i != self.eos]))
        return said


def load_words(path: Path) -> Tokenizer:
    return Tokenizer.from_file(str(path))
