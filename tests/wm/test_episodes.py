import hashlib
import os
import pickle
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.wm.small import small_files
from wm import episodes, packing
from wm.episodes import (
    LATENTS,
    LAYOUTS,
    ROLLOUTS,
    Store,
    Writer,
    forget_parts,
    held_out_from,
    open_parts,
    open_store,
)

LATENT_SIZE, ACTION_SIZE = 3, 2
few = settings(max_examples=8, deadline=None)
kinds = st.sampled_from([ROLLOUTS, LATENTS])
lengths = st.lists(st.integers(1, 40), min_size=1, max_size=6)


@contextmanager
def somewhere() -> Iterator[Path]:
    with small_files(), tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def made_up(kind: str, lengths: list[int], seed: int = 0) -> dict[str, np.ndarray]:
    """All rows of a store of episodes of these lengths, drawn at random."""
    draw, steps = np.random.default_rng(seed), sum(lengths)
    rows = {
        "frames": draw.integers(0, 256, (steps, 64, 64, 3), np.uint8),
        "means": draw.standard_normal((steps, LATENT_SIZE), np.float32),
        "logvars": draw.standard_normal((steps, LATENT_SIZE), np.float32),
        "actions": draw.standard_normal((steps, ACTION_SIZE), np.float32),
        "rewards": draw.standard_normal(steps, np.float32),
        "terminations": draw.random(steps) < 0.5,
        "ends": np.cumsum(lengths),
    }
    return {name: rows[name] for name in LAYOUTS[kind]}


def append_episode(writer: Writer, rows: dict[str, np.ndarray], episode: int) -> None:
    ends = rows["ends"]
    own = slice(ends[episode - 1] if episode else 0, ends[episode])
    piece = {name: values[own] for name, values in rows.items() if name not in ("frames", "ends")}
    writer.append({**piece, "ends": ends[episode : episode + 1]})
    if "frames" in rows:
        writer.append_frames(packing.pack(rows["frames"][own]))


def write(path: Path, kind: str, lengths: list[int], seed: int = 0, task: str = "takecover") -> Path:
    rows = made_up(kind, lengths, seed)
    writer = Writer(path, kind)
    for episode in range(len(lengths)):
        append_episode(writer, rows, episode)
    writer.finish({"task": task})
    return path


def content(folder: Path) -> dict[str, str]:
    """SHA-256 of every file, read without the code under test."""
    paths = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in paths}


@few
@given(kinds, lengths, st.data())
def test_what_is_read_is_what_was_written(kind: str, lengths: list[int], data: st.DataObject) -> None:
    with somewhere() as folder:
        store = open_store(write(folder / "takecover" / kind / "0", kind, lengths))
        expected = made_up(kind, lengths)
        assert store.ends.tolist() == expected["ends"].tolist()
        assert store.lengths.tolist() == lengths
        assert (store.steps, store.episodes, store.task) == (sum(lengths), len(lengths), "takecover")
        stop = data.draw(st.integers(1, store.steps))
        start = data.draw(st.integers(0, stop - 1))
        for name in set(expected) - {"ends"}:
            whole, part = (getattr(store, name)(*rows) for rows in ((0, store.steps), (start, stop)))
            assert whole.dtype == expected[name].dtype
            np.testing.assert_array_equal(whole, expected[name])
            np.testing.assert_array_equal(part, expected[name][start:stop])


@few
@given(kinds, lengths)
def test_any_zarr_reader_can_read_it(kind: str, lengths: list[int]) -> None:
    with somewhere() as folder:
        path = write(folder / "takecover" / kind / "0", kind, lengths)
        for name, expected in made_up(kind, lengths).items():
            found = zarr.open_group(path, mode="r")[name][:]
            np.testing.assert_array_equal(found, padded(expected, lengths) if name == "frames" else expected)


def padded(frames: np.ndarray, lengths: list[int]) -> np.ndarray:
    """Each episode filled up to whole chunks with zeros."""
    pieces = []
    for episode in np.split(frames, np.cumsum(lengths)[:-1]):
        pieces += [episode, np.zeros((-len(episode) % packing.CHUNK, 64, 64, 3), np.uint8)]
    return np.concatenate(pieces)


@few
@given(kinds, lengths, st.data())
def test_bytes_do_not_depend_on_how_rows_arrive(kind: str, lengths: list[int], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, sum(lengths)))
    with somewhere() as folder:
        by_episode = write(folder / "a", kind, lengths)
        rows, writer = made_up(kind, lengths), Writer(folder / "b", kind)
        frames = rows.pop("frames", None)
        for piece in (slice(0, cut), slice(cut, None)):
            writer.append({name: values[piece] for name, values in rows.items() if name != "ends"})
        for episode in np.split(frames, rows["ends"][:-1]) if frames is not None else ():
            writer.append_frames(packing.pack(episode))
        writer.append({"ends": rows["ends"]})
        writer.finish({"task": "takecover"})
        assert content(folder / "b") == content(by_episode)


@few
@given(kinds, lengths, st.data())
def test_resumed_writing_gives_the_same_bytes(kind: str, lengths: list[int], data: st.DataObject) -> None:
    """The first writer goes on after its state was taken, and what it wrote then is as if it were not."""
    saved = data.draw(st.integers(0, len(lengths)))
    killed = data.draw(st.integers(saved, len(lengths)))
    with somewhere() as folder:
        rows, first = made_up(kind, lengths), Writer(folder / "b", kind)
        for episode in range(saved):
            append_episode(first, rows, episode)
        state = pickle.dumps(first.state())
        for episode in range(saved, killed):
            append_episode(first, made_up(kind, lengths, seed=1), episode)
        second = Writer(folder / "b", kind, pickle.loads(state))
        for episode in range(saved, len(lengths)):
            append_episode(second, rows, episode)
        second.finish({"task": "takecover"})
        assert content(folder / "b") == content(write(folder / "a", kind, lengths))


def test_digest_tells_contents_apart(tmp_path: Path) -> None:
    with small_files():
        stores = [
            write(tmp_path / str(number) / "takecover" / LATENTS / "0", LATENTS, [5, 20], seed)
            for number, seed in enumerate((0, 0, 1))
        ]
        same, again, other = (open_store(store).digest for store in stores)
    assert same == again != other


def one_line(path: Path, *arguments: object) -> str:
    with pytest.raises(ValueError) as caught:
        open_store(path, *arguments)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("kind", [ROLLOUTS, LATENTS])
@pytest.mark.parametrize("fault", ["cut short", "altered", "missing", "empty"])
def test_any_damaged_file_is_found(tmp_path: Path, kind: str, fault: str) -> None:
    with small_files():
        sound = write(tmp_path / "takecover" / kind / "0", kind, [10, 20])
        for name in content(sound):
            damaged = sound.with_name("1")
            shutil.copytree(sound, damaged)
            file = damaged / name
            old = file.read_bytes()
            half = len(old) // 2
            altered = old[:half] + bytes([old[half] ^ 1]) + old[half + 1 :]
            file.write_bytes({"cut short": old[:-1], "altered": altered}.get(fault, b""))
            if fault == "missing":
                file.unlink()
            if not unharmed(damaged, old, file):
                one_line(damaged)
            shutil.rmtree(damaged)
        open_store(sound)


def unharmed(damaged: Path, old: bytes, file: Path) -> bool:
    """Whether only white space at the end of a JSON file was lost."""
    return file == damaged / "zarr.json" and file.is_file() and file.read_bytes() == old.strip()


def test_a_foreign_file_is_found(tmp_path: Path) -> None:
    with small_files():
        path = write(tmp_path / "takecover" / LATENTS / "0", LATENTS, [10])
        (path / "means" / "c" / "9").write_bytes(b"x")
        assert "means/c/9" in one_line(path)


def test_other_kind_task_or_latent_size(tmp_path: Path) -> None:
    with small_files():
        path = write(tmp_path / "takecover" / LATENTS / "0", LATENTS, [10])
        open_store(path, LATENT_SIZE)
        assert "latent_size is 4" in one_line(path, 4)
        other = tmp_path / "carracing" / LATENTS / "0"
        shutil.copytree(path, other)
        assert "latents of takecover" in one_line(other)
        assert "does not exist" in one_line(tmp_path / "takecover" / LATENTS / "7")


def test_a_store_of_another_version_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with small_files():
        monkeypatch.setattr(episodes, "FORMAT", 1)
        path = write(tmp_path / "takecover" / ROLLOUTS / "0", ROLLOUTS, [10])
        monkeypatch.undo()
        assert "another version" in one_line(path)


def test_parts_come_in_the_order_asked_for_and_forgotten_ones_go(tmp_path: Path) -> None:
    folder = tmp_path / "takecover" / LATENTS
    with small_files():
        for part in range(3):
            write(folder / str(part), LATENTS, [part + 1])
        (folder / ".1.partial").mkdir()
        assert [store.steps for store in open_parts(folder, (2, 0))] == [3, 1]
    forget_parts(folder, (2, 0))
    assert sorted(os.listdir(folder)) == ["0", "2"]
    forget_parts(folder, (2, 0))
    forget_parts(tmp_path / "nowhere", (0,))


@given(st.integers(2, 10_000))
def test_the_last_tenth_is_held_out(count: int) -> None:
    held_out = count - held_out_from(count)
    assert held_out == max(1, count // 10)
    assert held_out_from(count) >= 1


@pytest.mark.parametrize("links", [True, False])
def test_published_files_outlive_their_source(
    tmp_path: Path, links: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no links here")

    if not links:
        monkeypatch.setattr(os, "link", refuse)
    with small_files():
        source = write(tmp_path / "a", LATENTS, [30])
        before = content(source)
        episodes.publish(source, tmp_path / "b")
        assert content(tmp_path / "b") == before == content(source)
        shutil.rmtree(source)
        assert content(tmp_path / "b") == before


@pytest.mark.parametrize(("name", "count"), [("means", 20_000), ("actions", 70_000)])
def test_rows_of_several_files_are_zarr_s(tmp_path: Path, name: str, count: int) -> None:
    store = open_store(write(tmp_path / "takecover" / LATENTS / "0", LATENTS, [count]))
    expected = np.asarray(zarr.open_group(store.path, mode="r")[name][:])
    border = episodes.LAYOUTS[LATENTS][name].shard
    for start, stop in [(0, count), (border - 1, border + 1), (border, count), (count - 1, count), (7, 7)]:
        np.testing.assert_array_equal(store.rows(name, start, stop), expected[start:stop])


@pytest.mark.parametrize(("kind", "name"), [(ROLLOUTS, "frames"), (LATENTS, "means")])
def test_no_rows_lie_outside_a_store(tmp_path: Path, kind: str, name: str) -> None:
    """What a chunk is filled up with must not pass for data."""
    store = open_store(write(tmp_path / "takecover" / kind / "0", kind, [30]))
    assert len(store.rows(name, 30, 30)) == 0
    for start, stop in [(29, 31), (31, 31), (-1, 1), (2, 1)]:
        with pytest.raises(AssertionError):
            store.rows(name, start, stop)


def test_zeros_are_read_as_they_were_written(tmp_path: Path) -> None:
    """Zarr may leave out chunks of zeros; most terminations are one."""
    path = tmp_path / "takecover" / LATENTS / "0"
    writer = Writer(path, LATENTS)
    rows = {name: np.zeros_like(values) for name, values in made_up(LATENTS, [40_000]).items()}
    writer.append({**rows, "ends": np.array([40_000])})
    writer.finish({"task": "takecover"})
    store = open_store(path)
    for name in set(rows) - {"ends"}:
        np.testing.assert_array_equal(store.rows(name, 0, store.steps), rows[name])


@pytest.mark.parametrize(("kind", "name"), [(ROLLOUTS, "frames"), (LATENTS, "means")])
def test_a_slice_reads_only_its_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, name: str
) -> None:
    """Reading one row of many must not decode a whole file of them."""
    path = write(tmp_path / "takecover" / kind / "0", kind, [1100])
    store: Store = open_store(path)
    unpacked = []
    original = packing.unpack

    def counting(chunk: bytes, out: np.ndarray) -> None:
        unpacked.append(len(chunk))
        original(chunk, out)

    monkeypatch.setattr(packing, "unpack", counting)
    getattr(store, name)(1024, 1025)
    assert len(unpacked) == 1
