"""The dream: a batch is the plain loop, and what an episode draws is its own."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from wm import mixture, paths, seeds
from wm.cell import Cell
from wm.dream import Dream, Starts, load_starts, save_dreamer
from wm.memory import Memory
from wm.tasks import load_task
from wm.vision import Vision, sample

TASK = replace(load_task("takecover"), horizon=90)
STREAM = torch.Generator().manual_seed(0)
FIRSTS = Starts(torch.randn(5, 6, generator=STREAM), torch.randn(5, 6, generator=STREAM))


def memory_of(done_bias: float = -20.0) -> Memory:
    memory = Memory(6, 1, 8, 3, True).initialise(1)
    with torch.no_grad():
        memory.head.bias[-1] = done_bias
    return memory.requires_grad_(False)


def moves(rows: int, step: int) -> np.ndarray:
    return np.array([[(row + step) % 3 - 1] for row in range(rows)], np.float32)


def plain_episode(memory: Memory, seed: int, row: int, steps: int, temperature: float) -> list[torch.Tensor]:
    """An episode by itself, a step at a time, all its randomness drawn at once."""
    stream = seeds.generator(seed, "dream")
    pick = int(stream.integers(5))
    noise = torch.from_numpy(stream.standard_normal(6, np.float32))
    z = sample(FIRSTS.means[pick], FIRSTS.logvars[pick], noise)[None]
    zs, state, cell = [z], memory.initial(1), Cell(memory, "float32")
    for step in range(steps):
        if step % 64 == 0:
            uniform = torch.from_numpy(stream.random((64, 6), np.float32))
            normal = torch.from_numpy(stream.standard_normal((64, 6), np.float32))
        action = torch.from_numpy(moves(row + 1, step)[row:])
        state = cell.step(z, action, torch.tensor([step == 0]), state)
        at = slice(step % 64, step % 64 + 1)
        z = mixture.sample(cell.predict(state[0]).z, temperature, uniform[at], normal[at])
        zs.append(z)
    return zs


def test_a_batch_is_the_plain_loop() -> None:
    memory, names = memory_of(), [3, 1, 2]
    dream = Dream(TASK, memory, FIRSTS, 1.3, "float32")
    seen = [dream.reset(names).z]
    for step in range(80):
        features, rewards, dones = dream.step(moves(3, step))
        seen.append(features.z)
        assert (rewards == 1).all() and not dones.any()
    for row, seed in enumerate(names):
        expected = torch.cat(plain_episode(memory, seed, row, 80, 1.3))
        torch.testing.assert_close(torch.stack(seen)[:, row], expected, atol=1e-4, rtol=1e-4)


def test_a_row_goes_on_unchanged_when_others_leave() -> None:
    dreams = [Dream(TASK, memory_of(), FIRSTS, 1.0, "float32") for _ in range(2)]
    for dream in dreams:
        dream.reset([10, 11, 12])
    dreams[1].step(moves(3, 0))
    dreams[0].step(moves(3, 0))
    dreams[1].keep(np.array([True, False, True]))
    for step in range(1, 70):
        actions = moves(3, step)
        whole, _, _ = dreams[0].step(actions)
        part, _, _ = dreams[1].step(actions[[0, 2]])
        torch.testing.assert_close(part.z, whole.z[[0, 2]], atol=1e-4, rtol=1e-4)


def test_it_ends_by_its_logit_or_at_the_horizon() -> None:
    sure = Dream(TASK, memory_of(done_bias=20.0), FIRSTS, 1.0, "float32")
    sure.reset([1, 2])
    _, rewards, dones = sure.step(moves(2, 0))
    assert dones.all() and (rewards == 1).all()
    endless = Dream(TASK, memory_of(), FIRSTS, 1.0, "float32")
    endless.reset([1])
    ends = [bool(endless.step(moves(1, step))[2][0]) for step in range(TASK.horizon)]
    assert ends == [False] * (TASK.horizon - 1) + [True]


def test_a_task_without_ends_dreams_without_reward() -> None:
    task = replace(load_task("carracing"), horizon=5)
    dream = Dream(task, Memory(6, 3, 8, 3, False).initialise(1), FIRSTS, 1.0, "float32")
    dream.reset([1])
    steps = [dream.step(np.zeros((1, 3), np.float32)) for _ in range(5)]
    assert [float(rewards[0]) for _, rewards, _ in steps] == [0.0] * 5
    assert [bool(dones[0]) for _, _, dones in steps] == [False] * 4 + [True]


def test_it_shows_what_v_makes_of_z() -> None:
    dream = Dream(TASK, memory_of(), FIRSTS, 1.0, "float32", Vision(6).initialise(1))
    dream.reset([1, 2])
    frames = dream.frames()
    assert frames.shape == (2, 64, 64, 3) and frames.dtype == np.uint8


def test_starts_come_back_and_another_latent_size_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    paths.memory("takecover").mkdir(parents=True)
    save_dreamer(paths.memory("takecover") / paths.WEIGHTS, memory_of(), FIRSTS)
    loaded = load_starts("takecover", 6)
    assert torch.equal(loaded.means, FIRSTS.means) and torch.equal(loaded.logvars, FIRSTS.logvars)
    with pytest.raises(ValueError, match="latent_size"):
        load_starts("takecover", 7)
