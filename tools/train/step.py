"""A training step as the device's own: on a GPU a step of each kind is captured once and then replayed, because thousands of
small kernels take longer to launch than to run."""

from collections import deque
from collections.abc import Callable, Hashable

import torch

# Steps of a kind before it is captured, in which libraries choose their kernels and optimisers make their state.
WARM = 2
# Steps that are queued; more would make the clock run ahead of the device.
QUEUED = 2


class Steps:
    """Calls `function(kind)`, which neither waits for the device nor takes anything from the host that changes."""

    def __init__(self, function: Callable[[Hashable], None], device: str) -> None:
        self.function, self.cuda = function, device != "cpu"
        self.called: dict[Hashable, int] = {}
        self.graphs: dict[Hashable, torch.cuda.CUDAGraph] = {}
        self.queued: deque[torch.cuda.Event] = deque()
        self.stream: torch.cuda.Stream | None = None
        if self.cuda:
            # What was made on the device's own stream has to be there.
            torch.cuda.synchronize()
            self.stream, self.pool = torch.cuda.Stream(), torch.cuda.graph_pool_handle()

    def __call__(self, kind: Hashable) -> None:
        if not self.cuda:
            self.function(kind)
            return
        with torch.cuda.stream(self.stream):
            if self.called.setdefault(kind, 0) < WARM:
                self.called[kind] += 1
                self.function(kind)
            else:
                if kind not in self.graphs:
                    graph = torch.cuda.CUDAGraph()
                    with torch.cuda.graph(graph, pool=self.pool, stream=self.stream):
                        self.function(kind)
                    self.graphs[kind] = graph
                self.graphs[kind].replay()
            self.queued.append(self.stream.record_event())
        if len(self.queued) > QUEUED:
            self.queued.popleft().synchronize()
