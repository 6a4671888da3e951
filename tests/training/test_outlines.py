"""Outlines as what is learnt from: classes, what is known, and the rule that is printed and stored."""

import json

import numpy as np
import pytest
import tifffile

from biounet.errors import DataError
from biounet.planning.data import read_training_data
from biounet.settings import DataSettings

IMAGE = (np.arange(40 * 50).reshape(40, 50) % 199).astype(np.uint8)
UNKNOWN = DataSettings(unlabelled="unknown")


def box(top, left, bottom, right):
    return [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]


def write(folder, *drawn, name="a"):
    """An image with QuPath annotations: pairs of a class name ("" for none) and a box."""
    features = []
    for kind, corners in drawn:
        properties = {"classification": {"name": kind}} if kind else {}
        geometry = {"type": "Polygon", "coordinates": [box(*corners)]}
        features.append({"type": "Feature", "geometry": geometry, "properties": properties})
    folder.mkdir(exist_ok=True)
    tifffile.imwrite(folder / f"{name}.tif", IMAGE)
    (folder / f"{name}.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return folder


def test_what_is_not_drawn_is_background(tmp_path):
    data = read_training_data(write(tmp_path, ("", (2, 2, 10, 10))), DataSettings())
    assert np.unique(data.examples[0].labels).tolist() == [0, 1]
    assert (data.meaning.task, data.meaning.pieces) == ("instances", False)
    assert "every object was drawn by itself: instances" in data.statements
    assert "a pixel belongs to an outline if its centre lies inside; the later object lies on top" in data.statements
    assert data.statements[-1] == "what is not drawn is background; every image is annotated in full"


def test_touching_objects_stay_apart_and_one_in_two_parts_stays_one(tmp_path):
    data = read_training_data(write(tmp_path, ("", (2, 2, 10, 10)), ("", (2, 10, 10, 20))), DataSettings())
    assert np.unique(data.examples[0].labels[5, 2:20]).tolist() == [1, 2]


def test_outside_a_region_everything_is_unknown_and_the_share_of_each_image_is_said(tmp_path):
    write(tmp_path, ("Region*", (0, 0, 40, 25)), ("", (2, 2, 10, 10)), ("", (20, 30, 30, 40)))
    write(tmp_path, ("", (2, 2, 10, 10)), ("Ignore*", (0, 40, 20, 50)), name="b")
    write(tmp_path, ("", (2, 2, 10, 10)), name="c")
    data = read_training_data(tmp_path, DataSettings())
    assert (data.examples[0].labels[:, 25:] == -1).all()
    assert (data.examples[0].labels[:, :25] >= 0).all()
    assert (data.examples[1].labels[:20, 40:] == -1).all()
    assert data.statements[-1] == (
        "what is not drawn is background, except where the annotation is marked unknown; "
        "annotated shares: a 50%, b 90%; the other 1 in full"
    )


def test_undrawn_may_be_unknown_and_then_needs_a_known_background(tmp_path):
    folder = write(tmp_path / "none", ("", (2, 2, 10, 10)))
    with pytest.raises(
        DataError, match="no background is known in any image.*a region marked as complete, or outlines"
    ):
        read_training_data(folder, UNKNOWN)
    folder = write(tmp_path / "region", ("", (2, 2, 10, 10)), ("region", (0, 0, 20, 20)))
    data = read_training_data(folder, UNKNOWN)
    labels = data.examples[0].labels
    assert (labels == 0).sum() == 400 - 64
    assert (labels == -1).sum() == 2000 - 400
    rule = "what is not drawn is unknown (--unlabelled unknown), except where the annotation is marked complete"
    assert data.statements[-1] == f"{rule}; annotated shares: a 20%"
    folder = write(tmp_path / "background", ("", (2, 2, 10, 10)), ("background", (20, 0, 40, 50)))
    labels = read_training_data(folder, UNKNOWN).examples[0].labels
    assert (labels == 0).sum() == 20 * 50
    assert (labels == -1).sum() == 2000 - 1000 - 64


def test_names_are_classes_and_one_name_is_the_name_of_the_cells(tmp_path):
    write(tmp_path / "two", ("glia", (2, 2, 10, 10)), ("neuron", (20, 30, 30, 40)), ("", (20, 2, 30, 10)))
    data = read_training_data(tmp_path / "two", DataSettings())
    assert (data.classes, data.meaning.class_names) == (3, ("background", "glia", "neuron"))
    said = "classes of objects by name: glia (1), neuron (1); 1 objects without a name: of unknown class"
    assert said in " ".join(data.statements)
    data = read_training_data(write(tmp_path / "one", ("Nucleus", (2, 2, 10, 10))), DataSettings())
    assert (data.classes, data.meaning.class_names) == (2, ("background", "Nucleus"))


def test_drawn_areas_as_classes_of_pixels(tmp_path):
    folder = write(tmp_path, ("stroma", (0, 0, 40, 25)), ("tumour", (10, 10, 30, 40)))
    data = read_training_data(folder, DataSettings(task="classes"))
    assert data.meaning.class_names == ("background", "stroma", "tumour")
    assert data.examples[0].labels[[5, 20, 20, 35], [5, 20, 45, 5]].tolist() == [1, 2, 0, 1]
    data = read_training_data(write(tmp_path / "plain", ("", (2, 2, 10, 10))), DataSettings(task="classes"))
    assert data.meaning.class_names == ("background", "cell")


def test_other_classes_are_another_data_set(tmp_path):
    first = read_training_data(write(tmp_path, ("a", (2, 2, 10, 10)), ("b", (20, 2, 30, 10))), DataSettings()).digest
    second = read_training_data(write(tmp_path, ("b", (2, 2, 10, 10)), ("a", (20, 2, 30, 10))), DataSettings()).digest
    assert first != second
