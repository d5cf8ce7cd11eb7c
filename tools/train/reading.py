"""What an encoder reads at each size of print: characters right on crops of the validation split, by each reader.

    python tools/train/reading.py DIR/state.pt --vlmbench target/release/vlmbench
"""

import argparse
import math
import random
from pathlib import Path

import data
import torch
from export import load
from models import unit

# Pixels an em, from and to.
SIZES = ((7, 10), (10, 14), (14, 20), (20, 30), (30, 50), (50, 90))
SIDE = 128


def crops(samples: dict, low: float, high: float, count: int, rng: random.Random) -> dict[str, torch.Tensor]:
    """Squares around words whose print has such a size."""
    rows = []
    while len(rows) < count:
        sample = rng.choice(samples[rng.choice(list(samples))])
        word = rng.choice(data.word_list(sample))
        em = math.exp(rng.uniform(math.log(low), math.log(high)))
        if em > 3 * word.em:
            continue
        span = max(16, round(SIDE * word.em / em))
        seen = data.View(SIDE, round(word.x - span / 2), round(word.y - span / 2), span).of(data.opened(sample.png))
        rows.append((sample, seen))
    return data.stacked(rows, 64, rng)


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("state", type=Path)
    parser.add_argument("--vlmbench", type=Path, required=True, help="the program, which draws the data")
    parser.add_argument("--samples", type=int, default=200, help="of signs and of pages")
    parser.add_argument("--crops", type=int, default=64, help="of each size")
    args = parser.parse_args()
    model, reader = load(args.state)
    encoder = model.encoder.to(memory_format=torch.channels_last)
    samples = {}
    for suite in ("textvqa", "docvqa"):
        path = data.draw(args.vlmbench, args.state.parent.parent / "data", suite, "validation", args.samples, 7)
        samples[suite] = data.read(path, suite)
    rng = random.Random(5)
    for low, high in SIZES:
        batch = crops(samples, low, high, args.crops, rng)
        classes = batch["classes"].flatten()
        known = classes > 0
        right = []
        maps = encoder.maps(unit(batch["pixels"]))
        tokens = model.tokens_of(maps[-1]).transpose(1, 2).unflatten(2, maps[-1].shape[2:])
        for one, seen in zip(reader, [*maps, tokens], strict=True):
            said = one(seen, batch["points"])[0].flatten(0, 1).argmax(1)
            right.append(f"{(said == classes)[known].float().mean():.0%}")
        print(f"{low} to {high} px an em, {int(known.sum())} characters:", *right)


if __name__ == "__main__":
    main()
