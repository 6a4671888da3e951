"""The findings of a data set as one HTML page with a picture of each, to open without a network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np

from biounet.checks.data import DataCheck
from biounet.checks.finding import SEVERITIES, Finding, Spot
from biounet.datasets.examples import Example
from biounet.report.page import Block, Code, Figure, Numbers, Section, Table, Text, write_page
from biounet.report.pictures import Picture, label_layer, middle_plane, to_rgb

_MOST_PICTURES = 3  # of one kind
_MOST_ROWS = 20  # of one kind
_AROUND = 1.0  # times the size of what is shown, on each side of it
_SMALLEST_VIEW = 48
_LARGEST_VIEW = 512
_MARK = (255, 60, 170)


def write_check_page(path: str | Path, found: DataCheck, command: str = "") -> None:
    """Write the page, whole or not at all and below 5 MB. ``command``: what was typed."""
    counts = Counter(finding.severity for finding in found.findings)
    lead = ", ".join(f"{counts[s]} {s}{'s' * (counts[s] != 1)}" for s in SEVERITIES)
    write_page(
        path,
        title=f"Check of {found.dataset.root.name}",
        lead=f"{lead} in {len(found.examples)} images.",
        sections=[*_sections(found), _described(found), *_repeated(command)],
    )


def _repeated(command: str) -> list[Section]:
    return [Section("How to repeat it", [Code(command, "Command")])] if command else []


def _sections(found: DataCheck) -> Iterator[Section]:
    for (severity, kind), group in groupby(found.findings, key=lambda f: (f.severity, f.kind)):
        listed = list(group)
        title = f"{severity}: {kind.replace('_', ' ')}" + (f" ({len(listed)})" if len(listed) > 1 else "")
        yield Section(title, _blocks(found, listed))


def _blocks(found: DataCheck, listed: Sequence[Finding]) -> list[Block]:
    rows = [(finding.file, finding.evidence) for finding in listed[:_MOST_ROWS]]
    hidden = len(listed) - len(rows)
    note = f"and {hidden} more of this kind; --json lists all" if hidden else ""
    blocks: list[Block] = [
        Table("", ("file", "what was found"), rows, note),
        Text(f"Why it matters: {listed[0].why}."),
    ]
    remedies = list(dict.fromkeys(finding.remedy for finding in listed))
    blocks.append(Code("\n".join(remedies[:_MOST_PICTURES]), "What to do", wraps=True))
    examples = {example.name: example for example in found.seen.shown}
    for finding in listed[:_MOST_PICTURES]:
        for spot in finding.spots:
            if spot.name in examples:
                blocks.append(_figure(examples[spot.name], spot, finding))
    return blocks


def _figure(example: Example, spot: Spot, finding: Finding) -> Figure:
    """Image, labels and the marked place, cut around it."""
    ndim = example.labels.ndim
    image, labels = example.image, example.labels
    box = spot.box
    if box is not None and ndim == 3:  # the plane through the middle of what is marked
        plane = (box[0].start + box[0].stop) // 2
        image, labels, box = image[:, plane], labels[plane], box[1:]
    elif ndim == 3:
        image, labels = middle_plane(image, 3), middle_plane(labels, 3)
    view = _view(labels.shape, box)
    cut, drawn = np.ascontiguousarray(image[(slice(None), *view)]), np.ascontiguousarray(labels[view])
    layers: dict[str, Picture] = {"image": to_rgb(cut, 2), "labels": label_layer(drawn)}
    if box is not None:
        layers["marked"] = _frame(drawn.shape, view, box)
    title = f"{example.name}: {finding.kind.replace('_', ' ')}"
    return Figure(title, layers, note=_where(view), shown=list(layers))


def _view(shape: Sequence[int], box: tuple[slice, ...] | None) -> tuple[slice, ...]:
    """The part of an image to show: all of it up to 512 pixels a side, or what is marked and what is around."""
    if box is None:
        steps = [max(1, -(-n // _LARGEST_VIEW)) for n in shape]
        return tuple(slice(0, n, max(steps)) for n in shape)
    parts = []
    for side, n in zip(box, shape, strict=True):
        size = side.stop - side.start
        around = max(int(_AROUND * size), (_SMALLEST_VIEW - size) // 2, 4)
        parts.append(slice(max(0, side.start - around), min(n, side.stop + around)))
    return tuple(parts)


def _frame(shape: tuple[int, ...], view: tuple[slice, ...], box: tuple[slice, ...]) -> Picture:
    """A frame one pixel outside the box, in the coordinates of the view."""
    layer = np.zeros((*shape, 4), np.uint8)
    top, left = (max(0, b.start - v.start - 1) for b, v in zip(box, view, strict=True))
    bottom, right = (min(n - 1, b.stop - v.start) for b, v, n in zip(box, view, shape, strict=True))
    for line in (np.s_[top, left : right + 1], np.s_[bottom, left : right + 1]):
        layer[line] = (*_MARK, 255)
    for line in (np.s_[top : bottom + 1, left], np.s_[top : bottom + 1, right]):
        layer[line] = (*_MARK, 255)
    return layer


def _where(view: tuple[slice, ...]) -> str:
    y, x = view
    scale = f", one of {y.step} pixels a side" if y.step and y.step > 1 else ""
    return f"rows {y.start} to {y.stop - 1}, columns {x.start} to {x.stop - 1}{scale}"


def _described(found: DataCheck) -> Section:
    """What the folder holds, with the reason for each inference."""
    rows = [
        ("x".join(map(str, e.labels.shape)), len(e.image), str(e.image.dtype), count, f"{e.annotated_share:.0%}")
        for e, count in zip(found.examples, found.objects, strict=True)
    ]
    table = [(e.name, *row) for e, row in zip(found.examples, rows, strict=True)]
    header = ("image", "size", "channels", "type", "objects", "annotated")
    numbers = Numbers((("images", len(found.examples), ""), ("objects", sum(found.objects), "")))
    reasons = Text("\n\n".join(found.reasons))
    return Section("What the folder holds", [numbers, reasons, Table("Images", header, table)])
