"""The measurement of one row: check, trial, then rounds in random order, one repetition of everyone in each."""

import json
import random
import sys
import time
from dataclasses import asdict, dataclass

import checks
import quiet
from contenders import Contender, ContenderError, Repetition, Setup, Worker, of_row, prepare
from rows import Row

# Repetitions of a contender alone before the rounds, and how often at most until as many were undisturbed.
TRIALS, TRIALS_MOST = 3, 8
# Rounds that are measured whatever they take.
LEAST = 3
# A peer that is this much slower than the fastest of its precision in the trial does not take part in the rounds.
DROPPED = 1.4
# Seconds between two contenders, until the threads of the last one have stopped spinning.
PAUSE = 0.05
# Seconds to wait before a repetition until nobody else uses the cores: in the rounds, and in the trial.
PATIENCE, PATIENCE_ALONE = 20.0, 5.0
ELEMENT_BYTES = {"f32": 4, "bf16": 2}
# Share of a core that a waiting worker may use.
IDLE = 0.02


@dataclass(frozen=True)
class Effort:
    """How much is measured."""

    rounds: int
    # Seconds for the rounds of a row.
    budget: float


def say(text: str) -> None:
    """Progress, to standard error."""
    print(time.strftime("%H:%M:%S"), text, file=sys.stderr, flush=True)


def typical(samples: list[float]) -> float:
    """A repetition as one number: its median step."""
    ordered = sorted(samples)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def measure(row: Row, setup: Setup, peers: set[str], precisions: set[str], effort: Effort) -> dict:
    """The record of a row: every contender with its error, trials and samples."""
    running: list[Worker] = []
    finished: dict[str, dict] = {}
    try:
        for contender in of_row(row, peers, precisions):
            worker, error = admit(contender, row, setup)
            running.append(worker)
            finished[contender.name] = {
                "engine": contender.engine,
                "variant": contender.variant,
                "precision": contender.precision,
                "error": error,
                "tolerance": checks.tolerance(row, contender.precision),
            }
            drop_slow(running, finished, contender.precision)
        check_idle(running)
        alternate(row, running, effort)
    finally:
        for worker in running:
            finish(worker, finished)
    about = {"row": row.name, "title": row.title, "work": row.work, "threads": setup.threads}
    return about | {"contenders": list(finished.values())}


def admit(contender: Contender, row: Row, setup: Setup) -> tuple[Worker, float]:
    """Starts a contender, compares its output, and lets it run alone."""
    say(f"{row.name}: {contender.name}")
    prepare(contender, row, setup)
    error = checks.check_ours(contender, row, setup) if contender.ours else None
    worker = Worker.start(contender, row, setup)
    try:
        if error is None:
            error = checks.check_peer(worker, row, setup)
        while len(worker.trials) < TRIALS_MOST and len(undisturbed(worker)) < TRIALS:
            worker.trials.append(timed(worker, PATIENCE_ALONE))
    except BaseException:
        worker.close()
        raise
    alone = ", ".join(f"{typical(r.ms):.1f}" for r in worker.trials)
    say(f"{row.name}: {contender.name}: error {error:.1e}, {alone} ms alone, {len(undisturbed(worker))} undisturbed")
    return worker, error


def undisturbed(worker: Worker) -> list[float]:
    """Milliseconds of the trials during which nobody else used the cores."""
    return [typical(trial.ms) for trial in worker.trials if trial.others <= quiet.OTHERS]


def drop_slow(running: list[Worker], finished: dict[str, dict], precision: str) -> None:
    """Ends the peers that cannot be the best of their precision, which also frees their memory. Who was disturbed all
    the time stays: it may be better than it looks."""
    peers = [w for w in running if w.contender.precision == precision and not w.contender.ours and undisturbed(w)]
    for worker in peers:
        if min(undisturbed(worker)) > DROPPED * min(min(undisturbed(rival)) for rival in peers):
            running.remove(worker)
            finish(worker, finished)


def check_idle(running: list[Worker]) -> None:
    """A worker that spins while it waits would slow the others down."""
    time.sleep(PAUSE)
    before = [quiet.cpu_seconds(worker.process.pid) for worker in running]
    time.sleep(1.0)
    for worker, seconds in zip(running, before, strict=True):
        share = quiet.cpu_seconds(worker.process.pid) - seconds
        if share > IDLE:
            raise ContenderError(f"{worker.contender.name} uses {share:.0%} of a core while it waits")


def timed(worker: Worker, patience: float) -> Repetition:
    """One repetition, if possible in a quiet moment."""
    quiet.wait(PAUSE, patience)
    watch = quiet.Watch(worker.process.pid)
    samples = worker.run()
    return Repetition(samples, watch.others())


def alternate(row: Row, running: list[Worker], effort: Effort) -> None:
    """The rounds. A repetition that somebody else disturbed is measured again, unless the time is up."""
    order = random.Random(row.name)
    end = time.monotonic() + effort.budget
    for number in range(effort.rounds):
        if time.monotonic() > end and number >= LEAST:
            break
        for worker in order.sample(running, len(running)):
            repetition = timed(worker, PATIENCE)
            while repetition.others > quiet.OTHERS and time.monotonic() < end:
                repetition = timed(worker, PATIENCE)
            worker.repetitions.append(repetition)
        said = ", ".join(f"{w.contender.name} {typical(w.repetitions[-1].ms):.1f}" for w in running)
        others = max(worker.repetitions[-1].others for worker in running)
        disturbed = f"; others had up to {others:.0%}" if others > quiet.OTHERS else ""
        say(f"{row.name}: round {number + 1}: {said}{disturbed}")


def finish(worker: Worker, finished: dict[str, dict]) -> None:
    """Ends a worker and keeps what it measured; ours also says what it computed."""
    said = worker.close()
    record = finished.get(worker.contender.name)
    if record is None:
        return
    record["about"] = worker.about
    record["trials"] = [asdict(repetition) for repetition in worker.trials]
    record["rounds"] = [asdict(repetition) for repetition in worker.repetitions]
    if worker.contender.ours and said.strip():
        report = json.loads(said.strip().splitlines()[-1])
        record["about"] = report["used"]
        record["peak_rss_bytes"] = report["peak_rss_bytes"]
        record["weight_bytes"] = report["parameters"] * ELEMENT_BYTES[worker.contender.precision]
        record["flops"] = report["stages"][worker.row.work]["flops"]
