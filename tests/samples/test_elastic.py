import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.interpolate import CubicSpline

from biounet.errors import DataError, UsageError
from biounet.geometry import mirrored
from biounet.samples.elastic import (
    displacement_field,
    elastic_deformation,
    spline_field,
    warp_image,
    warp_labels,
)

sides = st.integers(1, 14)
sizes = st.one_of(st.tuples(sides, sides), st.tuples(sides, sides, sides))
seeds = st.integers(0, 2**32)


def generator(seed=0):
    return np.random.default_rng(seed)


def positions(size, grid):
    return np.linspace(0, grid - 1, size) if size > 1 else np.array([(grid - 1) / 2])


def test_the_field_equals_the_drawn_vectors_at_the_grid_points():
    field = displacement_field((9, 13), rng=generator(), grid=3, std_px=10)
    drawn = 10 * generator().standard_normal((2, 3, 3))
    assert field.shape == (2, 9, 13)
    assert field.dtype == np.float32
    np.testing.assert_allclose(field[:, ::4, ::6], drawn, atol=1e-4)


@settings(max_examples=40, deadline=None)
@given(sizes, st.integers(2, 6), seeds)
def test_the_field_is_the_tensor_product_of_natural_cubic_splines(shape, grid, seed):
    vectors = generator(seed).standard_normal((len(shape),) + (grid,) * len(shape))
    expected = vectors
    for axis, size in enumerate(shape, start=1):
        spline = CubicSpline(np.arange(grid), expected, axis=axis, bc_type="natural")
        expected = spline(positions(size, grid))
    np.testing.assert_allclose(spline_field(vectors, shape), expected, atol=2e-5)


def test_a_linear_field_stays_linear():
    grid = np.stack(np.meshgrid([0, 10, 20, 30], [0, 5, 10, 15], indexing="ij"))
    field = spline_field(grid, (31, 16))
    np.testing.assert_allclose(field, np.indices((31, 16)), atol=1e-5)


def test_the_vectors_have_the_standard_deviation_asked_for():
    rng = generator(5)
    corners = np.stack([displacement_field((3, 3), rng=rng, grid=3, std_px=(10.0, 2.0)) for _ in range(500)], axis=1)
    # 4500 draws an axis: the standard error of the ratio is 1.05 %
    assert corners[0].std() == pytest.approx(10, rel=0.045)
    assert corners[1].std() == pytest.approx(2, rel=0.045)
    assert abs(corners[0].mean()) < 10 * 4.5 / np.sqrt(4500)


def test_fields_that_cannot_be_meant_are_refused():
    with pytest.raises(UsageError, match=r"grid \(=1\) must be at least 2"):
        displacement_field((4, 4), rng=generator(), grid=1)
    with pytest.raises(UsageError, match=r"every side of \(4, 0\) at least 1"):
        displacement_field((4, 0), rng=generator())
    with pytest.raises(UsageError, match=r"std_px \(=-1\)"):
        displacement_field((4, 4), rng=generator(), std_px=-1)


@settings(max_examples=60, deadline=None)
@given(sizes, seeds, st.floats(0, 60))
def test_linear_interpolation_agrees_with_scipy_far_outside_the_image_too(shape, seed, reach):
    rng = generator(seed)
    image = rng.standard_normal((2, *shape)).astype(np.float32)
    coordinates = rng.uniform(-reach, 14 + reach, (len(shape), 7, 9)).astype(np.float32)
    warped = warp_image(image, coordinates)
    assert warped.dtype == np.float32
    assert warped.shape == (2, 7, 9)
    largest_step = np.ptp(image)
    for plane, result in zip(image, warped, strict=True):
        exact = ndimage.map_coordinates(plane, coordinates, order=1, mode="mirror")
        assert np.abs(result - exact).max() <= len(shape) * largest_step / 64 + 1e-5


@settings(max_examples=40, deadline=None)
@given(sizes, seeds)
def test_whole_positions_give_the_mirrored_image_exactly(shape, seed):
    image = generator(seed).standard_normal(shape).astype(np.float32)
    start, stop = [-2 * n - 3 for n in shape], [3 * n + 2 for n in shape]
    size = np.subtract(stop, start)
    coordinates = np.indices(size, dtype=np.float32) + np.float32(start).reshape(-1, *[1] * len(shape))
    assert (warp_image(image, coordinates) == mirrored(image, start, stop)).all()


def test_cubic_interpolation_is_closer_on_a_smooth_image():
    y, x = np.indices((40, 40))
    coordinates = generator().uniform(5, 34, (2, 500)).astype(np.float32)[:, None]
    true = np.sin(coordinates[0] / 2) * np.cos(coordinates[1] / 2)
    image = np.sin(y / 2) * np.cos(x / 2)
    linear, cubic = (np.abs(warp_image(image, coordinates, order=order) - true).max() for order in (1, 3))
    assert cubic < 2e-3 < 3e-2 < linear


def test_images_too_large_for_16_bit_positions():
    image = np.arange(40_000, dtype=np.float32)[None]
    coordinates = np.array([[[0, 0, 0]], [[39_999, 33_000.25, 40_001]]], np.float32)
    assert warp_image(image, coordinates).tolist() == [[39_999, 33_000.25, 39_997]]
    far = np.array([[[0.0]], [[-40_000.0]]], np.float32)
    assert warp_image(np.array([[1.0, 2.0, 4.0]]), far).tolist() == [[1.0]]  # 40,000 = 0 modulo 4


def test_other_orders_are_refused():
    with pytest.raises(UsageError, match=r"order \(=2\) of the interpolation must be 1"):
        warp_image(np.zeros((2, 2)), np.zeros((2, 1, 1), np.float32), order=2)


@settings(max_examples=60, deadline=None)
@given(sizes, seeds)
def test_labels_come_from_the_nearest_pixel_and_are_unknown_outside(shape, seed):
    rng = generator(seed)
    labels = rng.integers(-1, 5, shape).astype(np.int32)
    coordinates = rng.uniform(-4, 18, (len(shape), 8, 8)).astype(np.float32)
    expected = ndimage.map_coordinates(labels, coordinates, order=0, mode="grid-constant", cval=-1)
    tie = (np.abs(coordinates % 1 - 0.5) < 1e-4).any(0)
    found = warp_labels(labels, coordinates)
    assert found.dtype == np.int32
    assert ((found == expected) | tie).all()


def test_large_ids_pass_unchanged():
    ids = [2**24 + 1, 2**31 - 1, 2**24 + 3]
    coordinates = np.array([[[0, 0, 0]], [[0.4, 0.6, 2.49]]], np.float32)
    assert warp_labels(np.array([ids]), coordinates).tolist() == [ids]


def test_a_pixel_reaches_half_a_pixel():
    coordinates = np.array([[[0, 0, 0, 0]], [[-0.51, -0.49, 1.49, 1.51]]], np.float32)
    assert warp_labels(np.array([[3, 4]]), coordinates).tolist() == [[-1, 3, 4, -1]]


@pytest.mark.parametrize("shape", [(40, 50), (12, 14, 16)])
def test_image_and_labels_stay_in_register(shape):
    where = np.indices(shape).astype(np.float32)  # an image whose values say where they come from
    labels = generator(3).integers(-1, 9, shape).astype(np.int32)
    image, warped = elastic_deformation(where, labels, rng=generator(), std_px=3)
    inside = warped != -1
    assert 0.5 < inside.mean() < 1
    tie = (np.abs(image % 1 - 0.5) < 0.05).any(0)
    nearest = labels[tuple(np.clip(np.rint(image).astype(int), 0, np.array(shape).reshape(-1, *[1] * len(shape)) - 1))]
    assert (warped == nearest)[inside & ~tie].all()
    assert (np.abs(image - where) > 1).any()


def test_labels_from_outside_are_unknown_and_only_those():
    image, labels = elastic_deformation(np.zeros((30, 30)), np.ones((30, 30), int), rng=generator(1))
    source = displacement_field((30, 30), rng=generator(1)) + np.indices((30, 30))
    outside = ((source < -0.5) | (source > 29.5)).any(0)
    assert outside.any()
    assert (labels == np.where(outside, -1, 1)).all()
    assert image.dtype == np.float32


def test_without_deformation_nothing_changes():
    image = generator().standard_normal((2, 9, 7)).astype(np.float32)
    labels = generator().integers(-1, 4, (9, 7)).astype(np.int32)
    warped = elastic_deformation(image, labels, rng=generator(), std_px=0)
    assert (warped[0] == image).all()
    assert (warped[1] == labels).all()


def test_channels_without_labels():
    image = generator().standard_normal((3, 9, 7)).astype(np.float32)
    together, none = elastic_deformation(image, rng=generator(), ndim=2)
    assert none is None
    alone, _ = elastic_deformation(image[1], rng=generator())
    assert (together[1] == alone).all()


def test_wrong_pairs_are_refused():
    with pytest.raises(UsageError, match=r"image \(4, 5\) and labels \(5, 4\) must have the same"):
        elastic_deformation(np.zeros((4, 5)), np.zeros((5, 4), int), rng=generator())
    with pytest.raises(DataError, match="must be integers"):
        elastic_deformation(np.zeros((4, 4)), np.zeros((4, 4)), rng=generator())
