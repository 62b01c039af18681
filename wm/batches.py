"""Training batches streamed from stores: frames in random order for V, windows of whole episodes for M.

Batch `step` is a function of the stores, the settings and the seed alone, so training resumes at any step.
Memory stays bounded whatever the stores hold.

Legend: B batch, R rows, T window length, Z latent, A action_size, E episodes.
"""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache

import numpy as np

from wm import seeds
from wm.episodes import LATENTS, LAYOUTS, Store

GROUP = 128
"""Chunks that are in memory and shuffled together: 100 MB of frames, while the next group is being read."""
HELD_BYTES = 512 * 2**20
"""Latents of up to so many bytes are held in memory, larger ones are read episode by episode."""
BLOCK_ROUNDS = 64
"""Episodes per row looked at together when a stream looks for its place."""


class FrameBatches:
    """Batches of single frames, endlessly: each epoch has every frame once, less a last incomplete batch.

    An epoch's chunks come in random order; the frames of a group of them are shuffled among themselves.
    """

    def __init__(self, stores: Sequence[Store], batch_size: int, seed: int, held_out: bool) -> None:
        """Of the training episodes, or of those held out; where those are few, batches are as small."""
        self.stores = stores
        self.seed = seed
        self.units = units(stores, held_out)
        self.frames = int((self.units[:, 2] - self.units[:, 1]).sum())
        self.batch_size = min(batch_size, self.frames)
        self.steps_per_epoch = self.frames // self.batch_size
        self.reader = ThreadPoolExecutor(1, "frames")
        self.reading: dict[tuple[int, int], Future[np.ndarray]] = {}
        self.order = lru_cache(maxsize=2)(self.order_of)  # of this epoch and the next

    def batch(self, step: int) -> np.ndarray:
        """uint8 [B, 64, 64, 3], B = batch_size; fastest when steps are asked for in order."""
        epoch, position = divmod(step, self.steps_per_epoch)
        start = position * self.batch_size
        stop = start + self.batch_size
        bounds = self.order(epoch)[1]
        group = int(np.searchsorted(bounds, start, side="right")) - 1
        pieces = []
        while bounds[group] < stop:
            frames = self.group(epoch, group)
            pieces.append(frames[max(start - bounds[group], 0) : stop - bounds[group]])
            group += 1
        return np.concatenate(pieces)

    def order_of(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """An epoch's units in order, and the first frame of each of its groups (and one past the last)."""
        shuffled = seeds.generator(self.seed, "units", epoch).permutation(self.units)
        sums = np.concatenate([[0], np.cumsum(shuffled[:, 2] - shuffled[:, 1])])
        return shuffled, np.append(sums[:-1:GROUP], sums[-1])

    def group(self, epoch: int, group: int) -> np.ndarray:
        """A group's frames; the next group's are asked for, all others are forgotten."""
        last = group + 1 >= len(self.order(epoch)[1]) - 1
        wanted = [(epoch, group), (epoch + 1, 0) if last else (epoch, group + 1)]
        for key in list(self.reading):
            if key not in wanted:
                self.reading.pop(key).cancel()
        for key in wanted:
            if key not in self.reading:
                self.reading[key] = self.reader.submit(self.read, self.order(key[0])[0], *key)
        return self.reading[wanted[0]].result()

    def read(self, order: np.ndarray, epoch: int, group: int) -> np.ndarray:
        """The frames of a group, shuffled."""
        members = order[group * GROUP : (group + 1) * GROUP]
        places = seeds.generator(self.seed, "frames", epoch, group).permutation(
            int((members[:, 2] - members[:, 1]).sum())
        )
        shuffled = np.empty((len(places), 64, 64, 3), np.uint8)
        done = 0
        for part, start, stop in members:
            frames = self.stores[part].frames(int(start), int(stop))
            shuffled[places[done : done + len(frames)]] = frames
            done += len(frames)
        return shuffled

    def close(self) -> None:
        """End the reading thread."""
        self.reader.shutdown(cancel_futures=True)


def units(stores: Sequence[Store], held_out: bool) -> np.ndarray:
    """Chunks of frames of the training or held-out episodes, as (store, first, last + 1), int64 [n, 3]."""
    rows = []
    for number, store in enumerate(stores):
        border = int(store.starts[store.held_out_from])
        first, last = (border, store.steps) if held_out else (0, border)
        chunks = store.frame_chunks
        cuts = chunks[(first <= chunks) & (chunks <= last)]
        rows.append(np.stack([np.full(len(cuts) - 1, number), cuts[:-1], cuts[1:]], axis=1))
    return np.concatenate(rows).astype(np.int64)


def episodes_of(stores: Sequence[Store], held_out: bool) -> np.ndarray:
    """The training or held-out episodes of all stores, as (store, first row, last row + 1), int64 [E, 3]."""
    rows = []
    for number, store in enumerate(stores):
        border = store.held_out_from
        chosen = slice(border, None) if held_out else slice(0, border)
        starts, ends = store.starts[chosen], store.ends[chosen]
        rows.append(np.stack([np.full(len(ends), number), starts, ends], axis=1))
    return np.concatenate(rows).astype(np.int64)


class LatentStreams:
    """R endless streams of whole episodes, cut into consecutive windows of T steps.

    The episodes of all epochs, each in an order of its own, form one sequence, whose k-th episode goes to
    row k mod R. A row's episodes follow each other without a gap, so M's state is carried from window to
    window and reset where `restarts` says so.
    """

    def __init__(
        self, stores: Sequence[Store], rows: int, length: int, seed: int, held_out: bool, held: "Held"
    ) -> None:
        """Of the training episodes, or of those held out. `held`: what `hold` gave for the same stores."""
        self.stores = stores
        self.row_count, self.length, self.seed = rows, length, seed
        self.episodes = episodes_of(stores, held_out)
        self.lengths = self.episodes[:, 2] - self.episodes[:, 1]
        self.order = lru_cache(maxsize=256)(self.order_of)
        self.held = held
        self.reader = ThreadPoolExecutor(1, "latents")
        self.reading: tuple[int, Future[dict[str, np.ndarray]]] | None = None
        self.rounds = np.zeros(rows, np.int64)  # how many episodes of a row lie behind it
        self.offsets = np.zeros(rows, np.int64)  # steps of the present episode that do
        self.next_step = 0
        self.loaded: dict[int, tuple[int, dict[str, np.ndarray]]] = {}  # by row: its round and episode

    def batch(self, step: int) -> dict[str, np.ndarray]:
        """Window `step` of every row; fastest when steps are asked for in order.

        means, logvars, next_means, next_logvars: float32 [R, T, Z]; actions: float32 [R, T, A]; restarts,
        dones, valid: bool [R, T]. `restarts` is True at the first step of an episode, `dones` where the step
        terminated it, `valid` False at its last step, which has no next latent.
        """
        if self.held:
            return self.make(step)
        if self.reading is None or self.reading[0] != step:
            self.reading = (step, self.reader.submit(self.make, step))
        batch = self.reading[1].result()
        self.reading = (step + 1, self.reader.submit(self.make, step + 1))
        return batch

    def make(self, step: int) -> dict[str, np.ndarray]:
        """`batch`, read now; in one thread at a time."""
        if step != self.next_step:
            self.seek(step)
        batch: dict[str, np.ndarray] = {}
        for row in range(self.row_count):
            self.fill(batch, row)
        self.next_step = step + 1
        return batch

    def order_of(self, epoch: int) -> np.ndarray:
        return seeds.generator(self.seed, "episodes", epoch).permutation(len(self.episodes))

    def seek(self, step: int) -> None:
        """Put every row at window `step`, by the lengths of the episodes before it."""
        left = np.full(self.row_count, step * self.length, np.int64)
        self.rounds[:] = 0
        seeking = np.ones(self.row_count, bool)
        first = 0
        while seeking.any():
            lengths = self.lengths[self.sequence(first * self.row_count, BLOCK_ROUNDS * self.row_count)]
            sums = lengths.reshape(BLOCK_ROUNDS, self.row_count).cumsum(0)
            passed = (sums <= left).sum(0)
            before = np.where(passed > 0, np.take_along_axis(sums, np.maximum(passed - 1, 0)[None], 0)[0], 0)
            self.rounds[seeking] += passed[seeking]
            left[seeking] -= before[seeking]
            seeking &= passed == BLOCK_ROUNDS
            first += BLOCK_ROUNDS
        self.offsets[:] = left

    def sequence(self, start: int, count: int) -> np.ndarray:
        """The episodes at places `start` and following of the sequence of all epochs, int64 [count]."""
        epochs = range(start // len(self.episodes), (start + count - 1) // len(self.episodes) + 1)
        joined = np.concatenate([self.order(epoch) for epoch in epochs])
        return joined[start - epochs[0] * len(self.episodes) :][:count]

    def fill(self, batch: dict[str, np.ndarray], row: int) -> None:
        """Put the next T steps of a row, which moves on, into a batch (whose arrays the first row makes)."""
        at = 0
        while at < self.length:
            episode = self.episode(row)
            length = len(episode["valid"])
            start = int(self.offsets[row])
            stop = min(start + self.length - at, length)
            for name, values in episode.items():
                if name not in batch:
                    batch[name] = np.empty((self.row_count, self.length, *values.shape[1:]), values.dtype)
                batch[name][row, at : at + stop - start] = values[start:stop]
            at += stop - start
            self.offsets[row] = stop
            if stop == length:
                self.rounds[row] += 1
                self.offsets[row] = 0

    def episode(self, row: int) -> dict[str, np.ndarray]:
        """The row's present episode, read once."""
        number = int(self.rounds[row])
        if row not in self.loaded or self.loaded[row][0] != number:
            index = int(self.sequence(number * self.row_count + row, 1)[0])
            self.loaded[row] = (number, self.read(*map(int, self.episodes[index])))
        return self.loaded[row][1]

    def read(self, part: int, start: int, stop: int) -> dict[str, np.ndarray]:
        """An episode with what M is to predict at each of its steps."""
        names = ("means", "logvars", "actions", "terminations")
        if self.held:
            means, logvars, actions, dones = (self.held[part][name][start:stop] for name in names)
        else:
            means, logvars, actions, dones = (self.stores[part].rows(name, start, stop) for name in names)
        places = np.arange(stop - start)
        following = np.minimum(places + 1, stop - start - 1)
        return {
            "means": means,
            "logvars": logvars,
            "actions": actions,
            "next_means": means[following],
            "next_logvars": logvars[following],
            "restarts": places == 0,
            "dones": dones,
            "valid": places < stop - start - 1,
        }

    def close(self) -> None:
        """End the reading thread."""
        self.reader.shutdown(cancel_futures=True)


Held = list[dict[str, np.ndarray]]
"""The latents of each store, by array; empty where they are too many."""


def hold(stores: Sequence[Store]) -> Held:
    """All latents of all stores where they are few, else nothing."""
    names = ("means", "logvars", "actions", "terminations")
    if sum(store.arrays[name].nbytes for store in stores for name in names) > HELD_BYTES:
        return []
    return [{name: store.rows(name, 0, store.steps) for name in names} for store in stores]


def first_latents(stores: Sequence[Store]) -> tuple[np.ndarray, np.ndarray]:
    """Means and log-variances of the training episodes' first frames, float32 [E, Z] each."""
    firsts = [store.starts[: store.held_out_from] for store in stores]
    means = [pick(store, "means", rows) for store, rows in zip(stores, firsts, strict=True)]
    logvars = [pick(store, "logvars", rows) for store, rows in zip(stores, firsts, strict=True)]
    return np.concatenate(means), np.concatenate(logvars)


def pick(store: Store, name: str, rows: np.ndarray) -> np.ndarray:
    """The rows `rows`, in ascending order, of a store's array; read file by file, each once."""
    size = LAYOUTS[LATENTS][name].shard
    pieces = []
    for start in range(0, store.steps, size):
        wanted = rows[(start <= rows) & (rows < start + size)] - start
        if len(wanted):
            pieces.append(store.rows(name, start, min(start + size, store.steps))[wanted])
    return np.concatenate(pieces)
