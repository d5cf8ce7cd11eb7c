"""Holds `vlmbench` against PyTorch on a trained model, exported in f32: features and greedy answers on validation samples.

    python tools/train/check.py DIR/state.pt --vlmbench target/release/vlmbench
"""

import argparse
import subprocess
import tempfile
from pathlib import Path

import data
import numpy as np
import torch
from export import export, load
from PIL import Image

# f32 sums in another order, relative to the largest feature.
TOLERANCE = 5e-5


def seen(image: Image.Image, side: int) -> Image.Image:
    """Padded to a square and resized, as the recipes say."""
    span = max(image.size)
    square = Image.new("RGB", (span, span))
    square.paste(image, ((span - image.width) // 2, (span - image.height) // 2))
    return square.resize((side, side), Image.Resampling.BICUBIC)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("state", type=Path)
    parser.add_argument("--vlmbench", type=Path, required=True)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--samples", type=int, default=4, help="of each suite")
    args = parser.parse_args()
    model, _ = load(args.state)
    worst, different, count = 0.0, 0, 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "model"
        export(model, args.state.parent / "tokenizer.json", folder, torch.float32)
        image, features = Path(scratch) / "image.png", Path(scratch) / "features.npy"
        for suite in data.SUITES:
            path = data.draw(args.vlmbench, Path(scratch), suite, "validation", args.samples, 0)
            for sample in data.read(path, suite):
                image.write_bytes(sample.png)
                pixels = torch.from_numpy(np.array(seen(data.opened(sample.png), args.side)))
                with torch.no_grad():
                    expected = model.encoder(pixels.permute(2, 0, 1)[None] / 255)
                    answer = model.answer(expected, [sample.prompt])[0]
                side = ["--resolution", str(args.side)]
                command = [args.vlmbench, "encode", folder, image, *side, "--out", features]
                subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
                wanted = expected[0].flatten(1).T.numpy()
                got = np.load(features).reshape(wanted.shape)
                worst = max(worst, float(np.abs(got - wanted).max() / np.abs(wanted).max()))
                command = [args.vlmbench, "generate", folder, "--image", image, *side]
                command += ["--prompt", sample.prompt, "--max-new-tokens", "24"]
                said = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
                different += said != answer.strip()
                count += 1
                print(f"{suite}: {sample.answer!r}, PyTorch {answer!r}, vlmbench {said!r}")
    print(f"features differ by {worst:.1e} of the largest at most; {different} of {count} answers differ")
    if worst > TOLERANCE or different:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
