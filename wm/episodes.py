"""Recorded episodes: Zarr v3 stores of fixed, sharded chunks, one per part, written once, checked on reading.

Legend: N steps of all episodes, E episodes, A action_size, Z latent. Episode e is the rows
`ends[e - 1] <= i < ends[e]`. Its frame, or its latent, is what was seen before actions[i]; rewards[i] and
terminations[i] are what that step gave. A store's bytes depend on what was appended and on nothing else.

The array of frames alone has other rows: each episode begins a chunk there (wm/packing.py says why), and
`Store.frames` finds its way.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import ZstdCodec

from wm import files, packing
from wm.errors import BadInput
from wm.tasks import FRAME_SHAPE

ROLLOUTS = "rollouts"
LATENTS = "latents"
FORMAT = 2
"""Of stores, one more with every change of LAYOUTS; 2: each episode begins a chunk of frames."""
CONFIG: Any = {"write_empty_chunks": True}
"""Comparing chunks with zeros takes longer than compressing them; and `Store.rows` needs all to be there."""


@dataclass(frozen=True)
class Layout:
    """One array: the shape of a row (-1: as the first rows come), its type, rows per chunk and per file."""

    row: tuple[int, ...]
    dtype: str
    chunk: int
    shard: int

    @property
    def chunks_per_file(self) -> int:
        return self.shard // self.chunk


ENDS = Layout((), "int64", 4096, 65536)
ACTIONS = Layout((-1,), "float32", 4096, 65536)
TERMINATIONS = Layout((), "bool", 16384, 65536)
LAYOUTS: Mapping[str, Mapping[str, Layout]] = {
    ROLLOUTS: {
        "frames": Layout(FRAME_SHAPE, "uint8", packing.CHUNK, 32 * packing.CHUNK),
        "actions": ACTIONS,
        "rewards": Layout((), "float32", 4096, 65536),
        "terminations": TERMINATIONS,
        "ends": ENDS,
    },
    LATENTS: {
        "means": Layout((-1,), "float32", 512, 16384),
        "logvars": Layout((-1,), "float32", 512, 16384),
        "actions": ACTIONS,
        "terminations": TERMINATIONS,
        "ends": ENDS,
    },
}


def held_out_from(episodes: int) -> int:
    """The first of a part's held-out episodes, which are its last tenth, at least 1 (and never all but 0)."""
    return episodes - max(1, episodes // 10)


class Writer:
    """Appends rows to a new store in `folder` and writes every file once, as soon as it is full.

    `state()` is picklable; a writer made from it goes on exactly there, whatever was written in between.
    """

    def __init__(self, folder: Path, kind: str, state: Mapping[str, Any] | None = None) -> None:
        """Start the store afresh, or continue it from a former writer's `state`."""
        self.folder = folder
        self.layouts = LAYOUTS[kind]
        self.kind = kind
        if state is None:
            shutil.rmtree(folder, ignore_errors=True)
            zarr.create_group(folder)
        self.written: dict[str, int] = dict(state["written"]) if state else dict.fromkeys(self.layouts, 0)
        self.buffers: dict[str, np.ndarray] = {}  # of a whole file's rows, filled again and again
        self.filled = dict.fromkeys(self.layouts, 0)  # rows in them
        self.chunks: list[bytes] = list(state["chunks"]) if state else []  # of frames, of less than a file
        self.arrays: dict[str, zarr.Array[Any]] = {}
        self.unsynced: list[Path] = []
        for name in self.written if state else ():
            if self.written[name]:
                array = zarr.open_array(folder / name, mode="r+").with_config(CONFIG)
                array.resize((self.written[name], *array.shape[1:]))
                self.arrays[name] = array
        if state:
            self.append(state["tails"])

    def append(self, rows: Mapping[str, np.ndarray]) -> None:
        """Add rows to some arrays but the frames, as [n, *row]; each array takes its own."""
        for name, values in rows.items():
            if name not in self.buffers:
                shape = (self.layouts[name].shard, *values.shape[1:])
                self.buffers[name] = np.empty(shape, self.layouts[name].dtype)
            buffer = self.buffers[name]
            while len(values):
                room = buffer[self.filled[name] :]
                count = min(len(room), len(values))
                room[:count] = values[:count]
                self.filled[name] += count
                values = values[count:]
                if self.filled[name] == len(buffer):
                    self.write(name, buffer)
                    self.filled[name] = 0

    def append_frames(self, chunks: Sequence[bytes]) -> None:
        """Add an episode's frames, as `packing.pack` gives them."""
        self.chunks.extend(chunks)
        while len(self.chunks) >= self.layouts["frames"].chunks_per_file:
            self.write_frames()

    def write(self, name: str, rows: np.ndarray) -> None:
        """One file's rows: a whole shard, or the last rows of the array."""
        start = self.written[name]
        self.grow(name, rows.shape[1:], len(rows))
        self.arrays[name][start:] = rows

    def write_frames(self) -> None:
        """One file of frames, of the first chunks that wait."""
        layout = self.layouts["frames"]
        room = layout.chunks_per_file
        chunks, self.chunks = self.chunks[:room], self.chunks[room:]
        path = chunks_file(self.folder / "frames", self.written["frames"] // layout.shard, len(FRAME_SHAPE))
        self.grow("frames", layout.row, len(chunks) * layout.chunk)
        path.parent.mkdir(parents=True, exist_ok=True)
        packing.write_chunks(path, chunks, room)

    def grow(self, name: str, row: tuple[int, ...], count: int) -> None:
        """Make an array `count` rows longer, whose file is about to be written."""
        if name not in self.arrays:
            self.arrays[name] = self.create(name, row)
        start = self.written[name]
        self.arrays[name].resize((start + count, *row))
        self.written[name] = start + count
        self.unsynced.append(self.folder / name / "c" / str(start // self.layouts[name].shard))

    def create(self, name: str, row: tuple[int, ...]) -> "zarr.Array[Any]":
        layout = self.layouts[name]
        return zarr.create_array(
            self.folder / name,
            shape=(0, *row),
            dtype=layout.dtype,
            chunks=(layout.chunk, *row),
            shards=(layout.shard, *row),
            compressors=[ZstdCodec(level=packing.LEVEL, checksum=True)],
            fill_value=0,
            overwrite=True,
            config=CONFIG,
        )

    def state(self) -> dict[str, Any]:
        """What a later writer needs to go on here; what is already in files is on the disk for good."""
        for shard in self.unsynced:
            for path in [shard] if shard.is_file() else shard.rglob("*"):
                if path.is_file():
                    sync(path)
        self.unsynced = []
        tails = {name: buffer[: self.filled[name]] for name, buffer in self.buffers.items()}
        return {"written": dict(self.written), "tails": tails, "chunks": list(self.chunks)}

    def finish(self, attributes: Mapping[str, Any]) -> str:
        """Write the rest, then `attributes` with every file's size and SHA-256; the store's digest."""
        for name, buffer in self.buffers.items():
            if self.filled[name]:
                self.write(name, buffer[: self.filled[name]])
            self.filled[name] = 0
        if self.chunks:
            self.write_frames()
        content = {"kind": self.kind, "format": FORMAT, **attributes, "files": manifest(self.folder)}
        content["digest"] = digest_of(content)
        zarr.open_group(self.folder, mode="r+").attrs.update(content)
        return str(content["digest"])


def chunks_file(array: Path, number: int, row_dimensions: int) -> Path:
    """Where an array's `number`th file of chunks lies."""
    return array.joinpath("c", str(number), *["0"] * row_dimensions)


def sync(path: Path) -> None:
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def manifest(folder: Path) -> dict[str, list[Any]]:
    """Size and SHA-256 of every file below `folder` but the attributes' own."""
    paths = sorted(p for p in folder.rglob("*") if p.is_file() and p != folder / "zarr.json")
    return {p.relative_to(folder).as_posix(): [p.stat().st_size, files.digest(p)] for p in paths}


def digest_of(content: Mapping[str, Any]) -> str:
    """SHA-256 of a store's attributes, its files' digests among them."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


class Store:
    """A part that was written whole, read in slices. Made by `open_store`."""

    def __init__(self, path: Path, attributes: Mapping[str, Any]) -> None:
        self.path = path
        self.attributes = attributes
        self.kind: str = attributes["kind"]
        self.task: str = attributes["task"]
        self.digest: str = attributes["digest"]
        self.arrays: dict[str, zarr.Array[Any]] = {
            name: zarr.open_array(path / name, mode="r") for name in LAYOUTS[self.kind]
        }
        self.ends = np.asarray(self.arrays["ends"][:], np.int64)
        """int64 [E], exclusive"""

    @property
    def episodes(self) -> int:
        return len(self.ends)

    @property
    def steps(self) -> int:
        return int(self.ends[-1])

    @property
    def starts(self) -> np.ndarray:
        """The first row of each episode, int64 [E]."""
        return np.concatenate([[0], self.ends[:-1]])

    @property
    def lengths(self) -> np.ndarray:
        """The steps of each episode, int64 [E]."""
        return self.ends - self.starts

    @property
    def held_out_from(self) -> int:
        """The first held-out episode."""
        return held_out_from(self.episodes)

    @cached_property
    def frame_chunks(self) -> np.ndarray:
        """The first step in each chunk of frames, and one past the last step, int64."""
        size = LAYOUTS[self.kind]["frames"].chunk
        episodes = zip(self.starts, self.ends, strict=True)
        return np.concatenate([*(np.arange(start, end, size) for start, end in episodes), [self.steps]])

    def rows(self, name: str, start: int, stop: int) -> np.ndarray:
        """Steps `start` to `stop` (exclusive) of an array; only the chunks that hold them are read.

        Not by way of Zarr, which takes longer than the chunks take to unpack.
        """
        assert 0 <= start <= stop <= self.steps, (name, start, stop, self.steps)
        layout, row = LAYOUTS[self.kind][name], self.arrays[name].shape[1:]
        borders = self.frame_chunks if name == "frames" else self.borders(layout.chunk)
        found = np.empty((stop - start, *row), layout.dtype)
        chunk = np.empty((layout.chunk, *row), layout.dtype)
        number = int(np.searchsorted(borders, start, side="right")) - 1
        while borders[number] < stop:
            first, last = max(start, borders[number]), min(stop, borders[number + 1])
            file, place = divmod(number, layout.chunks_per_file)
            path = chunks_file(self.path / name, file, len(row))
            packing.unpack(packing.read_chunk(path, place, layout.chunks_per_file), chunk)
            found[first - start : last - start] = chunk[first - borders[number] : last - borders[number]]
            number += 1
        return found

    def borders(self, size: int) -> np.ndarray:
        """The first step in each chunk of `size` steps, and one past the last step, int64."""
        return np.append(np.arange(0, self.steps, size), self.steps)

    def frames(self, start: int, stop: int) -> np.ndarray:
        """uint8 [n, 64, 64, 3]"""
        return self.rows("frames", start, stop)

    def actions(self, start: int, stop: int) -> np.ndarray:
        """float32 [n, A]"""
        return self.rows("actions", start, stop)

    def rewards(self, start: int, stop: int) -> np.ndarray:
        """float32 [n]"""
        return self.rows("rewards", start, stop)

    def terminations(self, start: int, stop: int) -> np.ndarray:
        """bool [n]"""
        return self.rows("terminations", start, stop)

    def means(self, start: int, stop: int) -> np.ndarray:
        """float32 [n, Z]"""
        return self.rows("means", start, stop)

    def logvars(self, start: int, stop: int) -> np.ndarray:
        """float32 [n, Z]"""
        return self.rows("logvars", start, stop)


def check_files(path: Path) -> dict[str, Any]:
    """The attributes of the store at `path`, its files held against their digests. Raises ValueError."""
    damaged = f"{path} is damaged ({{}}); restore it with dvc checkout --force"
    if not (path / "zarr.json").is_file():
        raise BadInput(f"{path} does not exist; run the stage that makes it (dvc repro)")
    try:
        attributes: dict[str, Any] = json.loads((path / "zarr.json").read_text())["attributes"]
        content = {key: value for key, value in attributes.items() if key != "digest"}
        whole = attributes["digest"] == digest_of(content)
        listed = dict(content["files"])
    except (ValueError, KeyError, TypeError, AttributeError):
        raise BadInput(damaged.format("its zarr.json cannot be read")) from None
    if not whole:
        raise BadInput(damaged.format("its zarr.json was altered"))
    found = manifest(path)
    for name in sorted(listed.keys() | found.keys()):
        if listed.get(name) != found.get(name):
            fault = "is missing" if name not in found else "is not what was written"
            raise BadInput(damaged.format(f"{name} {fault}"))
    return attributes


def open_store(path: Path, latent_size: int | None = None) -> Store:
    """The store of a part, `data/TASK/KIND/PART`, checked file by file.

    Raises ValueError, in one line, where it is missing, cut short or otherwise damaged, of another kind or
    task than its place says, or of other latents than `latent_size`.
    """
    attributes = check_files(path)
    kind, task = path.parent.name, path.parent.parent.name
    if (attributes["kind"], attributes["task"]) != (kind, task):
        raise BadInput(
            f"{path} holds {attributes['kind']} of {attributes['task']}, not {kind} of {task}; run dvc repro"
        )
    if attributes.get("format") != FORMAT:
        raise BadInput(f"{path} was written by another version of the project; run dvc repro")
    store = Store(path, attributes)
    if latent_size is not None and (size := store.arrays["means"].shape[1]) != latent_size:
        raise BadInput(
            f"{path} holds latents of size {size}, but latent_size is {latent_size}; run dvc repro"
        )
    return store


def open_parts(folder: Path, parts: Iterable[int], latent_size: int | None = None) -> list[Store]:
    """The stores of a task's `parts`, in that order. Raises ValueError as `open_store` does."""
    return [open_store(folder / str(part), latent_size) for part in parts]


def forget_parts(folder: Path, parts: Iterable[int]) -> None:
    """Delete whatever `folder` holds beside `parts`: a part left behind must not leak into training."""
    kept = {str(part) for part in parts}
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.name in kept:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def publish(finished: Path, target: Path) -> None:
    """Give the files of a finished store to the folder `target` and keep them: by hard links, else copies."""
    for source in sorted(p for p in finished.rglob("*") if p.is_file()):
        goal = target / source.relative_to(finished)
        goal.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(source, goal)
        except OSError:
            shutil.copyfile(source, goal)
