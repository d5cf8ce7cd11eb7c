"""What the machine can do at most, as the program under test and as PyTorch measure it."""

import json
import subprocess
import sys

import quiet
from contenders import WORKERS, Setup, environment, run_once

# Seconds to wait before a measurement until nobody else uses the cores.
PATIENCE = 30.0


def machine(setup: Setup, precisions: set[str]) -> dict:
    """The machine with its peaks in GFLOP/s and GB/s.

    `product_*` is the best rate of a large matrix product in PyTorch. `f32`, `bf16` and `read` are what
    `vlmbench peak` finds: multiply-adds on registers (on a GPU its library's product), and reading memory.
    """
    doctor = [str(setup.vlmbench), "doctor", "--format", "json"]
    found = json.loads(run_once(doctor, "vlmbench doctor", setup))
    quiet.wait(0.0, PATIENCE)
    # A precision that nobody asks for may take PyTorch minutes on a CPU without it.
    rates = {f"product_{precision}": product(setup, precision) for precision in sorted(precisions)}
    # A program from before it had the command is set against the matrix product.
    if " peak " in run_once([str(setup.vlmbench), "--help"], "vlmbench", setup):
        quiet.wait(0.0, PATIENCE)
        peak = [str(setup.vlmbench), "peak", "--threads", str(setup.threads), "--device", setup.device, "--format", "json"]
        peak = json.loads(run_once(peak, "vlmbench peak", setup))["peaks"][0]
        rates |= {"f32": peak["f32_flops"]["best"] / 1e9, "read": peak["read_bytes"]["best"] / 1e9}
        # A CPU without the instruction computes bf16 in f32.
        rates["bf16"] = (peak["bf16_flops"] or peak["f32_flops"])["best"] / 1e9
        source = "multiply-adds on registers" if setup.device == "cpu" else "the library's best matrix product"
    else:
        rates |= {precision: rates[f"product_{precision}"] for precision in precisions}
        source = "PyTorch's best matrix product"
    about = {"device": setup.device, "cpu": found["machine"]["cpu_model"], "simd": found["machine"]["simd"], "tool": found["tool"]}
    return about | {"threads": setup.threads, "peaks": rates, "peak_source": source}


def best(machine: dict, earlier: dict | None) -> dict:
    """The machine with the better of its rates in two measurements, since what disturbs one only lowers it."""
    same = ("device", "cpu", "threads", "peak_source")
    if earlier is None or any(machine[key] != earlier.get(key) for key in same):
        return machine
    known = earlier["peaks"]
    return machine | {"peaks": known | {name: max(rate, known.get(name, 0)) for name, rate in machine["peaks"].items()}}


def product(setup: Setup, precision: str) -> float:
    """GFLOP/s of a large matrix product in PyTorch."""
    args = [sys.executable, str(WORKERS / "torch_worker.py"), "--work", "product", "--threads", str(setup.threads)]
    args += ["--precision", precision, "--device", setup.device]
    done = subprocess.run(
        args, input="run\n", env=environment(setup.threads), stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])["ms"][0]
