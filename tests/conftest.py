import os
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from biounet.images.normalize import Normalisation
from biounet.model_file import Model
from biounet.networks.unet import UNet
from biounet.samples.synthetic import synthetic_cells
from biounet.settings import read_settings

_TINY = (
    "network.width=2",
    "network.depth=1",
    "network.batch_norm=false",
    "training.tile=16",
    "training.validations=2",
    "training.precision=fp32",
)


@pytest.fixture(scope="session", autouse=True)
def _cache_of_its_own(tmp_path_factory):
    """Nothing that tests make lands in the cache of whoever runs them."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("biounet.inference.cache.cache_folder", lambda: folder)
        yield


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """So small networks gain nothing from threads, and on a busy machine they wait long for each other."""
    torch.set_num_threads(1)


@pytest.fixture
def real_data():
    """The folder of public sets: ``BIOUNET_TEST_DATA``, else ``shared/data`` beside the repository."""
    beside = Path(__file__).resolve().parents[1].parent / "shared" / "data"
    folder = Path(os.environ.get("BIOUNET_TEST_DATA", beside))
    if not folder.is_dir():
        pytest.skip(f"real images are not there: {folder}")
    return folder


@pytest.fixture
def random_network():
    """A U-Net with random weights, batch statistics too, in evaluation mode."""

    def make(seed=0, **arguments):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            network = UNet(**({"width": 3, "depth": 1} | arguments))
            for module in network.modules():
                if isinstance(module, torch.nn.BatchNorm2d | torch.nn.BatchNorm3d):
                    module.running_mean.normal_()
                    module.running_var.uniform_(0.5, 2)
        return network.eval()

    return make


@pytest.fixture
def random_model(random_network):
    """A model of such a network, as a training would leave it."""

    def make(seed=0, task="classes", kind="image", **arguments):
        network = random_network(seed, **arguments)
        channels, classes = network.description["in_channels"], network.description["classes"]
        statistics = ((100.0,) * channels, (30.0,) * channels) if kind == "dataset" else ((), ())
        return Model(
            network=network.description,
            geometry=network.geometry,
            weights={name: value.numpy() for name, value in network.state_dict().items()},
            normalisation=Normalisation(kind, *statistics),
            task=task,
            classes=tuple(map(str, range(classes))),
            values=tuple(range(classes)),
            channels=tuple(map(str, range(channels))),
        )

    return make


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def cells():
    """Four small images with instance labels."""
    return [synthetic_cells((48, 48), seed=seed, diameter_px=14) for seed in range(4)]


@pytest.fixture(scope="session")
def tiny():
    """Settings of a network that takes milliseconds a step: ``tiny("key=value", preset="paper")``."""

    def settings(*overrides, preset="standard"):
        return read_settings(preset, overrides=(*_TINY, *overrides))

    return settings


@pytest.fixture
def write_folder(tmp_path):
    """Write pairs as ``images/`` and ``masks/`` and return the folder."""

    def write(pairs, name="data"):
        folder = tmp_path / name
        for index, (image, labels) in enumerate(pairs):
            for kind, array in (("images", image), ("masks", labels.astype(np.uint16))):
                (folder / kind).mkdir(parents=True, exist_ok=True)
                tifffile.imwrite(folder / kind / f"cell_{index}.tif", array)
        return folder

    return write


@pytest.fixture
def write_zarr():
    """Write an OME-Zarr image by zarr alone: levels of every second pixel, 0.5 um a pixel, metadata of the version."""

    def write(path, array, *, axes="yx", version="0.5", levels=1, unit="micrometer", names=(), **options):
        zarr = pytest.importorskip("zarr")
        kinds = {"t": "time", "c": "channel"}
        listed = [{"name": axis, "type": kinds.get(axis, "space")} for axis in axes]
        for axis in listed:
            axis.update({"unit": unit} if unit and axis["type"] == "space" else {})
        image = {"axes": listed, "datasets": [dataset(axes, level) for level in range(levels)]}
        window = {"start": 0, "end": 9, "min": 0, "max": 9}
        channels = [{"label": name, "color": "FF0000", "window": window} for name in names]
        display = {"omero": {"channels": channels}} if names else {}
        options = {"chunks": (*(1 for _ in axes[:-2]), 16, 20)} | options
        if version == "0.5":
            attributes = {"ome": {"version": "0.5", "multiscales": [image], **display}}
            options |= {"dimension_names": list(axes)}
        else:
            attributes = {"multiscales": [image | {"version": "0.4"}], **display}
            options |= {"chunk_key_encoding": {"name": "v2", "separator": "/"}}
        group = zarr.open_group(path, mode="w", zarr_format=3 if version == "0.5" else 2, attributes=attributes)
        for level in range(levels):
            part = array[..., :: 2**level, :: 2**level]
            stored = group.create_array(f"s{level}", shape=part.shape, dtype=part.dtype, **options)
            stored[...] = part
        return path

    def dataset(axes, level):
        scale = [0.5 * (2**level if axis in "yx" else 1) for axis in axes]
        return {"path": f"s{level}", "coordinateTransformations": [{"type": "scale", "scale": scale}]}

    return write
