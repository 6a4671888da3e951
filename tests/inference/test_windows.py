"""Windows of an image that is read in parts: the same bits as one pass over the whole image."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.inference.test_averaging import whole_numbers

from biounet.geometry import mirrored, unet_geometry
from biounet.inference.averaging import KINDS
from biounet.inference.predict import predict_probabilities
from biounet.inference.tiling import plan_tiles
from biounet.inference.windows import (
    Source,
    check_seams,
    compare_seams,
    mirrored_window,
    predict_window,
    seam_windows,
)

SHAPES = st.one_of(
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.tuples(st.integers(1, 7), st.integers(1, 9), st.integers(1, 9)),
)


def source_of(image):
    """As a file gives it: only what lies inside can be read."""

    def read(start, stop):
        assert all(0 <= a < e <= n for a, e, n in zip(start, stop, image.shape[1:], strict=True))
        return image[(slice(None), *map(slice, start, stop))]

    return Source(image.shape[1:], read)


def window_in(data, shape):
    start = [data.draw(st.integers(0, n - 1)) for n in shape]
    return start, [data.draw(st.integers(a + 1, n)) for a, n in zip(start, shape, strict=True)]


@settings(max_examples=60, deadline=None)
@given(st.data(), SHAPES)
def test_a_window_of_the_mirrored_plane_reads_only_inside_the_image(data, shape):
    image = np.arange(2 * np.prod(shape), dtype=np.float32).reshape(2, *shape)
    start = [data.draw(st.integers(-90, 90)) for _ in shape]
    stop = [a + data.draw(st.integers(1, 60)) for a in start]
    np.testing.assert_array_equal(mirrored_window(source_of(image), start, stop), mirrored(image, start, stop))


@settings(max_examples=60, deadline=None)
@given(st.data(), SHAPES, st.integers(0, 1000), st.sampled_from(KINDS))
def test_any_window_has_the_bits_of_the_whole_image(data, shape, seed, tta):
    image = np.random.default_rng(seed).random((1, *shape), np.float32)
    engine = whole_numbers(1, len(shape))
    (whole,) = predict_probabilities(engine, [image], plan_tiles(shape, engine.geometry, 64), tta=tta)
    start, stop = window_in(data, shape)
    output = data.draw(st.sampled_from([None, (12,) * len(shape)]))
    found = predict_window(engine, source_of(image), start, stop, output=output, tta=tta)
    np.testing.assert_array_equal(found, whole[(slice(None), *map(slice, start, stop))])


@settings(max_examples=60, deadline=None)
@given(st.tuples(st.integers(1, 300), st.integers(1, 300)), st.integers(1, 150), st.integers(0, 9))
def test_windows_that_are_checked_lie_inside_and_cross_a_border_of_tiles(shape, tile, seed):
    plan = plan_tiles(shape, unet_geometry(2), tile)
    windows = seam_windows(plan, seed=seed)
    assert bool(windows) == (len(plan) > 1)
    for start, stop in windows:
        assert all(0 <= a < e <= n for a, e, n in zip(start, stop, shape, strict=True))
        borders = [range(step, count * step, step) for step, count in zip(plan.step, plan.counts, strict=True)]
        assert any(a < b < e for a, e, axis in zip(start, stop, borders, strict=True) for b in axis)


def test_the_check_finds_no_seam_where_there_is_none_and_says_how_large_one_is():
    image = np.random.default_rng(0).random((1, 90, 80), np.float32)
    engine = whole_numbers(1, 2)
    plan = plan_tiles((90, 80), engine.geometry, 20)
    (whole,) = predict_probabilities(engine, [image], plan)

    def read(start, stop):
        return whole[(slice(None), *map(slice, start, stop))]

    clean = check_seams(engine, source_of(image), plan, read)
    assert clean.windows > 1
    assert (clean.largest_difference, clean.labels_changed) == (0, 0)
    whole[:, :, plan.step[1] :] = np.roll(whole, 1, axis=1)[:, :, plan.step[1] :]
    torn = check_seams(engine, source_of(image), plan, read)
    assert torn.largest_difference > 0.01
    assert torn.labels_changed > 0
    assert f"{torn.labels_changed} of {torn.pixels} labels changed" in str(torn)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_a_seam(bad):
    tiled = np.full((2, 4, 5), 0.5, np.float32)
    whole = tiled.copy()
    tiled[1, 0, :3] = bad
    for pair in ((whole, tiled), (tiled, whole), (tiled, tiled)):
        found = compare_seams(iter([pair, (whole, whole)]))
        assert (found.largest_difference, found.labels_changed, found.pixels) == (np.inf, 3, 40)
        assert found.to_dict()["largest_difference"] is None


def test_one_tile_has_no_seams():
    image = np.zeros((1, 9, 9), np.float32)
    engine = whole_numbers(1, 2)
    found = check_seams(engine, source_of(image), plan_tiles((9, 9), engine.geometry, 20), pytest.fail)
    assert found.windows == 0
    assert str(found) == "one tile, no seams"
