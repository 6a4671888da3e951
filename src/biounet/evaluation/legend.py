"""What the values of predicted labels stand for: told by what made them, else decided once for all files.

Knows nothing of models: what they say of themselves comes as a `Legend`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import fastremap
import numpy as np
import numpy.typing as npt

from biounet.errors import DataError, UsageError
from biounet.labels.meaning import Meaning, listed

UNLABELLED = ("background", "unknown")

Labels = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Legend:
    """What made label files says of them.

    ``classes``: names by class id. ``values``: the annotation value of each, () where the labels are ids of objects or
    that is not told. ``unlabelled``: what undrawn pixels were in training, ``ndim``: whether images were planes (2) or
    volumes (3); None where that is not told.
    """

    task: str
    classes: tuple[str, ...]
    values: tuple[int, ...] = ()
    unlabelled: str | None = None
    ndim: int | None = None

    @property
    def named(self) -> dict[str, int]:
        """The annotation value of each class above 0 that has a name of its own."""
        pairs = zip(self.classes, self.values, strict=False)
        return {name: value for name, value in pairs if value > 0 and name != str(value)}

    @property
    def is_of_one_class(self) -> bool:
        """Whether all objects were of one class, whatever their names."""
        return self.classes[1:] == ("cell",)


@dataclass(frozen=True)
class Reading:
    """How predicted values are read: the annotation value that each stands for.

    ``names``: of annotation values that have some. ``reason``: why so, in words.
    """

    meant: Mapping[int, int]
    names: Mapping[int, str]
    reason: str = ""

    @property
    def reasons(self) -> list[str]:
        """The reason, where there is anything to say."""
        return [self.reason] if self.reason else []


AS_THEY_ARE = Reading({}, {})  # ids of objects mean nothing else


def read_run(folder: Path) -> dict[str, Any]:
    """The content of the ``run.json`` in a folder of results; empty where there is none of biounet."""
    try:
        found = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def read_legend(folders: Iterable[Path]) -> Legend | None:
    """What the ``run.json`` in each folder says; None where that is nothing, or not the same in all."""
    legends = {_legend(read_run(folder)) for folder in folders}
    return legends.pop() if len(legends) == 1 else None


def _legend(run: Mapping[str, Any]) -> Legend | None:
    try:
        classes, values = tuple(map(str, run["classes"])), tuple(map(int, run.get("values", ())))
        task, unlabelled, ndim = str(run["task"]), run.get("unlabelled"), run.get("ndim")
    except (KeyError, TypeError, ValueError):
        return None
    return Legend(
        task,
        classes,
        values * (len(values) == len(classes)),
        unlabelled if unlabelled in UNLABELLED else None,
        ndim if ndim in (2, 3) else None,
    )


def choose_unlabelled(asked: str | None, legends: Mapping[str, Legend]) -> tuple[str, list[str]]:
    """What undrawn pixels of the truth are: as ``asked``, else as in training, else background; and words for it.

    ``legends``: by what they are called. Raises `UsageError` where they differ, and for another word.
    """
    if asked not in (None, *UNLABELLED):
        raise UsageError(f"--unlabelled {asked!r}: choose {' or '.join(UNLABELLED)}")
    told = {name: legend.unlabelled for name, legend in legends.items() if legend.unlabelled is not None}
    if asked is None and len(set(told.values())) > 1:
        each = ", ".join(f"{rule} for {name}" for name, rule in told.items())
        raise UsageError(f"what is not drawn was {each} in training; say what it is here, with --unlabelled")
    chosen = asked or next(iter(told.values()), UNLABELLED[0])
    why = f"--unlabelled {asked}" if asked else f"as {' and '.join(told)} learnt it; --unlabelled overrides that"
    return chosen, [f"what is not drawn is unknown ({why})"] if chosen == "unknown" else []


def reading_told(legend: Legend, meaning: Meaning, found: Mapping[str, set[int]] = MappingProxyType({})) -> Reading:
    """Predictions that are class ids, as ``legend`` has them.

    ``found``: the values in each file, where there are files. Raises `DataError` where one has others.
    """
    values, own = legend.values, meaning.values
    for file, shown in found.items():
        if shown - set(range(len(values))):
            raise DataError(
                f"{file}: label values {listed(sorted(shown))}, but run.json beside it tells of class ids 0 to "
                f"{len(values) - 1}; keep labels that something else made in a folder of their own"
            )
    names = {value: name for value, name in zip(values, legend.classes, strict=True) if name != str(value)}
    said = f"predicted values are class ids of {', '.join(legend.classes)}, as the model has them"
    if len(values) == len(own) == 2 and values != own:
        names = {value: names[before] for value, before in zip(own, values, strict=True) if before in names}
        return Reading(
            dict(enumerate(own)), names, f"{said}; of two classes each, {listed(values)} are {listed(own)} here"
        )
    if foreign := sorted(set(own) - set(values)):
        said += f"; {listed(foreign)} of the truth are none of them, and never right"
    return Reading(dict(enumerate(values)), names, said)


def reading_found(found: Mapping[str, set[int]], meaning: Meaning) -> Reading:
    """Predictions that nothing is told of, by the values in all of them, from 0 on. ``found``: by file.

    In this order: values that the annotation has, too, are its own; values from 0 to K-1 are class ids; of two values
    each, the second stands for the second; values that are the annotation's own but for a few are those, and the few
    are classes that the truth lacks. Raises `DataError` for what looks like ids of objects.
    """
    shown, own = set().union(*found.values()), meaning.values
    itself = {value: value for value in sorted({*own, *shown})}
    extra = sorted(shown - set(own))
    by_id = dict(enumerate(own))
    said = f"predicted values {listed(sorted(shown))} are "
    if not extra:
        doubt = shown <= set(by_id) and any(by_id[value] != value for value in shown)
        said += (
            "the annotation's own" + f"; nothing says whether they are class ids 0 to {len(own) - 1} instead" * doubt
        )
        return Reading(itself, {}, said)
    none_of = f"{listed(extra)} {'is' if len(extra) == 1 else 'are'} no value of the annotation"
    if shown <= set(by_id):
        return Reading(by_id, {}, f"{said}taken for class ids of {listed(own)}: {none_of}, and nothing says more")
    if len(own) == 2 and len(shown | {0}) == 2:
        return Reading({0: own[0], max(shown): own[1]}, {}, f"{said}taken for {listed(own)}: two values each")
    if len(extra) <= len(own) and shown & set(own[1:]):
        return Reading(itself, {}, f"{said}taken for the annotation's own, though {none_of}")
    file = next(file for file, values in found.items() if values & set(extra))
    raise DataError(
        f"{file}: label values {listed(extra)} are no class; the classes are {listed(own)}: correct the mask; "
        "where these are ids of objects, --task instances"
    )


def joined(meaning: Meaning, readings: Sequence[Reading]) -> Meaning:
    """The classes of the annotation and of predictions together, in the order of their values."""
    foreign = sorted({value for reading in readings for value in reading.meant.values()} - set(meaning.values))
    values = sorted({*meaning.values, *foreign})
    names = {value: name for reading in reversed(readings) for value, name in reading.names.items()}
    names |= dict(zip(meaning.values, meaning.value_names, strict=False))
    return replace(
        meaning,
        values=tuple(values),
        value_names=_unlike([names.get(v, str(v)) for v in values], values),
        foreign=tuple(foreign),
    )


def class_ids(labels: Labels, reading: Reading, meaning: Meaning) -> Labels:
    """Predicted values as class ids of ``meaning``, which must be `joined` with the reading; -1 stays."""
    table = {value: meaning.values.index(meant) for value, meant in reading.meant.items()}
    return np.asarray(fastremap.remap(np.asarray(labels, np.int32), {-1: -1, **table}), np.int32)


def _unlike(names: Sequence[str], values: Sequence[int]) -> tuple[str, ...]:
    """Names of classes, with the value where another class has the same name."""
    return tuple(
        f"{name} ({value})" if names.count(name) > 1 else name for name, value in zip(names, values, strict=True)
    )
