"""How well M predicts: the likelihood of what followed, which training raises.

On the CPU one compiled pass over the head's outputs gives it with its gradient (`wm.kernels`), in the
outputs' own number format; elsewhere it is `wm.mixture.log_prob`, derived by PyTorch.

Shapes: B batch, T time, K mixtures, Z latent.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from wm import kernels, mixture
from wm.memory import Memory


def measure(memory: Memory, outputs: Tensor, z: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """The negative log-likelihood of z [B, T, Z] and the logits of ends, float32 [B, T] (empty without ends).

    `outputs` are M's, [B, T, 3 * K * Z (+ 1)]; the likelihood is in nats per latent dimension, a mean over
    the steps `valid`, bool [B, T].
    """
    weights = -valid.float() / valid.sum()
    if outputs.device.type == "cpu":
        nll, done = Compiled.apply(outputs, z, weights, memory.mixtures)
        return nll, done.squeeze(-1)
    expected = memory.split(outputs.float())
    return (mixture.log_prob(expected.z, z).mean(-1) * weights).sum(), expected.done


class Compiled(torch.autograd.Function):
    """The weighted sum of rows' log-likelihoods, and the outputs behind the mixture's, [B, T, 0 or 1].

    The gradient is found with the value, and passed on as it is, but for a factor other than 1.
    """

    @staticmethod
    def forward(
        ctx: Any, outputs: Tensor, z: Tensor, weights: Tensor, mixtures: int
    ) -> tuple[Tensor, Tensor]:
        size = z.shape[-1]
        rows = outputs.reshape(-1, outputs.shape[-1])
        found, gradient = rows.new_empty(len(rows), dtype=torch.float32), torch.empty_like(rows)
        work = np.empty((6 * mixtures + 3) * size, np.float32)
        given = (rows, z.reshape(-1, size), weights.flatten())
        kernels.likelihood(*map(kernels.array, given), work, kernels.array(found), kernels.array(gradient))
        ctx.latent = 3 * mixtures * size
        ctx.save_for_backward(gradient.view_as(outputs))
        return (found * weights.flatten()).sum(), outputs[..., ctx.latent :].float()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, nll: Tensor, done: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors
        gradient[..., ctx.latent :] = done
        if nll != 1:
            gradient[..., : ctx.latent] *= nll
        return gradient, None, None, None
