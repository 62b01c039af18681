"""The stage `latents`: the rollouts seen through V, so that M can draw z anew for every batch."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
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

Seen = tuple[np.ndarray, np.ndarray]

BATCH = 256
"""Frames encoded at once. It is fixed, because products of another batch size differ in the last bits."""
PIECE = 65536
"""Rows copied at once."""


def run(task_name: str) -> None:
    """Writes `data/TASK/latents/PART` for every part; continues where an interrupted run was."""
    settings = read_settings(read_yaml(paths.PARAMS)).games[task_name]
    stores = open_parts(paths.rollouts(task_name), settings.parts)
    fitting.prepare(threads=1)  # each of the threads that encode has batches of its own
    vision = load_vision(task_name, settings.vision).to(devices.device())
    encoder = Encoder(vision, settings.latents.precision)
    key = {
        "settings": [asdict(settings.vision), asdict(settings.latents)],
        "device": devices.device().type,
        "weights": files.digest(paths.vision(task_name) / paths.WEIGHTS),
        "rollouts": {part: store.digest for part, store in zip(settings.parts, stores, strict=True)},
    }
    with Checkpoint(f"latents@{task_name}", key) as checkpoint:
        encode_parts(settings.parts, stores, encoder, settings.vision.threads, checkpoint)
        with files.output_folder(paths.latents(task_name)) as folder:
            for part in settings.parts:
                publish(checkpoint.folder / str(part), folder / str(part))


def encode_parts(
    parts: Sequence[int],
    stores: Sequence[Store],
    encoder: Encoder,
    threads: int,
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
            state = encode(part, store, encoder, threads, checkpoint, state, bar)


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
    threads: int,
    checkpoint: Checkpoint,
    state: dict[str, Any],
    bar: Any,
) -> dict[str, Any]:
    """One part, from where `state` says; the state after it."""
    digests = state["digests"]
    writer = Writer(checkpoint.folder / str(part), LATENTS, state["writer"])
    at = state["at"]
    for means, logvars in look_ahead(store, encoder, threads, at):
        writer.append({"means": means, "logvars": logvars})
        at += len(means)
        bar.update(len(means))
        if checkpoint.due:
            checkpoint.save({"digests": digests, "at": at, "writer": writer.state()})
    copy_rest(store, writer)
    attempts = store.attributes["attempts"]
    digest = writer.finish({"task": store.task, "part": part, "rollouts": store.digest, "attempts": attempts})
    state = {"digests": {**digests, part: digest}, "at": 0, "writer": None}
    checkpoint.save(state)
    return state


def copy_rest(store: Store, writer: Writer) -> None:
    """What the latents have of the rollouts, all of it after them: few, large reads take the least time."""
    for start in range(0, store.steps, PIECE):
        stop = min(start + PIECE, store.steps)
        taken = {"actions": store.actions(start, stop), "terminations": store.terminations(start, stop)}
        writer.append(taken)
    writer.append({"ends": store.ends})


def look_ahead(store: Store, encoder: Encoder, threads: int, start: int) -> Iterator[Seen]:
    """What `look` finds, batch by batch from row `start` on; threads read and encode the next ones meanwhile.

    A batch is the work of one thread, which PyTorch does not divide further: two batches side by side take
    less time than one after the other on two cores each, and the number of threads changes no bit.
    """
    batches = ((first, min(first + BATCH, store.steps)) for first in range(start, store.steps, BATCH))
    waiting: deque[Future[Seen]] = deque()
    pool = ThreadPoolExecutor(threads, "latents", torch.set_num_threads, (1,))
    try:
        for batch in batches:
            waiting.append(pool.submit(look, store, encoder, *batch))
            if len(waiting) > 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


@torch.inference_mode()
def look(store: Store, encoder: Encoder, start: int, stop: int) -> Seen:
    """Mean and log-variance of the z of each frame from `start` to `stop`, float32 [n, Z]."""
    frames = torch.from_numpy(store.frames(start, stop)).to(encoder.heads.device)
    mean, logvar = encoder.encode(frames)
    return mean.cpu().numpy(), logvar.cpu().numpy()
