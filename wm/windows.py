"""M along windows of time, as it is trained.

On the CPU the LSTM goes a step at a time: one product of matrices, and one compiled pass (`wm.kernels`) for
the gates, which also forgets where episodes begin. Elsewhere PyTorch's LSTM is run from border to border.

Shapes: B batch, T time, Z latent, A action, H hidden, X inputs.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from wm import devices, kernels
from wm.devices import DTYPES
from wm.memory import GATES, Memory, State
from wm.products import Product


def outputs(
    memory: Memory, precision: str, z: Tensor, actions: Tensor, restarts: Tensor, state: State
) -> tuple[Tensor, State]:
    """`memory(z, actions, restarts, state)` with products in `precision`; no gradient passes into these."""
    with devices.autocast(z.device, precision):
        if z.device.type != "cpu":
            return memory(z, actions, restarts, state)
        x = memory.inputs(z, actions, restarts)
        parameters = [memory.lstm.get_parameter(f"{name}_l0") for name in GATES]
        dtype = DTYPES[precision]
        hidden, h, c = Compiled.apply(x, restarts, *state, dtype, *parameters)
        return head(memory, hidden, dtype), (h, c)


def head(memory: Memory, hidden: Tensor, dtype: torch.dtype) -> Tensor:
    """`memory.head(hidden)`, from weights laid out the other way: their gradient comes sooner.

    At the sizes of the presets it has the same bits, too.
    """
    weight, bias = memory.head.weight.to(dtype), memory.head.bias.to(dtype)
    rows = torch.addmm(bias, hidden.flatten(0, 1), weight.t().contiguous())
    return rows.unflatten(0, hidden.shape[:2])


class Compiled(torch.autograd.Function):
    """The LSTM's hidden states [B, T, H], in the number format, and its last state in float32.

    A row of its one matrix is (h, x, 1), so the weights' gradient is one product, too.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, restarts: Tensor, h: Tensor, c: Tensor, dtype: torch.dtype, *parameters: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        w_ih, w_hh, b_ih, b_hh = parameters
        (rows, steps, width), size = x.shape, h.shape[1]
        weight = torch.cat([w_hh, w_ih, (b_ih + b_hh)[:, None]], 1).to(dtype)
        given = torch.empty(steps + 1, rows, size + width + 1, dtype=dtype)
        cells = torch.empty(steps + 1, rows, size)
        going = ~restarts[:, :1]
        given[0, :, :size], cells[0] = h * going, c * going
        given[:-1, :, size:-1], given[:, :, -1] = x.transpose(0, 1), 1
        acts, tanhs = torch.empty(steps, rows, 4 * size, dtype=dtype), torch.empty(steps, rows, size)
        hidden = torch.empty(rows, steps, size, dtype=dtype)
        ends = torch.cat([restarts, torch.zeros(rows, 1, dtype=torch.bool)], 1)
        written = [kernels.array(t) for t in (ends, acts, cells, tanhs, hidden, given)]
        gates = Product(weight)
        for step in range(steps):
            kernels.remember(step, kernels.array(gates(given[step])), *written)
        ctx.save_for_backward(weight, given, ends, acts, cells, tanhs)
        last = given[-1, :, :size].float(), cells[-1].clone()
        ctx.mark_non_differentiable(*last)
        return hidden, *last

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slopes: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        weight, given, ends, acts, cells, tanhs = ctx.saved_tensors
        steps, rows, size = tanhs.shape
        gates, dc, returned = torch.empty_like(acts), tanhs.new_zeros(rows, size), acts.new_zeros(rows, size)
        arrays = [kernels.array(t) for t in (ends, acts, cells, tanhs, dc, gates)]
        given_slopes, recurrent = kernels.array(slopes), Product(weight[:, :size].t().contiguous())
        for step in reversed(range(steps)):
            kernels.recall(step, given_slopes, kernels.array(returned), *arrays)
            returned = recurrent(gates[step])
        found = torch.mm(gates.flatten(0, 1).t(), given[:-1].flatten(0, 1)).float()
        bias = found[:, -1]
        return None, None, None, None, None, found[:, size:-1], found[:, :size], bias, bias.clone()
