"""Places: reality and dream behind one vectorised interface, and playing episodes there with C.

Shapes: B live episodes, A action size, Z latent, H memory, n parameters of C.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from wm.blocks import Scores
from wm.controller import ORDER, Controllers, ControllerShape
from wm.tasks import Task

ROUNDING = 1e-6
"""How far a reward may lie above the idle reward and still mean no progress: a game may report the
difference of two sums, which is not exactly the step's price."""


@dataclass
class Features:
    """What an agent knows before it acts, float32 on the place's device; h and c are [B, 0] without M."""

    z: Tensor  # [B, Z], sampled
    h: Tensor  # [B, H], from before M has seen this z
    c: Tensor  # [B, H]

    def read(self, reads: Sequence[str]) -> Tensor:
        """C's inputs [B, I]: the features that it reads, joined in the order z, c, h."""
        return torch.cat([getattr(self, name) for name in ORDER if name in reads], dim=1)


class Place(Protocol):
    """Where episodes happen, a batch at a time; every row is an episode of its own."""

    task: Task
    horizon: int  # steps after which an episode is done
    device: torch.device
    terminations: np.ndarray  # bool [B] of the last step: which rows ended before the horizon cut them off

    def reset(self, seeds: Sequence[int]) -> Features:
        """Start an episode per seed (0 <= seed < 2**31), each from its own random stream."""
        ...

    def step(self, actions: np.ndarray) -> tuple[Features, np.ndarray, np.ndarray]:
        """Take actions float32 [B, A] in all rows: features, rewards float64 [B], dones bool [B]."""
        ...

    def keep(self, live: np.ndarray) -> Features:
        """Go on with the rows `live`, bool [B]; the batch shrinks."""
        ...

    def restart(self, done: np.ndarray, seeds: Sequence[int]) -> Features:
        """Start new episodes in the rows `done`, bool [B], with a seed for each of them."""
        ...

    def frames(self) -> np.ndarray:
        """What the agent sees, uint8 [B, 64, 64, 3]."""
        ...

    def close(self) -> None:
        """End whatever the place started."""
        ...


@dataclass(frozen=True)
class Reader:
    """How C takes part: the features that it reads and its shape."""

    reads: tuple[str, ...]
    shape: ControllerShape


@torch.inference_mode()
def play(
    place: Place, reader: Reader, parameters: np.ndarray, seeds: Sequence[int], patience: int = 0
) -> Scores:
    """Play an episode per row to its end, row b with C's parameters `parameters[b]` (float [B, n]).

    All live rows step together; finished rows leave the batch. With `patience` > 0 an episode is stopped
    after that many steps without a reward above the task's idle reward, and charged the idle reward for
    every step that remains up to the horizon (for training alone).
    """
    returns, lengths = np.zeros(len(seeds)), np.zeros(len(seeds), np.int64)
    rows, idle = np.arange(len(seeds)), np.zeros(len(seeds), np.int64)
    controllers = Controllers(reader.shape, parameters, place.device)
    features = place.reset(seeds)
    while len(rows):
        raw = controllers.act(features.read(reader.reads))
        features, rewards, dones = place.step(place.task.squash(raw.cpu().numpy()))
        returns[rows] += rewards
        lengths[rows] += 1
        if patience:
            assert place.task.idle_reward is not None
            idle = np.where(rewards > place.task.idle_reward + ROUNDING, 0, idle + 1)
            stopped = rows[~dones & (idle >= patience)]
            returns[stopped] += place.task.idle_reward * (place.horizon - lengths[stopped])
            dones = dones | (idle >= patience)
        if dones.any():
            live = ~dones
            rows, idle = rows[live], idle[live]
            controllers.keep(live)
            features = place.keep(live)
    return Scores(returns, lengths)
