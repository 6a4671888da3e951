"""Annotated objects as what is learnt: their meaning, and the classes that their names stand for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from biounet.datasets.dataset import Dataset
from biounet.datasets.drawings import is_drawing
from biounet.datasets.examples import Example
from biounet.labels.kinds import cell_classes, class_image, classes_of, ids_of
from biounet.labels.meaning import Meaning, infer_meaning

Labels = npt.NDArray[np.int32]


def understand(
    examples: Sequence[Example], dataset: Dataset | None, *, task: str | None = None, object_classes: bool = True
) -> tuple[list[Example], Meaning]:
    """What the annotation of a data set means, and the examples with it.

    Where objects were drawn one by one, or ``NAME_classes`` names the class of each, values are ids. Their
    class names become `Meaning.cell_classes`, unless ``object_classes`` is False; with ``task`` "classes"
    they become the classes of pixels instead, objects without class unknown. ``dataset``: None for arrays.
    Raises as `meaning.infer_meaning` does, and `DataError` for more than 16 names.
    """
    drawn = dataset is not None and any(is_drawing(i.labels) or i.extras.classes is not None for i in dataset.items)
    names = cell_classes(example.kinds for example in examples) if object_classes else ()
    if not names:
        examples = [replace(example, kinds={}) for example in examples]
    if (task or (dataset and dataset.task)) == "classes" and drawn:
        return _as_classes(examples, names)
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


def _as_classes(examples: Sequence[Example], names: tuple[str, ...]) -> tuple[list[Example], Meaning]:
    """Drawn objects as classes of pixels: by name, or as one class where they have no names."""
    if not names:
        names = ("cell",)
        examples = [replace(e, kinds=dict.fromkeys(ids_of(e.labels), "cell")) for e in examples]
    found = [replace(e, labels=class_image(e.labels, classes_of(e.labels, e.kinds, names)), kinds={}) for e in examples]
    reason = f"drawn objects as classes of pixels, as asked for: background, {', '.join(names)}"
    return found, Meaning("classes", tuple(range(len(names) + 1)), reason, value_names=("background", *names))
