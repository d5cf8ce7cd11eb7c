"""Writes the checkpoint that all contenders of a row load, and the reference outputs of PyTorch in f32.

    python tools/peers/checkpoints.py NETWORK OUT

compare.py runs this as a process of its own: the functions of tools/fixtures/ make PyTorch deterministic, which no
contender should be, and the memory is free again afterwards. OUT gets `checkpoint/`, and one `reference-SIZE/` a row in
the form that `vlmbench verify` reads.
"""

import shutil
import sys
from pathlib import Path

from rows import DECODE_CONTEXT, ROWS

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"


def write(network: str, out: Path) -> None:
    """The checkpoint of a network, with a reference for every row that runs it."""
    sys.path.insert(0, str(FIXTURES))
    import full_size
    import torch

    rows = [row for row in ROWS if row.network == network]
    sizes = sorted({row.size for row in rows})
    with torch.inference_mode():
        match network:
            case "clip-vit-l-14-336":
                full_size.clip(out)
                suffixes = {336: ""}
            case "fastvit-mci2" | "fastvithd":
                architecture = {"fastvit-mci2": "fastvit_mci2", "fastvithd": "fastvit_mci3"}[network]
                full_size.fastvit(out, architecture, sizes)
                suffixes = {side: "" if side == sizes[0] else f"_{side}" for side in sizes}
            case "qwen2-0.5b":
                full_size.qwen2(out, sizes, answered=DECODE_CONTEXT)
                suffixes = {length: f"_{length}" for length in sizes}
            case _:
                raise SystemExit(f"no network is named {network}")
    names = ["input", "output", "input_ids", "greedy_ids", "forced", "forced_output"]
    for size, suffix in suffixes.items():
        folder = out / f"reference-{size}"
        folder.mkdir(exist_ok=True)
        for name in names:
            source = out / "reference" / f"{name}{suffix}.npy"
            if source.is_file():
                source.rename(folder / f"{name}.npy")
    shutil.rmtree(out / "reference")
    # Last: whoever finds it need not write again.
    (out / "complete").touch()


if __name__ == "__main__":
    write(sys.argv[1], Path(sys.argv[2]))
