"""Where networks compute: `WM_DEVICE` (auto, cpu, cuda), and the number format."""

import contextlib
import os

import torch

from wm.errors import BadInput
from wm.reading import nearest

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def device() -> torch.device:
    """The device that `WM_DEVICE` names; auto takes CUDA where there is one. Raises ValueError."""
    name = os.environ.get("WM_DEVICE", "auto")
    if name not in ("auto", "cpu", "cuda"):
        raise BadInput(f"WM_DEVICE is {name!r}; {nearest(name, ('auto', 'cpu', 'cuda'))}")
    if name == "cuda" and not torch.cuda.is_available():
        raise BadInput("WM_DEVICE is cuda, but PyTorch finds no CUDA device; allowed here: auto, cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def dtype(precision: str) -> torch.dtype:
    """The format of products; int8 is that of V's convolutions alone, what is beside them is bfloat16."""
    return DTYPES["bfloat16" if precision == "int8" else precision]


def multiplies_bytes(where: torch.device) -> bool:
    """Whether products of bytes are fast and exact there: on processors with VNNI (others saturate)."""
    able = torch.cpu.get_capabilities()
    return where.type == "cpu" and bool(able.get("avx512_vnni") or able.get("avx_vnni"))


def autocast(where: torch.device, precision: str) -> contextlib.AbstractContextManager[None]:
    """Matrix products in `precision` (float32 or bfloat16), sums and losses in float32."""
    if precision == "float32":
        return contextlib.nullcontext()
    return torch.autocast(where.type, DTYPES[precision])
