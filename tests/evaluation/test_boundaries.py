import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.measure import euler_number

from biounet.errors import UsageError
from biounet.evaluation.boundaries import parted, warped, warping_error

SHAPE = (16, 30)
PIXELS = 16 * 30


def cells():
    """Two cells of 10x10 pixels, one column apart."""
    image = np.zeros(SHAPE, int)
    image[3:13, 3:13], image[3:13, 14:24] = 1, 2
    return image


def test_a_perfect_prediction():
    assert warping_error(cells(), cells()) == 0.0


@pytest.mark.parametrize("shift", [(2, 0), (0, -3), (1, 4), (-2, 2)])
def test_shifted_borders_cost_nothing(shift):
    assert warping_error(np.roll(cells(), shift, (0, 1)), cells()) == 0.0


def test_a_cell_of_another_size_costs_nothing():
    larger = cells()
    larger[1:15, 15:28] = 2
    assert warping_error(larger, cells()) == 0.0


def test_a_merge_costs_the_missing_line():
    bridge = cells()
    bridge[6:9, 13] = 1
    assert warping_error(bridge > 0, cells()) == 3 / PIXELS
    merged = cells() > 0
    merged[3:13, 13] = True
    assert warping_error(merged, cells()) == 10 / PIXELS


def test_a_split_costs_the_last_pixel_that_held_both_parts():
    split = cells()
    split[3:13, 18] = 0
    assert warping_error(split > 0, cells()) == 1 / PIXELS


def test_a_hole_costs_its_area():
    hole = cells()
    hole[6:8, 6:9] = 0
    assert warping_error(hole, cells()) == 6 / PIXELS


def test_a_filled_hole_costs_one_pixel():
    true = cells()
    true[6:8, 6:9] = 0
    assert warping_error(cells(), true) == 1 / PIXELS


def test_a_missed_cell_shrinks_to_one_pixel_and_a_spurious_one_costs_its_area():
    one = np.where(cells() == 1, 1, 0)
    assert warping_error(one, cells()) == 1 / PIXELS
    assert warping_error(cells(), one) == 100 / PIXELS


def test_touching_ids_are_parted():
    touching = np.zeros(SHAPE, int)
    touching[3:13, 3:13], touching[3:13, 13:23] = 1, 2
    assert warping_error(touching, touching) == 0.0
    assert warping_error(touching > 0, touching) == 10 / PIXELS
    assert parted(np.array([[1, 2, 2], [1, 1, 0]])).tolist() == [[False, False, True], [True, True, False]]


@pytest.mark.parametrize("shift", [1, 2, 5])
def test_a_moved_border_between_touching_cells_costs_nothing(shift):
    true, predicted = np.ones(SHAPE, int), np.ones(SHAPE, int)
    true[:, 15:], predicted[:, 15 + shift :] = 2, 2
    assert warping_error(predicted, true) == 0.0


def test_unknown_pixels_do_not_count():
    true = cells()
    true[:, 20:] = -1
    predicted = cells()
    predicted[0, 25] = 9
    predicted[14, 1] = 9
    assert warping_error(predicted, true) == 1 / (16 * 20)
    assert warping_error(cells(), np.full(SHAPE, -1)) is None


def test_the_geometric_constraint():
    further = cells()
    further[3:13, 24:28] = 2  # four columns more
    assert warping_error(further, cells(), largest_shift_px=4) == 0.0
    assert warping_error(further, cells(), largest_shift_px=2) == 20 / PIXELS
    assert warping_error(further, cells(), largest_shift_px=0) == 40 / PIXELS
    empty = np.zeros(SHAPE, int)
    assert warping_error(further, empty, largest_shift_px=1) == 240 / PIXELS


def test_in_3d():
    true = np.zeros((8, 9, 12), int)
    true[2:6, 2:7, 2:6], true[2:6, 2:7, 7:10] = 1, 2
    assert warping_error(np.roll(true, 1, 0), true) == 0.0
    bridge = true.copy()
    bridge[3, 4, 6] = 1
    assert warping_error(bridge > 0, true) == 1 / true.size
    hole = true.copy()
    hole[3:5, 4, 4] = 0
    assert warping_error(hole, true) == 2 / true.size


def _topology(mask):
    """Pieces of foreground (faces) and background (all neighbours), and the Euler number."""
    padded = np.pad(mask, 1)
    background = ndimage.label(~padded, np.ones((3,) * mask.ndim))[1]
    return ndimage.label(padded)[1], background, euler_number(padded, connectivity=1)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([(14, 15), (7, 8, 9)]), st.sampled_from([0.8, 1.5]))
def test_warping_keeps_the_topology_and_nears_the_target(seed, shape, smooth):
    rng = np.random.default_rng(seed)
    source, target = (ndimage.gaussian_filter(rng.normal(size=shape), smooth) > 0 for _ in range(2))
    allowed = rng.random(shape) < 0.9
    result = warped(source, target, allowed)
    assert _topology(result) == _topology(source)
    assert np.array_equal(result[~allowed], source[~allowed])
    assert np.array_equal(result[source == target], source[source == target])


def test_other_dimensions_are_refused():
    with pytest.raises(UsageError, match=r"2 or 3 axes, got shape \(4,\)"):
        warping_error(np.zeros(4, int), np.zeros(4, int))
