"""Where the pixels of a level of a pyramid, resampled or not, lie in the file."""

from types import SimpleNamespace

import numpy as np
import pytest

from biounet.images.regions import level_factor
from biounet.prediction.view import View


def view_of(full, level, shape):
    """A view of one row of ``full`` pixels, of a level of ``level``, resampled to ``shape``."""
    regions = SimpleNamespace(
        spatial_shape=lambda ndim, at=0: (1, full), factors=lambda ndim, at: (1.0, level_factor(full, level))
    )
    return View(regions, 0, (0,), 1, (1, level), (1, shape))


def numbers(start, stop):
    return np.arange(start[1], stop[1])[None]


@pytest.mark.parametrize(("full", "level", "factor"), [(4099, 1024, 4), (4111, 128, 32), (4097, 1025, 4), (90, 45, 2)])
def test_a_pixel_of_a_level_stands_for_a_whole_number_of_pixels(full, level, factor):
    """Also where its size was rounded down, and its last pixel stands for those that are left."""
    expected = np.minimum(np.arange(full) // factor, level - 1)
    read = view_of(full, level, level).on_file(numbers)
    assert np.array_equal(read((0, 0), (1, full))[0], expected)
    assert np.array_equal(read((0, full - 9), (1, full))[0], expected[-9:])


def test_of_a_resampled_level_the_nearest_pixel():
    full, level, shape = 4099, 1024, 700
    centres = (np.arange(full) + 0.5) / 4 * shape / level
    read = view_of(full, level, shape).on_file(numbers)
    assert np.array_equal(read((0, 0), (1, full))[0], np.minimum(np.floor(centres).astype(int), shape - 1))


def test_a_level_whose_factor_is_no_whole_number_is_stretched():
    read = view_of(100, 67, 67).on_file(numbers)
    assert np.array_equal(read((0, 0), (1, 100))[0], ((np.arange(100) + 0.5) * 0.67).astype(int))
