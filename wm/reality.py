"""Reality: real games seen through V and remembered by M, many side by side in one process.

Shapes: B live episodes, A action size, Z latent, H memory.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from wm import seeds
from wm.cell import Cell
from wm.encoder import Encoder
from wm.memory import Memory
from wm.places import Features
from wm.streams import Streams
from wm.tasks import Game, Task
from wm.vision import Vision, sample


class Games:
    """Games that are played one episode after another, made when first needed.

    The same seed is the same episode in a fresh game and in one that was played before, so it does not
    matter which game an episode gets.
    """

    def __init__(self, task: Task, renderer: str) -> None:
        self.task = task
        self.renderer = renderer
        self.free: list[Game] = []

    def take(self, count: int) -> list[Game]:
        while len(self.free) < count:
            self.free.append(self.task.make_game(self.renderer))
        return [self.free.pop() for _ in range(count)]

    def give(self, games: Sequence[Game]) -> None:
        self.free.extend(games)

    def close(self) -> None:
        for game in self.free:
            game.close()
        self.free = []


class Reality:
    """A `Place` of real games: frames encoded by V in one batch, M stepped in one batch."""

    def __init__(
        self, task: Task, renderer: str, vision: Vision, memory: Memory | None, precision: str
    ) -> None:
        """`memory` None: h and c are empty, [B, 0]. `precision`: float32, bfloat16 or int8, of V and M."""
        self.task = task
        self.horizon = task.horizon
        self.vision = vision
        self.memory = memory
        self.encoder = Encoder(vision, precision)
        self.cell = Cell(memory, precision) if memory else None
        self.device = next(vision.parameters()).device
        self.games = Games(task, renderer)
        self.playing: list[Game] = []

    @torch.inference_mode()
    def reset(self, seeds_: Sequence[int]) -> Features:
        """Start an episode per seed: the game from the seed, z's noise from its stream "latent"."""
        self.games.give(self.playing)
        self.playing = self.games.take(len(seeds_))
        self.seen = np.stack([game.reset(seed) for game, seed in zip(self.playing, seeds_, strict=True)])
        generators = [seeds.generator(seed, "latent") for seed in seeds_]
        self.streams = Streams(generators, fill, (self.vision.latent_size,), self.device)
        rows, device = len(seeds_), self.device
        empty = torch.zeros(rows, 0, device=device), torch.zeros(rows, 0, device=device)
        self.state = self.memory.initial(rows) if self.memory else empty
        self.z = self._look()
        return self._features()

    @torch.inference_mode()
    def step(self, actions: np.ndarray) -> tuple[Features, np.ndarray, np.ndarray]:
        """Step all games; M takes in the z and the action that led on. Done: terminated or at the horizon."""
        self._remember(actions)
        steps = [game.step(action) for game, action in zip(self.playing, actions, strict=True)]
        self.seen = np.stack([frame for frame, _, _, _ in steps])
        rewards = np.array([reward for _, reward, _, _ in steps], np.float64)
        self.terminations = np.array([terminated for _, _, terminated, _ in steps], bool)
        dones = self.terminations | np.array([truncated for _, _, _, truncated in steps], bool)
        self.streams.advance()
        self.z = self._look()
        return self._features(), rewards, dones

    @torch.inference_mode()
    def keep(self, live: np.ndarray) -> Features:
        """Go on with the rows `live`; the games of the others are free for later episodes."""
        kept = np.flatnonzero(live)
        self.games.give([self.playing[row] for row in np.flatnonzero(~live)])
        self.playing = [self.playing[row] for row in kept]
        self.streams.keep(live)
        self.seen = self.seen[kept]
        rows = torch.from_numpy(kept).to(self.device)
        self.z = self.z[rows]
        self.state = (self.state[0][rows], self.state[1][rows])
        return self._features()

    @torch.inference_mode()
    def restart(self, done: np.ndarray, seeds_: Sequence[int]) -> Features:
        """Start new episodes in the rows `done`, bool [B], with a seed for each of them."""
        rows = np.flatnonzero(done)
        for row, seed in zip(rows, seeds_, strict=True):
            self.seen[row] = self.playing[row].reset(seed)
        self.streams.restart(rows, [seeds.generator(seed, "latent") for seed in seeds_])
        going = torch.from_numpy(~done).to(self.device)[:, None]
        self.state = (self.state[0] * going, self.state[1] * going)
        self.z = torch.where(going, self.z, self._look())
        return self._features()

    def frames(self) -> np.ndarray:
        """The games' frames, uint8 [B, 64, 64, 3]."""
        return self.seen.copy()

    def close(self) -> None:
        self.games.give(self.playing)
        self.playing = []
        self.games.close()

    def _features(self) -> Features:
        return Features(self.z, *self.state)

    def _look(self) -> Tensor:
        """z [B, Z] of the present frames, sampled with the noise of this step."""
        mean, logvar = self.encoder.encode(torch.from_numpy(self.seen).to(self.device))
        return sample(mean, logvar, self.streams.now())

    def _remember(self, actions: np.ndarray) -> None:
        """M's state after it has seen this z and action; the first step of an episode is a restart."""
        if self.cell is None:
            return
        restarts = torch.from_numpy(self.streams.steps == 0).to(self.device)
        taken = torch.from_numpy(np.asarray(actions, np.float32)).to(self.device)
        self.state = self.cell.step(self.z, taken, restarts, self.state)


def fill(generator: np.random.Generator, numbers: np.ndarray) -> None:
    """Standard normal numbers for some steps of z, into float32 [CHUNK, Z]."""
    generator.standard_normal(dtype=np.float32, out=numbers)
