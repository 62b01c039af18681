from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from wm import packing, recording, seeds
from wm.recording import Episode, Start, play_blind, score_blind, start
from wm.tasks import load_task


class FakeGame:
    """Frames, rewards and the end are functions of the seed, the step and the action."""

    made = 0

    def __init__(self) -> None:
        FakeGame.made += 1

    def reset(self, seed: int) -> np.ndarray:
        self.seed, self.steps = seed, 0
        self.frame = np.full((64, 64, 3), seed % 200, np.uint8)
        return self.frame

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool]:
        self.steps += 1
        self.frame[:] = (self.seed + self.steps) % 251  # the same memory again, as a game might
        terminated = self.steps == 1 + self.seed % 17
        return self.frame, float(action[0]) + self.steps, terminated, self.steps == 12


class FakePolicy:
    def __init__(self, generator: np.random.Generator, scale: float) -> None:
        self.generator, self.scale = generator, scale

    def act(self) -> np.ndarray:
        return (self.scale * self.generator.standard_normal(2)).astype(np.float32)


TASK = SimpleNamespace(
    name="fake",
    action_size=2,
    horizon=12,
    make_game=lambda renderer: FakeGame(),
    data_policy=lambda generator, persistence: FakePolicy(generator, 1.0),
    random_policy=lambda generator: FakePolicy(generator, 5.0),
)


@pytest.fixture(autouse=True)
def fresh_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker of its own for every test, which knows the fake task."""
    kept: dict[object, object] = {}

    def worker_local(key: object, make: Callable[[], object]) -> object:
        if key not in kept:
            kept[key] = make()
        return kept[key]

    monkeypatch.setattr(recording, "worker_local", worker_local)
    monkeypatch.setattr(recording, "load_task", lambda name: TASK if name == "fake" else load_task(name))


def starts(count: int) -> list[Start]:
    return [start(10, 3, "fake", "rollouts", 0, index) for index in range(count)]


def randomly(begins: list[Start]) -> list[Start]:
    """The same episodes, played by the random policy."""
    return [replace(begin, persistence=None) for begin in begins]


def plain_episode(begin: Start, policy: FakePolicy) -> dict[str, np.ndarray]:
    game = FakeGame()
    frame, rows, over = game.reset(begin.game).copy(), [], False
    while not over:
        action = policy.act()
        seen = frame
        frame, reward, terminated, truncated = game.step(action)
        frame = frame.copy()
        rows.append((seen, action, reward, terminated))
        over = terminated or truncated
    names = ("frames", "actions", "rewards", "terminations")
    return {name: np.stack(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}


def frames_of(episode: Episode) -> np.ndarray:
    found = np.empty((len(episode.frames), packing.CHUNK, 64, 64, 3), np.uint8)
    for chunk, out in zip(episode.frames, found, strict=True):
        packing.unpack(chunk, out)
    return np.concatenate(found)[: len(episode)]


@pytest.mark.parametrize("side_by_side", [1, 2, 5])
def test_episodes_are_those_of_a_plain_loop(side_by_side: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "SIDE_BY_SIDE", side_by_side)
    begins = starts(9)
    FakeGame.made = 0
    episodes = play_blind("fake", "any", begins)
    play_blind("fake", "any", begins[:2])
    assert FakeGame.made == side_by_side
    assert len({len(episode) for episode in episodes}) > 3
    for begin, episode in zip(begins, episodes, strict=True):
        plain = plain_episode(begin, FakePolicy(np.random.Generator(np.random.PCG64(begin.policy)), 1.0))
        assert episode.actions.dtype == episode.rewards.dtype == np.float32
        assert episode.terminations.dtype == bool
        for name, expected in plain.items():
            found = frames_of(episode) if name == "frames" else getattr(episode, name)
            np.testing.assert_array_equal(found, expected.astype(found.dtype))


def test_scores_are_those_of_the_episodes() -> None:
    scores = score_blind("fake", "any", randomly(starts(6)))
    for begin, score in zip(starts(6), scores, strict=True):
        plain = plain_episode(begin, FakePolicy(np.random.Generator(np.random.PCG64(begin.policy)), 5.0))
        assert score.steps == len(plain["rewards"])
        assert score.score == sum(plain["rewards"].tolist())


def test_an_episode_does_not_depend_on_its_block() -> None:
    whole = play_blind("fake", "any", starts(6))
    again = play_blind("fake", "any", starts(6)[4:])
    for one, other in zip(whole[4:], again, strict=True):
        np.testing.assert_array_equal(frames_of(one), frames_of(other))
        np.testing.assert_array_equal(one.actions, other.actions)


def test_game_and_policy_have_streams_of_their_own() -> None:
    begin = start(10, 3, "fake", "rollouts", 0, 1)
    assert begin.game == seeds.integer(3, "game", "fake", "rollouts", 0, 1)
    drawn = np.random.Generator(np.random.PCG64(begin.policy)).random(3)
    np.testing.assert_array_equal(drawn, seeds.generator(3, "policy", "fake", "rollouts", 0, 1).random(3))


def test_take_cover_is_recorded_as_a_plain_loop_plays_it() -> None:
    task = load_task("takecover")
    begins = [start(10, 1, "takecover", index) for index in range(3)]
    episodes = play_blind("takecover", "native", begins)
    game = task.make_game("native")
    for begin, episode in zip(begins, episodes, strict=True):
        policy = task.data_policy(np.random.Generator(np.random.PCG64(begin.policy)), 10)
        frame, frames = game.reset(begin.game), frames_of(episode)
        for i in range(len(episode)):
            np.testing.assert_array_equal(frames[i], frame)
            action = policy.act()
            np.testing.assert_array_equal(episode.actions[i], action)
            frame, reward, terminated, truncated = game.step(action)
            assert (episode.rewards[i], episode.terminations[i]) == (reward, terminated)
            assert (terminated or truncated) == (i == len(episode) - 1)
    game.close()
