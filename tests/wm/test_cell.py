"""M as it acts is the LSTM that was trained, step by step, in either number format."""

import pytest
import torch

from tests.wm.test_encoder import BOUNDS, close
from wm import mixture
from wm.cell import Cell, next_state, next_z
from wm.devices import DTYPES
from wm.memory import Memory


@pytest.mark.parametrize("precision", BOUNDS)
@pytest.mark.parametrize("ends", [True, False])
def test_the_cell_is_the_lstm_step_by_step(precision: str, ends: bool) -> None:
    memory = Memory(6, 3, 16, 5, ends).initialise(1).requires_grad_(False)
    stream = torch.Generator().manual_seed(2)
    z, actions = torch.randn(4, 12, 6, generator=stream), torch.randn(4, 12, 3, generator=stream)
    restarts = torch.zeros(4, 12, dtype=torch.bool)
    restarts[:, 0] = True
    outputs, last = memory(z, actions, restarts, memory.initial(4))
    expected = memory.split(outputs)
    cell, state = Cell(memory, precision), memory.initial(4)
    for step in range(12):
        state = cell.step(z[:, step], actions[:, step], restarts[:, step], state)
        found = cell.predict(state[0])
        for name in ("logits", "means", "logstds"):
            assert close(getattr(found.z, name), getattr(expected.z, name)[:, step], precision)
        assert found.done.shape == ((4,) if ends else (4, 0))
    assert close(state[0], last[0], precision) and close(state[1], last[1], precision)


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("precision", DTYPES)
@pytest.mark.parametrize(("rows", "size", "spread"), [(0, 4, 1), (1, 1, 1), (3, 33, 5), (7, 512, 100)])
def test_the_gates_are_those_of_torch(precision: str, rows: int, size: int, spread: float) -> None:
    products, before = spread * normal(1, rows, 4 * size).to(DTYPES[precision]), normal(2, rows, size)
    h, c = next_state(products, before)
    i, f, g, o = products.double().chunk(4, 1)
    expected = f.sigmoid() * before + i.sigmoid() * g.tanh()
    torch.testing.assert_close(c.double(), expected, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(h.double(), o.sigmoid() * expected.tanh(), atol=1e-6, rtol=1e-6)


def numbers_of(rows: int, size: int) -> torch.Tensor:
    uniform = torch.rand(rows, size, generator=torch.Generator().manual_seed(3))
    return torch.stack([uniform, normal(4, rows, size)], 1)


@pytest.mark.parametrize("precision", DTYPES)
@pytest.mark.parametrize("temperature", [1e-12, 0.1, 1.0, 1.3])
@pytest.mark.parametrize(
    ("rows", "k", "size", "spread"), [(0, 2, 3, 1), (5, 1, 1, 1), (9, 5, 33, 1), (40, 3, 64, 20)]
)
def test_a_draw_is_that_of_the_mixture(
    precision: str, temperature: float, rows: int, k: int, size: int, spread: float
) -> None:
    outputs, numbers = (
        spread * normal(5, rows, 3 * k * size + 1).to(DTYPES[precision]),
        numbers_of(rows, size),
    )
    found = next_z(outputs, k, temperature, numbers)
    wide = mixture.split(outputs[:, :-1].double(), k)
    expected = mixture.sample(wide, temperature, *numbers.double().unbind(1))
    assert found.dtype == torch.float32
    wrong = ((found - expected).abs() > 1e-5 * (1 + expected.abs())).sum()
    assert wrong <= rows * size / 1000, "but for a mark within rounding of a bound"


def test_a_draw_does_not_depend_on_the_other_rows_or_on_the_numbers_layout() -> None:
    outputs, numbers = normal(6, 8, 3 * 5 * 16), numbers_of(8, 16)
    whole = next_z(outputs, 5, 1.1, numbers)
    strided = torch.stack([numbers, numbers], 3).select(3, 1)
    assert torch.equal(next_z(outputs, 5, 1.1, strided), whole)
    assert torch.equal(next_z(outputs[3:5], 5, 1.1, numbers[3:5]), whole[3:5])


def test_what_is_not_a_number_stays_visible() -> None:
    products = torch.zeros(2, 4 * 3)
    products[0, 4] = torch.nan
    h, c = next_state(products, torch.zeros(2, 3))
    assert h.isnan().nonzero().tolist() == c.isnan().nonzero().tolist() == [[0, 1]]


@pytest.mark.parametrize("ends", [True, False])
def test_the_plain_formulas_are_the_compiled_ones(ends: bool) -> None:
    memory = Memory(6, 3, 16, 5, ends).initialise(1).requires_grad_(False)
    plain, fast = Cell(memory, "float32"), Cell(memory, "float32")
    plain.compiled = False
    inputs = normal(1, 4, 6), normal(2, 4, 3), torch.tensor([True, False, True, False])
    state = normal(3, 4, 16), normal(4, 4, 16)
    for found, expected in zip(fast.step(*inputs, state), plain.step(*inputs, state), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)
    drawn, reference = (cell.draw(state[0], 0.8, numbers_of(4, 6)) for cell in (fast, plain))
    for found, expected in zip(drawn, reference, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
