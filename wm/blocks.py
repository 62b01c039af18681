"""Work cut into fixed blocks: which episodes are played side by side depends on settings alone.

Products of matrices of another batch size may differ in the last bit, and a game amplifies that into another
episode; so a result that shall not depend on the number of workers needs a fixed division of the work.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Block:
    """Episodes to be played together: row b plays `seeds[b]` with C's parameters `parameters[b]`."""

    parameters: np.ndarray  # float32 [B, n]
    seeds: tuple[int, ...]  # B
    patience: int  # steps without progress after which a row is stopped and charged; 0: none


@dataclass(frozen=True)
class Scores:
    """How a block's episodes went."""

    returns: np.ndarray  # float64 [B]
    lengths: np.ndarray  # int64 [B], steps actually played


def cut(candidates: np.ndarray, seeds: Sequence[int], size: int, patience: int = 0) -> list[Block]:
    """Blocks of `size` rows (the last may be smaller) in which each candidate [P, n] plays every seed.

    The rows run through all seeds of the first candidate, then of the second, and so on, so that
    `join(...).returns.reshape(P, len(seeds))` has a row per candidate.
    """
    pairs = [(p, seed) for p in range(len(candidates)) for seed in seeds]
    blocks = []
    for start in range(0, len(pairs), size):
        rows = pairs[start : start + size]
        parameters = np.asarray(candidates, np.float32)[[p for p, _ in rows]]
        blocks.append(Block(parameters, tuple(seed for _, seed in rows), patience))
    return blocks


def join(results: Sequence[Scores]) -> Scores:
    """The scores of all blocks, one after another."""
    return Scores(
        np.concatenate([result.returns for result in results]),
        np.concatenate([result.lengths for result in results]),
    )
