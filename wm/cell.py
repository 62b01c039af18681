"""M as it acts, a step at a time: without gradients, its weights prepared once, in a number format.

On the CPU, what lies between the products of matrices is a compiled pass each (`wm.kernels`); elsewhere it is
PyTorch's, as it reads.

Shapes: B rows, Z latent, A action, H hidden, K mixtures.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from wm import devices, kernels, mixture
from wm.memory import GATES, Memory, Prediction, State
from wm.products import Product


class Drawn(NamedTuple):
    """What M imagines next: z [B, Z] and the logit of the episode's end [B] (empty without ends)."""

    z: Tensor
    done: Tensor


class Cell:
    """M, a step at a time: the LSTM as one product of matrices, the mixture as another."""

    def __init__(self, memory: Memory, precision: str) -> None:
        """`precision`: of products (int8 is V's alone: bfloat16 here); the state is float32."""
        self.memory = memory
        self.dtype = devices.dtype(precision)
        w_ih, w_hh, b_ih, b_hh = (memory.lstm.get_parameter(f"{name}_l0").detach() for name in GATES)
        self.gates = Product(torch.cat([w_ih, w_hh], 1).to(self.dtype), (b_ih + b_hh).to(self.dtype))
        self.head = Product(
            memory.head.weight.detach().to(self.dtype), memory.head.bias.detach().to(self.dtype)
        )
        self.compiled = w_ih.device.type == "cpu"

    def step(self, z: Tensor, actions: Tensor, restarts: Tensor, state: State) -> State:
        """The state after z [B, Z] and actions [B, A]; `restarts` bool [B] marks rows on their first step.

        It holds what M expects next: `predict(h)`, or a `draw` from it.
        """
        h, c = state
        x = torch.cat([self.memory.inputs(z, actions, restarts), h], 1).to(self.dtype)
        products = self.gates(x)
        if self.compiled:
            return next_state(products, c)
        i, f, g, o = products.float().chunk(4, 1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c), c

    def predict(self, hidden: Tensor) -> Prediction:
        """The prediction that a state h [B, H] holds, in float32."""
        return self.memory.split(self._outputs(hidden).float())

    def draw(self, hidden: Tensor, temperature: float, numbers: Tensor) -> Drawn:
        """A draw from that prediction with numbers [B, 2, Z], uniform and normal (`wm.mixture.sample`)."""
        if not self.compiled:
            expected = self.predict(hidden)
            return Drawn(mixture.sample(expected.z, temperature, *numbers.unbind(1)), expected.done)
        outputs = self._outputs(hidden)
        z = next_z(outputs, self.memory.mixtures, temperature, numbers)
        return Drawn(z, outputs[:, 3 * self.memory.mixtures * z.shape[1] :].squeeze(1))

    def _outputs(self, hidden: Tensor) -> Tensor:
        """The head's, [B, 3 * K * Z (+ 1)]."""
        return self.head(hidden.to(self.dtype))


def next_state(products: Tensor, c: Tensor) -> State:
    """The LSTM's state after the products [B, 4 * H] of its gates i, f, g, o, and c [B, H] before."""
    after = torch.empty_like(c), torch.empty_like(c)
    kernels.gates(kernels.array(products), kernels.array(c), *map(kernels.array, after))
    return after


def next_z(outputs: Tensor, mixtures: int, temperature: float, numbers: Tensor) -> Tensor:
    """`wm.mixture.sample` from the head's outputs [B, 3 * K * Z (+ 1)] with numbers [B, 2, Z]."""
    z = torch.empty_like(numbers[:, 0])
    draw = kernels.drawing(mixtures, z.shape[1])
    draw(kernels.array(outputs), temperature, kernels.array(numbers), kernels.array(z))
    return z
