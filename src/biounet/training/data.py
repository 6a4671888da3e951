"""What is learnt from: examples read, their annotation understood, with every inference stated."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from biounet.errors import DataError
from biounet.images.annotation import as_labels
from biounet.images.dataset import Dataset
from biounet.images.examples import Example, load
from biounet.images.layouts import find_dataset
from biounet.labels.meaning import Meaning, encode, infer_meaning
from biounet.settings import DataSettings

SMALLEST_SIDE = 16

Pair = tuple[npt.NDArray[Any], npt.NDArray[Any]]
Data = str | Path | Dataset | Sequence[Pair]


@dataclass(frozen=True)
class TrainingData:
    """Examples with labels int32 (instance or class ids, -1 unknown), and how they were understood.

    ``statements`` say what was inferred and why. ``digest`` is a SHA-256 over all images and labels.
    """

    examples: tuple[Example, ...]
    meaning: Meaning
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


def read_training_data(data: Data, settings: DataSettings, *, skip_bad: bool = False) -> TrainingData:
    """Examples of a folder, a found `Dataset`, or pairs (image (C,)(Z)YX, labels (Z)YX).

    Raises `DataError` where nothing can be learnt from them: no annotated background, no object,
    sides below 16 pixels, values that are not finite; ``skip_bad`` leaves out files that cannot be read.
    """
    if isinstance(data, str | Path):
        data = find_dataset(data, ndim=settings.ndim, skip_bad=skip_bad)
    if isinstance(data, Dataset):
        examples, statements, sequence = load(data, skip_bad=skip_bad), data.reasons, data.is_sequence
        declared = data.values
        task = settings.task or data.task
    else:
        examples, statements, sequence = (
            _from_arrays(data, settings.ndim),
            (f"{len(data)} pairs of arrays",),
            False,
        )
        declared, task = (), settings.task
    _check_sizes(examples)
    meaning = infer_meaning([e.labels for e in examples], task=task, declared=declared)
    encoded = [e.with_labels(encode(e.labels, meaning)) for e in examples]
    if settings.unlabelled == "unknown" and meaning.task == "instances":
        encoded = [e.with_labels(np.where(e.labels == 0, -1, e.labels).astype(np.int32)) for e in encoded]
    _check_annotation(encoded)
    rule = _rule(encoded, settings, meaning)
    return TrainingData(tuple(encoded), meaning, sequence, (*statements, meaning.reason, rule), _digest(encoded))


def _from_arrays(data: Sequence[Pair], ndim: int | None) -> list[Example]:
    examples = []
    ndim = ndim or min((np.ndim(labels) for _, labels in data), default=2)
    for index, (image, labels) in enumerate(data):
        image = np.asarray(image)
        image = image[None] if image.ndim == ndim else image
        examples.append(Example(f"array {index}", image, as_labels(np.asarray(labels), f"labels {index}")))
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
                f"{SMALLEST_SIDE} a side: leave it out (--skip-bad)"
            )
        if e.image.dtype.kind == "f" and not np.isfinite(e.image).all():
            raise DataError(f"{e.name}: the image holds NaN or infinite values; replace them or leave it out")


def _check_annotation(examples: Sequence[Example]) -> None:
    if not any((e.labels == 0).any() for e in examples):
        raise DataError(
            "no background at all is known, so nothing can be told apart from it; annotate some background "
            "(a region marked as complete), or leave out --unlabelled unknown"
        )
    if not any((e.labels > 0).any() for e in examples):
        raise DataError("every mask is empty: no object is annotated; annotate at least one")


def _rule(examples: Sequence[Example], settings: DataSettings, meaning: Meaning) -> str:
    known = [float((e.labels >= 0).mean()) for e in examples]
    rule = "what is not drawn is background"
    if settings.unlabelled == "unknown" and meaning.task == "instances":
        rule = "what is not drawn is unknown (--unlabelled unknown)"
    if min(known) == 1:
        return f"{rule}; every image is annotated in full"
    partial = [f"{e.name} {share:.0%}" for e, share in zip(examples, known, strict=True) if share < 1]
    shown = ", ".join(partial[:8]) + (" ..." if len(partial) > 8 else "")
    return f"{rule}, except where the annotation is marked unknown; annotated shares: {shown}"


def _digest(examples: Sequence[Example]) -> str:
    digest = hashlib.sha256()
    for example in examples:
        for array in (example.image, example.labels):
            digest.update(f"{array.dtype.str}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
