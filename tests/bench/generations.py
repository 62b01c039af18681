"""Seconds of one generation of 64 candidates x 16 episodes on all cores: `python -m tests.bench.generations`.

The networks have the paper's sizes and random weights; so has C. Take Cover's dreams end at times drawn
around a given mean (and once all at the cap), CarRacing's episodes where the car leaves the field or at 1,000
steps.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch

from tests.bench.networks import ACTIONS, HIDDEN, LATENT, memory, vision
from wm import seeds
from wm.blocks import Block, Scores, cut, join
from wm.controller import ControllerShape
from wm.dream import Dream, Starts
from wm.places import Features, Place
from wm.playing import Reader, play
from wm.reality import Reality
from wm.tasks import load_task
from wm.workers import Workers, worker_local

POPULATION, EPISODES = 64, 16
PUBLISHED = {"takecover": 116, "carracing": 2200}
"""Seconds on the original's 64 cores."""
SIZE = {"takecover": 128, "carracing": 32}
"""Rows of a block."""


class Timed(Dream):
    """A dream whose episodes end when their seeds say so, after `mean` steps on average; 0: at the cap."""

    mean = 0

    def reset(self, seeds_: Sequence[int]) -> Features:
        draws = [seeds.generator(seed, "length").exponential(max(self.mean, 1)) for seed in seeds_]
        self.limits = np.array(draws) + 1 if self.mean else np.full(len(draws), np.inf)
        return super().reset(seeds_)

    def step(self, actions: np.ndarray) -> tuple[Features, np.ndarray, np.ndarray]:
        features, rewards, dones = super().step(actions)
        return features, rewards, dones | (self.streams.steps >= self.limits)

    def keep(self, live: np.ndarray) -> Features:
        self.limits = self.limits[live]
        return super().keep(live)


def reader(task: str) -> Reader:
    reads = ("z", "h") if task == "carracing" else ("z", "c", "h")
    inputs = LATENT[task] + (len(reads) - 1) * HIDDEN[task]
    return Reader(reads, ControllerShape(inputs, 0, ACTIONS[task], task == "carracing"))


def dream(mean: int) -> Place:
    stream = torch.Generator().manual_seed(1)
    starts = Starts(torch.randn(50, 64, generator=stream), torch.full((50, 64), -2.0))
    place = Timed(load_task("takecover"), memory("takecover"), starts, 1.15, "bfloat16")
    place.mean = mean
    return place


def reality() -> Place:
    return Reality(load_task("carracing"), "fast", vision("carracing"), memory("carracing"), "int8")


def played(task: str, key: str, make: Callable[[], Place], block: Block) -> Scores:
    return play(worker_local(key, make), reader(task), block.parameters, block.seeds)


def generation(task: str, name: str, make: Callable[[], Place]) -> None:
    """Play one generation, workers warm, and print a row."""
    shape = reader(task).shape
    candidates = 0.1 * np.random.default_rng(1).standard_normal((POPULATION, shape.size))
    function = partial(played, task, name, make)
    with Workers() as workers:
        warm = cut(candidates[:2], range(2), 1)
        list(workers.map(function, warm))
        begin = time.perf_counter()
        scores = join(list(workers.map(function, cut(candidates, range(EPISODES), SIZE[task]))))
        spent = time.perf_counter() - begin
    steps = int(scores.lengths.sum())
    cells = [
        name,
        f"{spent:.0f}",
        str(PUBLISHED[task]),
        f"{scores.lengths.mean():.0f}",
        f"{steps / spent:,.0f}",
    ]
    print(f"| {' | '.join(cells)} |", flush=True)


GENERATIONS: dict[str, Callable[[str], None]] = {
    "takecover-dream": lambda name: generation("takecover", name, partial(dream, 1200)),
    "takecover-dream-at-the-cap": lambda name: generation("takecover", name, partial(dream, 0)),
    "carracing-reality": lambda name: generation("carracing", name, reality),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.generations", description=__doc__)
    parser.add_argument("--rows", nargs="+", choices=GENERATIONS, default=list(GENERATIONS))
    chosen = parser.parse_args()
    print("| generation | seconds | original, 64 cores | mean length | steps/s |\n|---|---|---|---|---|")
    for name in chosen.rows:
        GENERATIONS[name](name)


if __name__ == "__main__":
    main()
