"""Who takes part in a row, and the worker processes that they are."""

import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from rows import DECODE_STEPS, PRECISIONS, Row

WORKERS = Path(__file__).resolve().parent / "workers"
PEERS = ("onnxruntime", "torch", "llama.cpp")
OURS = "vlmbench"
# The same network as a graph that vlmbench recorded, on ONNX Runtime: set against torch's export, not against peers.
EXPORT = "vlmbench export"
# Milliseconds of a stage in a line of `vlmbench latency --paced`.
STAGE_KEY = {"encode": "encode_ms", "prefill": "prefill_ms", "decode": "decode_ms"}


class ContenderError(Exception):
    """A contender failed; the message says which and how."""


@dataclass(frozen=True)
class Setup:
    """Where things are, how many threads everyone has, and which device."""

    vlmbench: Path
    work: Path
    threads: int
    device: str

    def checkpoint(self, row: Row) -> Path:
        return self.work / row.network / "checkpoint"

    def reference(self, row: Row) -> Path:
        return self.work / row.network / f"reference-{row.size}"


@dataclass(frozen=True)
class Contender:
    """One program, variant and precision."""

    engine: str
    variant: str
    precision: str

    @property
    def name(self) -> str:
        return " ".join(part for part in (self.engine, self.variant, self.precision) if part)

    @property
    def ours(self) -> bool:
        """Whether it is a process of `vlmbench`."""
        return self.engine in (OURS, EXPORT)


def of_row(row: Row, peers: set[str], precisions: set[str]) -> list[Contender]:
    """Those who can run a row; whoever is likely to be fast comes first, so that slow variants can be dropped early."""
    found = []
    for precision in (p for p in PRECISIONS if p in precisions):
        found.append(Contender(OURS, "", precision))
        if "onnxruntime" in peers and precision == "f32" and row.work != "decode":
            found += [Contender("onnxruntime", "", precision), Contender(EXPORT, "", precision)]
        if "llama.cpp" in peers and row.work != "encode":
            found.append(Contender("llama.cpp", "", precision))
        if "torch" in peers:
            variants = ["compile", "channels-last", "eager"] if row.convolutional else ["compile", "eager"]
            found += [Contender("torch", variant, precision) for variant in variants]
    return found


def environment(threads: int) -> dict[str, str]:
    """The same thread count for every OpenMP; nothing is fetched."""
    count = str(threads)
    return os.environ | {"OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count, "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}


def engine(contender: Contender, setup: Setup) -> list:
    """What `vlmbench` is told to run on: the library is that of this Python, as the peer's."""
    if contender.engine == OURS:
        return ["--device", setup.device]
    package = Path(importlib.util.find_spec("onnxruntime").origin).parent
    library = next((package / "capi").glob("libonnxruntime.so.*"))
    return ["--backend", "onnxruntime", "--onnxruntime", library]


def command(contender: Contender, row: Row, setup: Setup) -> list[str]:
    """The worker's command line."""
    checkpoint, reference = setup.checkpoint(row), setup.reference(row)
    if contender.ours:
        tokens = {"encode": (1, 1), "prefill": (row.size, 1), "decode": (row.size, DECODE_STEPS + 1)}[row.work]
        args = [setup.vlmbench, "latency", checkpoint, "--paced", "--warm-up", 0, "--format", "json"]
        args += ["--precision", contender.precision, "--threads", setup.threads, *engine(contender, setup)]
        args += ["--prompt-tokens", tokens[0], "--decode-tokens", tokens[1]]
        if row.work == "encode":
            args += ["--resolution", row.size]
        return [str(arg) for arg in args]
    common = ["--work", row.work, "--checkpoint", checkpoint, "--reference", reference, "--threads", setup.threads]
    match contender.engine:
        case "onnxruntime":
            args = ["onnx_worker.py", *common, "--model", setup.work / row.network / f"onnx-{row.name}" / "model.onnx"]
        case "llama.cpp":
            model = setup.work / row.network / f"{contender.precision}.gguf"
            args = ["llama_worker.py", *common, "--model", model, "--precision", contender.precision]
        case _:
            args = ["torch_worker.py", *common, "--precision", contender.precision, "--variant", contender.variant]
            args += ["--device", setup.device]
            args += ["--channels-last"] if row.convolutional else []
    if row.work == "decode":
        args += ["--steps", DECODE_STEPS]
    return [sys.executable, str(WORKERS / args[0]), *(str(arg) for arg in args[1:])]


def prepare(contender: Contender, row: Row, setup: Setup) -> None:
    """Writes the file that a contender loads, if it needs one of its own."""
    args = command(contender, row, setup)
    if "--model" not in args:
        return
    model = Path(args[args.index("--model") + 1])
    done = model.with_suffix(".complete")
    if not done.is_file():
        run_once([*args, "--export"], contender.name, setup)
        done.touch()


def run_once(args: list[str], name: str, setup: Setup) -> str:
    """Runs a command to its end; its standard output."""
    done = subprocess.run(args, env=environment(setup.threads), capture_output=True, text=True)
    if done.returncode != 0:
        said = done.stdout[-2000:] + done.stderr[-2000:]
        raise ContenderError(f"{name}: `{' '.join(args)}` ended with {done.returncode}\n{said}")
    return done.stdout


@dataclass(frozen=True)
class Repetition:
    """What one repetition measured."""

    # One value, or one a token.
    ms: list[float]
    # Share of the machine that other programs had meanwhile.
    others: float


@dataclass
class Worker:
    """A running contender, which waits until it is asked."""

    contender: Contender
    row: Row
    log: Path
    process: subprocess.Popen
    about: dict = field(default_factory=dict)
    # Alone, and in the rounds.
    trials: list[Repetition] = field(default_factory=list)
    repetitions: list[Repetition] = field(default_factory=list)

    @staticmethod
    def start(contender: Contender, row: Row, setup: Setup) -> "Worker":
        """Starts it and waits until it has loaded."""
        log = setup.work / "logs" / f"{row.name}-{contender.name.replace(' ', '-')}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        process = subprocess.Popen(
            command(contender, row, setup),
            env=environment(setup.threads),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log.open("w"),
            text=True,
        )
        worker = Worker(contender, row, log, process)
        if not contender.ours:
            worker.about = worker.answer()["ready"]
        return worker

    def answer(self) -> dict:
        """The next line that it says."""
        line = self.process.stdout.readline()
        if not line:
            said = self.log.read_text()[-2000:]
            raise ContenderError(f"{self.contender.name} ended with {self.process.wait()}; its log {self.log}:\n{said}")
        return json.loads(line)

    def ask(self, line: str) -> dict:
        """Sends a line and waits for the answer."""
        try:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # The answer says why.
        return self.answer()

    def check(self, path: Path) -> None:
        """Writes its output."""
        self.ask(f"check {path}")

    def run(self) -> list[float]:
        """One repetition, milliseconds."""
        answer = self.ask("run")
        if not self.contender.ours:
            return answer["ms"]
        value = answer[STAGE_KEY[self.row.work]]
        return value if isinstance(value, list) else [value]

    def close(self) -> str:
        """Ends it; what it said last."""
        if self.process.stdin and not self.process.stdin.closed:
            self.process.stdin.close()
        said = self.process.stdout.read()
        try:
            self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        return said
