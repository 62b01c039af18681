import dataclasses

import numpy as np
import pytest
import torch

from tests.wm import artifacts
from wm.controller import ControllerShape
from wm.dream import Dream
from wm.places import Features
from wm.playing import Reader, play
from wm.tasks import load_task

CARRACING, TAKECOVER = load_task("carracing"), load_task("takecover")
READER = Reader(("z",), ControllerShape(inputs=1, hidden_size=0, outputs=3, bias=False))


class Scripted:
    """A place of written rewards: episode `seed` gives `scripts[seed]`, and is done at its end."""

    device = torch.device("cpu")

    def __init__(self, scripts: list[list[float]], horizon: int) -> None:
        self.task = dataclasses.replace(CARRACING, horizon=horizon)
        self.scripts = scripts
        self.horizon = horizon
        self.actions: list[np.ndarray] = []
        self.terminations = np.zeros(0, bool)

    def reset(self, seeds) -> Features:
        self.rows = list(seeds)
        self.steps = 0
        return self._features()

    def step(self, actions):
        assert len(actions) == len(self.rows)
        self.actions.append(actions)
        rewards = np.array([self.scripts[row][self.steps] for row in self.rows])
        self.steps += 1
        dones = np.array([self.steps in (len(self.scripts[row]), self.horizon) for row in self.rows])
        return self._features(), rewards, dones

    def keep(self, live) -> Features:
        self.rows = [row for row, stays in zip(self.rows, live, strict=True) if stays]
        return self._features()

    def restart(self, done, seeds) -> Features:
        raise AssertionError("episodes that are played are not restarted")

    def frames(self) -> np.ndarray:
        raise AssertionError("C does not look at frames")

    def close(self) -> None:
        pass

    def _features(self) -> Features:
        z = torch.tensor(self.rows, dtype=torch.float32)[:, None]
        return Features(z, torch.zeros(len(self.rows), 0), torch.zeros(len(self.rows), 0))


def parameters(rows: int) -> np.ndarray:
    return np.ones((rows, 3), np.float32)


def test_returns_are_sums_of_rewards_and_finished_rows_leave():
    place = Scripted([[1, 2, 3], [4], [5, 6]], horizon=10)
    scores = play(place, READER, parameters(3), [0, 1, 2])
    assert scores.returns.tolist() == [6, 4, 11] and scores.returns.dtype == np.float64
    assert scores.lengths.tolist() == [3, 1, 2]
    assert [len(actions) for actions in place.actions] == [3, 2, 1]


def test_each_row_keeps_its_own_parameters_when_others_leave():
    place = Scripted([[0, 0, 0], [0], [0, 0]], horizon=10)
    weights = np.array([[0.1, 0.0, 0.0], [0.2, 0.0, 0.0], [0.3, 0.0, 0.0]])
    play(place, READER, weights, [0, 1, 2])
    steering = [actions[:, 0].tolist() for actions in place.actions]
    row_0, row_1, row_2 = (float(np.tanh(np.float32(w * seed))) for w, seed in ((0.1, 0), (0.2, 1), (0.3, 2)))
    assert steering[0] == pytest.approx([row_0, row_1, row_2])
    assert steering[1] == pytest.approx([row_0, row_2])
    assert steering[2] == pytest.approx([row_0])


IDLE = -0.1 + 5e-14  # as CarRacing reports it, a difference of two sums


def test_patience_stops_a_row_and_charges_the_rest_of_the_horizon():
    stuck = [3.0, IDLE, IDLE, IDLE] + [100.0] * 16
    moving = [IDLE, IDLE, 3.0] * 6 + [IDLE] * 2
    place = Scripted([stuck, moving], horizon=20)
    scores = play(place, READER, parameters(2), [0, 1], patience=3)
    assert scores.lengths.tolist() == [4, 20]
    assert scores.returns == pytest.approx([3.0 - 0.1 * 19, 6 * 3.0 - 0.1 * 14])


def test_patience_does_not_charge_an_episode_that_is_over():
    place = Scripted([[IDLE, IDLE], [IDLE, IDLE, IDLE]], horizon=3)
    scores = play(place, READER, parameters(2), [0, 1], patience=2)
    assert scores.lengths.tolist() == [2, 2]
    assert scores.returns == pytest.approx([-0.2, -0.3])


def test_without_patience_nothing_is_stopped():
    place = Scripted([[IDLE] * 20], horizon=20)
    scores = play(place, READER, parameters(1), [0])
    assert scores.lengths.tolist() == [20] and scores.returns == pytest.approx([-2.0])


def test_features_are_read_in_the_order_z_c_h():
    features = Features(z=torch.tensor([[1.0]]), h=torch.tensor([[2.0]]), c=torch.tensor([[3.0]]))
    shape = ControllerShape(inputs=3, hidden_size=0, outputs=1, bias=False)
    assert Reader(("h", "z"), shape).inputs(features).tolist() == [[1.0, 2.0]]
    assert Reader(("z", "h", "c"), shape).inputs(features).tolist() == [[1.0, 3.0, 2.0]]


def test_an_episode_in_a_batch_is_the_episode_alone():
    """In a dream: the same starts, draws and ends for a seed, whoever else is in the batch."""
    size = artifacts.LATENT + 2 * artifacts.HIDDEN
    reader = Reader(("z", "h", "c"), ControllerShape(size, 0, 1, True))
    weights = np.random.default_rng(1).standard_normal((6, reader.shape.size))

    def dream() -> Dream:
        return Dream(TAKECOVER, artifacts.memory("takecover"), artifacts.starts(), 1.0, "float32")

    together = play(dream(), reader, weights, range(6))
    alone = [play(dream(), reader, weights[seed : seed + 1], [seed]) for seed in range(6)]
    assert together.lengths.tolist() == [int(scores.lengths[0]) for scores in alone]
    assert len(set(together.lengths.tolist())) > 2
