"""Annotated images in memory."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from biounet.datasets.annotation import load_labels, object_kinds, read_kinds, with_unknown
from biounet.datasets.cell_tracking import unknown_cells
from biounet.datasets.dataset import Dataset, Item, Problem, Source, refuse
from biounet.datasets.drawings import is_drawing, painted
from biounet.datasets.outlines import Painted
from biounet.errors import DataError
from biounet.images.arrays import MissingPackageError
from biounet.images.formats import read_header, read_image
from biounet.images.image import Array, check_finite, match_channels, planes

_KEPT = 8  # files in memory while their pages are handed out

Labels = npt.NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Example:
    """One annotated image.

    ``image``: (C, *spatial) in its stored dtype. ``labels``: int32 (*spatial), as annotated: 0
    background, -1 unknown. ``pixel_size_um`` per spatial axis, None where not stated. ``notes``: what
    was inferred for this image. ``kinds``: name of the class of each object by id, for those that have
    one. ``complete``: where undrawn pixels are background under any rule, or None. ``channel_names``: as
    the layout or the file states them, () where neither does.
    """

    name: str
    image: npt.NDArray[Any]
    labels: Labels
    pixel_size_um: tuple[float, ...] | None = None
    notes: tuple[str, ...] = ()
    kinds: Mapping[int, str] = field(default_factory=dict)
    complete: npt.NDArray[np.bool_] | None = None
    channel_names: tuple[str, ...] = ()

    @property
    def annotated_share(self) -> float:
        """Share of the pixels that are known, 0 to 1."""
        return float(np.count_nonzero(self.labels >= 0) / self.labels.size)

    def with_image(self, image: npt.NDArray[Any]) -> Example:
        """The same annotation with other channels of the same size."""
        return replace(self, image=image)

    def with_labels(self, labels: Labels) -> Example:
        """The same image with other labels of the same shape."""
        return replace(self, labels=labels)


def image_digest(image: npt.NDArray[Any]) -> str:
    """SHA-256 of the pixels of an image, with their type and shape, by which it is known under any name."""
    digest = hashlib.sha256(f"{image.dtype.str}{image.shape}".encode())
    digest.update(np.ascontiguousarray(image).tobytes())
    return digest.hexdigest()


def usual_pixel_size(examples: Iterable[Example]) -> tuple[float, ...] | None:
    """The pixel size in um per spatial axis that most of those state that state one; of equally many the first."""
    stated = [e.pixel_size_um for e in examples if e.pixel_size_um is not None]
    if not stated:
        return None
    counts = Counter(_rounded(size) for size in stated)
    usual = counts.most_common(1)[0][0]
    return next(size for size in stated if _rounded(size) == usual)


def _rounded(size: tuple[float, ...]) -> tuple[float, ...]:
    """Three digits: what programs round off makes no other size."""
    return tuple(float(f"{n:.3g}") for n in size)


def size_ratio(a: Sequence[float], b: Sequence[float]) -> float:
    """The factor, 1 or more, between two pixel sizes along the axis where they differ most."""
    return max(max(x / y, y / x) for x, y in zip(a, b, strict=True))


def load(dataset: Dataset, *, skip_bad: bool = False, may_be_empty: bool = False) -> list[Example]:
    """Read every image and annotation of a data set.

    Raises `DataError` listing every image that cannot be read, holds NaN, or has labels that are none
    (with ``skip_bad`` these are left out), and where no object is drawn in any mask, unless it ``may_be_empty``.
    """
    examples, problems = read_all(dataset)
    if problems and (not skip_bad or not examples):
        raise refuse(dataset.root, problems, len(dataset.items))
    if not may_be_empty and not any((example.labels > 0).any() for example in examples):
        raise DataError(
            f"{dataset.root}: all {len(examples)} masks are empty, no object is drawn; "
            "annotate at least one, or check that these are the right masks"
        )
    return examples


def read_all(dataset: Dataset) -> tuple[list[Example], list[Problem]]:
    """Every example that can be read, and why the others cannot."""
    reader = _Reader(dataset)
    examples: list[Example] = []
    problems: list[Problem] = []
    for item in dataset.items:
        try:
            examples.append(reader.example(item))
        except MissingPackageError:
            raise  # the same for every file: one line is enough
        except DataError as error:
            problems.append(Problem(item.name, str(error)))
    return examples, problems


class _Reader:
    """Reads items, keeping the last files, as the pages of one file are many items."""

    def __init__(self, dataset: Dataset) -> None:
        self.ndim, self.channels, self.channel_names = dataset.ndim, dataset.channels, dataset.channel_names
        self.images: Callable[[Path], tuple[list[Array], tuple[float, ...] | None, tuple[str, ...]]]
        self.images = lru_cache(_KEPT)(self._read_image)
        self.labels: Callable[[Path], list[Labels]]
        self.labels = lru_cache(_KEPT)(lambda path: load_labels(path, ndim=self.ndim, colours=dataset.colours))

    def example(self, item: Item) -> Example:
        """The item in memory; raises `DataError` for content that cannot be used."""
        parts = [self.images(source.path)[0][source.page or 0] for source in item.channels]
        image = match_channels(np.concatenate(parts), self.channels, item.image.path)
        found = self._painted(item)
        labels, notes = found.labels, found.notes
        if item.ignore_value is not None:
            labels = np.where(labels == item.ignore_value, np.int32(-1), labels)
        markers = self._page(item.extras.markers)
        if markers is not None:
            labels, note = unknown_cells(labels, markers, self._page(item.extras.silver))
            notes = (*notes, note)
        ignore, region = self._page(item.extras.ignore), self._page(item.extras.region)
        complete = found.complete if region is None else np.asarray(region != 0)
        labels = with_unknown(labels, ignore=ignore, region=region)
        _, size, names = self.images(item.image.path)
        names = self.channel_names or (names if len(item.channels) == 1 else ())
        names = names if len(names) == len(image) else ()
        return Example(item.name, image, labels, size, notes, self._kinds(item, found), complete, names)

    def _painted(self, item: Item) -> Painted:
        if is_drawing(item.labels):
            return painted(item.labels, read_header(item.image.path))
        return Painted(self.labels(item.labels.path)[item.labels.page or 0])

    def _kinds(self, item: Item, found: Painted) -> Mapping[int, str]:
        source = item.extras.classes
        if source is None:
            return found.kinds
        if source.path.suffix.lower() == ".csv":
            return read_kinds(source.path)
        return object_kinds(found.labels, self.labels(source.path)[source.page or 0])

    def _page(self, source: Source | None) -> Labels | None:
        return None if source is None else self.labels(source.path)[source.page or 0]

    def _read_image(self, path: Path) -> tuple[list[Array], tuple[float, ...] | None, tuple[str, ...]]:
        image = read_image(path)
        check_finite(image, path)
        return planes(image, self.ndim), image.pixel_size(self.ndim), image.channel_names
