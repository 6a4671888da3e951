"""What the checks look at: a data set, as much of it as fits into bounded time and memory, and its meaning."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from biounet.checks.agreement import Gridded, gridded
from biounet.checks.looks import Scraps, scraps
from biounet.datasets.channel_choice import choose_channels
from biounet.datasets.dataset import Dataset, Item, Problem
from biounet.datasets.drawings import is_drawing
from biounet.datasets.examples import Example, read_all
from biounet.errors import DataError
from biounet.images.arrays import MissingPackageError
from biounet.images.formats import read_header, read_image
from biounet.labels.components import components
from biounet.labels.flatness import A_MASK, AN_IMAGE, flatness
from biounet.labels.meaning import Meaning, encode
from biounet.labels.understanding import understand

MOST_IMAGES = 200
MOST_PIXELS = 1 << 27  # of all images that are read, as far as more than one is

Labels = npt.NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Survey:
    """A data set as the checks see it.

    ``examples``: what was read and can be used. ``problems``: what cannot. ``foreign``: values that are no
    declared class, ``scrappy``: masks full of scraps, by name of the image. ``swapped``: items whose image is a
    mask and whose mask is an image, with the flatness of both. These three are not among the examples;
    ``left`` are the images of the first and the last.
    ``meaning``: None where nothing could be understood. ``sampled``: which images were left out to bound time
    and memory, "" where none was. ``channels``: names of those of ``examples``, or positions in the files;
    ``chosen`` says in words which they are, where that is to be said.
    """

    dataset: Dataset
    examples: tuple[Example, ...]
    problems: tuple[Problem, ...]
    meaning: Meaning | None
    foreign: dict[str, tuple[int, ...]]
    scrappy: dict[str, tuple[Example, Scraps]]
    swapped: tuple[tuple[Item, float, float], ...]
    left: tuple[Example, ...] = ()
    sampled: str = ""
    channels: tuple[str, ...] = ()
    chosen: tuple[str, ...] = ()

    @property
    def is_instances(self) -> bool:
        """Whether the annotation is of single objects."""
        return self.meaning is not None and self.meaning.task == "instances"

    @cached_property
    def encoded(self) -> tuple[Labels, ...]:
        """For each example ids of objects, or class ids, as training sees them; as read where nothing has a meaning."""
        meaning = self.meaning
        return tuple(e.labels if meaning is None else encode(e.labels, meaning) for e in self.examples)

    @cached_property
    def pieces(self) -> tuple[Labels, ...]:
        """For each example the connected components of equal id or class."""
        return tuple(components(labels) for labels in self.encoded)

    @cached_property
    def by_name(self) -> dict[str, Example]:
        """Examples by name."""
        return {example.name: example for example in self.examples}

    @property
    def shown(self) -> tuple[Example, ...]:
        """Everything that can be drawn: also what is left out because its mask is damaged or foreign."""
        return (*self.examples, *(example for example, _ in self.scrappy.values()), *self.left)

    @cached_property
    def grids(self) -> tuple[Gridded, ...]:
        """For each example features and mask on a coarse grid."""
        return tuple(gridded(e.image, labels) for e, labels in zip(self.examples, self.encoded, strict=True))

    @cached_property
    def items(self) -> dict[str, Item]:
        """Items by name, of all images."""
        return {item.name: item for item in self.dataset.items}

    def mask_file(self, name: str) -> str:
        """The file name of an image's annotation, with its page where it has several."""
        if name not in self.items:
            return name
        source = self.items[name].labels
        return source.path.name + ("" if source.page is None else f"[{source.page}]")

    @cached_property
    def object_px(self) -> tuple[npt.NDArray[np.int64], ...]:
        """For each example the sizes of its objects in pixels: by id, or by piece where values are classes."""
        found = self.encoded if self.is_instances else self.pieces
        return tuple(_sizes(labels) for labels in found)

    @cached_property
    def median_px(self) -> float:
        """Median size of all objects in pixels, 0 where there is none."""
        sizes = np.concatenate([*self.object_px, np.zeros(0, np.int64)])
        return float(np.median(sizes)) if sizes.size else 0.0

    @cached_property
    def diameter_px(self) -> float:
        """Diameter of a disk or ball of the median size."""
        ndim = self.dataset.ndim
        unit = math.pi ** (ndim / 2) / math.gamma(ndim / 2 + 1)
        return float(2 * (self.median_px / unit) ** (1 / ndim))


def make_survey(dataset: Dataset, *, task: str | None = None, channels: Sequence[int | str] | None = None) -> Survey:
    """Read a data set, or a part evenly spread over it, and understand it; ``channels`` as for `choose_channels`."""
    chosen, sampled = choose_items(dataset.items)
    examples, unread = read_all(replace(dataset, items=tuple(chosen)))
    examples, names, said = choose_channels(examples, channels, dataset)
    problems = (*dataset.problems, *unread)
    declared = set(dataset.values)
    swapped = tuple(_swapped(chosen, {e.name: e for e in examples}, {p.name for p in unread}))
    exchanged = {item.name for item, _, _ in swapped}
    sound = [e for e in examples if e.name not in exchanged]
    scrappy = {e.name: (e, found) for e in sound if (found := scraps(e.labels))}
    sound = [e for e in sound if e.name not in scrappy]
    foreign = {e.name: values for e in sound if declared and (values := _foreign(e.labels, declared))}
    usable = [e for e in sound if e.name not in foreign]
    left = tuple(e for e in examples if e.name in foreign or e.name in exchanged)
    meaning = None
    if any((e.labels > 0).any() for e in usable):
        usable, meaning = understand(usable, dataset, task=task)
    problems = tuple(p for p in problems if p.name not in exchanged)
    return Survey(dataset, tuple(usable), problems, meaning, foreign, scrappy, swapped, left, sampled, names, said)


def choose_items(items: Sequence[Item]) -> tuple[list[Item], str]:
    """Items that together stay within `MOST_IMAGES` and `MOST_PIXELS` (at least one), and what was left out."""
    chosen = _spread(items, MOST_IMAGES)
    sizes = [_pixels(item) for item in chosen]
    total = sum(sizes)
    if total > MOST_PIXELS:
        chosen = _spread(chosen, max(1, int(len(chosen) * MOST_PIXELS / total)))
    if len(chosen) == len(items):
        return chosen, ""
    return chosen, f"{len(chosen)} of {len(items)} images were read, evenly spread, to bound time and memory"


def _swapped(items: Sequence[Item], read: dict[str, Example], unread: set[str]) -> Iterator[tuple[Item, float, float]]:
    """Items whose image is flat as a mask and whose mask is not, with both shares; unreadable pairs as well."""
    for item in items:
        if is_drawing(item.labels) or item.image.path == item.labels.path or item.name not in read.keys() | unread:
            continue
        try:
            example = read.get(item.name)
            image = flatness(example.image[0] if example else read_image(item.image.path).array)
            mask = flatness(example.labels if example else read_image(item.labels.path).array)
        except DataError:
            continue
        if image > A_MASK and mask < AN_IMAGE:
            yield item, image, mask


def _spread(items: Sequence[Item], most: int) -> list[Item]:
    if len(items) <= most:
        return list(items)
    return [items[int((k + 0.5) * len(items) / most)] for k in range(most)]


def _pixels(item: Item) -> int:
    """Pixels of one item; 0 where the file cannot be read, which reading it will say."""
    try:
        source = item.image if is_drawing(item.labels) else item.labels
        header = read_header(source.path)
    except MissingPackageError:
        raise
    except DataError:
        return 0
    return math.prod(header.spatial_shape(3 if "Z" in header.axes else 2))


def _foreign(labels: Labels, declared: set[int]) -> tuple[int, ...]:
    return tuple(int(v) for v in np.unique(labels) if v >= 0 and int(v) not in declared)


def _sizes(labels: Labels) -> npt.NDArray[np.int64]:
    _, counts = np.unique(labels[labels > 0], return_counts=True)
    return np.asarray(counts, np.int64)
