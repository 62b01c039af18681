"""Places: reality and dream behind one vectorised interface.

Shapes: B live episodes, A action size, Z latent, H memory.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from wm.tasks import Task


@dataclass
class Features:
    """What an agent knows before it acts, float32 on the place's device; h and c are [B, 0] without M."""

    z: Tensor  # [B, Z], sampled
    h: Tensor  # [B, H], from before M has seen this z
    c: Tensor  # [B, H]


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
