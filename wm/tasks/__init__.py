"""The games as small objects: what differs between them lives in `wm/tasks/` and nowhere else."""

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import gymnasium
import numpy as np

FRAME_SHAPE = (64, 64, 3)
"""Every game's frame: height, width, RGB in uint8 (supplement A.1)."""

TASKS = ("carracing", "takecover")


class Game(Protocol):
    """One real game, played an episode at a time. Same seed, same episode, fresh or reused."""

    def reset(self, seed: int) -> np.ndarray:
        """Start the episode of `seed` (0 <= seed < 2**31); the first frame, uint8 [64, 64, 3]."""
        ...

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool]:
        """Take `action` (float32 [A], the task's action code): frame, reward, terminated, truncated.

        The frame after the last step of an episode is a valid image. `truncated` is set at the task's
        horizon.
        """
        ...

    def close(self) -> None:
        """End whatever the game started (processes, surfaces)."""
        ...


class Policy(Protocol):
    """A policy that sees nothing: an episode's actions from the episode's own generator."""

    def act(self) -> np.ndarray:
        """The next action, float32 [A], in the task's action code."""
        ...


@dataclass(frozen=True)
class Task:
    """A game as data.

    `squash` turns C's raw outputs [..., A] into actions [..., A], float32 (the action code that M reads
    and `Game.step` takes). `action_space`, `from_space` give the same code to Gymnasium's users.
    """

    name: str
    action_size: int
    horizon: int  # steps; reaching it truncates the episode
    ends: bool  # M predicts the end of an episode and is told of restarts; the dream gives reward 1 a step
    kept_above: int  # rollouts keep episodes of more steps than this
    idle_reward: float | None  # of a step without progress; None where every step is progress
    renderers: tuple[str, ...]  # the first is the fastest
    make_game: Callable[[str], Game]  # by renderer
    squash: Callable[[np.ndarray], np.ndarray]
    data_policy: Callable[[np.random.Generator, int], Policy]  # by generator and persistence in steps
    random_policy: Callable[[np.random.Generator], Policy]
    action_space: gymnasium.Space
    from_space: Callable[[object], np.ndarray]  # an element of action_space -> float32 [A]


def turn(persistences: Sequence[int], index: int) -> int:
    """The persistence of the data policy in an episode: the episodes take turns."""
    return persistences[index % len(persistences)]


def load_task(name: str) -> Task:
    """The task of that name; its module is imported on first use, so one game never needs the other's."""
    assert name in TASKS, name
    return importlib.import_module(f"wm.tasks.{name}").TASK
