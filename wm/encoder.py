"""V's encoder as it acts: without gradients, its weights prepared once, in a number format.

Shapes: B frames, Z latent.
"""

from typing import Protocol

import torch
from torch import Tensor, nn

from wm import devices
from wm.vision import Vision

LEVELS = 127
"""Of a weight's size in 8 bits."""


class Convolutions(Protocol):
    def features(self, frames: Tensor) -> Tensor:
        """Features [B, pixels * channels], of uint8 frames [B, 64, 64, 3]."""
        ...


class Encoder:
    """V's encoder; its convolutions in the number format, the last product in float32."""

    def __init__(self, vision: Vision, precision: str) -> None:
        """`precision`: float32, bfloat16, or int8, which is bfloat16 where bytes are not multiplied."""
        where = vision.mean.weight.device
        layers = [layer for layer in vision.encoder if isinstance(layer, nn.Conv2d)]
        self.convolutions: Convolutions
        if precision == "int8" and devices.multiplies_bytes(where):
            self.convolutions = ByteConvolutions(layers, vision.ranges.tolist())
        else:
            self.convolutions = FloatConvolutions(layers, devices.dtype(precision))
        heads = torch.cat([vision.mean.weight, vision.logvar.weight]).detach()  # [2 * Z, channels * pixels]
        channels = layers[-1].out_channels
        self.heads = heads.unflatten(1, (channels, -1)).permute(2, 1, 0).flatten(0, 1).contiguous()
        self.heads_bias = torch.cat([vision.mean.bias, vision.logvar.bias]).detach()

    def encode(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of z, float32 [B, Z] each, of uint8 frames [B, 64, 64, 3]."""
        features = self.convolutions.features(frames).float()
        mean, logvar = torch.addmm(self.heads_bias, features, self.heads).chunk(2, 1)
        return mean, logvar


class FloatConvolutions:
    """Three convolutions and a product of matrices.

    The last convolution is a product, too: it has 4 pixels and half a million weights, which a convolution
    would lay out anew at every call, at up to three times the cost for a small batch.
    """

    def __init__(self, layers: list[nn.Conv2d], dtype: torch.dtype) -> None:
        self.dtype = dtype
        *layers, last = layers
        self.convolutions = [(self._prepare(layer.weight), self._prepare(layer.bias)) for layer in layers]
        assert (last.kernel_size, last.stride) == ((4, 4), (2, 2))
        self.last = self._prepare(last.weight.permute(2, 3, 1, 0).flatten(0, 2))  # [16 * channels, out]
        self.last_bias = self._prepare(last.bias)

    def _prepare(self, tensor: Tensor | None) -> Tensor:
        assert tensor is not None
        layout = torch.channels_last if tensor.dim() == 4 else torch.contiguous_format
        return tensor.detach().to(self.dtype).contiguous(memory_format=layout)

    def features(self, frames: Tensor) -> Tensor:
        x = frames.permute(0, 3, 1, 2).to(self.dtype).div_(255)
        for weight, bias in self.convolutions:
            x = torch.relu_(torch.conv2d(x, weight, bias, stride=2))
        patches = x.permute(0, 2, 3, 1).unfold(1, 4, 2).unfold(2, 4, 2).permute(0, 1, 2, 4, 5, 3)
        rows = patches.reshape(-1, len(self.last))  # [B * pixels, 16 * channels]
        return torch.relu_(torch.addmm(self.last_bias, rows, self.last)).view(len(x), -1)


class ByteConvolutions:
    """Convolutions of bytes, in half of bfloat16's time (Jacob et al. 2018, equations 1 to 7).

    A frame's bytes are taken as they are; what a layer gives is a byte again, 255 of which is the largest
    value that V has seen there (`Vision.ranges`). Weights are rounded to 127 levels of their channel's
    largest. Sums are integers, so a frame's features do not depend on the batch. z is off by less than a
    tenth of its noise.
    """

    def __init__(self, layers: list[nn.Conv2d], ranges: list[float]) -> None:
        assert min(ranges) > 0, "V has not measured its ranges"
        steps = [1 / 255, *(top / 255 for top in ranges)]  # of a byte, before and behind each layer
        self.layers = [
            ByteConvolution(layer, steps[number], steps[number + 1] if number < len(layers) - 1 else None)
            for number, layer in enumerate(layers)
        ]

    def features(self, frames: Tensor) -> Tensor:
        x = frames.permute(0, 3, 1, 2)
        for layer in self.layers:
            x = layer.apply(x)
        return x.permute(0, 2, 3, 1).flatten(1)


class ByteConvolution:
    """One of them, with its relu; through oneDNN's operators, which PyTorch's compiler uses."""

    def __init__(self, layer: nn.Conv2d, step: float, next_step: float | None) -> None:
        """A byte of the input stands for `step`, of the output for `next_step`; None: float32 comes out."""
        weight = layer.weight.detach()
        self.scale = (weight.abs().amax((1, 2, 3)) / LEVELS).clamp(min=1e-12)
        self.zero = torch.zeros(len(weight), dtype=torch.int32)
        self.geometry = (list(layer.stride), [0, 0], [1, 1], 1)  # stride, padding, dilation, groups
        self.step, self.next_step = step, next_step or 1.0
        self.dtype = torch.uint8 if next_step else torch.float32
        levels = (weight / self.scale[:, None, None, None]).round().to(torch.int8)
        self.weight = torch.ops.onednn.qconv_prepack(levels, self.scale, step, 0, *self.geometry)
        assert layer.bias is not None
        self.bias = layer.bias.detach()

    def apply(self, x: Tensor) -> Tensor:
        weights = (self.weight, self.scale, self.zero, self.bias)
        multiply = torch.ops.onednn.qconv2d_pointwise
        how = (self.next_step, 0, self.dtype, "relu", (), "")
        return multiply(x, self.step, 0, *weights, *self.geometry, *how)
