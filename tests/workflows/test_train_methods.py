"""Networks trained for a comparison: what an earlier call left is taken where it is what would be trained now."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import tifffile

from biounet.errors import UsageError
from biounet.model_file import load_model, save_model
from biounet.samples.synthetic import synthetic_cells
from biounet.training.run_files import RunFiles
from biounet.workflows.train_methods import Training, train_methods

TINY = ("network.width=2", "network.depth=1", "training.tile=16", "training.validations=1", "network.stem=1")
HOW = Training(overrides=TINY, steps=2, validation="c0", device="cpu")


def trained(data, how=HOW, networks=("unet",)):
    """What is said; the models go beside the data."""
    said = []
    train_methods(data, networks, data.parent / "out", how, tell=said.append, listen=lambda event: None)
    return said


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A folder with three images of cells and, beside them, a U-Net that was trained on these."""
    folder = tmp_path_factory.mktemp("begun")
    for index in range(3):
        image, labels = synthetic_cells((48, 48), seed=index, diameter_px=14)
        for kind, array in (("images", image), ("masks", labels.astype(np.uint16))):
            (folder / "data" / kind).mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(folder / "data" / kind / f"c{index}.tif", array)
    assert trained(folder / "data") == ["training unet, seed 0"]
    return folder


@pytest.fixture
def data(begun, tmp_path):
    """A copy of the images, and of the model beside them."""
    shutil.copytree(begun, tmp_path, dirs_exist_ok=True)
    return tmp_path / "data"


def test_what_was_trained_alike_is_taken(data):
    model = data.parent / "out" / "models" / "unet-seed0.safetensors"
    for how in (HOW, replace(HOW, validation="images 0")):  # the same image, by another name
        assert trained(data, how) == [f"{model}: trained before"]


def test_settings_come_from_a_file_too_and_each_network_takes_its_own(data, tmp_path):
    config = tmp_path / "settings.toml"
    config.write_text("[network]\nname = 'fcn8s'\nwidth = 3\ndepth = 1\n[training]\nvalidations = 1\ntile = 16\n")
    how = replace(HOW, config=config, overrides=("network.width=2", "network.stem=1"))
    assert len(trained(data, how, ("unet", "fcn32s"))) == 2  # the U-Net of that name is what was trained before
    models = data.parent / "out" / "models"
    made = load_model(models / "fcn32s-seed0.safetensors")
    assert made.network["name"] == "fcn32s"
    assert made.network["width"] == 2  # --set goes over the file; depth and stem are the other network's
    with pytest.raises(UsageError, match="setting network.depth means nothing for network fcn32s"):
        trained(data, how, ("fcn32s",))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"steps": 50}, r"2 steps \(now 50\)"),
        ({"steps": None, "budget": 9.0}, r"2 steps \(now a budget of 9 s\)"),
        ({"steps": None}, r"2 steps \(now a budget of 900 s\)"),
        ({"overrides": (*TINY, "training.learning_rate=0.1")}, r"training.learning_rate 0.001 \(now 0.1\)"),
        ({"validation": "c1"}, r"data.validation 'c0' \(now 'c1'\)"),
        ({"overrides": (*TINY, "data.normalisation=dataset")}, r"data.normalisation 'image' \(now 'dataset'\)"),
    ],
)
def test_what_was_trained_otherwise_is_refused(data, changed, words):
    remedy = "; give another --out, or remove it and unet-seed0.safetensors.run to train anew"
    with pytest.raises(UsageError, match=f"unet-seed0.safetensors: was trained with .*{words}.*{remedy}"):
        trained(data, replace(HOW, **changed))


def test_other_images_are_refused(data):
    image = tifffile.imread(data / "images" / "c2.tif")
    tifffile.imwrite(data / "images" / "c2.tif", image[::-1])
    with pytest.raises(UsageError, match="was trained with other images or annotations; give another --out"):
        trained(data)


def test_another_budget_is_refused(data):
    shutil.rmtree(data.parent / "out")
    how = replace(HOW, steps=None, budget=1.0)
    trained(data, how)
    files = RunFiles(data.parent / "out" / "models" / "unet-seed0.safetensors")
    assert files.facts()["budget_s"] == 1
    assert "trained before" in trained(data, how)[0]
    steps = files.facts()["steps"]
    assert "trained before" in trained(data, replace(HOW, steps=steps))[0]  # what the budget bought
    with pytest.raises(UsageError, match=r"was trained with a budget of 1 s \(now a budget of 4 s\)"):
        trained(data, replace(how, budget=4.0))


def test_an_unfinished_training_goes_on_as_it_was_begun(data):
    shutil.rmtree(data.parent / "out")

    def interrupt(event):
        if type(event).__name__ == "StepDone":
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train_methods(data, ["unet"], data.parent / "out", HOW, tell=print, listen=interrupt)
    with pytest.raises(UsageError, match=r"unet-seed0.safetensors: was trained with 2 steps \(now 3\)"):
        trained(data, replace(HOW, steps=3))
    assert trained(data) == ["training unet, seed 0"]
    assert "trained before" in trained(data)[0]


def test_a_model_of_unknown_training_is_refused(data):
    path = data.parent / "out" / "models" / "unet-seed0.safetensors"
    save_model(path, replace(load_model(path), training={}))
    with pytest.raises(UsageError, match="unet-seed0.safetensors: does not say how it was trained; give another --out"):
        trained(data)


def test_it_is_refused_before_anything_is_trained(data):
    with pytest.raises(UsageError, match=r"unet-seed0.safetensors: was trained with 2 steps \(now 3\)"):
        trained(data, replace(HOW, steps=3), networks=("fcn32s", "unet"))
    assert not list((data.parent / "out" / "models").glob("fcn*"))
