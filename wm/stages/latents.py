"""The stage `latents`: the rollouts seen through V, so that M can draw z anew for every batch."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wm import devices, files, fitting, paths, progress
from wm.checkpoint import Checkpoint
from wm.encoder import Encoder
from wm.episodes import LATENTS, Store, Writer, check_files, open_parts, publish
from wm.errors import BadInput
from wm.reading import read_yaml
from wm.settings import read_settings
from wm.vision import load_vision

BATCH = 256
"""Frames encoded at once. It is fixed, because products of another batch size differ in the last bits."""


def run(task_name: str) -> None:
    """Writes `data/TASK/latents/PART` for every part; continues where an interrupted run was."""
    settings = read_settings(read_yaml(paths.PARAMS)).games[task_name]
    stores = open_parts(paths.rollouts(task_name), settings.parts)
    fitting.prepare(settings.vision.threads)
    vision = load_vision(task_name, settings.vision).to(devices.device())
    encoder = Encoder(vision, settings.vision.precision)
    key = {
        "settings": asdict(settings.vision),
        "device": devices.device().type,
        "weights": files.digest(paths.vision(task_name) / paths.WEIGHTS),
        "rollouts": {part: store.digest for part, store in zip(settings.parts, stores, strict=True)},
    }
    with Checkpoint(f"latents@{task_name}", key) as checkpoint:
        encode_parts(settings.parts, stores, encoder, checkpoint)
        with files.output_folder(paths.latents(task_name)) as folder:
            for part in settings.parts:
                publish(checkpoint.folder / str(part), folder / str(part))


def encode_parts(
    parts: Sequence[int],
    stores: Sequence[Store],
    encoder: Encoder,
    checkpoint: Checkpoint,
) -> None:
    """Encode what is not yet; the state is the finished parts' digests and the present one's place."""
    state: dict[str, Any] = checkpoint.load() or {"digests": {}, "at": 0, "writer": None}
    for part in [part for part in state["digests"] if not intact(checkpoint.folder / str(part), state, part)]:
        del state["digests"][part]
    done = sum(s.steps for part, s in zip(parts, stores, strict=True) if part in state["digests"])
    total = sum(store.steps for store in stores)
    with progress.bar(f"latents {stores[0].task}", total, "frames", done + state["at"]) as bar:
        for part, store in zip(parts, stores, strict=True):
            if part in state["digests"]:
                continue
            state = encode(part, store, encoder, checkpoint, state, bar)


def intact(folder: Path, state: dict[str, Any], part: int) -> bool:
    """Whether a finished part still is what was written."""
    try:
        return bool(check_files(folder)["digest"] == state["digests"][part])
    except BadInput:
        return False


def encode(
    part: int,
    store: Store,
    encoder: Encoder,
    checkpoint: Checkpoint,
    state: dict[str, Any],
    bar: Any,
) -> dict[str, Any]:
    """One part, from where `state` says; the state after it."""
    digests = state["digests"]
    writer = Writer(checkpoint.folder / str(part), LATENTS, state["writer"])
    for start in range(state["at"], store.steps, BATCH):
        stop = min(start + BATCH, store.steps)
        means, logvars = look(encoder, store.frames(start, stop))
        taken = {"actions": store.actions(start, stop), "terminations": store.terminations(start, stop)}
        writer.append({"means": means, "logvars": logvars, **taken})
        bar.update(stop - start)
        if checkpoint.due:
            checkpoint.save({"digests": digests, "at": stop, "writer": writer.state()})
    writer.append({"ends": store.ends})
    attempts = store.attributes["attempts"]
    digest = writer.finish({"task": store.task, "part": part, "rollouts": store.digest, "attempts": attempts})
    state = {"digests": {**digests, part: digest}, "at": 0, "writer": None}
    checkpoint.save(state)
    return state


@torch.inference_mode()
def look(encoder: Encoder, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and log-variance of each frame's z, float32 [n, Z]."""
    mean, logvar = encoder.encode(torch.from_numpy(frames).to(encoder.heads.device))
    return mean.cpu().numpy(), logvar.cpu().numpy()
