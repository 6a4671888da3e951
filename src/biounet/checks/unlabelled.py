"""Places that look like the objects and are not labelled.

The features of `agreement` are weighed once for all images, by least squares on all masks, which gives for each pixel
how much it looks like an object. Pieces of known background that reach what the labelled objects have, of their size
and away from them, are suspects, where the look explains the image's mask: as it is, or, so that many forgotten objects
do not hide themselves, with the suspects in it. It is a hint to look, never more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from biounet.checks.agreement import Floats, Gridded, coarse, covariance
from biounet.checks.finding import Finding, Severity, Spot
from biounet.checks.survey import Labels, Survey
from biounet.datasets.drawings import is_drawing
from biounet.images.formats import stem_name
from biounet.labels.components import components

_TELLING = 0.3  # share of the masks that the features must explain, else nothing can be suspected
_TELLING_ELSEWHERE = 0.5  # and where an image has no object of its own
_TELLING_FILLED = 0.35  # and with the suspects in the mask
_ABOVE = 0.5  # from the background's to the objects' median, where a suspect begins
_LIKE = 0.85  # what it must have in its mean
_SIZES = (0.35, 3.0)  # times the median object
_POINTS = 8  # of the grid that the median object must have

Box = tuple[slice, ...]


def unlabelled_objects(survey: Survey) -> Iterator[Finding]:
    """Suspects in each image of instances, the most in number first."""
    grids = survey.grids
    if not survey.is_instances or not grids:
        return
    weights, explained = _weights(grids)
    if explained < _TELLING:
        return
    looks = [_projected(grid, weights) for grid in grids]
    found = [_levels(look, labels, g.step) for look, labels, g in zip(looks, survey.encoded, grids, strict=True)]
    levels = [level for level in found if level]
    if not levels:
        return
    typical = (float(np.median([low for low, _ in levels])), float(np.median([high for _, high in levels])))
    for at, (labels, grid) in enumerate(zip(survey.encoded, grids, strict=True)):
        step = grid.step
        size = survey.median_px / step**labels.ndim
        if size < _POINTS:
            continue
        low, high = found[at] or typical
        likeness = (looks[at] - low) / max(high - low, 1e-6)
        boxes = _suspects(likeness, labels, step, size)
        if not boxes:
            continue
        if _tells(looks[at], grid.mask, explained) or _explains(looks[at], _filled(labels, likeness, boxes, step)):
            yield _finding(survey, at, boxes)


def _finding(survey: Survey, at: int, boxes: list[Box]) -> Finding:
    name, count = survey.examples[at].name, len(survey.object_px[at])
    severity: Severity = "warning" if len(boxes) >= max(3, 0.1 * count) else "hint"
    return Finding(
        "unlabelled_objects",
        severity,
        survey.mask_file(name),
        f"{len(boxes)} {'place looks' if len(boxes) == 1 else 'places look'} like objects and "
        f"{'is' if len(boxes) == 1 else 'are'} not labelled, beside {count} that are",
        "what is not labelled is taught as background, so the network learns to overlook such objects",
        f"look at them: label them, or {_as_unknown(survey, name)}",
        len(boxes),
        tuple(Spot(name, box) for box in boxes[:3]),
    )


def _as_unknown(survey: Survey, name: str) -> str:
    """How pixels are marked as unknown in this layout."""
    layout, item = survey.dataset.layout, survey.items[name]
    if layout == "nnU-Net":
        return "draw an ignore label over them, which dataset.json declares"
    if layout == "COCO":
        return "outline them with iscrowd 1"
    if is_drawing(item.labels) and not item.labels.path.is_dir():
        return "outline them as an object of the class ignore"
    stem = stem_name(item.image.path)
    page = "" if item.image.page is None else f", page {item.image.page + 1}"
    listed = ", and list that in a column ignore of the CSV" if layout == "pairs" else ""
    return f"mark them as unknown in {stem}_ignore.tif{page}{listed}"


def _weights(grids: Sequence[Gridded]) -> tuple[npt.NDArray[np.float64], float]:
    """Least squares over all images, and the share of all masks' variance that it explains."""
    count = len(grids[0].features)
    same = [g for g in grids if len(g.features) == count]
    inverse = np.linalg.inv(np.mean([covariance(g.features) for g in same], axis=0))
    products = [(g.features.reshape(count, -1) @ g.mask.ravel()) / g.mask.size for g in same]
    variance = float(np.mean([(g.mask * g.mask).mean() for g in same]))
    together = np.mean(products, axis=0, dtype=np.float64)
    weights = inverse @ together
    return weights, float(together @ weights) / max(variance, 1e-9)


def _projected(grid: Gridded, weights: npt.NDArray[np.float64]) -> Floats:
    return np.asarray(np.tensordot(weights.astype(np.float32), grid.features, 1), np.float32)


def _tells(looks: Floats, mask: Floats, explained: float) -> bool:
    """Whether the look explains this image's own mask, or, without one to explain, the others' masks well."""
    spread = float(mask.std()) * float(looks.std())
    if spread < 1e-6:
        return explained >= _TELLING_ELSEWHERE
    return _explains(looks, mask, _TELLING)


def _explains(looks: Floats, mask: Floats, share: float = _TELLING_FILLED) -> bool:
    """Whether the look explains at least this share of a mask of zero mean."""
    spread = float(mask.std()) * float(looks.std())
    correlation = float(((looks - looks.mean()) * mask).mean()) / max(spread, 1e-9)
    return correlation > 0 and correlation**2 >= share


def _filled(labels: Labels, likeness: Floats, boxes: Sequence[Box], step: int) -> Floats:
    """The mask as it would be with the suspects in it: on the grid, of zero mean where known, 0 elsewhere."""
    mask, known = coarse(labels > 0, step), coarse(labels >= 0, step) > 0.99
    for box in boxes:
        at = tuple(slice(side.start // step, side.stop // step) for side in box)
        mask[at] = np.maximum(mask[at], likeness[at] > _ABOVE)
    return np.where(known, mask - mask[known].mean(), 0).astype(np.float32)


def _levels(looks: Floats, labels: Labels, step: int) -> tuple[float, float] | None:
    """Median over background and over objects, None where either is missing or they are not apart."""
    drawn, known = coarse(labels > 0, step), coarse(labels >= 0, step) > 0.99
    inside, outside = looks[drawn > 0.99], looks[(drawn < 0.01) & known]
    if inside.size < _POINTS or outside.size < _POINTS:
        return None
    low, high = float(np.median(outside)), float(np.median(inside))
    return (low, high) if high > low else None


def _suspects(likeness: Floats, labels: Labels, step: int, size: float) -> list[Box]:
    """Boxes in pixels of pieces of background that look like objects of about ``size`` points."""
    drawn, known = coarse(labels > 0, step) > 0, coarse(labels >= 0, step) > 0.99
    free = known & ~ndimage.binary_dilation(drawn, iterations=2)
    pieces = components(ndimage.binary_opening((likeness > _ABOVE) & free))
    found = []
    for number, box in enumerate(ndimage.find_objects(pieces), start=1):
        if box is None:
            continue
        inside = pieces[box] == number
        if not _SIZES[0] * size <= inside.sum() <= _SIZES[1] * size or inside.mean() < 0.4:
            continue
        if likeness[box][inside].mean() >= _LIKE:
            found.append(tuple(slice(s.start * step, s.stop * step) for s in box))
    return found
