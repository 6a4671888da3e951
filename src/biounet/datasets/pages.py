"""From files to images: whether stacks are volumes or pages, whether pairs fit, how many channels."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count, product
from pathlib import Path

import numpy as np
import numpy.typing as npt

from biounet.datasets.annotation import load_labels
from biounet.datasets.dataset import Found, Item, Problem, Source
from biounet.datasets.drawings import drawing_header, drawn_planes, is_drawing
from biounet.errors import DataError
from biounet.images.arrays import MissingPackageError
from biounet.images.formats import read_header, read_image
from biounet.images.image import Header, drops_alpha

SMALLEST_SIDE = 16
_PERSISTENT = 0.5
_FLAT = "the z axis has a single plane"


@dataclass(frozen=True)
class Resolved:
    """Items with their pages, and what was inferred about all of them."""

    items: tuple[Item, ...]
    ndim: int
    channels: int
    reasons: tuple[str, ...]
    problems: tuple[Problem, ...]
    is_sequence: bool


@dataclass(frozen=True)
class _Opened:
    """An item with the headers of its files and the dimension its axes speak for.

    ``planes``: those of a stack on which something is drawn, None where all are annotated.
    """

    item: Item
    images: tuple[Header, ...]
    labels: Header
    extras: tuple[Header, ...]
    channels: int
    ndim: int
    evidence: str
    planes: list[int] | None = None


def resolve(found: Found, root: Path, *, ndim: int | None = None) -> Resolved:
    """Open every header; decide 2D or 3D; split pages; leave out what does not fit, saying why.

    A stack whose pages have no axes is a volume if the layout says so, or else if ids persist from page
    to page. Raises `DataError` where 2D and 3D images are mixed and ``ndim`` does not decide.
    """
    problems = list(found.problems)
    items, renamed = uniquely_named(found.items)
    opened = list(_open_all(replace(found, items=items), problems))
    ndim, reason = (ndim, f"{ndim}D as asked for") if ndim else _dimensions(opened, root)
    fitting = []
    for entry in opened:
        fault = _fault(entry, ndim)
        if fault:
            problems.append(Problem(entry.item.name, fault, "shapes"))
        else:
            fitting.append(entry)
    channels, channel_reasons = _channels(fitting)
    kept = [entry for entry in fitting if _matches(entry.channels, channels)]
    problems += [
        Problem(entry.item.name, f"has {entry.channels} channels where the others have {channels}", "channels")
        for entry in fitting
        if entry not in kept
    ]
    items = tuple(item for entry in kept for item in _expanded(entry, ndim))
    return Resolved(
        items,
        ndim,
        channels,
        (*renamed, reason, *channel_reasons, *_notes(kept)),
        tuple(problems),
        found.sequence or len(items) > len(kept),
    )


def uniquely_named(items: Sequence[Item]) -> tuple[tuple[Item, ...], tuple[str, ...]]:
    """Items with names of their own, and what was renamed: "img" in two folders becomes "a_img" and "b_img".

    As many folders go before the name as it takes to tell them apart; the same file listed twice is numbered.
    """
    names = [item.name for item in items]
    for name in [name for name, times in Counter(names).items() if times > 1]:
        folders = {at: i.image.path.parent.parts for at, i in enumerate(items) if i.name == name}
        apart = len(set(folders.values()))
        depth = next(d for d in count() if len({parts[len(parts) - d :] for parts in folders.values()}) == apart)
        for at, parts in folders.items():
            names[at] = "_".join((*parts[len(parts) - depth :], name))
    counts, seen = Counter(names), Counter[str]()
    for at, name in enumerate(names):
        seen[name] += 1
        names[at] = f"{name}_{seen[name]}" if counts[name] > 1 else name
    renamed = [name for item, name in zip(items, names, strict=True) if item.name != name]
    said = (f"{len(renamed)} images share their names with others: they are called {_some(renamed)}",)
    return tuple(replace(i, name=n) for i, n in zip(items, names, strict=True)), said if renamed else ()


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + ", ..." * (len(names) > 4)


def labels_persist(stack: npt.NDArray[np.int32]) -> float:
    """Share of pixel pairs, one page apart and both labelled, with the same id; 0 where there is none.

    ``stack``: (pages, Y, X). In a volume objects go on from page to page, in separate images ids start
    anew on each.
    """
    both = (stack[1:] > 0) & (stack[:-1] > 0)
    count = int(np.count_nonzero(both))
    return int(np.count_nonzero(both & (stack[1:] == stack[:-1]))) / count if count else 0.0


def _open_all(found: Found, problems: list[Problem]) -> Iterator[_Opened]:
    for item in found.items:
        try:
            yield _open(item, found.pages)
        except MissingPackageError:
            raise  # the same for every file: one line is enough
        except DataError as error:
            problems.append(Problem(item.name, str(error)))


def _open(item: Item, pages: str | None) -> _Opened:
    images = tuple(read_header(source.path) for source in item.channels)
    drawing = is_drawing(item.labels)
    labels = drawing_header(item.labels, images[0]) if drawing else read_header(item.labels.path)
    planes = drawn_planes(item.labels, images[0]) if drawing else None
    extras = tuple(read_header(source.path) for source in item.extras.sources())
    channels = sum(_channel_count(s, h) for s, h in zip(item.channels, images, strict=True))
    ndim, evidence = _vote(item, images[0], labels, pages)
    return _Opened(item, images, labels, extras, channels, ndim, evidence, planes)


def _vote(item: Item, image: Header, labels: Header, pages: str | None) -> tuple[int, str]:
    """2 or 3, and why."""
    if item.image.page is not None:
        return 2, "annotated planes of volumes are 2D images"
    if is_drawing(item.labels) and image.plane_count(2) > 1:
        return 2, "outlines are drawn plane by plane: planes are 2D images"
    if image.size("Z") > 1 or labels.size("Z") > 1:
        return 3, "the files state a z axis: volumes"
    if "Z" in image.axes and "Z" in labels.axes:
        return 2, _FLAT
    if "I" not in image.axes or "I" not in labels.axes:
        return 2, "time points are separate images" if "T" in image.axes else "every image is one plane"
    if pages is not None:
        ndim = 2 if pages == "images" else 3
        return ndim, f"pages are {'separate 2D images' if ndim == 2 else 'planes of a volume'} in this layout"
    share = labels_persist(np.stack(load_labels(item.labels.path, ndim=2)))
    if share >= _PERSISTENT:
        return 3, f"ids persist from page to page (in {share:.0%} of labelled pixels): volumes"
    return 2, f"ids do not persist from page to page (in {share:.0%} of labelled pixels): pages are 2D images"


def _dimensions(opened: Sequence[_Opened], root: Path) -> tuple[int, str]:
    votes = {ndim: [entry for entry in opened if entry.ndim == ndim] for ndim in (2, 3)}
    if votes[3] and all(entry.evidence == _FLAT for entry in votes[2]):
        votes[2] = []  # volumes as well, of one plane
    if votes[2] and votes[3]:
        names = {ndim: ", ".join(e.item.name for e in entries[:3]) for ndim, entries in votes.items()}
        command = f"biounet train {shlex.quote(str(root))} --out model.safetensors"
        raise DataError(
            f"{root}: holds {len(votes[2])} 2D images ({names[2]}) and {len(votes[3])} volumes ({names[3]}), "
            f"one model takes one kind; use {command} --ndim 2 (volumes plane by plane) or "
            f"{command} --ndim 3 --skip-bad (volumes alone)"
        )
    ndim = 3 if votes[3] else 2
    counts = Counter(entry.evidence for entry in votes[ndim])
    return ndim, f"{ndim}D: " + "; ".join(counts) if counts else f"{ndim}D"


def _fault(entry: _Opened, ndim: int) -> str:
    """Why image and labels cannot be used together, "" where they can."""
    item, labels = entry.item, entry.labels
    if ndim == 3 and is_drawing(item.labels):
        return f"{item.labels.path.name} holds outlines of planes; a volume needs label images: take --ndim 2"
    if ndim == 3 and not {"Z", "I"} & set(labels.axes):
        return f"{item.labels.path.name} is a single plane, not a volume"
    spatial, count = labels.spatial_shape(ndim), _plane_count(item.labels, labels, ndim)
    sources, mask = (*item.channels, *item.extras.sources()), item.labels.path.name
    for source, header in zip(sources, (*entry.images, *entry.extras), strict=True):
        other, pages = header.spatial_shape(ndim), _plane_count(source, header, ndim)
        if pages != count:
            return (
                f"{source.path.name} has {pages} pages, mask {mask} {count}; "
                "if pages are channels, save them with a channel axis"
            )
        if other != spatial:
            return f"{source.path.name} is {_size(other)} pixels, mask {mask} {_size(spatial)}"
        if source.page is not None and source.page >= header.plane_count(ndim):
            return f"{source.path.name} has no plane {source.page}"
    if min(spatial[-2:]) < SMALLEST_SIDE:
        return f"is {_size(spatial)} pixels; training images need at least {SMALLEST_SIDE} a side"
    return ""


def _plane_count(source: Source, header: Header, ndim: int) -> int:
    return header.plane_count(ndim) if source.page is None else 1


def _size(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def _expanded(entry: _Opened, ndim: int) -> Iterator[Item]:
    """One item per page; a file of one page keeps its plain name."""
    item = entry.item
    count = _plane_count(item.labels, entry.labels, ndim)
    if count == 1:
        yield item
        return
    digits = max(2, len(str(count - 1)))
    for page in range(count) if entry.planes is None else entry.planes:
        yield replace(
            item,
            name=f"{item.name}[{page:0{digits}d}]",
            channels=tuple(replace(source, page=page) for source in item.channels),
            labels=replace(item.labels, page=page),
            extras=item.extras.at(page),
        )


def _channel_count(source: Source, header: Header) -> int:
    if header.palette is not None:
        return 1 if (header.palette == header.palette[:, :1]).all() else 3
    count = header.size("C")
    return count - 1 if header.alpha and drops_alpha(read_image(source.path)) else count


def _matches(channels: int, wanted: int) -> bool:
    return channels == wanted or (channels == 1 and wanted == 3)


def _channels(entries: Sequence[_Opened]) -> tuple[int, tuple[str, ...]]:
    """The number of channels of the set: the most frequent, or three where grey meets RGB."""
    counts = Counter(entry.channels for entry in entries)
    if not counts:
        return 1, ()
    reasons = []
    if dropped := sum(e.channels < sum(h.size("C") for h in e.images) for e in entries if _alpha(e)):
        reasons.append(f"transparency is constant in {dropped} images: dropped")
    channels = counts.most_common(1)[0][0]
    if channels == 1 and counts[3]:
        channels = 3
    if channels == 3 and counts[1]:
        reasons.append(f"{counts[1]} grey images among {counts[3]} RGB: grey is repeated to three channels")
    return channels, tuple(reasons)


def _alpha(entry: _Opened) -> bool:
    return any(header.alpha for header in entry.images)


def _notes(entries: Sequence[_Opened]) -> tuple[str, ...]:
    counts = Counter(note for entry in entries for header in entry.images for note in header.notes)
    notes = [f"{note} ({count} images)" for note, count in counts.items()]
    if any(is_drawing(entry.item.labels) for entry in entries):
        notes.append("a pixel belongs to an outline if its centre lies inside; the later object lies on top")
    for entry in entries:
        if entry.planes is not None and (empty := entry.images[0].plane_count(2) - len(entry.planes)):
            notes.append(f"{entry.item.name}: {empty} planes without any outline are not used")
    elsewhere = [entry.item.name for entry in entries if _lies_elsewhere(entry.images[0], entry.labels)]
    if elsewhere:
        notes.append(
            f"warning: by their affines the masks of {_some(elsewhere)} lie elsewhere in space than their images: they "
            "are laid on each other voxel by voxel; if they are shifted or mirrored, resample the masks onto the images"
        )
    return tuple(notes)


def _lies_elsewhere(image: Header, labels: Header) -> bool:
    """Whether both state their place in space, and a corner is more than half a voxel away from that of the other.

    An identity is what programs write that know no place.
    """
    if image.affine is None or labels.affine is None or np.allclose(labels.affine, np.eye(4)):
        return False
    corners = np.array([(*at, 1) for at in product(*((0, image.size(axis) - 1) for axis in "XYZ"))], np.float64)
    apart = np.linalg.norm((corners @ (image.affine - labels.affine).T)[:, :3], axis=1)
    return bool(apart.max() > np.linalg.norm(image.affine[:3, :3], axis=0).min() / 2)
