import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from biounet.errors import DataError
from biounet.evaluation.pixels import class_error, class_scores, dice, iou, pixel_error


def test_arithmetic_written_out():
    true = np.array([[1, 1, 0, -1], [2, 0, 0, -1]])
    predicted = np.array([[4, 0, 0, 9], [4, 7, 0, 0]])
    # known: 6 pixels; foreground true 3, predicted 3, shared 2, one missed and one too many
    assert pixel_error(predicted, true) == 2 / 6
    assert dice(predicted, true) == 2 * 2 / (3 + 3)
    assert iou(predicted, true) == 2 / 4


def test_classes_written_out():
    true = np.array([0, 1, 2, 2, -1])
    predicted = np.array([0, 2, 2, 1, 1])
    assert class_error(predicted, true) == 2 / 4
    assert pixel_error(predicted, true) == 0
    assert class_scores(predicted, true, ["outside", "cell", "nucleus", "debris"]) == {
        "outside": {"dice": 1.0, "iou": 1.0},
        "cell": {"dice": 0.0, "iou": 0.0},
        "nucleus": {"dice": 2 * 1 / (2 + 2), "iou": 1 / 3},
        "debris": {"dice": None, "iou": None},
    }
    assert list(class_scores(predicted, true)) == ["0", "1", "2"]


def test_empty_images():
    empty, full, unknown = np.zeros(4, int), np.ones(4, int), np.full(4, -1)
    assert (dice(empty, empty), iou(empty, empty), pixel_error(empty, empty)) == (None, None, 0.0)
    assert (dice(full, empty), iou(full, empty), pixel_error(full, empty)) == (0.0, 0.0, 1.0)
    assert (dice(empty, full), iou(empty, full)) == (0.0, 0.0)
    assert (dice(full, unknown), pixel_error(full, unknown), class_error(full, unknown)) == (None, None, None)


def test_a_class_without_a_name():
    with pytest.raises(DataError, match=r"class id 2 has no name among the 2 classes.*0 to 1"):
        class_scores(np.array([2]), np.array([0]), ["background", "cell"])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_equal_to_masks(seed):
    rng = np.random.default_rng(seed)
    true, predicted = rng.integers(-1, 4, (6, 7)), rng.integers(0, 4, (6, 7))
    known = true >= 0
    for k, name in enumerate("0123"):
        t, p = (true == k) & known, (predicted == k) & known
        if (t | p).any():
            scores = class_scores(predicted, true, list("0123"))[name]
            assert scores["iou"] == pytest.approx((t & p).sum() / (t | p).sum())
            assert scores["dice"] == pytest.approx(2 * (t & p).sum() / (t.sum() + p.sum()))
    assert class_error(predicted, true) == pytest.approx(np.mean((true != predicted)[known]))
    assert pixel_error(predicted, true) == pytest.approx(np.mean(((true > 0) != (predicted > 0))[known]))
