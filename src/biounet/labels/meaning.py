"""What the values of an annotation mean: ids of single objects, or classes of pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from biounet.errors import DataError, UsageError
from biounet.labels.components import components

_MANY = 16  # more values than this are ids, unless the data set declares classes
_FEW = 4  # so few values, the same in every image, are parts of an anatomy rather than cells
_SHARED = 1.5  # pieces per value and image from which on a value is shared by separate things
_FULL = frozenset({1, 255, 65535})  # how programs write "yes" in a mask
_SPECK = 0.05  # of the largest piece of its value: smaller pieces are slips of the pen

Labels = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Meaning:
    """What annotation values stand for.

    ``task`` "instances": values are ids of objects and ``values`` is empty; with ``pieces`` they are
    not, but every separate piece is an object. "classes": ``values`` are the annotation's values in
    order; the first becomes class 0 (background), the last K-1. ``reason`` is the evidence in words.
    ``cell_classes``: names of the classes of objects, () where all objects are of one unnamed class.
    ``value_names``: names of ``values``, () where they have none. ``foreign``: those of ``values`` that are no class of
    the annotation itself, but of predictions that it is compared with.
    """

    task: Literal["instances", "classes"]
    values: tuple[int, ...]
    reason: str
    pieces: bool = False
    cell_classes: tuple[str, ...] = ()
    value_names: tuple[str, ...] = ()
    foreign: tuple[int, ...] = ()

    @property
    def class_count(self) -> int:
        """Number of classes a network tells apart: background and cells, of several classes where there are."""
        return 1 + max(1, len(self.cell_classes)) if self.task == "instances" else len(self.values)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names by class id, background first."""
        if self.task == "instances":
            return ("background", *(self.cell_classes or ("cell",)))
        return self.value_names or tuple(str(value) for value in self.values)


def infer_meaning(
    labels: Sequence[Labels],
    *,
    task: str | None = None,
    declared: Sequence[int] = (),
    objects: bool = False,
    by: str = "",
) -> Meaning:
    """Judge all annotations of a data set together, int32 (Z)YX each, values below 0 unknown.

    Classes are: two values in all (0/255, 0/1); at most 16 values that separate pieces of one image
    share; or at most four values beside 0, the very same ones in each of three images or more (left
    and right, anterior and posterior). Everything else are ids. Single images never decide: a mask
    with one nucleus of id 1 says nothing of the others. ``declared``: class values that the data set
    itself states; they decide, and hold also where a value does not occur. ``objects``: every value is
    known to be the id of one object, as where each was drawn by itself. ``task`` overrides all;
    asking for instances where the values are classes makes an object of every separate piece. ``by``: who
    declares classes or task, in words; "" where the user asks for the task.

    Raises `DataError` for no labels, empty ones, values that are not among the declared, and masks of which some
    say 1 and others 255 (or 65535) for what they show;
    `UsageError` for another ``task``.
    """
    if task not in (None, "instances", "classes"):
        raise UsageError(f"task {task!r} is unknown; choose instances or classes")
    if not labels:
        raise DataError("no annotation was given; give at least one label image")
    sets = [frozenset(int(v) for v in np.unique(image) if v >= 0) for image in labels]
    found = frozenset().union(*sets)
    if not found - {0}:
        raise DataError(f"all {len(labels)} masks are empty: no value above 0; annotate at least one object")
    if task == "classes":
        return _classes(found | set(declared), f"declared by {by}" if by else "as asked for")
    if objects:
        return Meaning("instances", (), "every object was drawn by itself: instances")
    judged = _declared(found, declared, by or "the data set") if declared else _judged(labels, sets, found)
    if task == "instances":
        return _as_instances(judged, f"declared by {by}" if by else "as asked for")
    return judged


def encode(labels: Labels, meaning: Meaning) -> Labels:
    """Class ids 0..K-1 in the order of ``meaning.values`` (so 255 becomes 1), or instance ids as they are.

    ``labels``: int32 (Z)YX; -1 stays -1, the shape is kept. Where pieces are the objects, their ids run
    in raster order. Raises `DataError` for a value that is no class.
    """
    if meaning.task == "instances":
        return np.where(labels < 0, np.int32(-1), components(labels)) if meaning.pieces else labels
    values = np.array(meaning.values, np.int64)
    known = labels >= 0
    position = np.minimum(np.searchsorted(values, labels), len(values) - 1)
    foreign = np.unique(labels[known & (values[position] != labels)])
    if foreign.size:
        raise DataError(
            f"label values {listed(foreign.tolist())} are no class; "
            f"the classes are {listed(meaning.values)}: correct the mask"
        )
    return np.where(known, position, -1).astype(np.int32)


def _classes(found: frozenset[int], evidence: str) -> Meaning:
    values = tuple(sorted(found | {0} if len(found) < 2 else found))
    return Meaning("classes", values, f"values {listed(values)} are classes: {evidence}")


def _declared(found: frozenset[int], declared: Sequence[int], by: str) -> Meaning:
    foreign = sorted(found - set(declared))
    if foreign:
        raise DataError(
            f"label values {listed(foreign)} are not among the declared classes "
            f"{listed(sorted(declared))}; correct the masks or the declaration"
        )
    return _classes(frozenset(declared), f"declared by {by}")


def _judged(labels: Sequence[Labels], sets: Sequence[frozenset[int]], found: frozenset[int]) -> Meaning:
    masks = f"{len(labels)} {'mask' if len(labels) == 1 else 'masks'}"
    drawn = found - {0}
    if len(found) <= 2:
        return _classes(found, f"there are no others in {masks}")
    if drawn <= _FULL and all(len(values - {0}) < 2 for values in sets):
        counts = [f"{value} in {sum(value in values for values in sets)}" for value in sorted(drawn)]
        raise DataError(
            f"of {masks}, with one value above 0 each, it is {' and '.join(counts)}: probably the same in two ways; "
            "save all masks with the same value, or ask for --task classes if these are different classes"
        )
    if len(drawn) > _MANY:
        return _instances(f"{len(drawn)} different values in {masks}")
    pieces = _pieces_per_value(labels)
    if pieces >= _SHARED:
        return _classes(found, f"separate pieces share them, {pieces:.1f} per value and image in {masks}")
    if len(drawn) <= _FEW and len(labels) > 2 and len({values - {0} for values in sets}) == 1:
        return _classes(found, f"the same in each of {masks}")
    return _instances(f"{pieces:.1f} pieces per value and image in {masks}")


def _as_instances(judged: Meaning, evidence: str) -> Meaning:
    if judged.task == "instances":
        return judged
    values = listed(judged.values)
    reason = f"instances {evidence}: with values {values} in all masks, every separate piece is an object"
    return Meaning("instances", (), reason, pieces=True)


def _instances(evidence: str) -> Meaning:
    return Meaning("instances", (), f"values are ids of single objects (instances): {evidence}")


def _pieces_per_value(labels: Sequence[Labels]) -> float:
    """Mean number of pieces of one value in one image; specks beside a larger piece do not count."""
    counts = []
    for image in labels:
        pieces = components(image)
        ids, first, sizes = np.unique(pieces, return_index=True, return_counts=True)
        values, sizes = image.reshape(-1)[first[ids > 0]], sizes[ids > 0]
        for value in np.unique(values):
            own = sizes[values == value]
            counts.append(int(np.count_nonzero(own >= _SPECK * own.max())))
    return float(np.mean(counts)) if counts else 0.0


def listed(values: Sequence[int]) -> str:
    """The first of them with commas between."""
    return ", ".join(map(str, values[:12])) + (", ..." if len(values) > 12 else "")
