from typing import Any

import numpy as np
import pytest
import torch

from tests.wm import artifacts
from wm import seeds
from wm.memory import Memory
from wm.reality import Games, Reality
from wm.tasks import Task, load_task

RENDERERS = {"carracing": "fast", "takecover": "native"}


def drive(task: Task, steps: int, rows: int) -> np.ndarray:
    """Random actions, float32 [steps, rows, A]."""
    policies = [task.random_policy(np.random.default_rng(row)) for row in range(rows)]
    return np.array([[policy.act() for policy in policies] for _ in range(steps)])


def plain_episode(task: Task, memory: Memory | None, seed: int, actions: np.ndarray) -> list[dict[str, Any]]:
    """One episode alone, written out: what is seen, drawn, remembered and rewarded at every step."""
    vision = artifacts.vision()
    game = task.make_game(RENDERERS[task.name])
    stream = seeds.generator(seed, "latent")
    frame, reward, done = game.reset(seed), None, False
    state = memory.initial(1) if memory else (torch.zeros(1, 0), torch.zeros(1, 0))
    moments = []
    for step in range(len(actions) + 1):
        mean, logvar = vision.encode(torch.tensor(frame)[None])
        noise = torch.from_numpy(stream.standard_normal(artifacts.LATENT, np.float32))
        z = mean + torch.exp(logvar / 2) * noise
        moments.append({"z": z, "h": state[0], "c": state[1], "frame": frame, "reward": reward, "done": done})
        if done or step == len(actions):
            break
        if memory:
            flag = [torch.tensor([[float(step == 0)]])] if task.ends else []
            x = torch.cat([z, torch.from_numpy(actions[step])[None], *flag], 1)
            _, (h, c) = memory.lstm(x[:, None], (state[0][None], state[1][None]))
            state = (h[0], c[0])
        frame, reward, terminated, truncated = game.step(actions[step])
        done = terminated or truncated
    game.close()
    return moments


@pytest.mark.parametrize(
    ("name", "remembers", "steps"),
    [("carracing", True, 70), ("carracing", False, 5), ("takecover", True, 130)],
)
def test_a_batch_is_what_a_plain_loop_is(name, remembers, steps):
    """Networks within 1e-5, frames, rewards and ends bit-equal, while rows finish or are dropped."""
    task = load_task(name)
    memory = artifacts.memory(name) if remembers else None
    rows = 4
    actions = drive(task, steps, rows)
    expected = [plain_episode(task, memory, 100 + row, actions[:, row]) for row in range(rows)]
    place = Reality(task, RENDERERS[name], artifacts.vision(), memory, "float32")
    features = place.reset([100 + row for row in range(rows)])
    live = np.arange(rows)
    for step in range(steps):
        for index, row in enumerate(live):
            for feature in ("z", "h", "c"):
                found = getattr(features, feature)[index]
                assert torch.allclose(found, expected[row][step][feature][0], atol=1e-5)
            assert np.array_equal(place.frames()[index], expected[row][step]["frame"])
        features, rewards, dones = place.step(actions[step, live])
        assert rewards.tolist() == [expected[row][step + 1]["reward"] for row in live]
        assert dones.tolist() == [expected[row][step + 1]["done"] for row in live]
        stays = ~dones & (live != step - 40)  # and rows 0 to 3 are dropped one after another, but the last
        stays |= (live == rows - 1) & ~dones
        if not stays.all():
            features = place.keep(stays)
            live = live[stays]
        if not len(live):
            break
    place.close()


def test_a_place_is_used_again_and_games_are_reused():
    task = load_task("carracing")
    place = Reality(task, "fast", artifacts.vision(), artifacts.memory("carracing"), "float32")
    first = place.reset([1, 2, 3])
    place.step(np.zeros((3, 3), np.float32))
    place.keep(np.array([True, False, False]))
    games = {id(game) for game in [*place.playing, *place.games.free]}
    again = place.reset([1, 2, 3])
    assert {id(game) for game in place.playing} == games
    assert torch.equal(first.z, again.z) and not again.h.any() and not again.c.any()
    place.close()


def test_a_restarted_row_plays_the_episode_of_its_new_seed():
    task = load_task("takecover")
    actions = drive(task, 6, 2)

    def make() -> Reality:
        return Reality(task, "native", artifacts.vision(), artifacts.memory("takecover"), "float32")

    place, fresh = make(), make()
    place.reset([5, 6])
    for step in range(3):
        going, _, _ = place.step(actions[step])
    restarted = place.restart(np.array([True, False]), [7])
    assert torch.allclose(restarted.z[1], going.z[1], atol=1e-5) and torch.equal(restarted.h[1], going.h[1])
    expected = fresh.reset([7])
    for step in range(3, 6):
        assert torch.allclose(restarted.z[0], expected.z[0], atol=1e-5)
        assert torch.allclose(restarted.h[0], expected.h[0], atol=1e-5)
        restarted, _, _ = place.step(actions[step])
        expected, _, _ = fresh.step(actions[step, :1])
    place.close()
    fresh.close()


@pytest.mark.parametrize("short", ["bfloat16", "int8"])
def test_short_numbers_stay_near_float32_and_give_float32(short: str):
    task = load_task("carracing")
    actions = drive(task, 3, 2)
    found = {}
    for precision in ("float32", short):
        place = Reality(task, "fast", artifacts.vision(), artifacts.memory("carracing"), precision)
        place.reset([1, 2])
        for step in range(3):
            found[precision], _, _ = place.step(actions[step])
        place.close()
    for feature in ("z", "h", "c"):
        one, other = getattr(found["float32"], feature), getattr(found[short], feature)
        assert one.dtype == other.dtype == torch.float32
        assert torch.allclose(one, other, atol=0.05) and not torch.equal(one, other)


def test_games_are_made_when_needed_and_closed():
    made, closed = [], []

    class Toy:
        def close(self) -> None:
            closed.append(self)

    class ToyTask:
        @staticmethod
        def make_game(renderer: str) -> Toy:
            made.append(renderer)
            return Toy()

    task: Any = ToyTask()
    games = Games(task, "plain")
    taken = games.take(2)
    games.give(taken[:1])
    assert taken[0] in games.take(2) and made == ["plain"] * 3
    games.give(taken)
    games.close()
    assert len(closed) == 2
