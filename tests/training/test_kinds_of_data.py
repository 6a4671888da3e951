"""Volumes, classes, channels, single and partly annotated images, and networks of the user's own."""

import numpy as np
import pytest
from torch import nn

import biounet
from biounet.checks.model import check_model
from biounet.errors import DataError, UsageError
from biounet.geometry import AxisGeometry, Geometry
from biounet.samples.synthetic import synthetic_cells
from biounet.training.run_files import RunFiles
from biounet.training.train import train


class Blur(nn.Module):
    """A network of the user's own: two unpadded 3x3 convolutions."""

    def __init__(self, in_channels, classes):
        super().__init__()
        self.geometry = Geometry((AxisGeometry((2, 2), 1, 5, (2, 2)),) * 2)
        self.layers = nn.Sequential(nn.Conv2d(in_channels, 4, 3), nn.ReLU(), nn.Conv2d(4, classes, 3))

    def forward(self, x):
        return self.layers(x)


def test_a_network_of_one_s_own_is_trained_verified_and_needed_to_predict(cells, tiny, tmp_path):
    out = tmp_path / "own.safetensors"
    train(cells, out, settings=tiny(), steps=4, network=Blur)
    model = biounet.load(out)
    assert model.network == {"name": "foreign", "factory": "Blur"}
    assert model.geometry == Blur(1, 2).geometry
    with pytest.raises(UsageError, match=r"network of your own \(Blur\); pass it again as network=factory"):
        biounet.predict(model, cells[0][0])
    prediction = biounet.predict(model, cells[0][0], network=Blur)
    assert prediction.labels.shape == (48, 48)
    assert check_model(out, factory=Blur).passed


def test_a_network_that_declares_what_it_is_not_is_refused_before_any_file(cells, tiny, tmp_path):
    def narrow(in_channels, classes):
        network = Blur(in_channels, classes)
        network.geometry = Geometry((AxisGeometry((2, 2), 1, 5, (1, 2)),) * 2)
        return network

    with pytest.raises(UsageError, match=r"farther than the declared reach \(1, 2\)"):
        train(cells, tmp_path / "own.safetensors", settings=tiny(), steps=4, network=narrow)
    assert list(tmp_path.iterdir()) == []


def test_volumes(tiny, tmp_path):
    volumes = [synthetic_cells((24, 40, 40), seed=seed, diameter_px=14) for seed in range(3)]
    out = tmp_path / "volumes.safetensors"
    train(volumes, out, settings=tiny(), steps=3)
    model = biounet.load(out)
    assert model.ndim == 3
    prediction = biounet.predict(model, volumes[0][0][:10, :33])
    assert prediction.labels.shape == (10, 33, 40)
    assert prediction.probabilities.shape == (2, 10, 33, 40)
    assert "report" in RunFiles(out).report.name


def test_classes(cells, tiny, tmp_path):
    pairs = [(image, 100 * np.minimum(labels, 2)) for image, labels in cells]
    out = tmp_path / "classes.safetensors"
    train(pairs, out, settings=tiny("data.task=classes"), steps=4)
    model = biounet.load(out)
    assert (model.task, model.classes, model.values) == ("classes", ("0", "100", "200"), (0, 100, 200))
    assert dict(model.postprocessing) == {}
    prediction = biounet.predict(model, cells[0][0])
    assert np.array_equal(prediction.labels, prediction.probabilities.argmax(0))
    scores = next(line["scores"] for line in RunFiles(out).metrics() if line["event"] == "Validated")
    assert scores.keys() == {"selection", "loss", "dice", "pixel_error"}


def test_channels(cells, tiny):
    pairs = [(np.stack([image, 255 - image, image // 2]), labels) for image, labels in cells]
    model = train(pairs, settings=tiny(), steps=3)
    assert model.channels == ("0", "1", "2")
    assert biounet.predict(model, pairs[0][0]).labels.shape == (48, 48)
    with pytest.raises(DataError, match="the model takes 3 channel"):
        biounet.predict(model, cells[0][0])


def test_a_single_image_is_judged_by_a_block_of_itself(tiny, record):
    image, labels = synthetic_cells((60, 120), seed=0, diameter_px=14)
    model = train([(image, labels)], settings=tiny(), steps=3, listen=record)
    block = "array 0 from 90 to 120 on axis 1 (too few images to hold one back), 9 px before it left out as a guard"
    assert f"held back: {block}" in record.of("Planned")[0].statements
    assert model.training["validation_images"] == model.training["training_images"] == ["array 0"]


def test_partly_annotated_images(cells, tiny):
    pairs = [(image, np.where(np.arange(48) < 20, labels, -1)) for image, labels in cells]
    losses = []
    train(pairs, settings=tiny(), steps=5, listen=lambda event: losses.append(getattr(event, "loss", 0.0)))
    assert np.isfinite(losses).all()
    assert max(losses) > 0
