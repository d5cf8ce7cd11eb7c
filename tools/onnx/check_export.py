"""Whether an export is what the official checker and Python's ONNX Runtime accept, with free batch and lengths.

    vlmbench export MODEL --out DIR && python tools/onnx/check_export.py DIR

Checks every graph of DIR/onnx, then runs those in f32: two images at once, and two prompts of different lengths padded on
the left, must give what each gives alone, and a token fed after a prompt what the longer prompt gives.
"""

import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

# Relative to the largest value; sums of another shape round differently.
TOLERANCE = 1e-4


def close(what: str, got: np.ndarray, expected: np.ndarray) -> None:
    off = np.abs(got - expected).max() / np.abs(expected).max()
    print(f"{what}: off by {off:.1e}")
    if not off <= TOLERANCE:
        sys.exit(f"{what}: {off:.1e} is more than {TOLERANCE:.0e}")


def session(folder: Path, name: str) -> ort.InferenceSession | None:
    path = folder / f"{name}.onnx"
    return ort.InferenceSession(path, providers=["CPUExecutionProvider"]) if path.is_file() else None


def run_vision(vision: ort.InferenceSession, rng: np.random.Generator) -> None:
    # Free sides are tried at a size that is no multiple of the stride.
    sides = [side if isinstance(side, int) else 100 for side in vision.get_inputs()[0].shape[2:]]
    pixels = rng.standard_normal((2, 3, *sides)).astype(np.float32)
    run = lambda x: vision.run(["image_features"], {"pixel_values": x})[0]
    close("two images", run(pixels), np.concatenate([run(pixels[:1]), run(pixels[1:])]))


def run_decoder(embed: ort.InferenceSession, decoder: ort.InferenceSession, rng: np.random.Generator) -> None:
    caches = [i for i in decoder.get_inputs() if i.name.startswith("past_key_values")]

    def step(ids: np.ndarray, mask: np.ndarray, cache: list[np.ndarray] | None = None) -> list[np.ndarray]:
        past = mask.shape[1] - ids.shape[1]
        if cache is None:
            cache = [np.zeros((len(ids), c.shape[1], past, c.shape[3]), np.float32) for c in caches]
        positions = np.maximum(mask.cumsum(1) - 1, 0)[:, past:]
        given = {"attention_mask": mask, "position_ids": positions}
        given["inputs_embeds"] = embed.run(None, {"input_ids": ids})[0]
        given |= {c.name: value for c, value in zip(caches, cache)}
        present = [c.name.replace("past_key_values", "present") for c in caches]
        return decoder.run(["logits", *present], given)

    ids = rng.integers(1, decoder.get_outputs()[0].shape[2], (2, 7))
    mask = np.ones_like(ids)
    # The second prompt has four tokens only.
    mask[1, :3] = 0
    logits, *cache = step(ids, mask)
    alone = [step(ids[:1], mask[:1])[0], step(ids[1:, 3:], mask[1:, 3:])[0]]
    close("two prompts", logits, np.concatenate(alone))
    token = rng.integers(1, 9, (2, 1))
    grown = np.concatenate([mask, np.ones_like(token)], 1)
    after = step(token, grown, cache)[0]
    close("a token after a prompt", after, step(np.concatenate([ids, token], 1), grown)[0])


def main() -> None:
    folder = Path(sys.argv[1]) / "onnx"
    graphs = sorted(folder.glob("*.onnx"))
    if not graphs:
        sys.exit(f"{folder} holds no graph")
    for path in graphs:
        onnx.checker.check_model(path, full_check=True)
        print(f"{path.name}: the checker accepts it")
    rng = np.random.default_rng(0)
    if vision := session(folder, "vision_encoder"):
        run_vision(vision, rng)
    embed, decoder = session(folder, "embed_tokens"), session(folder, "decoder_model_merged")
    if embed and decoder:
        run_decoder(embed, decoder, rng)


if __name__ == "__main__":
    main()
