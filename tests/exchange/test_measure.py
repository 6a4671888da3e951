import math

import numpy as np
import pytest
import shapely
from skimage.measure import regionprops

from biounet.errors import UsageError
from biounet.exchange.measure import measure
from biounet.exchange.objects import Objects, mean_probability
from biounet.exchange.tracing import trace


def cells():
    """Ellipses of many sizes, some at the border, some of a few pixels."""
    labels = np.zeros((90, 120), np.int32)
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:90, :120]
    for number in range(1, 25):
        cy, cx, ry, rx = rng.uniform([0, 0, 1, 1], [90, 120, 9, 14])
        labels[((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 < 1] = 2 * number
    return labels


def test_as_scikit_image_measures():
    labels = cells()
    image = np.random.default_rng(1).integers(0, 4000, (2, *labels.shape)).astype(np.uint16)
    table = measure(Objects(labels, "a", image, ("DAPI", "GFP"), pixel_size_um=(0.5, 0.5)))
    regions = regionprops(labels, np.moveaxis(image, 0, -1))
    assert table["id"].tolist() == [region.label for region in regions]
    expected = {
        "area_px2": [r.area for r in regions],
        "area_um2": [r.area / 4 for r in regions],
        "perimeter_px": [r.perimeter for r in regions],
        "perimeter_um": [r.perimeter / 2 for r in regions],
        "centroid_y_px": [r.centroid[0] + 0.5 for r in regions],
        "centroid_x_um": [(r.centroid[1] + 0.5) / 2 for r in regions],
        "major_axis_px": [r.axis_major_length for r in regions],
        "minor_axis_um": [r.axis_minor_length / 2 for r in regions],
        "mean_intensity_DAPI": [r.intensity_mean[0] for r in regions],
        "mean_intensity_GFP": [r.intensity_mean[1] for r in regions],
    }
    for name, values in expected.items():
        np.testing.assert_allclose(table[name], values, rtol=1e-9, atol=1e-6, err_msg=name)


def test_solidity_is_the_share_of_the_hull_of_the_pixels():
    labels = cells()
    table = measure(Objects(labels))
    for traced, solidity in zip(trace(labels), table["solidity"], strict=True):
        hull = shapely.MultiPoint(np.concatenate([piece[0] for piece in traced.pieces])).convex_hull
        assert solidity == pytest.approx((labels == traced.id).sum() / hull.area)
    square = np.ones((4, 5), np.int32)
    assert measure(Objects(square))["solidity"] == [1]
    square[0, 0] = 0
    assert measure(Objects(square))["solidity"] == [19 / 19.5]


def test_touching_objects_do_not_count_as_each_other():
    """The perimeter of an object is the same beside another one and alone."""
    labels = np.zeros((12, 14), np.int32)
    labels[2:8, 2:7] = 1
    alone = measure(Objects(labels))["perimeter_px"][0]
    labels[2:8, 7:12] = 2
    assert measure(Objects(labels))["perimeter_px"][0] == alone


def test_pixels_that_are_not_square():
    labels = np.zeros((20, 20), np.int32)
    labels[5:15, 3:9] = 1
    table = measure(Objects(labels, pixel_size_um=(2.0, 0.5)))
    (region,) = regionprops(labels, spacing=(2.0, 0.5))
    assert "perimeter_um" not in table
    assert table["area_um2"] == [60]
    assert table["major_axis_um"][0] == pytest.approx(region.axis_major_length)
    assert (table["centroid_y_um"][0], table["centroid_x_um"][0]) == (20, 3)


def test_volumes():
    volume = np.zeros((6, 20, 22), np.int32)
    z, y, x = np.mgrid[:6, :20, :22]
    volume[((z - 2.5) / 2) ** 2 + ((y - 9) / 5) ** 2 + ((x - 11) / 8) ** 2 < 1] = 4
    table = measure(Objects(volume, pixel_size_um=(2.0, 1.0, 1.0)))
    (region,) = regionprops(volume, spacing=(2.0, 1.0, 1.0))
    assert table["volume_px3"] == [(volume > 0).sum()]
    assert table["volume_um3"] == [2 * (volume > 0).sum()]
    assert table["major_axis_um"][0] == pytest.approx(
        math.sqrt(20 * np.linalg.eigvalsh(np.cov(np.argwhere(volume) * (2, 1, 1), rowvar=False, bias=True))[-1])
    )
    assert table["centroid_z_um"][0] == pytest.approx(region.centroid[0] + 1)
    assert not {"perimeter_px", "solidity"} & set(table)


def test_what_touches_the_border():
    labels = np.zeros((6, 7), np.int32)
    labels[0, 3], labels[3, 3], labels[5, 0], labels[4, 6] = 1, 2, 3, 4
    assert measure(Objects(labels))["touches_border"].tolist() == [1, 0, 1, 1]


def test_mean_probabilities_are_summed_window_by_window(rng):
    labels = rng.integers(0, 50, (700, 900)).astype(np.int32)
    probabilities, classes = rng.random((3, 700, 900), np.float32), rng.integers(1, 3, 50).astype(np.int32)
    asked = []

    def read(channel, start, stop):
        asked.append(np.subtract(stop, start).prod())
        return probabilities[channel][tuple(map(slice, start, stop))]

    for known, own in (
        (None, 1 - probabilities[0]),
        (classes, np.take_along_axis(probabilities, classes[labels][None], 0)),
    ):
        expected = [own.reshape(labels.shape)[labels == number].mean(dtype=np.float64) for number in range(1, 50)]
        np.testing.assert_allclose(mean_probability(labels, read, known)[1:], expected, rtol=1e-9)
    assert max(asked) < labels.size / 2


def test_classes_and_probability():
    labels = np.array([[1, 1, 2], [0, 2, 2]], np.int32)
    probabilities = np.zeros((3, 2, 3), np.float32)
    probabilities[1] = np.array([[0.5, 0.7, 0.2], [0.1, 0.1, 0.3]])
    probabilities[2] = np.array([[0.4, 0.2, 0.6], [0.1, 0.9, 0.6]])
    probabilities[0] = 1 - probabilities[1] - probabilities[2]
    classes = np.array([0, 1, 2], np.int32)

    def read(channel, start, stop):
        return probabilities[(channel, *map(slice, start, stop))]

    mean = mean_probability(labels, read, classes)
    np.testing.assert_allclose(mean[1:], [0.6, 0.7], rtol=1e-6)
    np.testing.assert_allclose(mean_probability(labels, read, None)[1:], [0.9, 0.9], rtol=1e-6)
    names = ("background", "a", "b")
    table = measure(Objects(labels, classes=classes, class_names=names, probability=mean))
    assert table["class"].tolist() == ["a", "b"]
    np.testing.assert_allclose(table["probability"], [0.6, 0.7], rtol=1e-6)


@pytest.mark.parametrize("shape", [(4, 5), (3, 4, 5), (1, 1)])
def test_no_objects(shape):
    assert all(len(column) == 0 for column in measure(Objects(np.zeros(shape, np.int32))).values())


def test_parts_that_do_not_fit():
    with pytest.raises(UsageError, match="classes of 2 ids for labels up to 2"):
        Objects(np.full((2, 2), 2, np.int32), classes=np.zeros(2, np.int32))
    with pytest.raises(UsageError, match="image of shape"):
        Objects(np.ones((2, 2), np.int32), image=np.zeros((1, 2, 3)))
