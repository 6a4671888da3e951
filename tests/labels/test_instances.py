"""Objects from probabilities: each step by hand, and each step equal on a crop with its stated reach."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from biounet.errors import DataError, UsageError
from biounet.labels.growth import give_back, grow
from biounet.labels.instances import (
    InstanceSettings,
    SplitSettings,
    depth_reach,
    drop_specks,
    fill_holes,
    find_seeds,
    inner_pixels,
    instances,
    instances_from_probabilities,
    mark,
    reach,
    split_touching,
)


def picture(text):
    """An int32 array from lines of digits, '.' for 0."""
    return np.array([[0 if c == "." else int(c) for c in line.strip()] for line in text.strip().split("\n")], np.int32)


def mask_of(text):
    return picture(text) > 0


def test_threshold_components_and_raster_order():
    probability = np.array([[0.1, 0.9, 0.2], [0.5, 0.1, 0.6], [0.49, 0.0, 0.7]], np.float32)
    expected = picture(".1.\n2.3\n..3")
    np.testing.assert_array_equal(instances_from_probabilities(probability), expected)
    np.testing.assert_array_equal(instances_from_probabilities(probability, threshold=0.65), picture(".1.\n...\n..2"))


def test_probability_at_the_threshold_is_a_cell_also_where_float32_rounds():
    assert instances_from_probabilities(np.full((1, 1), 0.7, np.float32), threshold=0.7).item() == 1


def test_holes_up_to_a_size_are_filled_but_not_at_the_edge():
    mask = mask_of("""
        .1111111
        1111.111
        11111111
        11..1111
        11.11111
    """)
    filled = fill_holes(mask, 2)
    assert filled[1, 4]
    assert not filled[0, 0]  # at the edge: may go on outside
    assert not filled[3, 2]  # three pixels that touch the edge
    np.testing.assert_array_equal(fill_holes(mask, 0), mask)


def test_a_diagonal_line_between_two_cells_is_one_piece_and_its_filling_joins_nothing():
    mask = ~np.eye(7, dtype=bool)
    np.testing.assert_array_equal(fill_holes(mask, 5), mask)


@settings(deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([(17, 23), (9, 10, 8)]))
def test_without_a_limit_it_is_the_filling_of_all_holes(seed, shape):
    mask = np.random.default_rng(seed).random(shape) < 0.75
    everything = np.ones((3,) * len(shape), bool)
    expected = ndimage.binary_fill_holes(mask, structure=everything)
    np.testing.assert_array_equal(fill_holes(mask, mask.size), expected)


def test_specks_are_dropped_by_face_connectivity():
    mask = mask_of("""
        11..1
        1..1.
        ...1.
    """)
    np.testing.assert_array_equal(drop_specks(mask, 3), mask_of("11...\n1....\n....."))
    np.testing.assert_array_equal(drop_specks(mask, 2)[:, 3], [False, True, True])
    np.testing.assert_array_equal(drop_specks(mask, 1), mask)


def test_two_touching_discs_are_split_between_their_seeds():
    y, x = np.mgrid[:21, :36]
    discs = np.minimum(np.hypot(y - 10, x - 9), np.hypot(y - 10, x - 26))
    probability = np.clip(1 - discs / 20, 0, 1).astype(np.float32)
    whole = instances_from_probabilities(probability)
    assert whole.max() == 1
    for split in (SplitSettings("probability", 0.75, 30), SplitSettings("depth", 8.0, 30)):
        parted = instances_from_probabilities(probability, split=split)
        assert parted.max() == 2
        np.testing.assert_array_equal(parted > 0, whole > 0)
        assert set(np.unique(parted[:, :17])) <= {0, 1}
        assert set(np.unique(parted[:, 19:])) <= {0, 2}


def test_pieces_without_seed_and_what_no_seed_reaches_stay_as_objects():
    mask = mask_of("1111111.1")
    marks = np.array([[3, 1, 1, 1, 1, 1, 1, 0, 1]], np.uint8)
    split = SplitSettings("probability", 0.8, reach_px=2)
    np.testing.assert_array_equal(split_touching(mask, marks, split), picture("1112222.3"))
    np.testing.assert_array_equal(split_touching(mask, marks, split, 2), picture("1112222.."))


def test_small_seeds_are_not_seeds():
    marks = np.array([[3, 1, 3, 3]], np.uint8)
    seeds = find_seeds(marks > 0, marks, SplitSettings("probability", 0.8, 3, smallest_seed_px=2))
    np.testing.assert_array_equal(seeds, [[0, 0, 1, 1]])


def test_seeds_by_depth_take_the_edge_of_the_picture_for_no_border():
    split = SplitSettings("depth", 3.0, 3)
    mask = np.ones((4, 7), bool)
    mask[:, 6] = False
    np.testing.assert_array_equal(find_seeds(mask, mask.view(np.uint8), split)[0], [1] * 4 + [0] * 3)


SETTINGS = InstanceSettings(
    0.4, smallest_px=4, fill_holes_px=3, give_back_px=1, split=SplitSettings("depth", 1.5, 3, 2)
)


def noise_picture(seed, shape):
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.random(shape), 1.0)
    return ((smooth - smooth.min()) / np.ptp(smooth)).astype(np.float32)


def crops(draw, shape, halo):
    """A random inner window and its halo, clipped at the edge of the picture as blocks are."""
    inner, outer, back = [], [], []
    for size in shape:
        start = draw(st.integers(0, size - 1))
        stop = draw(st.integers(start + 1, size))
        low, high = max(0, start - halo), min(size, stop + halo)
        inner.append(slice(start, stop))
        outer.append(slice(low, high))
        back.append(slice(start - low, stop - low))
    return tuple(inner), tuple(outer), tuple(back)


SHAPES = st.sampled_from([(40, 44), (17, 18, 16)])


@settings(max_examples=60, deadline=None)
@given(st.data(), st.integers(0, 10_000), SHAPES)
def test_seeds_by_depth_on_a_crop_with_their_reach_equal_the_whole(data, seed, shape):
    mask = noise_picture(seed, shape) > 0.4
    marks = mask.view(np.uint8)
    split = SplitSettings("depth", 1.5, 3)
    inner, outer, back = crops(data.draw, shape, depth_reach(split))
    whole = inner_pixels(mask, marks, split)
    np.testing.assert_array_equal(inner_pixels(mask[outer], marks[outer], split)[back], whole[inner])


def test_marks_say_which_pixels_may_be_cells_and_which_seeds():
    probability = np.array([[0.2, 0.4, 0.7, 0.9]], np.float32)
    by_probability = InstanceSettings(0.4, split=SplitSettings("probability", 0.7, 3))
    np.testing.assert_array_equal(mark(probability, by_probability), [[0, 1, 3, 3]])
    np.testing.assert_array_equal(mark(probability, SETTINGS), [[0, 1, 1, 1]])
    low = InstanceSettings(0.8, split=SplitSettings("probability", 0.3, 3))
    np.testing.assert_array_equal(mark(probability, low), [[0, 2, 2, 3]])  # no seed outside a cell
    assert instances(probability, low).max() == 1


def test_less_than_the_stated_reach_would_not_do():
    """The property above can fail: one pixel less of halo, another result."""
    seeds, into = picture("1......"), np.ones((1, 7), bool)
    assert grow(seeds, into, 4)[0, 4] == 1
    assert grow(seeds[:, 1:], into[:, 1:], 4)[0, 3] == 0
    cells = picture("12.....") * picture("1111111")
    lines = picture("1.2....")
    assert give_back(lines, 1)[0, 1] == 1
    assert give_back(lines[:, 1:], 1)[0, 0] == 0
    assert cells.max() == 2
    deep = SplitSettings("depth", 3.0, 1)
    mask = mask_of("1111.")
    assert not inner_pixels(mask, mask.view(np.uint8), deep)[0, 2]
    assert inner_pixels(mask[:, :4], mask[:, :4].view(np.uint8), deep)[0, 2]


def test_reach_is_the_sum_of_the_steps_that_look_at_pixels():
    assert reach(InstanceSettings(smallest_px=5, fill_holes_px=3)) == 0
    assert reach(InstanceSettings(give_back_px=2)) == 6
    assert reach(SETTINGS) == 2 + 3 + 3
    assert reach(InstanceSettings(split=SplitSettings("probability", 0.9, 7, 4))) == 7


def test_settings_and_arguments_give_the_same_in_both_dimensions():
    for shape in [(30, 31), (12, 13, 14)]:
        probability = noise_picture(3, shape)
        by_settings = instances(probability, SETTINGS)
        by_arguments = instances_from_probabilities(
            probability, threshold=0.4, smallest_px=4, fill_holes_px=3, give_back_px=1, split=SETTINGS.split
        )
        np.testing.assert_array_equal(by_settings, by_arguments)
        assert by_settings.dtype == np.int32
        assert by_settings.max() > 1


def test_a_flat_volume_gives_what_its_plane_gives():
    """One plane as a volume: the same objects as in 2D, for every step."""
    probability = noise_picture(7, (40, 41))
    flat = instances(probability, SETTINGS)
    np.testing.assert_array_equal(give_back(flat[None], 2)[0], give_back(flat, 2))
    plain = InstanceSettings(0.4, smallest_px=4, give_back_px=1, split=SETTINGS.split)
    np.testing.assert_array_equal(instances(probability[None], plain)[0], instances(probability, plain))


@pytest.mark.parametrize("shape", [(1, 1), (0, 5), (1, 7), (1, 1, 1)])
def test_smallest_pictures(shape):
    assert instances(np.zeros(shape, np.float32), SETTINGS).shape == shape
    assert instances(np.ones(shape, np.float32), InstanceSettings()).max(initial=0) == (0 if 0 in shape else 1)


def test_errors_name_the_setting():
    with pytest.raises(UsageError, match=r"threshold \(=1.5\) must lie between 0 and 1"):
        InstanceSettings(1.5)
    with pytest.raises(UsageError, match=r"give_back_px \(=-1\)"):
        InstanceSettings(give_back_px=-1)
    with pytest.raises(UsageError, match=r"split.seeds \(='peaks'\)"):
        SplitSettings("peaks", 0.5, 3)
    with pytest.raises(UsageError, match=r"split.level \(=2\)"):
        SplitSettings("probability", 2, 3)
    with pytest.raises(UsageError, match=r"split.reach_px \(=-3\)"):
        SplitSettings("depth", 2, -3)
    with pytest.raises(UsageError, match="2 or 3 axes"):
        instances_from_probabilities(np.zeros(3, np.float32))
    with pytest.raises(DataError, match="not finite"):
        instances_from_probabilities(np.full((2, 2), np.nan, np.float32))
