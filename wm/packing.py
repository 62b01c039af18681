"""Frames as a store keeps them: compressed in chunks, by whoever has seen them, in files of many chunks.

An episode's frames begin a chunk and its last chunk is filled up with zeros, so that a chunk's bytes depend
on the episode alone: workers pack what they play, and one process can write what many have packed.
"""

import os
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path

import google_crc32c
import numpy as np
from numcodecs.zstd import Zstd

from wm.tasks import FRAME_SHAPE

CHUNK = 64
"""Frames in a chunk."""
LEVEL = 1
"""Zstandard's: higher ones cost far more time than they save space, lower ones save hardly any time."""

_codec = Zstd(level=LEVEL, checksum=True)


class Packer:
    """Packs an episode's frames as they are seen; of the raw ones, at most a chunk is in memory."""

    def __init__(self) -> None:
        self._raw = np.empty((CHUNK, *FRAME_SHAPE), np.uint8)
        self._filled = 0
        self._chunks: list[bytes] = []

    def add(self, frame: np.ndarray) -> None:
        """The episode's next frame, uint8 [64, 64, 3], of which nothing is kept but a copy."""
        self._raw[self._filled] = frame
        self._filled += 1
        if self._filled == CHUNK:
            self._pack()

    def finish(self) -> list[bytes]:
        """The episode's chunks."""
        if self._filled:
            self._raw[self._filled :] = 0
            self._pack()
        return self._chunks

    def _pack(self) -> None:
        self._chunks.append(_codec.encode(self._raw))
        self._filled = 0


def pack(frames: Iterable[np.ndarray]) -> list[bytes]:
    """The chunks of an episode of these frames, uint8 [64, 64, 3] each."""
    packer = Packer()
    for frame in frames:
        packer.add(frame)
    return packer.finish()


def unpack(chunk: bytes, out: np.ndarray) -> None:
    """Fill `out` with a chunk's rows, of frames uint8 [CHUNK, 64, 64, 3]; the last chunk ends with zeros."""
    _codec.decode(chunk, out=out)


def write_chunks(path: Path, chunks: Sequence[bytes], room: int) -> None:
    """Write a file of up to `room` chunks, as Zarr's sharding codec has it: the chunks, then where each lies.

    That table has the offset and the length of each chunk (all ones for none) and ends with a checksum.
    """
    lengths = np.array([len(chunk) for chunk in chunks], np.uint64)
    table = np.full((room, 2), np.iinfo(np.uint64).max, "<u8")
    table[: len(chunks)] = np.stack([np.cumsum(lengths) - lengths, lengths], axis=1)
    index = table.tobytes()
    with open(path, "wb") as file:
        file.writelines([*chunks, index, struct.pack("<I", google_crc32c.value(index))])


def read_chunk(path: Path, place: int, room: int) -> bytes:
    """The chunk at `place` in a file of up to `room`; nothing else of it is read."""
    with open(path, "rb", buffering=0) as file:
        file.seek(16 * (place - room) - 4, os.SEEK_END)
        offset, length = struct.unpack("<QQ", file.read(16))
        file.seek(offset)
        return file.read(length)
