from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from biounet.images import sampling
from biounet.images.sampling import all_windows, is_large, row_windows, sample_windows


def test_an_image_that_is_not_large_is_one_window():
    assert sample_windows((4096, 8192)) == [((0, 0), (4096, 8192))]
    assert not is_large((4096, 8192))
    assert is_large((4096, 8193))


@pytest.mark.parametrize("shape", [(1,), (70,), (9, 11), (4, 60), (3, 5, 7), (2, 3, 40), (7, 1, 1)])
def test_rows_one_after_the_other_are_the_image(monkeypatch, shape):
    monkeypatch.setattr(sampling, "_ROWS", 25)
    image = np.arange(prod(shape)).reshape(shape)
    parts = [image[tuple(map(slice, *window))] for window in row_windows(shape)]
    np.testing.assert_array_equal(np.concatenate([part.ravel() for part in parts]), image.ravel())
    assert max(part.size for part in parts) <= max(25, shape[-1])


@pytest.mark.parametrize(
    ("shape", "side"),
    [
        ((20_000, 30_000), (512, 512)),
        ((100_000, 100_000), (512, 512)),
        ((1000, 1000, 1000), (64, 64, 64)),
        ((5, 20_000, 20_000), (5, 128, 256)),
        ((1, 20_000, 20_000), (1, 512, 512)),
        ((2**26,), (2**18,)),
        ((40, 2**24), (40, 4096)),
    ],
)
def test_windows_of_a_large_image(shape, side):
    windows = sample_windows(shape)
    assert windows == sample_windows(shape)
    assert windows[0] != sample_windows((*shape[:-1], shape[-1] + 1))[0]
    assert len(set(windows)) == len(windows)
    assert windows == sorted(windows)
    for start, stop in windows:
        assert all(low % step == 0 for low, step in zip(start, side, strict=True))
        sizes = zip(start, stop, side, shape, strict=True)
        assert all(high == min(low + step, size) for low, high, step, size in sizes)
    pixels = sum(prod(np.subtract(stop, start).tolist()) for start, stop in windows)
    assert 0.9 * 2**24 < pixels < 1.1 * 2**24


def test_windows_lie_all_over_the_image():
    starts = np.array([start for start, _ in sample_windows((40_000, 40_000))])
    counts, *_ = np.histogram2d(*starts.T, bins=2, range=[[0, 40_000]] * 2)
    assert counts.min() > 8


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=4))
def test_all_windows_cover_every_pixel_once(shape):
    seen = np.zeros(shape, int)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sampling, "_WINDOW", 64)
        for start, stop in all_windows(shape):
            seen[tuple(map(slice, start, stop))] += 1
    assert (seen == 1).all()
