"""Presets: complete sets of values that `wm preset` writes into `params.yaml`, its comments kept."""

import io
import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq

from wm import files, paths
from wm.errors import BadInput
from wm.reading import nearest, read_yaml
from wm.settings import read_settings

PRESETS = ("smoke", "laptop", "overnight", "paper")

REMARK = re.compile(r"(?<=\S) +# ")
"""What stands before a remark behind a value, which would otherwise keep its column."""


def read_preset(name: str) -> CommentedMap:
    """The preset's values. Raises ValueError for an unknown name."""
    if name not in PRESETS:
        raise BadInput(f"preset {name!r} is unknown; {nearest(name, PRESETS)}")
    return round_trip().load(resources.files("wm").joinpath(f"presets/{name}.yaml").read_text())


def write_preset(name: str, path: Path = paths.PARAMS) -> None:
    """Make `path` hold the preset's values and check the whole before writing. Raises ValueError.

    Maps are merged key by key and take the preset's keys and their order; scalars and lists are replaced.
    """
    preset = read_preset(name)
    read_yaml(path)  # for its messages
    present = round_trip().load(path.read_text())
    merge(present, preset)
    written = io.StringIO()
    round_trip().dump(present, written)
    text = REMARK.sub("  # ", written.getvalue())
    read_settings(YAML(typ="safe").load(text))
    files.write_text(path, text)


def round_trip() -> YAML:
    """A reader and writer that keeps comments, in the block style that `dvc exp run -S` leaves as it is."""
    yaml = YAML()
    yaml.width = 4096
    return yaml


def merge(present: CommentedMap, preset: Mapping[str, Any]) -> None:
    """Give `present` the keys and values of `preset`, in place, so that comments of common keys stay."""
    for key in [key for key in present if key not in preset]:
        del present[key]
    for position, (key, value) in enumerate(preset.items()):
        old = present.get(key)
        if isinstance(old, CommentedMap) and isinstance(value, Mapping):
            merge(old, value)
        elif isinstance(old, CommentedSeq) and isinstance(value, list):
            replace_items(old, value)
        elif key in present:
            present[key] = value
        else:
            present.insert(position, key, value)


def replace_items(old: CommentedSeq, new: list[Any]) -> None:
    """Put the items of `new` into the list; the comment below it, which is the next key's, stays."""
    below = old.ca.items.pop(len(old) - 1, None) if len(old) else None
    old[:] = new
    if below is not None and new:
        old.ca.items[len(new) - 1] = below
