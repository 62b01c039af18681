"""Files that are whole or absent: written aside, synced and renamed; and a stage's output folder likewise."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from wm.errors import BadInput


def write_bytes(path: Path, content: bytes) -> None:
    """Write `path` so that a reader, or a crash, sees the old content or the new, nothing between."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(aside, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def write_text(path: Path, content: str) -> None:
    write_bytes(path, content.encode())


def write_json(path: Path, value: Any) -> None:
    """Indented JSON, keys in the order given."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def read_json(path: Path) -> Any:
    """Raises ValueError where the file is missing or is not JSON."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise BadInput(f"{path} does not exist; run the stage that makes it (dvc repro)") from None
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise BadInput(f"{path} is damaged; restore it with dvc checkout --force") from None


def digest(path: Path) -> str:
    """SHA-256 of a file's bytes. Raises ValueError where there is none."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise BadInput(f"{path} does not exist; run the stage that makes it (dvc repro)") from None


@contextmanager
def output_folder(path: Path) -> Iterator[Path]:
    """A new folder to fill, beside `path`; it becomes `path` when the block ends without an error."""
    aside = path.with_name(f".{path.name}.partial")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        yield aside
        if path.exists():
            shutil.rmtree(path)
        os.replace(aside, path)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
