from pathlib import Path

import numpy as np
import pytest

from biounet.errors import DataError, UsageError
from biounet.images.image import Header, Image, check_finite, drops_alpha, match_channels, planes

FILE = Path("x.tif")


def image(axes, *shape, **fields):
    array = np.arange(np.prod(shape), dtype=np.int64).reshape(shape)
    return Image(array, axes, None, FILE, **fields)


@pytest.mark.parametrize(
    ("axes", "shape", "ndim", "count", "item"),
    [
        ("YX", (4, 5), 2, 1, (1, 4, 5)),
        ("YX", (4, 5), 3, 1, (1, 1, 4, 5)),
        ("CYX", (3, 4, 5), 2, 1, (3, 4, 5)),
        ("IYX", (7, 4, 5), 2, 7, (1, 4, 5)),
        ("IYX", (7, 4, 5), 3, 1, (1, 7, 4, 5)),
        ("TYX", (7, 4, 5), 2, 7, (1, 4, 5)),
        ("CZYX", (2, 7, 4, 5), 2, 7, (2, 4, 5)),
        ("CZYX", (2, 7, 4, 5), 3, 1, (2, 7, 4, 5)),
        ("TCZYX", (3, 2, 7, 4, 5), 2, 21, (2, 4, 5)),
        ("TCZYX", (3, 2, 7, 4, 5), 3, 3, (2, 7, 4, 5)),
        ("ITYX", (2, 3, 4, 5), 3, 3, (1, 2, 4, 5)),
    ],
)
def test_planes_have_channels_first_and_agree_with_the_header(axes, shape, ndim, count, item):
    source = image(axes, *shape)
    found = planes(source, ndim)
    assert [plane.shape for plane in found] == [item] * count
    assert sorted(np.concatenate([plane.ravel() for plane in found])) == list(range(source.array.size))
    header = Header(axes, shape, np.dtype("i8"), 0, lambda: source.array)
    assert header.plane_count(ndim) == count
    assert header.spatial_shape(ndim) == item[1:]


def test_planes_run_through_time_before_z():
    found = planes(image("TCZYX", 2, 1, 3, 1, 1), 2)
    assert [int(plane.item()) for plane in found] == [0, 1, 2, 3, 4, 5]


def test_planes_keep_each_channel_with_its_plane():
    source = image("CZYX", 2, 3, 4, 5)
    assert np.array_equal(planes(source, 2)[1], source.array[:, 1])


def test_other_dimensions_are_refused():
    with pytest.raises(UsageError, match=r"ndim \(=4\) must be 2 or 3"):
        planes(image("YX", 2, 2), 4)


def test_constant_transparency_is_dropped_other_is_kept():
    array = np.zeros((4, 5, 6), np.uint8)
    array[3] = 200
    clear = Image(array, "CYX", None, FILE, alpha=True)
    assert drops_alpha(clear)
    assert planes(clear, 2)[0].shape == (3, 5, 6)
    array = array.copy()
    array[3, 0, 0] = 0
    varying = Image(array, "CYX", None, FILE, alpha=True)
    assert planes(varying, 2)[0].shape == (4, 5, 6)
    assert not drops_alpha(Image(array[:1] + np.uint8(1), "CYX", None, FILE))


def test_palettes_become_colours_or_grey():
    indices = np.array([[0, 1], [2, 1]], np.uint8)
    colours = np.array([[0, 0, 0], [255, 0, 0], [1, 2, 3]], np.uint8)
    found = planes(Image(indices, "YX", None, FILE, palette=colours), 2)[0]
    assert found.tolist() == [[[0, 255], [1, 255]], [[0, 0], [2, 0]], [[0, 0], [3, 0]]]
    grey = np.array([[9, 9, 9], [8, 8, 8], [7, 7, 7]], np.uint8)
    assert planes(Image(indices, "YX", None, FILE, palette=grey), 2)[0].tolist() == [[[9, 8], [7, 8]]]


def test_values_that_are_not_finite_are_counted():
    array = np.ones((3, 4), np.float32)
    array[0, 0], array[1, 1] = np.nan, np.inf
    with pytest.raises(DataError, match="here: 2 of 12 pixels are NaN or infinite"):
        check_finite(Image(array, "YX", None, FILE), "here")
    assert check_finite(Image(np.ones((2, 2)), "YX", None, FILE), "here") is None
    assert check_finite(image("YX", 2, 2), "here") is None


def test_grey_is_repeated_and_other_channels_are_refused():
    grey = np.arange(6).reshape(1, 2, 3)
    assert np.array_equal(match_channels(grey, 3, FILE), np.stack([grey[0]] * 3))
    assert np.array_equal(match_channels(grey, 1, FILE), grey)
    with pytest.raises(DataError, match=r"x\.tif: has 1 channels, not 2"):
        match_channels(grey, 2, FILE)


def test_pixel_size_belongs_to_the_last_axes():
    sized = Image(np.zeros((2, 3, 4)), "ZYX", (3.0, 2.0, 1.0), FILE)
    assert sized.pixel_size(3) == (3.0, 2.0, 1.0)
    assert sized.pixel_size(2) == (2.0, 1.0)
    assert Image(np.zeros((3, 4)), "YX", (2.0, 1.0), FILE).pixel_size(3) is None
