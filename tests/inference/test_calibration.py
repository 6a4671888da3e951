import numpy as np
import pytest

from biounet.geometry import unet_geometry
from biounet.inference.calibration import calibration_crops, for_calibration, held_out, is_apart, windows


def image(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize(
    ("shape", "side", "count"),
    [((1, 512, 512), 256, 7), ((3, 600, 700), 204, 4), ((1, 40, 50), (40, 50), 3), ((1, 80, 90, 100), 50, 4),
     ((12, 300, 300), 102, 4), ((1, 1, 1), 1, 3)],
)  # fmt: skip
def test_a_megabyte_at_most(shape, side, count):
    crops = calibration_crops([image(*shape, seed=seed) for seed in range(3)])
    sides = side if isinstance(side, tuple) else (side,) * (len(shape) - 1)
    assert {crop.shape for crop in crops} == {(shape[0], *sides)}
    assert len(crops) == count
    assert sum(crop.nbytes for crop in crops) <= 1_000_000
    assert all(crop.dtype == np.float16 for crop in crops)


def test_crops_are_parts_of_as_many_images_as_possible():
    images = [np.full((1, 300, 300), number, np.float32) for number in range(7)]
    crops = calibration_crops(images)
    assert sorted(float(crop[0, 0, 0]) for crop in crops) == list(range(7))
    again = calibration_crops(images)
    assert all(np.array_equal(a, b) for a, b in zip(crops, again, strict=True))
    other = calibration_crops(images, seed=1)
    assert not all(np.array_equal(a, b) for a, b in zip(crops, other, strict=True))


@pytest.mark.parametrize("shape", [(1, 128, 160), (1, 512, 512), (2, 30, 40, 50), (1, 7, 300)])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 8, 11])
def test_what_is_measured_on_was_not_calibrated_on(shape, count):
    """Every image has a number of its own; the further half of its longest axis is a quarter above it."""
    axis = 1 + int(np.argmax(shape[1:]))
    further = np.indices(shape)[axis] >= shape[axis] / 2
    crops = calibration_crops([np.float32(number + 0.25 * further) for number in range(count)])
    parts = for_calibration(crops), held_out(crops)
    learnt, held = (set(np.unique(np.concatenate([crop.ravel() for crop in part])).tolist()) for part in parts)
    if count == 1:
        assert (learnt, held) == ({0.0}, {0.25})
    else:
        assert not {int(value) for value in learnt} & {int(value) for value in held}


def test_no_crop_is_there_twice():
    for count in range(1, 12):
        for side in (30, 200, 300):
            crops = calibration_crops([image(1, side, side + 9, seed=seed) for seed in range(count)])
            assert len({crop.tobytes() for crop in crops}) == len(crops) > 1
            assert is_apart(crops)


def test_crops_of_before_may_be_on_both_sides():
    crops = [image(1, 20, 20, seed=seed) for seed in (0, 1, 2, 0, 1, 2, 0, 1)]
    assert not is_apart(crops)
    assert is_apart(crops[:3])
    assert is_apart(crops[:1])


def test_a_single_pixel_leaves_nothing_to_measure_on():
    crops = calibration_crops([image(1, 1, 1)])
    assert (len(crops), held_out(crops)) == (1, ())


def test_values_beyond_float16_stay_finite():
    (crop, *_) = calibration_crops([np.full((1, 20, 20), 1e30, np.float32)])
    assert np.isfinite(crop).all()


@pytest.mark.parametrize(("count", "kept"), [(0, 0), (1, 0), (2, 1), (4, 1), (7, 2), (8, 2)])
def test_some_are_kept_out(count, kept):
    crops = [np.full((1, 2, 2), n) for n in range(count)]
    assert len(held_out(crops)) == kept
    assert [c[0, 0, 0] for c in (*for_calibration(crops), *held_out(crops))] == list(range(count))


def test_windows_are_of_one_size_and_show_each_crop_where_the_output_lies():
    geometry = unet_geometry(2)
    crops = [image(1, 30, 41), image(1, 35, 20, seed=1)]
    made = windows(crops, geometry)
    size = geometry.input_size((35, 41))
    margin = geometry.margin[0][0]
    for crop, window in zip(crops, made, strict=True):
        assert (window.shape, window.dtype) == ((1, 1, *size), np.float32)
        inside = window[0, :, margin : margin + crop.shape[1], margin : margin + crop.shape[2]]
        assert np.array_equal(inside, crop)
        assert window[0, 0, margin - 1, margin] == crop[0, 1, 0]  # mirrored around it
