"""Outputs before timing: every contender against PyTorch's f32, by the measure of `vlmbench verify`."""

import json
from pathlib import Path

import numpy as np

from contenders import Contender, ContenderError, Setup, Worker, engine, run_once
from rows import Row

# `vlmbench verify`'s own defaults: largest absolute difference over the largest absolute value of the reference. f32:
# sums in another order, folded weights. bf16: 8 significant bits, through tens of layers.
TOLERANCE = {("f32", "encode"): 5e-5, ("f32", "prefill"): 1e-3, ("f32", "decode"): 1e-3}
TOLERANCE_BF16 = 5e-2


def tolerance(row: Row, precision: str) -> float:
    """What is allowed."""
    return TOLERANCE_BF16 if precision == "bf16" else TOLERANCE[precision, row.work]


def relative_error(got: np.ndarray, reference: np.ndarray) -> float:
    """Infinite where something is not finite."""
    if got.size != reference.size:
        raise ValueError(f"the output has shape {got.shape}, the reference {reference.shape}")
    if not np.isfinite(got).all():
        return float("inf")
    return float(np.abs(got.reshape(reference.shape) - reference).max() / np.abs(reference).max())


def check_ours(contender: Contender, row: Row, setup: Setup) -> float:
    """Our error, as `vlmbench verify` finds it."""
    args = [setup.vlmbench, "verify", setup.checkpoint(row), "--reference", setup.reference(row), "--format", "json"]
    args += ["--precision", contender.precision, "--threads", setup.threads, *engine(contender, setup)]
    args += ["--tolerance", tolerance(row, contender.precision)]
    if row.work == "encode":
        args += ["--resolution", row.size]
    found = json.loads(run_once([str(arg) for arg in args], contender.name, setup))
    return max(check["relative_error"] for check in found["checks"] if check["relative_error"] is not None)


def check_peer(worker: Worker, row: Row, setup: Setup) -> float:
    """A peer's error; aborts the row if it computes something else."""
    reference = setup.reference(row)
    expected = np.load(reference / ("forced_output.npy" if row.work == "decode" else "output.npy"))
    path = setup.work / "logs" / f"{row.name}-{worker.contender.name.replace(' ', '-')}.npy"
    worker.check(path)
    got = np.load(path)
    path.unlink()
    error = relative_error(got, expected)
    allowed = tolerance(row, worker.contender.precision)
    if not error <= allowed:
        differs = f"{worker.contender.name} differs from PyTorch f32 by {error:.2e}"
        raise ContenderError(f"{differs}; {allowed:.0e} is allowed")
    return error
