"""SDL_gfx's and pygame's polygons on the visible part of CarRacing's window, pixel by pixel the same.

The window's 1,000 pixels a row will be shrunk to 96 cells (`shrink`), and most cells are of one
colour. So a cell holds a palette index for as long as that is so, and only a cell that an edge crosses
(`MIXED`) has its pixels spelt out. The pixel that the shrinking filter splits between two neighbours
belongs to the left one.

A cell's 10 or 11 pixels lie at the end of its 16 slots, the split one last: 64 bytes, one line of the
processor's cache. `pixels` is all slots of all rows, `pairs` the same memory two by two. An "ink" is a
pixel in a uint32 with 8 bits for each channel; `_spread` widens it to 16 bits for each in a uint64, so that
one multiplication blends all.

Coordinates: x to the right, y upwards as the stock code draws before it flips the picture; row = 799 - y.
Rows 0 to 699 are kept, the dashboard lies below. Lines are clipped against the whole window all the same,
since clipping decides how a line is stepped.
"""

import math

import numpy as np

from wm.tasks.compiled import compiled, inlined

WIDTH, HEIGHT, ROWS = 1000, 800, 700
ONE = 0x4000  # a whole pixel's weight in smoothscale
MIXED = 255
SLOTS, UNUSED = 16, 4  # every cell leaves its first 4 slots, some a fifth
WIDE = np.uint64(0x00FF00FF00FF)
FULL = np.uint64(256)


def smoothscale_layout(pixels: int, cells: int) -> tuple[np.ndarray, ...]:
    """pygame's smoothscale: each cell's first and last pixel and their weights (of 16,384), int64 [cells].

    A cell's last pixel is the next one's first. The very first pixel weighs a whole.
    """
    space = ONE * pixels // cells
    first, last = np.zeros(cells, np.int64), np.zeros(cells, np.int64)
    first_weight, last_weight = np.full(cells, ONE), np.zeros(cells, np.int64)
    counter, cell = space, 0
    for pixel in range(pixels):
        if counter > ONE:
            counter -= ONE
            continue
        last[cell], last_weight[cell] = pixel, counter
        cell += 1
        if cell == cells:
            break
        first[cell], first_weight[cell] = pixel, ONE - counter
        counter = space - (ONE - counter)
    return first, last, first_weight, last_weight


def pack(colors: np.ndarray) -> np.ndarray:
    """Colours uint8 [..., 3] as inks, uint32 [...]."""
    c = colors.astype(np.uint32)
    return c[..., 0] | c[..., 1] << np.uint32(8) | c[..., 2] << np.uint32(16)


def twice(inks: np.ndarray) -> np.ndarray:
    """Pairs of the same ink, uint64 [N]: what a cell's slots are filled with, two at once."""
    return inks | inks.astype(np.uint64) << np.uint64(32)


# Compiled in as constants.
CELLS = 96
ROW = SLOTS * (CELLS + 1)  # slots; of an odd number of cells, as the caches keep few lines 2 ** n apart
LAST = smoothscale_layout(WIDTH, CELLS)[1]
CELL_OF = np.searchsorted(LAST, np.arange(WIDTH))
SLOT = (SLOTS * CELL_OF + SLOTS - 1 - (LAST[CELL_OF] - np.arange(WIDTH))).astype(np.uint16)  # of a row's
START = SLOT[np.append(0, LAST[:-1] + 1)[CELL_OF]] % SLOTS  # of a pixel's cell
FROM = np.triu(np.full((SLOTS, SLOTS), 0xFFFFFFFF, np.uint32))  # all bits of the slots from the index on
FROM, UP_TO = FROM.view(np.uint64), np.ascontiguousarray(FROM.T).view(np.uint64)


@inlined
def _paint_slots(cells, pairs, inks, cell, low, high, paint):
    """A part of a cell, from slot to slot: all slots in use, two at once, which takes no jumps."""
    before = cells[cell]
    if before != paint:
        ink, since, until, start = inks[paint], FROM[low], UP_TO[high], cell * (SLOTS // 2)
        if before == MIXED:
            for i in range(UNUSED // 2, SLOTS // 2):
                old = pairs[start + i]
                pairs[start + i] = old ^ ((old ^ ink) & since[i] & until[i])
        else:
            cells[cell] = MIXED
            old = inks[before]
            for i in range(UNUSED // 2, SLOTS // 2):
                pairs[start + i] = old ^ ((old ^ ink) & since[i] & until[i])


@inlined
def _run(cells, pixels, pairs, inks, y, a, b, paint):
    """Pixels a..b (either order) of a line, clipped to what is kept of the window."""
    start, end = max(min(a, b), 0), min(max(a, b), WIDTH - 1)
    if start <= end and HEIGHT - ROWS <= y < HEIGHT:
        row = (HEIGHT - 1 - y) * ROW
        first, last = np.uint32(row + SLOT[start]), np.uint32(row + SLOT[end])
        low, high = first // SLOTS, last // SLOTS
        first, last = first % SLOTS, last % SLOTS
        full_low, full_high = low + (first > START[start]), high - (last < SLOTS - 1)
        for cell in range(full_low, full_high + 1):
            cells[cell] = paint
        if low < full_low:
            _paint_slots(cells, pairs, inks, low, first, last if low == high else SLOTS - 1, paint)
        if full_high < high and (low < high or low == full_low):
            _paint_slots(cells, pairs, inks, high, 0, last, paint)


@inlined
def _spread(ink):
    """Red, blue and green with 16 bits for each."""
    wide = np.uint64(np.uint32(ink))
    return (wide | wide << np.uint64(24)) & WIDE


@inlined
def _blend(cells, pixels, pairs, inks, place, paint, wide, alpha):
    """One pixel towards the paint, whose ink is `wide`, by alpha / 256, rounded down."""
    cell = place // SLOTS
    before = cells[cell]
    if before != paint and alpha:
        if before != MIXED:
            cells[cell] = MIXED
            for i in range(UNUSED // 2, SLOTS // 2):
                pairs[cell * (SLOTS // 2) + i] = inks[before]
        old = _spread(pixels[place])
        mixture = (old << np.uint64(8)) + (wide - old) * np.uint64(alpha)
        mixture = (mixture >> np.uint64(8)) & WIDE
        pixels[place] = mixture | mixture >> np.uint64(24)


@compiled
def paint_run(cells, pixels, pairs, inks, y, a, b, paint):
    """`_run` for the rare callers, whose code need not be inlined."""
    _run(cells, pixels, pairs, inks, y, a, b, paint)


@compiled
def _outside(x, y):
    """Cohen and Sutherland's code of a point against the window."""
    code = 0
    if x < 0:
        code |= 1
    elif x > WIDTH - 1:
        code |= 2
    if y < 0:
        code |= 4
    elif y > HEIGHT - 1:
        code |= 8
    return code


@compiled
def clip_line(x1, y1, x2, y2):
    """SDL_gfx's clipping, in float32, endpoints possibly swapped: (visible, x1, y1, x2, y2)."""
    while True:
        code1, code2 = _outside(x1, y1), _outside(x2, y2)
        if code1 | code2 == 0:
            return True, x1, y1, x2, y2
        if code1 & code2:
            return False, x1, y1, x2, y2
        if code1 == 0:
            x1, y1, x2, y2, code1 = x2, y2, x1, y1, code2
        slope = np.float32(1)
        if x1 != x2:
            slope = np.float32(y2 - y1) / np.float32(x2 - x1)
        if code1 & 3:
            edge = 0 if code1 & 1 else WIDTH - 1
            y1 += int(np.float32(edge - x1) * slope)
            x1 = edge
        else:
            edge = HEIGHT - 1 if code1 & 8 else 0
            if x1 != x2:
                x1 += int(np.float32(edge - y1) / slope)
            y1 = edge


@compiled
def smooth_line(cells, pixels, pairs, inks, x1, y1, x2, y2, paint):
    """SDL_gfx's antialiased line (Wu) without its last pixel."""
    seen, x1, y1, x2, y2 = clip_line(x1, y1, x2, y2)
    if not seen:
        return
    if y1 == y2 and x1 != x2:
        paint_run(cells, pixels, pairs, inks, y1, x1, x2, paint)
        return
    paint_run(cells, pixels, pairs, inks, y1, x1, x1, paint)
    if y1 > y2:
        x1, y1, x2, y2 = x2, y2, x1, y1
    dx, dy, side = abs(x2 - x1), y2 - y1, 1 if x2 > x1 else -1
    if dx == 0:
        for y in range(y1, y2 + 1):
            paint_run(cells, pixels, pairs, inks, y, x1, x1, paint)
    elif dy > dx:
        _steep(cells, pixels, pairs, inks, x1, y1, side, dy, (dx << 16) // dy, paint)
    else:
        _flat(cells, pixels, pairs, inks, x1, y1, side, dx, (dy << 16) // dx, paint)


@compiled
def _steep(cells, pixels, pairs, inks, x, y, side, length, rise, paint):
    """The pairs of pixels between a line's ends: `length` steps up, `rise` / 65536 of one aside each.

    Both pixels of a pair lie between the ends and so in the window.
    """
    wide = _spread(inks[paint])
    for step in range(max(1, HEIGHT - ROWS - y), length):
        row = (HEIGHT - 1 - y - step) * ROW
        near = x + side * (step * rise >> 16)
        share = (step * rise >> 8) & 255
        _blend(
            cells, pixels, pairs, inks, np.uint32(row + SLOT[near]), paint, wide, (255 * (255 - share)) >> 8
        )
        _blend(
            cells, pixels, pairs, inks, np.uint32(row + SLOT[near + side]), paint, wide, (255 * share) >> 8
        )


@compiled
def _flat(cells, pixels, pairs, inks, x, y, side, length, rise, paint):
    """The same with steps aside and `rise` upwards.

    The first pair may have one foot in the row below the kept ones, for which the canvas has room.
    """
    wide = _spread(inks[paint])
    below = HEIGHT - ROWS - 1
    for step in range(max(1, -((y - below) * 65536 // rise)), length):
        place = (HEIGHT - 1 - y - (step * rise >> 16)) * ROW + SLOT[x + side * step]
        share = (step * rise >> 8) & 255
        _blend(cells, pixels, pairs, inks, np.uint32(place), paint, wide, (255 * (255 - share)) >> 8)
        _blend(cells, pixels, pairs, inks, np.uint32(place - ROW), paint, wide, (255 * share) >> 8)


@compiled
def fill_quad(cells, pixels, pairs, inks, xs, ys, paint, crossings, counts):
    """SDL_gfx's filled polygon of four corners (integers): scan lines, crossings in 1 / 65536 pixel."""
    low, high = min(ys[0], ys[1], ys[2], ys[3]), max(ys[0], ys[1], ys[2], ys[3])
    bottom, top = max(low, HEIGHT - ROWS), min(high, HEIGHT - 1)
    for y in range(bottom, top + 1):
        counts[np.uint32(y)] = 0  # of a sign known, which makes this plain stores
    for i in range(4):
        k = (i + 3) % 4
        _cross(xs[k], ys[k], xs[i], ys[i], bottom, top, high, crossings, counts)
    for y in range(bottom, top + 1):
        _sort(crossings, y, counts[y])
        for k in range(0, counts[y], 2):
            a, b = crossings[y, k] + 1, crossings[y, k + 1] - 1
            a, b = (a >> 16) + ((a & 32768) >> 15), (b >> 16) + ((b & 32768) >> 15)
            _run(cells, pixels, pairs, inks, y, a, b, paint)


@inlined
def _sort(crossings, y, count):
    """By insertion: mostly there are two."""
    for i in range(1, count):
        value, k = crossings[y, i], i
        while k > 0 and crossings[y, k - 1] > value:
            crossings[y, k] = crossings[y, k - 1]
            k -= 1
        crossings[y, k] = value


@compiled
def _cross(x1, y1, x2, y2, bottom, top, high, crossings, counts):
    """Add one edge's crossings: its lower end included, its upper end only at the polygon's top."""
    if y1 == y2:
        return
    if y1 > y2:
        x1, y1, x2, y2 = x2, y2, x1, y1
    end = min(y2 if y2 == high else y2 - 1, top)
    start = max(y1, bottom)
    if start > end:
        return
    dy, dx = y2 - y1, x2 - x1
    share, rest = divmod(65536 * (start - y1), dy)
    step, step_rest = divmod(65536, dy)
    for y in range(start, end + 1):
        crossings[y, counts[y]] = share * dx + 65536 * x1
        counts[y] += 1
        share += step
        rest += step_rest
        if rest >= dy:
            rest -= dy
            share += 1


@compiled
def fill_part(cells, pixels, pairs, inks, xs, ys, n, paint, crossings):
    """`pygame.draw.polygon` of n corners (integers): crossings in float32, down, then up."""
    low, high, left, right = ys[0], ys[0], xs[0], xs[0]
    for i in range(1, n):
        low, high = min(low, ys[i]), max(high, ys[i])
        left, right = min(left, xs[i]), max(right, xs[i])
    if low == high:
        paint_run(cells, pixels, pairs, inks, low, left, right, paint)
        return
    for y in range(max(low, HEIGHT - ROWS), min(high, HEIGHT - 1) + 1):
        count = 0
        for i in range(n):
            k = i - 1 if i else n - 1
            x1, y1, x2, y2 = xs[k], ys[k], xs[i], ys[i]
            if y1 > y2:
                x1, y1, x2, y2 = x2, y2, x1, y1
            if y1 != y2 and (y1 <= y < y2 or y == high == y2):
                along = np.float32((y - y1) * (x2 - x1)) / np.float32(y2 - y1)
                crossings[y, count] = x1 + int(math.ceil(along) if count % 2 else math.floor(along))
                count += 1
        _sort(crossings, y, count)
        for k in range(0, count, 2):
            _run(cells, pixels, pairs, inks, y, crossings[y, k], crossings[y, k + 1], paint)
    for i in range(n):
        k = i - 1 if i else n - 1
        if low < ys[i] < high and ys[k] == ys[i]:
            paint_run(cells, pixels, pairs, inks, ys[i], xs[i], xs[k], paint)


@compiled
def draw(cells, pixels, pairs, inks, crossings, counts, xs, ys, corners, sizes, paints, quads, count, empty):
    """The first `quads` polygons as gymnasium draws the ground, the rest as it draws the car.

    `corners` float64 [N, 8, 2] are cut to integers towards zero, as in C; cells start as paint `empty`.
    """
    cells[:] = empty
    for k in range(count):
        for i in range(sizes[k]):
            xs[i], ys[i] = int(corners[k, i, 0]), int(corners[k, i, 1])
        if k >= quads:
            fill_part(cells, pixels, pairs, inks, xs, ys, sizes[k], paints[k], crossings)
        elif _visible(xs, ys):
            for i in range(4):
                following = (i + 1) % 4
                smooth_line(cells, pixels, pairs, inks, xs[i], ys[i], xs[following], ys[following], paints[k])
            fill_quad(cells, pixels, pairs, inks, xs, ys, paints[k], crossings, counts)


@compiled
def _visible(xs, ys):
    """Whether a quadrilateral may touch the kept rows; lines reach one pixel beyond their corners."""
    right, left = max(xs[0], xs[1], xs[2], xs[3]), min(xs[0], xs[1], xs[2], xs[3])
    high, low = max(ys[0], ys[1], ys[2], ys[3]), min(ys[0], ys[1], ys[2], ys[3])
    return right >= -1 and left <= WIDTH and high >= HEIGHT - ROWS - 1 and low <= HEIGHT
