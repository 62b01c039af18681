"""The stage `random`: the random policy in the real game, the tables' lowest row."""

from collections.abc import Iterator
from dataclasses import asdict
from functools import partial

import numpy as np

from wm import files, paths, progress, seeds
from wm.checkpoint import Checkpoint
from wm.reading import read_yaml
from wm.recording import Score, Start, score_blind
from wm.settings import EvaluationSettings, read_settings
from wm.tasks import load_task
from wm.workers import take_workers


def run(task_name: str) -> None:
    """Writes `data/TASK/random`: scores.csv, a row per episode, and metrics.json, their mean and spread.

    The policy sees nothing, so the task's own renderer does: rewards and endings are the same in all.
    """
    game = read_settings(read_yaml(paths.PARAMS)).games[task_name]
    settings = game.evaluation
    load_task(task_name)  # its code belongs to the checkpoint's key
    with Checkpoint(f"random@{task_name}", {"renderer": game.renderer, **asdict(settings)}) as checkpoint:
        scores = play(task_name, game.renderer, settings, checkpoint)
    values = np.array([score.score for score in scores])
    rows = [f"{e},{seed(settings, e)},{score.score!r},{score.steps}" for e, score in enumerate(scores)]
    metrics = {"mean": float(values.mean()), "std": float(values.std()), "episodes": len(values)}
    with files.output_folder(paths.random(task_name)) as folder:
        files.write_text(folder / "scores.csv", "\n".join(["episode,seed,score,steps", *rows]) + "\n")
        files.write_json(folder / paths.METRICS, metrics)


def seed(settings: EvaluationSettings, episode: int) -> int:
    """The game's seed, the one with which every agent plays this episode."""
    return seeds.integer(settings.seed, "evaluation", episode)


def play(task_name: str, renderer: str, settings: EvaluationSettings, checkpoint: Checkpoint) -> list[Score]:
    """Every episode's score, from the checkpoint on."""
    scores: list[Score] = checkpoint.load() or []
    score_block = partial(score_blind, task_name, renderer)
    title = f"random {task_name}"
    with progress.bar(title, settings.episodes, "episodes", len(scores)) as bar, take_workers() as workers:
        for block in workers.map(score_block, blocks(task_name, settings, len(scores))):
            scores = [*scores, *block]
            bar.update(len(block))
            if checkpoint.due or len(scores) == settings.episodes:
                checkpoint.save(scores)
    return scores


def blocks(task_name: str, settings: EvaluationSettings, first: int) -> Iterator[list[Start]]:
    """The episodes from `first` on, in blocks."""
    episodes = [
        Start(seed(settings, e), seeds.sequence(settings.seed, "policy", task_name, "random", e))
        for e in range(settings.episodes)
    ]
    for begin in range(first, settings.episodes, settings.block):
        yield episodes[begin : begin + settings.block]
