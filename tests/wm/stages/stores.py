"""Stores of noise for tests of the stages that train on them."""

from pathlib import Path

import numpy as np

from wm import packing
from wm.episodes import LATENTS, ROLLOUTS, Writer

LENGTHS = [40, 25, 60, 33]
ATTEMPTS = 5


def write_rollouts(path: Path, task: str, actions: int, seed: int = 0) -> None:
    """Episodes of random frames."""
    draw, steps = np.random.default_rng(seed), sum(LENGTHS)
    writer = Writer(path, ROLLOUTS)
    for length in LENGTHS:
        writer.append_frames(packing.pack(draw.integers(0, 256, (length, 64, 64, 3), dtype=np.uint8)))
    writer.append({"rewards": np.ones(steps, np.float32), **common(draw, actions)})
    writer.finish({"task": task, "attempts": ATTEMPTS})


def write_latents(path: Path, task: str, actions: int, latent_size: int, seed: int = 0) -> None:
    """Episodes of random latents."""
    draw, steps = np.random.default_rng(seed), sum(LENGTHS)
    writer = Writer(path, LATENTS)
    means = draw.standard_normal((steps, latent_size), np.float32)
    writer.append({"means": means, "logvars": np.full_like(means, -2.0), **common(draw, actions)})
    writer.finish({"task": task, "attempts": ATTEMPTS})


def common(draw: np.random.Generator, actions: int) -> dict[str, np.ndarray]:
    ends = np.cumsum(LENGTHS)
    terminations = np.zeros(ends[-1], bool)
    terminations[ends - 1] = True
    taken = draw.integers(-1, 2, (ends[-1], actions)).astype(np.float32)
    return {"actions": taken, "terminations": terminations, "ends": ends}
