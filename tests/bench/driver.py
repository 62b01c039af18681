"""What a graph's size costs a driver: `python -m tests.bench.driver`.

A driver reads the graph and tells what is stale once, and puts an entry into dvc.lock for every stage that
has run; DVC itself reads the whole graph for every `dvc repro --single-item`.
"""

import argparse
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from flows.graph import DVC, changing_lock, read_graph, stale_without_data
from tests.flows.toy import Toy

WIDE = 20
SIZES = (50, 200, 800)


def layered(stages: int) -> dict[str, list[str]]:
    """What stages need, each of them two of the layer before."""
    return {
        f"s{number}": [f"s{number - WIDE}", f"s{number - WIDE + 1}"] if number >= WIDE else []
        for number in range(stages)
    }


def put(root: Path, names: Iterable[str], size: int) -> None:
    """Entries as DVC would write them, of stages that have run with another parameter."""
    out = {"path": "x", "hash": "md5", "md5": "0" * 32, "size": size}
    with changing_lock(root) as stages:
        for name in names:
            stages[name] = {"cmd": "x", "params": {"params.yaml": {name: 0}}, "outs": [dict(out)]}


def run(toy: Toy, name: str) -> None:
    command = [*DVC, "repro", "--single-item", name]
    subprocess.run(command, cwd=toy.folder, env=toy.environment, check=True, capture_output=True)


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def figures(toy: Toy, needs: Mapping[str, object]) -> list[float]:
    """Seconds, in the order of the table."""
    root = toy.folder
    put(root, needs, 1)
    return [
        timed(lambda: read_graph(root)),
        timed(lambda: stale_without_data(root)),
        timed(lambda: put(root, ["s0"], 2)),
        timed(lambda: run(toy, "s1")),
    ]


def main() -> None:
    argparse.ArgumentParser(prog="python -m tests.bench.driver", description=__doc__).parse_args()
    print("| stages | read the graph | tell what is stale | put an entry | one `dvc repro --single-item` |")
    print("|---|---|---|---|---|")
    for size in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            found = figures(Toy(Path(folder) / "toy", layered(size)), layered(size))
            print(f"| {size} | {' | '.join(f'{seconds:.2f} s' for seconds in found)} |", flush=True)


if __name__ == "__main__":
    main()
