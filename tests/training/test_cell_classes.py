"""Cells of two kinds in one model, from annotation to scores by class."""

import json

import numpy as np
import pytest
import tifffile

from biounet import cli
from biounet.datasets.layouts import find_dataset, load
from biounet.errors import DataError
from biounet.evaluation.files import evaluate_files
from biounet.model_file import load_model
from biounet.planning.data import read_training_data
from biounet.planning.plan import make_plan
from biounet.settings import DataSettings, read_settings

KINDS = ("ring", "spot")


def two_kinds(seed, side=96):
    """Rings and spots on a jittered grid; image, ids, and the kind of each id."""
    rng = np.random.default_rng(seed)
    image, labels = rng.normal(40, 6, (side, side)), np.zeros((side, side), np.int32)
    kinds = {}
    for number, (y, x) in enumerate(np.ndindex(4, 4), start=1):
        centre = (np.array([y, x]) + 0.5) * side / 4 + rng.integers(-2, 3, 2)
        distance = np.hypot(*(np.mgrid[:side, :side] - centre[:, None, None]))
        kinds[number] = KINDS[int(rng.integers(2))]
        labels[distance < 8] = number
        image[(distance < 8) & ((distance > 4.5) | (kinds[number] == "spot"))] += 120
    return image.clip(0, 255).astype(np.uint8), labels, kinds


def write(folder, count=4, seed=0):
    for index in range(count):
        image, labels, kinds = two_kinds(seed + index)
        for kind, array in (("images", image), ("masks", labels.astype(np.uint16))):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(folder / kind / f"c{index}.tif", array)
        lines = [f"{number},{kind}" for number, kind in kinds.items()]
        (folder / "masks" / f"c{index}_classes.csv").write_text("\n".join(["id,class", *lines]))
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A model that learnt two kinds for a few seconds, and a folder of new images."""
    root = tmp_path_factory.mktemp("two kinds")
    data, new = write(root / "data"), write(root / "new", count=2, seed=100)
    small = ["network.width=8", "network.depth=2", "training.tile=60", "training.validations=1"]
    small += ["training.learning_rate=5e-3", "training.precision=fp32"]
    sets = [word for key in small for word in ("--set", key)]
    out = root / "m.safetensors"
    assert cli.run(["train", str(data), "--out", str(out), "--steps", "90", *sets, "-q"]) == 0
    assert cli.run(["predict", str(out), str(new / "images"), "--out", str(root / "out"), "-q"]) == 0
    return root


def test_classes_are_told_apart_by_what_is_inside(trained):
    result = evaluate_files(trained / "out", trained / "new", warping=False).result
    classes = result["mean"]["classes"]
    assert list(classes) == list(KINDS)
    assert all(entry["f1"]["0.50"] > 0.8 for entry in classes.values()), classes
    assert result["mean"]["seg"] > 0.7


def test_the_model_file_and_the_results_name_the_classes(trained):
    model = load_model(trained / "m.safetensors")
    assert (model.task, model.classes) == ("instances", ("background", *KINDS))
    assert model.golden[1].shape[1] == 3
    said = " ".join(model.training["statements"])
    assert "classes of objects by name: ring (" in said
    assert "weights of the classes: background" in said
    assert json.loads((trained / "out" / "run.json").read_text())["classes"] == ["background", *KINDS]
    labels = tifffile.imread(trained / "out" / "c0_labels.tif")
    classes = tifffile.imread(trained / "out" / "c0_classes.tif")
    assert np.array_equal(classes > 0, labels > 0)
    assert all(len(np.unique(classes[labels == i])) == 1 for i in range(1, labels.max() + 1))


def test_held_back_images_are_judged_by_class(trained):
    lines = (trained / "m.safetensors.run" / "metrics.jsonl").read_text().splitlines()
    scores = [json.loads(line)["scores"] for line in lines if "Validated" in line]
    assert scores[-1]["selection"] == pytest.approx((scores[-1]["seg"] + scores[-1]["class_pq"]) / 2)


def test_predictions_are_annotations_of_the_same_classes(trained, tmp_path):
    """What was predicted, put beside the images, is read with its classes."""
    for name in ("c0", "c1"):
        for kind in ("labels", "classes"):
            (tmp_path / f"{name}_{kind}.tif").write_bytes((trained / "out" / f"{name}_{kind}.tif").read_bytes())
        (tmp_path / f"{name}.tif").write_bytes((trained / "new" / "images" / f"{name}.tif").read_bytes())
    dataset = find_dataset(tmp_path)
    assert "2 with NAME_classes: the class of every object" in dataset.reasons
    data = read_training_data(dataset, DataSettings())
    assert data.meaning.cell_classes == ("1", "2")


def test_training_goes_on_from_corrected_predictions_of_one_kind(trained, tmp_path, capsys):
    """The round of corrections, on an image that shows but one of the two kinds, called by its number."""
    image, labels, kinds = two_kinds(200)
    spots = np.where(np.isin(labels, [i for i, kind in kinds.items() if kind == "spot"]), labels, 0)
    tifffile.imwrite(tmp_path / "a.tif", image)
    tifffile.imwrite(tmp_path / "a_labels.tif", spots.astype(np.uint16))
    tifffile.imwrite(tmp_path / "a_classes.tif", ((spots > 0) * 2).astype(np.uint8))
    out = tmp_path / "again.safetensors"
    start = ["--from", str(trained / "m.safetensors"), "--steps", "2"]
    assert cli.run(["train", str(tmp_path), "--out", str(out), *start]) == 0
    said = capsys.readouterr()
    assert "classes as of the model, ring, spot: the data show spot as 2" in said.out + said.err
    assert load_model(out).classes == ("background", *KINDS)


def test_all_objects_may_be_taken_as_one_class(tmp_path):
    data = read_training_data(write(tmp_path), DataSettings(object_classes=False))
    assert (data.classes, data.meaning.cell_classes) == (2, ())


def test_as_classes_of_pixels(tmp_path):
    data = read_training_data(write(tmp_path), DataSettings(task="classes"))
    assert data.meaning.class_names == ("background", *KINDS)
    _, labels, kinds = two_kinds(0)
    assert np.array_equal(data.examples[0].labels == 2, np.isin(labels, [i for i, k in kinds.items() if k == "spot"]))


def test_cells_without_a_class_are_cells_of_unknown_class(tmp_path):
    write(tmp_path)
    file = tmp_path / "masks" / "c0_classes.csv"
    file.write_text("\n".join(file.read_text().splitlines()[:-1]))
    data = read_training_data(tmp_path, DataSettings())
    assert "1 objects without a name: of unknown class" in " ".join(data.statements)
    plan = make_plan(data, read_settings("standard", overrides=["network.width=2", "network.depth=1"]), seed=0)
    assert plan.sampler.classes_of[0][16] == -1
    assert plan.sampler.classes == 3


def test_more_names_than_classes_can_have_are_refused(tmp_path):
    write(tmp_path)
    lines = [f"{number},cell{number}" for number in range(1, 17)]
    for name in ("c0", "c1"):
        (tmp_path / "masks" / f"{name}_classes.csv").write_text("\n".join(["id,class", *lines, "17,one more"]))
    with pytest.raises(DataError, match="different names of objects .* --set data.object_classes=false"):
        read_training_data(find_dataset(tmp_path), DataSettings())


def test_a_list_of_classes_needs_its_columns(tmp_path):
    (write(tmp_path) / "masks" / "c0_classes.csv").write_text("1,ring\n")
    with pytest.raises(DataError, match="its columns must be id and class"):
        load(find_dataset(tmp_path))
