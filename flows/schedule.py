"""Which stages may run now: their needs are met and their pool has room. Pure bookkeeping."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from flows.graph import Stage


@dataclass
class Schedule:
    """The state of a run: stages wait, run, and finish or fail; after a failure nothing more is started."""

    graph: Mapping[str, Stage]  # closed under `needs`
    limits: Mapping[str, int]  # stages of a pool that run at the same time, at least 1
    running: set[str] = field(default_factory=set)
    finished: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)

    def ready(self) -> list[str]:
        """What may be started now, in the order of names; start all of it or ask again."""
        if self.failed:
            return []
        room = {pool: limit - self._busy(pool) for pool, limit in self.limits.items()}
        chosen = []
        for name, stage in self.graph.items():
            waiting = name not in self.running | self.finished
            if waiting and stage.needs <= self.finished and room[stage.pool] > 0:
                room[stage.pool] -= 1
                chosen.append(name)
        return chosen

    def start(self, name: str) -> None:
        assert name not in self.running | self.finished | self.failed, name
        assert self.graph[name].needs <= self.finished, name
        self.running.add(name)

    def finish(self, name: str, succeeded: bool) -> None:
        self.running.remove(name)
        (self.finished if succeeded else self.failed).add(name)

    def _busy(self, pool: str) -> int:
        return sum(self.graph[name].pool == pool for name in self.running)
