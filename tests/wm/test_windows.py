"""M along windows, a compiled step at a time, against PyTorch's LSTM run from border to border."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from wm import windows
from wm.devices import DTYPES
from wm.memory import Memory, State

BOUNDS = {"float32": 1e-5, "bfloat16": 0.02}
"""Of a difference's norm, beside the norm itself."""


def near(found: Tensor, expected: Tensor, precision: str) -> bool:
    return bool((found - expected).norm() <= BOUNDS[precision] * expected.norm() + 1e-7)


def case(seed: int, rows: int, steps: int, size: int) -> tuple[Tensor, Tensor, Tensor, State]:
    """z, actions, restarts and the state before."""
    stream = torch.Generator().manual_seed(seed)
    z, actions = torch.randn(rows, steps, 3, generator=stream), torch.randn(rows, steps, 2, generator=stream)
    restarts = torch.rand(rows, steps, generator=stream) < 0.2
    h, c = torch.randn(2, rows, size, generator=stream)
    return z, actions, restarts, (h.tanh(), c)


def slopes(memory: Memory, outputs: Tensor) -> list[Tensor]:
    """The gradient by each parameter of a sum whose terms weigh differently."""
    weights = torch.randn(outputs.shape, generator=torch.Generator().manual_seed(1))
    memory.zero_grad()
    (outputs.float() * weights).sum().backward()
    return [p.grad.clone() for p in memory.parameters() if p.grad is not None]


@settings(deadline=None, max_examples=30)
@given(
    st.integers(0, 10**6),
    st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(1, 40)),
    st.booleans(),
    st.sampled_from(sorted(DTYPES)),
)
def test_a_window_and_its_gradient_are_those_of_pytorch(
    seed: int, sizes: tuple[int, int, int], ends: bool, precision: str
) -> None:
    rows, steps, size = sizes
    memory = Memory(3, 2, size, 2, ends).initialise(seed)
    inputs = case(seed, rows, steps, size)
    expected, last = memory(*inputs)
    reference = slopes(memory, expected)
    found, state = windows.outputs(memory, precision, *inputs)
    assert found.dtype == DTYPES[precision] and near(found, expected, precision)
    for ours, theirs in zip(state, last, strict=True):
        assert ours.dtype == torch.float32 and not ours.requires_grad and near(ours, theirs, precision)
    gradients = slopes(memory, found)
    assert len(gradients) == len(reference) == len(list(memory.parameters()))
    for ours, theirs in zip(gradients, reference, strict=True):
        assert near(ours, theirs, precision)


def test_what_is_not_a_number_stays_visible_in_its_row_alone() -> None:
    memory = Memory(3, 2, 8, 2, False).initialise(1)
    z, actions, _, state = case(1, 2, 6, 8)
    restarts = torch.zeros(2, 6, dtype=torch.bool)
    z[0, 2] = torch.nan
    outputs, _ = windows.outputs(memory, "float32", z, actions, restarts, state)
    assert outputs.isnan().all(-1).tolist() == [[False] * 2 + [True] * 4, [False] * 6]


@pytest.mark.parametrize("precision", DTYPES)
def test_it_gives_the_same_bytes_every_time(precision: str) -> None:
    memory, inputs = Memory(3, 2, 64, 5, True).initialise(2), case(2, 8, 16, 64)
    runs = []
    for _ in range(2):
        outputs, state = windows.outputs(memory, precision, *inputs)
        runs.append([outputs.detach(), *state, *slopes(memory, outputs)])
    assert all(torch.equal(first, second) for first, second in zip(*runs, strict=True))
