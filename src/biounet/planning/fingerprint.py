"""The fingerprint of a data set: what a plan needs to know of it, measured from the annotation.

Lengths are in pixels of the finest axis. Knows nothing of networks or settings.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import edt
import numpy as np
import numpy.typing as npt
from scipy import ndimage

from biounet.datasets.examples import Example, usual_pixel_size
from biounet.labels.tuning import object_sizes_px
from biounet.words import counted

Labels = npt.NDArray[np.int32]

_QUANTILES = (0.05, 0.5, 0.95)
_TOUCHING_PX = 2.0  # nearer than this two objects are taken as touching
_MOST_PIXELS = 2**24  # that gaps are measured on
_SAME_SIDE = 0.9  # length of the mean of unit vectors from which directions count as one
_NOT_BY_CHANCE = 7.0  # times the square of that length: random directions reach it once in exp(7) = 1,100 (Rayleigh)


@dataclass(frozen=True)
class Fingerprint:
    """Sizes of images, objects and gaps.

    - ``images``: how many; ``largest``: the largest image's size, (Z)YX in pixels.
    - ``spacing``: size of a pixel per axis relative to the finest one.
    - ``diameters_px``: 5 %, 50 % and 95 % quantile of the objects' equivalent diameters (that of a
      disk or ball of the same size), for instances; None where there is no object.
    - ``gaps_px``: 5 %, 50 % and 95 % quantile of the distances between neighbouring objects, 0 where they
      share a face; None where no image holds two. ``touching``: share of neighbours less than 2 px apart.
    - ``thickness_px``: for classes, the mean thickness of each; a slab of thickness t has t.
    - ``upright``: for three classes and more, two whose centres lie the same way from each other in all
      images, (class, class, how many images); None where directions differ or images are of one sequence.
    """

    images: int
    largest: tuple[int, ...]
    channels: int
    spacing: tuple[float, ...]
    diameters_px: tuple[float, float, float] | None = None
    gaps_px: tuple[float, float, float] | None = None
    touching: float = 0.0
    objects: int = 0
    thickness_px: tuple[float | None, ...] = ()
    upright: tuple[int, int, int] | None = None

    def __str__(self) -> str:
        parts = [f"{counted(self.images, 'image')}, the largest {'x'.join(map(str, self.largest))}"]
        if self.diameters_px is not None:
            low, middle, high = self.diameters_px
            parts.append(
                f"{self.objects} objects of {middle:.0f} px diameter in the median "
                f"(9 of 10 from {low:.0f} to {high:.0f} px)"
            )
        if self.gaps_px is not None:
            parts.append(f"{self.touching:.0%} of neighbours touch, the median gap is {self.gaps_px[1]:.0f} px")
        known = [f"{k}: {t:.0f}" for k, t in enumerate(self.thickness_px) if t is not None]
        if known:
            parts.append(f"mean thickness of the classes {', '.join(known)} px")
        return "; ".join(parts)


def fingerprint(examples: Sequence[Example], task: str, classes: int, *, sequence: bool = False) -> Fingerprint:
    """The fingerprint of annotated images with ``task`` "instances" or "classes" (ids 0 to ``classes`` - 1).

    ``sequence``: the images are pages of one stack or film, so that what they have in common says little.
    """
    labels = [e.labels for e in examples]
    spacing = relative_spacing(usual_pixel_size(examples), labels[0].ndim)
    largest = tuple(int(n) for n in np.max([a.shape for a in labels], axis=0))
    channels = int(examples[0].image.shape[0])
    if task == "classes":
        thickness = tuple(_thickness(labels, k, spacing) for k in range(classes))
        upright = None if sequence else same_side(labels, classes, spacing)
        return Fingerprint(len(labels), largest, channels, spacing, thickness_px=thickness, upright=upright)
    diameters = np.concatenate([diameters_px(a, spacing) for a in labels])
    gaps = np.concatenate([gaps_px(a, spacing) for a in _some(labels)])
    return Fingerprint(
        len(labels),
        largest,
        channels,
        spacing,
        diameters_px=_quantiles(diameters),
        gaps_px=_quantiles(gaps),
        touching=float((gaps < _TOUCHING_PX).mean()) if gaps.size else 0.0,
        objects=len(diameters),
    )


def relative_spacing(pixel_size_um: Sequence[float] | None, ndim: int) -> tuple[float, ...]:
    """Size of a pixel per axis in units of the finest one; 1 where sizes are unknown."""
    if pixel_size_um is None:
        return (1.0,) * ndim
    return tuple(size / min(pixel_size_um) for size in pixel_size_um)


def diameters_px(labels: Labels, spacing: Sequence[float]) -> npt.NDArray[np.float64]:
    """Equivalent diameter of every instance (id > 0), in no order that matters."""
    volumes = object_sizes_px(labels) * math.prod(spacing)
    ndim = labels.ndim
    unit_ball = math.pi ** (ndim / 2) / math.gamma(ndim / 2 + 1)
    return np.asarray(2 * (volumes / unit_ball) ** (1 / ndim), dtype=np.float64)


def gaps_px(labels: Labels, spacing: Sequence[float]) -> npt.NDArray[np.float64]:
    """Smallest distance between each two instances that are neighbours, of their pixels' faces.

    Neighbours are instances whose zones of nearest pixels meet. On the line where two zones meet a
    pixel of one zone lies beside a pixel of the other, each as far from its instance as told; the
    gap is what both distances leave between the faces, 0 where the instances touch.
    """
    if not (labels > 0).any():
        return np.zeros(0)
    distance, nearest_pixel = ndimage.distance_transform_edt(labels <= 0, sampling=spacing, return_indices=True)
    nearest = labels[tuple(nearest_pixel)]
    pairs, gaps = [], []
    for axis in range(labels.ndim):
        here = (slice(None),) * axis + (slice(None, -1),)
        there = (slice(None),) * axis + (slice(1, None),)
        meet = nearest[here] != nearest[there]
        ids = np.sort(np.stack([nearest[here][meet], nearest[there][meet]]), axis=0)
        pairs.append(ids)
        gaps.append(distance[here][meet] + distance[there][meet])
    ids, values = np.concatenate(pairs, axis=1), np.concatenate(gaps)
    if not values.size:
        return np.zeros(0)
    _, index = np.unique(ids, axis=1, return_inverse=True)
    least = np.full(int(index.max()) + 1, np.inf)
    np.minimum.at(least, index.ravel(), values)
    return least


def same_side(labels: Sequence[Labels], classes: int, spacing: Sequence[float]) -> tuple[int, int, int] | None:
    """The two classes above 0 of which one lies most surely on the same side of the other, and in how many images.

    Measured on the unit vectors between the classes' centres, in space: their mean has length 1 where all
    point the same way. None where no two classes lie so by more than chance.
    """
    centres = np.array([_centres(a, classes) for a in labels]) * np.asarray(spacing)  # (image, class, axis)
    best, found = _NOT_BY_CHANCE, None
    for a in range(1, classes):
        for b in range(a + 1, classes):
            steps = centres[:, b] - centres[:, a]
            length = np.linalg.norm(steps, axis=1)
            known = length > 0  # not where one is absent
            if not known.any():
                continue
            resultant = float(np.linalg.norm((steps[known] / length[known, None]).mean(axis=0)))
            certainty = int(known.sum()) * resultant**2
            if resultant >= _SAME_SIDE and certainty >= best:
                best, found = certainty, (a, b, int(known.sum()))
    return found


def _centres(labels: Labels, classes: int) -> npt.NDArray[np.float64]:
    """Centre of each class in pixels, (class, axis); not a number where it is absent."""
    centres = np.full((classes, labels.ndim), np.nan)
    for k in range(1, classes):
        pixels = np.nonzero(labels == k)
        if pixels[0].size:
            centres[k] = [axis.mean() for axis in pixels]
    return centres


def _thickness(labels: Sequence[Labels], k: int, spacing: Sequence[float]) -> float | None:
    """Four times the mean distance to the outside: exact for a slab. None where the class is absent."""
    found = [edt.edt(np.pad(a == k, 1, mode="edge"), anisotropy=tuple(spacing), black_border=False) for a in labels]
    inside = np.concatenate([d[(slice(1, -1),) * a.ndim][a == k] for d, a in zip(found, labels, strict=True)])
    inside = inside[np.isfinite(inside)]  # an image of this class alone has no outside
    return float(4 * (inside.mean(dtype=np.float64) - 0.5)) if inside.size else None


def _some(labels: Sequence[Labels]) -> list[Labels]:
    """Images evenly spaced, few enough to be measured in seconds."""
    total = sum(a.size for a in labels)
    step = max(1, math.ceil(total / _MOST_PIXELS))
    return list(labels[::step])


def _quantiles(values: npt.NDArray[np.float64]) -> tuple[float, float, float] | None:
    if not values.size:
        return None
    low, middle, high = np.quantile(values, _QUANTILES).tolist()
    return low, middle, high
