"""The games as ordinary Gymnasium environments: pixels, no networks, no artifacts."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from wm.errors import BadInput
from wm.reading import nearest
from wm.tasks import FRAME_SHAPE, load_task


class PixelsEnv(gymnasium.Env[np.ndarray, Any]):
    """A game as the agent's frames, uint8 [64, 64, 3].

    `reset(seed=s)` plays the episode of s (modulo 2**31), the same as the pipeline's of that seed; without a
    seed, one that the environment's own generator picks. At the task's horizon an episode is truncated.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 50}

    def __init__(self, task: str, renderer: str | None = None, render_mode: str | None = None) -> None:
        """`renderer`: one of the task's, the fastest if None. Raises ValueError for another."""
        self.task = load_task(task)
        self.render_mode = render_mode
        self.observation_space = spaces.Box(0, 255, FRAME_SHAPE, np.uint8)
        self.action_space = self.task.action_space
        self.game = self.task.make_game(check_renderer(self.task.renderers, renderer))
        self.frame = np.zeros(FRAME_SHAPE, np.uint8)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.frame = self.game.reset(episode_seed(seed, self.np_random))
        return self.frame.copy(), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.frame, reward, terminated, truncated = self.game.step(self.task.from_space(action))
        return self.frame.copy(), reward, terminated, truncated, {}

    def render(self) -> np.ndarray | None:
        """The present frame, uint8 [64, 64, 3], where `render_mode` is rgb_array."""
        return self.frame.copy() if self.render_mode == "rgb_array" else None

    def close(self) -> None:
        self.game.close()


def check_renderer(allowed: tuple[str, ...], renderer: str | None) -> str:
    """The renderer, or the first of those allowed if None. Raises ValueError for another."""
    if renderer is not None and renderer not in allowed:
        raise BadInput(f"renderer is {renderer!r}; {nearest(renderer, allowed)}")
    return renderer or allowed[0]


def episode_seed(seed: int | None, generator: np.random.Generator) -> int:
    """The seed of the episode to play: the one asked for, else one that the environment's generator picks."""
    return int(generator.integers(2**31)) if seed is None else seed % 2**31
