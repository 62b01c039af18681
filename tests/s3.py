"""A real S3 endpoint on the loopback interface, for DVC's remote."""

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

KEY, SECRET = "key-of-tests", "secret-of-tests"
SECRETS = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_DEFAULT_REGION": "us-east-1"}
"""What a client needs in its environment."""


class Endpoint:
    """An S3 server with a bucket called `bucket`, which can be stopped and started again."""

    def __init__(self, folder: Path) -> None:
        (folder / "bucket").mkdir(parents=True)
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        address, key = f"127.0.0.1:{self.port}", f"{KEY},{SECRET}"
        command = ["rclone", "serve", "s3", "--addr", address, "--auth-key", key, str(self.folder)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                assert self.process.poll() is None and time.monotonic() < deadline, "it did not start"
                time.sleep(0.1)

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(10)
            self.process = None


@contextmanager
def serving(folder: Path) -> Iterator[Endpoint]:
    """An endpoint that serves for the block."""
    endpoint = Endpoint(folder)
    endpoint.start()
    try:
        yield endpoint
    finally:
        endpoint.stop()
