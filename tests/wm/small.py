"""Stores of small files, so that few rows cross many borders."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from unittest.mock import patch

from wm import episodes, packing


@contextmanager
def small_files() -> Iterator[None]:
    """Chunks of 4 rows and files of 16."""
    small = {
        kind: {name: replace(layout, chunk=4, shard=16) for name, layout in arrays.items()}
        for kind, arrays in episodes.LAYOUTS.items()
    }
    with patch.object(episodes, "LAYOUTS", small), patch.object(packing, "CHUNK", 4):
        yield
