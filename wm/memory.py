"""M: the mixture density network on an LSTM (paper 2, supplement A.2).

Shapes: B batch, T time, Z latent, A action, H hidden, K mixtures. M reads z_t, a_t and, where episodes end, a
flag that is set on an episode's first step; it predicts z_{t+1} and, there, the logit of the episode's end.
"""

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from wm import mixture, paths, weights
from wm.mixture import Mixture
from wm.settings import MemorySettings
from wm.tasks import Task

PART = "memory"
"""Of a weights file: M itself. Beside it lie the starts of its dreams, where it was trained (`wm.dream`)."""

GATES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")

State = tuple[Tensor, Tensor]
"""h and c, [B, H] each."""


class Prediction(NamedTuple):
    """The next z as a mixture [..., K, Z], and the logit of the episode's end [...] (empty without ends)."""

    z: Mixture
    done: Tensor


class Memory(nn.Module):
    """422,368 parameters for CarRacing and 1,678,785 for Take Cover, PyTorch's second bias (4 H) aside."""

    def __init__(
        self, latent_size: int, action_size: int, hidden_size: int, mixtures: int, ends: bool
    ) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.mixtures = mixtures
        self.ends = ends
        self.lstm = nn.LSTM(latent_size + action_size + int(ends), hidden_size, batch_first=True)
        self.head = nn.Linear(hidden_size, 3 * mixtures * latent_size + int(ends))

    def initialise(self, seed: int) -> "Memory":
        """Draw all weights from the seed's stream (Glorot uniform, zero biases, forget gates open by 1)."""
        weights.draw(self, seed)
        with torch.no_grad():
            self.lstm.get_parameter("bias_ih_l0")[self.hidden_size : 2 * self.hidden_size] = 1.0
        return self

    def initial(self, rows: int) -> State:
        """The state in which every episode starts: zeros [B, H]."""
        zeros = self.head.weight.new_zeros(rows, self.hidden_size)
        return zeros, zeros

    def inputs(self, z: Tensor, actions: Tensor, restarts: Tensor | None) -> Tensor:
        if not self.ends:
            return torch.cat([z, actions], -1)
        assert restarts is not None
        return torch.cat([z, actions, restarts.unsqueeze(-1).to(z.dtype)], -1)

    def split(self, outputs: Tensor) -> Prediction:
        """The prediction that the head's outputs [..., 3 * K * Z (+ 1)] stand for."""
        latent = outputs.shape[-1] - int(self.ends)
        return Prediction(
            mixture.split(outputs[..., :latent], self.mixtures), outputs[..., latent:].squeeze(-1)
        )

    def forward(self, z: Tensor, actions: Tensor, restarts: Tensor, state: State) -> tuple[Tensor, State]:
        """The head's outputs [B, T, 3 * K * Z (+ 1)] along windows, to be `split`, and the state after them.

        Windows are z [B, T, Z], actions [B, T, A] and restarts bool [B, T]; `state` is that before. It is
        zeroed where `restarts` is set, so a window may cross any number of episodes' ends.
        """
        x = self.inputs(z, actions, restarts)
        borders = sorted({0, x.shape[1], *restarts.any(0).nonzero().flatten().tolist()})
        hidden = []
        for start, stop in zip(borders, borders[1:], strict=False):
            going = (~restarts[:, start, None]).to(x.dtype)
            h, c = (s * going for s in state)
            outputs, (h, c) = self.lstm(x[:, start:stop], (h[None], c[None]))
            hidden.append(outputs)
            state = (h[0], c[0])
        return self.head(torch.cat(hidden, 1)), state


def make_memory(task: Task, latent_size: int, settings: MemorySettings) -> Memory:
    return Memory(latent_size, task.action_size, settings.hidden_size, settings.mixtures, task.ends)


def load_memory(
    task: Task,
    latent_size: int,
    settings: MemorySettings,
    kind: str = "trained",
    root: Path = paths.DATA,
) -> Memory:
    """A task's M, `trained` or `untrained`, ready to act. Raises ValueError for weights of other sizes."""
    memory = make_memory(task, latent_size, settings)
    weights.load_into(memory, paths.memory(task.name, kind, root) / paths.WEIGHTS, PART)
    return memory.eval().requires_grad_(False)
