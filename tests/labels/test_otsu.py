"""The classical rival does its job on pictures made for it."""

import numpy as np
import pytest

from biounet.errors import UsageError
from biounet.labels.otsu import OtsuSettings, otsu_watershed, tune_otsu


def discs(shape=(60, 90), centres=((20, 20), (20, 46), (42, 75)), radius=15):
    grid = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    distances = np.stack([np.sqrt(sum((g - c) ** 2 for g, c in zip(grid, p, strict=True))) for p in centres])
    return np.where(distances.min(0) < radius, distances.argmin(0) + 1, 0).astype(np.int32)


@pytest.mark.parametrize("bright", [True, False])
@pytest.mark.parametrize(
    "truth",
    [discs(), discs((30, 40, 60), ((15, 18, 14), (15, 20, 36)), 13)],
    ids=["2d", "3d"],
)
def test_touching_discs_are_found_and_parted(truth, bright):
    rng = np.random.default_rng(0)
    image = np.where((truth > 0) == bright, 150, 60) + rng.normal(0, 6, truth.shape)
    found = otsu_watershed(image.astype(np.uint8), sigma_px=1.0, bright=bright)
    assert found.dtype == np.int32
    assert found.max() == truth.max()
    assert (found == truth).mean() > 0.97


def test_a_hole_is_filled_and_a_speck_dropped():
    truth = discs()
    image = (truth > 0) * np.uint8(200)
    image[20:23, 19:22] = 0
    image[55:57, 5:7] = 200
    found = otsu_watershed(image, sigma_px=0.5)
    assert found.max() == 3
    assert found[21, 20] == found[20, 15] == 1


@pytest.mark.parametrize("shape", [(1, 1), (5, 5), (0, 4), (1, 3, 3)])
def test_a_constant_picture_has_no_objects(shape):
    assert not otsu_watershed(np.full(shape, 7, np.uint16)).any()


def test_tuning_finds_the_polarity_and_splits_as_the_truth_does():
    truth = discs()
    image = np.where(truth > 0, 40, 160).astype(np.uint8)
    settings = tune_otsu([image], [truth], lambda found, true: float((found == true).mean()))
    assert not settings.bright
    assert isinstance(settings, OtsuSettings)


def test_errors():
    with pytest.raises(UsageError, match="must be grey"):
        otsu_watershed(np.zeros((2, 2, 2, 2)))
    with pytest.raises(UsageError, match="images of shapes"):
        tune_otsu([], [], lambda found, true: 0.0)
