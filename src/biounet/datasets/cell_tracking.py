"""The Cell Tracking Challenge: its layout, and what its partial gold masks leave unknown.

Gold masks (``NN_GT/SEG``) are drawn for some frames and often for some cells only, while markers
(``NN_GT/TRA``) name every cell. A marked cell without a gold mask is unknown, not background.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from biounet.datasets.dataset import Found, Item, Problem, Source
from biounet.datasets.pairing import extras_of, image_files, is_extra
from biounet.images.formats import stem_name

_GOLD = re.compile(r"^man_seg_?(?P<frame>\d+)(?:_(?P<plane>\d+))?$")

Labels = npt.NDArray[np.int32]


def cell_tracking(folder: Path) -> Found | None:
    """Frames ``NN/tTTT`` with gold masks ``NN_GT/SEG/man_segTTT``; other frames are not used.

    A gold mask of a single plane (``man_seg_TTT_ZZZ``) belongs to that plane of the volume, as a 2D
    image. Markers ``NN_GT/TRA/man_trackTTT``, silver masks ``NN_ST/SEG/man_segTTT`` and
    ``tTTT_ignore`` or ``tTTT_region`` beside image or mask are taken along.
    """
    sequences = [entry for entry in sorted(folder.iterdir()) if re.fullmatch(r"\d\d", entry.name)]
    gold = {entry: _gold_folder(entry) for entry in sequences if _gold_folder(entry).is_dir()}
    if not gold:
        return None
    items: list[Item] = []
    problems: list[Problem] = []
    reasons: list[str] = []
    for sequence, masks in gold.items():
        prefix = f"{sequence.name}_" if len(gold) > 1 else ""
        files = _by_stem(sequence)
        frames = {stem: file for stem, file in files.items() if not is_extra(file)}
        found = list(_frames(sequence, masks, files, prefix))
        items += [entry for entry in found if isinstance(entry, Item)]
        problems += [entry for entry in found if isinstance(entry, Problem)]
        reasons.append(f"sequence {sequence.name}: gold masks for {len(found)} of {len(frames)} frames")
    if any(item.extras.markers for item in items):
        reasons.append("marked cells (TRA) without a gold mask are unknown, other undrawn pixels background")
    elif items:
        reasons.append("no markers (TRA), so gold masks are taken as complete: undrawn pixels are background")
    return Found(
        tuple(items),
        tuple(reasons),
        tuple(problems),
        pages="volume",
        sequence=True,
        task="instances",
        declared_by="the layout",
    )


def _gold_folder(sequence: Path) -> Path:
    return sequence.with_name(f"{sequence.name}_GT") / "SEG"


def _frames(sequence: Path, gold: Path, frames: dict[str, Path], prefix: str) -> Iterator[Item | Problem]:
    markers = _by_stem(gold.with_name("TRA"))
    silver = _by_stem(sequence.with_name(f"{sequence.name}_ST") / "SEG")
    beside = {**_by_stem(gold), **frames}  # what is unknown or known of a frame may lie in either folder
    for file in image_files(gold):
        match = _GOLD.match(stem_name(file))
        if match is None:
            continue
        frame, plane = match["frame"], match["plane"]
        page = None if plane is None else int(plane)
        name = f"{prefix}t{frame}" + ("" if page is None else f"[{plane}]")
        if f"t{frame}" not in frames:
            yield Problem(name, f"gold mask {file.name} has no image t{frame} in {sequence.name}/", "unpaired")
            continue
        extras = replace(
            extras_of(f"t{frame}", beside),
            markers=_source(markers.get(f"man_track{frame}")),
            silver=_source(silver.get(f"man_seg{frame}")),
        )
        image = Source(frames[f"t{frame}"], page)
        yield Item(name, (image,), Source(file), extras if page is None else extras.at(page))


def _by_stem(folder: Path) -> dict[str, Path]:
    return {stem_name(file): file for file in image_files(folder)} if folder.is_dir() else {}


def _source(path: Path | None) -> Source | None:
    return None if path is None else Source(path)


def unknown_cells(gold: Labels, markers: Labels, silver: Labels | None) -> tuple[Labels, str]:
    """Gold masks with -1 where cells were marked but not drawn, and the rule that was used, in words.

    All arrays are (Z)YX of one shape, 0 background. A cell counts as drawn where gold covers more than
    half of its marker. Of the others, unknown are

    - the region of the silver object that covers more than half of the marker;
    - where there is none, the undrawn part of the box around the marker that would hold the farthest
      reaching cell of this frame (drawn or silver);
    - with no silver masks at all, or no cell to measure, everything that is not drawn: nothing tells
      how far such a cell extends, and calling any of it background might be wrong.
    """
    result = gold.copy()
    marked = list(_objects(markers))
    undrawn = [(box, inside) for box, inside in marked if not _covering(gold[box], inside)]
    total = len(marked)
    if not undrawn:
        return result, f"gold masks for all {total} marked cells"
    drawn = f"gold masks for {total - len(undrawn)} of {total} marked cells, unknown"
    reach = None if silver is None else _reach(gold, markers, silver)
    if silver is None or reach is None:
        result[gold == 0] = -1
        return result, f"{drawn}, without silver masks to tell where, is all that is not drawn"
    boxed = 0
    for box, inside in undrawn:
        if found := _covering(silver[box], inside):
            result[(silver == found) & (gold == 0)] = -1
            continue
        around = _box_around(box, inside, reach, gold.shape)
        result[around][gold[around] == 0] = -1
        boxed += 1
    parts = [f"{len(undrawn) - boxed} by their silver masks"] if boxed < len(undrawn) else []
    if boxed:
        size = " x ".join(str(2 * distance + 1) for distance in reach)
        parts.append(f"{boxed} without silver mask by a box of {size} pixels")
    return result, f"{drawn} are {' and '.join(parts)}"


Box = tuple[slice, ...]
Mask = npt.NDArray[np.bool_]


def _objects(labels: Labels) -> Iterator[tuple[Box, Mask]]:
    """Bounding box and mask inside it for every id above 0."""
    for index, box in enumerate(ndimage.find_objects(np.maximum(labels, 0)), start=1):
        if box is not None:
            yield box, labels[box] == index


def _covering(labels: Labels, inside: Mask) -> int:
    """The id that covers more than half of a mask, 0 where none does."""
    ids, counts = np.unique(labels[inside], return_counts=True)
    best = int(counts.argmax())
    return int(ids[best]) if ids[best] > 0 and 2 * counts[best] > inside.sum() else 0


def _reach(gold: Labels, markers: Labels, silver: Labels) -> tuple[int, ...] | None:
    """How far cells of this frame extend from the centre of their marker, per axis at most."""
    boxes = [dict(enumerate(ndimage.find_objects(np.maximum(masks, 0)), start=1)) for masks in (gold, silver)]
    farthest: list[list[int]] = []
    for box, inside in _objects(markers):
        for masks, found in zip((gold, silver), boxes, strict=True):
            if cell := _covering(masks[box], inside):
                extent = zip(_centre(box, inside), found[cell], strict=True)
                farthest.append([max(side.stop - 1 - c, c - side.start) for c, side in extent])
    return tuple(int(n) for n in np.max(farthest, axis=0)) if farthest else None


def _centre(box: Box, inside: Mask) -> list[int]:
    means = np.argwhere(inside).mean(axis=0).round()
    return [side.start + int(mean) for side, mean in zip(box, means, strict=True)]


def _box_around(box: Box, inside: Mask, reach: tuple[int, ...], shape: tuple[int, ...]) -> Box:
    centre = _centre(box, inside)
    return tuple(slice(max(0, c - r), min(n, c + r + 1)) for c, r, n in zip(centre, reach, shape, strict=True))
