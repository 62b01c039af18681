import mmap
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest

from wm import workers
from wm.tasks import load_task
from wm.workers import WorkerDied, Workers, started_ahead, take_workers, worker_count, worker_local

FAMILY = "WM_TEST_FAMILY"
PATIENCE = 120  # seconds until a test gives up waiting, on a busy machine


def square(number):
    return number * number


def has_imported(module):
    return module in sys.modules


def complain(number):
    if number == 3:
        raise ValueError(f"no {number} here")
    return number


def leave(_):
    sys.exit(0)


class UnpicklableError(Exception):
    def __init__(self, first, second):
        super().__init__(f"{first} and {second}")


def complain_oddly(_):
    raise UnpicklableError("this", "that")


def return_oddly(_):
    return lambda: None


def surroundings(_):
    import torch

    Path("litter").write_text("")
    return os.getcwd(), torch.get_num_threads(), os.environ["NUMBA_NUM_THREADS"]


def pid(_):
    time.sleep(0.05)
    return os.getpid(), id(worker_local("object", object)), id(worker_local("object", object))


def die(victim, number):
    if number == victim:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def large_and_slow(block):
    time.sleep(0.2)
    return block


def sleep_on(path, number):
    """Start a process that would outlive its worker, and wait."""
    subprocess.Popen(["sleep", "600"], start_new_session=True)
    (path / str(number)).write_text(str(os.getpid()))
    time.sleep(600)


def play(seed):
    """Steps and the sum of all pixels of a random policy's episode."""
    task = load_task("takecover")
    game = worker_local("game", partial(task.make_game, "native"))
    policy = task.random_policy(np.random.default_rng(seed))
    total, steps, over = int(game.reset(seed).sum()), 0, False
    while not over:
        frame, _, terminated, truncated = game.step(policy.act())
        total, steps, over = total + int(frame.sum()), steps + 1, terminated or truncated
    return steps, total


def play_on(path, number):
    """Play for ever; the worker's id is in `path`/`number` as soon as its game runs."""
    game = worker_local("game", partial(load_task("takecover").make_game, "native"))
    game.reset(number)
    (path / str(number)).write_text(str(os.getpid()))
    while True:
        play(number)


def segments():
    return set(Path("/dev/shm").glob("ViZDoom*"))


def family(mark):
    """Ids of all running processes with that mark in their environment, zombies aside."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(FAMILY) == mark:
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def wait_until(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


@pytest.fixture
def mark(monkeypatch, tmp_path):
    monkeypatch.setenv(FAMILY, str(tmp_path))
    return str(tmp_path)


def test_worker_count(monkeypatch):
    monkeypatch.delenv("WM_WORKERS", raising=False)
    assert 1 <= worker_count() <= os.cpu_count()
    monkeypatch.setenv("WM_WORKERS", "7")
    assert worker_count() == 7


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5", " 2", "٣"])
def test_bad_worker_count(monkeypatch, text):
    monkeypatch.setenv("WM_WORKERS", text)
    with pytest.raises(ValueError, match="WM_WORKERS"):
        Workers()


def test_order_and_laziness():
    taken = []

    def blocks():
        for number in range(20):
            taken.append(number)
            yield number

    with Workers(2) as pool:
        results = pool.map(square, blocks())
        assert taken == []
        for index, result in enumerate(results):
            assert result == index * index
            assert len(taken) <= index + 4
        assert list(pool.map(square, [])) == []
        assert list(pool.map(square, range(3))) == [0, 1, 4]


def test_surroundings():
    before = dict(os.environ)
    with Workers(2) as pool:
        assert dict(os.environ) == before
        found = list(pool.map(surroundings, range(4)))
        folders = {folder for folder, _, _ in found}
        assert os.getcwd() not in folders
        assert all(Path(folder, "litter").exists() for folder in folders)
        assert {(torch_threads, numba_threads) for _, torch_threads, numba_threads in found} == {(1, "1")}
    assert not any(Path(folder).exists() for folder in folders)


def test_worker_local_is_kept():
    with Workers(2) as pool:
        found = list(pool.map(pid, range(8)))
    assert all(first == second for _, first, second in found)
    assert len({(process, first) for process, first, _ in found}) == len({process for process, _, _ in found})


def test_worker_local_is_closed_at_exit():
    script = """
        from wm.workers import worker_local
        class Game:
            def close(self):
                print("closed")
        worker_local("game", Game)
    """
    result = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True)
    assert result.stdout == "closed\n"


def test_errors_reach_the_caller():
    with Workers(2) as pool:
        results = pool.map(complain, range(100))
        assert [next(results) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(ValueError) as caught:
            next(results)
        assert str(caught.value) == "no 3 here"
        assert "complain" in caught.value.__notes__[0]
        with pytest.raises(RuntimeError, match="SystemExit"):
            list(pool.map(leave, [0]))
        with pytest.raises(RuntimeError, match="UnpicklableError: this and that"):
            list(pool.map(complain_oddly, [0]))
        with pytest.raises((AttributeError, TypeError), match="pickle"):
            list(pool.map(return_oddly, [0]))
        assert list(pool.map(square, [5])) == [25]


@pytest.mark.parametrize("count", [1, 3])
def test_killed_by_its_own_block(count):
    with Workers(count) as pool:
        results = pool.map(partial(die, 4), range(50))
        with pytest.raises(WorkerDied, match="killed by SIGKILL"):
            list(results)
        with pytest.raises(WorkerDied):
            list(pool.map(square, [1]))


def test_killed_while_blocks_of_many_bytes_are_sent():
    block = np.zeros(20_000_000, np.uint8)
    with Workers(2) as pool:
        results = pool.map(large_and_slow, (block for _ in range(50)))
        next(results)
        pool._processes[1].kill()
        with pytest.raises(WorkerDied):
            list(results)


def test_killed_while_playing(tmp_path, mark):
    """The failure is told; no process and no shared memory is left."""
    before = segments()
    with pytest.raises(WorkerDied), Workers(2) as pool:
        results = pool.map(partial(play_on, tmp_path), range(4))
        _kill_one_at_work(tmp_path)
        next(results)
    assert family(mark) == []
    assert not [child for child in psutil.Process().children() if child.name() == "vizdoom"]
    wait_until(lambda: segments() <= before)  # other tests may be starting games


def _kill_one_at_work(path):
    """Kill one of two workers from a thread, once both are at work, as the first result is awaited."""

    def kill():
        wait_until(lambda: (path / "0").exists() and (path / "1").exists())
        os.kill(int((path / "1").read_text()), signal.SIGKILL)

    threading.Thread(target=kill, daemon=True).start()


def test_whatever_a_worker_started_ends(tmp_path, mark):
    before = {child.pid for child in psutil.Process().children()}
    with pytest.raises(WorkerDied), Workers(2) as pool:
        results = pool.map(partial(sleep_on, tmp_path), range(4))
        _kill_one_at_work(tmp_path)
        next(results)
    assert family(mark) == []
    left = {child for child in psutil.Process().children() if child.pid not in before}
    assert not [child for child in left if child.status() == psutil.STATUS_ZOMBIE]


@pytest.mark.parametrize("delay", [0.25, 0.5, 0.75])
def test_killed_while_games_start(tmp_path, mark, delay):
    """The segments of a game that was killed as it began are swept up."""
    before = segments()
    with Workers(2) as pool:
        futures = [pool._submit(partial(play_on, tmp_path), number) for number in range(2)]
        time.sleep(delay)
        for process in pool._processes:
            process.kill()
        for future in futures:
            with pytest.raises(WorkerDied):
                future.result(PATIENCE)
    assert family(mark) == []
    wait_until(lambda: segments() <= before)  # other tests may be starting games


def test_foreign_segments_are_swept_only_when_unused(tmp_path):
    used, unused = Path("/dev/shm/ViZDoomSMwmtestused"), Path("/dev/shm/ViZDoomSMwmtestunused")
    for path in (used, unused):
        path.write_bytes(bytes(4096))
    try:
        with used.open("r+b") as file, mmap.mmap(file.fileno(), 4096):
            workers.sweep_shared_memory()
            assert used.exists()
            assert not unused.exists()
    finally:
        for path in (used, unused):
            path.unlink(missing_ok=True)


PARENT = """
    import signal
    import sys
    from functools import partial
    from pathlib import Path
    from tests.wm.test_workers import play_on
    from wm.workers import Workers

    if __name__ == "__main__":
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
        with Workers(2) as pool:
            list(pool.map(partial(play_on, Path(sys.argv[1])), range(4)))
"""


@pytest.fixture
def parent(tmp_path, mark):
    """A process of its own group whose workers' games run."""
    script = tmp_path / "parent.py"
    script.write_text(textwrap.dedent(PARENT))
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(
        [sys.executable, script, tmp_path],
        env=environment,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_until(lambda: (tmp_path / "0").exists() and (tmp_path / "1").exists())
    yield process
    if process.poll() is None:
        process.kill()
        process.wait()


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's help is Linux's")
def test_parent_killed(parent, mark):
    before = segments()
    assert len(family(mark)) >= 1 + 2 + 2  # the parent, workers, games
    parent.kill()
    parent.communicate(timeout=PATIENCE)
    wait_until(lambda: family(mark) == [])
    wait_until(lambda: segments() <= before)  # other tests may be starting games


def test_interrupted(parent, mark):
    before = segments()
    os.killpg(parent.pid, signal.SIGINT)
    _, errors = parent.communicate(timeout=PATIENCE)
    assert errors.count("Traceback") == 1
    assert errors.rstrip().endswith("KeyboardInterrupt")
    wait_until(lambda: family(mark) == [])
    wait_until(lambda: segments() <= before)  # other tests may be starting games
    assert sorted(path.name for path in Path(mark).iterdir()) == ["0", "1", "parent.py"]


def test_results_do_not_depend_on_the_number_of_workers():
    found = []
    for count in (1, 2, 3):
        with Workers(count) as pool:
            found.append(list(pool.map(play, range(4))))
    assert found[0] == found[1] == found[2]
    assert len(set(found[0])) == 4


def test_workers_started_ahead_are_taken_and_have_imported(monkeypatch):
    monkeypatch.setenv("WM_WORKERS", "2")
    with started_ahead("wm.calibration"):
        with take_workers() as pool:
            assert list(pool.map(has_imported, ["wm.calibration"] * 2)) == [True, True]
        with take_workers() as pool:
            assert list(pool.map(has_imported, ["wm.calibration"])) == [False]


def test_workers_started_ahead_end_where_nobody_takes_them(mark):
    with pytest.raises(KeyError), started_ahead("wm.agent"):
        assert len(family(mark)) >= 2
        raise KeyError
    assert family(mark) == []


def test_a_worker_that_cannot_import_raises():
    with pytest.raises(WorkerDied), Workers(1, imports="wm.nothing") as pool:
        list(pool.map(square, [1]))
