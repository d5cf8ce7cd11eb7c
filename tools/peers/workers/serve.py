"""What every worker has in common: the loop that compare.py drives over standard input and output.

A worker loads its model, says `{"ready": ...}`, and then answers one JSON line to each line it gets:

    check PATH   computes once and writes the output to PATH (.npy, f32)
    run          one repetition: `{"ms": [...]}`, one value, or one a token

Waiting for a line blocks in the kernel. Whatever libraries print goes to standard error.
"""

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass
class Served:
    """A loaded contender."""

    # What is run, for the record: versions and settings.
    about: dict[str, str]
    # The output of one computation.
    output: Callable[[], np.ndarray]
    # One repetition, timed: milliseconds.
    run: Callable[[], list[float]]


def serve(load: Callable[[], Served]) -> None:
    """Loads, then answers until the input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(value: dict) -> None:
        answers.write(json.dumps(value) + "\n")
        answers.flush()

    served = load()
    answer({"ready": served.about})
    for line in sys.stdin:
        match line.split(maxsplit=1):
            case ["check", path]:
                np.save(Path(path.strip()), np.ascontiguousarray(served.output(), dtype=np.float32))
                answer({"checked": True})
            case ["run"]:
                answer({"ms": served.run()})
            case _:
                raise SystemExit(f"not a command: {line!r}")
