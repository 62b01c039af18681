"""Gymnasium's CarRacing with another picture: physics, rewards and endings are the parent's own."""

from typing import Any, Protocol

import numpy as np
from gymnasium.envs.box2d.car_racing import CarRacing
from PIL import Image

from wm.tasks.carracing.car import QuickCar

ROWS = 84
"""Rows of the 96 x 96 picture that the agent sees; the rest is the dashboard (published code)."""


class Renderer(Protocol):
    """What draws the agent's frame from the state of the environment."""

    def new_track(self, env: CarRacing) -> None:
        """Take over the road of the episode that begins."""
        ...

    def draw(self, env: CarRacing) -> np.ndarray:
        """The present frame, a new uint8 [64, 64, 3]."""
        ...


def shrink(picture: np.ndarray) -> np.ndarray:
    """The agent's frame, uint8 [64, 64, 3], from the stock picture's kept rows, uint8 [84, 96, 3]."""
    return np.asarray(Image.fromarray(picture).resize((64, 64), Image.Resampling.BILINEAR))


class StockCarRacing(CarRacing):
    """The stock environment; its picture cropped and resized."""

    def _render(self, mode: str) -> np.ndarray | None:
        picture = super()._render(mode)
        return None if picture is None else shrink(np.ascontiguousarray(picture[:ROWS]))


class DrawnCarRacing(CarRacing):
    """The stock environment whose pictures a renderer draws and whose car is computed sooner."""

    def __init__(self, renderer: Renderer) -> None:
        super().__init__()
        self._renderer = renderer

    def _create_track(self) -> bool:
        found = super()._create_track()
        if found:
            self._renderer.new_track(self)
        return found

    def step(self, action: Any) -> Any:
        """The parent's; `reset` takes the first step, with a new car and no action."""
        assert self.car is not None
        if not isinstance(self.car, QuickCar):
            self.car = QuickCar(self.car)
        return super().step(action)

    def _render(self, mode: str) -> np.ndarray:
        return self._renderer.draw(self)
