"""The stage `rollouts`: one part of a task's episodes, recorded with the data policy (paper 3, step 1)."""

from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from wm import files, paths, progress
from wm.checkpoint import Checkpoint
from wm.episodes import ROLLOUTS, Writer, check_files, publish
from wm.errors import BadInput
from wm.reading import read_yaml
from wm.recording import Episode, Start, play_blind, start
from wm.settings import RolloutsSettings, read_settings
from wm.tasks import Task, load_task, turn
from wm.workers import take_workers


def run(task_name: str, part: int) -> None:
    """Writes `data/TASK/rollouts/PART`; continues where an interrupted run of the same settings was."""
    settings = read_settings(read_yaml(paths.PARAMS)).games[task_name]
    task = load_task(task_name)
    key = {"task": task_name, "part": part, "renderer": settings.renderer, **asdict(settings.rollouts)}
    with Checkpoint(f"rollouts-{task_name}@{part}", key) as checkpoint:
        store = checkpoint.folder / "store"
        title, total = f"rollouts {task_name} {part}", settings.rollouts.episodes
        if finished(store, checkpoint.load()):
            progress.bar(title, total, "episodes", start=total).close()
        else:
            record(task, settings.renderer, part, settings.rollouts, checkpoint, store)
        with files.output_folder(paths.rollouts(task_name) / str(part)) as folder:
            publish(store, folder)


def finished(store: Path, state: dict[str, Any] | None) -> bool:
    """Whether an earlier run wrote the whole store, which still is what it was."""
    if state is None or "digest" not in state:
        return False
    try:
        return bool(check_files(store)["digest"] == state["digest"])
    except BadInput:
        return False


def record(
    task: Task, renderer: str, part: int, settings: RolloutsSettings, checkpoint: Checkpoint, store: Path
) -> None:
    """Play blocks of attempts and keep episodes, in the order of attempts, until there are enough."""
    state = checkpoint.load() or {}
    writer = Writer(store, ROLLOUTS, state.get("writer"))
    at = state if "writer" in state else {"block": 0, "kept": 0, "steps": 0, "attempts": 0}
    blocks = attempts(task, part, settings, at["block"])
    title = f"rollouts {task.name} {part}"
    with (
        progress.bar(title, settings.episodes, "episodes", at["kept"]) as bar,
        take_workers() as workers,
    ):
        for episodes in workers.map(partial(play_blind, task.name, renderer), blocks):
            before = at["kept"]
            at = keep(task, settings, writer, at, episodes)
            bar.update(at["kept"] - before)
            if at["kept"] == settings.episodes:
                break
            if checkpoint.due:
                checkpoint.save({**at, "writer": writer.state()})
    digest = writer.finish({"task": task.name, "part": part, "kept": at["kept"], "attempts": at["attempts"]})
    checkpoint.save({"digest": digest})


def attempts(task: Task, part: int, settings: RolloutsSettings, first: int) -> Iterator[list[Start]]:
    """Blocks of attempts without end, from block `first` on."""
    for block in count(first):
        indices = range(block * settings.block, (block + 1) * settings.block)
        names = (task.name, "rollouts", part)
        yield [start(turn(settings.persistence, i), settings.seed, *names, i) for i in indices]


def keep(
    task: Task, settings: RolloutsSettings, writer: Writer, at: dict[str, Any], episodes: list[Episode]
) -> dict[str, Any]:
    """Append a block's episodes that are long enough; where the recording stands after it."""
    kept, steps, tried = at["kept"], at["steps"], at["attempts"]
    for episode in episodes:
        if kept < settings.episodes:
            tried += 1
            if len(episode) > task.kept_above:
                kept, steps = kept + 1, steps + len(episode)
                append(writer, episode, steps)
    return {"block": at["block"] + 1, "kept": kept, "steps": steps, "attempts": tried}


def append(writer: Writer, episode: Episode, end: int) -> None:
    writer.append_frames(episode.frames)
    writer.append(
        {
            "actions": episode.actions,
            "rewards": episode.rewards,
            "terminations": episode.terminations,
            "ends": np.array([end]),
        }
    )
