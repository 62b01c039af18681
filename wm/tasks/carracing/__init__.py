"""CarRacing: gymnasium's `CarRacing` as the paper's agent plays it (section 3, supplement A.1)."""

import os
from typing import TYPE_CHECKING

import numpy as np
from gymnasium import spaces

from wm.errors import BadInput
from wm.tasks import Game, Task

if TYPE_CHECKING:
    from gymnasium.envs.box2d.car_racing import CarRacing

os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # no display is ever opened

HORIZON = 1000
RENDERERS = ("fast", "exact", "stock")


class CarRacingGame:
    """One CarRacing, drawn by one of `RENDERERS`.

    "stock" is gymnasium's own drawing, cropped and resized; "exact" gives the same pixels sooner; "fast"
    draws at the agent's resolution and is close to them. Physics, rewards and endings are gymnasium's in
    all three.
    """

    def __init__(self, renderer: str) -> None:
        if renderer not in RENDERERS:
            raise BadInput(f"renderer: {renderer!r} is none of {', '.join(RENDERERS)}")
        self._env = _environment(renderer)
        self._steps = 0

    def reset(self, seed: int) -> np.ndarray:
        """Start the episode of `seed` (0 <= seed < 2**31); the first frame, uint8 [64, 64, 3]."""
        self._steps = 0
        frame, _ = self._env.reset(seed=seed)
        return frame

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool]:
        """Steer, gas, brake, float32 [3]; frame, reward, terminated, truncated (at 1,000 steps).

        A step costs 0.1, a new tile of N gives 1000 / N; leaving the field ends the episode and makes
        that step's reward -100.
        """
        self._steps += 1
        frame, reward, terminated, _, _ = self._env.step(action)
        return frame, float(reward), bool(terminated), self._steps >= HORIZON

    def close(self) -> None:
        """Nothing is left to end: no display was opened."""
        self._env.close()


def _environment(renderer: str) -> "CarRacing":
    from wm.tasks.carracing import render as drawing

    if renderer == "stock":
        return drawing.StockCarRacing()
    if renderer == "exact":
        from wm.tasks.carracing.exact import ExactRenderer

        return drawing.DrawnCarRacing(ExactRenderer())
    from wm.tasks.carracing.fast import FastRenderer

    return drawing.DrawnCarRacing(FastRenderer())


def make_game(renderer: str) -> Game:
    """A game drawn by that renderer. Raises ValueError for an unknown one."""
    return CarRacingGame(renderer)


def squash(raw: np.ndarray) -> np.ndarray:
    """C's raw outputs [..., 3] as steer in [-1, 1], gas and brake in [0, 1], float32 (published code)."""
    bounded = np.tanh(np.asarray(raw, np.float32))
    steer, gas, brake = bounded[..., 0], (bounded[..., 1] + 1) / 2, np.clip(bounded[..., 2], 0, 1)
    return np.stack([steer, gas, brake], axis=-1).astype(np.float32)


def from_space(action: object) -> np.ndarray:
    """An element of the stock action space as the action code: itself in float32."""
    return np.asarray(action, np.float32)


LOW = np.array([-1, 0, 0], np.float32)
HIGH = np.array([1, 1, 1], np.float32)


class RandomPolicy:
    """Uniform over the action space at every step."""

    def __init__(self, generator: np.random.Generator) -> None:
        self._generator = generator

    def act(self) -> np.ndarray:
        """The next action, float32 [3]."""
        return self._generator.uniform(LOW, HIGH).astype(np.float32)


class SmoothPolicy:
    """Smooth random driving with a bias on gas: what the rollouts are recorded with.

    Each control follows an Ornstein-Uhlenbeck process, which wanders as held keys do instead of
    trembling; a uniformly random driver hardly leaves the spot. Brakes are rare and short.
    """

    MEAN = np.array([0.0, 0.25, -0.45])
    PACE = np.array([1.0, 0.6, 1.5])  # of each control's way back to its mean, in units of 1 / persistence
    SPREAD = np.array([0.35, 0.3, 0.25])  # standard deviation in the long run

    def __init__(self, generator: np.random.Generator, persistence: int) -> None:
        """`persistence`: steps after which the steering is forgotten (by a factor of e)."""
        self._generator = generator
        self._rate = 1 - np.exp(-self.PACE / persistence)  # share of the way back to the mean, per step
        self._noise = self.SPREAD * np.sqrt(2 * self._rate - self._rate**2)
        self._state = self.MEAN + self.SPREAD * generator.standard_normal(3)

    def act(self) -> np.ndarray:
        """The next action, float32 [3]."""
        kick = self._noise * self._generator.standard_normal(3)
        self._state = self._state + self._rate * (self.MEAN - self._state) + kick
        return np.clip(self._state, LOW, HIGH).astype(np.float32)


TASK = Task(
    name="carracing",
    action_size=3,
    horizon=HORIZON,
    ends=False,
    kept_above=0,
    idle_reward=-0.1,
    renderers=RENDERERS,
    make_game=make_game,
    squash=squash,
    data_policy=SmoothPolicy,
    random_policy=RandomPolicy,
    action_space=spaces.Box(LOW, HIGH),
    from_space=from_space,
)
