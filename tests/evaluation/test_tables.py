import csv

import numpy as np
import pytest

from biounet.evaluation.scores import evaluate_pair
from biounet.evaluation.tables import image_row, object_rows, write_csv


def read(path):
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def test_nested_scores_become_columns():
    assert image_row({"seg": 0.5, "ap": {"0.50": 1.0}, "errors": {"merges": 2}, "det": None}) == {
        "seg": 0.5, "ap.0.50": 1.0, "errors.merges": 2, "det": None,
    }  # fmt: skip


def test_rows_of_different_keys_share_one_header(tmp_path):
    write_csv(tmp_path / "neu" / "t.csv", [{"name": "Größe, 1", "seg": 0.25}, {"name": "b", "seg": None, "dice": 1.0}])
    assert read(tmp_path / "neu" / "t.csv") == [
        {"name": "Größe, 1", "seg": "0.25", "dice": ""},
        {"name": "b", "seg": "", "dice": "1.0"},
    ]
    assert (tmp_path / "neu" / "t.csv").read_bytes().startswith(b"\xef\xbb\xbf")


@pytest.mark.parametrize(("task", "objects"), [("instances", [(1, 1), (2, 2)]), ("classes", [(1, 1)])])
def test_objects_of_a_class_image_are_its_pieces(task, objects):
    true = np.array([[1, 1, 2, 2, 0]], np.int32)
    rows = object_rows(true, true, task)
    assert [(row["true"], row["predicted"]) for row in rows] == objects
    assert {row["kind"] for row in rows} == {"correct"}


def test_objects_that_meet_under_unknown_pixels_alone_are_two_as_in_the_scores():
    true = np.ones((5, 9), np.int32)
    true[:, 4] = -1
    predicted = np.ones_like(true)
    true[2], predicted[2] = 0, 0
    rows = object_rows(predicted, true, "classes")
    scores = evaluate_pair(predicted, true, task="classes", classes=["a", "b"], warping=False)
    assert scores["objects"] == {"true": 4, "predicted": 4}
    assert [row["kind"] for row in rows] == ["correct"] * 4
