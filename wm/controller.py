"""C: the small controller that evolution finds (paper section 2.3; published code for its variants).

One class for every variant: what it reads, a hidden layer or none, biases or none. Its parameters are one
flat vector, and a batch may hold another vector in every row, so that all candidates of a generation act
together.

Shapes: B rows, I inputs, S hidden size, A outputs, n parameters.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from wm import paths, weights

ORDER = ("z", "c", "h")
"""How features are joined, whatever the order in which `reads` lists them (published code: z, c, h)."""


def input_size(reads: Sequence[str], latent_size: int, memory_size: int) -> int:
    """How many numbers C reads: z [latent_size], h and c [memory_size] each."""
    return sum(latent_size if name == "z" else memory_size for name in reads)


@dataclass(frozen=True)
class ControllerShape:
    """The shape of C: 867, 1,443 and 1,088 parameters for the paper's three."""

    inputs: int
    hidden_size: int  # 0: linear
    outputs: int
    bias: bool

    @property
    def shapes(self) -> dict[str, torch.Size]:
        """The tensors in the order in which they stand in a flat vector."""
        layers = {"output": (self.outputs, self.hidden_size or self.inputs)}
        if self.hidden_size:
            layers = {"hidden": (self.hidden_size, self.inputs), **layers}
        shapes = {}
        for name, (rows, columns) in layers.items():
            shapes[f"{name}.weight"] = torch.Size((rows, columns))
            if self.bias:
                shapes[f"{name}.bias"] = torch.Size((rows,))
        return shapes

    @property
    def size(self) -> int:
        """n, the number of parameters."""
        return sum(shape.numel() for shape in self.shapes.values())

    def unflatten(self, flat: Tensor) -> dict[str, Tensor]:
        """Tensors [..., *shape] by name from flat vectors [..., n] (views where possible)."""
        assert flat.shape[-1] == self.size, (flat.shape, self.size)
        parts = torch.split(flat, [shape.numel() for shape in self.shapes.values()], dim=-1)
        return {
            name: part.reshape(*flat.shape[:-1], *shape)
            for (name, shape), part in zip(self.shapes.items(), parts, strict=True)
        }

    def flatten(self, tensors: dict[str, Tensor]) -> Tensor:
        """Flat vectors [..., n] from tensors [..., *shape] by name."""
        leading = {name: t.shape[: t.dim() - len(self.shapes[name])] for name, t in tensors.items()}
        return torch.cat([tensors[name].reshape(*leading[name], -1) for name in self.shapes], dim=-1)


class Controllers:
    """C in every row of a batch, each row with its own parameters."""

    def __init__(self, shape: ControllerShape, parameters: np.ndarray, device: torch.device) -> None:
        """`parameters`: float [B, n]."""
        flat = torch.from_numpy(np.asarray(parameters, np.float32)).to(device)
        self.shape = shape
        self.tensors = shape.unflatten(flat)

    def act(self, inputs: Tensor) -> Tensor:
        """Raw outputs, float32 [B, A], for inputs float32 [B, I]; the task squashes them into actions."""
        if self.shape.hidden_size:
            inputs = torch.tanh(self._layer("hidden", inputs))
        return self._layer("output", inputs)

    def _layer(self, name: str, inputs: Tensor) -> Tensor:
        weights = self.tensors[f"{name}.weight"].transpose(1, 2)
        outputs = torch.bmm(inputs.unsqueeze(1), weights).squeeze(1)  # with these two exchanged it is slow
        return outputs + self.tensors[f"{name}.bias"] if self.shape.bias else outputs

    def keep(self, live: np.ndarray) -> None:
        """Go on with the rows `live`, bool [B]."""
        kept = torch.from_numpy(np.flatnonzero(live))
        self.tensors = {name: t[kept.to(t.device)] for name, t in self.tensors.items()}


def save_controller(path: Path, shape: ControllerShape, parameters: np.ndarray) -> None:
    """Write flat parameters [n] as named tensors."""
    weights.save(path, shape.unflatten(torch.from_numpy(np.asarray(parameters, np.float32))))


def load_controller(agent: str, shape: ControllerShape, root: Path = paths.DATA) -> np.ndarray:
    """The evolved parameters of an agent, float32 [n].

    Raises ValueError where the file is missing, damaged or of another shape (another latent size, say).
    """
    return shape.flatten(weights.load(paths.controller(agent, root) / paths.WEIGHTS, shape.shapes)).numpy()
