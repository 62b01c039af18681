"""How fast the parts are beside the nearest other way: `python -m tests.bench [--rows NAME ...]`.

A row measures three things in turn, round after round, so that a busy moment hurts all alike: ours, the
reference (what one would use otherwise) and the limit (the same work without the part that a row is about).
`ratio` is ours / reference, `share` ours / limit, of the medians. Figures are steps per second on one core.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wm.tasks import Game

ROUNDS = 5

Work = Callable[[], int]
"""Does a bounded piece of work and returns the number of steps in it."""


@dataclass(frozen=True)
class Row:
    """One line of the table; each maker prepares its work (compiled, warmed up) and is called once."""

    ours: Callable[[], Work]
    reference: Callable[[], Work]
    limit: Callable[[], Work]


def _drive(make: Callable[[], Game]) -> Work:
    """Steps of one game under the data policy, resets and openings in their natural share."""
    from wm.tasks.carracing import TASK

    game = make()

    def steps() -> Iterator[None]:
        episode = 0
        while True:
            game.reset(episode)
            policy = TASK.data_policy(np.random.default_rng(episode), 12)
            for _ in range(TASK.horizon):
                *_, terminated, truncated = game.step(policy.act())
                yield
                if terminated or truncated:
                    break
            episode += 1

    running = steps()

    def work() -> int:
        for _ in range(20):
            next(running)
        return 20

    work()
    return work


def _physics() -> Game:
    """A game whose drawing is switched off."""
    from wm.tasks.carracing import CarRacingGame
    from wm.tasks.carracing.render import DrawnCarRacing

    class Blind:
        frame = np.zeros((64, 64, 3), np.uint8)

        def new_track(self, env) -> None:
            pass

        def draw(self, env) -> np.ndarray:
            return self.frame

    game = CarRacingGame("stock")
    game._env = DrawnCarRacing(Blind())
    return game


def _carracing(renderer: str) -> Row:
    from wm.tasks.carracing import CarRacingGame

    return Row(
        ours=lambda: _drive(lambda: CarRacingGame(renderer)),
        reference=lambda: _drive(lambda: CarRacingGame("stock")),
        limit=lambda: _drive(_physics),
    )


ROWS: dict[str, Callable[[], Row]] = {
    "carracing fast": lambda: _carracing("fast"),
    "carracing exact": lambda: _carracing("exact"),
}


def rate(work: Work, seconds: float) -> float:
    """Steps per second over at least that many seconds."""
    steps, start = 0, time.perf_counter()
    while (spent := time.perf_counter() - start) < seconds:
        steps += work()
    return steps / spent


def measure(row: Row, seconds: float) -> dict[str, dict[str, float]]:
    """Minimum, median and maximum of each column's rates over the rounds, `seconds` for each rate."""
    works = {"ours": row.ours(), "reference": row.reference(), "limit": row.limit()}
    rates: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(ROUNDS):
        for name, work in works.items():
            rates[name].append(rate(work, seconds))
    return {
        name: {"min": min(found), "median": statistics.median(found), "max": max(found)}
        for name, found in rates.items()
    }


def line(name: str, figures: dict[str, dict[str, float]]) -> str:
    """A row of the table."""
    columns = [f"{f['median']:,.0f} ({f['min']:,.0f} to {f['max']:,.0f})" for f in figures.values()]
    ours, reference, limit = (figures[key]["median"] for key in ("ours", "reference", "limit"))
    return " | ".join([name, *columns[:2], f"{ours / reference:.1f}", columns[2], f"{ours / limit:.0%}"])


def main() -> None:
    """Print the table; `--json` also writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), help="default: all")
    parser.add_argument("--seconds", type=float, default=2.0, help="time for one rate (default 2)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    arguments = parser.parse_args()
    print("row | ours, steps/s (range) | reference | ratio | limit | share")
    results = {}
    for name in arguments.rows:
        results[name] = measure(ROWS[name](), arguments.seconds)
        print(line(name, results[name]), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
