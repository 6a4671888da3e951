"""What is learnt from: examples read, their annotation understood, with every inference stated."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from biounet.datasets.annotation import as_labels
from biounet.datasets.channel_choice import choose_channels
from biounet.datasets.dataset import Dataset
from biounet.datasets.examples import Example, load, size_ratio, usual_pixel_size
from biounet.datasets.layouts import find_dataset
from biounet.datasets.pages import SMALLEST_SIDE
from biounet.errors import DataError, UsageError
from biounet.images.likeness import thumbnail
from biounet.labels.meaning import Meaning, encode
from biounet.labels.understanding import understand
from biounet.planning.fingerprint import Fingerprint, fingerprint
from biounet.settings import DataSettings

_MOST_NAMED = 8
SAME_SCALE = 1.25  # factor between pixel sizes below which objects look alike to a network

Pair = tuple[npt.NDArray[Any], npt.NDArray[Any]]
Data = str | Path | Dataset | Iterable[Pair]


@dataclass(frozen=True)
class TrainingData:
    """Examples with labels int32 (instance or class ids, -1 unknown), and how they were understood.

    ``statements`` say what was inferred and why. ``digest`` is a SHA-256 over all images and labels.
    """

    examples: tuple[Example, ...]
    meaning: Meaning
    channel_names: tuple[str, ...]
    sequence: bool
    statements: tuple[str, ...]
    digest: str

    @property
    def channels(self) -> int:
        """Number of channels of every image."""
        return int(self.examples[0].image.shape[0])

    @property
    def ndim(self) -> int:
        """Number of spatial axes."""
        return self.examples[0].labels.ndim

    @property
    def classes(self) -> int:
        """Number of classes of the network, background included."""
        return self.meaning.class_count

    @cached_property
    def pixel_size_um(self) -> tuple[float, ...] | None:
        """Pixel size per spatial axis that most images state, None where none does; taken as that of all."""
        return usual_pixel_size(self.examples)

    @cached_property
    def fingerprint(self) -> Fingerprint:
        """What a plan chooses by."""
        return fingerprint(self.examples, self.meaning.task, self.classes, sequence=self.sequence)

    @cached_property
    def thumbnails(self) -> dict[str, npt.NDArray[np.float32]]:
        """A small picture of each image by its name, to tell which show the same."""
        return {example.name: thumbnail(example.image) for example in self.examples}


def read_training_data(data: Data, settings: DataSettings, *, skip_bad: bool = False) -> TrainingData:
    """Examples of a folder, a found `Dataset`, or pairs (image (C,)(Z)YX, labels (Z)YX).

    With ``unlabelled="unknown"`` value 0 is unknown, in class annotations too: the classes are then
    the other values. Raises `DataError` where nothing can be learnt from them: no annotated
    background, no object, sides below 16 pixels, values that are not finite; ``skip_bad`` leaves out
    files that cannot be read. Raises `UsageError` where arrays are no pairs.
    """
    if isinstance(data, str | Path):
        data = find_dataset(data, ndim=settings.ndim, colours=settings.colours, skip_bad=skip_bad)
    if isinstance(data, Dataset):
        examples, sequence = load(data, skip_bad=skip_bad), data.is_sequence
        statements = (*data.reasons, *_left_out(data, examples), *_notes(examples))
    else:
        examples, sequence = _from_arrays(data, settings.ndim), False
        statements = (f"{len(examples)} pairs of arrays",)
    dataset = data if isinstance(data, Dataset) else None
    examples, names, said = choose_channels(examples, settings.channels, dataset)
    _check_sizes(examples)
    examples, meaning = understand(
        examples,
        dataset,
        task=settings.task,
        object_classes=settings.object_classes,
        unlabelled=settings.unlabelled,
    )
    examples = [example.with_labels(encode(example.labels, meaning)) for example in examples]
    _check_annotation(examples)
    rule = _rule(examples, settings)
    statements = (*statements, *said, meaning.reason, rule, *_pixel_sizes(examples))
    return TrainingData(tuple(examples), meaning, names, sequence, statements, _digest(examples))


def _pixel_sizes(examples: Sequence[Example]) -> tuple[str, ...]:
    """Warnings where the size of a pixel is not the same in all images, or not known in all."""
    usual = usual_pixel_size(examples)
    if usual is None:
        return ()
    stated = {e.name: e.pixel_size_um for e in examples}
    other = [name for name, size in stated.items() if size is not None and size_ratio(size, usual) >= SAME_SCALE]
    silent = [name for name, size in stated.items() if size is None]
    shown = " x ".join(f"{n:.4g}" for n in usual)
    warning = f"warning: pixels of {shown} um, as most images state, are taken for all; "
    return (
        *((f"{warning}another size is stated by {_shown(other)}: rescale these, or leave them out",) if other else ()),
        *((f"{warning}none is stated by {_shown(silent)}",) if silent else ()),
    )


def _left_out(data: Dataset, examples: Sequence[Example]) -> tuple[str, ...]:
    """What ``skip_bad`` went on without."""
    read = {e.name for e in examples}
    names = [problem.name for problem in data.problems] + [i.name for i in data.items if i.name not in read]
    return (f"left out, as they cannot be used: {_shown(names)}",) if names else ()


def _notes(examples: Sequence[Example]) -> tuple[str, ...]:
    """What was inferred for single images."""
    notes = [f"{e.name}: {note}" for e in examples for note in e.notes]
    return tuple(notes[:_MOST_NAMED]) + ((f"and {len(notes) - _MOST_NAMED} more notes",) * (len(notes) > _MOST_NAMED))


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names[:_MOST_NAMED]) + (" ..." if len(names) > _MOST_NAMED else "")


def _from_arrays(data: Iterable[Pair], ndim: int | None) -> list[Example]:
    try:
        data = list(data)  # a zip or another iterator too
    except TypeError as error:
        raise UsageError(f"data is {type(data).__name__}: give a folder or a list of pairs (image, labels)") from error
    if any(not isinstance(pair, tuple | list) or len(pair) != 2 for pair in data):
        raise UsageError("data must be a folder or a list of pairs (image, labels); a single pair is [(image, labels)]")
    pairs = [(np.asarray(image), np.asarray(labels)) for image, labels in data]
    ndim = ndim or min((labels.ndim for _, labels in pairs), default=2)
    if ndim not in (2, 3):
        raise UsageError(f"labels of {ndim} axes: give (Y, X) or (Z, Y, X), and images with or without channels before")
    examples = []
    for index, (image, labels) in enumerate(pairs):
        image = image[None] if image.ndim == ndim else image
        examples.append(Example(f"array {index}", image, as_labels(labels, f"labels {index}")))
    return examples


def _check_sizes(examples: Sequence[Example]) -> None:
    if not examples:
        raise DataError("no annotated image was given; give at least one pair of image and labels")
    channels = {e.image.shape[0] for e in examples}
    if len(channels) > 1:
        raise DataError(f"images have different numbers of channels {sorted(channels)}; give images of one kind")
    for e in examples:
        if e.image.shape[1:] != e.labels.shape:
            raise DataError(f"{e.name}: image {e.image.shape[1:]} and labels {e.labels.shape} differ in size")
        if min(e.labels.shape[-2:]) < SMALLEST_SIDE:
            raise DataError(
                f"{e.name}: {'x'.join(map(str, e.labels.shape))} pixels; training images need at least "
                f"{SMALLEST_SIDE} a side: leave it out"
            )
        if e.image.dtype.kind == "f" and not np.isfinite(e.image).all():
            raise DataError(f"{e.name}: the image holds NaN or infinite values; replace them or leave it out")


def _check_annotation(examples: Sequence[Example]) -> None:
    if not any((e.labels == 0).any() for e in examples):
        raise DataError(
            "no background is known in any image, so nothing can be told apart from it; annotate some background "
            "(a region marked as complete, or outlines of class background), or leave out --unlabelled unknown"
        )
    if not any((e.labels > 0).any() for e in examples):
        raise DataError("every mask is empty: no object is annotated; annotate at least one")


def _rule(examples: Sequence[Example], settings: DataSettings) -> str:
    known = [e.annotated_share for e in examples]
    unknown = settings.unlabelled == "unknown"
    rule = "what is not drawn is unknown (--unlabelled unknown)" if unknown else "what is not drawn is background"
    if min(known) == 1:
        return f"{rule}; every image is annotated in full"
    partial = [f"{e.name} {share:.0%}" for e, share in zip(examples, known, strict=True) if share < 1]
    full = "" if len(partial) == len(known) else f"; the other {len(known) - len(partial)} in full"
    exception = "" if unknown else ", except where the annotation is marked unknown"
    if unknown and any(e.complete is not None for e in examples):
        exception = ", except where the annotation is marked complete"
    return f"{rule}{exception}; annotated shares: {', '.join(partial)}{full}"


def _digest(examples: Sequence[Example]) -> str:
    digest = hashlib.sha256()
    for example in examples:
        for array in (example.image, example.labels):
            digest.update(f"{array.dtype.str}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        if example.kinds:
            digest.update(repr(sorted(example.kinds.items())).encode())
    return digest.hexdigest()
