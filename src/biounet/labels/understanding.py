"""Annotated objects as what is learnt: their meaning, and the classes that their names stand for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from biounet.datasets.dataset import Dataset
from biounet.datasets.drawings import is_drawing
from biounet.datasets.examples import Example
from biounet.labels.kinds import cell_classes, class_image, ids_of
from biounet.labels.meaning import Meaning, infer_meaning

Labels = npt.NDArray[np.int32]


def understand(
    examples: Sequence[Example],
    dataset: Dataset | None,
    *,
    task: str | None = None,
    object_classes: bool = True,
    unlabelled: str = "background",
    known: Mapping[str, int] = MappingProxyType({}),
) -> tuple[list[Example], Meaning]:
    """What the annotation of a data set means, and the examples with it.

    Where objects were drawn one by one, or ``NAME_classes`` names the class of each, values are ids. Their
    class names become `Meaning.cell_classes`, unless ``object_classes`` is False; with ``task`` "classes"
    they become the classes of pixels instead, objects without class unknown. ``known``: the value that each of
    these names has elsewhere; the others get values of their own. ``dataset``: None for arrays.

    With ``unlabelled`` "unknown" value 0 becomes -1, in class annotations too, whose classes are then the other
    values. Where an image says what is annotated completely (`Example.complete`) it stays background.
    Raises as `meaning.infer_meaning` does, and `DataError` for more than 16 names.
    """
    found, meaning = _understood(examples, dataset, task=task, object_classes=object_classes, known=known)
    if unlabelled == "unknown":
        found = [example.with_labels(_zero_unknown(example)) for example in found]
        if meaning.task == "classes":
            meaning = _of_what_is_left(found, dataset, meaning)
    return found, meaning


def _understood(
    examples: Sequence[Example],
    dataset: Dataset | None,
    *,
    task: str | None,
    object_classes: bool,
    known: Mapping[str, int],
) -> tuple[list[Example], Meaning]:
    """As `understand`, what is not drawn being background."""
    drawn = dataset is not None and any(is_drawing(i.labels) or i.extras.classes is not None for i in dataset.items)
    names = cell_classes(example.kinds for example in examples) if object_classes else ()
    if not names:
        examples = [replace(example, kinds={}) for example in examples]
    if (task or (dataset and dataset.task)) == "classes" and drawn:
        return _as_classes(examples, names, known)
    meaning = declared_meaning([e.labels for e in examples], dataset, task=task, objects=drawn)
    if meaning.task == "classes":
        return list(examples), meaning
    if len(names) > 1:
        listed = ", ".join(f"{name} ({sum(list(e.kinds.values()).count(name) for e in examples)})" for name in names)
        without = sum(len(set(ids_of(e.labels)) - set(e.kinds)) for e in examples)
        unknown = f"; {without} objects without a name: of unknown class" if without else ""
        meaning = replace(meaning, reason=f"{meaning.reason}; classes of objects by name: {listed}{unknown}")
    return list(examples), replace(meaning, cell_classes=names)


def declared_meaning(
    labels: Sequence[Labels], dataset: Dataset | None, *, task: str | None = None, objects: bool = False
) -> Meaning:
    """What label values mean by ``task``, else by what the data set declares, else by the values themselves.

    Classes have the names that the data set declares. Raises as `meaning.infer_meaning` does.
    """
    values, by = (dataset.values, dataset.declared_by) if dataset else ((), "")
    if task is None and dataset and not values:
        meaning = infer_meaning(labels, task=dataset.task, objects=objects, by=by)
    else:
        meaning = infer_meaning(labels, task=task, declared=values, objects=objects, by="" if task else by)
    names = dict(zip(values, dataset.value_names, strict=True)) if dataset and dataset.value_names else {}
    if meaning.task != "classes" or not names:
        return meaning
    named = tuple(names.get(value, str(value)) for value in meaning.values)
    return replace(meaning, value_names=named, reason=f"{meaning.reason}; called {', '.join(named)}")


def _as_classes(
    examples: Sequence[Example], names: tuple[str, ...], known: Mapping[str, int]
) -> tuple[list[Example], Meaning]:
    """Drawn objects as classes of pixels: by name, or as one class where they have no names."""
    if not names:
        names = tuple(known) if len(known) == 1 else ("cell",)
        examples = [replace(e, kinds=dict.fromkeys(ids_of(e.labels), names[0])) for e in examples]
    others = (name for name in names if name not in known)
    value_of = {**known, **{name: value for value, name in enumerate(others, start=max(known.values(), default=0) + 1)}}
    found = [_classes_drawn(example, value_of) for example in examples]
    reason = f"drawn objects as classes of pixels, as asked for: background, {', '.join(names)}"
    classes = [(0, "background"), *sorted((value_of[name], name) for name in names)]
    values, value_names = zip(*classes, strict=True)
    return found, Meaning("classes", values, reason, value_names=value_names)


def _classes_drawn(example: Example, value_of: Mapping[str, int]) -> Example:
    """The value of its class at every pixel of an object, -1 where it has none."""
    kinds = example.kinds
    values = {i: value_of[kinds[i]] if i in kinds else -1 for i in ids_of(example.labels)}
    return replace(example, labels=class_image(example.labels, values), kinds={})


def _zero_unknown(example: Example) -> Labels:
    """Labels with -1 for 0, except where the annotation is complete."""
    undrawn = example.labels == 0
    if example.complete is not None:
        undrawn &= ~example.complete
    return np.where(undrawn, np.int32(-1), example.labels)


def _of_what_is_left(examples: Sequence[Example], dataset: Dataset | None, meaning: Meaning) -> Meaning:
    """The classes of examples whose undrawn pixels have become unknown; 0 is one where it is left."""
    left = any((example.labels == 0).any() for example in examples)
    declared = [v for v in (dataset.values if dataset else ()) if v != 0 or left]
    rest = "what is left of the annotation where 0 is unknown"
    found = infer_meaning([e.labels for e in examples], task="classes", declared=declared, by=rest)
    names = dict(zip(meaning.values, meaning.value_names, strict=False))
    return replace(found, value_names=tuple(names[v] for v in found.values if v in names))
