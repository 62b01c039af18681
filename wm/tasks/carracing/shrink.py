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
ROW_CELLS = 97  # that a row of the canvas takes
ONE = 0x4000  # a whole pixel's weight in smoothscale
PER_COLUMN, PER_ROW = (np.uint64(0x40000000 // (ONE * n // 96)) for n in (1000, 800))  # of 65,536
WIDE = np.uint64(0x00FF00FF00FF)
PAIR, LOW = np.uint64(0x00FF00FF00FF00FF), np.uint64(0xFFFFFFFF)
OUTER, MIDDLE = np.uint64(0x0000FFFF0000FFFF), np.uint64(0xFFFF0000)
HALF = np.uint32(1 << (bilinear.BITS - 1))
BITS = np.uint32(bilinear.BITS)


def columns(first: np.ndarray, last: np.ndarray, first_weight: np.ndarray, last_weight: np.ndarray) -> tuple:
    """`canvas.smoothscale_layout` as it is used here.

    Both weights, the number of pixels between, and all bits, uint64 [96], of the sixth slot if it is one of
    those. The very first pixel, which weighs a whole, is counted to those.
    """
    begins = np.arange(CELLS) > 0
    between = last - first - begins
    return first_weight * begins, last_weight, between, (between == 10) * np.uint64(0xFFFFFFFF00000000)


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
def _sum(pairs, start, sixth):
    """The sum of a cell's pixels between its first and its last, taken two by two from slot 4 on."""
    pair = pairs[start + 2] & sixth
    outer, middle = pair & PAIR, (pair >> np.uint64(8)) & PAIR
    for i in range(3, 7):
        pair = pairs[start + i]
        outer, middle = outer + (pair & PAIR), middle + ((pair >> np.uint64(8)) & PAIR)
    pair = pairs[start + 7] & LOW
    outer, middle = outer + (pair & PAIR), middle + ((pair >> np.uint64(8)) & PAIR)
    half = np.uint64(32)
    return ((outer + (outer >> half)) & LOW) | (middle + (middle >> half)) << half


@compiled
def plain_cells(inks, columns, plain):
    """What a cell of one colour becomes in a row, uint64 [paints, 96] into `plain`."""
    first_weight, last_weight, between, _ = columns
    for paint in range(len(inks)):
        for k in range(CELLS):
            body = _spread(inks[paint]) * np.uint64(between[k])
            plain[paint, k] = _across(inks[paint], body, inks[paint], first_weight[k], last_weight[k])


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
def _cell(window, row, k, columns, plain):
    """One cell of a row; its slots hold inks, and two each if taken as `pairs`."""
    cells, pixels, pairs, inks, mixed = window
    first_weight, last_weight, between, sixth = columns
    place = np.uint32(row * ROW_CELLS + k)
    before = np.uint32(place - 1 if place else 0)  # of no weight where k is 0
    paint, left = cells[place], cells[before]
    if paint == left and paint != mixed:
        return plain[paint, k]
    start = pixels[before * SLOTS + SLOTS - 1] if left == mixed else np.uint32(inks[left])
    if paint == mixed:
        end = pixels[place * SLOTS + SLOTS - 1]
        body = _sum(pairs, place * (SLOTS // 2), sixth[k])
    else:
        end = np.uint32(inks[paint])
        body = _spread(end) * np.uint64(between[k])
    return _across(start, body, end, first_weight[k], last_weight[k])


@inlined
def _square(window, i, k, columns, rows, plain):
    """One pixel of the 96 x 96 picture that is not of one colour."""
    first, last, first_weight, last_weight = rows
    total = np.uint64(0)
    for row in range(first[i], last[i] + 1):
        cell = _cell(window, row, k, columns, plain)
        if row == first[i]:
            cell = _weigh(cell, np.uint64(first_weight[i]), np.uint64(14))
        elif row == last[i]:
            cell = _weigh(cell, np.uint64(last_weight[i]), np.uint64(14))
        total += cell
    return _narrow(_weigh(total, PER_ROW, np.uint64(16)))


@compiled
def _find_edges(cells, top, bottom, mixed, edges):
    """Where rows `top` to `bottom` are not of one paint, the left neighbour included: uint8 [96], not 0."""
    above = cells[top * ROW_CELLS : top * ROW_CELLS + CELLS]
    for k in range(CELLS):
        edges[k] = above[k] == mixed
    for row in range(top, bottom + 1):
        line = cells[row * ROW_CELLS : row * ROW_CELLS + CELLS]
        for k in range(CELLS):
            edges[k] |= line[k] ^ above[k]
        for k in range(1, CELLS):
            edges[k] |= line[k] ^ line[k - 1]


@compiled
def shrink_window(window, columns, rows, plain, shades, squares, edges, found, picture):
    """The kept part of the 96 x 96 picture, inks uint32 [96, 84] (columns first) into `picture`.

    `edges` uint8 [96] and `found` int64 [96] are room. The squares with edges are listed first, and a value
    is looked up for them too: jumps here and there would cost more.
    """
    cells, mixed = window[0], window[4]
    first, last = rows[0], rows[1]
    for i in range(CELL_ROWS):
        _find_edges(cells, first[i], last[i], mixed, edges)
        above = cells[first[i] * ROW_CELLS : first[i] * ROW_CELLS + CELLS]
        count = 0
        for k in range(CELLS):
            picture[k, i] = squares[i, shades[min(above[k], len(shades) - 1), k]]
            found[count] = k
            count += edges[k] != 0
        for n in range(count):
            picture[found[n], i] = _square(window, i, found[n], columns, rows, plain)


@inlined
def _taps(a, b, c, weights, shift):
    """One channel of three inks, weighed and rounded to the nearest.

    In 32 bits at every step, so that a vector instruction takes many.
    """
    byte = np.uint32(255)
    total = np.uint32(np.uint32(np.uint32(a >> shift) & byte) * weights[0])
    total = np.uint32(total + np.uint32(np.uint32(np.uint32(b >> shift) & byte) * weights[1]))
    total = np.uint32(total + np.uint32(np.uint32(np.uint32(c >> shift) & byte) * weights[2]))
    return np.uint32(np.uint32(total + HALF) >> BITS)


@inlined
def _mix(lines, k, weights, n, out):
    """Three lines of n inks from line k on, weighed, into `out`."""
    weights = np.uint32(weights[0]), np.uint32(weights[1]), np.uint32(weights[2])
    for i in range(n):
        a, b, c = lines[k, i], lines[k + 1, i], lines[k + 2, i]
        red = _taps(a, b, c, weights, np.uint32(0))
        green = _taps(a, b, c, weights, np.uint32(8))
        blue = _taps(a, b, c, weights, np.uint32(16))
        out[i] = red | green << np.uint32(8) | blue << np.uint32(16)


@compiled
def resize(picture, across, down, middle, line, frame):
    """Pillow's `resize((64, 64), BILINEAR)` of inks uint32 [96, 84] into `frame` uint8 [64, 64, 3].

    `middle` uint32 [84, 64] is room for the picture resized across, `line` uint32 [84] for a line.
    A line is finished before it is put to its places, which are not side by side: only so the mixing is
    compiled to vector instructions.
    """
    starts, weights = across
    for j in range(SIDE):
        _mix(picture, starts[j], weights[j], CELL_ROWS, line)
        for i in range(CELL_ROWS):
            middle[i, j] = line[i]
    starts, weights = down
    for i in range(SIDE):
        _mix(middle, starts[i], weights[i], SIDE, line)
        for j in range(SIDE):
            frame[i, j, 0] = line[j]
            frame[i, j, 1] = line[j] >> np.uint32(8)
            frame[i, j, 2] = line[j] >> np.uint32(16)


@compiled
def finish(
    window, columns, rows, plain, shades, squares, edges, found, picture, across, down, middle, line, frame
):
    """The whole way from the window to the frame."""
    shrink_window(window, columns, rows, plain, shades, squares, edges, found, picture)
    resize(picture, across, down, middle, line, frame)
