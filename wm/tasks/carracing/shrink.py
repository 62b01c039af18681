"""From CarRacing's window to the agent's frame as the stock chain does it, bit by bit.

First pygame's smoothscale (SSE2 and NEON: 14-bit weights, rounded down at every stage) from 1,000 x 800 to
96 x 96, of which 84 rows are wanted; then Pillow's bilinear resize (22-bit weights) to 64 x 64. An ink is a
pixel in a uint64 with 16 bits for each channel (`canvas`).
"""

import numpy as np

from wm.tasks import bilinear
from wm.tasks.compiled import compiled, inlined

CELLS, CELL_ROWS, SIDE = 96, 84, 64
ONE = 0x4000  # a whole pixel's weight in smoothscale
PER_COLUMN, PER_ROW = (np.uint64(0x40000000 // (ONE * n // 96)) for n in (1000, 800))  # of 65,536
OUTER, MIDDLE = np.uint64(0x0000FFFF0000FFFF), np.uint64(0xFFFF0000)
OUTER_BYTES = np.uint64(0x000000FF000000FF)
BITS = bilinear.BITS


@inlined
def _weigh(ink, weight, bits):
    """Every channel times `weight`, shifted right by `bits`; the products are to fit 32 bits."""
    outer = (((ink & OUTER) * weight) >> bits) & OUTER
    middle = ((((ink & MIDDLE) >> np.uint64(16)) * weight) >> bits) << np.uint64(16)
    return outer | middle


@compiled
def _cell(pixels, row, first, last, first_weight, last_weight):
    """One cell of a row from its pixels."""
    total = _weigh(pixels[row, first], np.uint64(first_weight), np.uint64(14))
    for x in range(first + 1, last):
        total += pixels[row, x]
    total += _weigh(pixels[row, last], np.uint64(last_weight), np.uint64(14))
    return _weigh(total, PER_COLUMN, np.uint64(16))


@compiled
def plain_cells(inks, columns, pixels, plain):
    """What a cell of one colour becomes, uint64 [paints, 96] into `plain`; `pixels` is room for a row."""
    first, last, first_weight, last_weight = columns
    for paint in range(len(inks)):
        for x in range(last[CELLS - 1] + 1):
            pixels[0, x] = inks[paint]
        for k in range(CELLS):
            plain[paint, k] = _cell(pixels, 0, first[k], last[k], first_weight[k], last_weight[k])


@compiled
def shrink_row(cells, pixels, row, mixed, columns, plain, line):
    """One row of the window in 96 cells, uint64 [96] into `line`."""
    first, last, first_weight, last_weight = columns
    for k in range(CELLS):
        paint = cells[row, k]
        if paint != mixed:
            line[k] = plain[paint, k]
        else:
            line[k] = _cell(pixels, row, first[k], last[k], first_weight[k], last_weight[k])


@compiled
def shrink_window(cells, pixels, mixed, columns, rows, plain, line, total, picture):
    """The kept part of the 96 x 96 picture, uint64 [84, 96] into `picture`; two lines of 96 are room."""
    _, last, _, last_weight = rows
    total[:] = 0
    row = 0
    for i in range(CELL_ROWS):
        while row < last[i]:
            shrink_row(cells, pixels, row, mixed, columns, plain, line)
            for k in range(CELLS):
                total[k] += line[k]
            row += 1
        shrink_row(cells, pixels, row, mixed, columns, plain, line)
        row += 1
        weight = np.uint64(last_weight[i])
        rest = np.uint64(ONE) - weight
        for k in range(CELLS):
            done = total[k] + _weigh(line[k], weight, np.uint64(14))
            picture[i, k] = _weigh(done, PER_ROW, np.uint64(16))
            total[k] = _weigh(line[k], rest, np.uint64(14))


@compiled
def resize(picture, across, down, middle, frame):
    """Pillow's `resize((64, 64), BILINEAR)` of uint64 [84, 96] into `frame` uint8 [64, 64, 3].

    `middle` uint64 [84, 64] holds the picture resized across.
    """
    first, weights = across
    for i in range(CELL_ROWS):
        for j in range(SIDE):
            middle[i, j] = _taps(picture[i], first[j], weights[j])
    first, weights = down
    for i in range(SIDE):
        for j in range(SIDE):
            ink = _taps(middle[:, j], first[i], weights[i])
            for channel in range(3):
                frame[i, j, channel] = (ink >> np.uint64(16 * channel)) & np.uint64(255)


@inlined
def _taps(line, start, weights):
    """A weighted sum of inks, rounded to the nearest."""
    half = np.uint64(1 << (BITS - 1))
    outer, middle = half | half << np.uint64(32), half
    for k in range(len(weights)):
        if weights[k]:
            ink, weight = line[start + k], np.uint64(weights[k])
            outer += (ink & OUTER) * weight
            middle += ((ink & MIDDLE) >> np.uint64(16)) * weight
    outer = (outer >> np.uint64(BITS)) & OUTER_BYTES
    return outer | (middle >> np.uint64(BITS)) << np.uint64(16)


@compiled
def finish(cells, pixels, mixed, columns, rows, plain, line, total, picture, across, down, middle, frame):
    """The whole way from the window to the frame."""
    shrink_window(cells, pixels, mixed, columns, rows, plain, line, total, picture)
    resize(picture, across, down, middle, frame)
