import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from biounet.errors import UsageError
from biounet.samples.augment import Augmentation, coordinate_map, deform, linear_map, vary_grey_values

OFF = Augmentation.off()


def generator(seed=0):
    return np.random.default_rng(seed)


def varied(image, augmentation, ranges=None, seed=0, spacing=(1.0, 1.0)):
    result = np.array(image, np.float32)
    ranges = np.array([[0.0, 1.0]] * len(result)) if ranges is None else ranges
    vary_grey_values(result, ranges, augmentation, spacing=spacing, rng=generator(seed))
    return result


def in_space(matrix, spacing):
    """The same map between positions in units of length instead of pixels."""
    return matrix * np.asarray(spacing)[:, None] / np.asarray(spacing)


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.3, 0.1, 0.1), (3.0, 0.7, 0.2)])
def test_off_is_exactly_the_identity(spacing):
    assert (linear_map(OFF, spacing=spacing, rng=generator()) == np.eye(len(spacing))).all()


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.7, 0.2), (1.0, 1.0, 1.0), (3.0, 0.7, 0.2)])
def test_rotation_and_mirror_keep_shapes_in_space(spacing):
    rng = generator()
    augmentation = replace(OFF, rotation_degrees=180, mirror=True)
    for _ in range(20):
        turn = in_space(linear_map(augmentation, spacing=spacing, rng=rng), spacing)
        np.testing.assert_allclose(turn @ turn.T, np.eye(len(spacing)), atol=1e-12)


def test_the_angle_stays_within_its_limit_and_is_spread_over_it():
    rng = generator()
    augmentation = replace(OFF, rotation_degrees=30)
    maps = [linear_map(augmentation, spacing=(1, 1), rng=rng) for _ in range(300)]
    angles = np.degrees([math.atan2(m[1, 0], m[0, 0]) for m in maps])
    assert 28 < angles.max() < 30
    assert -30 < angles.min() < -28
    assert abs(angles.mean()) < 4 * 30 / math.sqrt(3 * 300)


def test_thick_slices_rotate_only_in_their_plane():
    augmentation = replace(OFF, rotation_degrees=180)
    flat = linear_map(augmentation, spacing=(2, 1, 1), rng=generator())
    assert flat[0].tolist() == [1, 0, 0]
    assert flat[:, 0].tolist() == [1, 0, 0]
    assert abs(flat[1, 2]) > 0.01
    for spacing, setting in [((1, 1, 1), None), ((2, 1, 1), True)]:
        free = linear_map(replace(augmentation, rotate_in_space=setting), spacing=spacing, rng=generator())
        assert (np.abs(free) > 1e-3).all()
    assert np.linalg.det(flat) == pytest.approx(1)


def test_mirroring_takes_every_combination_of_axes():
    rng = generator()
    maps = [linear_map(replace(OFF, mirror=True), spacing=(1, 1), rng=rng) for _ in range(60)]
    assert {tuple(np.diag(m)) for m in maps} == {(1, 1), (1, -1), (-1, 1), (-1, -1)}


def test_a_zoom_of_two_shows_objects_twice_as_large():
    matrix = linear_map(replace(OFF, scale=(2, 2)), spacing=(1, 1), rng=generator())
    np.testing.assert_allclose(matrix, np.eye(2) / 2)
    rng = generator()
    zooms = [1 / linear_map(replace(OFF, scale=(0.5, 2)), spacing=(1, 1), rng=rng)[0, 0] for _ in range(200)]
    assert 0.5 <= min(zooms) < 0.55
    assert 1.8 < max(zooms) <= 2
    assert 0.4 < np.mean(np.array(zooms) < 1) < 0.6  # as many smaller as larger


def test_the_pivot_lies_on_its_source_and_the_rest_follows_linearly():
    matrix = np.array([[0.5, -2.0, 0.25], [1.0, 0.0, 0.0], [0.0, 3.0, 1.0]])
    found = coordinate_map((4, 5, 6), (1, 2, 3), (10, 20, 30), matrix=matrix)
    assert found.dtype == np.float32
    assert found[:, 1, 2, 3].tolist() == [10, 20, 30]
    steps = np.indices((4, 5, 6)) - np.array([1, 2, 3]).reshape(3, 1, 1, 1)
    expected = np.einsum("ij,jzyx->izyx", matrix, steps) + np.array([10, 20, 30]).reshape(3, 1, 1, 1)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_deformation_holds_the_pivot_and_moves_the_rest():
    start = np.indices((30, 40)).astype(np.float32)
    moved = start.copy()
    deform(moved, (7, 9), replace(OFF, elastic_std_px=5), spacing=(1, 1), rng=generator())
    assert (moved[:, 7, 9] == [7, 9]).all()
    assert np.abs(moved - start).max() > 3
    still = start.copy()
    deform(still, (7, 9), OFF, spacing=(1, 1), rng=generator())
    assert (still == start).all()


def test_deformation_is_as_long_in_space_on_coarse_axes():
    rng = generator()
    moves = []
    for _ in range(100):
        moved = np.zeros((3, 3, 3, 3), np.float32)
        deform(moved, (0, 0, 0), replace(OFF, elastic_std_px=8), spacing=(4, 1, 1), rng=rng)
        moves.append(moved[:, 2, 2, 2])
    # the difference of two vectors: sqrt(2) times the standard deviation; its error is 7 % of 100 draws
    np.testing.assert_allclose(np.std(moves, axis=0), np.sqrt(2) * np.array([2, 8, 8]), rtol=0.3)


def test_off_leaves_grey_values_alone():
    image = generator().standard_normal((2, 8, 9)).astype(np.float32)
    assert (varied(image, OFF) == image).all()


def test_contrast_and_brightness_are_a_factor_and_a_sum():
    line = np.linspace(-1, 1, 9, dtype=np.float32).reshape(1, 3, 3)
    factors, offsets = [], []
    for seed in range(60):
        result = varied(line, replace(OFF, contrast=0.5, brightness=0.3), seed=seed)
        factors.append((result[0, 2, 2] - result[0, 0, 0]) / 2)
        offsets.append(result[0, 1, 1])
        np.testing.assert_allclose(result, line * factors[-1] + offsets[-1], atol=1e-6)
    assert 1 / 1.5 <= min(factors) < 0.72
    assert 1.38 < max(factors) <= 1.5
    assert -0.3 <= min(offsets) < -0.25
    assert 0.25 < max(offsets) <= 0.3


def test_gamma_acts_between_the_ends_of_the_whole_image():
    image = np.array([[[2.0, 3.0, 4.0]]])
    result = varied(image, replace(OFF, gamma=1.0), ranges=np.array([[2.0, 4.0]]), seed=2)
    exponent = math.log((result[0, 0, 1] - 2) / 2) / math.log(0.5)
    assert result[0, 0, [0, 2]].tolist() == [2, 4]
    assert 0.5 <= exponent <= 2
    assert abs(exponent - 1) > 0.05
    tile = varied(image[:, :, 1:2], replace(OFF, gamma=1.0), ranges=np.array([[2.0, 4.0]]), seed=2)
    assert tile[0, 0, 0] == result[0, 0, 1]  # the tile's own range does not matter
    flat = np.full((1, 2, 2), 3.0)
    assert (varied(flat, replace(OFF, gamma=1.0), ranges=np.array([[3.0, 3.0]])) == 3).all()


def test_noise_has_a_random_level_up_to_the_setting():
    levels = [varied(np.zeros((1, 60, 60)), replace(OFF, noise=0.5), seed=s).std() for s in range(40)]
    assert max(levels) < 0.52
    assert max(levels) > 0.4
    assert min(levels) < 0.1


def test_blur_is_a_gaussian_of_the_same_length_in_space():
    impulse = np.zeros((1, 1, 61, 61))
    impulse[0, 0, 30, 30] = 1
    result = varied(impulse, replace(OFF, blur_px=4.0), seed=1, spacing=(8.0, 2.0, 1.0))[0, 0]
    y, x = np.indices((61, 61)) - 30
    wide, narrow = math.sqrt((result * x**2).sum()), math.sqrt((result * y**2).sum())
    assert 1 < wide < 4
    assert narrow == pytest.approx(wide / 2, rel=0.1)
    expected = ndimage.gaussian_filter(impulse[0, 0], (narrow, wide))
    assert np.abs(result - expected).max() < 0.1 * expected.max()


def test_channels_vary_by_themselves():
    image = np.full((2, 3, 3), 0.5, np.float32)
    result = varied(image, replace(OFF, brightness=1.0))
    assert result[0, 0, 0] != result[1, 0, 0]


@pytest.mark.parametrize(
    "name",
    ["elastic_std_px", "rotation_degrees", "shift_px", "gamma", "contrast", "brightness", "noise", "blur_px"],
)
def test_negative_settings_are_refused(name):
    with pytest.raises(UsageError, match=rf"{name} \(=-1\) must be at least 0"):
        replace(OFF, **{name: -1})


def test_other_impossible_settings_are_refused():
    with pytest.raises(UsageError, match=r"elastic_grid \(=1\)"):
        replace(OFF, elastic_grid=1)
    for scale in [(0, 1), (2, 1)]:
        with pytest.raises(UsageError, match="smallest and a largest zoom above 0"):
            replace(OFF, scale=scale)
