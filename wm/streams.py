"""Each episode's own random numbers, drawn some steps at a time for a whole batch.

Shapes: B live episodes, `...` what a step draws.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

CHUNK = 64
"""Steps drawn at a time: fewer calls, at the price of some memory."""

Draw = Callable[[np.random.Generator, np.ndarray], None]
"""Fills float32 [..., CHUNK, n] with the next CHUNK steps' numbers from an episode's generator."""


class Streams:
    """What a batch of episodes draws, step by step; rows may be at different steps of their episodes."""

    def __init__(
        self,
        generators: Sequence[np.random.Generator],
        draw: Draw,
        shape: Sequence[int],
        device: torch.device,
    ) -> None:
        """`shape`: that of a step's numbers, (..., n)."""
        self.generators = list(generators)
        self.draw = draw
        self.shape = (*shape[:-1], CHUNK, shape[-1])
        self.device = device
        self.steps = np.zeros(len(self.generators), np.int64)  # steps of each row's episode so far
        self.numbers = self._chunk(range(len(self.generators)))  # [B, ..., CHUNK, n]

    def now(self) -> Tensor:
        """This step's numbers, float32 [B, ..., n]."""
        offsets = self.steps % CHUNK
        if (offsets == offsets[0]).all():
            return self.numbers.select(-2, int(offsets[0]))
        rows = torch.arange(len(offsets), device=self.device)
        return self.numbers.movedim(-2, 1)[rows, torch.from_numpy(offsets).to(self.device)]

    def advance(self) -> None:
        """On to the next step."""
        self.steps += 1
        used = np.flatnonzero(self.steps % CHUNK == 0)
        if len(used):
            self._replace(used)

    def keep(self, live: np.ndarray) -> None:
        """Go on with the rows `live`, bool [B]."""
        kept = np.flatnonzero(live)
        self.generators = [self.generators[row] for row in kept]
        self.steps = self.steps[kept]
        self.numbers = self.numbers[torch.from_numpy(kept).to(self.device)]

    def restart(self, rows: np.ndarray, generators: Sequence[np.random.Generator]) -> None:
        """New episodes in the rows `rows` (their numbers, int [R]), from generators of their own."""
        for row, generator in zip(rows, generators, strict=True):
            self.generators[row] = generator
        self.steps[rows] = 0
        self._replace(rows)

    def _replace(self, rows: np.ndarray) -> None:
        self.numbers[torch.from_numpy(rows).to(self.device)] = self._chunk(rows)

    def _chunk(self, rows: Sequence[int] | np.ndarray | range) -> Tensor:
        drawn = np.empty((len(rows), *self.shape), np.float32)
        for row, numbers in zip(rows, drawn, strict=True):
            self.draw(self.generators[row], numbers)
        return torch.from_numpy(drawn).to(self.device)
