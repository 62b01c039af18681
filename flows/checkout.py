"""A clean working tree of a commit, in which one stage is run on a machine of a pool."""

import fcntl
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from ruamel.yaml import YAML, YAMLError

from flows.graph import cache_folder, changing_lock, configure
from flows.groups import KEPT

PLACE = Path(".dvc", "tmp", "flows")
"""Where the working trees lie, in the machine's clone. Their names are few, as DVC remembers each."""
COMMIT = re.compile(r"[0-9a-f]{40}")
ROOM = 2**20
"""Bytes; a disk with less of them free counts as full."""
MD5 = re.compile(r"[0-9a-f]{32}(\.dir)?")
WORD = re.compile(r"(?!-)(?!.*\.\.)[A-Za-z0-9_./+-]*")
"""A name or a text in params.yaml: dvc.yaml puts them into paths and into commands for the shell."""


@contextmanager
def checkout(home: Path, commit: str, params: str, entries: Mapping[str, Any]) -> Iterator[Path]:
    """The working tree of `commit` with this params.yaml and these entries of dvc.lock, for the block alone.

    `home` is the machine's clone, whose cache, remotes and checkpoints it shares. Raises ValueError for a
    commit that `home` and its origin do not have, and for parameters and entries that are more than plain
    words and numbers.
    """
    if not COMMIT.fullmatch(commit):
        raise ValueError(f"{commit!r} is no commit")
    check_params(params)
    for name, entry in entries.items():
        check_words(f"dvc.lock: {name}", entry)
    fetch(home, commit)
    with free_place(home / PLACE) as folder:
        remove(home, folder)
        try:
            add(home, folder, commit)
            share(home, folder)
            (folder / "params.yaml").write_text(params)
            with changing_lock(folder) as stages:
                stages.clear()
                stages.update(entries)
            yield folder
        finally:
            remove(home, folder)


def check_params(text: str) -> None:
    """Raise ValueError where a key or a text of params.yaml is more than a plain word."""
    try:
        values = YAML(typ="safe").load(text)
    except YAMLError as error:
        raise ValueError(f"params.yaml cannot be read: {error}") from error
    check_words("params.yaml", values)


def check_words(where: str, value: Any) -> None:
    """Raise ValueError where a key or a text in `value` is more than a plain word; `where` it comes from.

    A command is let pass: what a stage executes stands in dvc.yaml, not in dvc.lock.
    """
    if isinstance(value, Mapping):
        for key, inner in value.items():
            check_words(f"{where}: a key", key)
            if key == "md5" and not MD5.fullmatch(str(inner)):
                raise ValueError(f"{where}: md5 is {inner!r}; allowed: 32 hexadecimal digits and maybe .dir")
            if not (key == "cmd" and isinstance(inner, str)):
                check_words(f"{where}: {key}", inner)
    elif isinstance(value, list):
        for inner in value:
            check_words(where, inner)
    elif isinstance(value, str):
        if not WORD.fullmatch(value):
            raise ValueError(
                f"{where} is {value!r}; allowed: letters, digits and _ . / + - (no .., no - in front)"
            )
    elif value is not None and not isinstance(value, int | float):
        raise ValueError(f"{where} is {value!r}; allowed: texts, numbers, true, false, lists and mappings")


def fetch(home: Path, commit: str) -> None:
    """Have the commit in the clone. Raises ValueError."""
    known = ["git", "cat-file", "-e", f"{commit}^{{commit}}"]
    if subprocess.run(known, cwd=home, capture_output=True).returncode == 0:
        return
    fetched = subprocess.run(["git", "fetch", "--quiet", "origin"], cwd=home, capture_output=True, text=True)
    if subprocess.run(known, cwd=home, capture_output=True).returncode:
        told = fetched.stderr.strip()
        raise ValueError(f"this machine's clone has no commit {commit}, nor has its origin: push it {told}")


@contextmanager
def free_place(folder: Path) -> Iterator[Path]:
    """A sub-folder that no other process uses; a killed process's is free once its groups have ended."""
    folder.mkdir(parents=True, exist_ok=True)
    number = 0
    while (lock := hold(folder / f"{number}.lock")) is None:
        number += 1
    with lock:
        KEPT.add(lock.fileno())
        try:
            yield folder / str(number)
        finally:
            KEPT.discard(lock.fileno())


def hold(path: Path) -> IO[bytes] | None:
    """The file, locked for as long as it is open; None where another process holds it."""
    lock = open(path, "wb")  # noqa: SIM115 - it stays open
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        return None
    return lock


def add(home: Path, folder: Path, commit: str) -> None:
    """Check the commit out. Raises ValueError; git itself does not say that a disk is full."""
    try:
        git(home, "worktree", "add", "--quiet", "--detach", "--force", str(folder), commit)
    except ValueError as error:
        full = shutil.disk_usage(folder.parent).free < ROOM
        raise ValueError(f"{folder.parent}: no space left on the disk" if full else str(error)) from error


def share(home: Path, folder: Path) -> None:
    """The clone's cache and its local settings (credentials, addresses) hold in the working tree, too."""
    with suppress(FileNotFoundError):
        shutil.copy(home / ".dvc" / "config.local", folder / ".dvc" / "config.local")
    configure(folder, "cache.dir", str(cache_folder(home)))


def remove(home: Path, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    git(home, "worktree", "prune")


def git(home: Path, *arguments: str) -> str:
    """What git prints. Raises ValueError with what it complains of."""
    done = subprocess.run(["git", *arguments], cwd=home, capture_output=True, text=True)
    if done.returncode:
        raise ValueError(f"git {arguments[0]} failed: {done.stderr.strip()}")
    return done.stdout.strip()
