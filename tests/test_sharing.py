"""Results are shared through a real S3 endpoint: pushed, pulled in another clone, and not computed again."""

import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clone import Clone

pytestmark = [pytest.mark.pipeline, pytest.mark.xdist_group("pipeline")]

KEY, SECRET = "key-of-tests", "secret-of-tests"


@pytest.fixture
def endpoint(tmp_path: Path) -> Iterator[str]:
    """An S3 server on the loopback interface, with a bucket called `bucket`."""
    (tmp_path / "s3" / "bucket").mkdir(parents=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"127.0.0.1:{port}"
    server = subprocess.Popen(
        ["rclone", "serve", "s3", "--addr", address, "--auth-key", f"{KEY},{SECRET}", str(tmp_path / "s3")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(port, server)
        yield f"http://{address}"
    finally:
        server.terminate()
        server.wait(10)


def wait_for(port: int, server: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            assert server.poll() is None and time.monotonic() < deadline, "the server did not start"
            time.sleep(0.1)


def add_remote(clone: Clone, endpoint: str) -> None:
    clone.run("dvc", "remote", "add", "--default", "--force", "storage", "s3://bucket/data")
    clone.run("dvc", "remote", "modify", "storage", "endpointurl", endpoint)


def test_a_second_clone_pulls_and_runs_nothing(copy: Clone, endpoint: str, tmp_path: Path) -> None:
    secrets = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_DEFAULT_REGION": "us-east-1"}
    copy.environment |= secrets
    add_remote(copy, endpoint)
    copy.commit()
    copy.run("dvc", "push", "--run-cache")
    subprocess.check_call(["git", "clone", "--quiet", str(copy.folder), str(tmp_path / "second")])
    second = Clone(tmp_path / "second", **secrets)
    second.run("dvc", "pull")
    assert "up to date" in second.run("dvc", "status")
    assert second.repro() == []
    assert second.run("git", "status", "--porcelain") == ""
