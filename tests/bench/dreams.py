"""Steps of Take Cover's dream on one core, a block of the population at a time."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import nn

from tests.bench.measure import Row, Work, need_cuda, repeated
from tests.bench.networks import ACTIONS, HIDDEN, LATENT, PlainMemory, memory
from wm.controller import Controllers, ControllerShape
from wm.dream import Dream, Starts
from wm.playing import Reader
from wm.tasks import load_task

TASK = "takecover"
BLOCK = 128
"""Rows of a block; a generation of 64 x 16 episodes is eight of them."""
Z, H, A = LATENT[TASK], HIDDEN[TASK], ACTIONS[TASK]
SHAPE = ControllerShape(Z + 2 * H, 0, A, False)


@torch.inference_mode()
def dreaming(device: str, rows: int) -> Iterator[None]:
    """Ours, C included; rows whose time is up begin anew."""
    stream = torch.Generator().manual_seed(1)
    starts = Starts(torch.randn(50, Z, generator=stream), torch.full((50, Z), -2.0))
    dream = Dream(load_task(TASK), memory(TASK).to(device), starts, 1.15, "bfloat16")
    draw = np.random.default_rng(1)
    controllers = Controllers(SHAPE, 0.1 * draw.standard_normal((rows, SHAPE.size)), dream.device)
    reader = Reader(("z", "c", "h"), SHAPE)
    features = dream.reset(range(rows))
    while True:
        raw = controllers.act(reader.inputs(features))
        features, _, dones = dream.step(dream.task.squash(raw.cpu().numpy()))
        if dones.any():
            features = dream.restart(dones, range(int(dones.sum())))
        yield


@torch.no_grad()
def plain(device: str) -> Iterator[None]:
    """The reference: one dream, eager modules in float32."""
    m, c = PlainMemory(Z, A, H).eval().to(device), nn.Linear(Z + 2 * H, A, bias=False).to(device)
    squash = load_task(TASK).squash
    z, state = torch.randn(1, Z, device=device), (torch.zeros(1, H).to(device), torch.zeros(1, H).to(device))
    while True:
        action = torch.from_numpy(squash(c(torch.cat([z, *state], 1)).cpu().numpy())).to(device)
        state = m.cell(torch.cat([z, action], 1), state)
        z, _ = m.sample(state[0], 1.15)
        yield


@torch.inference_mode()
def products(device: str, rows: int) -> Iterator[None]:
    """The limit: the LSTM's and the head's products of matrices, in the faster format."""
    pairs = [
        (torch.randn(rows, inner).bfloat16().to(device), torch.randn(inner, outer).bfloat16().to(device))
        for inner, outer in ((Z + A + 1 + H, 4 * H), (H, 15 * Z + 1))
    ]
    while True:
        for left, right in pairs:
            torch.mm(left, right)
        yield


def work(steps: Iterator[None], units: int) -> Callable[[], Work]:
    return lambda: repeated(steps, 10, units)


def dream(device: str, rows: int, unit: str) -> Row:
    return Row(
        unit,
        ours=work(dreaming(device, rows), rows),
        reference=work(plain(device), 1),
        limit=work(products(device, rows), rows),
    )


def on_cuda() -> Row:
    """The whole generation of 64 x 16 episodes in one batch."""
    need_cuda()
    return dream("cuda", 1024, "steps/s, one GPU")


ROWS: dict[str, Callable[[], Row]] = {
    "takecover-dream": lambda: dream("cpu", BLOCK, "steps/s, one core"),
    "takecover-dream-cuda": on_cuda,
}
