"""Each episode's own random numbers, drawn some steps at a time for a whole batch.

Shapes: B live episodes, `...` what a step draws.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

CHUNK = 64
"""Steps drawn at a time: fewer calls, at the price of some memory."""

Draw = Callable[[np.random.Generator], np.ndarray]
"""The next CHUNK steps' numbers from an episode's generator, float32 [CHUNK, ...]."""


class Streams:
    """What a batch of episodes draws, step by step; rows may be at different steps of their episodes."""

    def __init__(self, generators: Sequence[np.random.Generator], draw: Draw, device: torch.device) -> None:
        self.generators = list(generators)
        self.draw = draw
        self.device = device
        self.steps = np.zeros(len(self.generators), np.int64)  # steps of each row's episode so far
        self.numbers = self._chunk(range(len(self.generators)))  # [CHUNK, B, ...]

    def now(self) -> Tensor:
        """This step's numbers, float32 [B, ...]."""
        offsets = self.steps % CHUNK
        if (offsets == offsets[0]).all():
            return self.numbers[offsets[0]]
        rows = torch.arange(len(offsets), device=self.device)
        return self.numbers[torch.from_numpy(offsets).to(self.device), rows]

    def advance(self) -> None:
        """On to the next step."""
        self.steps += 1
        used = np.flatnonzero(self.steps % CHUNK == 0)
        if len(used):
            self.numbers[:, torch.from_numpy(used).to(self.device)] = self._chunk(used)

    def keep(self, live: np.ndarray) -> None:
        """Go on with the rows `live`, bool [B]."""
        kept = np.flatnonzero(live)
        self.generators = [self.generators[row] for row in kept]
        self.steps = self.steps[kept]
        self.numbers = self.numbers[:, torch.from_numpy(kept).to(self.device)]

    def restart(self, rows: np.ndarray, generators: Sequence[np.random.Generator]) -> None:
        """New episodes in the rows `rows` (their numbers, int [R]), from generators of their own."""
        for row, generator in zip(rows, generators, strict=True):
            self.generators[row] = generator
        self.steps[rows] = 0
        self.numbers[:, torch.from_numpy(rows).to(self.device)] = self._chunk(rows)

    def _chunk(self, rows: Sequence[int] | np.ndarray | range) -> Tensor:
        drawn = np.stack([self.draw(self.generators[row]) for row in rows], axis=1)
        return torch.from_numpy(drawn).to(self.device)
