"""Weights: drawn from a seed; kept as safetensors, the same bytes whatever the file's name."""

from collections.abc import Mapping
from pathlib import Path

import safetensors
import safetensors.torch
import torch

from wm import files
from wm.errors import BadInput


def draw(module: torch.nn.Module, seed: int) -> None:
    """Fill a module from the seed's stream: matrices Glorot uniform, vectors zero (published code)."""
    stream = torch.Generator().manual_seed(seed)
    for tensor in module.parameters():
        if tensor.dim() > 1:
            torch.nn.init.xavier_uniform_(tensor, generator=stream)
        else:
            torch.nn.init.zeros_(tensor)


def save(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Write tensors by name, float32 on the CPU."""
    content = {name: t.detach().to("cpu", torch.float32).contiguous() for name, t in sorted(tensors.items())}
    files.write_bytes(path, safetensors.torch.save(content))


def join(**parts: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors of several parts of a file, each called `PART.NAME`."""
    return {f"{part}.{name}": tensor for part, tensors in parts.items() for name, tensor in tensors.items()}


def load(path: Path, shapes: Mapping[str, torch.Size], part: str = "") -> dict[str, torch.Tensor]:
    """The tensors of a file, or of one part of it, that must hold exactly these names and shapes, finite.

    Raises ValueError.
    """
    try:
        tensors = safetensors.torch.load(path.read_bytes())
    except FileNotFoundError:
        raise BadInput(f"{path} does not exist; run the stage that makes it (dvc repro)") from None
    except safetensors.SafetensorError as error:
        raise BadInput(f"{path} is damaged ({error}); restore it with dvc checkout --force") from None
    start = f"{part}." if part else ""
    tensors = {name.removeprefix(start): t for name, t in tensors.items() if name.startswith(start)}
    for name in sorted(shapes.keys() ^ tensors.keys()):
        raise BadInput(f"{path} holds other weights than params.yaml describes: {name} differs")
    for name, shape in shapes.items():
        if tensors[name].shape != shape:
            raise BadInput(
                f"{path}: {name} has the shape {tuple(tensors[name].shape)}, but params.yaml asks for "
                f"{tuple(shape)} (another latent_size or hidden_size?); run dvc repro"
            )
        if not torch.isfinite(tensors[name]).all():
            raise BadInput(f"{path}: {name} holds values that are not finite; run dvc repro --force")
    return tensors


def load_into(module: torch.nn.Module, path: Path, part: str = "") -> None:
    """Fill a module with the weights of exactly its names and shapes. Raises ValueError as `load` does."""
    module.load_state_dict(load(path, {name: t.shape for name, t in module.state_dict().items()}, part))


def load_rows(path: Path, widths: Mapping[str, int], part: str) -> dict[str, torch.Tensor]:
    """The matrices [rows, width] of a part, any number of rows but the same in all. Raises ValueError."""
    try:
        with safetensors.safe_open(path, "pt") as file:
            count = file.get_slice(f"{part}.{next(iter(widths))}").get_shape()[0]
    except (FileNotFoundError, safetensors.SafetensorError):
        count = 0  # `load` says what is wrong
    return load(path, {name: torch.Size((count, width)) for name, width in widths.items()}, part)
