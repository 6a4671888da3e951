"""Whole masks: empty, inverted, damaged by JPEG, with values that are no class, or too few of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from biounet.checks.finding import Finding, Spot
from biounet.checks.survey import Labels, Survey
from biounet.datasets.examples import Example
from biounet.labels.components import components

_CONTRAST = 0.5  # difference of object and background in standard deviations that is told apart from none
_AGREED = 0.8  # share of the masks that must agree on which is brighter
_FEWEST = 4
_FEW_OBJECTS = 10
_FEW_PIXELS = 200


def empty_masks(survey: Survey) -> Iterator[Finding]:
    """Masks without any object."""
    empty = [e for e in survey.examples if not (e.labels > 0).any()]
    if survey.meaning is None:
        if survey.examples:
            yield Finding(
                "empty_masks",
                "error",
                survey.dataset.root.name,
                f"all {len(empty)} masks are empty, no object is drawn",
                "without an object there is nothing to learn",
                "annotate at least one, or check that these are the right masks",
            )
        return
    typical = float(np.median([len(sizes) for sizes in survey.object_px if len(sizes)]))
    for example in empty:
        if not (example.labels == 0).any():
            continue  # all of it is unknown, which is no statement
        yield Finding(
            "empty_masks",
            "warning",
            survey.mask_file(example.name),
            f"no object is drawn; images with any have {typical:.0f} in the median",
            "objects that are there but not drawn are taught as background",
            "draw them; if the image truly shows none, leave it as it is; if it was not annotated, remove the mask",
            spots=(Spot(example.name),),
        )


def inverted_masks(survey: Survey) -> Iterator[Finding]:
    """Masks in which object and background are exchanged: one among others, or all of them."""
    told = [_told(e, labels) for e, labels in zip(survey.examples, survey.encoded, strict=True)]
    known = [t for t in told if t is not None and abs(t.contrast) >= _CONTRAST]
    usual = np.sign(np.median([t.contrast for t in known])) if known else 0.0
    agreed = sum(np.sign(t.contrast) == usual for t in known)
    if len(known) >= _FEWEST and agreed >= _AGREED * len(known):
        share = float(np.median([t.share for t in known if np.sign(t.contrast) == usual]))
        for example, t in zip(survey.examples, told, strict=True):
            if t is None or abs(t.contrast) < _CONTRAST or np.sign(t.contrast) == usual:
                continue
            if abs(t.share - (1 - share)) < abs(t.share - share):
                yield _inverted(survey, example, t, usual, share, int(agreed))
    named = [(e.name, labels) for e, labels in zip(survey.examples, survey.encoded, strict=True) if (labels > 0).any()]
    around = [name for name, labels in named if _is_a_frame(labels)]
    with_objects = len(named)
    if around and len(around) > 0.5 * with_objects:
        yield Finding(
            "inverted_masks",
            "warning",
            f"{len(around)} masks",
            f"in {len(around)} of {with_objects} masks the objects are one piece that runs around the image "
            "and leaves compact holes",
            "the network would find what lies between the objects instead of them",
            "if the holes are the objects, invert the masks (Fiji: Edit > Invert); else nothing",
            spots=(Spot(around[0]),),
        )


@dataclass(frozen=True)
class _Told:
    """How much brighter objects are than background, in standard deviations, and their share of the pixels."""

    contrast: float
    share: float


def _told(example: Example, labels: Labels) -> _Told | None:
    grey = example.image.mean(axis=0, dtype=np.float32)
    inside, outside = grey[labels > 0], grey[labels == 0]
    spread = float(grey.std())
    if not inside.size or not outside.size or spread == 0:
        return None
    return _Told(float(inside.mean() - outside.mean()) / spread, inside.size / (inside.size + outside.size))


def _inverted(survey: Survey, example: Example, told: _Told, usual: float, share: float, agreed: int) -> Finding:
    brighter = "darker" if usual > 0 else "brighter"
    return Finding(
        "inverted_masks",
        "error",
        survey.mask_file(example.name),
        f"objects are {brighter} than the background and cover {told.share:.0%}; in {agreed} other masks it is the "
        f"other way round, and they cover {share:.0%}",
        "background is taught as object and objects as background",
        "invert the mask (Fiji: Edit > Invert)",
        abs(told.contrast),
        (Spot(example.name),),
    )


def _is_a_frame(labels: Labels) -> bool:
    """Whether the foreground is one piece at all sides of the image, around three compact holes or more."""
    drawn = labels > 0
    if drawn.mean() <= 0.5 or labels.ndim != 2:
        return False
    sides = [drawn[0], drawn[-1], drawn[:, 0], drawn[:, -1]]
    if min(float(side.mean()) for side in sides) < 0.3:
        return False
    sizes = np.bincount(components(labels).ravel())[1:]  # cells with ids of their own touch, and are no frame
    holes = components(labels == 0)
    ids, counts = np.unique(holes[holes > 0], return_counts=True)
    large = ids[counts >= 0.2 * counts.max()] if ids.size else ids
    return bool(sizes.max() >= 0.9 * sizes.sum() and len(large) >= 3 and _compact(holes, large))


def _compact(holes: Labels, ids: npt.NDArray[Any]) -> bool:
    """Whether most of these pieces fill half of their bounding box or more."""
    from scipy import ndimage

    boxes = ndimage.find_objects(holes)
    fill = [float((holes[boxes[i - 1]] == i).mean()) for i in ids.tolist()]
    return bool(np.median(fill) >= 0.5)


def jpeg_labels(survey: Survey) -> Iterator[Finding]:
    """Masks of few values with scraps of many others between them, as JPEG or smoothing leave."""
    for name, (_, found) in survey.scrappy.items():
        yield Finding(
            "jpeg_labels",
            "error",
            survey.mask_file(name),
            f"{found.values} values, but all save {found.pixels} pixels have {len(found.true)}: "
            f"{', '.join(map(str, found.true))}; the others are scraps of a few pixels, as JPEG compression or "
            "smooth scaling makes",
            "every value is taken as an object or class of its own",
            "save the mask again as TIFF or PNG from its source, or set each pixel to the nearest of these values; "
            "scale masks without interpolation",
            found.pixels,
            (Spot(name),),
        )


def foreign_values(survey: Survey) -> Iterator[Finding]:
    """Masks with values that the data set does not declare as classes."""
    declared = ", ".join(map(str, survey.dataset.values))
    for name, values in survey.foreign.items():
        yield Finding(
            "foreign_values",
            "error",
            survey.mask_file(name),
            f"values {', '.join(map(str, values[:8]))} are no class; declared are {declared}",
            "training refuses such masks, as nobody says what these pixels are",
            "correct the mask, or declare the class in dataset.json",
            len(values),
            (Spot(name),),
        )


def too_little(survey: Survey) -> Iterator[Finding]:
    """Too few objects, too few pixels of a class, or no known background."""
    if survey.meaning is None:
        return
    if not any((labels == 0).any() for labels in survey.encoded):
        yield Finding(
            "too_little",
            "error",
            survey.dataset.root.name,
            "no pixel of any image is known as background",
            "nothing can be told apart from the objects",
            "annotate some background, for instance one image in full",
        )
    if survey.is_instances:
        yield from _few_objects(survey)
    else:
        yield from _few_pixels(survey)


def _few_objects(survey: Survey) -> Iterator[Finding]:
    count = sum(len(sizes) for sizes in survey.object_px)
    if count < _FEW_OBJECTS and not survey.sampled:
        yield Finding(
            "too_little",
            "warning",
            survey.dataset.root.name,
            f"{count} objects in {len(survey.examples)} images",
            "so few objects do not show how objects differ, and a score on them means little",
            "annotate more; 50 objects from several images are a good start",
        )


def _few_pixels(survey: Survey) -> Iterator[Finding]:
    meaning = survey.meaning
    assert meaning is not None
    counts: Sequence[int] = np.sum(
        [np.bincount(e[e >= 0], minlength=len(meaning.values)) for e in survey.encoded], axis=0
    ).tolist()
    for name, value, count in zip(meaning.class_names, meaning.values, counts, strict=True):
        if count >= _FEW_PIXELS or (value == meaning.values[0] and count == 0):
            continue
        yield Finding(
            "too_little",
            "warning",
            survey.dataset.root.name,
            f"class {name} has {count} pixels in {len(survey.examples)} images",
            "a class that is hardly shown is not learnt",
            "annotate more of it, or leave the class out",
        )
