"""The vision-language model around an encoder, and the head that teaches encoders to read."""

import math
from pathlib import Path

import torch
import words as vocabulary
from encoders import encoder
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import Qwen2Config, Qwen2ForCausalLM

IGNORED = -100


def decoder_numbers(vocab: int) -> dict:
    return {
        "hidden_size": 192,
        "intermediate_size": 512,
        "num_hidden_layers": 4,
        "num_attention_heads": 3,
        "num_key_value_heads": 1,
        "vocab_size": vocab,
        "rope_theta": 10000.0,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": True,
        "max_position_embeddings": 2048,
    }


class Reader(nn.Module):
    """What stands at a position, from the one visual token whose cell it lies in.

    The encoder is trained to put into a token all that is written in its cell, and where; a decoder can then spell it.
    """

    BANDS = 6

    def __init__(self, features: int, classes: int, width: int = 256) -> None:
        super().__init__()
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
        offset = scaled - cell - 0.5
        index = (cell[..., 1] * w + cell[..., 0]).long()
        tokens = self.content(features.flatten(2).transpose(1, 2))
        tokens = tokens.gather(1, index[..., None].expand(-1, -1, tokens.shape[-1]))
        angles = offset[..., None] * (math.pi * 2.0 ** torch.arange(self.BANDS, device=points.device) / 2)
        bands = torch.cat([angles.sin(), angles.cos()], -1).flatten(2)
        hidden = F.gelu(tokens + self.place(bands))
        hidden = F.gelu(self.mix(hidden) * (1 + self.gate(bands)))
        return self.out(hidden)


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
        self.decoder = Qwen2ForCausalLM(Qwen2Config(**numbers))
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

    def batch(self, prompts: list[str], answers: list[str] | None) -> tuple[Tensor, Tensor, Tensor]:
        """Padded ids, targets (the answers only) and mask; prompts alone are padded on the left."""
        rows, targets = [], []
        for i, prompt in enumerate(prompts):
            ids = self.tokens("\n" + prompt + vocabulary.AFTER_TURN)
            answer = []
            if answers is not None:
                answer = self.tokens(answers[i]) + [self.eos]
            rows.append(ids + answer)
            targets.append([IGNORED] * len(ids) + answer)
        longest = max(map(len, rows))
        left = answers is None

        def padded(all_rows: list[list[int]], fill: int) -> Tensor:
            more = [[fill] * (longest - len(row)) for row in all_rows]
            joined = [m + row if left else row + m for m, row in zip(more, all_rows, strict=True)]
            return torch.tensor(joined, device=self.device)

        return padded(rows, 0), padded(targets, IGNORED), padded([[1] * len(row) for row in rows], 0)

    def inputs(self, features: Tensor | None, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        text = self.decoder.model.embed_tokens(ids)
        before = self.decoder.model.embed_tokens(ids.new_tensor(self.before)).expand(len(ids), -1, -1)
        parts = [before]
        if features is not None:
            parts.append(self.projector(features.flatten(2).transpose(1, 2)).to(text.dtype))
        ahead = sum(part.shape[1] for part in parts)
        ones = mask.new_ones((len(ids), ahead))
        return torch.cat([*parts, text], 1), torch.cat([ones, mask], 1)

    def loss(self, features: Tensor | None, prompts: list[str], answers: list[str]) -> Tensor:
        ids, targets, mask = self.batch(prompts, answers)
        embeds, mask = self.inputs(features, ids, mask)
        hidden = self.decoder.model(inputs_embeds=embeds, attention_mask=mask).last_hidden_state
        hidden = hidden[:, -ids.shape[1] : -1]
        wanted = targets[:, 1:]
        chosen = wanted != IGNORED
        logits = self.decoder.lm_head(hidden[chosen])
        return F.cross_entropy(logits.float(), wanted[chosen])

    @torch.no_grad()
    def answer(self, features: Tensor | None, prompts: list[str], most: int = 24) -> list[str]:
        """Greedy answers."""
        said = []
        for i, prompt in enumerate(prompts):
            ids, _, mask = self.batch([prompt], None)
            one = None if features is None else features[i : i + 1]
            embeds, _ = self.inputs(one, ids, mask)
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
