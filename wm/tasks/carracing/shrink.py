"""From CarRacing's window to the agent's frame as the stock chain does it, bit by bit.

First pygame's smoothscale (SSE2 and NEON: 14-bit weights, rounded down at every stage) from 1,000 x 800 to
96 x 96, of which 84 rows are wanted; then Pillow's bilinear resize (22-bit weights) to 64 x 64. `canvas`
tells how the window is kept.

Most of the 96 x 84 squares are of one colour; what becomes of those is worked out beforehand.
"""

import numpy as np

from wm.tasks import bilinear
from wm.tasks.compiled import compiled, inlined

CELLS, CELL_ROWS, SIDE, SLOTS = 96, 84, 64, 16
ONE = 0x4000  # a whole pixel's weight in smoothscale
PER_COLUMN, PER_ROW = (np.uint64(0x40000000 // (ONE * n // 96)) for n in (1000, 800))  # of 65,536
WIDE = np.uint64(0x00FF00FF00FF)
OUTER, MIDDLE = np.uint64(0x0000FFFF0000FFFF), np.uint64(0xFFFF0000)
HALF = np.uint32(1 << (bilinear.BITS - 1))
BITS = np.uint32(bilinear.BITS)


def columns(first: np.ndarray, last: np.ndarray, first_weight: np.ndarray, last_weight: np.ndarray) -> tuple:
    """`canvas.smoothscale_layout` as it is used here: both weights, and the number of pixels between.

    The very first pixel, which weighs a whole, is counted to those.
    """
    begins = np.arange(CELLS) > 0
    return first_weight * begins, last_weight, last - first - begins


@inlined
def _spread(ink):
    """Red, blue and green with 16 bits for each, so that one multiplication weighs or sums all."""
    wide = np.uint64(ink)
    return (wide | wide << np.uint64(24)) & WIDE


@inlined
def _weigh(wide, weight, bits):
    """Every channel times `weight`, shifted right by `bits`; the products are to fit 32 bits."""
    outer = (((wide & OUTER) * weight) >> bits) & OUTER
    middle = ((((wide & MIDDLE) >> np.uint64(16)) * weight) >> bits) << np.uint64(16)
    return outer | middle


@inlined
def _across(start, body, end, first_weight, last_weight):
    """A cell of a row from the inks of its first and last pixel and the sum of the others."""
    total = body + _weigh(_spread(start), np.uint64(first_weight), np.uint64(14))
    total += _weigh(_spread(end), np.uint64(last_weight), np.uint64(14))
    return _weigh(total, PER_COLUMN, np.uint64(16))


@inlined
def _spelt(pixels, row, k, start, columns):
    """A cell of a row from its pixels and the ink `start` of its left neighbour's last."""
    first_weight, last_weight, inner = columns
    end = SLOTS * k + SLOTS - 1
    body = _spread(pixels[row, end - 10]) * np.uint64(inner[k] - 9)
    for i in range(9):
        body += _spread(pixels[row, end - 9 + i])
    return _across(start, body, pixels[row, end], first_weight[k], last_weight[k])


@inlined
def _flat(ink, k, start, columns):
    """A cell of a row of which all but the first pixel is of one ink."""
    first_weight, last_weight, inner = columns
    return _across(start, _spread(ink) * np.uint64(inner[k]), ink, first_weight[k], last_weight[k])


@compiled
def plain_cells(inks, columns, plain):
    """What a cell of one colour becomes in a row, uint64 [paints, 96] into `plain`."""
    for paint in range(len(inks)):
        for k in range(CELLS):
            plain[paint, k] = _flat(inks[paint], k, inks[paint], columns)


@inlined
def _narrow(wide):
    """The ink of 16-bit channels; the inverse of `_spread`."""
    return np.uint32((wide | wide >> np.uint64(24)) & np.uint64(0xFFFFFF))


@compiled
def plain_squares(plain, rows, squares):
    """What a square becomes whose cells all became `plain` uint64 [N]: inks uint32 [84, N] into `squares`."""
    first, last, first_weight, last_weight = rows
    for i in range(CELL_ROWS):
        for k in range(len(plain)):
            total = plain[k] * np.uint64(last[i] - first[i] - 1)
            total += _weigh(plain[k], np.uint64(first_weight[i]), np.uint64(14))
            total += _weigh(plain[k], np.uint64(last_weight[i]), np.uint64(14))
            squares[i, k] = _narrow(_weigh(total, PER_ROW, np.uint64(16)))


@inlined
def _cell(cells, pixels, row, k, inks, mixed, columns, plain):
    """One cell of a row."""
    paint = cells[row, k]
    left = cells[row, k - 1] if k else paint
    if paint == left and paint != mixed:
        return plain[paint, k]
    start = pixels[row, max(SLOTS * k - 1, 0)] if left == mixed else inks[left]
    if paint == mixed:
        return _spelt(pixels, row, k, start, columns)
    return _flat(inks[paint], k, start, columns)


@inlined
def _square(cells, pixels, i, k, inks, mixed, columns, rows, plain):
    """One pixel of the 96 x 96 picture that is not of one colour."""
    first, last, first_weight, last_weight = rows
    cell = _cell(cells, pixels, first[i], k, inks, mixed, columns, plain)
    total = _weigh(cell, np.uint64(first_weight[i]), np.uint64(14))
    for row in range(first[i] + 1, last[i]):
        total += _cell(cells, pixels, row, k, inks, mixed, columns, plain)
    cell = _cell(cells, pixels, last[i], k, inks, mixed, columns, plain)
    total += _weigh(cell, np.uint64(last_weight[i]), np.uint64(14))
    return _narrow(_weigh(total, PER_ROW, np.uint64(16)))


@compiled
def _find_edges(cells, top, bottom, mixed, edges):
    """Where rows `top` to `bottom` are not of one paint, the left neighbour included: uint8 [96], not 0."""
    for k in range(CELLS):
        edges[k] = cells[top, k] == mixed
    for row in range(top, bottom + 1):
        for k in range(CELLS):
            edges[k] |= cells[row, k] ^ cells[top, k]
        for k in range(1, CELLS):
            edges[k] |= cells[row, k] ^ cells[row, k - 1]


@compiled
def shrink_window(cells, pixels, inks, mixed, columns, rows, plain, shades, squares, edges, picture):
    """The kept part of the 96 x 96 picture, inks uint32 [96, 84] (columns first) into `picture`."""
    first, last = rows[0], rows[1]
    for i in range(CELL_ROWS):
        _find_edges(cells, first[i], last[i], mixed, edges)
        for k in range(CELLS):
            if edges[k]:
                picture[k, i] = _square(cells, pixels, i, k, inks, mixed, columns, rows, plain)
            else:
                picture[k, i] = squares[i, shades[cells[first[i], k], k]]


@inlined
def _taps(a, b, c, weights, shift):
    """One channel of three inks, weighed and rounded to the nearest."""
    total = np.uint32(HALF + np.uint32((a >> shift) & 255) * np.uint32(weights[0]))
    total = np.uint32(total + np.uint32((b >> shift) & 255) * np.uint32(weights[1]))
    total = np.uint32(total + np.uint32((c >> shift) & 255) * np.uint32(weights[2]))
    return np.uint32(total >> BITS)


@compiled
def resize(picture, across, down, middle, frame):
    """Pillow's `resize((64, 64), BILINEAR)` of inks uint32 [96, 84] into `frame` uint8 [64, 64, 3].

    `middle` uint32 [84, 64] is room for the picture resized across.
    """
    starts, weights = across
    for j in range(SIDE):
        k = starts[j]
        for i in range(CELL_ROWS):
            a, b, c = picture[k, i], picture[k + 1, i], picture[k + 2, i]
            ink = _taps(a, b, c, weights[j], 0) | _taps(a, b, c, weights[j], 8) << 8
            middle[i, j] = ink | _taps(a, b, c, weights[j], 16) << 16
    starts, weights = down
    for i in range(SIDE):
        k = starts[i]
        for j in range(SIDE):
            a, b, c = middle[k, j], middle[k + 1, j], middle[k + 2, j]
            for channel in range(3):
                frame[i, j, channel] = _taps(a, b, c, weights[i], 8 * channel)


@compiled
def finish(
    cells, pixels, inks, mixed, columns, rows, plain, shades, squares, edges, picture, across, down, middle, frame
):
    """The whole way from the window to the frame."""
    shrink_window(cells, pixels, inks, mixed, columns, rows, plain, shades, squares, edges, picture)
    resize(picture, across, down, middle, frame)
