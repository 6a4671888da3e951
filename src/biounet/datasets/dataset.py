"""What a folder of annotated images consists of: files and pages, not yet read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from biounet.errors import DataError

IGNORED = "ignore"  # the name of a colour whose pixels are unknown


@dataclass(frozen=True)
class Source:
    """A file, or one of the items that `images.image.planes` makes of it (``page``, from 0).

    ``entry``: of an annotation file, which of its images is meant, or that ROIs inside a TIFF are.
    """

    path: Path
    page: int | None = None
    entry: str | None = None


@dataclass(frozen=True)
class Extras:
    """What else is known about an annotation, of the same shape as the labels.

    ``ignore``: unknown where not 0. ``region``: unknown where 0. ``markers``: one for every cell, also
    those without a mask; ``silver``: computer-made masks, where those cells may be looked up.
    """

    ignore: Source | None = None
    region: Source | None = None
    markers: Source | None = None
    silver: Source | None = None
    classes: Source | None = None

    def sources(self) -> tuple[Source, ...]:
        """Those images that are there."""
        found = (self.ignore, self.region, self.markers, self.silver, self.classes)
        return tuple(source for source in found if source is not None and source.path.suffix.lower() != ".csv")

    def at(self, page: int) -> Extras:
        """The same files at one page."""
        files = (self.ignore, self.region, self.markers, self.silver, self.classes)
        return Extras(*(source and replace(source, page=page) for source in files))


@dataclass(frozen=True)
class Item:
    """One annotated image: its channels (one file, or one per channel), its labels, and more.

    ``ignore_value``: this value in ``labels`` is unknown.
    """

    name: str
    channels: tuple[Source, ...]
    labels: Source
    extras: Extras = Extras()
    ignore_value: int | None = None

    @property
    def image(self) -> Source:
        """The file of the image, or of its first channel."""
        return self.channels[0]


@dataclass(frozen=True)
class Colour:
    """What a colour of RGB masks means."""

    rgb: tuple[int, int, int]
    name: str


@dataclass(frozen=True)
class Problem:
    """Why one image, by name, cannot be used.

    ``kind``: "unpaired", "shapes" (image and annotation differ), "channels", or "unreadable" for all else.
    """

    name: str
    message: str
    kind: str = "unreadable"


@dataclass(frozen=True)
class Found:
    """What a layout recognised, files not yet opened.

    ``pages``: what pages without axes are in this layout; None leaves it to the labels.
    ``sequence``: items follow each other (frames, slices). ``task``, ``values`` and ``value_names`` (one a
    value, or ()): what the layout itself says about the labels, and ``declared_by`` where it says so.
    ``channel_names``: what it calls the channels of every image, () where it does not. ``colours``: a file
    that says what the colours of masks mean.
    """

    items: tuple[Item, ...]
    reasons: tuple[str, ...]
    problems: tuple[Problem, ...] = ()
    pages: Literal["images", "volume"] | None = None
    sequence: bool = False
    task: Literal["instances", "classes"] | None = None
    values: tuple[int, ...] = ()
    value_names: tuple[str, ...] = ()
    declared_by: str = ""
    channel_names: tuple[str, ...] = ()
    colours: Path | None = None


@dataclass(frozen=True)
class Layout:
    """A way to arrange images and annotations: its name, what is looked for, and who recognises it."""

    name: str
    looks_for: str
    recognise: Callable[[Path], Found | None]


@dataclass(frozen=True)
class Dataset:
    """Annotated images found in a folder, paired and checked from their headers.

    ``reasons``: each inference in words. ``problems``: what cannot be used, left out of ``items``.
    ``channels``: of every image once read (grey is repeated to three beside RGB). ``is_sequence``:
    items are frames or slices that follow each other. ``task``, ``values``, ``value_names``, ``declared_by``
    and ``channel_names``: as in `Found`, None and () where only the files tell.
    """

    root: Path
    items: tuple[Item, ...]
    layout: str
    ndim: int
    channels: int
    reasons: tuple[str, ...]
    problems: tuple[Problem, ...] = ()
    is_sequence: bool = False
    task: Literal["instances", "classes"] | None = None
    values: tuple[int, ...] = ()
    value_names: tuple[str, ...] = ()
    declared_by: str = ""
    channel_names: tuple[str, ...] = ()
    colours: tuple[Colour, ...] = ()


def refuse(root: Path, problems: tuple[Problem, ...] | list[Problem], total: int) -> DataError:
    """One error of one line that lists every problem."""
    listed = "; ".join(f"{problem.name}: {problem.message}" for problem in problems)
    listed = " ".join(listed.splitlines())  # a name may hold a line break
    return DataError(
        f"{root}: {len(problems)} of {total} images cannot be used ({listed}); "
        "mend or remove them; train and show go on without them with --skip-bad"
    )
