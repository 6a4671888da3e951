"""Growth in lock step and the line given back: by hand, by definition, and equal on a crop with the reach."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.labels.test_instances import SHAPES, crops, mask_of, noise_picture, picture

from biounet.labels.components import components
from biounet.labels.growth import give_back, grow
from biounet.labels.targets import carve
from biounet.samples.synthetic import synthetic_cells


def test_growth_is_in_lock_step_with_ties_to_the_lowest_label():
    labels = picture("""
        2.....1
        .......
    """)
    into = mask_of("1111111\n1111111")
    np.testing.assert_array_equal(grow(labels, into, 1), picture("22...11\n2.....1"))
    np.testing.assert_array_equal(grow(labels, into, 9), picture("2221111\n2221111"))


def test_growth_goes_around_not_through_what_is_not_allowed():
    labels = picture("1....\n.....\n.....")
    into = mask_of("1.111\n1.1.1\n111.1")
    expected = picture("1.111\n1.1.1\n111.1")
    np.testing.assert_array_equal(grow(labels, into, 50), expected)
    assert (grow(labels, into, 5) > 0).sum() == 6


def test_the_line_is_given_back_and_the_outer_edge_stays():
    labels = picture("""
        .........
        .11..222.
        .11..222.
        .........
    """)
    expected = picture("""
        .........
        .1112222.
        .1112222.
        .........
    """)
    np.testing.assert_array_equal(give_back(labels, 1), expected)
    np.testing.assert_array_equal(give_back(labels, 0), labels)


def test_a_gap_is_narrow_up_to_twice_the_steps_and_one():
    np.testing.assert_array_equal(give_back(picture("1...2"), 1), picture("11.22"))
    np.testing.assert_array_equal(give_back(picture("1....2"), 1), picture("1....2"))
    np.testing.assert_array_equal(give_back(picture("1.....2"), 2), picture("111.222"))
    np.testing.assert_array_equal(give_back(picture("1......2"), 2), picture("1......2"))


def test_giving_back_leaves_unknown_pixels_alone():
    labels = picture("1..2")
    labels[0, 1] = -1
    np.testing.assert_array_equal(give_back(labels, 2), [[1, -1, 2, 2]])


def test_a_lonely_cell_gets_nothing_back():
    labels = picture(".....\n..1..\n.....")
    np.testing.assert_array_equal(give_back(labels, 2), labels)


def test_a_carved_truth_is_given_back_nearly_whole():
    _, truth = synthetic_cells((256, 256), seed=4)
    carved = carve(truth, 2)
    taken = (carved == 0) & (truth > 0)
    assert taken.mean() > 0.03
    back = give_back(carved, 2)
    assert (back == truth)[taken].mean() > 0.9
    assert (back == truth).mean() > 0.98
    np.testing.assert_array_equal(back[carved > 0], carved[carved > 0])


@settings(max_examples=60, deadline=None)
@given(st.data(), st.integers(0, 10_000), SHAPES, st.integers(0, 4))
def test_growth_and_giving_back_on_a_crop_with_their_reach_equal_the_whole(data, seed, shape, steps):
    probability = noise_picture(seed, shape)
    seeds = components(probability > 0.6)
    into = probability > 0.35
    inner, outer, back = crops(data.draw, shape, steps)
    whole = grow(seeds, into, steps)
    np.testing.assert_array_equal(grow(seeds[outer], into[outer], steps)[back], whole[inner])
    inner, outer, back = crops(data.draw, shape, 3 * steps)
    whole = give_back(seeds, steps)
    np.testing.assert_array_equal(give_back(seeds[outer], steps)[back], whole[inner])


def grown_pixel_by_pixel(labels, into, steps):
    """The definition, step by step and pixel by pixel."""
    result = labels.copy()
    for _ in range(steps):
        before = result.copy()
        for place in np.ndindex(labels.shape):
            if before[place] == 0 and into[place]:
                around = []
                for axis in range(labels.ndim):
                    for step in (-1, 1):
                        at = list(place)
                        at[axis] += step
                        if 0 <= at[axis] < labels.shape[axis]:
                            around.append(before[tuple(at)])
                around = [value for value in around if value > 0]
                result[place] = min(around, default=0)
    return result


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([(9, 11), (1, 14), (5, 4, 6)]), st.integers(0, 10_000), st.integers(0, 6))
def test_growth_follows_its_definition(shape, seed, steps):
    rng = np.random.default_rng(seed)
    labels = np.where(rng.random(shape) < 0.15, rng.integers(-1, 9, shape), 0).astype(np.int32)
    into = rng.random(shape) < 0.7
    before = labels.copy()
    np.testing.assert_array_equal(grow(labels, into, steps), grown_pixel_by_pixel(labels, into, steps))
    np.testing.assert_array_equal(labels, before)


def gaps_pixel_by_pixel(labels, width):
    """Background whose two nearest objects are d1 and d2 face steps away, d1 + d2 - 1 <= width."""
    narrow = np.zeros(labels.shape, bool)
    objects = [(np.argwhere(labels == i)) for i in np.unique(labels[labels > 0])]
    for place in np.argwhere(labels == 0):
        nearest = sorted(np.abs(pixels - place).sum(axis=1).min() for pixels in objects)
        narrow[tuple(place)] = len(nearest) > 1 and nearest[0] + nearest[1] - 1 <= width
    return narrow


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([(13, 17), (1, 15), (7, 5, 6)]),
    st.integers(0, 10_000),
    st.integers(1, 3),
    st.sampled_from([3, 9, 200_000]),
)
def test_what_is_given_back_follows_its_definition(shape, seed, steps, most):
    rng = np.random.default_rng(seed)
    labels = np.where(rng.random(shape) < 0.08, rng.integers(-1, most, shape), 0).astype(np.int32)
    gaps = gaps_pixel_by_pixel(labels, 2 * steps + 1)
    np.testing.assert_array_equal(give_back(labels, steps), grown_pixel_by_pixel(labels, gaps, steps))


@pytest.mark.parametrize("count", [100, 70_000])
def test_ids_that_sixteen_bits_cannot_tell_apart(count):
    """Neighbours differ by 65,536, few of them and more than sixteen bits hold."""
    ids = np.stack([np.arange(1, count + 1), np.arange(1, count + 1) + 65_536], axis=1).reshape(-1)
    labels = np.zeros((1, 3 * len(ids)), np.int32)
    labels[0, ::3] = ids
    expected = [value for left, right in itertools.pairwise(ids) for value in (left, left, right)]
    np.testing.assert_array_equal(give_back(labels, 1)[0, : len(expected)], expected)
