"""Whether anybody else used the cores while a contender was measured (Linux: /proc).

A shared machine is rarely still. What a repetition took is only told from what others took away if one looks.
"""

import os
import time
from pathlib import Path

TICK = 1.0 / os.sysconf("SC_CLK_TCK")
# Share of the machine that others may use during a repetition.
OTHERS = 0.05


def busy_seconds() -> float:
    """Core seconds that were not idle, time stolen by other machines included."""
    user, nice, system, _, _, irq, softirq, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + irq + softirq + steal) * TICK


def cpu_seconds(pid: int) -> float:
    """Core seconds that a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) * TICK


class Watch:
    """Counts what others use from its making on."""

    def __init__(self, pid: int | None = None):
        self.pid = pid
        self.started = time.monotonic()
        self.busy = busy_seconds()
        self.own = cpu_seconds(pid) if pid else 0.0

    def others(self) -> float:
        """Share of all cores that went to others; two ticks are within the counters' resolution."""
        own = cpu_seconds(self.pid) - self.own if self.pid else 0.0
        foreign = busy_seconds() - self.busy - own - 2 * TICK
        wall = max(time.monotonic() - self.started, TICK)
        return max(0.0, foreign / (wall * (os.cpu_count() or 1)))


def wait(at_least: float, patience: float) -> None:
    """Waits so long, and then until the machine is quiet or patience, in seconds, ends."""
    time.sleep(at_least)
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        watch = Watch()
        time.sleep(0.1)
        if watch.others() <= OTHERS:
            return
