import json
import re

import numpy as np
import pytest

from biounet.datasets.annotation import load_labels
from biounet.images.writing import write_labels


@pytest.fixture
def folders(data, tmp_path):
    """Two folders of label images: all cells, and one cell short in each."""
    for path in (data / "masks").iterdir():
        (truth,) = load_labels(path)
        write_labels(tmp_path / "alle" / f"{path.stem}_labels.tif", truth)
        write_labels(tmp_path / "eine zu wenig" / f"{path.stem}_cp_masks.tif", np.where(truth == 1, 0, truth))
    return tmp_path / "alle", tmp_path / "eine zu wenig"


def test_a_table_a_sentence_and_a_page(biounet, folders, data, tmp_path):
    full, short = folders
    done = biounet("compare", data, "--labels", f"A={full}", "--labels", short, "--out", tmp_path / "out")
    assert done.code == 0
    assert "mean of 3 images (95 % interval over blocks)" in done.out
    row = next(line for line in done.out.splitlines() if " seg " in line)
    assert "1.0000 (1.0000 to 1.0000)" in row
    assert "eine zu wenig" in done.out  # without NAME= the folder's own
    assert "seg: A is better than eine zu wenig by 0." in done.out
    assert "errors misses" in done.out
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "//" not in "".join(re.findall(r"(?:src|href)=\"(?!data:)([^\"]*)", page))  # nothing from elsewhere
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"report.html", "images.csv", "objects.csv"}


def test_json_is_one_object(biounet, folders, data, model, tmp_path):
    given = (
        "--labels",
        f"A={folders[0]}",
        "--model",
        f"M={model}",
        "--only",
        "zelle 5,zelle 9",
        "--no-warping",
        "--no-cost",
    )
    done = biounet("compare", data, *given, "--out", tmp_path / "out", "--json")
    assert done.code == 0
    assert done.json["names"] == ["zelle 5", "zelle 9"]
    assert list(done.json["methods"]) == ["M", "A"]
    (difference,) = done.json["differences"]
    assert difference["methods"] == ["M", "A"]
    assert difference["better"]["seg"] == "A"
    assert done.json["verdicts"][0].startswith("seg: A is better than M")
    assert json.loads(json.dumps(done.json)) == done.json
    assert (tmp_path / "out" / "M" / "zelle 5_labels.tif").exists()
    assert "careful: a model learnt from" in done.err


def test_several_files_with_commas_are_averaged(biounet, folders, data, model, tmp_path):
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(model.read_bytes())
    other = tmp_path / "other.safetensors"
    other.write_bytes(model.read_bytes())
    given = (
        "--model",
        f"M={copy},{other}",
        "--labels",
        f"A={folders[0]}",
        "--only",
        "zelle 5",
        "--no-warping",
        "--no-cost",
    )
    done = biounet("compare", data, *given, "--out", tmp_path / "out", "--json")
    assert done.code == 0
    assert list(done.json["methods"]) == ["M", "A"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], 2, "0 methods to compare; give two or more"),
        (["--labels", "A=x"], 2, "1 method to compare"),
        (["--labels", "A=x", "--labels", "A=y"], 2, "two methods are called A"),
        (["--labels", "A=x", "--labels", "B=y"], 3, "x: there is no such file or folder"),
        (["--labels", "A=x", "--model", "B=y"], 3, "y: there is no such model file"),
        (["--labels", "A=x", "--labels", "B=y", "--task", "cells"], 2, "--task 'cells' is not known"),
    ],
)
def test_options_that_cannot_be_meant(biounet, data, arguments, code, words, tmp_path):
    done = biounet("compare", data, *arguments, "--out", tmp_path / "out")
    assert done.code == code
    assert words in done.complaint
    assert done.out == ""


def test_images_that_are_not_there_are_named_by_position(biounet, data, folders, tmp_path):
    given = [word for name, folder in zip("AB", folders, strict=False) for word in ("--labels", f"{name}={folder}")]
    done = biounet("compare", data, *given, "--only", "images 7", "--out", tmp_path / "out")
    assert done.code == 2
    assert "positions run from 0 to 2" in done.complaint


def test_networks_are_trained_compared_and_not_trained_twice(biounet, data, tmp_path):
    tiny = ["network.width=2", "network.depth=1", "network.window=9", "training.validations=1", "training.batch_size=2"]
    chosen = [word for setting in [*tiny, "training.tile=16"] for word in ("--set", setting)]
    given = ("--methods", "unet,patch_cnn", "--seeds", "2", "--steps", "1", "--only", "zelle 5", "--device", "cpu")
    command = ("compare", data, *given, *chosen, "--no-warping", "--out", tmp_path / "out")
    done = biounet(*command, "--json")
    assert done.code == 0, done.err
    assert list(done.json["methods"]) == ["unet", "patch_cnn"]
    assert [len(method["runs"]) for method in done.json["methods"].values()] == [2, 2]
    assert done.json["names"] == ["zelle 5"]
    for cost in done.json["cost"].values():
        assert cost["parameters"] > 100
        assert cost["seconds_per_megapixel"] > 0
        assert cost["memory_bytes"] is None or cost["memory_bytes"] >= 0
    models = sorted((tmp_path / "out" / "models").glob("*.safetensors"))
    assert [path.name for path in models] == [f"{n}-seed{k}.safetensors" for n in ("patch_cnn", "unet") for k in (0, 1)]
    before = [path.read_bytes() for path in models]
    again = biounet(*command, "--no-cost")
    assert again.code == 0
    assert again.err.count("trained before") == 4
    assert [path.read_bytes() for path in models] == before
    assert "seconds per megapixel" not in again.out


@pytest.mark.parametrize(
    ("only", "words"),
    [((), "holds no label images"), (("--only", "zelle 5"), "no prediction for zelle 5")],
)
def test_labels_that_miss_are_told_before_networks_are_trained(biounet, folders, data, tmp_path, only, words):
    for file in folders[0].iterdir():
        if not only or file.name.startswith("zelle 5"):
            file.unlink()
    given = ("--methods", "unet", "--labels", f"A={folders[0]}", "--steps", "1", *only)
    done = biounet("compare", data, *given, "--out", tmp_path / "out")
    assert done.code == 3
    assert words in done.complaint
    assert not (tmp_path / "out").exists()


def test_options_of_training_are_refused_where_nothing_is_trained(biounet, folders, data):
    given = ("compare", data, "--labels", f"A={folders[0]}", "--labels", f"B={folders[1]}")
    done = biounet(*given, "--steps", "3", "--set", "foo=bar")
    assert done.code == 2
    assert "--steps, --set: how networks are trained, so they belong to --methods" in done.complaint


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--methods", "unet"], "1 method to compare"),
        (["--methods", "unet,vit"], "--methods unet,vit: choose from unet, fcn8s"),
        (["--methods", "fcn8s,fcn16s", "--set", "network.window=33"], "network.window means nothing for network fcn8s"),
        (["--methods", "unet,fcn8s", "--budget", "soon"], "--budget 'soon'"),
    ],
)
def test_networks_that_cannot_be_trained(biounet, data, arguments, words, tmp_path):
    done = biounet("compare", data, *arguments, "--out", tmp_path / "out")
    assert done.code == 2
    assert words in done.complaint
    assert not (tmp_path / "out").exists()
