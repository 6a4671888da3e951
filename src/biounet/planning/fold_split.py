"""The divisions of a cross-validation: every image held back once, with what is like it, behind guards."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from biounet.datasets.examples import Example
from biounet.errors import UsageError
from biounet.geometry import Geometry
from biounet.planning.split import FEW, Split, teaches

_SHOWN = 6


def fold_splits(
    examples: Sequence[Example],
    geometry: Geometry,
    *,
    folds: int | None,
    sequence: bool,
    groups: Sequence[Sequence[int]],
) -> tuple[Split, ...]:
    """``folds`` divisions into images learnt from and held back; None: as many as there are images.

    Every image is held back in exactly one of them. Of a sequence (slices, frames) each holds back a run of
    neighbours, with one image more left out on either side as a guard where at least two are left to learn from.
    Independent images are dealt out in their order; ``groups``, the positions of images that show the same, stay
    together. With fewer images than three, and than folds, each image is cut into as many blocks along its longest
    axis; a guard band as wide as the network's reach is left out beside the one held back.

    Raises `UsageError` for a number of folds that there are too few images for, and where what is left to learn from
    shows no object or no background.
    """
    units = [[index] for index in range(len(examples))] if sequence else [list(group) for group in groups]
    if folds is not None and len(examples) < FEW and folds > len(examples):
        splits = [_block(examples, geometry, fold, folds) for fold in range(folds)]
    else:
        splits = _whole(examples, _dealt(units, _checked(folds, len(examples), len(units)), sequence), sequence)
    for number, split in enumerate(splits, start=1):
        if not teaches(split.training):
            raise UsageError(
                f"--folds: without {_named(split.validation)} (fold {number} of {len(splits)}) the other images show "
                "no object or no background to learn from; give fewer folds"
            )
    return tuple(splits)


def _checked(folds: int | None, images: int, units: int) -> int:
    """The number of folds, which there are enough images for."""
    count = units if folds is None else folds
    if 2 <= count <= units:
        return count
    alike = "" if units == images else f", {units} when those that show the same are counted once"
    blocks = "; a number above it holds back blocks of them" if images < FEW else ""
    asked = "each" if folds is None else folds
    raise UsageError(f"--folds {asked}: there are {images} images{alike}; give 2 to {max(2, units)}{blocks}")


def _dealt(units: list[list[int]], folds: int, sequence: bool) -> list[list[int]]:
    """Positions held back in each fold: runs of a sequence, else each unit to the fold with the fewest images."""
    if sequence:
        ends = [round(len(units) * k / folds) for k in range(folds + 1)]
        return [list(range(ends[k], ends[k + 1])) for k in range(folds)]
    held: list[list[int]] = [[] for _ in range(folds)]
    for unit in units:
        min(held, key=len).extend(unit)
    return [sorted(one) for one in held]


def _whole(examples: Sequence[Example], dealt: list[list[int]], sequence: bool) -> list[Split]:
    splits = []
    for number, held in enumerate(dealt, start=1):
        guard = {held[0] - 1, held[-1] + 1} if sequence else set()
        guard &= set(range(len(examples)))
        if len(examples) - len(held) - len(guard) < 2:
            guard = set()
        validation = tuple(examples[index] for index in held)
        kept = tuple(e for index, e in enumerate(examples) if index not in held and index not in guard)
        names = ", ".join(examples[index].name for index in sorted(guard))
        left = f", {names} left out beside as a guard" if guard else ""
        splits.append(Split(kept, validation, f"{_named(validation)}: fold {number} of {len(dealt)}{left}"))
    return splits


def _block(examples: Sequence[Example], geometry: Geometry, fold: int, folds: int) -> Split:
    """One block of every image held back, the guard bands beside it unknown to both sides."""
    training, validation, said = [], [], []
    for example in examples:
        axis = int(np.argmax(example.labels.shape))
        size, reach = example.labels.shape[axis], max(geometry.reach[axis])
        first, last = (round(size * k / folds) for k in (fold, fold + 1))
        guards = [min(reach, room // 2) for room in (first, size - last)]
        learnt, judged = example.labels.copy(), example.labels.copy()
        np.moveaxis(learnt, axis, 0)[first - guards[0] : last + guards[1]] = -1
        np.moveaxis(judged, axis, 0)[:first] = -1
        np.moveaxis(judged, axis, 0)[last:] = -1
        training.append(example.with_labels(learnt))
        validation.append(example.with_labels(judged))
        wanted = [min(reach, room) for room in (first, size - last)]
        narrow = f" (the network reaches {reach}, the image has no room for more)" if guards != wanted else ""
        beside = " and ".join(str(guard) for guard in guards if guard)
        said.append(f"{example.name} from {first} to {last} on axis {axis}, {beside} px beside as a guard{narrow}")
    return Split(tuple(training), tuple(validation), f"{'; '.join(said)}: fold {fold + 1} of {folds}")


def _named(examples: Sequence[Example]) -> str:
    return ", ".join(e.name for e in examples[:_SHOWN]) + (" ..." if len(examples) > _SHOWN else "")
