"""Standardised kernels: mean 0, a norm of their own, and plain weights of the same value in the end."""

import numpy as np
import pytest
import torch
from torch import nn

from biounet.checks.model import check_model
from biounet.model_file import load_model
from biounet.networks.unet import UNet
from biounet.networks.weight_standardisation import plain_weights, standardise_weights
from biounet.training.train import train


@pytest.fixture
def pair():
    """A network before and after standardisation, with one state."""

    def make(**arguments):
        torch.manual_seed(0)
        before = UNet(**({"width": 3, "depth": 1} | arguments)).eval()
        after = UNet(**({"width": 3, "depth": 1} | arguments)).eval()
        after.load_state_dict(before.state_dict())
        standardise_weights(after)
        return before, after

    return make


@pytest.mark.parametrize("arguments", [{}, {"ndim": 3}, {"stem": 2, "depth": 2}])
def test_kernels_lose_their_mean_and_keep_their_deviation(pair, arguments):
    before, after = pair(**arguments)
    names = [name for name, value in before.state_dict().items() if value.ndim > 2]
    for name in names:
        old, new = before.state_dict()[name].flatten(1), plain_weights(after)[name].flatten(1)
        if name in (names[0], "head.weight") or name.startswith("up."):
            assert torch.equal(new, old)  # the image itself, single pixels and up-convolutions: as they were
        else:
            torch.testing.assert_close(new, old - old.mean(1, keepdim=True), atol=1e-6, rtol=1e-5)


def test_the_plain_weights_compute_the_same(pair):
    before, after = pair(stem=2)
    before.load_state_dict(plain_weights(after))
    x = torch.randn(1, 1, 44, 44)
    torch.testing.assert_close(before(x), after(x), atol=1e-6, rtol=0)


def test_standardising_again_changes_nothing(pair):
    before, after = pair()
    before.load_state_dict(plain_weights(after))
    x = torch.randn(1, 1, 24, 24)
    expected = after(x)
    standardise_weights(before)
    torch.testing.assert_close(before(x), expected, atol=1e-6, rtol=1e-5)


def test_the_size_of_the_free_values_does_not_matter_but_the_gain_does(pair):
    _, after = pair()
    layer = after.encoder[1][0]
    first = layer.weight.detach().clone()
    with torch.no_grad():
        layer.parametrizations.weight.original.mul_(7).add_(3)
    torch.testing.assert_close(layer.weight, first, atol=1e-6, rtol=1e-4)
    with torch.no_grad():
        layer.parametrizations.weight[0].gain.mul_(2)
    torch.testing.assert_close(layer.weight, 2 * first, atol=1e-6, rtol=1e-4)


def test_a_kernel_of_equal_values_gives_no_nan():
    network = nn.Sequential(nn.Conv2d(1, 1, 3), nn.Conv2d(1, 1, 3))
    nn.init.constant_(network[1].weight, 0.5)
    standardise_weights(network)
    assert not network[1].weight.isnan().any()


def test_the_model_file_holds_plain_weights_that_prove_themselves(cells, tiny, tmp_path):
    out = tmp_path / "model.safetensors"
    model = train(cells, out, settings=tiny("training.weight_standardisation=true"), steps=6)
    assert not any("parametrizations" in name for name in model.weights)
    kernels = [value for name, value in model.weights.items() if value.ndim == 4 and value.shape[-1] == 3][1:]
    assert max(float(np.abs(k.mean(axis=(1, 2, 3))).max()) for k in kernels) < 1e-7
    assert check_model(out).difference < 1e-6
    again = train(cells, settings=tiny("training.weight_standardisation=true"), steps=6)
    assert all(np.array_equal(again.weights[name], value) for name, value in model.weights.items())


def test_a_resumed_run_is_the_uninterrupted_one(cells, tiny, tmp_path, stop_at):
    settings = tiny("training.weight_standardisation=true", "training.state_seconds=0.001")
    out = tmp_path / "model.safetensors"
    with pytest.raises(RuntimeError, match="stopped"):
        train(cells, out, settings=settings, steps=8, listen=stop_at(5, RuntimeError("stopped")))
    resumed = train(cells, out, settings=settings, existing="resume")
    whole = train(cells, settings=settings, steps=8)
    assert all(np.array_equal(resumed.weights[name], value) for name, value in whole.weights.items())


def test_going_on_keeps_the_weights(cells, tiny):
    first = train(cells, settings=tiny("training.weight_standardisation=true"), steps=4)
    still = tiny("training.weight_standardisation=true", "training.learning_rate=1e-30", "training.weight_decay=0")
    again = train(cells, settings=still, steps=1, start_from=first)
    for name, value in first.weights.items():
        np.testing.assert_allclose(again.weights[name], value, atol=1e-6)
    plain = train(cells, settings=tiny(), steps=4)  # whose kernels have means: it goes on as it was
    again = train(cells, settings=still, steps=1, start_from=plain)
    for name, value in plain.weights.items():
        np.testing.assert_allclose(again.weights[name], value, atol=1e-6)


def test_it_is_settled_where_it_was_written(cells, tiny, tmp_path):
    out = tmp_path / "model.safetensors"
    train(cells, out, settings=tiny("training.weight_standardisation=true"), steps=2)
    assert load_model(out).training["settings"]["training"]["weight_standardisation"] is True
