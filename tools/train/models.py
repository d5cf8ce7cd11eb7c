"""The vision-language model around an encoder, and the head that teaches encoders to read."""

import math
from pathlib import Path

import torch
import words as vocabulary
from data import CLASSES, Turn
from encoders import encoder
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import Qwen2Config, Qwen2ForCausalLM

IGNORED = -100
# Of a token that stands nowhere in a picture.
NOWHERE = (-1.0, -1.0)
# Deviation of the decoder's weights at the beginning; transformers' is meant for wider ones.
INITIAL = 0.05
# The layer and the head that are taught to look where the next character of an answer stands.
POINTER = 1, 0


def decoder_numbers(vocab: int) -> dict:
    return {
        "hidden_size": 192,
        "intermediate_size": 512,
        "num_hidden_layers": 4,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "vocab_size": vocab,
        "rope_theta": 10000.0,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": True,
        "max_position_embeddings": 2048,
    }


class Reader(nn.Module):
    """What stands at a position: from the one visual token in whose cell it lies, or from between the nearest four.

    From one token, the encoder has to put into it all that is written in its cell, and where; a decoder can then spell
    it. Between tokens is quicker to learn, for earlier maps.
    """

    BANDS = 6

    def __init__(self, features: int, classes: int, between: bool, width: int = 256) -> None:
        super().__init__()
        self.between = between
        self.content = nn.Linear(features, width)
        self.place = nn.Linear(4 * self.BANDS, width)
        self.mix = nn.Linear(width, width)
        self.gate = nn.Linear(4 * self.BANDS, width)
        self.out = nn.Linear(width, classes)

    def forward(self, features: Tensor, points: Tensor) -> Tensor:
        """A map `(b, c, h, w)` and points `(b, n, 2)` as x, y in 0..1 to scores `(b, n, classes)`."""
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
        angles = offset[..., None] * (math.pi * 2.0 ** torch.arange(self.BANDS, device=points.device) / 2)
        bands = torch.cat([angles.sin(), angles.cos()], -1).flatten(2)
        hidden = F.gelu(tokens + self.place(bands))
        hidden = F.gelu(self.mix(hidden) * (1 + self.gate(bands)))
        return self.out(hidden)


def readers(widths: tuple[int, ...]) -> nn.ModuleList:
    """One for each map that is taught; only the last one reads from cells."""
    last = len(widths) - 1
    return nn.ModuleList(Reader(width, len(CLASSES), between=i < last) for i, width in enumerate(widths))


def unit(pixels: Tensor) -> Tensor:
    """Pixels `(b, h, w, 3)` of 0 to 255 to `(b, 3, h, w)` of 0 to 1."""
    return pixels.permute(0, 3, 1, 2).float() / 255


class Vlm(nn.Module):
    """LLaVA: encoder, projector, decoder."""

    def __init__(self, name: str, words: Tokenizer, vocab: int) -> None:
        super().__init__()
        self.encoder = encoder(name)
        numbers = decoder_numbers(vocab)
        width = numbers["hidden_size"]
        self.projector = nn.Sequential(
            nn.Linear(self.encoder.config.features, width), nn.GELU(), nn.Linear(width, width)
        )
        # Written out, attention is quicker backwards on the CPU in bf16.
        self.decoder = Qwen2ForCausalLM(
            Qwen2Config(**numbers, attn_implementation="eager", initializer_range=INITIAL)
        )
        self.words = words
        self.eos = words.token_to_id(vocabulary.END)
        self.before = self.tokens(vocabulary.BEFORE_IMAGE)

    @property
    def device(self) -> torch.device:
        return self.decoder.device

    def tokens(self, text: str) -> list[int]:
        return self.words.encode(text, add_special_tokens=False).ids

    def visual(self, pixels: Tensor) -> Tensor:
        return self.encoder(pixels)

    def question(self, prompt: str, number: int = 0) -> list[int]:
        """Ids of a turn up to where its answer begins."""
        return self.tokens((vocabulary.BETWEEN_TURNS if number else "\n") + prompt + vocabulary.AFTER_TURN)

    def batch(self, conversations: list[list[Turn]]) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Padded ids, targets (the answers only), the number of each id's turn, where it stands in the picture if that
        is known (x and y in 0..1, else negative), and mask."""
        rows, targets, numbers, places = [], [], [], []
        for conversation in conversations:
            ids, wanted, turn_of, stands = [], [], [], []
            for number, turn in enumerate(conversation):
                question = self.question(turn.prompt, number)
                spelt = self.words.encode(turn.answer, add_special_tokens=False)
                said = spelt.ids + [self.eos]
                ids += question + said
                wanted += [IGNORED] * len(question) + said
                turn_of += [number] * (len(question) + len(said))
                known = [turn.places[start] for start, _ in spelt.offsets] if turn.places else [NOWHERE] * len(spelt)
                stands += [NOWHERE] * len(question) + known + [NOWHERE]
            rows.append(ids)
            targets.append(wanted)
            numbers.append(turn_of)
            places.append(stands)
        longest = max(map(len, rows))

        def padded(all_rows: list[list], fill: object) -> Tensor:
            return torch.tensor([row + [fill] * (longest - len(row)) for row in all_rows], device=self.device)

        mask = padded([[1] * len(row) for row in rows], 0)
        return padded(rows, 0), padded(targets, IGNORED), padded(numbers, 0), padded(places, NOWHERE), mask

    def inputs(self, features: Tensor | None, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        text = self.decoder.model.embed_tokens(ids)
        before = self.decoder.model.embed_tokens(ids.new_tensor(self.before)).expand(len(ids), -1, -1)
        parts = [before]
        if features is not None:
            parts.append(self.projector(features.flatten(2).transpose(1, 2)).to(text.dtype))
        ahead = sum(part.shape[1] for part in parts)
        ones = mask.new_ones((len(ids), ahead))
        return torch.cat([*parts, text], 1), torch.cat([ones, mask], 1)

    def pointing(self, attention: Tensor, features: Tensor, places: Tensor) -> Tensor:
        """What a head misses of the cells where the next tokens stand: attention `(b, n, keys)`, places `(b, n, 2)`."""
        h, w = features.shape[2:]
        ahead = len(self.before)
        known = places[..., 0] >= 0
        x, y = (places[known] * places.new_tensor([w, h])).long().unbind(-1)
        cells = y.clamp(max=h - 1) * w + x.clamp(max=w - 1)
        seen = attention[:, :, ahead : ahead + h * w][known].float()
        return -(seen.gather(1, cells[:, None]) + 1e-4).log().sum() / max(1, len(cells))

    def loss(self, features: Tensor | None, conversations: list[list[Turn]]) -> tuple[Tensor, Tensor, list[list[bool]]]:
        """Of every token of the answers, of the pointer, and which answers are right as a whole."""
        ids, targets, numbers, places, mask = self.batch(conversations)
        embeds, mask = self.inputs(features, ids, mask)
        layer, head = POINTER
        out = self.decoder.model(inputs_embeds=embeds, attention_mask=mask, output_attentions=features is not None)
        hidden = out.last_hidden_state[:, -ids.shape[1] : -1]
        wanted, numbers = targets[:, 1:], numbers[:, 1:]
        if features is None:
            pointing = hidden.new_zeros(())
        else:
            attention = out.attentions[layer][:, head, -ids.shape[1] : -1]
            pointing = self.pointing(attention, features, places[:, 1:])
        chosen = wanted != IGNORED
        logits = self.decoder.lm_head(hidden[chosen])
        wrong = torch.zeros(len(ids), max(map(len, conversations)), device=ids.device)
        rows = chosen.nonzero()[:, 0]
        missed = (logits.argmax(-1) != wanted[chosen]).float()
        wrong.index_put_((rows, numbers[chosen]), missed, accumulate=True)
        right = [[w == 0 for w in row[: len(c)]] for row, c in zip(wrong.tolist(), conversations, strict=True)]
        return F.cross_entropy(logits.float(), wanted[chosen]), pointing, right

    @torch.no_grad()
    def answer(self, features: Tensor | None, prompts: list[str], most: int = 24) -> list[str]:
        """Greedy answers."""
        said = []
        for i, prompt in enumerate(prompts):
            ids = torch.tensor([self.question(prompt)], device=self.device)
            one = None if features is None else features[i : i + 1]
            embeds, _ = self.inputs(one, ids, torch.ones_like(ids))
            tokens: list[int] = []
            cache = None
            while len(tokens) < most:
                out = self.decoder(inputs_embeds=embeds, past_key_values=cache, use_cache=True)
                cache = out.past_key_values
                token = int(out.logits[0, -1].argmax())
                if token == self.eos:
                    break
                tokens.append(token)
                embeds = self.decoder.model.embed_tokens(ids.new_tensor([[token]]))
            said.append(self.words.decode(tokens))
        return said


def load_words(path: Path) -> Tokenizer:
    return Tokenizer.from_file(str(path))
