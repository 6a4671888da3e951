"""Objects of several classes: what they are called, and which class the probabilities say.

Class 0 is background, classes 1, 2, ... are the cell classes in the order of their names; -1 is an object
whose class is not known. Knows nothing of files or networks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import fastremap
import numpy as np
import numpy.typing as npt

from biounet.errors import DataError

MOST_CLASSES = 16  # more names than this are names of single objects

Labels = npt.NDArray[np.int32]
Float64 = npt.NDArray[np.float64]
Kinds = Mapping[int, str]


def cell_classes(kinds: Iterable[Kinds]) -> tuple[str, ...]:
    """All class names in order: numbers by value, then words. Raises `DataError` for more than 16."""
    names = {name for one in kinds for name in one.values()}
    if len(names) > MOST_CLASSES:
        raise DataError(
            f"{len(names)} different names of objects ({', '.join(sorted(names)[:4])}, ...), more than "
            f"{MOST_CLASSES} cannot be classes; if they name single objects, take all as one class: "
            "--set data.object_classes=false in training, --no-object-classes in evaluate and compare"
        )
    return tuple(sorted(names, key=lambda name: (not name.isdecimal(), int(name) if name.isdecimal() else 0, name)))


def ids_of(labels: Labels) -> list[int]:
    """All ids above 0, in order."""
    return [int(i) for i in fastremap.unique(labels) if i > 0]


def classes_of(labels: Labels, kinds: Kinds, names: tuple[str, ...]) -> dict[int, int]:
    """Class of every id above 0 in ``labels``: 1, 2, ... by ``names``, -1 where it has none."""
    return {int(i): names.index(kinds[i]) + 1 if i in kinds else -1 for i in ids_of(labels)}


def class_image(labels: Labels, classes: Mapping[int, int]) -> Labels:
    """The class of each pixel, int32: 0 and -1 stay, ids become their class."""
    ids = np.array([-1, 0, *sorted(classes)], np.int64)
    values = np.array([-1, 0, *(classes[i] for i in sorted(classes))], np.int32)
    return np.asarray(values[np.searchsorted(ids, labels)], np.int32)


def object_probabilities(labels: Labels, probabilities: npt.NDArray[Any]) -> Float64:
    """Mean probability of each class over the pixels of each object, (largest id + 1, K); row 0 is background.

    ``labels``: ids from 1 (*spatial), ``probabilities``: (K, *spatial). Ids without pixels get 0.
    """
    ids = np.maximum(labels, 0).ravel()
    count = np.bincount(ids)
    sums = [np.bincount(ids, weights=channel.ravel()) for channel in probabilities]
    return np.asarray(np.stack(sums, axis=1) / np.maximum(count, 1)[:, None])


def object_classes(labels: Labels, probabilities: npt.NDArray[Any]) -> Labels:
    """The class of each object: the cell class with the highest mean probability, int32 by id, 0 for id 0.

    Among equals the first; compared in steps of 1/65535. Arguments as of `object_probabilities`.
    """
    ids = np.maximum(labels, 0).ravel()
    return weigh(np.stack([np.bincount(ids, weights=weights(channel).ravel()) for channel in probabilities], axis=1))


def weights(probabilities: npt.NDArray[Any]) -> npt.NDArray[np.uint16]:
    """Probabilities as whole numbers up to 65,535, whose sums are exact, in whichever order blocks are added."""
    return np.asarray(np.rint(probabilities * 65535), np.uint16)


def weigh(sums: Float64) -> Labels:
    """The cell class of the largest sum of `weights` for each id, int32 by id, 0 for id 0; ``sums``: (ids, K)."""
    found = sums[:, 1:].argmax(axis=1).astype(np.int32) + 1
    found[0] = 0
    return np.asarray(found, np.int32)
