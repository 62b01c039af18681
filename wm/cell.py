"""M as it acts, a step at a time: without gradients, its weights prepared once, in a number format.

Shapes: B rows, Z latent, A action, H hidden, K mixtures.
"""

import torch
from torch import Tensor

from wm.devices import DTYPES
from wm.memory import GATES, Memory, Prediction, State


class Cell:
    """M, a step at a time: the LSTM as one product of matrices, the mixture as another."""

    def __init__(self, memory: Memory, precision: str) -> None:
        """`precision`: float32 or bfloat16, of products; the state is float32."""
        self.memory = memory
        self.dtype = DTYPES[precision]
        w_ih, w_hh, b_ih, b_hh = (memory.lstm.get_parameter(f"{name}_l0").detach() for name in GATES)
        self.weight = torch.cat([w_ih, w_hh], 1).t().to(self.dtype).contiguous()
        self.bias = (b_ih + b_hh).to(self.dtype)
        self.head = memory.head.weight.detach().t().to(self.dtype).contiguous()
        self.head_bias = memory.head.bias.detach().to(self.dtype)

    def step(self, z: Tensor, actions: Tensor, restarts: Tensor, state: State) -> State:
        """The state after z [B, Z] and actions [B, A]; `restarts` bool [B] marks rows on their first step.

        It holds what M expects next: `predict(h)`.
        """
        h, c = state
        x = torch.cat([self.memory.inputs(z, actions, restarts), h], 1).to(self.dtype)
        i, f, g, o = torch.addmm(self.bias, x, self.weight).float().chunk(4, 1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c), c

    def predict(self, hidden: Tensor) -> Prediction:
        """The prediction that a state h [B, H] holds, in float32."""
        return self.memory.split(torch.addmm(self.head_bias, hidden.to(self.dtype), self.head).float())
