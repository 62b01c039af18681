"""The picture drawn straight at the agent's resolution: close to the stock one, not equal to it.

The window is sampled at the middle of 128 x 128 rectangles, each holding the paint of the topmost polygon;
every agent's pixel is then a weighted mean of 4 x 4 samples with the weights of the stock chain (box to
96 x 84, triangle to 64 x 64). Colours are those that the stock chain gives a plain area, whose shrinking
filter rounds down.
"""

import math

import numpy as np
from gymnasium.envs.box2d.car_racing import CarRacing

from wm.tasks.carracing.scene import BLACK, COLORS, Scene
from wm.tasks.compiled import compiled

SIDE = 64
FINE = 2 * SIDE  # samples per row and column
STEP_X, STEP_Y = 1000 / FINE, 700 / FINE  # window pixels between samples
LANES = np.uint64(21)  # bits per channel of a packed colour


class FastRenderer:
    """Draws with numba (compiled on first use, kept on disk)."""

    def __init__(self) -> None:
        self._scene = Scene()
        samples, line = np.empty((FINE, FINE), np.uint8), np.empty(FINE + 2, np.uint64)
        self._buffers = (samples, np.empty(FINE), np.empty(FINE), line)
        self._inks = pack(plain_colors())

    def new_track(self, env: CarRacing) -> None:
        """Take over the road of the episode that begins."""
        self._scene.new_track(env)

    def draw(self, env: CarRacing) -> np.ndarray:
        """The present frame, a new uint8 [64, 64, 3]."""
        frame = np.empty((SIDE, SIDE, 3), np.uint8)
        _draw(*self._buffers, self._inks, *self._scene.look(env), BLACK, frame)
        return frame


def plain_colors() -> np.ndarray:
    """What the stock chain makes of an area of each palette colour, uint8 [11, 3]."""
    area = COLORS.astype(np.int64)
    for cells, pixels in ((96, 1000), (96, 800)):  # pygame's smoothscale, across and then down
        space = 0x4000 * pixels // cells
        area = (area * space // 0x4000) * (0x40000000 // space) >> 16
    return area.astype(np.uint8)


def pack(colors: np.ndarray) -> np.ndarray:
    """Colours [N, 3] as one uint64 each, three lanes wide enough to sum 64 weights of a channel."""
    c = colors.astype(np.uint64)
    return c[:, 0] | c[:, 1] << LANES | c[:, 2] << 2 * LANES


@compiled
def _draw(samples, left, right, line, inks, corners, sizes, paints, quads, count, empty, frame):
    samples[:] = empty
    for k in range(count):
        _fill(samples, corners[k], sizes[k], paints[k], left, right)
    _shrink(samples, inks, line, frame)


@compiled
def _fill(samples, polygon, n, paint, left, right):
    """Paint the samples inside a convex polygon of `n` corners [n, 2], window pixels, y upwards."""
    top, bottom = FINE, -1
    low, high = polygon[0, 1], polygon[0, 1]
    for i in range(1, n):
        low, high = min(low, polygon[i, 1]), max(high, polygon[i, 1])
    # sample row r lies at y = 799.5 - (r + 0.5) * STEP_Y
    top = max(0, math.ceil((799.5 - high) / STEP_Y - 0.5))
    bottom = min(FINE - 1, math.floor((799.5 - low) / STEP_Y - 0.5))
    for r in range(top, bottom + 1):
        left[r], right[r] = 1e9, -1e9
    for i in range(n):
        _edge(polygon[i - 1 if i else n - 1], polygon[i], left, right)
    for r in range(top, bottom + 1):
        a = max(0, math.ceil(left[r] / STEP_X - 0.5))
        b = min(FINE - 1, math.floor((right[r] + 1) / STEP_X - 0.5))
        if a <= b:
            samples[r, a : b + 1] = paint


@compiled
def _edge(p, q, left, right):
    """Widen the rows' spans by one edge."""
    if p[1] < q[1]:
        p, q = q, p
    top = max(0, math.ceil((799.5 - p[1]) / STEP_Y - 0.5))
    bottom = min(FINE - 1, math.floor((799.5 - q[1]) / STEP_Y - 0.5))
    if top > bottom:
        return
    slope = (q[0] - p[0]) / (q[1] - p[1])
    x = p[0] + (799.5 - (top + 0.5) * STEP_Y - p[1]) * slope
    for r in range(top, bottom + 1):
        left[r] = min(left[r], x)
        right[r] = max(right[r], x)
        x -= slope * STEP_Y


@compiled
def _shrink(samples, inks, line, frame):
    """Weights (1, 3, 3, 1) / 8 both ways about each agent's pixel, edges repeated."""
    mask, half = np.uint64((1 << 21) - 1), np.uint64(32)
    for i in range(SIDE):
        r0, r1, r2, r3 = max(2 * i - 1, 0), 2 * i, 2 * i + 1, min(2 * i + 2, FINE - 1)
        for c in range(FINE):
            line[c + 1] = (
                inks[samples[r0, c]]
                + np.uint64(3) * (inks[samples[r1, c]] + inks[samples[r2, c]])
                + inks[samples[r3, c]]
            )
        line[0], line[FINE + 1] = line[1], line[FINE]
        for j in range(SIDE):
            total = line[2 * j] + np.uint64(3) * (line[2 * j + 1] + line[2 * j + 2]) + line[2 * j + 3]
            for channel in range(3):
                shift = np.uint64(21 * channel)
                frame[i, j, channel] = (((total >> shift) & mask) + half) >> np.uint64(6)
