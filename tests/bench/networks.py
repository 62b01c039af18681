"""Networks as one would write them at first: eager PyTorch modules in float32, one step at a time."""

from functools import partial

import torch
from torch import Tensor, nn

from tests.noise import noise
from wm.memory import Memory
from wm.vision import Vision

LATENT = {"carracing": 32, "takecover": 64}
HIDDEN = {"carracing": 256, "takecover": 512}
ACTIONS = {"carracing": 3, "takecover": 1}
"""The paper's sizes."""


def vision(task: str) -> Vision:
    return Vision(LATENT[task]).initialise(1).measure_ranges([noise(4, 1)]).eval().requires_grad_(False)


def memory(task: str, hidden_size: int | None = None) -> Memory:
    """An M whose dreams hardly ever end."""
    ends = task == "takecover"
    made = Memory(LATENT[task], ACTIONS[task], hidden_size or HIDDEN[task], 5, ends).initialise(1)
    if ends:
        made.head.bias.data[-1] = -20.0
    return made.eval().requires_grad_(False)


class PlainVision(nn.Module):
    """The encoder in PyTorch's default layout."""

    def __init__(self, latent_size: int) -> None:
        super().__init__()
        sizes = [3, 32, 64, 128, 256]
        layers = [nn.Conv2d(i, o, 4, stride=2) for i, o in zip(sizes, sizes[1:], strict=False)]
        self.body = nn.Sequential(*[part for layer in layers for part in (layer, nn.ReLU())], nn.Flatten())
        self.mean, self.logvar = nn.Linear(1024, latent_size), nn.Linear(1024, latent_size)

    def forward(self, frames: Tensor) -> Tensor:
        features = self.body(frames.permute(0, 3, 1, 2).float() / 255)
        mean, logvar = self.mean(features), self.logvar(features)
        return mean + torch.randn_like(mean) * (logvar / 2).exp()


class PlainMemory(nn.Module):
    """LSTM cell and mixture head; sampling with torch.distributions."""

    def __init__(self, latent_size: int, action_size: int, hidden_size: int) -> None:
        super().__init__()
        self.latent_size = latent_size
        self.cell = nn.LSTMCell(latent_size + action_size, hidden_size)
        self.head = nn.Linear(hidden_size, 3 * 5 * latent_size + 1)

    def sample(self, hidden: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        outputs = self.head(hidden)
        logits, means, logstds = outputs[:, :-1].view(len(hidden), 3, self.latent_size, 5).unbind(1)
        chosen = torch.distributions.Categorical(logits=logits / temperature).sample().unsqueeze(-1)
        mean, std = means.gather(-1, chosen).squeeze(-1), logstds.exp().gather(-1, chosen).squeeze(-1)
        return mean + std * temperature**0.5 * torch.randn_like(mean), outputs[:, -1] > 0


def products(rows: int) -> list[tuple[Tensor, Tensor]]:
    """The encoder's convolutions as bare matrices of bytes, for `rows` frames."""
    shapes = [(961, 48, 32), (196, 512, 64), (36, 1024, 128), (4, 2048, 256)]
    draw = partial(torch.randint, -127, 128, dtype=torch.int8)
    return [(draw((rows * pixels, inner)), draw((inner, outer))) for pixels, inner, outer in shapes]
