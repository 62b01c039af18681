import dataclasses
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from wm.blocks import Block, Scores, cut, join
from wm.evolution import evolve
from wm.settings import EvolutionSettings

SETTINGS = EvolutionSettings(
    population=12,
    episodes=3,
    generations=5,
    sigma=0.3,
    covariance="full",
    patience=0,
    selection_every=2,
    selection_episodes=4,
    block=7,
    precision="float32",
    seed=5,
)


class Memo:
    """A keeper in memory, which can stop the evolution after a number of blocks, as a kill does."""

    due = True

    def __init__(self, blocks: int | None = None) -> None:
        self.state: bytes | None = None
        self.blocks = blocks

    def load(self):
        return None if self.state is None else pickle.loads(self.state)

    def save(self, state) -> None:
        if self.blocks == 0:
            raise KeyboardInterrupt
        self.state = pickle.dumps(state)
        if self.blocks is not None:
            self.blocks -= 1


def sphere(blocks):
    """Minus the squared distance to a point of ones, and a noise that the episode's seed brings."""
    for block in blocks:
        noise = np.array([np.random.default_rng(seed).standard_normal() for seed in block.seeds])
        returns = -np.square(block.parameters.astype(float) - 1).sum(1) + 0.01 * noise
        yield Scores(returns, np.ones(len(block.seeds), np.int64))


def same(one, other) -> bool:
    return np.array_equal(one.best, other.best) and one.score == other.score and one.curve == other.curve


def test_blocks_let_every_candidate_play_every_seed():
    candidates = np.arange(6.0).reshape(3, 2)
    blocks = cut(candidates, [10, 11, 12, 13], size=5, patience=9)
    assert [len(block.seeds) for block in blocks] == [5, 5, 2]
    assert all(block.patience == 9 and block.parameters.dtype == np.float32 for block in blocks)
    together = join(
        [Scores(b.parameters.sum(1) * 100 + np.array(b.seeds), np.array(b.seeds)) for b in blocks]
    )
    expected = candidates.sum(1)[:, None] * 100 + np.arange(10, 14)
    assert np.array_equal(together.returns.reshape(3, 4), expected)
    assert np.array_equal(together.lengths.reshape(3, 4), np.tile(np.arange(10, 14), (3, 1)))


@pytest.mark.parametrize("covariance", ["full", "diagonal"])
def test_evolution_finds_the_optimum_of_a_sphere(covariance):
    settings = dataclasses.replace(SETTINGS, covariance=covariance, generations=120)
    result = evolve(sphere, 8, settings, Memo())
    assert result.best.dtype == np.float32
    assert np.abs(result.best - 1).max() < 0.1
    assert result.curve[-1]["mean"] > -0.1 > result.curve[0]["mean"]


def test_curve_tells_of_each_generation_and_selection():
    seen: list[Block] = []

    def evaluate(blocks):
        seen.extend(blocks)
        return sphere(blocks)

    result = evolve(evaluate, 4, SETTINGS, Memo())
    assert [row["generation"] for row in result.curve] == [1, 2, 3, 4, 5]
    assert ["mean_score" in row for row in result.curve] == [False, True, False, True, True]
    assert all(row["worst"] <= row["mean"] <= row["best"] and row["steps"] == 36 for row in result.curve)
    scores = [
        row[name] for row in result.curve if "mean_score" in row for name in ("mean_score", "best_score")
    ]
    assert result.score == max(scores)
    population, held_out = seeds_of(seen)
    assert all(len(generation) == SETTINGS.episodes for generation in population)
    assert len(set().union(*population)) == 5 * SETTINGS.episodes, "new episodes in each generation"
    assert len(held_out[0]) == 4 and held_out.count(held_out[0]) == 3, "the same held-out episodes each time"
    assert not held_out[0] & set().union(*population)


def seeds_of(blocks: list[Block]) -> tuple[list[set[int]], list[set[int]]]:
    """The seeds of each generation (36 rows) and of each selection (8 rows)."""
    rows = [seed for block in blocks for seed in block.seeds]
    population, held_out = [], []
    for generation in range(1, 6):
        population.append(set(rows[:36]))
        rows = rows[36:]
        if generation in (2, 4, 5):
            held_out.append(set(rows[:8]))
            rows = rows[8:]
    assert not rows
    return population, held_out


def test_interrupted_anywhere_and_resumed_it_gives_the_same_bytes():
    expected = evolve(sphere, 4, SETTINGS, Memo())
    for blocks in (1, 5, 6, 7, 14, 30):
        keeper = Memo(blocks)
        with pytest.raises(KeyboardInterrupt):
            evolve(sphere, 4, SETTINGS, keeper)
        keeper.blocks = None
        played: list[Block] = []

        def evaluate(rest, played=played):
            played.extend(rest)
            return sphere(rest)

        assert same(evolve(evaluate, 4, SETTINGS, keeper), expected)
        total = 5 * 6 + 3 * 2  # 36 rows in blocks of 7, five times, and 8 rows three times
        assert len(played) == total - blocks, "no finished block is played again"


RESUME = f"""
import pickle, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_evolution import Memo, SETTINGS, evolve, sphere
keeper = Memo(); keeper.state = sys.stdin.buffer.read()
sys.stdout.buffer.write(pickle.dumps(evolve(sphere, 4, SETTINGS, keeper)))
"""


def test_resumed_in_another_process_it_gives_the_same_bytes():
    """pycma finds its candidates by hashes of bytes, which differ from process to process."""
    expected = evolve(sphere, 4, SETTINGS, Memo())
    keeper = Memo(blocks=16)
    with pytest.raises(KeyboardInterrupt):
        evolve(sphere, 4, SETTINGS, keeper)
    environment = {**os.environ, "PYTHONHASHSEED": "123"}
    command = [sys.executable, "-c", RESUME]
    done = subprocess.run(command, input=keeper.state, capture_output=True, env=environment, check=True)
    assert same(pickle.loads(done.stdout), expected)
    assert b"resumed at" in done.stderr


def test_numpys_global_state_is_left_alone():
    np.random.seed(3)
    before = generator_words()
    evolve(sphere, 4, SETTINGS, Memo())
    assert np.array_equal(generator_words(), before)


def generator_words() -> np.ndarray:
    kind, words, *_ = np.random.get_state(legacy=True)
    assert kind == "MT19937"
    return np.array(words)
