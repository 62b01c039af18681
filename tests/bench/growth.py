"""Peak memory of vision and memory at 1 and 10 times the data: `python -m tests.bench.growth`.

Each stage trains a few steps on made-up stores in a process of its own, as laptop sets it.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from ruamel.yaml import YAML

from wm import paths
from wm.episodes import LATENTS, ROLLOUTS, Writer
from wm.packing import pack
from wm.preset import read_preset

TASK, LENGTH, STEPS = "takecover", 328, 60
EPISODES = {1: 960, 10: 9600}
PIECE = 32
"""Episodes made at a time."""
RUN = "import importlib, sys; importlib.import_module('wm.stages.' + sys.argv[1]).run('takecover')"


def write(path: Path, kind: str, episodes: int) -> None:
    """Frames that compress as smooth pictures do, or latents of noise."""
    draw, writer, latent = np.random.default_rng(1), Writer(path, kind), 64
    for first in range(0, episodes, PIECE):
        steps, ends = PIECE * LENGTH, LENGTH * np.arange(1, PIECE + 1)
        rows: dict[str, Any] = {
            "actions": draw.integers(-1, 2, (steps, 1)).astype(np.float32),
            "terminations": np.isin(np.arange(steps), ends - 1),
            "ends": first * LENGTH + ends,
        }
        if kind == ROLLOUTS:
            coarse = draw.integers(0, 256, (steps, 4, 4, 3), dtype=np.uint8)
            for episode in np.split(coarse.repeat(16, 1).repeat(16, 2), PIECE):
                writer.append_frames(pack(episode))
            rows["rewards"] = np.ones(steps, np.float32)
        else:
            means = draw.standard_normal((steps, latent), np.float32)
            rows |= {"means": means, "logvars": np.full_like(means, -2)}
        writer.append(rows)
    writer.finish({"task": TASK, "part": 0, "attempts": episodes})


def project(folder: Path, episodes: int, stage: str) -> None:
    """A folder in which the stage can run, with few steps."""
    values: Any = read_preset("laptop")
    values[TASK]["parts"] = [0]
    for section in ("vision", "memory"):
        values[TASK][section]["steps"] = STEPS
    values[TASK]["memory"]["calibration_episodes"] = 0
    YAML().dump(values, folder / paths.PARAMS)
    if stage == "vision":
        write(folder / paths.rollouts(TASK) / "0", ROLLOUTS, episodes)
        return
    from wm import weights
    from wm.vision import Vision

    write(folder / paths.latents(TASK) / "0", LATENTS, episodes)
    (folder / paths.vision(TASK)).mkdir(parents=True)
    weights.save(folder / paths.vision(TASK) / paths.WEIGHTS, Vision(64).initialise(1).state_dict())


def peak(stage: str, episodes: int) -> float:
    """MiB that the stage's process took at most."""
    with tempfile.TemporaryDirectory(prefix="wm-bench-") as name:
        folder = Path(name)
        project(folder, episodes, stage)
        environment = os.environ | {"WM_STATE": str(folder / "state")}
        process = subprocess.Popen(
            [sys.executable, "-c", RUN, stage], cwd=folder, env=environment, stderr=subprocess.DEVNULL
        )
        _, status, usage = os.wait4(process.pid, 0)
        assert status == 0, f"{stage} failed"
    return float(usage.ru_maxrss) / 1024


def main() -> None:
    argparse.ArgumentParser(description=__doc__.split("\n")[0]).parse_args()
    print("| stage | MiB at 1 x | at 10 x | ratio |\n|---|---|---|---|")
    for stage in ("vision", "memory"):
        once, tenfold = (peak(stage, EPISODES[scale]) for scale in (1, 10))
        print(f"| {stage} | {once:.0f} | {tenfold:.0f} | {tenfold / once:.2f} |", flush=True)


if __name__ == "__main__":
    main()
