"""Going on from a trained model: does it fit the new data, and what is kept of it?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from biounet.datasets.examples import size_ratio
from biounet.errors import UsageError
from biounet.model_file import Model
from biounet.planning.data import SAME_SCALE, TrainingData
from biounet.settings import NetworkSettings, Settings, check_settings

Names = tuple[str, ...]


def in_classes_of(model: Model, data: TrainingData) -> TrainingData:
    """The same data in the classes of a model that knows all of theirs; other data as they are.

    Classes are the same by name where model and data name them, else by the value of the annotation; of objects
    whose classes are numbers, as in ``NAME_classes.tif``, by the number that the model's predictions write.
    """
    if data.meaning.task != model.task:
        return data
    found = _objects_of(model, data) if model.task == "instances" else _pixels_of(model, data)
    if found is None:
        return data
    taken, had, has = found
    said = f"classes as of the model, {', '.join(had)}: the data show {', '.join(has)}"
    return replace(taken, statements=(*data.statements, said))


def _objects_of(model: Model, data: TrainingData) -> tuple[TrainingData, Names, Names] | None:
    names, has = model.classes[1:], data.meaning.cell_classes
    examples, number = data.examples, {str(place): name for place, name in enumerate(names, start=1)}
    if has and set(has) <= set(number) and _named(names):
        examples = tuple(replace(e, kinds={i: number[kind] for i, kind in e.kinds.items()}) for e in examples)
        has = tuple(f"{number[kind]} as {kind}" for kind in has)
    elif not _is_part(has, names):
        return None
    return replace(data, examples=examples, meaning=replace(data.meaning, cell_classes=names)), names, has


def _pixels_of(model: Model, data: TrainingData) -> tuple[TrainingData, Names, Names] | None:
    meaning, named = data.meaning, _named(model.classes)
    had, has = _texts(model.values), _texts(meaning.values)
    if meaning.value_names and named:
        had, has = model.classes, meaning.class_names
    if not _is_part(has, had):
        return None
    place = np.array([*(had.index(one) for one in has), -1], np.int32)  # the last for -1, unknown
    examples = tuple(example.with_labels(place[example.labels]) for example in data.examples)
    meaning = replace(meaning, values=tuple(model.values), value_names=model.classes if named else ())
    return replace(data, examples=examples, meaning=meaning), had, has


def check_start(model: Model, data: TrainingData) -> tuple[str, ...]:
    """What is kept of a model that the training begins with, in words.

    Network and normalisation are the model's; classes, with their names, channels and axes must be those of the
    data. Raises `UsageError` naming what differs, and for channels of the same names in another order.
    """
    meaning = data.meaning
    wanted: dict[str, tuple[object, object]] = {
        "task": (model.task, meaning.task),
        "number of axes": (model.ndim, data.ndim),
        "number of channels": (len(model.channels), data.channels),
        "number of classes": (len(model.classes), data.classes),
    }
    if meaning.task == "classes":
        wanted["values of the classes"] = (tuple(model.values), tuple(int(v) for v in meaning.values))
    if len(meaning.cell_classes) > 1 or (meaning.value_names and _named(model.classes)):
        wanted["list of class names"] = (model.classes, meaning.class_names)
    for name, (had, has) in wanted.items():
        if had != has:
            raise UsageError(
                f"--from: the {name} differs: {_shown(had)} in the model, {_shown(has)} in the data; "
                "choose with --task, --ndim or --channels, or train without --from"
            )
    said = [
        f"goes on from the model {model.sha256[:12]} of {model.training.get('steps', 'unknown')} steps: its network "
        f"and normalisation ({model.normalisation.kind}) are kept; settings of the network have no say"
    ]
    return (*said, *_channels(model, data), *_scales(model, data))


def settings_of_start(settings: Settings, start: Model) -> Settings:
    """Settings with the network that a model has, and with its kernels trained as they were before.

    Standardising kernels that have a mean would change what the network computes.
    """
    fields = NetworkSettings.model_fields
    kept = {key: value for key, value in start.network.items() if key in fields}
    before = start.training.get("settings", {}).get("training", {})
    standardised = bool(before.get("weight_standardisation", False))
    return check_settings(
        {
            **settings.model_dump(),
            "network": settings.network.model_dump() | kept,
            "training": settings.training.model_dump() | {"weight_standardisation": standardised},
        }
    )


def _is_part(names: Names, of: Names) -> bool:
    return 0 < len(names) < len(of) and set(names) <= set(of)


def _texts(values: Sequence[int]) -> Names:
    return tuple(str(int(value)) for value in values)


def _named(names: tuple[str, ...]) -> bool:
    """Whether these are names; channels and classes without one have numbers."""
    return not all(name.isdecimal() for name in names)


def _channels(model: Model, data: TrainingData) -> list[str]:
    had, has = model.channels, data.channel_names
    if had == has or not (_named(had) and _named(has)):
        return []
    if sorted(had) == sorted(has):
        raise UsageError(
            f"--from: the model learnt channels in the order {_shown(had)}, the data have {_shown(has)}; "
            f"add --channels {','.join(had)}"
        )
    return [f"warning: channels {_shown(has)} are taken by position, where the model learnt from {_shown(had)}"]


def _scales(model: Model, data: TrainingData) -> list[str]:
    had, has = model.pixel_size_um, data.pixel_size_um
    if had is None or has is None:
        return []
    if size_ratio(had, has) < SAME_SCALE:
        return []
    return [f"warning: pixels of {_shown(has)} um, where the model learnt from {_shown(had)} um"]


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(f"{part:g}" if isinstance(part, float) else str(part) for part in value)
    return str(value)
