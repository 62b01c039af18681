"""Results are shared through a real S3 endpoint: pushed, pulled in another clone, and not computed again."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clone import Clone
from tests.s3 import SECRETS, serving

pytestmark = [pytest.mark.pipeline, pytest.mark.xdist_group("pipeline")]


@pytest.fixture
def endpoint(tmp_path: Path) -> Iterator[str]:
    with serving(tmp_path / "s3") as endpoint:
        yield endpoint.url


def add_remote(clone: Clone, endpoint: str) -> None:
    clone.run("dvc", "remote", "add", "--default", "--force", "storage", "s3://bucket/data")
    clone.run("dvc", "remote", "modify", "storage", "endpointurl", endpoint)


def test_a_second_clone_pulls_and_runs_nothing(copy: Clone, endpoint: str, tmp_path: Path) -> None:
    copy.environment |= SECRETS
    add_remote(copy, endpoint)
    copy.commit()
    copy.run("dvc", "push", "--run-cache")
    subprocess.check_call(["git", "clone", "--quiet", str(copy.folder), str(tmp_path / "second")])
    second = Clone(tmp_path / "second", **SECRETS)
    second.run("dvc", "pull")
    assert "up to date" in second.run("dvc", "status")
    assert second.repro() == []
    assert second.run("git", "status", "--porcelain") == ""
