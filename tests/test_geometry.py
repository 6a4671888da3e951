"""Integers checked against the paper's numbers and against a walk through the layers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from biounet.errors import UsageError
from biounet.geometry import (
    AxisGeometry,
    frame_of,
    mirror_indices,
    mirrored,
    pointwise_geometry,
    unet_geometry,
)


def test_numbers_of_the_paper():
    axis = unet_geometry(4).axes[0]
    assert (axis.margin, axis.period, axis.reach) == ((92, 92), 16, (107, 107))
    assert axis.output_size(572) == 388
    assert axis.input_size(388) == 572
    assert [n for n in range(180, 240) if axis.is_admissible(n)] == [188, 204, 220, 236]


@pytest.mark.parametrize("depth", range(7))
def test_margin_formula(depth):
    axis = unet_geometry(depth).axes[0]
    assert sum(axis.margin) == 12 * 2**depth - 8
    assert axis.period == 2**depth


def walk(size, depth):
    """Size through the layers, one by one; None where a level does not divide evenly."""
    sizes = []
    for _ in range(depth):
        size -= 4
        if size <= 0 or size % 2:
            return None
        sizes.append(size)
        size //= 2
    size -= 4
    for skip in reversed(sizes):
        if size <= 0:
            return None
        size *= 2
        assert skip >= size
        assert (skip - size) % 2 == 0
        size -= 4
    return size if size > 0 else None


@given(st.integers(0, 5), st.integers(1, 900))
def test_sizes_equal_a_walk_through_the_layers(depth, size):
    axis = unet_geometry(depth).axes[0]
    walked = walk(size, depth)
    assert axis.is_admissible(size) == (walked is not None)
    if walked is not None:
        assert axis.output_size(size) == walked


@given(st.integers(0, 5), st.integers(1, 900))
def test_next_admissible_is_the_smallest(depth, wanted):
    axis = unet_geometry(depth).axes[0]
    size = axis.input_size(wanted)
    assert axis.output_size(size) >= wanted
    smaller = size - axis.period
    assert not axis.is_admissible(smaller) or axis.output_size(smaller) < wanted


def test_each_axis_has_its_own_numbers():
    geometry = unet_geometry(2, 3, pooling=[(1, 2, 2), (2, 2, 2)])
    assert geometry.margin == ((12, 12), (20, 20), (20, 20))
    assert geometry.period == (2, 4, 4)
    assert geometry.output_size((28, 48, 44)) == (4, 8, 4)
    assert geometry.smallest == (26, 44, 44)
    assert geometry.ndim == 3


def test_a_stem_multiplies_sizes_and_reaches_to_the_ends_of_its_blocks():
    plain, stem = unet_geometry(3).axes[0], unet_geometry(3, stem=(4, 1)).axes[0]
    assert (stem.margin, stem.period, stem.smallest) == ((4 * 44, 4 * 44), 4 * 8, 4 * plain.smallest)
    assert stem.reach == tuple(4 * n + 3 for n in plain.reach)
    assert unet_geometry(3, stem=(4, 1)).axes[1] == plain
    with pytest.raises(UsageError, match="one an axis"):
        unet_geometry(3, stem=(2, 2, 2))


def test_inadmissible_size_is_refused_with_the_next():
    with pytest.raises(UsageError, match="573 is not admissible.*588"):
        unet_geometry(4).axes[0].output_size(573)


@pytest.mark.parametrize("axis", [((0, 0), 0, 1, (0, 0)), ((2, 2), 1, 4, (2, 2)), ((-1, 0), 1, 4, (0, 0))])
def test_impossible_geometry_is_refused(axis):
    with pytest.raises(UsageError, match="impossible"):
        AxisGeometry(*axis)


def test_pointwise():
    assert pointwise_geometry(3).output_size((1, 2, 3)) == (1, 2, 3)


@given(st.integers(2, 9), st.integers(0, 40), st.integers(0, 40))
def test_mirror_is_numpy_reflect(size, before, after):
    expected = np.pad(np.arange(size), (before, after), mode="reflect")
    assert np.array_equal(mirror_indices(-before, size + after, size), expected)


def test_mirror_of_one_pixel_is_constant_and_of_none_is_refused():
    assert mirror_indices(-3, 4, 1).tolist() == [0] * 7
    with pytest.raises(UsageError, match="at least 1"):
        mirror_indices(0, 1, 0)


@given(st.integers(-30, 30), st.integers(1, 20), st.integers(-30, 30), st.integers(1, 20))
def test_mirrored_window_equals_padding_then_cutting(y, height, x, width):
    image = np.arange(2 * 5 * 7).reshape(2, 5, 7)
    padded = np.pad(image, ((0, 0), (60, 60), (60, 60)), mode="reflect")
    window = mirrored(image, (y, x), (y + height, x + width))
    assert np.array_equal(window, padded[:, 60 + y : 60 + y + height, 60 + x : 60 + x + width])


def test_the_frame_of_the_papers_network():
    """Four pixels are cut before, so that tiles without their halos of 96 begin at multiples of 16."""
    frame = frame_of(unet_geometry(4).axes[0])
    assert (frame.cut, frame.pad, frame.halo, frame.smallest, frame.period) == ((4, 0), (96, 92), 96, 208, 16)


@given(st.data())
def test_tiles_of_a_framed_network_lie_on_its_grid(data):
    period = data.draw(st.integers(1, 32))
    margin = (data.draw(st.integers(0, 100)), data.draw(st.integers(0, 100)))
    smallest = sum(margin) + data.draw(st.integers(1, 2 * period))
    axis = AxisGeometry(margin, period, smallest, margin)
    frame = frame_of(axis)
    for size in (frame.smallest, frame.smallest + 3 * frame.period):
        inner = size - sum(frame.cut)
        assert axis.is_admissible(inner)
        assert axis.output_size(inner) + sum(frame.pad) == size  # as many out as in
        assert frame.halo >= max(frame.pad)  # nothing that was made up is kept
        kept = size - 2 * frame.halo
        assert kept > 0
        assert kept % period == 0  # the next tile begins at a multiple of the period
        # the network begins where biounet's own first tile begins, up to multiples of the period
        assert (frame.cut[0] - frame.halo + margin[0]) % period == 0
