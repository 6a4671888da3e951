from dataclasses import replace

import numpy as np
import pytest
import torch

from biounet.checks.model import TOLERANCE, check_model
from biounet.errors import DataError, ModelFileError, UsageError
from biounet.images.normalize import Normalisation
from biounet.inference.torch_engine import TorchEngine
from biounet.model_file import Model, load_model, save_model
from biounet.networks.unet import UNet


@pytest.fixture
def model():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = UNet(width=3, depth=2, batch_norm=True).eval()
    golden = np.random.default_rng(0).standard_normal((1, 1, *network.geometry.input_size((16, 16))))
    return Model(
        network=network.description,
        geometry=network.geometry,
        weights={name: value.numpy() for name, value in network.state_dict().items()},
        normalisation=Normalisation(),
        task="instances",
        classes=("background", "cell"),
        values=(),
        channels=("0",),
    ).with_golden(golden.astype(np.float32), TorchEngine(network)(golden.astype(np.float32)))


@pytest.fixture
def check(tmp_path):
    def run(model):
        save_model(tmp_path / "model.safetensors", model)
        return check_model(tmp_path / "model.safetensors")

    return run


def test_a_model_as_it_was_made_passes(model, check):
    found = check(model)
    assert found.passed
    assert 0 <= found.difference <= 1e-6
    assert found.model.sha256


@pytest.mark.parametrize(("share", "passes"), [(0.5, True), (2, False), (1000, False)])
def test_what_is_measured_is_a_share_of_the_largest_logit(model, check, share, passes):
    given, output = model.golden
    changed = output.copy()
    place = np.unravel_index(np.abs(output).argmin(), output.shape)
    changed[place] += share * TOLERANCE * np.abs(output).max()
    found = check(model.with_golden(given, changed))
    assert found.passed is passes
    assert found.difference == pytest.approx(share * TOLERANCE, rel=0.05)


def test_weights_that_compute_something_else_fail(model, check):
    """The checksum fits, so only the golden sample can tell."""
    weights = {**model.weights, "head.bias": model.weights["head.bias"] + 1}
    found = check(replace(model, weights=weights))
    assert not found.passed
    assert found.difference > 100 * TOLERANCE


def test_no_golden_sample_proves_nothing(model, check):
    found = check(replace(model, golden=None))
    assert not found.passed
    assert found.difference is None


def test_logits_that_are_no_numbers_fail(model, check):
    found = check(replace(model, weights={**model.weights, "head.bias": np.full(2, np.nan, np.float32)}))
    assert not found.passed
    assert found.difference is None


def test_a_silent_network_is_compared_too(model, check):
    weights = {name: value * 0 if "head" in name else value for name, value in model.weights.items()}
    given, output = model.golden
    assert check(replace(model, weights=weights).with_golden(given, output * 0)).passed
    assert not check(replace(model, weights=weights).with_golden(given, output * 0 + 1e-3)).passed


def test_damage_is_found_before(model, tmp_path):
    path = tmp_path / "model.safetensors"
    save_model(path, model)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ModelFileError, match="checksum"):
        check_model(path)
    with pytest.raises(DataError, match="no such model file"):
        check_model(tmp_path / "gone")


def test_a_foreign_network_needs_its_factory(model, tmp_path):
    path = tmp_path / "model.safetensors"
    save_model(path, replace(model, network={"name": "foreign", "factory": "mine"}))
    with pytest.raises(UsageError, match="pass it again as network=factory"):
        check_model(path)

    def mine(in_channels, classes):
        return UNet(in_channels, classes, width=3, depth=2, batch_norm=True)

    assert check_model(path, factory=mine).passed
    assert load_model(path).network == {"name": "foreign", "factory": "mine"}
