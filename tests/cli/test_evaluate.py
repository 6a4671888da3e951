import csv
import json

import numpy as np
import pytest
import tifffile

from biounet.datasets.annotation import load_labels
from biounet.evaluation.files import evaluate_files
from biounet.images.writing import write_labels


@pytest.fixture
def predicted(data, tmp_path):
    """Labels of the three images: the truth, one cell short."""
    for path in (data / "masks").iterdir():
        (truth,) = load_labels(path)
        write_labels(tmp_path / "Ergebnisse für mich" / f"{path.stem}_labels.tif", np.where(truth == 1, 0, truth))
    return tmp_path / "Ergebnisse für mich"


def test_json_is_one_object(biounet, predicted, data):
    done = biounet("evaluate", predicted, data, "--json", "--seed", "3")
    assert done.code == 0
    assert done.json == json.loads(json.dumps(evaluate_files(predicted, data, seed=3).result))
    assert {"images", "mean", "interval", "task"} <= set(done.json)
    assert [image["name"] for image in done.json["images"]] == ["zelle 14", "zelle 5", "zelle 9"]
    expected = [1 - 1 / 14, 1 - 1 / 5, 1 - 1 / 9]
    assert [image["seg"] for image in done.json["images"]] == pytest.approx(expected)
    assert done.json["mean"]["seg"] == pytest.approx(np.mean(expected))
    assert done.json["pooled"]["seg"] == pytest.approx(25 / 28)
    assert "images in images/, masks in masks/" in done.err


def test_a_table_for_people(biounet, predicted, data):
    done = biounet("evaluate", predicted, data)
    assert done.code == 0
    row = next(line for line in done.out.splitlines() if " seg " in line)
    assert f"{np.mean([1 - 1 / 14, 1 - 1 / 5, 1 - 1 / 9]):.4f}" in row
    assert "mean of 3 images" in done.out
    assert "95 % interval over blocks" in done.out
    assert f"seg over all 28 objects together: {25 / 28:.4f}" in done.out
    assert biounet("evaluate", predicted, data, "-q").err == ""


def test_only_some_and_without_the_slow_score(biounet, predicted, data):
    done = biounet("evaluate", predicted, data, "--only", "zelle 5", "--no-warping", "--json")
    assert [image["name"] for image in done.json["images"]] == ["zelle 5"]
    assert "warping_error" not in done.json["mean"]
    assert "only zelle 5" in done.err


def test_what_predict_writes_is_what_evaluate_reads(biounet, model, data, tmp_path):
    saved = ("--save", "labels,probabilities")
    assert biounet("predict", model, data / "images", "--out", tmp_path, *saved).code == 0
    done = biounet("evaluate", tmp_path, data, "--json")
    assert done.code == 0
    assert len(done.json["images"]) == 3
    for path in tmp_path.glob("*_probabilities.tif"):
        path.unlink()
    labels_alone = biounet("evaluate", tmp_path, data, "--json").json
    assert labels_alone["mean"]["seg"] == done.json["mean"]["seg"]
    assert labels_alone["mean"]["rand_error"] != done.json["mean"]["rand_error"]


def test_pages_through_predict_and_evaluate(biounet, model, tmp_path):
    folder = tmp_path / "daten"
    folder.mkdir()
    rng = np.random.default_rng(0)
    tifffile.imwrite(folder / "train-volume.tif", rng.integers(0, 255, (6, 40, 40)).astype(np.uint8))
    tifffile.imwrite(
        folder / "train-labels.tif", np.repeat(rng.integers(0, 2, (6, 8, 8)), 5, 1).repeat(5, 2) * np.uint8(255)
    )
    for save in ("labels", "labels,probabilities"):
        done = biounet("predict", model, folder / "train-volume.tif", "--out", tmp_path / "o", "--save", save)
        assert done.code == 0
        done = biounet("evaluate", tmp_path / "o", folder, "--only", "slices 2-4", "--json", "--task", "instances")
        assert done.code == 0
        assert [image["name"] for image in done.json["images"]] == [f"train-volume[0{i}]" for i in (2, 3, 4)]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--task", "cells"], 2, "--task 'cells' is not known; choose instances or classes"),
        (["--unlabelled", "grey"], 2, "--unlabelled 'grey': choose background or unknown"),
        (["--only", "zelle 7"], 2, "--only zelle 7: no image of this name; there are zelle 14, zelle 5, zelle 9"),
        (["--only", "images 5"], 2, "positions run from 0 to 2"),
    ],
)
def test_options_that_cannot_be_meant(biounet, predicted, data, arguments, code, words):
    done = biounet("evaluate", predicted, data, *arguments)
    assert done.code == code
    assert words in done.complaint
    assert done.out == ""


def test_a_missing_prediction(biounet, predicted, data):
    (predicted / "zelle 9_labels.tif").unlink()
    done = biounet("evaluate", predicted, data)
    assert done.code == 3
    assert "no prediction for zelle 9" in done.complaint


def test_tables_for_a_spreadsheet(biounet, predicted, data, tmp_path):
    done = biounet("evaluate", predicted, data, "--csv", tmp_path / "Tabellen", "--json")
    assert done.code == 0
    with (tmp_path / "Tabellen" / "images.csv").open(encoding="utf-8-sig", newline="") as file:
        images = list(csv.DictReader(file))
    assert [row["name"] for row in images] == ["zelle 14", "zelle 5", "zelle 9"]
    assert [float(row["seg"]) for row in images] == [image["seg"] for image in done.json["images"]]
    with (tmp_path / "Tabellen" / "objects.csv").open(encoding="utf-8-sig", newline="") as file:
        objects = list(csv.DictReader(file))
    assert [row["image"] for row in objects] == ["zelle 14"] * 14 + ["zelle 5"] * 5 + ["zelle 9"] * 9
    assert [row["true"] for row in objects if row["kind"] == "missed"] == ["1", "1", "1"]


def test_how_many_images_a_mean_is_of_is_said_where_it_leaves_some_out(biounet, tmp_path):
    labels = np.zeros((30, 30), np.int32)
    labels[5:15, 5:15] = 1
    for name, array in (("a", labels), ("b", labels * 0), ("c", labels * 0)):
        for folder in ("found", "true"):
            write_labels(tmp_path / folder / f"{name}.tif", array)
    lines = biounet("evaluate", tmp_path / "found", tmp_path / "true").out.splitlines()
    assert any(" seg (of 1 image) " in line for line in lines)
    assert any(" pixel_error " in line for line in lines)


def test_images_in_place_of_labels_are_pointed_out(biounet, predicted, data):
    assert "look like images" not in biounet("evaluate", predicted, data).err
    done = biounet("evaluate", predicted, data / "images")
    assert "3 of 3 true label files look like images (zelle 14)" in done.err
    assert "predicted label files" not in done.err
