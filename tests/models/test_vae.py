"""The VAE of representations, against the same network written out in numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from fedlaf.models import Vae, build_vae

D, Z, N = 6, 2, 5
Array = npt.NDArray[np.float64]


def rows(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture(params=["linear", "sigmoid"])
def vae(request: pytest.FixtureRequest) -> Vae:
    """In float64, with a shift and a scale of its own."""
    built = build_vae(D, Z, request.param, 0).double()
    built.shift.copy_(rows(1, D))
    built.scale.copy_(rows(2, D).exp())
    return built


def oracle(vae: Vae, e: Array, noise: Array) -> tuple[Array, Array, Array, Array]:
    """Decoded, target, mean and log variance, in the words of the paper's appendix."""
    w = {k: v.numpy() for k, v in vae.state_dict().items()}

    def layer(x: Array, name: str) -> Array:
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def relu(x: Array) -> Array:
        return np.maximum(x, 0)

    target = (e - w["shift"]) / w["scale"]
    hidden = relu(layer(relu(layer(target, "encoder.0")), "encoder.2"))
    mean, log_variance = layer(hidden, "mean"), layer(hidden, "log_variance")
    z = mean + np.sqrt(np.exp(log_variance)) * noise
    decoded = layer(relu(layer(relu(layer(z, "decoder.0")), "decoder.2")), "decoder.4")
    if isinstance(vae.decoder[-1], torch.nn.Sigmoid):
        decoded = 1 / (1 + np.exp(-decoded))
    return decoded, target, mean, log_variance


def assert_equals(found: Any, expected: tuple[Array, ...]) -> None:
    for tensor, array in zip(found, expected, strict=True):
        np.testing.assert_allclose(tensor.detach().numpy(), array, rtol=1e-10, atol=1e-12)


def test_with_noise_z_is_mean_plus_deviation_times_noise(vae: Vae) -> None:
    e, noise = rows(3, N, D), rows(4, N, Z)
    assert_equals(vae(e, noise), oracle(vae, e.numpy(), noise.numpy()))


def test_without_noise_z_is_the_mean(vae: Vae) -> None:
    e = rows(3, N, D)
    assert_equals(vae(e), oracle(vae, e.numpy(), np.zeros((N, Z))))
    assert torch.equal(vae(e).decoded, vae.decoder(vae(e).mean))
    assert not torch.equal(vae(e).decoded, vae(e, rows(4, N, Z)).decoded)


def test_shapes_and_no_rows(vae: Vae) -> None:
    assert [t.shape for t in vae(rows(0, N, D))] == [(N, D), (N, D), (N, Z), (N, Z)]
    assert [t.shape for t in vae(rows(0, 0, D))] == [(0, D), (0, D), (0, Z), (0, Z)]


def test_it_has_the_parameters_of_its_layers() -> None:
    for dims, latent in ((6, 2), (256, 8)):
        encoder = dims * 128 + 128 + 128 * 32 + 32 + 2 * (32 * latent + latent)
        decoder = latent * 32 + 32 + 32 * 128 + 128 + 128 * dims + dims
        built = build_vae(dims, latent, "linear", 0)
        assert sum(p.numel() for p in built.parameters()) == encoder + decoder


def test_a_new_vae_standardises_nothing_as_published() -> None:
    built = build_vae(D, Z, "sigmoid", 0)
    e = rows(3, N, D).float()
    assert torch.equal(built(e).target, e)


def test_moments_of_the_data_make_targets_standard(vae: Vae) -> None:
    e = 40 + 7 * rows(5, 500, D)
    vae.shift.copy_(e.mean(0))
    vae.scale.copy_(e.std(0, correction=0))
    target = vae(e).target.numpy()
    np.testing.assert_allclose(target.mean(0), 0, atol=1e-10)
    np.testing.assert_allclose(target.std(0), 1, rtol=1e-10)


def test_shift_and_scale_travel_with_the_weights_but_are_not_trained(vae: Vae) -> None:
    assert {"shift", "scale"} <= set(vae.state_dict())
    assert not {"shift", "scale"} & {name for name, _ in vae.named_parameters()}
    decoder = "sigmoid" if isinstance(vae.decoder[-1], torch.nn.Sigmoid) else "linear"
    twin = build_vae(D, Z, decoder, 1).double()
    twin.load_state_dict(vae.state_dict())
    e = rows(3, N, D)
    assert torch.equal(twin(e).decoded, vae(e).decoded)


def test_only_the_linear_decoder_leaves_the_unit_interval() -> None:
    e = 1000 * rows(3, 50, D).float()
    bounded = build_vae(D, Z, "sigmoid", 0)(e).decoded.detach()
    assert 0 <= float(bounded.min()) < float(bounded.max()) <= 1
    free = build_vae(D, Z, "linear", 0)(e).decoded.detach()
    assert float(free.min()) < 0
    assert float(free.max()) > 1


def test_the_seed_alone_decides_and_the_global_generator_stays() -> None:
    before = torch.get_rng_state()
    first, again, other = (build_vae(D, Z, "linear", seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[k], again[k]) for k in first)
    trained = [k for k in first if k not in ("shift", "scale")]
    assert not any(torch.equal(first[k], other[k]) for k in trained)
