"""The demo's pictures: exact truth, same seed same picture, and too hard for a threshold."""

import numpy as np
import pytest

from biounet.errors import UsageError
from biounet.labels.components import components
from biounet.labels.otsu import otsu_watershed, tune_otsu
from biounet.samples.synthetic import synthetic_cells


def mean_object_iou(found, truth):
    """SEG by its definition: IoU of the found object that covers more than half of a true one."""
    values = []
    for number in range(1, int(truth.max()) + 1):
        cell = truth == number
        ids, counts = np.unique(found[cell], return_counts=True)
        best, overlap = ids[counts.argmax()], counts.max()
        if best == 0 or 2 * overlap <= cell.sum():
            values.append(0.0)
        else:
            values.append(overlap / (cell.sum() + (found == best).sum() - overlap))
    return float(np.mean(values))


@pytest.mark.parametrize(("shape", "diameter"), [((192, 160), 34.0), ((20, 48, 56), 18.0)])
def test_truth_is_complete_touching_and_in_raster_order(shape, diameter):
    image, labels = synthetic_cells(shape, seed=3, diameter_px=diameter)
    assert image.shape == labels.shape == shape
    assert image.dtype == np.uint8
    assert labels.dtype == np.int32
    ids, first = np.unique(labels, return_index=True)
    assert ids[0] == 0
    np.testing.assert_array_equal(ids, np.arange(len(ids)))
    assert (np.diff(first[1:]) > 0).all()
    assert len(ids) > 10
    # As many pieces as cells: every cell is one face-connected piece.
    assert components(labels).max() == len(ids) - 1
    # Fewer pieces of foreground than cells: some touch without a gap; and some background is left.
    assert components(labels > 0).max() < 0.7 * len(ids)
    assert 0.2 < (labels > 0).mean() < 0.8


def test_mean_size_follows_the_diameter():
    areas = {}
    for diameter in (24.0, 40.0):
        _, labels = synthetic_cells((400, 400), seed=0, diameter_px=diameter)
        areas[diameter] = np.median(np.bincount(labels.ravel())[1:])
    assert areas[40.0] / areas[24.0] == pytest.approx((40 / 24) ** 2, rel=0.25)


def test_same_arguments_same_arrays_other_seed_other_picture():
    first, again, other = (synthetic_cells((64, 64), seed=s, diameter_px=20) for s in (5, 5, 6))
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert (first[1] != other[1]).any()


def test_noise_changes_the_picture_not_the_truth():
    clean, truth = synthetic_cells((128, 128), seed=2, noise=0)
    noisy, same = synthetic_cells((128, 128), seed=2)
    np.testing.assert_array_equal(truth, same)
    background = truth == 0
    change = noisy[background].astype(float) - clean[background]
    assert 2 < change.std() < 8
    assert abs(change.mean()) < 0.5


def test_number_of_cells_can_be_chosen():
    assert synthetic_cells((256, 256), seed=1, cells=0)[1].max() == 0
    assert 5 <= synthetic_cells((256, 256), seed=1, cells=10)[1].max() <= 10


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (7, 3), (1, 1, 1), (3, 50, 1)])
def test_any_size_gives_a_picture(shape):
    image, labels = synthetic_cells(shape, seed=0)
    assert image.shape == labels.shape == shape


def test_cells_overlap_background_in_brightness():
    """One cell in ten or more has a mean that occurs among the usual values of the background."""
    image, labels = synthetic_cells((512, 512), seed=11)
    means = np.bincount(labels.ravel(), image.ravel().astype(float)) / np.bincount(labels.ravel())
    usual = np.quantile(image[labels == 0], 0.9)
    assert np.mean(means[1:] < usual) > 0.1


def test_a_tuned_threshold_and_watershed_stays_far_below_what_the_demo_asks_of_a_network():
    pairs = [synthetic_cells((256, 256), seed=seed) for seed in (0, 1)]
    settings = tune_otsu([p[0] for p in pairs], [p[1] for p in pairs], mean_object_iou)
    image, truth = synthetic_cells((384, 384), seed=100)
    found = otsu_watershed(
        image,
        sigma_px=settings.sigma_px,
        peak_distance_px=settings.peak_distance_px,
        bright=settings.bright,
        smallest_px=settings.smallest_px,
    )
    assert settings.bright
    assert 0.1 < mean_object_iou(found, truth) < 0.6


def test_wrong_arguments_are_named():
    with pytest.raises(UsageError, match=r"shape \(=\(5,\)\) must have 2 or 3 sides"):
        synthetic_cells((5,), seed=0)
    with pytest.raises(UsageError, match=r"shape \(=\(0, 4\)\)"):
        synthetic_cells((0, 4), seed=0)
    with pytest.raises(UsageError, match=r"diameter_px \(=2\)"):
        synthetic_cells((9, 9), seed=0, diameter_px=2)
    with pytest.raises(UsageError, match=r"cells \(=-1\)"):
        synthetic_cells((9, 9), seed=0, cells=-1)
