"""The weights of Pillow's bilinear resize of bytes, which shrinking to a frame follows bit by bit."""

import math

import numpy as np

BITS = 22
"""A weight of 1 is 2 ** 22; sums are rounded to the nearest and shifted back after each direction."""


def layout(size: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Each output's first input int64 [side] and the weights int64 [side, n] of the n inputs from there.

    All n inputs lie within `size` (>= `side`); those of weight 0 do not count.
    """
    scale = size / side
    lows, rows = [], []
    for i in range(side):
        center = (i + 0.5) * scale
        low, high = max(int(center - scale + 0.5), 0), min(int(center + scale + 0.5), size)
        taps = [max(1 - abs((k - center + 0.5) * (1 / scale)), 0.0) for k in range(low, high)]
        total = 0.0  # as Pillow adds them up; `sum` of later Pythons is more exact
        for tap in taps:
            total += tap
        lows.append(low)
        rows.append([math.floor(0.5 + tap * (1 / total) * (1 << BITS)) for tap in taps])
    width = max(map(len, rows))
    first, weights = np.minimum(lows, size - width), np.zeros((side, width), np.int64)
    for i, row in enumerate(rows):
        start = lows[i] - first[i]
        weights[i, start : start + len(row)] = row
    return first, weights
