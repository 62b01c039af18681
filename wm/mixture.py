"""Mixtures of Gaussians, one for each latent dimension: pure mathematics (Bishop 1994; supplement A.2).

Shapes: `...` any, K mixtures, Z latent. A mixture is three tensors [..., K, Z]: logits (not normalised),
means and log standard deviations. Dimensions are independent given M's state, each with its own weights.
"""

import math
from itertools import accumulate
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
    scaled = (mixture.logits - mixture.logits.amax(-2, keepdim=True)) / temperature
    bounds = list(accumulate(torch.exp(scaled).unbind(-2), torch.add))  # CUDA has no deterministic cumsum
    mark = uniform * bounds[-1]
    mean, logstd = mixture.means.select(-2, 0), mixture.logstds.select(-2, 0)
    for component, bound in enumerate(bounds[:-1], start=1):
        passed = mark >= bound
        mean = torch.where(passed, mixture.means.select(-2, component), mean)
        logstd = torch.where(passed, mixture.logstds.select(-2, component), logstd)
    return mean + logstd.exp() * (math.sqrt(temperature) * normal)
