"""Going on from a trained model: does it fit the new data, and what is kept of it?"""

from __future__ import annotations

from biounet.datasets.examples import size_ratio
from biounet.errors import UsageError
from biounet.model_file import Model
from biounet.planning.data import SAME_SCALE, TrainingData
from biounet.settings import NetworkSettings, Settings, check_settings


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
