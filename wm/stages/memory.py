"""The stage `memory`: train a task's M on its latents, and hold its dream against reality (paper 3 and 4)."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional

from wm import calibration, devices, files, fitting, likelihood, paths, plots, progress, seeds, windows
from wm.batches import LatentStreams, first_latents, hold
from wm.checkpoint import Checkpoint
from wm.dream import Starts, save_dreamer
from wm.episodes import Store, open_parts
from wm.fitting import Fit, Losses
from wm.memory import Memory, make_memory
from wm.reading import read_yaml
from wm.settings import MemorySettings, TaskSettings, read_settings
from wm.tasks import Task, load_task
from wm.vision import load_vision, sample

JUDGED_WINDOWS = 8
DREAM_BLOCK = 100
"""Calibrating episodes dreamt side by side."""
FILM_STEPS = 12
FILM_STRIDE = 6


def run(task_name: str) -> None:
    """Writes `data/TASK/memory/trained`: weights with starts of dreams, losses, a film strip, metrics."""
    game = read_settings(read_yaml(paths.PARAMS)).games[task_name]
    task, settings, device = load_task(task_name), game.memory, devices.device()
    stores = open_parts(paths.latents(task_name), game.parts, game.vision.latent_size)
    vision = load_vision(task_name, game.vision).to(device)
    fitting.prepare(settings.threads)
    memory = make_memory(task, game.vision.latent_size, settings)
    memory.initialise(seeds.integer(settings.seed, "memory", task_name)).to(device)
    key = {"settings": asdict(settings), "inputs": [s.digest for s in stores], "device": device.type}
    with Checkpoint(f"memory@{task_name}", key) as checkpoint:
        curve = train(task, memory, settings, stores, checkpoint)
        memory.eval().requires_grad_(False)
        starts = Starts(*map(torch.from_numpy, first_latents(stores)))
        dreamt = dream_on(task, game, memory, starts, checkpoint)
        with files.output_folder(paths.memory(task_name)) as folder:
            save_dreamer(folder / paths.WEIGHTS, memory, starts)
            write_curve(folder, task, curve)
            frames = calibration.film(
                memory, vision, *film_episode(stores, task), settings.seed, settings.precision
            )
            plots.save_sheet(folder / "dream.png", [f[::FILM_STRIDE][:FILM_STEPS] for f in frames])
            files.write_json(folder / paths.METRICS, metrics(task, curve, dreamt, stores))


def train(
    task: Task, memory: Memory, settings: MemorySettings, stores: Sequence[Store], checkpoint: Checkpoint
) -> list[dict[str, float]]:
    """Fit M on windows of endless streams of episodes; its state is carried from window to window."""
    device = next(memory.parameters()).device
    windows = (settings.batch_size, settings.sequence_length, settings.seed)
    held = hold(stores)
    streams = LatentStreams(stores, *windows, held_out=False, held=held)
    held_out = LatentStreams(stores, *windows, held_out=True, held=held)
    h, c = memory.initial(settings.batch_size)
    carried = {"h": h, "c": c}

    def losses(step: int) -> Losses:
        noise = fitting.noise_source(device, settings.seed, "memory train", step)
        result, state = losses_of(memory, settings, streams.batch(step), (carried["h"], carried["c"]), noise)
        carried["h"], carried["c"] = (s.detach() for s in state)
        return result

    def judge() -> dict[str, float]:
        state, rows = memory.initial(settings.batch_size), []
        for window in range(JUDGED_WINDOWS):
            noise = fitting.noise_source(device, settings.seed, "memory held out", window)
            row, state = losses_of(memory, settings, held_out.batch(window), state, noise)
            rows.append(row)
        return fitting.averages(rows)

    fit = Fit(f"memory {task.name}", memory, losses, judge, checkpoint, carried)
    fit.run(settings.steps, settings.learning_rate, settings.final_learning_rate, settings.gradient_clip)
    streams.close()
    held_out.close()
    return fit.curve


def losses_of(
    memory: Memory,
    settings: MemorySettings,
    batch: dict[str, np.ndarray],
    state: tuple[Tensor, Tensor],
    noise: torch.Generator,
) -> tuple[Losses, tuple[Tensor, Tensor]]:
    """The losses of windows and the state after them.

    `loss`: the negative log-likelihood in nats per latent dimension and, where M predicts ends, the
    cross-entropy of the end, an episode's last step weighing `done_weight` (published code).
    """
    device = noise.device
    data = {name: torch.from_numpy(values).to(device) for name, values in batch.items()}
    rows, steps, size = data["means"].shape
    draw = torch.randn((rows, steps + 1, size), generator=noise, device=device)
    z = sample(data["means"], data["logvars"], draw[:, :-1])
    following = sample(data["next_means"], data["next_logvars"], draw[:, 1:])
    outputs, state = windows.outputs(memory, settings.precision, z, data["actions"], data["restarts"], state)
    nll, ends = likelihood.measure(memory, outputs, following, data["valid"])
    if not memory.ends:
        return {"loss": nll, "nll": nll.detach()}, state
    dones = data["dones"].float()
    crossed = functional.binary_cross_entropy_with_logits(ends, dones, reduction="none")
    end = (crossed * (1 + (settings.done_weight - 1) * dones)).mean()
    return {"loss": nll + end, "nll": nll.detach(), "end": end.detach()}, state


def write_curve(folder: Path, task: Task, curve: list[dict[str, float]]) -> None:
    files.write_text(folder / "losses.csv", pd.DataFrame(curve).to_csv(index=False, float_format="%.6g"))
    plots.save_losses(
        folder / "losses.png", f"M, {task.name}", curve, ["nll", "end"] if task.ends else ["nll"]
    )


def film_episode(stores: Sequence[Store], task: Task) -> tuple[np.ndarray, np.ndarray]:
    """Means and actions of the end of a held-out episode, as long as a film strip takes."""
    store = stores[0]
    start, stop = int(store.starts[-1]), int(store.ends[-1])
    start = max(start, stop - calibration.FILM_WARM_UP - FILM_STRIDE * FILM_STEPS)
    return store.means(start, stop), store.actions(start, stop)


def dream_on(
    task: Task, game: TaskSettings, memory: Memory, starts: Starts, checkpoint: Checkpoint
) -> list[int]:
    """The lengths of the data policy's dreams, as many as the settings ask for; what is done is kept."""
    path, settings = checkpoint.folder / "dreams.json", game.memory
    lengths: list[int] = files.read_json(path) if path.exists() else []
    wanted = settings.calibration_episodes
    if not wanted:
        return []
    with progress.bar(f"dreams {task.name}", wanted, "episodes", len(lengths)) as bar:
        while len(lengths) < wanted:
            episodes = range(len(lengths), min(len(lengths) + DREAM_BLOCK, wanted))
            how = (game.rollouts.persistence, episodes, settings.seed, settings.precision)
            lengths += calibration.survival(task, memory, starts, *how).tolist()
            files.write_json(path, lengths)
            bar.update(len(episodes))
    return lengths


def metrics(
    task: Task, curve: list[dict[str, float]], dreamt: list[int], stores: Sequence[Store]
) -> dict[str, float]:
    """The last losses; where M predicts ends, the data policy's survival in the dream beside reality's.

    Survival is that of episodes as rollouts keep them; beside it stands the share of all that were kept.
    """
    result = {name: curve[-1][name] for name in ("held_out_nll", "train_nll")}
    if dreamt:
        kept = [length for length in dreamt if length > task.kept_above]
        real = np.concatenate([store.lengths for store in stores])
        attempts = sum(store.attributes["attempts"] for store in stores)
        result |= described("reality", real, attempts) | described("dream", np.array(kept), len(dreamt))
    return result


def described(place: str, kept: np.ndarray, attempts: int) -> dict[str, float]:
    return {
        f"survival_in_{place}": float(kept.mean()) if len(kept) else 0.0,
        f"survival_in_{place}_std": float(kept.std()) if len(kept) else 0.0,
        f"episodes_in_{place}": len(kept),
        f"share_kept_in_{place}": len(kept) / attempts,
    }
