"""The environment as `wm check` sees it, without importing what is heavy: variables, Python, packages."""

import ctypes
import os
import re
import sys
import tempfile
from importlib import metadata
from pathlib import Path

from wm.code import version
from wm.errors import BadInput
from wm.reading import nearest
from wm.workers import worker_count

DEVICES = ("auto", "cpu", "cuda")
OLDEST_PYTHON = (3, 11)
PIN = re.compile(r"(?P<name>[A-Za-z0-9._-]+)(\[.*?\])?==(?P<version>[^;\s]+)\s*$")


def check_variables() -> None:
    """Raise ValueError where an environment variable of ours holds what it cannot."""
    worker_count()
    device = os.environ.get("WM_DEVICE", "auto")
    if device not in DEVICES:
        raise BadInput(f"WM_DEVICE is {device!r}; {nearest(device, DEVICES)}")
    if device == "cuda" and not has_cuda_driver():
        raise BadInput("WM_DEVICE is cuda, but this machine has no CUDA driver; allowed here: auto, cpu")
    resume = os.environ.get("WM_RESUME", "1")
    if resume not in ("0", "1"):
        raise BadInput(f"WM_RESUME is {resume!r}; allowed: 0 (ignore checkpoints), 1")
    state = os.environ.get("WM_STATE")
    if state is not None and (not state or not writable(Path(state).absolute())):
        raise BadInput(f"WM_STATE is {state!r}, but must be a folder that can be written")


def has_cuda_driver() -> bool:
    """Whether NVIDIA's driver library can be loaded; asking PyTorch would take seconds."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def writable(folder: Path) -> bool:
    """Whether a folder can be written, or made where there is none yet; found out by writing."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        with tempfile.TemporaryDirectory(prefix=".wm-", dir=folder):
            return True
    except OSError:
        return False


def check_packages() -> list[str]:
    """Raise ValueError where Python is too old or a package is missing; remarks on other versions."""
    if sys.version_info < OLDEST_PYTHON:
        raise BadInput(f"Python {sys.version.split()[0]} is too old; needed: 3.11 or later")
    remarks = []
    for name, pinned in pins().items():
        found = version(name)
        if found is None:
            raise BadInput(f"the package {name} is not installed; run: pip install -e .")
        if found.split("+")[0] != pinned:
            remarks.append(
                f"{name} is {found}, pinned is {pinned}: results may differ from the recorded ones"
            )
    return remarks


def pins() -> dict[str, str]:
    """The exact versions that the project asks for, by package; what only extras need is left out."""
    try:
        required = metadata.requires("wm") or []
    except metadata.PackageNotFoundError:
        raise BadInput("the project is not installed; run: pip install -e .") from None
    matches = [PIN.match(text) for text in required]
    return {match["name"]: match["version"] for match in matches if match}
