"""The mixture's mathematics against torch.distributions."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Categorical, MixtureSameFamily, Normal

from wm import mixture
from wm.mixture import Mixture


def drawn(seed: int, *shape: int, spread: float = 1.0) -> Mixture:
    stream = torch.Generator().manual_seed(seed)
    return Mixture(*(spread * torch.randn(shape, generator=stream, dtype=torch.float64) for _ in range(3)))


def reference(m: Mixture) -> MixtureSameFamily:
    """The same mixture with K last, as torch.distributions wants it."""
    logits, means, logstds = (t.transpose(-1, -2) for t in m)
    return MixtureSameFamily(Categorical(logits=logits), Normal(means, logstds.exp()))


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.integers(1, 7), st.integers(1, 9), st.floats(0.1, 3))
def test_log_prob_is_that_of_torch_distributions(seed: int, k: int, size: int, spread: float) -> None:
    m = drawn(seed, 4, k, size, spread=spread)
    z = torch.randn(4, size, generator=torch.Generator().manual_seed(seed + 1), dtype=torch.float64)
    torch.testing.assert_close(mixture.log_prob(m, z), reference(m).log_prob(z))


def test_log_prob_stays_finite_far_out() -> None:
    m = drawn(0, 1, 5, 3)
    assert torch.isfinite(mixture.log_prob(m, torch.full((1, 3), 1e4, dtype=torch.float64))).all()


def test_split_gives_logits_means_and_logstds_in_this_order() -> None:
    outputs = torch.arange(2 * 3 * 4 * 5.0).view(2, 60)
    m = mixture.split(outputs, mixtures=4)
    assert m.logits.shape == (2, 4, 5)
    torch.testing.assert_close(torch.stack(m, 1).flatten(1), outputs)


def test_samples_have_the_mixture_s_moments() -> None:
    m = drawn(3, 1, 5, 2)
    n = 200_000
    stream = torch.Generator().manual_seed(1)
    many = Mixture(*(t.expand(n, 5, 2) for t in m))
    uniform = torch.rand(n, 2, generator=stream, dtype=torch.float64)
    normal = torch.randn(n, 2, generator=stream, dtype=torch.float64)
    z = mixture.sample(many, 1.0, uniform, normal)
    expected = reference(m)
    error = 5 * (expected.variance[0] / n).sqrt()
    assert ((z.mean(0) - expected.mean[0]).abs() < error).all()
    assert torch.allclose(z.var(0), expected.variance[0], rtol=0.05)


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_temperature_divides_logits_and_scales_the_noise_by_its_root(temperature: float) -> None:
    m = drawn(4, 50_000, 3, 1)
    first = Mixture(*(t[:1].expand_as(t) for t in m))
    uniform = torch.rand(50_000, 1, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    means = mixture.sample(first, temperature, uniform, torch.zeros_like(uniform))
    shares = torch.softmax(first.logits[0, :, 0] / temperature, 0)
    for k in range(3):
        share = (means == first.means[0, k, 0]).double().mean()
        assert abs(share - shares[k]) < 0.01
    shifted = mixture.sample(first, temperature, uniform, torch.ones_like(uniform)) - means
    stds = {float(m.logstds[0, k, 0].exp()) * temperature**0.5 for k in range(3)}
    assert all(min(abs(float(s) - std) for std in stds) < 1e-9 for s in shifted.unique())


def test_towards_temperature_zero_the_mode_is_picked() -> None:
    m = drawn(5, 20, 5, 8)
    uniform, normal = torch.rand(20, 8, dtype=torch.float64), torch.randn(20, 8, dtype=torch.float64)
    likeliest = m.means.gather(-2, m.logits.argmax(-2, keepdim=True)).squeeze(-2)
    torch.testing.assert_close(mixture.sample(m, 1e-12, uniform, normal), likeliest, atol=1e-4, rtol=0)


@pytest.mark.parametrize("uniform", [0.0, 1.0 - 2**-24])
def test_the_ends_of_the_uniform_pick_the_first_and_last_component(uniform: float) -> None:
    m = Mixture(torch.zeros(1, 4, 1), torch.arange(4.0).view(1, 4, 1), torch.zeros(1, 4, 1))
    z = mixture.sample(m, 1.0, torch.full((1, 1), uniform), torch.zeros(1, 1))
    assert float(z) == (0.0 if uniform == 0 else 3.0)
