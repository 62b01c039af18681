"""Products of matrices of which one, the weights, stays the same for many."""

import torch
from torch import Tensor


class Product:
    """x W^T + b. In bfloat16 W is laid out once and not at every call, through the operators that PyTorch's
    compiler uses: the same bits, and the processor's caches keep what else there is.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        """`weight`: [out, in]; `bias`: [out]; of one number format."""
        self.bias = bias
        short = weight.dtype == torch.bfloat16 and weight.device.type == "cpu"
        self.packed = short and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
        self.weight = (
            torch.ops.mkldnn._reorder_linear_weight(weight) if self.packed else weight.t().contiguous()
        )

    def __call__(self, x: Tensor) -> Tensor:
        """[B, out], of x [B, in]."""
        if self.packed:
            product: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", (), "")
            return product
        return x @ self.weight if self.bias is None else torch.addmm(self.bias, x, self.weight)
