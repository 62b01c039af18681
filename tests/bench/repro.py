"""A whole `dvc repro` from nothing, and where its time goes: `python -m tests.bench.repro [PRESET]`.

It runs in a clone of the working tree in a temporary folder, without the cache. A stage's computing time is
what its progress bars cover (wm/provenance.py logs it); the rest is starting, reading, writing, and DVC.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from tests.clone import Clone
from wm.preset import PRESETS

COMPUTATIONS = {
    "rollouts": "rollouts",
    "random": "evaluation",
    "vision": "V",
    "latents": "V",
    "memory": "M",
    "untrained": "M",
    "controller": "controllers",
    "evaluation": "evaluation",
    "tables": "tables",
}
"""The computation that a stage belongs to, by the first word of its name."""


def repro(folder: Path, preset: str) -> float:
    """Run the whole pipeline in a clone at `folder`; seconds."""
    clone = Clone.of_working_tree(folder, WM_WORKERS=os.environ.get("WM_WORKERS", ""))
    clone.run("wm", "preset", preset)
    start = time.monotonic()
    subprocess.run(["dvc", "repro"], cwd=folder, env=clone.environment, stdout=sys.stderr, check=True)
    return time.monotonic() - start


def logged(folder: Path) -> dict[str, tuple[int, float, float]]:
    """Stages, seconds in them and computing seconds, by computation."""
    sums: dict[str, tuple[int, float, float]] = defaultdict(lambda: (0, 0.0, 0.0))
    for path in sorted((folder / ".wm" / "log").glob("*.jsonl")):
        for entry in map(json.loads, path.read_text().splitlines()):
            name = COMPUTATIONS[entry["stage"].split("@")[0].split("-")[0]]
            stages, seconds, computing = sums[name]
            sums[name] = (
                stages + 1,
                seconds + entry["seconds"],
                computing + entry["computing_seconds"],
            )
    return sums


def table(sums: dict[str, tuple[int, float, float]], wall: float) -> str:
    """In Markdown, with the shares of the wall time."""
    lines = ["| computation | stages | seconds | computing | share of the whole |", "|---|---|---|---|---|"]
    for name in dict.fromkeys(COMPUTATIONS.values()):
        stages, seconds, computing = sums[name]
        lines.append(f"| {name} | {stages} | {seconds:.0f} | {computing:.0f} | {computing / wall:.0%} |")
    stages, seconds, computing = (sum(column) for column in zip(*sums.values(), strict=True))
    lines.append(f"| all | {stages} | {seconds:.0f} | {computing:.0f} | {computing / wall:.0%} |")
    lines.append(f"| `dvc repro` | | {wall:.0f} | | |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.repro", description=__doc__)
    parser.add_argument("preset", nargs="?", choices=PRESETS, default="laptop", help="(default: %(default)s)")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="wm-bench-") as folder:
        wall = repro(Path(folder), chosen.preset)
        print(table(logged(Path(folder)), wall))


if __name__ == "__main__":
    main()
