"""The encoder as it acts is the one that was trained, layer by layer, in every number format."""

import pytest
import torch
from torch import Tensor, nn

from tests.noise import noise
from wm import devices
from wm.encoder import ByteConvolutions, Encoder, FloatConvolutions
from wm.vision import Vision

BOUNDS = {"float32": 1e-5, "bfloat16": 0.03, "int8": 0.1}
"""Of differences, in units of the values' spread; bfloat16 keeps 8 bits."""
needs_bytes = pytest.mark.skipif(
    not devices.multiplies_bytes(torch.device("cpu")), reason="this processor has no VNNI"
)


def close(found: Tensor, expected: Tensor, precision: str) -> bool:
    return bool((found - expected).abs().max() <= BOUNDS[precision] * max(float(expected.std()), 1e-3))


def vision_of(size: int) -> Vision:
    vision = Vision(size).initialise(3).requires_grad_(False)
    for bias in (vision.mean.bias, vision.logvar.bias, vision.encoder[6].bias):
        nn.init.normal_(bias, generator=torch.Generator().manual_seed(1))
    return vision.measure_ranges([noise(8, 4)])


@pytest.mark.parametrize("precision", BOUNDS)
@pytest.mark.parametrize(("size", "rows"), [(32, 1), (64, 5)])
def test_the_encoder_is_that_of_vision(precision: str, size: int, rows: int) -> None:
    vision, frames = vision_of(size), noise(rows, 2)
    for found, expected in zip(Encoder(vision, precision).encode(frames), vision.encode(frames), strict=True):
        assert found.dtype == torch.float32 and found.shape == (rows, size)
        assert close(found, expected, precision)


@needs_bytes
def test_a_dead_layer_gives_what_its_bias_says() -> None:
    vision, frames = vision_of(8), noise(3, 5)
    nn.init.constant_(vision.encoder[2].bias, -1e3)
    vision.measure_ranges([frames])
    for found, expected in zip(Encoder(vision, "int8").encode(frames), vision.encode(frames), strict=True):
        assert close(found, expected, "int8")


@needs_bytes
def test_bytes_are_multiplied_exactly_and_rounded_once_a_layer() -> None:
    vision, frames = vision_of(8), noise(3, 5)
    frames[0], frames[1] = 255, 0  # the largest sums there can be
    convolutions = [layer for layer in vision.encoder if isinstance(layer, nn.Conv2d)]
    exact, step = frames.permute(0, 3, 1, 2).double(), 1 / 255
    encoder = ByteConvolutions(convolutions, vision.ranges.tolist())
    found = frames.permute(0, 3, 1, 2)
    for layer, ours, top in zip(convolutions, encoder.layers, vision.ranges.double(), strict=True):
        scale = (layer.weight.abs().amax((1, 2, 3)) / 127)[:, None, None, None]
        levels = (layer.weight / scale).round().double()
        sums = torch.conv2d(exact, levels, stride=2) * scale.double().flatten()[:, None, None] * step
        values = torch.relu(sums + layer.bias.double()[:, None, None])
        found = ours.apply(found)
        if found.dtype == torch.uint8:
            step = float(top / 255)
            exact = (values / step).round().clamp(0, 255)
            apart = (found.double() - exact).abs()
            assert apart.max() <= 1 and (apart > 0).double().mean() < 1e-3  # ties, in float32
            exact = found.double()
        else:
            assert torch.allclose(found.double(), values, rtol=1e-5, atol=1e-5)


@needs_bytes
def test_in_bytes_a_frame_has_the_same_features_in_every_batch() -> None:
    vision, frames = vision_of(32), noise(33, 6)
    convolutions = Encoder(vision, "int8").convolutions
    assert isinstance(convolutions, ByteConvolutions)
    together = convolutions.features(frames)
    for rows in (slice(0, 1), slice(5, 12), slice(32, 33)):
        assert torch.equal(convolutions.features(frames[rows]), together[rows])


def test_without_products_of_bytes_int8_is_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    vision, frames = vision_of(32), noise(4, 7)
    monkeypatch.setattr(devices, "multiplies_bytes", lambda where: False)
    found, expected = Encoder(vision, "int8"), Encoder(vision, "bfloat16")
    assert isinstance(found.convolutions, FloatConvolutions)
    assert torch.equal(found.encode(frames)[0], expected.encode(frames)[0])


def test_a_gpu_has_none() -> None:
    assert not devices.multiplies_bytes(torch.device("cuda"))
