"""Mixtures of Gaussians, one for each latent dimension: pure mathematics (Bishop 1994; supplement A.2).

Shapes: `...` any, K mixtures, Z latent. A mixture is three tensors [..., K, Z]: logits (not normalised),
means and log standard deviations. Dimensions are independent given M's state, each with its own weights.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor


class Mixture(NamedTuple):
    """`logits`, `means`, `logstds`: [..., K, Z] each."""

    logits: Tensor
    means: Tensor
    logstds: Tensor


def split(outputs: Tensor, mixtures: int) -> Mixture:
    """The mixture in a head's outputs [..., 3 * K * Z]."""
    parts = outputs.unflatten(-1, (3, mixtures, -1))
    return Mixture(*parts.unbind(-3))


def log_prob(mixture: Mixture, z: Tensor) -> Tensor:
    """log p(z) of each dimension, [..., Z], for z [..., Z]."""
    deviation = (z.unsqueeze(-2) - mixture.means) * torch.exp(-mixture.logstds)
    joint = mixture.logits - mixture.logstds - 0.5 * deviation.square()
    constant = 0.5 * math.log(2 * math.pi)
    return torch.logsumexp(joint, -2) - torch.logsumexp(mixture.logits, -2) - constant


def sample(mixture: Mixture, temperature: float, uniform: Tensor, normal: Tensor) -> Tensor:
    """A draw of z [..., Z] at a temperature: logits divided by it, the noise multiplied by its root.

    `uniform` in [0, 1) and standard `normal`, both [..., Z], are the draw's randomness (published code,
    `get_pi_idx` and `sample_sequence`). Towards temperature 0 it is the mean of the likeliest component.
    """
    scaled = mixture.logits / temperature
    bounds = torch.exp(scaled - scaled.amax(-2, keepdim=True)).cumsum(-2)
    chosen = (bounds <= (uniform * bounds[..., -1, :]).unsqueeze(-2)).sum(-2, keepdim=True)
    chosen.clamp_(max=scaled.shape[-2] - 1)  # rounding may carry uniform * total up to the total
    mean = mixture.means.gather(-2, chosen).squeeze(-2)
    std = mixture.logstds.gather(-2, chosen).squeeze(-2).exp()
    return mean + std * (math.sqrt(temperature) * normal)
