"""V: its shape is the paper's, its shortcuts change nothing, its losses are the formulas."""

from pathlib import Path

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from tests.noise import noise
from wm import paths, weights
from wm.settings import VisionSettings
from wm.vision import Vision, divergence, load_vision, reconstruction_errors, scale

FRAMES = noise(3, 0)


@pytest.mark.parametrize(("latent_size", "parameters"), [(32, 4_348_547), (64, 4_446_915)])
def test_it_has_the_paper_s_parameters(latent_size: int, parameters: int) -> None:
    assert sum(p.numel() for p in Vision(latent_size).parameters()) == parameters


def test_it_encodes_and_decodes_frames() -> None:
    vision = Vision(32).initialise(1)
    mean, logvar = vision.encode(FRAMES)
    assert mean.shape == logvar.shape == (3, 32)
    pictures = vision.decode(mean)
    assert pictures.shape == FRAMES.shape
    assert pictures.min() >= 0 and pictures.max() <= 1


def test_the_first_layer_of_the_decoder_is_the_transposed_convolution() -> None:
    vision = Vision(16).initialise(2)
    z = torch.randn(4, 16)
    plain = vision.decoder(vision.unfold(vision.expand(z)[:, :, None, None]))
    torch.testing.assert_close(vision.logits(z), plain, atol=1e-5, rtol=1e-4)


def test_initialisation_is_the_seed_s() -> None:
    first, again, other = (Vision(8).initialise(seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["mean.weight"], other["mean.weight"])


def test_divergence_is_that_of_torch_distributions_above_the_floor() -> None:
    mean, logvar = torch.randn(6, 5) * 2, torch.randn(6, 5)
    exact = kl_divergence(Normal(mean, (0.5 * logvar).exp()), Normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(divergence(mean, logvar, 0.0), exact)
    assert (divergence(torch.zeros(2, 4), torch.zeros(2, 4), 0.5) == 2.0).all()


def test_without_salience_the_error_is_the_squared_one_summed_over_a_frame() -> None:
    target = scale(FRAMES)
    logits = torch.randn(target.shape)
    plain, weighted = reconstruction_errors(logits, target, 0.0)
    expected = torch.stack([((torch.sigmoid(a) - b) ** 2).sum() for a, b in zip(logits, target, strict=True)])
    torch.testing.assert_close(plain, expected)
    assert torch.equal(plain, weighted)


def test_salience_weighs_what_is_rare_at_its_place() -> None:
    target = torch.zeros(4, 3, 64, 64)
    target[0, :, 10, 10] = 1.0  # a spark in one frame of four
    plain, weighted = reconstruction_errors(torch.zeros_like(target), target, 2.0)
    pixels = 64 * 64
    torch.testing.assert_close(plain, torch.full((4,), pixels * 3 * 0.25))
    torch.testing.assert_close(weighted - plain, 3 * 0.25 * 2.0 * torch.tensor([0.75, 0.25, 0.25, 0.25]))


def test_saved_weights_come_back_and_another_latent_size_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    vision = Vision(8).initialise(3)
    paths.vision("carracing").mkdir(parents=True)
    weights.save(paths.vision("carracing") / paths.WEIGHTS, vision.state_dict())
    loaded = load_vision("carracing", sized(8))
    assert all(torch.equal(loaded.state_dict()[name], tensor) for name, tensor in vision.state_dict().items())
    with pytest.raises(ValueError, match="latent_size"):
        load_vision("carracing", sized(9))


def sized(latent_size: int) -> VisionSettings:
    return VisionSettings(
        latent_size=latent_size,
        kl_floor=0.5,
        salience_weight=0.0,
        batch_size=1,
        steps=1,
        learning_rate=1e-3,
        final_learning_rate=1e-3,
        precision="float32",
        threads=1,
        seed=1,
    )


def test_ranges_are_the_largest_values_behind_the_convolutions() -> None:
    vision = Vision(8).initialise(1)
    seen: list[float] = []
    for layer in vision.encoder:
        if isinstance(layer, torch.nn.ReLU):
            layer.register_forward_hook(lambda _, __, x: seen.append(float(x.max())))
    vision.encoder(scale(FRAMES))
    assert vision.measure_ranges(FRAMES.split(2)).ranges.tolist() == pytest.approx(seen[:4], rel=1e-5)
    assert vision.state_dict()["ranges"].shape == (4,)
