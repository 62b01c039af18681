"""CarRacing's renderers on one core: beside the stock environment, and beside its physics alone."""

from collections.abc import Callable, Iterator

import numpy as np

from tests.bench.measure import Row, Work, repeated
from wm.tasks import Game


def drive(game: Game) -> Iterator[None]:
    """Steps under the data policy without end; resets and openings have their natural share."""
    from wm.tasks.carracing import TASK

    episode = 0
    while True:
        game.reset(episode)
        policy = TASK.data_policy(np.random.default_rng(episode), 12)
        for _ in range(TASK.horizon):
            *_, terminated, truncated = game.step(policy.act())
            yield
            if terminated or truncated:
                break
        episode += 1


def driving(make: Callable[[], Game]) -> Callable[[], Work]:
    return lambda: repeated(drive(make()), 20, 1)


def physics() -> Game:
    """A game whose drawing is switched off."""
    from wm.tasks.carracing import CarRacingGame
    from wm.tasks.carracing.render import DrawnCarRacing

    class Blind:
        frame = np.zeros((64, 64, 3), np.uint8)

        def new_track(self, env: object) -> None:
            pass

        def draw(self, env: object) -> np.ndarray:
            return self.frame

    game = CarRacingGame("stock")
    game._env = DrawnCarRacing(Blind())
    return game


def rendering(renderer: str) -> Row:
    from wm.tasks.carracing import CarRacingGame

    return Row(
        "frames/s, one core",
        ours=driving(lambda: CarRacingGame(renderer)),
        reference=driving(lambda: CarRacingGame("stock")),
        limit=driving(physics),
    )


ROWS: dict[str, Callable[[], Row]] = {
    "carracing-fast": lambda: rendering("fast"),
    "carracing-exact": lambda: rendering("exact"),
}
