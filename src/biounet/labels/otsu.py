"""The classical rival: smoothing, Otsu's threshold, and a watershed of the distance transform.

The recipe of textbooks and of most macros (Otsu 1979, doi 10.1109/TSMC.1979.4310076; Meyer and
Beucher 1990, doi 10.1016/1047-3203(90)90014-M), on scikit-image. Its four numbers are tuned on
annotated images (`tune_otsu`), so that it stands beside a trained network on fair terms.

Knows nothing of networks.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from biounet.errors import UsageError
from biounet.labels.components import relabel_by_first_pixel
from biounet.labels.tuning import Score, check_pairs, median_object_px

Labels = npt.NDArray[np.int32]


@dataclass(frozen=True)
class OtsuSettings:
    """The four numbers of `otsu_watershed`; sizes in pixels."""

    sigma_px: float = 2.0
    peak_distance_px: int = 8
    bright: bool = True
    smallest_px: int = 30


def otsu_watershed(
    image: npt.NDArray[np.generic],
    *,
    sigma_px: float = 2.0,
    peak_distance_px: int = 8,
    bright: bool = True,
    smallest_px: int = 30,
) -> Labels:
    """Objects of a grey image (Z)YX, any real dtype, by Otsu's threshold and a watershed: int32.

    The image is smoothed (Gaussian, ``sigma_px``), thresholded (cells are ``bright`` or dark),
    holes are filled, specks below ``smallest_px`` dropped, and touching cells parted by a watershed
    of the smoothed distance transform from its peaks at least ``peak_distance_px`` apart. Ids run
    by first pixel in raster order. A constant image has no objects. The watershed is not local:
    unlike everything else here, the result cannot be had block by block. Raises `UsageError` for an
    image that is not 2D or 3D.
    """
    from scipy import ndimage
    from skimage import filters, segmentation
    from skimage.morphology import remove_small_objects

    if image.ndim not in (2, 3):
        raise UsageError(f"image of shape {image.shape} must be grey, (Y, X) or (Z, Y, X)")
    smooth = ndimage.gaussian_filter(image.astype(np.float32), sigma_px)
    if smooth.size == 0 or smooth.min() == smooth.max():
        return np.zeros(image.shape, np.int32)
    level = filters.threshold_otsu(smooth)
    mask = smooth > level if bright else smooth < level
    mask = ndimage.binary_fill_holes(mask)
    mask = remove_small_objects(mask, max_size=max(0, smallest_px - 1))
    depth = ndimage.gaussian_filter(ndimage.distance_transform_edt(mask).astype(np.float32), 1.0)
    seeds = _peaks(depth, mask, peak_distance_px)
    return relabel_by_first_pixel(segmentation.watershed(-depth, seeds, mask=mask).astype(np.int32))


def _peaks(depth: npt.NDArray[np.float32], mask: npt.NDArray[np.bool_], distance_px: int) -> Labels:
    from skimage import feature, measure

    places = feature.peak_local_max(
        depth, min_distance=max(1, distance_px), labels=measure.label(mask), exclude_border=False
    )
    seeds = np.zeros(depth.shape, np.int32)
    seeds[tuple(places.T)] = np.arange(1, len(places) + 1)
    return seeds


def tune_otsu(images: Sequence[npt.NDArray[np.generic]], truths: Sequence[Labels], score: Score) -> OtsuSettings:
    """The settings with the highest mean ``score(labels, truth)`` over annotated images.

    All combinations are tried: both polarities, three smoothings, and peak distances and smallest
    sizes in proportion to the truth's median object. Among equals the first one tried is kept.
    """
    check_pairs("images", images, truths)
    size = median_object_px(truths)
    radius = 0.5 * size ** (1 / truths[0].ndim)
    best, best_score = OtsuSettings(), -np.inf
    for bright, sigma, spread, share in itertools.product(
        (True, False), (1.0, 2.0, 4.0), (0.4, 0.7, 1.0), (0.05, 0.25)
    ):
        settings = OtsuSettings(sigma, max(1, round(spread * radius)), bright, round(share * size))
        value = float(np.mean([score(_with(i, settings), t) for i, t in zip(images, truths, strict=True)]))
        if value > best_score:
            best, best_score = settings, value
    return best


def _with(image: npt.NDArray[np.generic], settings: OtsuSettings) -> Labels:
    return otsu_watershed(
        image,
        sigma_px=settings.sigma_px,
        peak_distance_px=settings.peak_distance_px,
        bright=settings.bright,
        smallest_px=settings.smallest_px,
    )
