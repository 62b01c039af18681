"""Frames of noise: a pixel may have any value."""

import torch
from torch import Tensor


def noise(rows: int, seed: int) -> Tensor:
    """uint8 [rows, 64, 64, 3]"""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (rows, 64, 64, 3), dtype=torch.uint8, generator=generator)
