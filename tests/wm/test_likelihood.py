"""The compiled likelihood and its gradient against PyTorch's own derivative of the formula in float64."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from wm import likelihood, mixture
from wm.devices import DTYPES
from wm.memory import Memory


def memory_of(k: int, size: int, ends: bool) -> Memory:
    return Memory(size, 1, 2, k, ends)


def case(
    seed: int, rows: int, steps: int, width: int, size: int, spread: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Outputs, z and valid."""
    stream = torch.Generator().manual_seed(seed)
    outputs = spread * torch.randn(rows, steps, width, generator=stream)
    valid = torch.rand(rows, steps, generator=stream) < 0.8
    valid[:1, :1] = True
    return outputs, torch.randn(rows, steps, size, generator=stream), valid


def found(memory: Memory, outputs: Tensor, z: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """The loss (with a term in the ends) and the gradient."""
    leaf = outputs.detach().requires_grad_()
    nll, ends = likelihood.measure(memory, leaf, z, valid)
    (nll + ends.square().sum()).backward()
    assert leaf.grad is not None and leaf.grad.dtype == outputs.dtype and nll.dtype == torch.float32
    return nll.detach(), leaf.grad


def reference(memory: Memory, outputs: Tensor, z: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    leaf = outputs.double().requires_grad_()
    expected = memory.split(leaf)
    nll = -mixture.log_prob(expected.z, z.double())[valid].mean()
    (nll + expected.done.square().sum()).backward()
    assert leaf.grad is not None
    return nll.detach(), leaf.grad


@settings(deadline=None, max_examples=40)
@given(
    st.integers(0, 10**6),
    st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 7), st.integers(1, 40)),
    st.booleans(),
    st.floats(0.1, 4),
    st.sampled_from(sorted(DTYPES)),
)
def test_value_and_gradient_are_those_of_the_formula(
    seed: int, sizes: tuple[int, int, int, int], ends: bool, spread: float, precision: str
) -> None:
    rows, steps, k, size = sizes
    memory = memory_of(k, size, ends)
    outputs, z, valid = case(seed, rows, steps, 3 * k * size + int(ends), size, spread)
    outputs = outputs.to(DTYPES[precision])
    (nll, gradient), (expected, slope) = (f(memory, outputs, z, valid) for f in (found, reference))
    torch.testing.assert_close(nll.double(), expected, atol=1e-5, rtol=1e-5)
    rounding = 2**-8 if precision == "bfloat16" else 2e-5
    torch.testing.assert_close(gradient.double(), slope, atol=1e-5 * float(slope.abs().max()), rtol=rounding)


@pytest.mark.parametrize(
    ("logits", "logstds", "away"), [(1e4, 0, 1), (0, -30, 0), (0, 30, 1), (50, -5, 100), (0, 0, 1e6)]
)
def test_extremes_are_as_finite_as_the_formula(logits: float, logstds: float, away: float) -> None:
    memory, (outputs, z, valid) = memory_of(5, 16, False), case(1, 2, 3, 3 * 5 * 16, 16, 1.0)
    outputs[..., :80] *= logits
    outputs[..., 160:] += logstds
    z = outputs[..., 80:96] if away == 0 else away * z
    (nll, gradient), (expected, slope) = (f(memory, outputs, z, valid) for f in (found, reference))
    assert torch.isfinite(nll) and torch.isfinite(gradient).all()
    cancelled = 1e-7 * float(outputs.abs().max())
    torch.testing.assert_close(nll.double(), expected, atol=1e-5 + cancelled, rtol=1e-5)
    torch.testing.assert_close(gradient.double(), slope, atol=1e-4 * float(slope.abs().max()), rtol=1e-4)


@pytest.mark.parametrize(("bad", "at"), [(torch.nan, 1), (torch.nan, 13), (torch.nan, 30), (torch.inf, 1)])
def test_what_is_not_finite_stays_visible(bad: float, at: int) -> None:
    memory, (outputs, z, valid) = memory_of(3, 4, True), case(2, 2, 3, 37, 4, 1.0)
    outputs[0, 0, at] = bad
    nll, gradient = found(memory, outputs, z, valid)
    assert not torch.isfinite(nll) and not torch.isfinite(gradient).all()


def test_steps_that_are_not_valid_have_no_gradient() -> None:
    memory, (outputs, z, valid) = memory_of(3, 4, False), case(3, 2, 6, 36, 4, 1.0)
    _, gradient = found(memory, outputs, z, valid)
    assert (gradient[~valid] == 0).all() and (gradient[valid] != 0).any()


def test_without_a_valid_step_it_is_not_a_number() -> None:
    memory, (outputs, z, valid) = memory_of(3, 4, False), case(3, 2, 6, 36, 4, 1.0)
    assert likelihood.measure(memory, outputs, z, valid & False)[0].isnan()


def test_the_gradient_is_scaled_by_what_follows() -> None:
    memory, (outputs, z, valid) = memory_of(3, 4, False), case(4, 2, 6, 36, 4, 1.0)
    _, once = found(memory, outputs, z, valid)
    leaf = outputs.requires_grad_()
    (3 * likelihood.measure(memory, leaf, z, valid)[0]).backward()
    torch.testing.assert_close(leaf.grad, 3 * once)


def test_it_does_not_depend_on_the_number_of_threads() -> None:
    memory, (outputs, z, valid) = memory_of(5, 32, True), case(5, 16, 32, 481, 32, 1.0)
    before, results = torch.get_num_threads(), []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        results.append(found(memory, outputs.bfloat16(), z, valid))
    torch.set_num_threads(before)
    assert torch.equal(results[0][0], results[1][0]) and torch.equal(results[0][1], results[1][1])
