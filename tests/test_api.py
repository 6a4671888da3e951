"""The commands as functions of Python; what they compute is tested where it is computed."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from typer.main import get_command

import biounet
from biounet import cli
from biounet.cli.app import make_app
from biounet.errors import DataError, ModelFileError, PartialError, UsageError
from biounet.evaluation.scores import evaluate_pair
from biounet.images.normalize import Normalisation
from biounet.inference.predict import Prediction
from biounet.inference.torch_engine import TorchEngine
from biounet.model_file import Model, save_model
from biounet.prediction.options import Options, request_of
from biounet.results.request import Request


def make_network(in_channels=1, classes=2):
    return biounet.UNet(in_channels, classes, width=3, depth=1)


@pytest.fixture(scope="module")
def model():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = make_network().eval()
    golden = np.random.default_rng(0).standard_normal((1, 1, 20, 20)).astype(np.float32)
    return Model(
        network=network.description,
        geometry=network.geometry,
        weights={name: value.numpy() for name, value in network.state_dict().items()},
        normalisation=Normalisation(),
        task="classes",
        classes=("0", "255"),
        values=(0, 255),
        channels=("0",),
    ).with_golden(golden, TorchEngine(network)(golden))


@pytest.fixture
def file(model, tmp_path):
    save_model(tmp_path / "ein Modell.safetensors", model)
    return tmp_path / "ein Modell.safetensors"


IMAGE = np.random.default_rng(0).integers(0, 255, (40, 50)).astype(np.uint8)


# -- load and predict


def test_load(file):
    assert biounet.load(file).classes == biounet.load(str(file)).classes == ("0", "255")
    with pytest.raises(DataError, match="no such model file"):
        biounet.load(file.with_name("gone"))
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ModelFileError, match="truncated"):
        biounet.load(file)


def test_predict_an_array(model, file):
    found = biounet.predict(model, IMAGE, device="cpu")
    assert isinstance(found, Prediction)
    assert found.labels.shape == (40, 50)
    assert found.probabilities.shape == (2, 40, 50)
    assert np.array_equal(found.labels, found.probabilities.argmax(0))
    for same in (biounet.predict(str(file), IMAGE, device="cpu"), biounet.predict(model, IMAGE[None], device="cpu")):
        assert np.array_equal(same.probabilities, found.probabilities)


def test_limits_of_an_array(model):
    whole = biounet.predict(model, IMAGE, device="cpu")
    tiled = biounet.predict(model, IMAGE, tile=10, device="cpu")
    small = biounet.predict(model, IMAGE, memory=100_000, device="cpu")
    assert len(whole.plan) == 1
    assert len(tiled.plan) == 20
    assert len(small.plan) > 1
    assert np.abs(whole.probabilities - tiled.probabilities).max() < 1e-5
    fast = biounet.predict(model, IMAGE, precision="bf16", device="cpu")
    assert 0 < np.abs(fast.probabilities - whole.probabilities).max() < 0.05
    with pytest.raises(UsageError, match="the least is"):
        biounet.predict(model, IMAGE, memory=10)


def test_predict_files(model, tmp_path):
    for name in ("a.tif", "b ü.tif"):
        tifffile.imwrite(tmp_path / name, IMAGE)
    done = biounet.predict(model, tmp_path, tmp_path / "out", device="cpu")
    assert [one.name for one in done] == ["a", "b ü"]
    assert [one.error for one in done] == ["", ""]
    assert (tmp_path / "out" / "b ü_labels.tif").exists()
    labels = tifffile.imread(tmp_path / "out" / "a_labels.tif")
    assert np.array_equal(labels, biounet.predict(model, IMAGE, device="cpu").labels)
    (one,) = biounet.predict(model, [str(tmp_path / "a.tif")], str(tmp_path / "again"), tile=10, device="cpu")
    assert one.plan.startswith("20 tiles of 10x10")


def test_some_of_the_files_fail(model, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", IMAGE)
    (tmp_path / "b.tif").write_bytes(b"II*\0")
    with pytest.raises(PartialError, match="1 of 2 inputs failed, the rest is done; first: .*b.tif"):
        biounet.predict(model, tmp_path, tmp_path / "out")
    assert (tmp_path / "out" / "a_labels.tif").exists()
    with pytest.raises(DataError, match="b.tif"):
        biounet.predict(model, tmp_path / "b.tif", tmp_path / "out")


def test_predict_takes_the_options_of_the_command_by_their_names():
    """What the command has and Python not: what a terminal is asked, and whether to speak."""
    options = {parameter.name for parameter in get_command(make_app()).commands["predict"].params}
    positional = {"model", "inputs", "out"}
    assert set(Options.__annotations__) == options - positional - {"json", "quiet", "verbose"}


def test_the_same_words_or_python_values(tmp_path):
    words = {
        "save": "labels, table", "memory": "2GB", "pixel_size": "1x0.25x250um", "shard": "1/4", "channels": "DAPI,1",
        "region": "auto", "calibrate": "a.tif",
    }  # fmt: skip
    values = {
        "save": ["labels", "table"], "memory": 2 * 10**9, "pixel_size": (1, 0.25, 250), "shard": (1, 4),
        "channels": ("DAPI", "1"), "region": Path("auto"), "calibrate": Path("a.tif"),
    }  # fmt: skip
    assert request_of(tmp_path, words) == request_of(tmp_path, values)
    assert request_of(tmp_path, {"pixel_size": 0.5}).pixel_size_um == (0.5,)
    assert request_of(tmp_path, dict.fromkeys(("memory", "region", "shard"))) == Request(tmp_path)


def test_files_with_options_are_those_of_the_command(model, file, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", IMAGE)
    tifffile.imwrite(tmp_path / "mask.tif", np.pad(np.ones((20, 20), np.uint8), ((0, 20), (0, 30))))
    region, on = str(tmp_path / "mask.tif"), ["--device", "cpu", "-q"]
    command = ["predict", str(file), str(tmp_path / "a.tif"), "--out", str(tmp_path / "c"), *on]
    assert cli.run([*command, "--save", "labels,probabilities", "--region", region, "--tile", "10"]) == 0
    options = {"save": "labels,probabilities", "region": region, "tile": 10, "device": "cpu"}
    biounet.predict(file, tmp_path / "a.tif", tmp_path / "p", **options)
    for share in ("1/2", (2, 2)):
        (one,) = biounet.predict(model, tmp_path / "a.tif", tmp_path / "s", shard=share, **options)
        assert one.files == []
    biounet.predict(model, tmp_path / "a.tif", tmp_path / "s", merge=True, **options)
    for name in ("a_labels.tif", "a_probabilities.tif"):
        expected = (tmp_path / "c" / name).read_bytes()
        assert (tmp_path / "p" / name).read_bytes() == (tmp_path / "s" / name).read_bytes() == expected
    command, python = (json.loads((tmp_path / out / "run.json").read_text()) for out in "cp")
    assert command["settings"] == python["settings"]


def test_in_place_wells_and_a_cluster(file, tmp_path, write_zarr):
    path = write_zarr(tmp_path / "a.zarr", IMAGE)
    (first,) = biounet.predict(file, path, tmp_path / "o", save="labels", in_place=True, label_name="n", device="cpu")
    assert first.files == [str(path / "labels" / "n")]
    (again,) = biounet.predict(file, path, tmp_path / "o", save="labels", in_place=True, label_name="n", device="cpu")
    assert (first.done_before, again.done_before) == (False, True)
    with pytest.raises(UsageError, match="--wells 'B03': no input is an OME-Zarr plate"):
        biounet.predict(file, path, tmp_path / "o", wells="B03")
    with pytest.raises(UsageError, match="--cluster local:2: workers open the model by its path; give a model file"):
        biounet.predict(biounet.load(file), path, tmp_path / "o", cluster="local:2")


def test_what_is_no_option_or_cannot_be_meant(model, tmp_path):
    with pytest.raises(UsageError, match="predict takes no option tiles; it takes .*, tile, tta, wells"):
        biounet.predict(model, tmp_path, tmp_path, tiles=3)
    with pytest.raises(UsageError, match="predict of an array takes no option region; it takes calibrate, device, .*"):
        biounet.predict(model, IMAGE, region="auto")
    with pytest.raises(UsageError, match="predict of no files"):
        biounet.predict(model, [], tmp_path / "o")
    with pytest.raises(UsageError, match="--save 'cells': choose from labels"):
        biounet.predict(model, tmp_path, tmp_path, save="cells")
    with pytest.raises(UsageError, match="--memory '0': write a size such as 2GB"):
        biounet.predict(model, IMAGE, memory=0)
    with pytest.raises(UsageError, match="--shard '3': write I/N"):
        biounet.predict(model, tmp_path, tmp_path, shard=(3,))
    with pytest.raises(UsageError, match="--least-agreement 2: a share from 0 to 1"):
        biounet.predict(model, tmp_path, tmp_path, least_agreement=2)


def test_whatever_holds_numbers_is_an_array(model):
    wanted = biounet.predict(model, IMAGE, device="cpu").labels
    for given in (torch.from_numpy(IMAGE), IMAGE.tolist(), memoryview(IMAGE)):
        assert np.array_equal(biounet.predict(model, given, device="cpu").labels, wanted)
    with pytest.raises(UsageError, match="image is NoneType: give paths, or an array of numbers"):
        biounet.predict(model, None)


def test_arrays_and_files_are_not_mixed(model, tmp_path):
    with pytest.raises(UsageError, match="predict of files needs out, the folder for the results"):
        biounet.predict(model, tmp_path)
    with pytest.raises(UsageError, match="predict of an array returns its result and writes nothing"):
        biounet.predict(model, IMAGE, tmp_path)


def test_a_foreign_network(model):
    foreign = replace(model, network={"name": "foreign", "factory": "make_network"})
    with pytest.raises(UsageError, match="pass it again as network=factory"):
        biounet.predict(foreign, IMAGE)
    found = biounet.predict(foreign, IMAGE, network=make_network, device="cpu")
    assert np.array_equal(found.labels, biounet.predict(model, IMAGE, device="cpu").labels)


# -- evaluate


def test_evaluate_arrays():
    truth = np.zeros((20, 20), np.int32)
    truth[2:8, 2:8], truth[10:18, 3:9] = 1, 2
    predicted = np.where(truth == 2, 0, truth)
    found = biounet.evaluate(predicted, truth)
    assert found == evaluate_pair(predicted, truth, task="instances")
    assert found["seg"] == 0.5
    assert biounet.evaluate(predicted, truth, task="classes")["pixel_error"] == 48 / 400
    assert set(biounet.evaluate(predicted, truth, task="classes")["classes"]) == {"0", "1", "2"}
    assert biounet.evaluate(torch.from_numpy(predicted), truth.tolist()) == found
    mask = (truth > 0) * 255
    assert biounet.evaluate(mask > 0, mask, task="classes")["dice"] == 1
    assert biounet.evaluate(predicted, 0 * truth)["errors"]["spurious"] == 1


def test_evaluate_paths(tmp_path):
    for name in ("mine.tif", "true.tif"):
        tifffile.imwrite(tmp_path / name, (IMAGE > 128).astype(np.uint8) * 255)
    found = biounet.evaluate(tmp_path / "mine.tif", str(tmp_path / "true.tif"))
    assert (found["task"], found["mean"]["pixel_error"]) == ("classes", 0)
    assert [image["name"] for image in found["images"]] == ["true"]
    json.dumps(found, allow_nan=False)
    with pytest.raises(UsageError, match="--only x: no image of this name"):
        biounet.evaluate(tmp_path / "mine.tif", tmp_path / "true.tif", only="x")


def test_what_cannot_be_evaluated(tmp_path):
    with pytest.raises(UsageError, match="task 'cells' is not known; choose instances or classes"):
        biounet.evaluate(IMAGE, IMAGE, task="cells")
    for option in ({"only": "x"}, {"ndim": 2}, {"unlabelled": "unknown"}):
        with pytest.raises(UsageError, match="only, ndim and unlabelled are for paths"):
            biounet.evaluate(IMAGE, IMAGE, **option)
    with pytest.raises(UsageError, match="evaluate needs two arrays or two paths"):
        biounet.evaluate(IMAGE, tmp_path)
    with pytest.raises(UsageError, match="evaluate needs two arrays or two paths"):
        biounet.evaluate(tmp_path, IMAGE)


# -- check


def test_check_a_model_or_a_folder(file, tmp_path):
    assert biounet.check(file).passed
    for kind, array in (("images", IMAGE), ("masks", (IMAGE > 128) * np.uint8(255))):
        (tmp_path / "data" / kind).mkdir(parents=True)
        tifffile.imwrite(tmp_path / "data" / kind / "a.tif", array)
    assert biounet.check(tmp_path / "data").meaning.values == (0, 255)
    with pytest.raises(DataError, match="gone: there is no such"):
        biounet.check(tmp_path / "gone")


def test_check_a_foreign_model(model, tmp_path):
    save_model(tmp_path / "m", replace(model, network={"name": "foreign", "factory": "make_network"}))
    with pytest.raises(UsageError, match="pass it again"):
        biounet.check(tmp_path / "m")
    assert biounet.check(tmp_path / "m", network=make_network).passed
