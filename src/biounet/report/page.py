"""One HTML file that opens from disk, needs no network and stays below five megabytes.

A page is a title, a lead and sections of blocks; what the blocks say is the caller's affair. Figures
are layers to toggle, zoom and pan. Nothing on the page depends on time, place or machine.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from biounet.errors import UsageError
from biounet.images.writing import whole_file
from biounet.report.curves import line_chart
from biounet.report.embedding import embed

Picture = npt.NDArray[np.uint8]

LIMIT_BYTES = 5_000_000
MOST_ROWS = 500
_LONG_CELL = 40  # letters from which on a cell may take several lines


@dataclass(frozen=True)
class Text:
    """Plain text; an empty line starts a new paragraph."""

    text: str


@dataclass(frozen=True)
class Code:
    """Text to copy: commands, shown as they are, or with ``wraps`` prose in lines as wide as the page."""

    text: str
    title: str = ""
    wraps: bool = False


@dataclass(frozen=True)
class Numbers:
    """A few numbers in large type: (what it is, the value, a short note)."""

    items: Sequence[tuple[str, object, str]]


@dataclass(frozen=True)
class Table:
    """Rows under a header; the first column names the row. Only the first 500 rows are shown.

    Floats have three decimals, fewer from 10 on, or three digits where a column holds values below
    0.001; None and NaN are a dash.
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[object]]
    note: str = ""


@dataclass(frozen=True, eq=False)
class Figure:
    """Layers of one size, uint8: (Y, X, 3) take turns as background, (Y, X, 4) lie over it.

    ``shown``: names of the layers seen at first (default: the first background and the first layer
    over it). ``legend``: what colours mean.
    """

    title: str
    layers: Mapping[str, Picture]
    note: str = ""
    shown: Sequence[str] | None = None
    legend: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Curve:
    """Lines over a common x; values that are not finite are left out."""

    title: str
    x: Sequence[float]
    series: Mapping[str, Sequence[float]]
    x_label: str = ""
    y_label: str = ""
    note: str = ""


Block = Text | Code | Numbers | Table | Figure | Curve


@dataclass(frozen=True, eq=False)
class Section:
    """A heading and what stands below it."""

    title: str
    blocks: Sequence[Block]


def write_page(path: str | Path, *, title: str, lead: str, sections: Sequence[Section], reload_s: int = 0) -> None:
    """Write the page to ``path``, whole or not at all; with ``reload_s`` browsers read it again after so many seconds.

    Large pictures are made smaller until the file is below 5,000,000 bytes. Raises `UsageError`
    for blocks that contradict themselves (rows longer than the header, layers that differ in size)
    and for more text than fits.
    """
    html = page_html(title=title, lead=lead, sections=sections, reload_s=reload_s)
    with whole_file(path) as temporary:
        temporary.write_text(html, encoding="utf-8", newline="\n")


def page_html(*, title: str, lead: str, sections: Sequence[Section], reload_s: int = 0) -> str:
    """The page as text; see `write_page`."""
    figures = [block for section in sections for block in section.blocks if isinstance(block, Figure)]
    pictures = [picture for figure in figures for picture in _checked(figure).layers.values()]
    content = [{"title": s.title, "blocks": [_prepared(block) for block in s.blocks]} for s in sections]
    bare = _render(title, lead, reload_s, content, iter([""] * len(pictures)))
    budget = LIMIT_BYTES - len(bare.encode("utf-8", "backslashreplace")) - 1000
    addresses = embed(pictures, budget) if pictures else []
    html = _render(title, lead, reload_s, content, iter(addresses))
    html = html.encode("utf-8", "backslashreplace").decode()  # a file's name may hold any bytes
    if len(html.encode()) > LIMIT_BYTES:
        raise UsageError(
            f"report {title!r}: {len(bare.encode())} bytes of text and {len(pictures)} pictures do not fit "
            f"into {LIMIT_BYTES} bytes; give it fewer rows or figures"
        )
    return html


def _render(title: str, lead: str, reload_s: int, sections: list[dict[str, Any]], addresses: Any) -> str:
    from jinja2 import Environment, StrictUndefined

    folder = files("biounet.report")
    parts = {name: folder.joinpath(f"page.{name}").read_text(encoding="utf-8") for name in ("html", "css", "js")}
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(parts["html"])
    return template.render(
        title=title,
        lead=_paragraphs(lead),
        reload_s=reload_s,
        sections=sections,
        css=parts["css"],
        js=parts["js"],
        address=lambda: next(addresses),
    )


def _prepared(block: Block) -> dict[str, Any]:
    """What the template shows of a block, everything but the pictures' addresses."""
    kind = type(block).__name__.lower()
    match block:
        case Text():
            return {"kind": kind, "paragraphs": _paragraphs(block.text)}
        case Code():
            return {"kind": kind, "title": block.title, "text": block.text.strip("\n"), "wraps": block.wraps}
        case Numbers():
            items = [(name, _shown([value])[0], note) for name, value, note in block.items]
            return {"kind": kind, "items": items}
        case Table():
            return {"kind": kind, **_table(block)}
        case Curve():
            return {"kind": kind, **_curve(block)}
        case Figure():
            return {"kind": kind, **_figure(block)}


def _paragraphs(text: str) -> list[str]:
    return [part.strip() for part in text.split("\n\n") if part.strip()]


def _table(table: Table) -> dict[str, Any]:
    width = len(table.header)
    for number, row in enumerate(table.rows):
        if len(row) != width:
            raise UsageError(
                f"table {table.title!r}: row {number} has {len(row)} cells, the header {width}; they must be equal"
            )
    hidden = max(0, len(table.rows) - MOST_ROWS)
    more = f"The first {MOST_ROWS} of {len(table.rows)} rows. " if hidden else ""
    columns = list(zip(*table.rows[:MOST_ROWS], strict=True)) or [()] * width
    looks = [_look(column) for column in columns]
    rows = list(zip(*map(_shown, columns), strict=True))
    return {
        "title": table.title,
        "header": list(zip(table.header, looks, strict=True)),
        "rows": [list(zip(row, looks, strict=True)) for row in rows],
        "note": more + table.note,
    }


def _look(column: Sequence[object]) -> str:
    """The CSS class of a column: numbers stand to the right, words may take several lines."""
    if column and all(isinstance(value, int | float | np.number | None) for value in column):
        return "number"
    return "words" if any(len(str(value)) > _LONG_CELL for value in column) else ""


def _shown(values: Sequence[object]) -> list[str]:
    """The cells of one column as text, its floats with equally many decimals."""
    sizes = [abs(float(v)) for v in values if isinstance(v, float | np.floating)]
    sizes = [size for size in sizes if math.isfinite(size) and size > 0]
    decimals = max(0, 3 - math.floor(math.log10(max([1.0, *sizes]))))
    form = ".3g" if sizes and min(sizes) < 0.001 else f".{decimals}f"
    return [_cell(value, form) for value in values]


def _cell(value: object, form: str) -> str:
    if value is None or (isinstance(value, float | np.floating) and math.isnan(value)):
        return "–"
    return format(value, form) if isinstance(value, float | np.floating) else str(value)


def _curve(curve: Curve) -> dict[str, Any]:
    """Two drawings of the same curve: wide, and narrow for a phone, where letters would shrink."""
    draw = partial(line_chart, curve.title, curve.x, curve.series, x_label=curve.x_label, y_label=curve.y_label)
    wide, narrow = draw(width=720, height=300), draw(width=360, height=260)
    names = [(number % 6, name) for number, name in enumerate(curve.series)]
    return {"title": curve.title, "wide": wide, "narrow": narrow, "names": names, "note": curve.note}


def _checked(figure: Figure) -> Figure:
    layers = figure.layers
    wrong = [n for n, p in layers.items() if p.dtype != np.uint8 or p.ndim != 3 or p.shape[2] not in (3, 4)]
    sizes = {picture.shape[:2] for picture in layers.values()}
    unknown = sorted(set(figure.shown or ()) - set(layers))
    if not layers or wrong or len(sizes) > 1 or unknown or 0 in next(iter(sizes)):
        shapes = {name: (picture.dtype.name, picture.shape) for name, picture in layers.items()}
        raise UsageError(
            f"figure {figure.title!r}: layers {shapes}, shown {figure.shown}; layers must be uint8 (Y, X, 3) "
            "or (Y, X, 4) of one size, at least one, and shown their names"
        )
    return figure


def _figure(figure: Figure) -> dict[str, Any]:
    height, width = next(iter(figure.layers.values())).shape[:2]
    base = [name for name, picture in figure.layers.items() if picture.shape[2] == 3]
    over = [name for name in figure.layers if name not in base]
    shown = set(base[:1] + over[:1] if figure.shown is None else figure.shown)
    layers = [
        {"name": name, "over": name in over, "shown": name in shown, "key": number if number < 10 else 0}
        for number, name in enumerate(figure.layers, start=1)
    ]
    legend = [(name, "#{:02x}{:02x}{:02x}".format(*colour)) for name, colour in figure.legend.items()]
    size = {"width": width, "height": height}
    return {"title": figure.title, "layers": layers, "legend": legend, "note": figure.note, **size}
