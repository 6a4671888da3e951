"""Witness: bioimageio.core, which validates the package, runs it, and tiles with it; all without a network."""

import hashlib
import io
import json
import socket
import sys
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from biounet.errors import BiounetError, UsageError
from biounet.exchange import bioimageio as module
from biounet.exchange.bioimageio import test_package as own_test
from biounet.images.normalize import Normalisation
from biounet.inference.engines import make_engine
from biounet.inference.export import framed_onnx, framed_torchscript, reference
from biounet.inference.exported import open_model
from biounet.inference.predict import predict_array
from biounet.inference.torch_engine import torch_network
from biounet.model_file import Model, save_model
from biounet.networks.unet import UNet
from biounet.workflows.export_model import export_model
from biounet.workflows.package import documentation, example_image

core = pytest.importorskip("bioimageio.core")
pytestmark = [
    pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),  # it leaves zips open
]


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    """Whoever asks the network for anything fails."""

    def refused(*_):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)


def model_of(kind="image", task="instances", **arguments):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = UNet(**({"width": 2, "depth": 1} | arguments)).eval()
    channels, classes = network.description["in_channels"], network.description["classes"]
    statistics = (tuple(range(90, 90 + channels)), (30.0,) * channels) if kind == "dataset" else ((), ())
    model = Model(
        network=network.description,
        geometry=network.geometry,
        weights={name: value.numpy() for name, value in network.state_dict().items()},
        normalisation=Normalisation(kind, *statistics),
        task=task,
        classes=("background", "cell", "debris")[:classes],
        values=tuple(range(classes)),
        channels=("DAPI", "1", "2")[:channels],
        pixel_size_um=(2.0, 0.5, 0.5)[3 - network.geometry.ndim :],
        postprocessing={"threshold": 0.4},
    )
    size = model.geometry.input_size((16,) * model.ndim)
    given = np.random.default_rng(1).standard_normal((1, channels, *size)).astype(np.float32)
    with torch.no_grad():
        return model.with_golden(given, torch_network(model)(torch.from_numpy(given)).numpy())


@pytest.fixture
def package(tmp_path):
    """Export a model; its zip."""

    def make(model, **options):
        save_model(tmp_path / "Zellen 1.safetensors", model)
        made = export_model(tmp_path / "Zellen 1.safetensors", "bioimageio", tmp_path, overwrite=True, **options)
        assert [proof.program for proof in made.proofs] == ["ONNX Runtime", "TorchScript"]
        return made.files[0]

    return make


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A package, made once."""
    folder = tmp_path_factory.mktemp("package")
    save_model(folder / "Zellen 1.safetensors", model_of())
    options = {"authors": ["Ada Lovelace", "N. N."], "licence": "CC-BY-4.0"}
    return export_model(folder / "Zellen 1.safetensors", "bioimageio", folder, **options).files[0]


KINDS = [
    ({"kind": "percentile", "in_channels": 3, "classes": 3, "task": "classes"}, (30, 40)),
    ({"kind": "dataset", "ndim": 3, "in_channels": 2}, (30, 30, 30)),
    ({"kind": "image", "depth": 2, "stem": 2}, (120, 160)),
]


@pytest.mark.parametrize(("arguments", "shape"), KINDS)
def test_bioimageio_computes_and_tiles_what_biounet_does(package, arguments, shape):
    """Its own test passes; and its prediction of an image in tiles is biounet's, up to rounding."""
    model = model_of(**arguments)
    path = package(model)
    described = core.load_model(path)
    image = np.random.default_rng(0).integers(0, 255, (len(model.channels), *shape)).astype(np.float32)
    expected = predict_array(model, make_engine(model, engine="torch", device="cpu"), image)
    with core.create_prediction_pipeline(described, weight_format="onnx") as pipeline:
        sample = core.digest_spec.create_sample_for_model(model=described, inputs={"image": image[None]})
        ns = {("image", name): 4 for name in "zyx"[-len(shape) :]}  # tiles of 5 periods, so that there are several
        tiles = pipeline.predict_sample_with_blocking(sample, ns=ns)
    found = tiles.members["probabilities"].to_numpy()[0]
    assert found.shape == expected.probabilities.shape
    assert np.abs(found - expected.probabilities).max() < 1e-4
    opened = open_model(path)
    own = predict_array(opened, make_engine(opened, device="cpu"), image)
    assert np.array_equal(own.labels, expected.labels)


def test_what_the_package_says(plain):
    path = plain
    assert path.name == "Zellen 1.bioimageio.zip"
    described = core.load_model(path)
    assert described.format_version.startswith("0.5.")
    assert (described.name, described.license) == ("Zellen 1", "CC-BY-4.0")
    assert [author.name for author in described.authors] == ["Ada Lovelace", "N. N."]
    assert str(described.cite[0].doi) == "10.1007/978-3-319-24574-4_28"
    assert described.inputs[0].pad.mode == "reflect"
    axes = {axis.id: axis for axis in described.inputs[0].axes}
    assert (axes["y"].size.min, axes["y"].size.step) == (18, 2)
    assert (axes["y"].scale, axes["y"].unit) == (0.5, "micrometer")
    assert axes["channel"].channel_names == ["DAPI"]
    assert {axis.id: axis.halo for axis in described.outputs[0].axes if hasattr(axis, "halo")} == {"y": 8, "x": 8}
    assert json.loads(json.dumps(described.config.model_dump()["biounet"]))["postprocessing"] == {"threshold": 0.4}
    with zipfile.ZipFile(path) as archive:
        assert {"README.md", "cover.png", "weights.onnx", "weights.torchscript.pt"} < set(archive.namelist())
        text, cover = archive.read("README.md").decode(), archive.read("cover.png")
    assert text == documentation(open_model(path), "Zellen 1", "Zellen 1.bioimageio.zip")
    assert "    biounet predict 'Zellen 1.bioimageio.zip' DATA --out results\n" in text
    assert "`biounet check 'Zellen 1.bioimageio.zip'`" in text
    assert "- Network: 2D U-Net (" in text
    width, height = Image.open(io.BytesIO(cover)).size
    assert (width, height >= 256) == (2 * height, True)


def test_commands_name_the_file_as_it_is_called():
    text = documentation(model_of(), "Zellkern v2_1", "Zellkern (Ö) v2.1.bioimageio.zip")
    assert text.startswith("# Zellkern v2_1\n")
    assert "    biounet predict 'Zellkern (Ö) v2.1.bioimageio.zip' DATA --out results\n" in text
    assert "biounet predict plain.bioimageio.zip DATA" in documentation(model_of(), "plain", "plain.bioimageio.zip")


def test_its_own_test_sees_other_weights(plain, tmp_path):
    """So that "passed" means something."""
    path = plain
    other = model_of()
    other = replace(other, weights={name: value + np.float32(0.1) for name, value in other.weights.items()})
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    broken = framed_onnx(other)
    members["weights.onnx"] = broken
    text = members["rdf.yaml"].decode()
    before = hashlib.sha256(zipfile.ZipFile(path).read("weights.onnx")).hexdigest()
    assert before in text
    members["rdf.yaml"] = text.replace(before, hashlib.sha256(broken).hexdigest()).encode()
    with zipfile.ZipFile(tmp_path / "other.bioimageio.zip", "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    assert "elements disagree" in own_test(tmp_path / "other.bioimageio.zip")


def test_a_package_that_fails_is_not_written(package, monkeypatch, tmp_path):
    monkeypatch.setattr(module, "test_package", lambda path: "it is wrong")
    with pytest.raises(BiounetError, match=r"does not pass bioimageio.core's own test: it is wrong"):
        package(model_of())
    assert not list(tmp_path.glob("*.zip"))


@pytest.mark.parametrize(
    ("normalisation", "step"),
    [
        (Normalisation("image"), "zero_mean_unit_variance"),
        (Normalisation("percentile"), "scale_range"),
        (Normalisation("dataset", (90.0, 91.0), (30.0, 2.0)), "fixed_zero_mean_unit_variance"),
        (Normalisation("dataset", (90.0, 91.0), (30.0, 0.0)), "scale_linear"),
    ],
)
def test_every_normalisation_is_a_step_of_the_format(normalisation, step):
    from bioimageio.spec.model import v0_5

    (made,) = module.preprocessing(v0_5, normalisation, "yx")
    assert made.id == step
    if step == "scale_linear":
        image = np.random.default_rng(0).uniform(0, 255, (2, 9, 8)).astype(np.float32)
        gain, offset = (np.reshape(values, (2, 1, 1)) for values in (made.kwargs.gain, made.kwargs.offset))
        assert np.abs(image * gain + offset - normalisation.apply(image)).max() < 1e-5


def test_the_license_must_be_known(package):
    with pytest.raises(UsageError, match=r"--license 'free for all' is not known; write an SPDX identifier"):
        package(model_of(), licence="free for all")


def test_where_the_package_is_missing(package, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "bioimageio"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "bioimageio", None)
    with pytest.raises(UsageError, match=r"needs the package bioimageio.core, .*; pip install 'biounet\[bioimageio\]'"):
        package(model_of())


def test_the_example_comes_from_a_training_image():
    crop = np.random.default_rng(0).standard_normal((1, 9, 40)).astype(np.float16)
    model = replace(model_of("dataset"), calibration=(crop,))
    raw = example_image(model)
    assert raw.shape == (1, 1, 18, 18)
    normalised = model.normalisation.apply(raw[0])
    assert np.abs(normalised[0, 4:13] - crop[0, :, 11:29].astype(np.float32)).max() < 1e-2


def test_torchscript_that_cannot_be_traced():
    class Odd(torch.nn.Module):
        geometry = model_of().geometry

        def forward(self, x):
            raise RuntimeError("no way")

    model = replace(model_of(), network={"name": "foreign", "factory": "odd"}, weights={})
    with pytest.raises(BiounetError, match="the network cannot be traced by torch .*no way"):
        framed_torchscript(model, factory=lambda *_: Odd())
    assert reference(model, lambda *_: Odd()).name == "torch"
