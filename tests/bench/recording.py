"""Recording rollouts on all cores, writing included, beside the games alone."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path

from tests.bench.measure import Row, Work
from wm.episodes import ROLLOUTS, Writer
from wm.recording import Start, play_blind, score_blind, start
from wm.stages.rollouts import append
from wm.workers import Workers

BLOCK = {"carracing": 1, "takecover": 4}
PERSISTENCE = {"carracing": 12, "takecover": 60}


def blocks(task: str) -> Iterator[list[Start]]:
    for block in count():
        indices = range(block * BLOCK[task], (block + 1) * BLOCK[task])
        yield [start(PERSISTENCE[task], 1, "bench", i) for i in indices]


class Recorder:
    """Workers, and a folder for the store."""

    def __init__(self, task: str, renderer: str) -> None:
        self.task, self.renderer = task, renderer
        self.workers, self.folder = Workers().__enter__(), tempfile.TemporaryDirectory(prefix="wm-bench-")

    def record(self) -> Iterator[int]:
        """Steps of one block after another, as the stage plays and writes them."""
        writer, steps = Writer(Path(self.folder.name) / "store", ROLLOUTS), 0
        play = partial(play_blind, self.task, self.renderer)
        for episodes in self.workers.map(play, blocks(self.task)):
            for episode in episodes:
                steps += len(episode)
                append(writer, episode, steps)
            yield sum(map(len, episodes))

    def play(self) -> Iterator[int]:
        """The same episodes without anything kept."""
        play = partial(score_blind, self.task, self.renderer)
        for scores in self.workers.map(play, blocks(self.task)):
            yield sum(score.steps for score in scores)

    def close(self) -> None:
        self.workers.__exit__(None, None, None)
        self.folder.cleanup()


def counted(steps: Iterator[int]) -> Work:
    """A block at a time; the first two are taken at once (started games, compiled code)."""
    for _ in range(2):
        next(steps)
    return lambda: next(steps)


def rollouts(task: str, renderer: str) -> Row:
    opened: list[Recorder] = []

    @contextmanager
    def around() -> Iterator[None]:
        opened.extend(Recorder(task, renderer) for _ in range(2))
        try:
            yield
        finally:
            for recorder in opened:
                recorder.close()

    return Row(
        "steps/s, all cores",
        ours=lambda: counted(opened[0].record()),
        reference=None,
        limit=lambda: counted(opened[1].play()),
        around=around,
    )


ROWS: dict[str, Callable[[], Row]] = {
    "carracing-rollouts": lambda: rollouts("carracing", "fast"),
    "takecover-rollouts": lambda: rollouts("takecover", "native"),
}
