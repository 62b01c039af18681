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
    reference: Callable[[], Work] | None
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
        makers = {"ours": row.ours, "reference": row.reference, "limit": row.limit}
        works = {name: make() for name, make in makers.items() if make}
        rates: dict[str, list[float]] = {name: [] for name in works}
        for _ in range(ROUNDS):
            for name, work in works.items():
                rates[name].append(rate(work, seconds))
    return {
        name: {"min": min(found), "median": statistics.median(found), "max": max(found)}
        for name, found in rates.items()
    }


def line(name: str, row: Row, figures: Figures) -> str:
    """A row of the table, in Markdown: medians and ranges, and of the medians ratio and share."""
    ours, limit, reference = figures["ours"], figures["limit"], figures.get("reference")
    cells = [
        name,
        row.unit,
        rates(ours),
        rates(reference) if reference else "–",
        f"{ours['median'] / reference['median']:.1f}" if reference else "–",
        rates(limit),
        f"{ours['median'] / limit['median']:.0%}",
    ]
    return f"| {' | '.join(cells)} |"


def rates(column: dict[str, float]) -> str:
    return f"{column['median']:,.0f} ({column['min']:,.0f} to {column['max']:,.0f})"


HEAD = "| row | unit | ours (min to max) | reference | ratio | limit | share |\n|---|---|---|---|---|---|---|"


def repeated(steps: Iterator[object], count: int, units: int) -> Work:
    """Work that takes `count` of the endless `steps`, of `units` each; the first are taken at once."""

    def work() -> int:
        for _ in range(count):
            next(steps)
        wait_for_device()
        return count * units

    work()
    return work


def wait_for_device() -> None:
    """Until all that was asked of a GPU is done."""
    import torch

    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


class Skipped(Exception):  # noqa: N818 - it says what happened
    """A row that cannot be measured on this machine, and why."""


def need_cuda() -> None:
    import torch

    if not torch.cuda.is_available():
        raise Skipped("PyTorch finds no CUDA device here")
