"""The fitting loop that V and M share: exact to resume, its batches and noise functions of the step alone."""

import os
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from wm import progress, seeds
from wm.checkpoint import Checkpoint
from wm.errors import BadInput

Losses = dict[str, Tensor]
"""Scalars by name; `loss` is the one that is minimised."""

EVALUATIONS = 20
"""Points of a loss curve."""


def prepare(threads: int) -> None:
    """Fix what a result could depend on: the number of threads, and CUDA's algorithms."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def noise_source(device: torch.device, seed: int, name: str, step: int) -> torch.Generator:
    """The generator of one step's noise."""
    return torch.Generator(device).manual_seed(seeds.integer(seed, name, step))


def rate(first: float, last: float, step: int, steps: int) -> float:
    """The learning rate of a step: exponential decay from `first` to `last`."""
    return first * (last / first) ** (step / steps)


def averages(rows: Iterable[Losses]) -> dict[str, float]:
    """The mean of each loss over batches."""
    listed = list(rows)
    return {name: sum(float(row[name]) for row in listed) / len(listed) for name in listed[0]}


class Fit:
    """Gradient descent with Adam on `losses(step)`, resumable after any step.

    `losses(step)` gives the training losses; `judge()` the held-out ones; `carried` holds tensors that pass
    from step to step (M's state). `curve` grows by a row {step, train_*, held_out_*} at each evaluation.
    """

    def __init__(
        self,
        title: str,
        module: nn.Module,
        losses: Callable[[int], Losses],
        judge: Callable[[], dict[str, float]],
        checkpoint: Checkpoint,
        carried: dict[str, Tensor] | None = None,
    ) -> None:
        self.title = title
        self.module = module
        self.losses = losses
        self.judge = judge
        self.checkpoint = checkpoint
        self.carried = carried if carried is not None else {}
        self.curve: list[dict[str, float]] = []
        self.sums: dict[str, Tensor] = {}
        self.since = 0  # steps summed up in `sums`
        self.step = 0

    def run(self, steps: int, first_rate: float, last_rate: float, clip: float | None = None) -> None:
        """Take the steps that are left. `clip` bounds each gradient component's size."""
        optimizer = torch.optim.Adam(self.module.parameters(), lr=first_rate, fused=True)
        state = self.checkpoint.load()
        if state is not None:
            self.restore(state, optimizer)
        borders = {round(steps * (i + 1) / EVALUATIONS) for i in range(EVALUATIONS)}
        with progress.bar(self.title, steps, "steps", self.step) as bar:
            while self.step < steps:
                for group in optimizer.param_groups:
                    group["lr"] = rate(first_rate, last_rate, self.step, steps)
                self.take(optimizer, clip)
                if self.step in borders:
                    self.evaluate()
                    bar.set_postfix({k: f"{v:.3g}" for k, v in self.curve[-1].items() if k.endswith("loss")})
                if self.checkpoint.due or self.step == steps:
                    self.checkpoint.save(self.state(optimizer))
                bar.update()

    def take(self, optimizer: torch.optim.Optimizer, clip: float | None) -> None:
        losses = self.losses(self.step)
        optimizer.zero_grad()
        losses["loss"].backward()
        if clip is not None:
            nn.utils.clip_grad_value_(self.module.parameters(), clip)
        optimizer.step()
        for name, value in losses.items():
            self.sums[name] = self.sums.get(name, torch.zeros_like(value)) + value.detach()
        self.since += 1
        self.step += 1

    def evaluate(self) -> None:
        self.module.eval()
        with torch.no_grad():
            judged = self.judge()
        self.module.train()
        means = {f"train_{name}": float(value) / self.since for name, value in self.sums.items()}
        if not all(map(torch.isfinite, self.sums.values())):
            raise BadInput(
                f"{self.title}: the loss is no longer finite at step {self.step}; lower its learning_rate"
            )
        self.curve.append({"step": self.step, **means, **{f"held_out_{k}": v for k, v in judged.items()}})
        self.sums, self.since = {}, 0

    def state(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        return {
            "step": self.step,
            "module": self.module.state_dict(),
            "optimizer": optimizer.state_dict(),
            "carried": dict(self.carried),
            "curve": self.curve,
            "sums": self.sums,
            "since": self.since,
        }

    def restore(self, state: dict[str, Any], optimizer: torch.optim.Optimizer) -> None:
        self.module.load_state_dict(state["module"])
        optimizer.load_state_dict(state["optimizer"])
        self.carried.update(state["carried"])
        self.curve, self.sums, self.since = state["curve"], state["sums"], state["since"]
        self.step = state["step"]
