"""The encoder as it acts is the one that was trained, layer by layer, in either number format."""

import pytest
import torch

from wm.encoder import Encoder
from wm.vision import Vision

BOUNDS = {"float32": 1e-5, "bfloat16": 0.03}
"""Of differences, in units of the values' spread; bfloat16 keeps 8 bits."""


def close(found: torch.Tensor, expected: torch.Tensor, precision: str) -> bool:
    return bool((found - expected).abs().max() <= BOUNDS[precision] * max(float(expected.std()), 1e-3))


@pytest.mark.parametrize("precision", BOUNDS)
@pytest.mark.parametrize(("size", "rows"), [(32, 1), (64, 5)])
def test_the_encoder_is_that_of_vision(precision: str, size: int, rows: int) -> None:
    vision = Vision(size).initialise(3).requires_grad_(False)
    for bias in (vision.mean.bias, vision.logvar.bias, vision.encoder[6].bias):
        torch.nn.init.normal_(bias, generator=torch.Generator().manual_seed(1))
    frames = torch.randint(
        0, 256, (rows, 64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(2)
    )
    for found, expected in zip(Encoder(vision, precision).encode(frames), vision.encode(frames), strict=True):
        assert found.dtype == torch.float32 and found.shape == (rows, size)
        assert close(found, expected, precision)
