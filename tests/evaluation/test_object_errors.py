import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from biounet.evaluation.object_errors import object_errors, object_table


def errors(merges=0, splits=0, misses=0, spurious=0):
    return {"merges": merges, "splits": splits, "misses": misses, "spurious": spurious}


TRUE = np.repeat([1, 0, 2, 0, 3, 0], [6, 1, 6, 1, 6, 4])


@pytest.mark.parametrize(
    ("predicted", "expected"),
    [
        (TRUE, errors()),
        (np.repeat([9, 0, 3, 0], [13, 1, 6, 4]), errors(merges=1)),
        (np.repeat([9, 0], [20, 4]), errors(merges=2)),
        (np.repeat([4, 5, 0, 2, 0, 3, 0], [3, 3, 1, 6, 1, 6, 4]), errors(splits=1)),
        (np.repeat([4, 5, 6, 0, 2, 0, 3, 0], [2, 2, 2, 1, 6, 1, 6, 4]), errors(splits=2)),
        (np.repeat([1, 0, 3, 0], [6, 8, 6, 4]), errors(misses=1)),
        (np.repeat([1, 0, 2, 0, 3, 0, 8], [6, 1, 6, 1, 6, 2, 2]), errors(spurious=1)),
        (np.repeat([4, 0], [1, 23]), errors(misses=3)),  # a speck in a cell finds it not, but is no invention
        (np.repeat([4, 0, 2, 0, 3, 0], [3, 4, 6, 1, 6, 4]), errors(misses=1)),  # half is not enough
        (np.repeat([4, 0, 2, 0, 3, 0], [4, 3, 6, 1, 6, 4]), errors()),
        (np.zeros(24, int), errors(misses=3)),
    ],
)
def test_each_error_by_hand(predicted, expected):
    assert object_errors(predicted, TRUE) == expected


def test_all_at_once():
    predicted = np.repeat([7, 0, 5, 6, 0, 8], [13, 1, 3, 3, 2, 2])
    assert object_errors(predicted, TRUE) == errors(merges=1, splits=1, spurious=1)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_merges_and_splits_are_mirror_images(seed):
    rng = np.random.default_rng(seed)
    a, b = (np.kron(rng.integers(0, 6, (4, 4)), np.ones((3, 3), int)) for _ in range(2))
    assert object_errors(a, b)["merges"] == object_errors(b, a)["splits"]


def test_an_object_that_reaches_into_the_unknown_is_not_spurious():
    true = np.array([1, 1, 0, 0, -1, -1])
    assert object_errors(np.array([1, 1, 0, 2, 2, 2]), true) == errors()
    assert object_errors(np.array([1, 1, 2, 0, 0, 0]), true) == errors(spurious=1)


def test_object_table_written_out():
    true = np.array([5, 5, 5, 0, 8, 0, 0, -1])
    predicted = np.array([2, 2, 4, 0, 0, 0, 9, 9])
    keys = ("true", "predicted", "true_pixels", "predicted_pixels", "iou", "kind", "touches_unknown")
    rows = [tuple(row[key] for key in keys) for row in object_table(predicted, true)]
    assert rows == [
        (5, 2, 3, 2, 2 / 3, "split", False),
        (8, None, 1, None, 0.0, "missed", False),
        (None, 4, None, 1, 0.0, None, False),
        (None, 9, None, 1, 0.0, None, True),
    ]
    merged = object_table(np.array([1, 1, 1, 0, 3]), np.array([6, 0, 7, 0, 0]))
    assert [row["kind"] for row in merged] == ["merged", "merged", "spurious"]
