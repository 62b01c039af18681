"""Measuring a row: ours, the reference and the limit in turn, round after round."""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

ROUNDS = 5

Work = Callable[[], int]
"""Does a bounded piece of work and returns the number of units (steps, frames) in it."""

Figures = dict[str, dict[str, float]]
"""Of each column (ours, reference, limit): min, median and max of its rates, in units per second."""


@dataclass(frozen=True)
class Row:
    """One line of the table; each maker prepares its work (compiled, warmed up) and is called once.

    ours: what the pipeline does; reference: what one would do otherwise; limit: the same work without what
    the row is about. `around` is entered for as long as the row is measured (data on the disk, say).
    """

    unit: str
    ours: Callable[[], Work]
    reference: Callable[[], Work]
    limit: Callable[[], Work]
    threads: int = 1
    around: Callable[[], AbstractContextManager[object]] = field(default=nullcontext)


def rate(work: Work, seconds: float) -> float:
    """Units per second over at least that many seconds."""
    units, start = 0, time.perf_counter()
    while (spent := time.perf_counter() - start) < seconds:
        units += work()
    return units / spent


def measure(row: Row, seconds: float) -> Figures:
    """All columns, `seconds` for each rate; a busy moment hurts all alike."""
    import torch

    torch.set_num_threads(row.threads)
    with row.around():
        works = {"ours": row.ours(), "reference": row.reference(), "limit": row.limit()}
        rates: dict[str, list[float]] = {name: [] for name in works}
        for _ in range(ROUNDS):
            for name, work in works.items():
                rates[name].append(rate(work, seconds))
    return {
        name: {"min": min(found), "median": statistics.median(found), "max": max(found)}
        for name, found in rates.items()
    }


def line(name: str, row: Row, figures: Figures) -> str:
    """A row of the table, in Markdown: medians, the range of ours, ratio and share with their ranges."""
    ours, reference, limit = (figures[column] for column in ("ours", "reference", "limit"))
    ratio = ours["median"] / reference["median"]
    cells = [
        name,
        row.unit,
        f"{ours['median']:,.0f} ({ours['min']:,.0f} to {ours['max']:,.0f})",
        f"{reference['median']:,.0f} ({reference['min']:,.0f} to {reference['max']:,.0f})",
        f"{ratio:.1f}",
        f"{limit['median']:,.0f} ({limit['min']:,.0f} to {limit['max']:,.0f})",
        f"{ours['median'] / limit['median']:.0%}",
    ]
    return f"| {' | '.join(cells)} |"


HEAD = "| row | unit | ours (min to max) | reference | ratio | limit | share |\n|---|---|---|---|---|---|---|"


def repeated(steps: Iterator[object], count: int, units: int) -> Work:
    """Work that takes `count` of the endless `steps`, of `units` each; the first are taken at once."""

    def work() -> int:
        for _ in range(count):
            next(steps)
        return count * units

    work()
    return work
