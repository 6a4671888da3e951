"""Comparison from files: which images, whose labels, and what is written."""

import csv
import shutil
from dataclasses import replace

import numpy as np
import pytest
import tifffile

import biounet
from biounet.datasets.annotation import load_labels
from biounet.errors import DataError, UsageError
from biounet.evaluation.files import evaluate_files
from biounet.images.writing import write_labels
from biounet.inference.engines import make_engine
from biounet.model_file import load_model, save_model
from biounet.prediction.predict import Request, predict_files
from biounet.settings import read_settings
from biounet.training.train import train
from biounet.workflows.compare import Labelled, Modelled, Terms
from biounet.workflows.compare import compare as measured

TINY = ("network.width=2", "network.depth=1", "training.tile=16", "training.validations=1")
NAMES = [f"bild {k}" for k in range(7)]


def cells(seed):
    """Nine bright squares on noise, one of them unlike from image to image; 48 x 48."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((48, 48), np.int32)
    for index in range(9):
        y, x = divmod(index, 3)
        mask[2 + 15 * y : 13 + 15 * y, 2 + 15 * x : 13 + 15 * x] = index + 1
    mask[mask == 1 + seed] = 0
    return (60 + 120 * (mask > 0) + rng.normal(0, 10, mask.shape)).astype(np.uint8), mask


def compare(*arguments, **options):
    """Without the cost, whose measurement starts a process for each model."""
    return measured(*arguments, Terms(cost=False, **options))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("Daten")
    for seed, name in enumerate(NAMES):
        image, mask = cells(seed)
        for kind, array in (("images", image), ("masks", mask.astype(np.int16))):
            (folder / kind).mkdir(exist_ok=True)
            tifffile.imwrite(folder / kind / f"{name}.tif", array)
    return folder


@pytest.fixture(scope="module")
def model(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("Modell") / "m.safetensors"
    train(data, out, settings=read_settings(overrides=[*TINY, "data.validation=images 5-6"]), steps=2, device="cpu")
    return out


@pytest.fixture
def labels(data, tmp_path):
    """Make label images: the truth as ``change(truth, index)`` leaves it."""

    def make(name, change=lambda truth, index: truth):
        for index, stem in enumerate(NAMES):
            (truth,) = load_labels(data / "masks" / f"{stem}.tif")
            write_labels(tmp_path / name / f"{stem}_labels.tif", change(np.maximum(truth, 0), index))
        return Labelled(name, tmp_path / name)

    return make


def without(ids):
    return lambda truth, index: np.where(np.isin(truth, ids), 0, truth)


def test_labels_of_any_program_are_scored_as_evaluate_scores_them(data, labels, tmp_path):
    good, poor = labels("gut"), labels("schlecht", without([2, 3]))
    found = compare(data, [poor, good], tmp_path / "out")
    for method in (good, poor):
        alone = evaluate_files(method.folder, data).result
        assert found.result["methods"][method.name]["images"] == alone["images"]
        assert found.result["methods"][method.name]["interval"] == alone["interval"]
    assert found.verdicts[0].startswith("seg: gut is better than schlecht by 0.2")
    assert found.result["methods"]["schlecht"]["mean"]["errors"]["misses"] > 0
    assert "compared on all 7 images" in found.statements


def test_tables_have_a_row_for_every_image_and_object(data, labels, tmp_path):
    methods = [labels("gut"), labels("ohne zwei", without([2]))]
    compare(data, methods, tmp_path / "out", only="bild 3,bild 4")
    tables = {}
    for name in ("images", "objects"):
        with (tmp_path / "out" / f"{name}.csv").open(encoding="utf-8-sig", newline="") as file:
            tables[name] = list(csv.DictReader(file))
    assert [(row["method"], row["image"]) for row in tables["images"]] == [
        (method.name, name) for method in methods for name in ("bild 3", "bild 4")
    ]
    missed = [row for row in tables["objects"] if row["kind"] == "missed"]
    assert [(row["method"], row["image"], row["true"]) for row in missed] == [
        ("ohne zwei", "bild 3", "2"), ("ohne zwei", "bild 4", "2"),
    ]  # fmt: skip


def test_the_page_shows_the_images_on_which_methods_differ_most_first(data, labels, tmp_path):
    worst_at_5 = labels("b", lambda truth, index: np.where(truth <= index // 5 * 4, 0, truth) if index == 5 else truth)
    found = compare(data, [labels("a"), worst_at_5], tmp_path / "out")
    page = found.report.read_text(encoding="utf-8")
    assert page.index("<figcaption>bild 5") < page.index("<figcaption>bild 0")
    assert "errors of b" in page
    assert found.verdicts[0] in page


def test_a_model_predicts_the_images_it_held_back(data, labels, model, tmp_path):
    found = compare(data, [Modelled("unser", ((model,),)), labels("andere")], tmp_path / "out")
    assert found.result["names"] == NAMES[5:]
    assert any("2 images held back in training" in line for line in found.statements)
    assert any("slightly optimistic" in line for line in found.statements)
    written = tmp_path / "out" / "unser"
    assert sorted(path.name for path in written.iterdir()) == [
        *(f"{name}_labels.tif" for name in NAMES[5:]),
        "run.json",
    ]
    again = evaluate_files(written, data, only="images 5-6").result
    assert again["mean"] == found.result["methods"]["unser"]["mean"]


def test_a_model_predicts_what_the_command_predicts(data, labels, model, tmp_path):
    compare(data, [Modelled("unser", ((model,),)), labels("andere")], tmp_path / "out", only="bild 2")
    loaded = load_model(model)
    predict_files(loaded, make_engine(loaded), [data / "images" / "bild 2.tif"], Request(tmp_path / "predicted"))
    one, other = (load_labels(tmp_path / f / "bild 2_labels.tif")[0] for f in ("out/unser", "predicted"))
    assert np.array_equal(one, other)


def test_several_models_are_averaged(data, labels, model, tmp_path):
    methods = [Modelled("einer", ((model,),)), Modelled("zwei gleiche", ((model, model),))]
    found = compare(data, methods, tmp_path / "out")
    one, two = found.result["methods"].values()
    assert one["images"] == two["images"]  # the mean of two equal ones
    runs = [Modelled("zwei Läufe", ((model,), (model,))), labels("andere")]
    found = compare(data, runs, tmp_path / "runs")
    assert len(found.result["methods"]["zwei Läufe"]["runs"]) == 2


def test_images_that_were_learnt_from_are_named(data, labels, model, tmp_path):
    methods = [Modelled("unser", ((model,),)), labels("andere")]
    found = compare(data, methods, tmp_path / "out", only="bild 0,bild 6")
    assert "careful: a model learnt from bild 0, so its scores there are too good" in found.statements


def test_unknown_pixels_count_for_no_method(data, labels, tmp_path):
    """One folder calls everything that is unknown a cell, the other nothing: they are equal."""
    partial = tmp_path / "partial"
    for stem in NAMES:
        image = tifffile.imread(data / "images" / f"{stem}.tif")
        (truth,) = load_labels(data / "masks" / f"{stem}.tif")
        truth[:, 30:] = -1
        for kind, array in (("images", image), ("masks", truth.astype(np.int16))):
            (partial / kind).mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(partial / kind / f"{stem}.tif", array)

    def all_right(truth, index):
        changed = truth.copy()
        changed[:, 30:] = 77
        return changed

    def nothing_right(truth, index):
        changed = truth.copy()
        changed[:, 30:] = 0
        return changed

    found = compare(partial, [labels("a", all_right), labels("b", nothing_right)], tmp_path / "out")
    (difference,) = found.result["differences"]
    assert difference["mean"]["seg"] == 0
    assert found.result["methods"]["a"]["mean"]["errors"]["spurious"] == 0


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ([], "0 methods to compare; give two or more"),
        (["a", "a"], "two methods are called a"),
        (["a", "b/c"], "method 'b/c' cannot name a folder"),
        (["a", ".."], "cannot name a folder"),
    ],
)
def test_methods_that_cannot_be_compared(data, tmp_path, names, words):
    with pytest.raises(UsageError, match=words):
        compare(data, [Labelled(name, tmp_path) for name in names], tmp_path / "out")


def test_a_model_needs_images_and_labels_of_its_kind(data, labels, model, tmp_path):
    methods = [Modelled("unser", ((model,),)), labels("andere")]
    with pytest.raises(UsageError, match="bild 5: a model needs the image too; give a data folder"):
        compare(data / "masks", methods, tmp_path / "out")
    with pytest.raises(DataError, match="--model unser: was trained for instances .background, cell., but"):
        compare(data, methods, tmp_path / "out", task="classes")


def test_missing_labels_are_told_before_a_model_works(data, model, labels, tmp_path):
    theirs = labels("andere")
    sorted(theirs.folder.iterdir())[0].unlink()
    terms = [Modelled("unser", ((model,),)), theirs]
    with pytest.raises(DataError):
        compare(data, terms, tmp_path / "out", only="images 0-6")
    assert not list((tmp_path / "out").rglob("*_labels.tif"))


def test_models_that_held_back_other_images(data, model, labels, tmp_path):
    trained = load_model(model)
    other = tmp_path / "other.safetensors"
    save_model(other, replace(trained, training={**trained.training, "validation_images": ["bild 0"]}))
    methods = [Modelled("eins", ((model,),)), Modelled("zwei", ((other,),))]
    with pytest.raises(UsageError, match="held back different images, none in common; name images with --only"):
        compare(data, methods, tmp_path / "out")


# -- classes


@pytest.fixture(scope="module")
def scribbled(tmp_path_factory):
    """Strokes over background (1) and cells (2) on seven images, the rest (0) not drawn; and a model of them."""
    folder = tmp_path_factory.mktemp("Striche")
    for seed, name in enumerate(NAMES):
        image, mask = cells(seed)
        drawn = np.where(np.arange(48) % 4, 0, 1 + (mask > 0))
        for kind, array in (("images", image), ("masks", drawn.astype(np.uint8))):
            (folder / kind).mkdir(exist_ok=True)
            tifffile.imwrite(folder / kind / f"{name}.tif", array)
    given = [*TINY, "data.validation=images 5-6", "data.unlabelled=unknown", "data.task=classes"]
    out = tmp_path_factory.mktemp("Modell") / "m.safetensors"
    train(folder, out, settings=read_settings(overrides=given), steps=2, device="cpu")
    return folder, out


def test_a_model_of_scribbles_is_compared_by_its_own_values(scribbled, tmp_path):
    """Beside labels in the annotation's values; the model's rule of what is unknown holds for both."""
    folder, model = scribbled
    for seed, name in enumerate(NAMES):
        write_labels(tmp_path / "eigene" / f"{name}_labels.tif", 1 + (cells(seed)[1] > 0))
    methods = [Modelled("M", ((model,),)), Labelled("eigene", tmp_path / "eigene")]
    found = compare(folder, methods, tmp_path / "out", task="classes")
    assert found.result["methods"]["eigene"]["mean"]["pixel_error"] == 0
    assert list(found.result["methods"]["M"]["mean"]["classes"]) == ["1", "2"]
    assert "what is not drawn is unknown (as M learnt it; --unlabelled overrides that)" in found.statements
    assert "M: predicted values are class ids of 1, 2, as the model has them" in found.statements
    assert "eigene: predicted values 1, 2 are the annotation's own" in found.statements[-1]
    again = evaluate_files(tmp_path / "out" / "M", folder, only="images 5-6", task="classes").result
    assert again["mean"] == found.result["methods"]["M"]["mean"]
    trained = load_model(model).training["validation_scores"]
    assert [image["dice"] for image in again["images"]] == pytest.approx(trained["dice"])


def test_models_of_different_classes_are_no_runs_of_one_method(scribbled, model, tmp_path):
    folder, other = scribbled
    methods = [Modelled("M", ((model,), (other,))), Labelled("A", folder / "masks")]
    with pytest.raises(DataError, match="--model M: its models were trained for different classes"):
        compare(folder, methods, tmp_path / "out")


def test_images_of_another_pixel_size_are_predicted_as_the_command_does(data, model, tmp_path):
    """At twice the resolution that the model learnt at."""
    known = replace(load_model(model), pixel_size_um=(0.5, 0.5))
    save_model(tmp_path / "m.safetensors", known)
    for kind in ("images", "masks"):
        (tmp_path / "fine" / kind).mkdir(parents=True)
        for name in NAMES[:2]:
            array = tifffile.imread(data / kind / f"{name}.tif").repeat(2, 0).repeat(2, 1)
            path = tmp_path / "fine" / kind / f"{name}.tif"
            tifffile.imwrite(path, array, resolution=(4e4, 4e4), resolutionunit="CENTIMETER")
    files = [tmp_path / "fine" / "images" / f"{name}.tif" for name in NAMES[:2]]
    biounet.predict(tmp_path / "m.safetensors", files, tmp_path / "predicted", device="cpu", save="labels")
    methods = [Modelled("m", ((tmp_path / "m.safetensors",),)), Labelled("r", tmp_path / "predicted")]
    found = compare(tmp_path / "fine", methods, tmp_path / "out", device="cpu", only=",".join(NAMES[:2]))
    assert f"m: resampled to 0.5 um a pixel: {', '.join(NAMES[:2])}" in found.statements
    for name in NAMES[:2]:
        ours, theirs = (tifffile.imread(tmp_path / f / f"{name}_labels.tif") for f in ("out/m", "predicted"))
        assert ours.max() > 0
        assert np.array_equal(ours, theirs)


def test_models_of_planes_and_of_volumes_are_told_apart(data, model, tmp_path):
    for kind in ("images", "masks"):
        (tmp_path / "volumes" / kind).mkdir(parents=True)
        stack = np.stack([tifffile.imread(data / kind / f"{name}.tif") for name in NAMES[:5]])
        tifffile.imwrite(
            tmp_path / "volumes" / kind / "v.tif", stack.astype(np.uint16), imagej=True, metadata={"axes": "ZYX"}
        )
    methods = [Modelled("m", ((model,),)), Labelled("r", tmp_path / "volumes" / "masks")]
    with pytest.raises(UsageError, match="--model m: learnt 2D images, and they are 3D here; predict with it first"):
        compare(tmp_path / "volumes", methods, tmp_path / "out", device="cpu", ndim=3)


def test_other_images_of_the_same_names_were_not_learnt_from(data, model, tmp_path):
    """A separate test folder, which names its images as everybody does."""
    shutil.copytree(data, tmp_path / "other")
    for file in (tmp_path / "other" / "images").iterdir():
        tifffile.imwrite(file, 255 - tifffile.imread(file))
    methods = [Modelled(name, ((model,),)) for name in "ab"]
    found = compare(tmp_path / "other", methods, tmp_path / "out", device="cpu")
    assert "compared on all 7 images: no model held back any of them" in found.statements
    assert not any("careful" in line or "slightly optimistic" in line for line in found.statements)
    held_back = compare(data, methods, tmp_path / "own", device="cpu")
    assert "compared on 2 images held back in training: bild 5, bild 6" in held_back.statements
