"""A product whose weights are laid out once is the plain one, bit by bit."""

import pytest
import torch

from tests.wm.test_cell import normal
from wm.devices import DTYPES
from wm.products import Product


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("rows", [1, 5, 32, 129])
@pytest.mark.parametrize(("width", "outputs"), [(292, 1024), (1024, 256), (21, 61)])
@pytest.mark.parametrize("precision", DTYPES)
def test_a_product_has_the_bits_of_the_plain_one(
    precision: str, rows: int, width: int, outputs: int, biased: bool
) -> None:
    dtype = DTYPES[precision]
    x, weight = normal(1, rows, width).to(dtype), normal(2, outputs, width).to(dtype)
    bias = normal(3, outputs).to(dtype) if biased else None
    plain = weight.t().contiguous()
    expected = x @ plain if bias is None else torch.addmm(bias, x, plain)
    assert torch.equal(Product(weight, bias)(x), expected)
