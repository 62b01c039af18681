"""Is the dream like the game? The data policy's survival in both, and both side by side as pictures.

Shapes: B episodes, T steps, Z latent, A action.
"""

from collections.abc import Sequence

import numpy as np
import torch

from wm import seeds
from wm.cell import Cell
from wm.dream import Dream, Starts
from wm.memory import Memory
from wm.tasks import Task, turn
from wm.vision import Vision

FILM_WARM_UP = 32
"""Steps of a real episode that M sees before it dreams on."""


def survival(
    task: Task,
    memory: Memory,
    starts: Starts,
    persistences: Sequence[int],
    episodes: range,
    seed: int,
    precision: str,
) -> np.ndarray:
    """Lengths int64 [B] of the data policy's dreams at temperature 1, those of the numbers `episodes`."""
    dream = Dream(task, memory, starts, 1.0, precision)
    names = [seeds.integer(seed, "calibration", i) for i in episodes]
    policies = [
        task.data_policy(seeds.generator(name, "policy"), turn(persistences, i))
        for i, name in zip(episodes, names, strict=True)
    ]
    lengths = np.zeros(len(episodes), np.int64)
    rows = np.arange(len(episodes))
    dream.reset(names)
    while len(rows):
        _, _, dones = dream.step(np.stack([policies[row].act() for row in rows]))
        lengths[rows] += 1
        rows = rows[~dones]
        if dones.any():
            dream.keep(~dones)
    return lengths


@torch.inference_mode()
def film(
    memory: Memory, vision: Vision, means: np.ndarray, actions: np.ndarray, seed: int, precision: str
) -> tuple[np.ndarray, np.ndarray]:
    """A real episode through V, and M's dream of the same actions after its first FILM_WARM_UP steps.

    `means` float32 [T, Z], `actions` float32 [T, A]; frames uint8 [T - FILM_WARM_UP, 64, 64, 3] each.
    """
    device = next(memory.parameters()).device
    draws = seeds.generator(seed, "film")
    real = torch.from_numpy(means).to(device)
    taken = torch.from_numpy(actions).to(device)
    cell, state, z, dreamt = Cell(memory, precision), memory.initial(1), real[:1], []
    for step in range(len(means) - 1):
        state = cell.step(z, taken[step : step + 1], torch.full((1,), step == 0, device=device), state)
        if step + 1 < FILM_WARM_UP:
            z = real[step + 1 : step + 2]
            continue
        uniform = draws.random((1, z.shape[1]), np.float32)
        normal = draws.standard_normal((1, z.shape[1]), np.float32)
        numbers = torch.from_numpy(np.stack([uniform, normal], 1)).to(device)
        z = cell.draw(state[0], 1.0, numbers).z
        dreamt.append(z)
    return vision.picture(real[FILM_WARM_UP:]), vision.picture(torch.cat(dreamt))
