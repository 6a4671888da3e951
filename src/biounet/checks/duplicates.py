"""The same field among the images learnt from and those held back, as `train` would divide them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from biounet.checks.agreement import Floats, turns
from biounet.checks.finding import Finding, Spot
from biounet.checks.survey import Survey
from biounet.geometry import pointwise_geometry
from biounet.images.examples import Example
from biounet.settings import standard
from biounet.training.split import Split, split_examples

_SIDE = {2: 64, 3: 24}
_SAME = 0.97  # correlation of two thumbnails without their slow changes


def near_duplicates(survey: Survey) -> Iterator[Finding]:
    """Pairs of a learnt and a held-back image that show the same, perhaps mirrored, turned, brighter or noisier."""
    if len(survey.examples) < 3:
        return  # a part of one image is held back, behind a guard
    split = planned_split(survey)
    held = {example.name for example in split.validation}
    learnt = {example.name for example in split.training} - held
    prints = {e.name: fingerprint(e.image) for e in survey.examples}
    for name in (n for n in prints if n in held):
        views = [prints[name], *(view for _, view in turns(prints[name]))]
        flat = np.stack([view.ravel() for view in views if view.shape == prints[name].shape])
        alike = {
            other: float((flat @ prints[other].ravel()).max())
            for other in prints
            if other in learnt and prints[other].shape == prints[name].shape
        }
        other = max(alike, key=alike.__getitem__, default="")
        if other and alike[other] >= _SAME:
            yield _finding(name, other, alike[other], len([1 for value in alike.values() if value >= _SAME]))


def planned_split(survey: Survey) -> Split:
    """The division into learnt and held-back images that `train` makes of all images, read or not."""
    read = {example.name: example for example in survey.examples}
    stub = np.array([[0, 1]], np.int32)
    examples: Sequence[Example] = [
        read.get(item.name) or Example(item.name, stub[None], stub) for item in survey.dataset.items
    ]
    return split_examples(
        examples,
        pointwise_geometry(survey.dataset.ndim),
        sequence=survey.dataset.is_sequence,
        share=standard().data.validation_share,
    )


def fingerprint(image: npt.NDArray[Any]) -> Floats:
    """A small picture of an image (C, *spatial) of zero mean and unit length, slow changes of brightness removed."""
    grey = image.mean(axis=0, dtype=np.float32)
    limit = _SIDE[grey.ndim]
    factors = [min(1.0, limit / n) for n in grey.shape]
    blurred = ndimage.gaussian_filter(grey, [0.5 / f for f in factors])
    small = ndimage.zoom(blurred, factors, order=1, grid_mode=True, mode="nearest")
    low, high = np.percentile(small, (1, 99))
    small = np.clip(small, low, high)
    fine = small - ndimage.gaussian_filter(small, limit / 8)
    fine -= fine.mean()
    length = float(np.sqrt((fine * fine).sum()))
    return np.asarray(fine / length if length > 1e-6 else np.zeros_like(fine), np.float32)


def _finding(name: str, other: str, likeness: float, count: int) -> Finding:
    more = f", and {count - 1} more learnt from" if count > 1 else ""
    return Finding(
        "near_duplicates",
        "warning",
        name,
        f"held back, but shows the same as {other}, which is learnt from{more} (correlation {likeness:.3f})",
        "the score of a held-back image that was learnt from says nothing about new images",
        f"remove one of the two, or hold both back: --validation {name},{other}",
        likeness,
        (Spot(name), Spot(other)),
    )
