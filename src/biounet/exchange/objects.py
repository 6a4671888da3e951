"""Segmented objects on their way out: labels with what is known about each object."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import fastremap
import numpy as np
import numpy.typing as npt

from biounet.errors import UsageError
from biounet.images.sampling import all_windows

Labels = npt.NDArray[np.int32]
Place = Sequence[int]
ProbabilityOf = Callable[[int, Place, Place], npt.NDArray[np.float32]]  # of a class, in a window start..stop


@dataclass(frozen=True, eq=False)
class Objects:
    """The objects of one image.

    ``labels``: int32 (*spatial), 0 background, ids from 1. ``name``: of the image. ``image``: its pixels
    (C, *spatial), for intensities, and ``channels`` their names. ``classes``: class of each object by id
    (index 0 is background), or None for one class; ``class_names``: names by class, background first.
    ``probability``: mean probability by id of being an object, or of its class where there are several; or
    None. ``pixel_size_um``: per spatial axis, or None. ``z``, ``t``: where in a stack this is, from 0, or None.
    ``file_channels``: how many channels the image's file has, of which ``image`` may hold some.

    Raises `UsageError` for arrays that do not fit together.
    """

    labels: Labels
    name: str = ""
    image: npt.NDArray[Any] | None = None
    channels: tuple[str, ...] = ()
    classes: Labels | None = None
    class_names: tuple[str, ...] = ("background", "cell")
    probability: npt.NDArray[np.float64] | None = None
    pixel_size_um: tuple[float, ...] | None = None
    z: int | None = None
    t: int | None = None
    file_channels: int = 1

    def __post_init__(self) -> None:
        largest = int(self.labels.max(initial=0))
        for known, what in ((self.classes, "classes"), (self.probability, "probability")):
            if known is not None and len(known) <= largest:
                raise UsageError(f"{what} of {len(known)} ids for labels up to {largest}: one for each id, 0 included")
        if self.image is not None and self.image.shape[1:] != self.labels.shape:
            raise UsageError(f"image of shape {self.image.shape} for labels of shape {self.labels.shape}")

    def class_of(self, number: int) -> str:
        """Name of an object's class; "" where there is only one, which has no name of its own."""
        if self.classes is None:
            return "" if self.class_names[1:] in (("cell",), ()) else self.class_names[1]
        return self.class_names[int(self.classes[number])]


def mean_probability(labels: Labels, probabilities: ProbabilityOf, classes: Labels | None) -> npt.NDArray[np.float64]:
    """Mean probability of each object by id: of being none of the background, or of its class.

    ``labels`` (*spatial), ``probabilities(k, start, stop)``: of class k in a window, ``classes`` by id or None. Summed
    window by window, so that large images need no more memory, and whichever way they come the sums are the same.
    """
    sums = np.zeros(int(labels.max(initial=0)) + 1)
    counts = np.zeros(len(sums), np.int64)
    for start, stop in all_windows(labels.shape) if labels.size else ():
        window = labels[tuple(map(slice, start, stop))]
        ids, dense = fastremap.unique(window, return_inverse=True)
        dense = dense.reshape(-1)
        counts[ids] += np.bincount(dense)
        sums[ids] += np.bincount(dense, weights=_own(window, probabilities, classes, start, stop).reshape(-1))
    return np.asarray(sums / np.maximum(counts, 1))


def _own(
    window: Labels, probabilities: ProbabilityOf, classes: Labels | None, start: Place, stop: Place
) -> npt.NDArray[np.float32]:
    """Of every pixel of a window: the probability of what its object is."""
    if classes is None:
        return np.asarray(1 - probabilities(0, start, stop))
    kinds = classes[window]
    own = np.zeros(window.shape, np.float32)
    for kind in fastremap.unique(kinds):
        np.copyto(own, probabilities(int(kind), start, stop), where=kinds == kind)
    return own


@dataclass(frozen=True, eq=False)
class Plane:
    """The labels of one 2D plane (Y, X), the objects they are part of, and where in a stack it lies, from 0."""

    objects: Objects
    labels: Labels
    z: int | None
    t: int | None


def planes_of(objects: Sequence[Objects]) -> list[Plane]:
    """Every 2D plane of some images or volumes."""
    found: list[Plane] = []
    for one in objects:
        if one.labels.ndim == 2:
            found.append(Plane(one, one.labels, one.z, one.t))
        else:
            found += [Plane(one, labels, z, one.t) for z, labels in enumerate(one.labels)]
    return found
