"""From data and settings to everything the loop needs, each choice with its reason."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from biounet.datasets.examples import Example
from biounet.errors import UsageError
from biounet.geometry import Geometry
from biounet.images.normalize import Normalisation, dataset_normalisation
from biounet.inference.tiling import plan_tiles
from biounet.inference.torch_engine import torch_network
from biounet.labels.kinds import classes_of
from biounet.labels.meaning import Meaning
from biounet.model_file import Model
from biounet.networks.build import build, parameter_count
from biounet.networks.verify import verify_geometry
from biounet.networks.weight_standardisation import standardise_weights
from biounet.planning.choices import choose, margin_warning, reach_warning
from biounet.planning.data import TrainingData
from biounet.planning.overlap import overlap_warnings
from biounet.planning.precision import pick_precision
from biounet.planning.split import Split, split_examples
from biounet.planning.start import check_start, settings_of_start
from biounet.samples.augment import Augmentation
from biounet.samples.border_weights import class_weights
from biounet.samples.sampler import Counts, Sampler, class_counts
from biounet.settings import NETWORK_TAKES, NetworkSettings, Settings

Factory = Callable[[int, int], nn.Module]

_ALIKE = 1.05  # pixels whose sides differ by less are taken as square


@dataclass(frozen=True)
class Plan:
    """A run before its first step. ``settings`` have every choice filled in; ``statements`` are printed and stored."""

    settings: Settings
    network: nn.Module
    geometry: Geometry
    normalisation: Normalisation
    split: Split
    sampler: Sampler
    precision: str
    statements: tuple[str, ...]


def make_plan(
    data: TrainingData,
    settings: Settings,
    *,
    seed: int,
    factory: Factory | None = None,
    device: str = "cpu",
    start: Model | None = None,
    fold: Split | None = None,
) -> Plan:
    """Network (initialised by ``seed``), held-back images, normalisation and sampler.

    A foreign ``factory(in_channels, classes)`` must give a module with ``geometry``; its declaration
    is verified by `networks.verify.verify_geometry`. ``device``: where it will be trained, as "cuda:1".
    ``start``: a model whose network, weights and normalisation are gone on from. ``fold``: one split of a
    cross-validation; statistics of the data set are then those of all images, the same in every fold.
    Raises `UsageError` for a module that does not do what it declares, and a start that does not fit.
    """
    kept = () if start is None else check_start(start, data)
    found = data.fingerprint
    if start is not None:
        settings = settings_of_start(settings, start)
    settings, choices = choose(settings, found, task=data.meaning.task)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = make_network(data, settings, factory) if start is None else torch_network(start, factory=factory)
    geometry: Geometry = network.geometry  # type: ignore[assignment]
    if settings.training.weight_standardisation and factory is None:
        standardise_weights(network)
    split = fold or split_examples(
        data.examples,
        geometry,
        sequence=data.sequence,
        share=settings.data.validation_share,
        named=settings.data.validation,
    )
    known = split.training if fold is None else data.examples
    normalisation = _normalisation(settings.data.normalisation, known) if start is None else start.normalisation
    sampler = make_sampler(data, settings, geometry, split, normalisation)
    precision = pick_precision(settings.training.precision, device)
    sides = "x".join(map(str, sampler.output_size))
    warnings = (reach_warning(geometry, found), margin_warning(settings, found, geometry))
    statements = (
        f"fingerprint: {found}",
        *map(str, choices),
        *kept,
        *(warning for warning in warnings if warning is not None),
        f"network {network.description['name']}, {parameter_count(network):,} parameters, "  # type: ignore[index]
        f"period {geometry.period[-1]}, margin {geometry.margin[-1][0]} and reach {geometry.reach[-1][0]} px a side",
        f"held back: {split.reason}",
        *overlap_warnings(split, data.thumbnails),
        f"each sample {sides} pixels of output, {settings.training.batch_size} a step, "
        f"{'of every class equally many, ' if settings.training.balanced else ''}computed in {precision}",
        *_of_classes(data, settings, sampler, split.training, is_fold=fold is not None, begun=start is not None),
    )
    return Plan(settings, network, geometry, normalisation, split, sampler, precision, statements)


def planned_geometry(data: TrainingData, settings: Settings, *, start: Model | None = None) -> Geometry:
    """Geometry of the network that `make_plan` will make."""
    if start is not None:
        return start.geometry
    chosen, _ = choose(settings, data.fingerprint, task=data.meaning.task)
    geometry: Geometry = make_network(data, chosen, None).geometry  # type: ignore[assignment]
    return geometry


def make_network(data: TrainingData, settings: Settings, factory: Factory | None) -> nn.Module:
    """The network of the settings (all chosen) for these channels and classes, or the verified foreign one."""
    if factory is None:
        return build(_description(data, settings.network))
    return _verified(factory, data)


def _description(data: TrainingData, chosen: NetworkSettings) -> dict[str, Any]:
    """What `build` makes the network of: of the settings those that it has."""
    values = {key: getattr(chosen, key) for key in NETWORK_TAKES.get(chosen.name, ())}
    return {"name": chosen.name, **values, "in_channels": data.channels, "classes": data.classes, "ndim": data.ndim}


def _verified(factory: Factory, data: TrainingData) -> nn.Module:
    name = getattr(factory, "__qualname__", type(factory).__qualname__)
    network = factory(data.channels, data.classes)
    geometry = getattr(network, "geometry", None)
    if not isinstance(network, nn.Module) or not isinstance(geometry, Geometry):
        raise UsageError(
            f"network {name}: must give a torch module with a `geometry` (a biounet.Geometry: margin, period, "
            f"smallest input and reach per axis), not {type(network).__name__} with geometry {geometry!r}"
        )
    if geometry.ndim != data.ndim:
        raise UsageError(f"network {name}: its geometry has {geometry.ndim} axes, but the images have {data.ndim}")
    function = _as_function(network.eval())
    try:
        verify_geometry(function, geometry, data.channels)
        classes = function(np.zeros((1, data.channels, *geometry.smallest), np.float32)).shape[1]
    except RuntimeError as error:
        raise UsageError(
            f"network {name}: fails on an input of a size that its geometry admits "
            f"({str(error).splitlines()[0]}); correct the geometry"
        ) from error
    if classes != data.classes:
        raise UsageError(f"network {name}: gives {classes} classes where {data.classes} were asked for")
    network.description = {"name": "foreign", "factory": name}  # type: ignore[assignment]
    return network


def make_sampler(
    data: TrainingData, settings: Settings, geometry: Geometry, split: Split, normalisation: Normalisation
) -> Sampler:
    """The sampler of the training images, with class weights counted over all of them."""
    largest = np.max([e.labels.shape for e in split.training], axis=0)
    assert settings.training.tile is not None
    tiles = plan_tiles([int(n) for n in largest], geometry, settings.training.tile)
    sizes = data.pixel_size_um
    return Sampler(
        images=tuple(normalisation.apply(e.image) for e in split.training),
        labels=tuple(e.labels for e in split.training),
        input_size=tiles.input,
        output_size=tiles.output,
        margin=tuple(before for before, _ in geometry.margin),
        spacing=None if sizes is None else _spacing(sizes),
        task=data.meaning.task,
        augmentation=Augmentation(**settings.augmentation.model_dump()),
        class_weights=balancing_weights(data, settings, split.training),
        w0=settings.loss.w0,
        sigma=settings.loss.sigma_px,
        reading=settings.loss.reading,
        line_width=settings.loss.line_width,
        classes=data.classes,
        classes_of=object_classes_of(split.training, data.meaning),
        balanced=settings.training.balanced,
    )


def balancing_weights(data: TrainingData, settings: Settings, examples: Sequence[Example]) -> tuple[float, ...]:
    """The weight of each class in the loss, by its share of the pixels of these examples; 1 where not balanced."""
    if not settings.loss.class_balance:
        return (1.0,) * data.classes
    return tuple(float(weight) for weight in class_weights(_counts(data, settings, examples)))


def absent_classes(data: TrainingData, settings: Settings, examples: Sequence[Example]) -> tuple[str, ...]:
    """Names of the classes, of three or more, that none of these examples shows."""
    return () if data.classes < 3 else _absent(data.meaning, _counts(data, settings, examples))


def _counts(data: TrainingData, settings: Settings, examples: Sequence[Example]) -> Counts:
    """Pixels of each class."""
    return class_counts(
        [e.labels for e in examples],
        task=data.meaning.task,
        classes=data.classes,
        line_width=settings.loss.line_width,
        classes_of=object_classes_of(examples, data.meaning),
    )


def object_classes_of(examples: Sequence[Example], meaning: Meaning) -> tuple[Mapping[int, int], ...] | None:
    """For each image the class of each object; None where all objects are of one class."""
    names = meaning.cell_classes
    if len(names) < 2:
        return None
    return tuple(classes_of(e.labels, e.kinds, names) for e in examples)


def _absent(meaning: Meaning, counts: Counts) -> tuple[str, ...]:
    return tuple(name for name, count in zip(meaning.class_names, counts, strict=True) if not count)


def _of_classes(
    data: TrainingData,
    settings: Settings,
    sampler: Sampler,
    learnt: Sequence[Example],
    *,
    is_fold: bool,
    begun: bool,
) -> tuple[str, ...]:
    """What three classes or more weigh, and a warning of those that are not shown, which of folds is said together.

    ``begun``: the network has learnt them before.
    """
    if data.classes < 3:
        return ()
    counts = _counts(data, settings, learnt)
    listed = zip(data.meaning.class_names, sampler.class_weights, counts / counts.sum(), strict=True)
    weights = ", ".join(f"{name} {weight:.3g} ({share:.1%} of the pixels)" for name, weight, share in listed)
    said = (f"weights of the classes: {weights}",)
    absent = _absent(data.meaning, counts)
    if is_fold or not absent:
        return said
    follows = "the model may forget that; if" if begun else "that is never found; if"
    return (
        *said,
        f"warning: no image that is learnt from shows {', '.join(absent)}, so {follows} others do, hold "
        "back other ones with --validation, or use --folds",
    )


def _spacing(sizes: tuple[float, ...]) -> tuple[float, ...] | None:
    """Pixel sizes relative to the finest axis, None where all are alike."""
    relative = tuple(size / min(sizes) for size in sizes)
    return None if max(relative) < _ALIKE else relative


def _normalisation(kind: str, examples: Sequence[Example]) -> Normalisation:
    if kind == "dataset":
        return dataset_normalisation(e.image for e in examples)
    return Normalisation(kind)


def _as_function(network: nn.Module) -> Callable[[Any], Any]:
    def function(batch: Any) -> Any:
        with torch.no_grad():
            return network(torch.tensor(batch)).numpy()

    return function
