import itertools
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wm import batches, packing, seeds
from wm.batches import FrameBatches, LatentStreams, first_latents, hold
from wm.episodes import LATENTS, ROLLOUTS, Store, Writer, held_out_from, open_parts

PARTS = ([5, 70, 33, 1, 40, 9, 64, 2, 31, 30, 12, 50], [3, 90, 17])
"""The lengths of the episodes of two parts: shorter and longer than a chunk, and 1."""


def numbered(part: int, steps: int) -> np.ndarray:
    """A number for every frame of every part."""
    return 10_000 * part + np.arange(steps)


@pytest.fixture(scope="module")
def rollouts(tmp_path_factory: pytest.TempPathFactory) -> list[Store]:
    """Frames whose first two pixels tell their number."""
    folder = tmp_path_factory.mktemp("data") / "takecover" / ROLLOUTS
    folder.mkdir(parents=True)
    for part, lengths in enumerate(PARTS):
        frames = np.zeros((sum(lengths), 64, 64, 3), np.uint8)
        numbers = numbered(part, len(frames))
        frames[:, 0, 0, 0], frames[:, 0, 1, 0] = numbers // 256, numbers % 256
        writer = Writer(folder / str(part), ROLLOUTS)
        for episode in np.split(frames, np.cumsum(lengths)[:-1]):
            writer.append_frames(packing.pack(episode))
        flags = {"actions": np.zeros((len(frames), 1)), "rewards": np.zeros(len(frames))}
        writer.append({**flags, "terminations": np.zeros(len(frames), bool)})
        writer.append({"ends": np.cumsum(lengths)})
        writer.finish({"task": "takecover"})
    return open_parts(folder, range(len(PARTS)))


@pytest.fixture(scope="module")
def latents(tmp_path_factory: pytest.TempPathFactory) -> list[Store]:
    folder = tmp_path_factory.mktemp("data") / "takecover" / LATENTS
    folder.mkdir(parents=True)
    draw = np.random.default_rng(0)
    for part, lengths in enumerate(PARTS):
        steps = sum(lengths)
        writer = Writer(folder / str(part), LATENTS)
        writer.append({name: draw.standard_normal((steps, 3), np.float32) for name in ("means", "logvars")})
        writer.append({"actions": draw.standard_normal((steps, 2)), "terminations": draw.random(steps) < 0.1})
        writer.append({"ends": np.cumsum(lengths)})
        writer.finish({"task": "takecover"})
    return open_parts(folder, range(len(PARTS)))


def members(held_out: bool) -> set[int]:
    """The numbers of the training or the held-out frames."""
    found: set[int] = set()
    for part, lengths in enumerate(PARTS):
        first = held_out_from(len(lengths))
        border = sum(lengths[:first])
        numbers = numbered(part, sum(lengths))
        found |= set(numbers[border:] if held_out else numbers[:border])
    return found


def numbers_of(frames: np.ndarray) -> list[int]:
    pixels = frames.astype(int)
    return list(pixels[:, 0, 0, 0] * 256 + pixels[:, 0, 1, 0])


@pytest.fixture(params=[1, 3, 256])
def group(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(batches, "GROUP", request.param)
    return int(request.param)


@pytest.mark.parametrize("held_out", [False, True])
@pytest.mark.parametrize("size", [1, 16, 50])
def test_an_epoch_has_every_frame_once(rollouts: list[Store], group: int, held_out: bool, size: int) -> None:
    frames, expected = FrameBatches(rollouts, size, 7, held_out), members(held_out)
    assert frames.frames == len(expected)
    assert frames.steps_per_epoch == len(expected) // size
    epochs = []
    for epoch in range(2):
        steps = range(epoch * frames.steps_per_epoch, (epoch + 1) * frames.steps_per_epoch)
        shown = [frames.batch(step) for step in steps]
        assert all(batch.shape == (size, 64, 64, 3) and batch.dtype == np.uint8 for batch in shown)
        seen = [number for batch in shown for number in numbers_of(batch)]
        assert len(set(seen)) == len(seen) == len(expected) // size * size
        assert set(seen) <= expected
        epochs.append(seen)
    assert epochs[0] != epochs[1]
    frames.close()


def test_frames_of_a_batch_come_from_many_places(rollouts: list[Store]) -> None:
    frames = FrameBatches(rollouts, 50, 7, held_out=False)
    seen = np.array(numbers_of(frames.batch(0)))
    assert len(set(seen // packing.CHUNK)) > 5
    assert np.mean(np.abs(np.diff(seen)) == 1) < 0.2
    frames.close()


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 60), min_size=1, max_size=6))
def test_any_order_of_steps_gives_the_same_batches(rollouts: list[Store], steps: list[int]) -> None:
    in_order, jumping = (FrameBatches(rollouts, 16, 3, held_out=False) for _ in range(2))
    sequential = [numbers_of(in_order.batch(step)) for step in range(max(steps) + 1)]
    assert [numbers_of(jumping.batch(step)) for step in steps] == [sequential[step] for step in steps]
    in_order.close()
    jumping.close()


def test_another_seed_is_another_order(rollouts: list[Store]) -> None:
    first, other = (FrameBatches(rollouts, 16, seed, held_out=False) for seed in (1, 2))
    assert numbers_of(first.batch(0)) != numbers_of(other.batch(0))
    first.close()
    other.close()


def test_few_frames_make_small_batches(rollouts: list[Store]) -> None:
    frames = FrameBatches(rollouts, 10_000, 1, held_out=True)
    assert sorted(numbers_of(frames.batch(3))) == sorted(members(held_out=True))
    frames.close()


def test_memory_is_bounded(rollouts: list[Store], monkeypatch: pytest.MonkeyPatch) -> None:
    """However many epochs pass, two groups are in memory, and no read is longer than a chunk."""
    monkeypatch.setattr(batches, "GROUP", 3)
    reads = []
    original = Store.frames

    def counting(self: Store, start: int, stop: int) -> np.ndarray:
        reads.append(stop - start)
        assert start in self.frame_chunks and stop in self.frame_chunks
        return original(self, start, stop)

    monkeypatch.setattr(Store, "frames", counting)
    frames = FrameBatches(rollouts, 16, 1, held_out=False)
    for step in range(3 * frames.steps_per_epoch):
        frames.batch(step)
        assert len(frames.reading) <= 2
    frames.close()
    assert max(reads) == packing.CHUNK
    assert sum(reads) <= 4 * frames.frames


def plain_stream(stores: list[Store], row: int, rows: int, seed: int, held_out: bool) -> Iterator[dict]:
    """One row of the streams, step by step, from the definition alone."""
    names = ("means", "logvars", "actions", "terminations")
    episodes = []
    for store in stores:
        first = held_out_from(len(store.ends))
        arrays = [store.rows(name, 0, store.steps) for name in names]
        spans = list(itertools.pairwise([0, *store.ends]))
        episodes += [(arrays, *span) for span in (spans[first:] if held_out else spans[:first])]
    place = 0
    for epoch in itertools.count():
        for index in seeds.generator(seed, "episodes", epoch).permutation(len(episodes)):
            if place % rows == row:
                (means, logvars, actions, terminations), start, stop = episodes[index]
                for i in range(start, stop):
                    last = i == stop - 1
                    following = i if last else i + 1
                    yield {
                        "means": means[i],
                        "logvars": logvars[i],
                        "actions": actions[i],
                        "next_means": means[following],
                        "next_logvars": logvars[following],
                        "restarts": i == start,
                        "dones": terminations[i],
                        "valid": not last,
                    }
            place += 1


@pytest.fixture(params=["held in memory", "read from the store"])
def large(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "read from the store":
        monkeypatch.setattr(batches, "HELD_BYTES", 0)


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize(("rows", "held_out"), [(1, False), (4, False), (3, True)])
def test_windows_follow_each_other(latents: list[Store], rows: int, held_out: bool) -> None:
    length, count = 25, 4
    streams = LatentStreams(latents, rows, length, 5, held_out, hold(latents))
    windows = [streams.batch(step) for step in range(count)]
    streams.close()
    for row in range(rows):
        plain = plain_stream(latents, row, rows, 5, held_out)
        for step in range(count * length):
            expected = next(plain)
            window = windows[step // length]
            assert set(window) == set(expected)
            for name, value in expected.items():
                found = window[name][row, step % length]
                assert found.dtype == (bool if name in ("restarts", "dones", "valid") else np.float32)
                np.testing.assert_array_equal(found, value, err_msg=name)


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize(("rows", "count"), [(1, 130), (5, 30)])
def test_streams_jump_to_any_step(latents: list[Store], rows: int, count: int) -> None:
    check_jumps(latents, rows, count)


def test_more_rows_than_episodes(latents: list[Store]) -> None:
    check_jumps(latents, 40, 130)


def check_jumps(latents: list[Store], rows: int, count: int) -> None:
    sequential, jumping = (
        LatentStreams(latents, rows, 20, 9, held_out=False, held=hold(latents)) for _ in range(2)
    )
    windows = [sequential.batch(step) for step in range(count)]
    for step in (7, 8, 0, count - 1, count // 2, count // 2 + 1):
        found = jumping.batch(step)
        for name, values in windows[step].items():
            np.testing.assert_array_equal(found[name], values)
    sequential.close()
    jumping.close()


def test_first_latents_are_those_of_training_episodes(latents: list[Store]) -> None:
    means, logvars = first_latents(latents)
    expected = []
    for store, lengths in zip(latents, PARTS, strict=True):
        for episode in range(held_out_from(len(lengths))):
            expected.append(store.means(0, store.steps)[sum(lengths[:episode])])
    np.testing.assert_array_equal(means, expected)
    assert logvars.shape == means.shape
