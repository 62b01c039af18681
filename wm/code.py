"""Which code can change a result, ours and others', and its digest: other code has checkpoints of its own."""

import hashlib
import sys
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).parent

COMPUTING = ("torch", "numpy", "gymnasium", "vizdoom", "cma", "zarr", "numcodecs", "numba")
"""Packages that results come from; with another version of one, last bits may differ."""

WITHOUT_EFFECT = {
    "wm/__init__.py",  # registers environments for others
    "wm/__main__.py",  # the command line
    "wm/checkpoint.py",  # resuming is exact
    "wm/cli.py",  # the command line
    "wm/code.py",  # names code
    "wm/errors.py",  # names errors
    "wm/environment.py",  # checks the environment
    "wm/orphans.py",  # ends what dead processes have left
    "wm/paths.py",  # names of places
    "wm/preset.py",  # writes params.yaml
    "wm/progress.py",  # bars
    "wm/provenance.py",  # logs
    "wm/reading.py",  # reads values or refuses them
    "wm/settings.py",  # holds values or refuses them
}
"""Modules that cannot change a result: a change in them reruns nothing and forgets no checkpoint."""


def loaded() -> list[Path]:
    """The files of our modules that are loaded, all of a game's (its renderers load in workers)."""
    files: set[Path] = set()
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] != "wm" or not getattr(module, "__file__", None):
            continue
        path = Path(str(module.__file__))
        files |= set(path.parent.glob("*.py")) if name.startswith("wm.tasks") else {path}
    return sorted(path for path in files if f"wm/{path.relative_to(ROOT)}" not in WITHOUT_EFFECT)


def digest() -> str:
    """SHA-256 over the loaded code that can change a result, and the versions of packages."""
    content = hashlib.sha256(repr(versions()).encode())
    for path in loaded():
        content.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes() + b"\0")
    return content.hexdigest()


def versions() -> dict[str, str | None]:
    """The installed versions of the packages that results come from."""
    return {name: version(name) for name in COMPUTING}


def version(package: str) -> str | None:
    """The installed version of a package, or None."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
