"""Weights: drawn from a seed; kept as safetensors, the same bytes whatever the file's name."""

from collections.abc import Mapping
from pathlib import Path

import safetensors
import safetensors.torch
import torch

from wm import files


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


def load(path: Path, shapes: Mapping[str, torch.Size]) -> dict[str, torch.Tensor]:
    """The tensors of a file that must hold exactly these names and shapes, finite. Raises ValueError."""
    try:
        tensors = safetensors.torch.load(path.read_bytes())
    except FileNotFoundError:
        raise ValueError(f"{path} does not exist; run the stage that makes it (dvc repro)") from None
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path} is damaged ({error}); restore it with dvc checkout --force") from None
    for name in shapes.keys() ^ tensors.keys():
        raise ValueError(f"{path} holds other weights than params.yaml describes: {name} differs")
    for name, shape in shapes.items():
        if tensors[name].shape != shape:
            raise ValueError(
                f"{path}: {name} has the shape {tuple(tensors[name].shape)}, but params.yaml asks for "
                f"{tuple(shape)} (another latent_size or hidden_size?); run dvc repro"
            )
        if not torch.isfinite(tensors[name]).all():
            raise ValueError(f"{path}: {name} holds values that are not finite; run dvc repro --force")
    return tensors


def load_into(module: torch.nn.Module, path: Path) -> None:
    """Fill a module with the weights of a file of exactly its names and shapes. Raises ValueError."""
    module.load_state_dict(load(path, {name: t.shape for name, t in module.state_dict().items()}))


def load_rows(path: Path, widths: Mapping[str, int]) -> dict[str, torch.Tensor]:
    """The matrices [rows, width] of a file, any number of rows but the same in all. Raises ValueError."""
    try:
        with safetensors.safe_open(path, "pt") as file:
            rows = {name: file.get_slice(name).get_shape()[0] for name in file.keys()}  # noqa: SIM118
    except (FileNotFoundError, safetensors.SafetensorError):
        rows = {}  # `load` says what is wrong
    count = next(iter(rows.values()), 0)
    return load(path, {name: torch.Size((count, width)) for name, width in widths.items()})
