import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from biounet.errors import UsageError
from biounet.labels.components import components, relabel_by_first_pixel


def test_pieces_that_touch_by_a_corner_are_apart():
    mask = np.array([[1, 0, 0], [0, 1, 1], [0, 0, 1]], bool)
    assert components(mask).tolist() == [[1, 0, 0], [0, 2, 2], [0, 0, 2]]


def test_different_values_that_touch_are_apart_and_unknown_is_background():
    labels = np.array([[5, 5, 9], [-1, 0, 5]], np.int32)
    assert components(labels).tolist() == [[1, 1, 2], [0, 0, 3]]


def test_relabel_keeps_unknown_and_orders_by_first_pixel():
    labels = np.array([[0, 7, 3], [-1, 3, 7]], np.int32)
    assert relabel_by_first_pixel(labels).tolist() == [[0, 1, 2], [-1, 2, 1]]


def test_other_dimensions_are_refused():
    with pytest.raises(UsageError, match="2 or 3 axes"):
        components(np.ones(4, bool))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([(9, 14), (5, 6, 7)]))
def test_equal_to_scipy_and_in_raster_order(seed, shape):
    mask = np.random.default_rng(seed).random(shape) < 0.55
    expected, count = ndimage.label(mask)  # scipy numbers in raster order with face connectivity
    assert np.array_equal(components(mask), expected)
    assert components(mask).max(initial=0) == count
