"""The stage `vision`: train a task's V on the frames of its rollouts (paper 3, step 2)."""

from dataclasses import asdict

import numpy as np
import pandas as pd
import torch

from wm import devices, files, fitting, paths, plots, seeds, weights
from wm.batches import FrameBatches
from wm.checkpoint import Checkpoint
from wm.episodes import forget_parts, open_parts
from wm.fitting import Fit, Losses
from wm.reading import read_yaml
from wm.settings import VisionSettings, read_settings
from wm.vision import Vision, divergence, reconstruction_errors, sample, scale

JUDGED_BATCHES = 4
MEASURED_BATCHES = 16
SHOWN_FRAMES = 12


def run(task: str) -> None:
    """Writes `data/TASK/vision`: weights, losses as CSV and picture, reconstructions, metrics."""
    game = read_settings(read_yaml(paths.PARAMS)).games[task]
    forget_parts(paths.rollouts(task), game.parts)
    stores = open_parts(paths.rollouts(task), game.parts)
    settings, device = game.vision, devices.device()
    fitting.prepare(settings.threads)
    vision = Vision(settings.latent_size).initialise(seeds.integer(settings.seed, "vision", task)).to(device)
    batches = FrameBatches(stores, settings.batch_size, settings.seed, held_out=False)
    held_out = FrameBatches(stores, settings.batch_size, settings.seed, held_out=True)

    def losses(step: int) -> Losses:
        return losses_of(vision, settings, batches.batch(step), noise(step, "train"))

    def judge() -> dict[str, float]:
        return fitting.averages(
            losses_of(vision, settings, held_out.batch(i), noise(i, "held out"))
            for i in range(JUDGED_BATCHES)
        )

    def noise(step: int, name: str) -> torch.Generator:
        return fitting.noise_source(device, settings.seed, f"vision {name}", step)

    key = {"settings": asdict(settings), "inputs": [s.digest for s in stores], "device": device.type}
    with Checkpoint(f"vision@{task}", key) as checkpoint:
        fit = Fit(f"vision {task}", vision, losses, judge, checkpoint)
        fit.run(settings.steps, settings.learning_rate, settings.final_learning_rate)
        measured = (torch.from_numpy(held_out.batch(i)).to(device) for i in range(MEASURED_BATCHES))
        vision.measure_ranges(measured)
        write(task, vision, fit.curve, held_out.batch(0)[:SHOWN_FRAMES])
    batches.close()
    held_out.close()


def losses_of(vision: Vision, settings: VisionSettings, frames: np.ndarray, noise: torch.Generator) -> Losses:
    """The losses of a batch, uint8 [B, 64, 64, 3]: `loss` is the weighted error plus the divergence."""
    device = noise.device
    pixels = torch.from_numpy(frames).to(device)
    with devices.autocast(device, settings.precision):
        mean, logvar = vision.encode(pixels)
        z = sample(mean, logvar, torch.randn(mean.shape, generator=noise, device=device))
        logits = vision.logits(z)
    plain, weighted = reconstruction_errors(logits, scale(pixels), settings.salience_weight)
    kl = divergence(mean, logvar, settings.kl_floor).mean()
    return {
        "loss": weighted.mean() + kl,
        "reconstruction_error": plain.mean().detach(),
        "divergence": kl.detach(),
    }


def write(task: str, vision: Vision, curve: list[dict[str, float]], frames: np.ndarray) -> None:
    with files.output_folder(paths.vision(task)) as folder:
        weights.save(folder / paths.WEIGHTS, vision.state_dict())
        table = pd.DataFrame(curve)
        files.write_text(folder / "losses.csv", table.to_csv(index=False, float_format="%.6g"))
        plots.save_losses(folder / "losses.png", f"V, {task}", curve, ["reconstruction_error", "divergence"])
        plots.save_sheet(folder / "reconstructions.png", [frames, reconstruct(vision, frames)])
        last = curve[-1]
        names = ("held_out_reconstruction_error", "held_out_divergence", "train_reconstruction_error")
        files.write_json(
            folder / paths.METRICS, {name.removeprefix("held_out_"): last[name] for name in names}
        )


@torch.no_grad()
def reconstruct(vision: Vision, frames: np.ndarray) -> np.ndarray:
    """V's picture of frames, without sampling, uint8 like them."""
    vision.eval()
    device = next(vision.parameters()).device
    mean, _ = vision.encode(torch.from_numpy(frames).to(device))
    return vision.picture(mean)
