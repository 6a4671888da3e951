"""Annotated objects as what is learnt: their meaning, and the classes that their names stand for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from biounet.images.dataset import Dataset
from biounet.images.drawings import is_drawing
from biounet.images.examples import Example
from biounet.labels.kinds import cell_classes, class_image, classes_of, ids_of
from biounet.labels.meaning import Meaning, infer_meaning


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
    asked = task or (dataset.task if dataset else None)
    declared = dataset.values if dataset else ()
    if asked == "classes" and drawn:
        return _as_classes(examples, names)
    meaning = infer_meaning([e.labels for e in examples], task=asked, declared=declared, objects=drawn)
    if meaning.task == "classes":
        named = dataset.value_names if dataset and len(dataset.value_names) > max(meaning.values) else ()
        return list(examples), replace(meaning, value_names=tuple(named[v] for v in meaning.values if named))
    if len(names) > 1:
        listed = ", ".join(f"{name} ({sum(list(e.kinds.values()).count(name) for e in examples)})" for name in names)
        without = sum(len(set(ids_of(e.labels)) - set(e.kinds)) for e in examples)
        unknown = f"; {without} objects without a name: of unknown class" if without else ""
        meaning = replace(meaning, reason=f"{meaning.reason}; classes of objects by name: {listed}{unknown}")
    return list(examples), replace(meaning, cell_classes=names)


def _as_classes(examples: Sequence[Example], names: tuple[str, ...]) -> tuple[list[Example], Meaning]:
    """Drawn objects as classes of pixels: by name, or as one class where they have no names."""
    if not names:
        names = ("cell",)
        examples = [replace(e, kinds=dict.fromkeys(ids_of(e.labels), "cell")) for e in examples]
    found = [replace(e, labels=class_image(e.labels, classes_of(e.labels, e.kinds, names)), kinds={}) for e in examples]
    reason = f"drawn objects as classes of pixels, as asked for: background, {', '.join(names)}"
    return found, Meaning("classes", tuple(range(len(names) + 1)), reason, value_names=("background", *names))
