"""The rows of the table: which network at which size, and which peers can run it."""

from dataclasses import dataclass
from typing import Literal

Work = Literal["encode", "prefill", "decode"]

PRECISIONS = ("f32", "bf16")
# Tokens in the KV cache before the first decode step, and steps in one repetition.
DECODE_CONTEXT = 320
DECODE_STEPS = 64


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    title: str
    # Folder of the checkpoint below the work folder; rows of one network share it.
    network: str
    work: Work
    # Side of the square input in pixels, or tokens of the prompt.
    size: int

    @property
    def convolutional(self) -> bool:
        """Whether memory layout (channels-last) is a choice at all."""
        return self.network.startswith("fastvit")


ROWS = (
    Row("vit-l-14-336", "ViT-L/14@336", "clip-vit-l-14-336", "encode", 336),
    Row("mci2-256", "MCi2@256", "fastvit-mci2", "encode", 256),
    Row("mci2-768", "MCi2@768", "fastvit-mci2", "encode", 768),
    Row("fastvithd-256", "FastViTHD@256", "fastvithd", "encode", 256),
    Row("fastvithd-512", "FastViTHD@512", "fastvithd", "encode", 512),
    Row("fastvithd-768", "FastViTHD@768", "fastvithd", "encode", 768),
    Row("fastvithd-1024", "FastViTHD@1024", "fastvithd", "encode", 1024),
    Row("qwen2-prefill-128", "Qwen2-0.5B prefill, 128 tokens", "qwen2-0.5b", "prefill", 128),
    Row("qwen2-prefill-320", "Qwen2-0.5B prefill, 320 tokens", "qwen2-0.5b", "prefill", 320),
    Row("qwen2-prefill-640", "Qwen2-0.5B prefill, 640 tokens", "qwen2-0.5b", "prefill", 640),
    Row("qwen2-decode", "Qwen2-0.5B decode, per token", "qwen2-0.5b", "decode", DECODE_CONTEXT),
)


def select(names: str | None) -> list[Row]:
    """The rows of a comma-separated list of names or of beginnings of names; all without one."""
    if names is None:
        return list(ROWS)
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    for name in wanted:
        if not any(row.name.startswith(name) for row in ROWS):
            raise SystemExit(f"no row is named {name}; rows: {', '.join(row.name for row in ROWS)}")
    return [row for row in ROWS if any(row.name.startswith(name) for name in wanted)]
