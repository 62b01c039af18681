"""What all tests share."""

import fcntl
import os
from pathlib import Path

import pytest
from hypothesis import settings

from tests.clone import Clone

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run side by side; stages set what their settings say

settings.register_profile("steady", deadline=None, derandomize=True)
settings.load_profile("steady")


@pytest.fixture(scope="session")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone after a whole `dvc repro` at *smoke*, committed. Copy it; do not change it.

    Processes that test side by side share it: the first makes it, the others wait.
    """
    place = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        place = place.parent
    told = place / "smoke.txt"
    with open(place / "smoke.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not told.exists():
            clone = Clone.of_working_tree(place / "smoke")
            clone.first_output = clone.run("dvc", "repro")
            clone.commit()
            told.write_text(clone.first_output)
    clone = Clone(place / "smoke")
    clone.first_output = told.read_text()
    return clone


@pytest.fixture
def copy(smoke: Clone, tmp_path: Path) -> Clone:
    """A copy of the finished clone, to change at will."""
    return smoke.copy(tmp_path / "clone")
