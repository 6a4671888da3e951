import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import contingency_table

from biounet.errors import DataError
from biounet.evaluation.overlap import known_part, overlap


def test_table_written_out():
    true = np.array([[0, 7, 7], [-1, 7, 3]])
    predicted = np.array([[0, 2, 2], [2, 9, 9]])
    table = overlap(predicted, true)
    assert table.true_ids.tolist() == [0, 3, 7]
    assert table.predicted_ids.tolist() == [0, 2, 9]
    cells = zip(table.true_index.tolist(), table.predicted_index.tolist(), table.counts.tolist(), strict=True)
    assert sorted(cells) == [(0, 0, 1), (1, 2, 1), (2, 1, 2), (2, 2, 1)]
    assert table.true_sizes.tolist() == [1, 1, 3]
    assert table.predicted_sizes.tolist() == [1, 2, 2]  # the pixel under unknown is not counted
    assert table.pixels == 5
    assert table.pairs.iou.tolist() == [1 / 2, 2 / 3, 1 / 4]  # 3 with 9, 7 with 2, 7 with 9
    assert table.touches_unknown.tolist() == [False, True, True]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([(17,), (9, 11), (4, 5, 6)]), st.sampled_from([2, 5, 60]))
def test_equal_to_scikit_image(seed, shape, ids):
    rng = np.random.default_rng(seed)
    true, predicted = rng.integers(0, ids, shape), rng.integers(0, ids, shape)
    table = overlap(predicted.astype(np.uint16), true.astype(np.int32))
    dense = np.zeros((ids, ids))
    dense[table.true_ids[table.true_index], table.predicted_ids[table.predicted_index]] = table.counts
    expected = contingency_table(true, predicted, sparse_type="array").toarray()
    assert np.array_equal(dense[: expected.shape[0], : expected.shape[1]], expected)
    assert dense.sum() == expected.sum() == true.size


def test_large_ids_and_booleans():
    true = np.array([0, 2**31 - 1, 2**31 - 1])
    table = overlap(np.array([0, 2**31 - 1, 5]), true)
    assert table.true_ids.tolist() == [0, 2**31 - 1]
    assert table.predicted_ids.tolist() == [0, 5, 2**31 - 1]
    assert overlap(np.array([True, False]), np.array([True, True])).true_sizes.tolist() == [0, 2]


def test_an_empty_array_has_an_empty_table():
    table = overlap(np.zeros((0, 4), int), np.zeros((0, 4), int))
    assert (table.pixels, table.true_count, table.predicted_count) == (0, 0, 0)


@pytest.mark.parametrize("shape", [(5, 5), (3, 5, 5)])
def test_touching_unknown_includes_corners_but_not_more(shape):
    true = np.zeros(shape, int)
    true[..., 0, 0] = -1
    predicted = np.zeros(shape, int)
    predicted[..., 1, 1] = 4
    predicted[..., 0, 2] = 6
    assert overlap(predicted, true).touches_unknown.tolist() == [False, True, False]


def test_known_part_blanks_the_prediction_under_unknown():
    predicted = np.array([3, 3], np.uint8)
    assert known_part(predicted, np.array([-1, 0])).tolist() == [0, 3]
    assert known_part(predicted, np.array([0, 0])) is predicted


@pytest.mark.parametrize(
    ("predicted", "true", "message"),
    [
        (
            np.zeros((2, 3), int),
            np.zeros((3, 2), int),
            r"shape \(2, 3\), true labels \(3, 2\).*crop or resample",
        ),
        (np.zeros(2), np.zeros(2, int), "predicted labels are float64: ids must be integers"),
        (np.array([-1]), np.array([0]), "predicted labels hold values from -1 to -1.*between 0"),
        (np.array([0]), np.array([-2]), "true labels hold values from -2.*between -1"),
        (np.array([2**31]), np.array([0]), "2147483648: ids must lie between.*relabel"),
    ],
)
def test_arrays_that_cannot_be_compared(predicted, true, message):
    with pytest.raises(DataError, match=message):
        overlap(predicted, true)
