"""The compiled elementary functions against NumPy in float64, over the whole range of float32."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from wm import kernels


def logistic(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def mapped(function: Callable, values: np.ndarray) -> np.ndarray:
    return np.array([function(value) for value in values], np.float32)


def ulps(found: np.ndarray, expected: np.ndarray) -> float:
    return float((np.abs(found - expected) / np.spacing(np.abs(expected).astype(np.float32))).max())


CASES = [
    (kernels.exp, np.exp, np.linspace(-87.2, 88.3, 20_001), 1.5),
    (kernels.log, np.log, np.exp(np.linspace(-87, 88, 20_001)), 1.5),
    (kernels.log, np.log, np.linspace(0.5, 8, 20_001), 1.5),
    (kernels.sigmoid, logistic, np.linspace(-80, 80, 20_001), 4),
    (kernels.tanh, np.tanh, np.linspace(-12, 12, 20_001), 4),
    (kernels.tanh, np.tanh, np.geomspace(1e-20, 1, 20_001), 4),
]


@pytest.mark.parametrize(("function", "reference", "values", "bound"), CASES)
def test_they_are_exact_to_a_few_units_in_the_last_place(
    function: Callable, reference: Callable, values: np.ndarray, bound: float
) -> None:
    values = values.astype(np.float32)
    assert ulps(mapped(function, values), reference(values.astype(np.float64))) < bound


@pytest.mark.parametrize(
    ("function", "values", "expected"),
    [
        (kernels.exp, [-np.inf, -1e30, -100, 0, 89, 1e30, np.inf], [0, 0, 0, 1, np.inf, np.inf, np.inf]),
        (kernels.log, [0, 1, np.inf], [-np.inf, 0, np.inf]),
        (kernels.sigmoid, [-np.inf, -1e30, 0, 1e30, np.inf], [0, 0, 0.5, 1, 1]),
        (kernels.tanh, [-np.inf, -1e30, 0, 1e30, np.inf], [-1, -1, 0, 1, 1]),
    ],
)
def test_they_keep_their_limits_and_what_is_not_a_number(
    function: Callable, values: list[float], expected: list[float]
) -> None:
    found = mapped(function, np.array([*values, np.nan], np.float32))
    np.testing.assert_array_equal(found, np.array([*expected, np.nan], np.float32))


def test_bfloat16_comes_and_goes_as_pytorch_rounds() -> None:
    bits = np.random.default_rng(1).integers(0, 2**32, 50_000, dtype=np.uint32)
    values = np.concatenate(
        [bits.view(np.float32), np.array([0.0, -0.0, np.inf, -np.inf, np.nan], np.float32)]
    )
    rounded, back = torch.empty(len(values), dtype=torch.bfloat16), np.empty_like(values)
    kernels.store(values, kernels.array(rounded))
    expected = torch.from_numpy(values).bfloat16()
    assert torch.equal(rounded.isnan(), expected.isnan())
    assert torch.equal(rounded.nan_to_num(), expected.nan_to_num())
    kernels.load(kernels.array(rounded), back)
    np.testing.assert_array_equal(back, rounded.float().numpy())
