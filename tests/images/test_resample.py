import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from biounet.errors import UsageError
from biounet.images.resample import nearest_window, resample_window, resized_shape


def reader(image):
    return lambda start, stop: image[(..., *map(slice, start, stop))]


@pytest.mark.parametrize("new", [(30, 40), (75, 90), (20, 90), (50, 60)])
def test_the_whole_is_what_pillow_makes_of_it(new):
    image = np.random.default_rng(0).random((1, 50, 60), np.float32)
    found = resample_window(reader(image), (50, 60), new, (0, 0), new)
    expected = np.asarray(Pillow.fromarray(image[0]).resize(new[::-1], Pillow.Resampling.BILINEAR))
    inner = (slice(2, -2), slice(2, -2))  # Pillow has another rule at the edge
    np.testing.assert_allclose(found[0][inner], expected[inner], atol=1e-5)


@settings(max_examples=60, deadline=None)
@given(st.data(), st.sampled_from([(17, 23), (6, 9, 8)]), st.floats(0.3, 3))
def test_a_window_has_the_bits_of_the_whole(data, shape, factor):
    image = np.random.default_rng(1).integers(0, 4000, (2, *shape)).astype(np.uint16)
    new = resized_shape(shape, (factor,) * len(shape))
    whole = resample_window(reader(image), shape, new, (0,) * len(shape), new)
    start = [data.draw(st.integers(0, n - 1)) for n in new]
    stop = [data.draw(st.integers(a + 1, n)) for a, n in zip(start, new, strict=True)]
    found = resample_window(reader(image), shape, new, start, stop)
    np.testing.assert_array_equal(found, whole[(slice(None), *map(slice, start, stop))])
    ids = image[0].astype(np.int32)
    nearest = nearest_window(reader(ids), shape, new, (0,) * len(shape), new)
    part = nearest_window(reader(ids), shape, new, start, stop)
    np.testing.assert_array_equal(part, nearest[tuple(map(slice, start, stop))])


def test_one_channel_at_a_time_is_in_float32():
    image = np.zeros((6, 500, 500), np.uint8)
    tracemalloc.start()
    result = resample_window(reader(image), (500, 500), (400, 400), (0, 0), (400, 400))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak - result.nbytes < 4 * 500 * 500 * 4


def test_constant_stays_constant_and_one_pixel_fills_all():
    image = np.full((1, 9, 7), 5, np.uint8)
    assert (resample_window(reader(image), (9, 7), (4, 20), (0, 0), (4, 20)) == 5).all()
    one = np.full((1, 1, 1), 3, np.uint8)
    assert (resample_window(reader(one), (1, 1), (5, 2), (0, 0), (5, 2)) == 3).all()


def test_ids_doubled_and_halved_come_back():
    ids = np.random.default_rng(2).integers(0, 9, (8, 11)).astype(np.int32)
    double = nearest_window(reader(ids), (8, 11), (16, 22), (0, 0), (16, 22))
    np.testing.assert_array_equal(double, ids.repeat(2, 0).repeat(2, 1))
    np.testing.assert_array_equal(nearest_window(reader(double), (16, 22), (8, 11), (0, 0), (8, 11)), ids)


def test_shapes_follow_the_factor():
    assert resized_shape((10, 11), (0.5, 2.0)) == (5, 22)
    assert resized_shape((1, 3), (0.1, 0.1)) == (1, 1)
    with pytest.raises(UsageError, match="one above 0 for each axis"):
        resized_shape((10, 11), (0.5, 0.0))
