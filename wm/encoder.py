"""V's encoder as it acts: without gradients, its weights prepared once, in a number format.

Shapes: B frames, Z latent.
"""

import torch
from torch import Tensor, nn

from wm.devices import DTYPES
from wm.vision import Vision


class Encoder:
    """V's encoder: three convolutions and two products of matrices.

    The last convolution is a product, too: it has 4 pixels and half a million weights, which a convolution
    would lay out anew at every call, at up to three times the cost for a small batch.
    """

    def __init__(self, vision: Vision, precision: str) -> None:
        """`precision`: float32 or bfloat16, of convolutions; the last product is float32."""
        self.dtype = DTYPES[precision]
        *layers, last = (layer for layer in vision.encoder if isinstance(layer, nn.Conv2d))
        self.convolutions = [(self._prepare(layer.weight), self._prepare(layer.bias)) for layer in layers]
        assert (last.kernel_size, last.stride) == ((4, 4), (2, 2))
        self.last = self._prepare(last.weight.permute(2, 3, 1, 0).flatten(0, 2))  # [16 * channels, out]
        self.last_bias = self._prepare(last.bias)
        heads = torch.cat([vision.mean.weight, vision.logvar.weight]).detach()  # [2 * Z, out * pixels]
        self.heads = heads.unflatten(1, (last.out_channels, -1)).permute(2, 1, 0).flatten(0, 1).contiguous()
        self.heads_bias = torch.cat([vision.mean.bias, vision.logvar.bias]).detach()

    def _prepare(self, tensor: Tensor | None) -> Tensor:
        assert tensor is not None
        layout = torch.channels_last if tensor.dim() == 4 else torch.contiguous_format
        return tensor.detach().to(self.dtype).contiguous(memory_format=layout)

    def encode(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of z, float32 [B, Z] each, of uint8 frames [B, 64, 64, 3]."""
        x = frames.permute(0, 3, 1, 2).to(self.dtype).div_(255)
        for weight, bias in self.convolutions:
            x = torch.relu_(torch.conv2d(x, weight, bias, stride=2))
        patches = x.permute(0, 2, 3, 1).unfold(1, 4, 2).unfold(2, 4, 2).permute(0, 1, 2, 4, 5, 3)
        rows = patches.reshape(-1, len(self.last))  # [B * pixels, 16 * channels]
        features = torch.relu_(torch.addmm(self.last_bias, rows, self.last))
        heads = torch.addmm(self.heads_bias, features.view(len(x), -1).float(), self.heads)
        mean, logvar = heads.chunk(2, 1)
        return mean, logvar
