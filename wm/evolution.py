"""Evolving C with CMA-ES (paper section 2.3, supplement A.4; pycma).

Shapes: P candidates, E episodes of each, n parameters.
"""

import pickle
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import cma
import numpy as np
from threadpoolctl import threadpool_limits

from wm import seeds
from wm.blocks import Block, Scores, cut, join
from wm.progress import bar
from wm.settings import EvolutionSettings

Evaluate = Callable[[Sequence[Block]], Iterable[Scores]]
"""Plays blocks and gives their scores in the blocks' order, each as soon as it is there."""


class Keeper(Protocol):
    """Where the state of an evolution survives a kill; `wm.checkpoint.Checkpoint` is one."""

    @property
    def due(self) -> bool: ...
    def load(self) -> Any | None: ...
    def save(self, state: Any) -> None: ...


class Normal:
    """pycma's source of normal numbers: a generator of its own, which is pickled along with it."""

    def __init__(self, generator: np.random.Generator) -> None:
        self.generator = generator

    def __call__(self, *shape: int) -> np.ndarray:
        return self.generator.standard_normal(shape)


@dataclass
class State:
    """All that an evolution knows between two blocks.

    `strategy` is pycma's object as it was before it was asked for the present generation: it looks up its
    own candidates by hashes that hold in one process only, so whoever resumes asks again for the same ones.
    """

    strategy: bytes
    generation: int = 0  # generations told to the strategy
    finished: list[Scores] = field(default_factory=list)  # blocks of the present work
    selecting: np.ndarray | None = None  # float64 [2, n]: CMA mean and best candidate, to be selected from
    best: np.ndarray | None = None  # float64 [n], the best selected so far
    best_score: float = -np.inf
    curve: list[dict[str, float]] = field(default_factory=list)


@dataclass(frozen=True)
class Result:
    """`best`: parameters float32 [n] of the best that a selection saw; `score`: its mean return there.

    `curve` has a row per generation: generation, the mean, best and worst fitness, the CMA-ES step size
    sigma, steps played; where there was a selection, mean_score and best_score of the CMA mean and of the
    generation's best candidate.
    """

    best: np.ndarray
    score: float
    curve: list[dict[str, float]]


def evolve(
    evaluate: Evaluate, size: int, settings: EvolutionSettings, keeper: Keeper, title: str = "evolution"
) -> Result:
    """Maximise the mean return over C's `size` parameters, from zero on.

    Every candidate of a generation plays the same episodes, new ones in each generation. Every
    `selection_every` generations, and after the last, the CMA mean and the generation's best candidate play
    one held-out set of episodes, and the best seen there is kept. Interrupted between any two blocks and
    resumed, it gives the same bytes.
    """
    state = keeper.load() or State(strategy=pickle.dumps(new_strategy(size, settings)))
    with bar(title, total_episodes(settings), "episodes", start=episodes_done(state, settings)) as progress:

        def scores(blocks: list[Block]) -> Scores:
            for result in evaluate(blocks[len(state.finished) :]):
                state.finished.append(result)
                progress.update(len(result.returns))
                if keeper.due:
                    keeper.save(state)
            return join(state.finished)

        while state.generation < settings.generations or state.selecting is not None:
            if state.selecting is None:
                breed(state, settings, scores)
            else:
                select(state, settings, scores)
            if state.curve:
                progress.set_postfix_str(describe(state.curve[-1], state.best_score), refresh=False)
    keeper.save(state)
    assert state.best is not None
    return Result(state.best.astype(np.float32), state.best_score, state.curve)


def new_strategy(size: int, settings: EvolutionSettings) -> cma.CMAEvolutionStrategy:
    """pycma at the origin, silent, with its own generator, and left to run as long as it is told to."""
    options = {
        "popsize": settings.population,
        "CMA_diagonal": settings.covariance == "diagonal",
        "randn": Normal(seeds.generator(settings.seed, "candidates")),
        "seed": np.nan,  # leave NumPy's global state alone
        "verbose": -10,
        "verb_log": 0,
        "verb_disp": 0,
        "signals_filename": "",
    }
    with threadpool_limits(1):
        return cma.CMAEvolutionStrategy(np.zeros(size), settings.sigma, options)


def breed(state: State, settings: EvolutionSettings, scores: Callable[[list[Block]], Scores]) -> None:
    """One generation: ask, play, tell. pycma's linear algebra gives the same bytes on one thread only."""
    strategy: cma.CMAEvolutionStrategy = pickle.loads(state.strategy)
    with threadpool_limits(1):
        candidates = np.array(strategy.ask())
    episodes = [
        seeds.integer(settings.seed, "fitness", state.generation, e) for e in range(settings.episodes)
    ]
    played = scores(cut(candidates, episodes, settings.block, settings.patience))
    fitness = played.returns.reshape(settings.population, settings.episodes).mean(1)
    with threadpool_limits(1):
        strategy.tell(list(candidates), list(-fitness))  # pycma minimises
    state.generation += 1
    state.finished = []
    state.strategy = pickle.dumps(strategy)
    state.curve.append(
        {
            "generation": state.generation,
            "mean": float(fitness.mean()),
            "best": float(fitness.max()),
            "worst": float(fitness.min()),
            "sigma": float(strategy.sigma),
            "steps": int(played.lengths.sum()),
        }
    )
    if state.generation % settings.selection_every == 0 or state.generation == settings.generations:
        state.selecting = np.stack([strategy.mean, candidates[fitness.argmax()]])


def select(state: State, settings: EvolutionSettings, scores: Callable[[list[Block]], Scores]) -> None:
    """Let the CMA mean and the best candidate play the held-out episodes; keep what is best so far."""
    assert state.selecting is not None
    episodes = [seeds.integer(settings.seed, "selection", e) for e in range(settings.selection_episodes)]
    size = min(settings.block, len(episodes))  # two blocks at least, so that two workers share the work
    played = scores(cut(state.selecting, episodes, size))
    means = played.returns.reshape(2, settings.selection_episodes).mean(1)
    state.curve[-1] |= {"mean_score": float(means[0]), "best_score": float(means[1])}
    if means.max() > state.best_score:
        state.best, state.best_score = state.selecting[means.argmax()], float(means.max())
    state.finished, state.selecting = [], None


def total_episodes(settings: EvolutionSettings) -> int:
    """Episodes of all generations and selections."""
    return episodes_until(
        settings.generations, -(-settings.generations // settings.selection_every), settings
    )


def episodes_done(state: State, settings: EvolutionSettings) -> int:
    """Episodes that an evolution in this state has behind it."""
    selections = sum("mean_score" in row for row in state.curve)
    running = sum(len(result.returns) for result in state.finished)
    return episodes_until(state.generation, selections, settings) + running


def episodes_until(generations: int, selections: int, settings: EvolutionSettings) -> int:
    return (
        generations * settings.population * settings.episodes + selections * 2 * settings.selection_episodes
    )


def describe(row: dict[str, float], best_score: float) -> str:
    """A generation in a few words, for the progress line."""
    text = f"generation {row['generation']}, mean {row['mean']:.1f}, best {row['best']:.1f}"
    return text if best_score == -np.inf else f"{text}, selected {best_score:.1f}"
