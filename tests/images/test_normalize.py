import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from biounet.errors import DataError, UsageError
from biounet.images import normalize, sampling
from biounet.images.normalize import KINDS, Normalisation, dataset_normalisation, measure_regions

DTYPES = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8", "?"]


def make(kind, channels=1):
    return Normalisation(kind, (50.0,) * channels, (20.0,) * channels) if kind == "dataset" else Normalisation(kind)


def picture(dtype, shape=(2, 13, 17), seed=0):
    values = np.random.default_rng(seed).random(shape) * 100
    return values > 40 if dtype == "?" else values.astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_mean_and_std_of_the_whole_image_per_channel(dtype):
    image = picture(dtype)
    exact = image.astype(np.float64)
    expected = (exact - exact.mean(axis=(1, 2), keepdims=True)) / exact.std(axis=(1, 2), keepdims=True)
    result = Normalisation("image").apply(image)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [d for d in DTYPES if d != "?"])
def test_percentiles_become_zero_and_one(dtype):
    image = picture(dtype, (1, 40, 50))
    low, high = np.percentile(image.astype(np.float64), (1, 99.8))
    expected = (image.astype(np.float64) - low) / (high - low)
    np.testing.assert_allclose(Normalisation("percentile").apply(image), expected, rtol=2e-3, atol=2e-3)


def test_stored_statistics_are_used_as_they_are():
    result = Normalisation("dataset", (10.0, 0.0), (2.0, 4.0)).apply(np.array([[[12, 8]], [[4, 8]]]))
    assert result.tolist() == [[[1.0, -1.0]], [[1.0, 2.0]]]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 6, 7), (1, 3, 4, 5)])
def test_a_constant_image_stays_finite(kind, dtype, shape):
    result = make(kind, shape[0]).apply(np.ones(shape, dtype) * np.ones((), dtype))
    assert np.isfinite(result).all()
    assert result.shape == shape
    if kind != "dataset":
        assert not result.any()


def test_a_constant_fraction_is_constant():
    assert not Normalisation("image").apply(np.full((1, 300, 301), 0.1, np.float64)).any()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [1e-300, 1e30, 3e38, 1e99])
def test_extreme_values_stay_finite(kind, value):
    image = np.array([[[0.0, value, -value, value / 2]]])
    assert np.isfinite(make(kind).apply(image)).all()


def test_a_few_bright_spots_on_black_are_not_lost():
    image = np.zeros((1, 100, 100), np.uint16)
    image[0, 50, 50] = 1000
    assert Normalisation("percentile").apply(image).max() == 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(kind, bad):
    image = np.ones((1, 4, 4), np.float32)
    image[0, 1, 1] = bad
    if kind == "dataset" and np.isinf(bad):
        assert np.isfinite(make(kind).apply(image)).all()
        return
    with pytest.raises(DataError, match="NaN"):
        make(kind).apply(image)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["u2", "f4"])
def test_a_block_equals_its_part_of_the_whole_image(kind, dtype):
    image = picture(dtype)
    scale = make(kind, 2).measure(image)
    whole = make(kind, 2).apply(image)
    assert np.array_equal(scale.apply(image[:, 3:9, 5:11]), whole[:, 3:9, 5:11])


@pytest.mark.parametrize("kind", KINDS)
def test_memory_layout_does_not_matter(kind):
    image = picture("f4", (3, 31, 33))
    other = np.ascontiguousarray(image.transpose(1, 2, 0)).transpose(2, 0, 1)
    assert np.array_equal(make(kind, 3).apply(image), make(kind, 3).apply(other))


def test_chunks_do_not_matter(monkeypatch):
    image = picture("f8", (1, 40, 50))
    whole = Normalisation("image").apply(image)
    monkeypatch.setattr("biounet.images.normalize._CHUNK", 7)
    np.testing.assert_allclose(Normalisation("image").apply(image), whole, rtol=1e-6)
    counted = picture("u2", (1, 40, 50))
    scale = Normalisation("image").measure(counted)
    monkeypatch.undo()
    assert Normalisation("image").measure(counted) == scale  # bit for bit


def test_sums_of_large_counts_are_exact():
    image = np.full((1, 1000, 1001), 65535, np.uint16)
    image[0, 0, 0] = 65534
    scale = Normalisation("image").measure(image)
    n = image.size
    assert scale.offset[0] == (65535 * n - 1) / n
    assert scale.scale[0] == pytest.approx(np.sqrt((n - 1) / n**2), rel=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from(["u1", "u2", "i4", "f4"]), min_size=1, max_size=4), st.integers(0, 99))
def test_data_set_statistics_are_those_of_all_pixels_together(dtypes, seed):
    images = [picture(dtype, (2, 3 + k, 5), seed + k) for k, dtype in enumerate(dtypes)]
    pixels = np.concatenate([image.reshape(2, -1).astype(np.float64) for image in images], axis=1)
    found = dataset_normalisation(images)
    assert found.kind == "dataset"
    np.testing.assert_allclose(found.mean, pixels.mean(axis=1), rtol=1e-12)
    np.testing.assert_allclose(found.std, pixels.std(axis=1), rtol=1e-9)


def test_data_set_statistics_need_images_of_one_kind():
    with pytest.raises(DataError, match="no image to take"):
        dataset_normalisation([])
    with pytest.raises(DataError, match="images have 1 and 2 channels"):
        dataset_normalisation([picture("u1", (1, 4, 4)), picture("u1", (2, 4, 4))])


@pytest.mark.parametrize("kind", KINDS)
def test_stored_as_json_and_back(kind):
    original = make(kind, 2)
    assert Normalisation.from_dict(json.loads(json.dumps(original.to_dict()))) == original


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"kind": "image", "mean": []},
        {"kind": "tile", "mean": [], "std": []},
        {"kind": "image", "mean": [], "std": [], "more": 1},
        {"kind": "dataset", "mean": ["a"], "std": [1]},
        {"kind": "dataset", "mean": [float("nan")], "std": [1]},
    ],
)
def test_other_stored_values_are_refused(values):
    with pytest.raises(DataError, match="is not kind, mean and std"):
        Normalisation.from_dict(values)


def test_impossible_settings_are_refused():
    with pytest.raises(UsageError, match="kind 'tile' is unknown; choose one of image, percentile, dataset"):
        Normalisation("tile")
    with pytest.raises(UsageError, match="'dataset' needs one of each per channel"):
        Normalisation("dataset")
    with pytest.raises(UsageError, match="'dataset' needs one of each per channel"):
        Normalisation("image", (1.0,), (1.0,))
    with pytest.raises(UsageError, match="no std below 0"):
        Normalisation("dataset", (1.0,), (-1.0,))


def test_other_channels_than_measured_are_refused():
    with pytest.raises(UsageError, match="image has 3 channels, the normalisation 1"):
        make("dataset").apply(picture("u1", (3, 4, 4)))


def test_complex_or_empty_images_are_refused():
    with pytest.raises(DataError, match="image of type complex128"):
        Normalisation("image").apply(np.ones((1, 2, 2), complex))
    with pytest.raises(DataError, match="and 0 pixels"):
        Normalisation("image").apply(np.ones((1, 0, 2)))


# -- images of which regions are read


def reader(image, log=None):
    def read(start, stop):
        if log is not None:
            log.append((start, stop))
        return image[(slice(None), *map(slice, start, stop))]

    return read


@pytest.fixture
def small_is_large(monkeypatch):
    """Above 1000 pixels about 500 are looked at, in windows of 8x8."""
    for name, value in (("LARGE", 1000), ("_SAMPLE", 500), ("_WINDOW", 64)):
        monkeypatch.setattr(sampling, name, value)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["u1", "u2", "i4", "f4", "f8"])
def test_up_to_the_limit_regions_are_measured_whole(kind, dtype):
    image, log = picture(dtype, (2, 30, 33)), []
    scale = measure_regions(make(kind, 2), reader(image, log), (30, 33))
    assert scale == make(kind, 2).measure(image)
    assert log == ([] if kind == "dataset" else [((0, 0), (30, 33))])


@pytest.mark.parametrize("kind", ["image", "percentile"])
@pytest.mark.parametrize("dtype", ["u2", "f4"])
@pytest.mark.parametrize("together", [1, 2])
def test_windows_of_rows_and_channels_one_after_the_other_give_the_same_bits(monkeypatch, kind, dtype, together):
    image, log = picture(dtype, (3, 30, 33)), []
    expected = make(kind, 3).measure(image)
    monkeypatch.setattr(sampling, "_ROWS", 200)
    monkeypatch.setattr(normalize, "_TOGETHER", image[:together].nbytes)
    assert measure_regions(make(kind, 3), reader(image, log), (30, 33)) == expected
    rows = [((y, 0), (y + 6, 33)) for y in range(0, 30, 6)]
    assert log == (rows + 2 * rows[1:] if together == 1 else rows + rows[1:])


@pytest.mark.parametrize("kind", ["image", "percentile"])
@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
def test_a_large_image_is_measured_in_the_same_sample_wherever_it_is(small_is_large, kind, dtype):
    image, log = picture(dtype, (2, 60, 70)), []
    scale = measure_regions(make(kind), reader(image, log), (60, 70))
    assert scale == make(kind).measure(image) == make(kind).measure(np.asfortranarray(image))
    assert log == sampling.sample_windows((60, 70))
    seen = np.concatenate([reader(image)(*window).reshape(2, -1) for window in log], axis=1)
    assert 400 < seen.shape[1] < 600
    assert scale == make(kind).measure(seen[:, None])  # which is small enough to be measured whole
    assert scale.offset == pytest.approx(make(kind).measure(seen[:, None]).offset)


def test_a_sample_is_near_the_whole():
    image = picture("u2", (1, 6000, 6000)) + np.linspace(0, 50, 6000).astype(np.uint16)
    scale = Normalisation("image").measure(image)
    assert scale.offset[0] == pytest.approx(image.mean(), rel=0.02)
    assert scale.scale[0] == pytest.approx(image.std(), rel=0.02)


@pytest.mark.parametrize("kind", ["image", "percentile"])
def test_where_the_sample_is_constant_the_extremes_of_the_whole_are_taken(small_is_large, kind):
    image = np.full((2, 60, 70), 7, np.uint16)
    image[1] = picture("u2", (60, 70))
    seen = np.zeros((60, 70), bool)
    for start, stop in sampling.sample_windows((60, 70)):
        seen[tuple(map(slice, start, stop))] = True
    image[(0, *np.argwhere(~seen)[11])] = 40
    scale = make(kind).measure(image)
    assert (scale.offset[0], scale.scale[0]) == (7, 33)
    assert scale.scale[1] == make(kind).measure(image[1:]).scale[0]
    image[0] = 7
    assert make(kind).measure(image).scale[0] == 0


def test_values_that_are_not_finite_are_refused_in_a_sample_too(small_is_large):
    image = np.full((1, 60, 70), np.nan, np.float32)
    with pytest.raises(DataError, match="image holds NaN"):
        Normalisation().measure(image)
