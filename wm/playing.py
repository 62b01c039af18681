"""Playing: C takes part in a place, a batch of episodes at a time, each to its end.

Shapes: B live episodes, I inputs and n parameters of C.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from wm.blocks import Scores
from wm.controller import ORDER, Controllers, ControllerShape
from wm.places import Features, Place

ROUNDING = 1e-6
"""How far a reward may lie above the idle reward and still mean no progress: a game may report the
difference of two sums, which is not exactly the step's price."""


@dataclass(frozen=True)
class Reader:
    """How C takes part: the features that it reads and its shape."""

    reads: tuple[str, ...]
    shape: ControllerShape

    def inputs(self, features: Features) -> Tensor:
        """C's inputs [B, I]: the features that it reads, joined in the order z, c, h."""
        return torch.cat([getattr(features, name) for name in ORDER if name in self.reads], dim=1)


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
        raw = controllers.act(reader.inputs(features))
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
