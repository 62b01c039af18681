"""Training V and M from Zarr stores on two cores: beside eager float32, and beside one batch in memory."""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tests.bench.measure import Row, Work, need_cuda, repeated
from tests.bench.networks import ACTIONS, HIDDEN, LATENT
from wm import mixture
from wm.batches import FrameBatches, LatentStreams, hold
from wm.episodes import LATENTS, ROLLOUTS, Writer, open_store
from wm.memory import Memory
from wm.packing import pack
from wm.preset import read_preset
from wm.reading import Where
from wm.settings import MemorySettings, TaskSettings, VisionSettings, read_task
from wm.stages import memory as memory_stage
from wm.stages import vision as vision_stage
from wm.tasks import load_task
from wm.vision import Vision

TASK = "takecover"
EPISODES, LENGTH = 64, 300


def settings() -> TaskSettings:
    """Those of laptop, M as large as the paper's."""
    values: Any = read_preset("laptop")[TASK]
    values["memory"]["hidden_size"] = HIDDEN[TASK]
    return read_task(Where("laptop"), TASK, values)


class Stores:
    """Rollouts and latents in a temporary folder: real frames' size, smooth enough to compress alike."""

    def __init__(self) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="wm-bench-")
        root = Path(self.folder.name) / TASK
        steps, draw = EPISODES * LENGTH, np.random.default_rng(1)
        ends = LENGTH * np.arange(1, EPISODES + 1)
        rest = {
            "actions": draw.integers(-1, 2, (steps, ACTIONS[TASK])).astype(np.float32),
            "terminations": np.isin(np.arange(steps), ends - 1),
            "ends": ends,
        }
        coarse = draw.integers(0, 256, (steps, 8, 8, 3), dtype=np.uint8)
        frames = coarse.repeat(8, 1).repeat(8, 2)
        chunks = [chunk for start in ends - LENGTH for chunk in pack(frames[start : start + LENGTH])]
        self.rollouts = write(root / "rollouts" / "0", ROLLOUTS, rest, chunks, rewards=np.ones(steps))
        shape = (steps, LATENT[TASK])
        means = draw.standard_normal(shape, np.float32)
        self.latents = write(
            root / "latents" / "0", LATENTS, rest, [], means=means, logvars=np.full(shape, -2, np.float32)
        )


def write(
    path: Path, kind: str, rest: Mapping[str, np.ndarray], frames: Sequence[bytes], **arrays: np.ndarray
) -> Path:
    writer = Writer(path, kind)
    if frames:
        writer.append_frames(frames)
    writer.append({**rest, **arrays})
    writer.finish({"task": TASK, "part": 0, "attempts": EPISODES})
    return path


@contextmanager
def stores(made: list[Stores]) -> Iterator[None]:
    made.append(Stores())
    try:
        yield
    finally:
        made.pop().folder.cleanup()


def descend(module: nn.Module, losses: Callable[[int], Tensor], units: int, fused: bool = True) -> Work:
    """Steps of Adam on `losses(step)`."""
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-4, fused=fused)

    def steps() -> Iterator[None]:
        step = 0
        while True:
            optimizer.zero_grad()
            losses(step).backward()
            optimizer.step()
            step += 1
            yield

    return repeated(steps(), 1, units)


def vision(device: str, unit: str) -> Row:
    made: list[Stores] = []
    chosen: VisionSettings = settings().vision
    size = chosen.batch_size

    def ours(fixed: bool) -> Work:
        network = Vision(LATENT[TASK]).initialise(1).to(device)
        batches = FrameBatches([open_store(made[0].rollouts)], size, 1, held_out=False)
        first, noise = batches.batch(0), torch.Generator(device).manual_seed(1)

        def losses(step: int) -> Tensor:
            frames = first if fixed else batches.batch(step)
            return vision_stage.losses_of(network, chosen, frames, noise)["loss"]

        return descend(network, losses, size)

    return Row(
        unit,
        ours=lambda: ours(fixed=False),
        reference=lambda: plain_vision(size, device),
        limit=lambda: ours(fixed=True),
        threads=2,
        around=lambda: stores(made),
    )


def plain_vision(size: int, device: str) -> Work:
    """The same network and loss in float32 and PyTorch's default layout, one tensor in memory."""
    latent, floor = LATENT[TASK], 0.5 * LATENT[TASK]
    sizes = [3, 32, 64, 128, 256]
    down = [nn.Conv2d(i, o, 4, stride=2) for i, o in zip(sizes, sizes[1:], strict=False)]
    encoder = nn.Sequential(
        *[part for c in down for part in (c, nn.ReLU())], nn.Flatten(), nn.Linear(1024, 2 * latent)
    )
    up = [(1024, 128, 5), (128, 64, 5), (64, 32, 6), (32, 3, 6)]
    layers = [nn.ConvTranspose2d(i, o, k, stride=2) for i, o, k in up]
    decoder = nn.Sequential(
        nn.Linear(latent, 1024),
        nn.Unflatten(1, (1024, 1, 1)),
        *[part for c in layers for part in (c, nn.ReLU())][:-1],
        nn.Sigmoid(),
    )
    frames = torch.rand(size, 3, 64, 64, device=device)

    def losses(_: int) -> Tensor:
        mean, logvar = encoder(frames).chunk(2, 1)
        pictures = decoder(mean + torch.randn_like(mean) * (logvar / 2).exp())
        nats = -0.5 * (1 + logvar - mean.square() - logvar.exp()).sum(1)
        return ((pictures - frames).square().sum((1, 2, 3)) + nats.clamp(min=floor)).mean()

    return descend(nn.ModuleList([encoder, decoder]).to(device), losses, size, fused=False)


def memory(device: str, unit: str, streamed: bool = False) -> Row:
    """`streamed`: from the disk, as with more latents than are held in memory."""
    made: list[Stores] = []
    chosen: MemorySettings = settings().memory
    rows, length = chosen.batch_size, chosen.sequence_length

    def ours(fixed: bool) -> Work:
        network: Memory = Memory(LATENT[TASK], ACTIONS[TASK], HIDDEN[TASK], 5, True).initialise(1).to(device)
        opened = [open_store(made[0].latents)]
        held = [] if streamed else hold(opened)
        streams = LatentStreams(opened, rows, length, 1, held_out=False, held=held)
        first, state = streams.batch(0), [network.initial(rows)]
        noise = torch.Generator(device).manual_seed(1)

        def losses(step: int) -> Tensor:
            batch = first if fixed else streams.batch(step)
            found, (h, c) = memory_stage.losses_of(network, chosen, batch, state[0], noise)
            state[0] = h.detach(), c.detach()
            return found["loss"]

        return descend(network, losses, rows * length)

    return Row(
        unit,
        ours=lambda: ours(fixed=False),
        reference=lambda: plain_memory(rows, length, device),
        limit=lambda: ours(fixed=True),
        threads=2,
        around=lambda: stores(made),
    )


def plain_memory(rows: int, length: int, device: str) -> Work:
    """nn.LSTM and the mixture's loss in float32 on one batch in memory, whole windows."""
    latent, actions, task = LATENT[TASK], ACTIONS[TASK], load_task(TASK)
    assert task.ends
    lstm = nn.LSTM(latent + actions + 1, HIDDEN[TASK], batch_first=True)
    head = nn.Linear(HIDDEN[TASK], 15 * latent + 1)
    x = torch.randn(rows, length, latent + actions + 1, device=device)
    target, ends = torch.randn(rows, length, latent).to(device), torch.zeros(rows, length).to(device)

    def losses(_: int) -> Tensor:
        outputs = head(lstm(x)[0])
        nll = -mixture.log_prob(mixture.split(outputs[..., :-1], 5), target).mean()
        return nll + nn.functional.binary_cross_entropy_with_logits(outputs[..., -1], ends)

    return descend(nn.ModuleList([lstm, head]).to(device), losses, rows * length, fused=False)


def on_cuda(row: Callable[[str, str], Row], unit: str) -> Row:
    need_cuda()
    return row("cuda", unit)


ROWS: dict[str, Callable[[], Row]] = {
    "vision-training": lambda: vision("cpu", "frames/s, two cores"),
    "memory-training": lambda: memory("cpu", "steps/s, two cores"),
    "memory-training-streamed": lambda: memory("cpu", "steps/s, two cores", streamed=True),
    "vision-training-cuda": lambda: on_cuda(vision, "frames/s, one GPU"),
    "memory-training-cuda": lambda: on_cuda(memory, "steps/s, one GPU"),
}
