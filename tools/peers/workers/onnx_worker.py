"""ONNX Runtime as a contender: the row's PyTorch module, exported with fixed shapes, on the CPU provider in f32."""

import argparse
import time
from pathlib import Path

import numpy as np
import onnxruntime
from serve import Served, serve


def export(work: str, checkpoint: Path, reference: Path, path: Path) -> None:
    """Writes the graph; weights beside it, since a message of protobuf holds 2 GB at most."""
    import networks
    import torch

    path.parent.mkdir(parents=True, exist_ok=True)
    with torch.no_grad():
        model = networks.network(work, checkpoint)
        given = networks.input_of(work, reference)
        torch.onnx.export(model, (given,), path, dynamo=True, external_data=True, input_names=["input"], verbose=False)


def load(args: argparse.Namespace) -> Served:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = args.threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    # Its threads spin within a run, as by default, and stop when the run is over: others are measured next.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(args.model, options, providers=["CPUExecutionProvider"])
    name = "input.npy" if args.work == "encode" else "input_ids.npy"
    given = {"input": np.load(args.reference / name)}

    def run() -> list[float]:
        start = time.perf_counter()
        session.run(None, given)
        return [(time.perf_counter() - start) * 1e3]

    about = {"version": f"ONNX Runtime {onnxruntime.__version__}", "variant": "CPU provider"}
    return Served(about, lambda: session.run(None, given)[0], run)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--export", action="store_true", help="write the graph and end")
    parser.add_argument("--work", choices=["encode", "prefill"], required=True)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--reference", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--threads", type=int, required=True)
    args = parser.parse_args()
    if args.export:
        export(args.work, args.checkpoint, args.reference, args.model)
    else:
        serve(lambda: load(args))


if __name__ == "__main__":
    main()
