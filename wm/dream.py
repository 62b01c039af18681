"""The dream: M imagines what comes next, with a temperature; C lives in it as in the game (paper 4.2).

Shapes: B live episodes, A action, Z latent, H memory, K mixtures, E stored first frames.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from wm import paths, seeds, weights
from wm.cell import Cell
from wm.memory import PART, Memory
from wm.places import Features
from wm.streams import Streams
from wm.tasks import Task
from wm.vision import Vision, sample


class Starts(NamedTuple):
    """First frames of recorded episodes, as V saw them: mean and log-variance, float32 [E, Z] each."""

    means: Tensor
    logvars: Tensor


STARTS = "starts"
"""The part of a trained M's weights file that holds the starts of its dreams."""


def save_dreamer(path: Path, memory: Memory, starts: Starts) -> None:
    """Write all that a dream takes: M and the starts."""
    weights.save(path, weights.join(**{PART: memory.state_dict(), STARTS: starts._asdict()}))


def load_starts(task: str, latent_size: int, root: Path = paths.DATA) -> Starts:
    """The starts beside a task's trained M. Raises ValueError where they are of another latent size."""
    path = paths.memory(task, root=root) / paths.WEIGHTS
    tensors = weights.load_rows(path, {"means": latent_size, "logvars": latent_size}, STARTS)
    return Starts(**tensors)


class Dream:
    """A `Place` in which M plays the game: z from its mixture, the end from its logit, reward 1 a step.

    A dream of a task whose M predicts no end lasts until the horizon and gives no reward: it is for watching.
    """

    def __init__(
        self,
        task: Task,
        memory: Memory,
        starts: Starts,
        temperature: float,
        precision: str,
        vision: Vision | None = None,
    ) -> None:
        """`vision` is needed for `frames` alone. `precision`: of M's products, as `Cell` takes it."""
        self.task = task
        self.horizon = task.horizon
        self.device = next(memory.parameters()).device
        self.memory = memory
        self.cell = Cell(memory, precision)
        self.starts = Starts(*(t.to(self.device) for t in starts))
        self.temperature = temperature
        self.vision = vision

    @torch.inference_mode()
    def reset(self, seeds_: Sequence[int]) -> Features:
        """Start an episode per seed: one of the stored first frames, its z drawn anew."""
        generators = [seeds.generator(seed, "dream") for seed in seeds_]
        self.z = self._begin(generators)
        self.streams = Streams(generators, fill, (2, self.z.shape[1]), self.device)
        self.state = self.memory.initial(len(seeds_))
        return self._features()

    @torch.inference_mode()
    def step(self, actions: np.ndarray) -> tuple[Features, np.ndarray, np.ndarray]:
        """M takes in z and actions float32 [B, A] and draws what follows. Done: logit > 0, or time is up."""
        taken = torch.from_numpy(np.asarray(actions, np.float32)).to(self.device)
        restarts = torch.from_numpy(self.streams.steps == 0).to(self.device)
        self.state = self.cell.step(self.z, taken, restarts, self.state)
        self.z, end = self.cell.draw(self.state[0], self.temperature, self.streams.now())
        self.streams.advance()
        ended = (end > 0).cpu().numpy() if self.memory.ends else np.zeros(len(actions), bool)
        rewards = np.full(len(actions), float(self.memory.ends))
        self.terminations = ended
        return self._features(), rewards, ended | (self.streams.steps >= self.horizon)

    @torch.inference_mode()
    def keep(self, live: np.ndarray) -> Features:
        """Go on with the rows `live`, bool [B]."""
        kept = np.flatnonzero(live)
        self.streams.keep(live)
        rows = torch.from_numpy(kept).to(self.device)
        self.z = self.z[rows]
        self.state = (self.state[0][rows], self.state[1][rows])
        return self._features()

    @torch.inference_mode()
    def restart(self, done: np.ndarray, seeds_: Sequence[int]) -> Features:
        """Start new episodes in the rows `done`, bool [B], with a seed for each of them."""
        generators = [seeds.generator(seed, "dream") for seed in seeds_]
        rows = np.flatnonzero(done)
        self.z = self.z.index_copy(0, torch.from_numpy(rows).to(self.device), self._begin(generators))
        self.streams.restart(rows, generators)
        going = torch.from_numpy(~done).to(self.device)[:, None]
        self.state = (self.state[0] * going, self.state[1] * going)
        return self._features()

    @torch.inference_mode()
    def frames(self) -> np.ndarray:
        """V's picture of each z, uint8 [B, 64, 64, 3]."""
        assert self.vision is not None, "a dream that is watched needs vision"
        return self.vision.picture(self.z)

    def close(self) -> None:
        """Nothing to end."""

    def _features(self) -> Features:
        return Features(self.z, *self.state)

    def _begin(self, generators: Sequence[np.random.Generator]) -> Tensor:
        """z [B, Z] of one of the stored first frames each, drawn anew."""
        starts = self.starts
        picks = torch.tensor([int(g.integers(len(starts.means))) for g in generators], device=self.device)
        noise = np.stack([g.standard_normal(starts.means.shape[1], np.float32) for g in generators])
        return sample(starts.means[picks], starts.logvars[picks], torch.from_numpy(noise).to(self.device))


def fill(generator: np.random.Generator, numbers: np.ndarray) -> None:
    """Uniform and standard normal numbers for some steps, into float32 [2, CHUNK, Z]."""
    generator.random(dtype=np.float32, out=numbers[0])
    generator.standard_normal(dtype=np.float32, out=numbers[1])
