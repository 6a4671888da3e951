"""The networks that the U-Net replaced go through the same training, model file and prediction."""

import re

import numpy as np
import pytest

import biounet
from biounet.checks.model import check_model
from biounet.errors import UsageError
from biounet.evaluation.pixels import pixel_error
from biounet.samples.synthetic import synthetic_cells
from biounet.settings import read_settings
from biounet.training.train import train

SMALL = {
    "patch_cnn": ("network.width=8", "network.window=17", "training.batch_size=16", "training.learning_rate=0.003"),
    "fcn8s": ("network.width=4", "network.batch_norm=true", "training.tile=72", "training.learning_rate=0.01"),
    "fcn16s": ("network.width=4", "training.tile=80"),
    "fcn32s": ("network.width=4", "training.tile=96"),
}


def small(name, *more):
    given = ("training.validations=1", "training.precision=fp32", *SMALL[name], *more)
    return read_settings("standard", overrides=(f"network.name={name}", *given))


@pytest.fixture(scope="module")
def pairs():
    return [synthetic_cells((96, 96), seed=seed, diameter_px=36) for seed in range(4)]


@pytest.mark.parametrize("name", ["patch_cnn", "fcn8s"])
def test_it_learns_in_seconds(name, pairs):
    """As classes, so that post-processing has no part in it; the fourth image is not learnt from."""
    as_classes = [(image, (labels > 0).astype(np.int32)) for image, labels in pairs]
    settings = small(name, "data.validation=images 2")
    model = train(as_classes[:3], settings=settings, steps=60)
    image, truth = as_classes[3]
    found = biounet.predict(model, image).labels
    guess = min(truth.mean(), 1 - truth.mean())  # the error of calling everything the more frequent class
    assert pixel_error(found, truth) < 0.7 * guess


@pytest.mark.parametrize("name", SMALL)
def test_a_model_file_builds_it_again_and_proves_it(name, pairs, tmp_path):
    out = tmp_path / "model.safetensors"
    train(pairs[:2], out, settings=small(name), steps=1)
    model = biounet.load(out)
    assert model.network["name"] == name
    assert check_model(out).passed
    whole, tiled = (biounet.predict(model, pairs[2][0], tile=tile).probabilities for tile in (200, 40))
    assert np.abs(whole - tiled).max() < 1e-4


def test_a_resumed_run_of_balanced_patches_gives_the_same_file(pairs, tmp_path, stop_at):
    settings = small("patch_cnn", "training.state_seconds=0.001")
    train(pairs[:2], tmp_path / "a.safetensors", settings=settings, steps=6)
    with pytest.raises(RuntimeError, match="stop"):
        train(
            pairs[:2], tmp_path / "b.safetensors", settings=settings, steps=6, listen=stop_at(4, RuntimeError("stop"))
        )
    train(pairs[:2], tmp_path / "b.safetensors", settings=settings, steps=6, existing="resume")
    one, other = ((tmp_path / f"{name}.safetensors").read_bytes() for name in "ab")
    assert one == other


def test_what_is_said_before_the_first_step(pairs, record):
    train(pairs[:2], settings=small("patch_cnn"), steps=1, listen=record)
    (planned,) = record.of("Planned")
    said = " ".join(planned.statements)
    assert re.search(r"network patch_cnn, [\d,]+ parameters", said)
    assert "each sample 1x1 pixels of output, 16 a step, of every class equally many" in said


def test_volumes_are_refused_by_a_network_of_two_axes():
    image, labels = np.zeros((20, 20, 20), np.float32), np.zeros((20, 20, 20), np.int32)
    labels[5:9, 5:9, 5:9], labels[12:16, 5:9, 5:9] = 1, 2
    with pytest.raises(UsageError, match="has 2 axes, the images have 3; take --network unet"):
        train([(image, labels)], settings=small("fcn8s"), steps=1)
