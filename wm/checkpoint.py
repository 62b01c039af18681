"""Checkpoints: the state of long work, kept outside DVC's outs so that a killed stage goes on where it was.

A checkpoint belongs to a stage under a key made of its parameters, the digests of its inputs, the code that
is loaded (another loss is other work) and the versions of the packages that compute. It lies in the state
folder (`WM_STATE`, else `.wm` in the main checkout). `WM_RESUME=0` ignores what is there.
"""

import fcntl
import hashlib
import json
import os
import pickle
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from wm import code, files

INTERVAL = 20.0
"""Seconds of work between two checkpoints, at most about what a kill costs."""
DIGEST_SIZE = hashlib.sha256().digest_size
"""Bytes of the digest before the pickled state: what a disk or a hand has damaged is not resumed from."""


def state_folder() -> Path:
    """`WM_STATE`, else `.wm` in the main checkout, which worktrees and DVC's experiments share."""
    if "WM_STATE" in os.environ:
        return Path(os.environ["WM_STATE"]).absolute()
    here = Path.cwd()
    for folder in (here, *here.parents):  # a queued experiment runs in a repository of its own
        if folder.parts[-3:] == (".dvc", "tmp", "exps"):
            return folder.parents[2] / ".wm"
    command = ["git", "rev-parse", "--path-format=absolute", "--git-common-dir"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return Path(".wm").absolute()
    return Path(found).parent / ".wm"


class Checkpoint:
    """The one checkpoint of a stage under a key, held for this process alone while open.

    `load` and `save` exchange a picklable state. `folder` is a place for larger partial files of the same
    work. Starting a stage under another key removes checkpoints of former keys that no process holds.
    """

    def __init__(self, stage: str, key: Any) -> None:
        """`stage`: such as `vision@takecover`; `key`: JSON-able parameters and input digests."""
        self.stage = stage
        text = json.dumps([key, code.digest()], sort_keys=True)
        self.home = state_folder() / stage
        self.folder = self.home / hashlib.sha256(text.encode()).hexdigest()[:16]
        self.saved_at = time.monotonic()
        self.lock: IO[bytes] | None = None

    def __enter__(self) -> "Checkpoint":
        self.home.mkdir(parents=True, exist_ok=True)
        self.lock = self.hold(self.folder.with_suffix(".lock"))
        if os.environ.get("WM_RESUME") == "0":
            shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(exist_ok=True)
        for aside in self.folder.glob(".state.*"):  # of a process that was killed as it wrote
            aside.unlink()
        self.forget_others()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self.lock is not None
        self.lock.close()

    def hold(self, path: Path) -> IO[bytes]:
        """The lock file `path`, locked, for as long as it is open."""
        while True:
            lock = open(path, "wb")  # noqa: SIM115 - it stays open
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                print(f"{self.stage}: another process does the same work; waiting for it", file=sys.stderr)
                fcntl.flock(lock, fcntl.LOCK_EX)
            if path.exists() and os.path.samestat(path.stat(), os.fstat(lock.fileno())):
                return lock
            lock.close()  # whoever held it before has removed it meanwhile

    def forget_others(self) -> None:
        """Remove the stage's checkpoints of former keys, less those that a live process holds."""
        for other in self.home.glob("*.lock"):
            if other.stem == self.folder.name:
                continue
            with open(other, "wb") as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                shutil.rmtree(other.with_suffix(""), ignore_errors=True)
                other.unlink(missing_ok=True)

    def load(self) -> Any | None:
        """The state last saved under this key, or None; what is damaged is removed, with all of its work."""
        path = self.folder / "state"
        if not path.exists():
            return None
        content = path.read_bytes()
        digest, pickled = content[:DIGEST_SIZE], content[DIGEST_SIZE:]
        if hashlib.sha256(pickled).digest() == digest:
            return pickle.loads(pickled)
        print(f"{self.stage}: the checkpoint {path} is damaged; starting afresh", file=sys.stderr)
        shutil.rmtree(self.folder)
        self.folder.mkdir()
        return None

    def save(self, state: Any) -> None:
        pickled = pickle.dumps(state)
        files.write_bytes(self.folder / "state", hashlib.sha256(pickled).digest() + pickled)
        self.saved_at = time.monotonic()

    @property
    def due(self) -> bool:
        """Whether enough time has passed since the last save for another to be worth its cost."""
        return time.monotonic() - self.saved_at > INTERVAL
