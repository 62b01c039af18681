"""V: the convolutional variational autoencoder (supplement A.1).

Shapes: B batch, Z latent. Frames are uint8 [B, 64, 64, 3] outside, float [B, 3, 64, 64] in 0..1 inside.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from wm import paths, weights
from wm.settings import VisionSettings

DEAD = 1e-6
"""The range of a layer that gives nothing but zeros; any above 0 serves."""


class Vision(nn.Module):
    """V, layer by layer as in the paper's Figure 22: 4,348,547 parameters at Z = 32, 4,446,915 at Z = 64."""

    def __init__(self, latent_size: int) -> None:
        super().__init__()
        self.latent_size = latent_size
        self.encoder = nn.Sequential(
            nn.Conv2d(3, 32, 4, stride=2),
            nn.ReLU(),
            nn.Conv2d(32, 64, 4, stride=2),
            nn.ReLU(),
            nn.Conv2d(64, 128, 4, stride=2),
            nn.ReLU(),
            nn.Conv2d(128, 256, 4, stride=2),
            nn.ReLU(),
            nn.Flatten(),
        )
        self.mean = nn.Linear(1024, latent_size)
        self.logvar = nn.Linear(1024, latent_size)
        self.expand = nn.Linear(latent_size, 1024)  # no activation
        self.unfold = nn.ConvTranspose2d(1024, 128, 5, stride=2)
        self.decoder = nn.Sequential(
            nn.ReLU(),
            nn.ConvTranspose2d(128, 64, 5, stride=2),
            nn.ReLU(),
            nn.ConvTranspose2d(64, 32, 6, stride=2),
            nn.ReLU(),
            nn.ConvTranspose2d(32, 3, 6, stride=2),
        )
        self.ranges: Tensor
        self.register_buffer("ranges", torch.zeros(4))  # the largest value behind each convolution
        for module in (*self.encoder, *self.decoder):
            for tensor in module.parameters():
                if tensor.dim() == 4:
                    tensor.data = tensor.data.contiguous(memory_format=torch.channels_last)

    def initialise(self, seed: int) -> "Vision":
        """Draw all weights from the seed's stream (Glorot uniform, zero biases, as in the published code)."""
        weights.draw(self, seed)
        return self

    @torch.no_grad()
    def measure_ranges(self, batches: Iterable[Tensor]) -> "Vision":
        """Note the largest value behind each convolution, of uint8 frames [B, 64, 64, 3], for the encoder."""
        self.ranges.zero_()
        for frames in batches:
            x, tops = scale(frames), []
            for layer in self.encoder:
                x = layer(x)
                if isinstance(layer, nn.ReLU):
                    tops.append(x.max())
            torch.maximum(self.ranges, torch.stack(tops).clamp(min=DEAD), out=self.ranges)
        return self

    def encode(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of z, float32 [B, Z] each, of uint8 frames [B, 64, 64, 3]."""
        features = self.encoder(scale(frames))
        return self.mean(features).float(), self.logvar(features).float()

    def decode(self, z: Tensor) -> Tensor:
        """The frames that z [B, Z] stands for, float32 [B, 64, 64, 3] in 0..1."""
        return torch.sigmoid(self.logits(z).float()).permute(0, 2, 3, 1)

    def picture(self, z: Tensor) -> np.ndarray:
        """`decode` as frames are kept: uint8 [B, 64, 64, 3]."""
        return (self.decode(z) * 255).round().to(torch.uint8).cpu().numpy()

    def logits(self, z: Tensor) -> Tensor:
        """The decoder before its sigmoid, [B, 3, 64, 64]."""
        # A transposed convolution of a single pixel is a matrix product, which is seven times faster as one.
        assert self.unfold.bias is not None
        maps = self.expand(z) @ self.unfold.weight.flatten(1)
        maps = maps.view(-1, *self.unfold.weight.shape[1:]) + self.unfold.bias[:, None, None]
        return self.decoder(maps.contiguous(memory_format=torch.channels_last))


def scale(frames: Tensor) -> Tensor:
    """uint8 [B, 64, 64, 3] to float32 [B, 3, 64, 64] in 0..1, the channels last in memory."""
    return frames.permute(0, 3, 1, 2).float().div_(255)


def sample(mean: Tensor, logvar: Tensor, noise: Tensor) -> Tensor:
    """z = mean + sigma * noise, all [..., Z] (Kingma and Welling's reparametrisation)."""
    return mean + torch.exp(0.5 * logvar) * noise


def divergence(mean: Tensor, logvar: Tensor, floor: float) -> Tensor:
    """KL(q(z|x) || N(0, I)) of each frame, [B]; below `floor` nats per dimension it counts as that."""
    nats = -0.5 * (1 + logvar - mean.square() - logvar.exp()).sum(1)
    return nats.clamp(min=floor * mean.shape[1])


def reconstruction_errors(logits: Tensor, target: Tensor, salience_weight: float) -> tuple[Tensor, Tensor]:
    """Squared error summed over a frame, plain and weighted, [B] each (published code; the paper's is plain).

    `logits`, `target`: [B, 3, 64, 64]. A pixel weighs 1 + salience_weight * |target - mean of the batch|,
    the difference averaged over the colours: what is rare at its place (a fireball, a curve) counts for
    more, so that a short training does not blur it into the background. 0 gives the paper's loss.
    """
    squares = (torch.sigmoid(logits.float()) - target).square()
    plain = squares.sum((1, 2, 3))
    if salience_weight == 0:
        return plain, plain
    salience = (target - target.mean(0, keepdim=True)).abs().mean(1, keepdim=True)
    return plain, (squares * (1 + salience_weight * salience)).sum((1, 2, 3))


def load_vision(task: str, settings: VisionSettings, root: Path = paths.DATA) -> Vision:
    """The trained V of a task, ready to encode. Raises ValueError for weights of another latent size."""
    vision = Vision(settings.latent_size)
    weights.load_into(vision, paths.vision(task, root) / paths.WEIGHTS)
    return vision.eval().requires_grad_(False)
