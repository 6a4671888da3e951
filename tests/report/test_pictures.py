"""Pictures: contrast, colours, outlines, errors by kind; and volumes by their middle plane."""

import numpy as np
import pytest
from matplotlib import colormaps

from biounet.errors import UsageError
from biounet.evaluation.object_errors import kinds_of_objects, object_errors
from biounet.report.pictures import (
    ERROR_COLOURS,
    colours,
    error_layer,
    error_picture,
    heat,
    label_layer,
    overlay,
    reduced,
    side_by_side,
    stack,
    step_for,
    to_grey8,
    to_rgb,
    wrong_class_layer,
)
from biounet.samples.synthetic import synthetic_cells


def test_contrast_is_stretched_between_percentiles():
    values = np.arange(1001, dtype=np.uint16).reshape(7, 143)
    grey = to_grey8(values, percentiles=(10, 90))
    assert grey.dtype == np.uint8
    assert grey.shape == (7, 143)
    assert (grey.ravel()[:101] == 0).all()
    assert (grey.ravel()[900:] == 255).all()
    assert grey.ravel()[500] == 128


def test_contrast_of_a_constant_image_of_outliers_and_of_nothing():
    assert (to_grey8(np.full((3, 4), 7.0)) == 128).all()
    spike = np.zeros((100, 100))
    spike[3, 3] = 5  # both percentiles are 0, yet there is something to see
    assert to_grey8(spike)[3, 3] == 255
    assert to_grey8(spike).sum() == 255
    broken = np.array([[0.0, 1.0, np.nan, np.inf]])
    np.testing.assert_array_equal(to_grey8(broken, percentiles=(0, 100)), [[0, 255, 0, 0]])
    assert not to_grey8(np.full((2, 2), np.nan)).any()
    assert to_grey8(np.array([[False, True]]), percentiles=(0, 100)).tolist() == [[0, 255]]


def test_rgb_from_channels_and_from_volumes():
    colour = np.random.default_rng(0).integers(0, 255, (3, 4, 5), dtype=np.uint8)
    np.testing.assert_array_equal(to_rgb(colour), np.moveaxis(colour, 0, -1))
    volume = np.stack([np.zeros((4, 5)), np.arange(20).reshape(4, 5), np.ones((4, 5))])
    np.testing.assert_array_equal(to_rgb(volume, 3), to_rgb(volume[1]))
    two = np.stack([np.arange(20).reshape(4, 5), np.zeros((4, 5))])
    np.testing.assert_array_equal(to_rgb(two), to_rgb(two[0]))
    with pytest.raises(UsageError, match=r"image of shape \(2, 2\) must have 3 axes"):
        to_rgb(np.zeros((2, 2)), 3)


def test_colours_are_stable_distinct_and_bright():
    few, many = colours(np.arange(10)), colours(np.arange(300))
    np.testing.assert_array_equal(few, many[:10])
    assert len(np.unique(many, axis=0)) == 300
    assert many[0].tolist() == [0, 0, 0]
    assert (many[1:].max(axis=1) == 255).all()
    steps = np.abs(many[2:].astype(int) - many[1:-1]).sum(1)
    assert steps.min() > 150  # ids next to each other differ clearly
    assert colours(np.array([-1]))[0].tolist() == [235, 70, 50]


def test_outlines_are_inside_the_object():
    labels = np.zeros((7, 7), np.int32)
    labels[1:6, 1:6] = 4
    layer = label_layer(labels, fill=0.2)
    assert (layer[labels == 0, 3] == 0).all()
    expected = np.where(labels > 0, 255, 0)
    expected[2:5, 2:5] = 51
    np.testing.assert_array_equal(layer[..., 3], expected)
    assert (layer[labels > 0, :3] == colours(np.array(4))).all()
    assert (label_layer(labels, line_px=2)[..., 3] == 255).sum() == 24
    assert (label_layer(labels, outlines=False, fill=1)[..., 3] == 255).sum() == 25


def test_unknown_pixels_are_hatched():
    layer = label_layer(np.full((12, 12), -1, np.int32))
    assert 0.2 < (layer[..., 3] == 200).mean() < 0.5
    assert (layer[..., :3] == (235, 70, 50)).all()


def test_overlay_is_image_and_layer():
    image = np.arange(64, dtype=np.float32).reshape(8, 8)
    labels = np.zeros((8, 8), np.int32)
    labels[2:7, 2:7] = 1
    shown = overlay(image, labels)
    assert shown.shape == (8, 8, 3)
    np.testing.assert_array_equal(shown[0], to_rgb(image)[0])
    np.testing.assert_array_equal(shown[2, 2], colours(np.array(1)))
    np.testing.assert_array_equal(overlay(image[None], labels), shown)
    volume, ids = np.stack([image * 0, image]), np.stack([labels * 0, labels])
    np.testing.assert_array_equal(overlay(volume, ids), shown)
    with pytest.raises(UsageError, match="do not fit"):
        overlay(image, labels[:4])


def test_lines_get_wider_in_large_pictures():
    labels = np.zeros((40, 2100), np.int32)
    labels[10:30, 10:30] = 1
    large = overlay(np.zeros((40, 2100)), labels)
    small = overlay(np.zeros((40, 40)), labels[:, :40])
    full = colours(np.array(1))
    assert (small == full).all(-1).sum() == 76
    assert (large == full).all(-1).sum() == 20 * 20 - 14 * 14


def test_classes_are_filled_and_class_0_is_clear():
    image = np.zeros((4, 6))
    classes = np.zeros((4, 6), np.int32)
    classes[:, 2:4], classes[:, 4:] = 1, 2
    shown = overlay(image, classes, outlines=False, fill=0.45)
    assert [len(np.unique(shown[classes == c], axis=0)) for c in range(3)] == [1, 1, 1]
    np.testing.assert_array_equal(shown[classes == 0], to_rgb(image)[classes == 0])


def test_opaque_layers_replace_and_half_opaque_ones_mix():
    base = np.full((1, 2, 3), 100, np.uint8)
    layer = np.array([[[0, 200, 100, 255], [0, 200, 100, 51]]], np.uint8)
    np.testing.assert_array_equal(stack(base, layer), [[[0, 200, 100], [80, 120, 100]]])


def rows(text):
    return np.array([[int(c) if c != "." else 0 for c in line] for line in text.split()], np.int32)


def test_every_kind_of_error_by_hand():
    of_true, spurious = kinds_of_objects(rows("11.66666....88.7..."), rows("11.22.3333.44..555."))
    # 6 covers all of 2 and half of 3, which is not more than half; 8 lies beside 4, 7 in a third of 5
    assert of_true == {1: "correct", 2: "correct", 3: "missed", 4: "missed", 5: "missed"}
    assert spurious.tolist() == [8]
    merged, _ = kinds_of_objects(rows("7777777"), rows("11.2222"))
    assert merged == {1: "merged", 2: "merged"}
    split, _ = kinds_of_objects(rows("55.6666"), rows("1111111"))
    assert split == {1: "split"}


def test_kinds_agree_with_the_counts_of_the_scores():
    for seed in range(6):
        rng = np.random.default_rng(seed)
        _, true = synthetic_cells((96, 96), seed=seed, diameter_px=16)
        found = np.roll(true, (2, -3), (0, 1))
        found[np.isin(found, rng.choice(found.max(), 5))] = 0
        found[found % 7 == 0] = 1
        true = np.where(rng.random(true.shape) < 0.01, -1, true).astype(np.int32)
        of_true, spurious = kinds_of_objects(found, true)
        counted = object_errors(found, true)
        assert sum(kind == "missed" for kind in of_true.values()) == counted["misses"]
        assert len(spurious) == counted["spurious"]
        assert set(of_true) == set(np.unique(true[true > 0]).tolist())


def test_errors_are_painted_in_their_colours():
    true = rows("111..222.... 111..222.... 111..222....")
    found = rows("333......44. 333......44. 333......44.")
    picture, legend = error_picture(np.zeros((3, 12)), found, true)
    assert legend == dict(ERROR_COLOURS)
    assert list(legend) == ["correct", "missed", "spurious", "merged", "split"]
    layer = error_layer(found, true)
    for column, kind in ((1, "correct"), (6, "missed"), (9, "spurious")):
        assert tuple(layer[1, column, :3]) == legend[kind]
        assert layer[1, column, 3] > 0
    assert (layer[:, [3, 4, 8, 11], 3] == 0).all()
    np.testing.assert_array_equal(picture[1, 2], legend["correct"])  # on the outline
    volume = error_picture(np.zeros((2, 3, 12)), np.stack([found * 0, found]), np.stack([true * 0, true]))[0]
    assert volume.shape == (3, 12, 3)


def test_a_merge_is_judged_on_the_whole_volume_not_on_the_plane_shown():
    true = np.zeros((3, 2, 4), np.int32)
    true[0, :, 2:], true[1, :, :2] = 2, 1
    found = (true > 0).astype(np.int32)
    np.testing.assert_array_equal(error_layer(found, true)[0, 0, :3], ERROR_COLOURS["merged"])


def test_heat_follows_viridis_and_its_limits():
    ramp = np.linspace(0, 1, 256)[None]
    expected = 255 * colormaps["viridis"](ramp[0])[:, :3]
    assert np.abs(heat(ramp)[0] - expected).max() < 8
    np.testing.assert_array_equal(heat(np.array([[-3.0, 9.0]]), limits=(0, 1)), [[[68, 1, 84], [253, 231, 37]]])
    np.testing.assert_array_equal(heat(np.ones((1, 1))), [[[68, 1, 84]]])
    np.testing.assert_array_equal(heat(np.array([[np.nan, 0.0, 1.0]]))[0, 0], [0, 0, 0])
    assert not heat(np.full((1, 1), np.nan)).any()


def test_pictures_side_by_side():
    left, right = np.zeros((4, 3, 3), np.uint8), np.full((2, 60, 3), 90, np.uint8)
    row = side_by_side([left, right], gap_px=5)
    assert row.shape == (4, 68, 3)
    assert (row[:, 3:8] == 255).all()
    assert (row[2:, 8:] == 255).all()
    assert (row[:2, 8:] == 90).all()
    titled = side_by_side([left, right], ["", "Zellen"])
    assert titled.shape[0] > 4
    assert (titled[:-4, 11:] < 100).any()
    assert not np.array_equal(side_by_side([right], ["ö"]), side_by_side([right], ["ü"]))
    with pytest.raises(UsageError, match="1 pictures and 2 captions"):
        side_by_side([left], ["a", "b"])


def test_wrong_classes_are_drawn_where_the_class_is_known():
    true = np.array([[0, 1, 2, -1]], np.int32)
    layer = wrong_class_layer(np.array([[0, 2, 2, 1]], np.int32), true)
    assert (layer[0, :, 3] > 0).tolist() == [False, True, False, False]


def test_of_volumes_the_middle_plane_is_shown():
    true = np.zeros((5, 4, 6), np.int32)
    predicted = true.copy()
    predicted[2, 1, 3], predicted[0, 0, 0] = 1, 1
    layer = wrong_class_layer(predicted, true)
    assert np.argwhere(layer[..., 3]).tolist() == [[1, 3]]


def test_a_reduced_image_has_means_and_as_many_pixels_as_every_nth_label():
    image = np.arange(15, dtype=np.uint16).reshape(1, 3, 5)
    labels = np.zeros((3, 5), np.int32)
    step = step_for(labels, 3)
    assert step == 2
    small = reduced(image, 2, step)
    assert small.shape[1:] == labels[::step, ::step].shape
    assert small.dtype == np.uint16
    assert small[0, 0].tolist() == [3, 5, 6]  # (0+1+5+6)/4, (2+3+7+8)/4, the edge repeated: (4+4+9+9)/4 = 6.5
    assert reduced(np.stack([image, image + 50], 1), 3, 1)[0, 0, 0] == 50
    assert step_for(labels, 5) == 1


def test_errors_of_every_nth_pixel_keep_their_kinds():
    true = np.zeros((40, 40), np.int32)
    true[2:12, 2:12], true[20:34, 20:34] = 1, 2
    found = np.where(true == 2, 5, 0)
    whole, half = error_layer(found, true), error_layer(found, true, step=2)
    np.testing.assert_array_equal(half[..., :3], whole[::2, ::2, :3])
    assert tuple(half[3, 3, :3]) == ERROR_COLOURS["missed"]
