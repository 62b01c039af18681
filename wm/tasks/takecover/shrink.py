"""From Take Cover's screen to the agent's frame: Pillow's bilinear resize, bit by bit, sooner.

Across the picture one input column weighs the same in every row, so the screen is turned first and whole
columns are added up at once.
"""

import numpy as np

from wm.tasks import FRAME_SHAPE, bilinear
from wm.tasks.compiled import compiled

SCREEN_SHAPE = (120, 160, 3)
BITS = bilinear.BITS


class Shrinker:
    """Shrinks screens with numba (compiled on first use, kept on disk)."""

    def __init__(self) -> None:
        (rows, columns, channels), (height, width, _) = SCREEN_SHAPE, FRAME_SHAPE
        layouts = (*bilinear.layout(columns, width), *bilinear.layout(rows, height))
        self._layouts = tuple(values.astype(np.int32) for values in layouts)
        turned = np.empty((columns * channels, rows), np.uint8)
        middle = np.empty((rows, width * channels), np.uint8)
        self._room = turned, np.empty(rows, np.int32), middle, np.empty(width * channels, np.int32)

    def shrink(self, screen: np.ndarray) -> np.ndarray:
        """A screen, uint8 [120, 160, 3], as a new frame, uint8 [64, 64, 3]."""
        frame = np.empty(FRAME_SHAPE, np.uint8)
        _resize(screen.reshape(len(screen), -1), *self._layouts, *self._room, frame.reshape(len(frame), -1))
        return frame


@compiled
def _resize(screen, first_x, weights_x, first_y, weights_y, turned, column, middle, row, frame):
    """`screen` uint8 [rows, 3 * columns] across into `middle`, then down into `frame` uint8 [64, 192]."""
    half = np.int32(1 << (BITS - 1))
    for y in range(screen.shape[0]):
        for x in range(screen.shape[1]):
            turned[x, y] = screen[y, x]
    for j in range(len(first_x)):
        for channel in range(3):
            column[:] = half
            for k in range(weights_x.shape[1]):
                weight, source = weights_x[j, k], turned[3 * (first_x[j] + k) + channel]
                for y in range(len(column)):
                    column[y] += weight * np.int32(source[y])
            for y in range(len(column)):
                middle[y, 3 * j + channel] = column[y] >> BITS
    for i in range(len(first_y)):
        row[:] = half
        for k in range(weights_y.shape[1]):
            weight, line = weights_y[i, k], middle[first_y[i] + k]
            for x in range(len(row)):
                row[x] += weight * np.int32(line[x])
        for x in range(len(row)):
            frame[i, x] = row[x] >> BITS
