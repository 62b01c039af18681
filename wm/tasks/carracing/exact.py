"""The stock picture's very pixels, sooner: only what the agent sees is drawn, by the same rules, in numba."""

import threading

import numpy as np
from gymnasium.envs.box2d.car_racing import CarRacing

from wm.tasks import bilinear
from wm.tasks.carracing import canvas
from wm.tasks.carracing import shrink as shrinking
from wm.tasks.carracing.scene import BLACK, COLORS, Scene


class ExactRenderer:
    """Draws with numba (compiled on first use, kept on disk)."""

    def __init__(self) -> None:
        self._scene = Scene()

    def new_track(self, env: CarRacing) -> None:
        """Take over the road of the episode that begins."""
        self._scene.new_track(env)

    def draw(self, env: CarRacing) -> np.ndarray:
        """The present frame, a new uint8 [64, 64, 3]."""
        frame = np.empty((64, 64, 3), np.uint8)
        easel().draw(self._scene.look(env), frame)
        return frame


class Easel:
    """Room for one picture while it is drawn."""

    def __init__(self) -> None:
        inks = canvas.pack(COLORS)
        pixels = _aligned((canvas.ROWS + 1) * canvas.ROW)
        cells, pairs = np.empty(len(pixels) // canvas.SLOTS, np.uint8), pixels.view(np.uint64)
        crossings, counts = np.empty((canvas.HEIGHT, 8), np.int64), np.empty(canvas.HEIGHT, np.int64)
        corners = np.empty(8, np.int64), np.empty(8, np.int64)
        self._canvas = (cells, pixels, pairs, canvas.twice(inks), crossings, counts, *corners)
        rows = canvas.smoothscale_layout(canvas.HEIGHT, canvas.CELLS)
        columns = shrinking.columns(*canvas.smoothscale_layout(canvas.WIDTH, canvas.CELLS))
        plain = np.empty((len(inks), canvas.CELLS), np.uint64)
        shrinking.plain_cells(inks, columns, plain)
        shades, index = np.unique(plain, return_inverse=True)
        squares = np.empty((shrinking.CELL_ROWS, len(shades)), np.uint32)
        shrinking.plain_squares(shades, rows, squares)
        plain_ones = plain, index.reshape(plain.shape).astype(np.uint8), squares
        edges, found = np.empty(canvas.CELLS, np.uint8), np.empty(canvas.CELLS, np.int64)
        picture = np.empty((canvas.CELLS, shrinking.CELL_ROWS), np.uint32)
        window = cells, pixels, pairs, inks, canvas.MIXED
        self._window = (window, columns, rows, *plain_ones, edges, found, picture)
        across = bilinear.layout(canvas.CELLS, shrinking.SIDE)
        down = bilinear.layout(shrinking.CELL_ROWS, shrinking.SIDE)
        middle = np.empty((shrinking.CELL_ROWS, shrinking.SIDE), np.uint32)
        self._resizing = (across, down, middle, np.empty(shrinking.CELL_ROWS, np.uint32))

    def draw(self, scene: tuple, frame: np.ndarray) -> None:
        """What `Scene.look` saw, into `frame` uint8 [64, 64, 3]."""
        canvas.draw(*self._canvas, *scene, BLACK)
        shrinking.finish(*self._window, *self._resizing, frame)


def _aligned(size: int) -> np.ndarray:
    """An empty uint32 array that begins with a line of the processor's cache, 64 bytes."""
    room = np.empty(size + 15, np.uint32)
    start = -room.ctypes.data % 64 // 4
    return room[start : start + size]


_shared = threading.local()


def easel() -> Easel:
    """The thread's one easel: its 4 MB stay in the processor's cache when many games take turns."""
    if not hasattr(_shared, "easel"):
        _shared.easel = Easel()
    easel: Easel = _shared.easel
    return easel
