"""What predicted values stand for, by what is told of them and by the values themselves."""

import json
import re

import numpy as np
import pytest

from biounet.errors import DataError, UsageError
from biounet.evaluation.legend import (
    Legend,
    choose_unlabelled,
    class_ids,
    joined,
    read_legend,
    reading_found,
    reading_told,
)
from biounet.labels.meaning import Meaning


def classes(*values, names=()):
    return Meaning("classes", values, "", value_names=names)


# -- nothing is told


@pytest.mark.parametrize(
    ("own", "found", "meant", "words"),
    [
        ((0, 1, 2), {0, 1, 2}, {0: 0, 1: 1, 2: 2}, "are the annotation's own$"),
        ((0, 80, 200), {0, 200}, {0: 0, 80: 80, 200: 200}, "are the annotation's own$"),
        ((0, 2, 3), {0, 2}, {0: 0, 2: 2, 3: 3}, "own; nothing says whether they are class ids 0 to 2 instead"),
        ((0, 80, 200), {0, 1, 2}, {0: 0, 1: 80, 2: 200}, "taken for class ids of 0, 80, 200: 1, 2 are no value"),
        ((1, 2), {0, 1}, {0: 1, 1: 2}, "taken for class ids of 1, 2: 0 is no value of the annotation"),
        ((0, 1), {0, 255}, {0: 0, 255: 1}, "taken for 0, 1: two values each"),
        ((0, 2), {0, 1, 2}, {0: 0, 1: 1, 2: 2}, "taken for the annotation's own, though 1 is no value of"),
    ],
)
def test_values_are_read_alike_in_all_files(own, found, meant, words):
    """Two files: what one of them shows is decided by both."""
    reading = reading_found({"a.tif": found, "b.tif": {min(found)}}, classes(*own))
    assert reading.meant == meant
    assert re.search(words, reading.reason)


def test_ids_of_objects_are_no_classes():
    with pytest.raises(DataError, match=r"b.tif: label values 1, 2, .*the classes are 0, 255.*--task instances"):
        reading_found({"a.tif": {0}, "b.tif": set(range(9))}, classes(0, 255))


# -- the model tells


def test_class_ids_have_the_values_of_the_model():
    reading = reading_told(Legend("classes", ("0", "1", "2"), (0, 1, 2)), classes(0, 2))
    meaning = joined(classes(0, 2), [reading])
    assert (meaning.values, meaning.foreign) == ((0, 1, 2), (1,))
    assert class_ids(np.array([[0, 1, 2, -1]]), reading, meaning).tolist() == [[0, 1, 2, -1]]


def test_classes_of_the_truth_that_the_model_lacks_are_said():
    reading = reading_told(Legend("classes", ("back", "fore"), (1, 2)), classes(0, 1, 2))
    assert reading.reason.endswith("class ids of back, fore, as the model has them; 0 of the truth are none of them, "
                                   "and never right")  # fmt: skip
    meaning = joined(classes(0, 1, 2), [reading])
    assert (meaning.values, meaning.class_names, meaning.foreign) == ((0, 1, 2), ("0", "back", "fore"), ())
    assert class_ids(np.array([[0, 1]]), reading, meaning).tolist() == [[1, 2]]


def test_of_two_classes_each_the_second_is_the_second():
    reading = reading_told(Legend("classes", ("0", "1"), (0, 1)), classes(0, 255))
    assert reading.meant == {0: 0, 1: 255}
    assert reading.reason.endswith("; of two classes each, 0, 1 are 0, 255 here")


def test_a_file_of_something_else_is_refused():
    legend = Legend("classes", ("0", "1"), (0, 1))
    with pytest.raises(DataError, match="b.tif: label values 0, 255, but run.json beside it tells of class ids 0 to 1"):
        reading_told(legend, classes(0, 255), {"a.tif": {0, 1}, "b.tif": {0, 255}})


def test_classes_of_one_name_are_told_apart():
    own = classes(0, 3, names=("back", "cell"))
    reading = reading_told(Legend("classes", ("back", "cell", "gap"), (0, 1, 2)), own)
    assert joined(own, [reading]).class_names == ("back", "cell (1)", "gap", "cell (3)")


# -- run.json


def write(folder, **values):
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps(values))
    return folder


def test_a_legend_is_read_where_all_folders_tell_the_same(tmp_path):
    told = {"task": "classes", "classes": ["a", "b"], "values": [0, 9], "unlabelled": "unknown"}
    first, second = write(tmp_path / "1", **told), write(tmp_path / "2", **told)
    assert read_legend({first, second}) == Legend("classes", ("a", "b"), (0, 9), "unknown")
    assert read_legend({first, tmp_path}) is None


@pytest.mark.parametrize(
    "values",
    [{}, {"task": "classes"}, {"task": "classes", "classes": 5}, {"task": "classes", "classes": [], "values": ["x"]}],
)
def test_a_run_of_something_else_tells_nothing(tmp_path, values):
    assert read_legend({write(tmp_path / "1", **values)}) is None


def test_results_that_tell_names_alone_are_read(tmp_path):
    folder = write(tmp_path / "1", task="classes", classes=["a", "b"])
    assert read_legend({folder}) == Legend("classes", ("a", "b"))


# -- what is not drawn


def rule(unlabelled):
    return Legend("classes", ("a", "b"), (1, 2), unlabelled)


def test_what_is_not_drawn_is_as_asked_for_or_as_it_was_learnt():
    unknown = {"M": rule("unknown"), "L": rule(None)}
    assert choose_unlabelled(None, {}) == ("background", [])
    assert choose_unlabelled(None, unknown) == (
        "unknown", ["what is not drawn is unknown (as M learnt it; --unlabelled overrides that)"],
    )  # fmt: skip
    assert choose_unlabelled("background", unknown) == ("background", [])
    assert choose_unlabelled("unknown", {}) == ("unknown", ["what is not drawn is unknown (--unlabelled unknown)"])


def test_what_is_not_drawn_must_be_one_thing():
    with pytest.raises(UsageError, match="--unlabelled 'grey': choose background or unknown"):
        choose_unlabelled("grey", {})
    with pytest.raises(UsageError, match="was unknown for M, background for N in training; .*--unlabelled"):
        choose_unlabelled(None, {"M": rule("unknown"), "N": rule("background")})
