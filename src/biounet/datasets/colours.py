"""RGB masks: which colour means what."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from biounet.datasets.dataset import IGNORED, Colour
from biounet.errors import DataError, UsageError

FILE_NAME = "colours.csv"
_WRITTEN = re.compile(r"#?([0-9a-fA-F]{6})\s*=\s*(.+)")


def parse_colours(texts: Sequence[str]) -> tuple[Colour, ...]:
    """Colours written as ``RRGGBB=name``, the background first. Raises `UsageError` for another form."""
    found = []
    for text in texts:
        match = _WRITTEN.fullmatch(text.strip())
        if match is None:
            raise UsageError(f"data.colours {text!r}: write RRGGBB=name, as 000000=background,ff0000=nerve")
        found.append(Colour(_rgb(match[1]), match[2].strip()))
    return tuple(found)


def read_colours(path: Path) -> tuple[Colour, ...]:
    """A CSV of ``RRGGBB,name`` a line, the background first; raises `DataError` for other content."""
    try:
        rows = [row for row in csv.reader(path.read_text(encoding="utf-8-sig").splitlines()) if row]
        return parse_colours([f"{row[0].strip()}={row[1].strip()}" for row in rows])
    except (OSError, UnicodeDecodeError, IndexError, UsageError, csv.Error) as error:
        raise DataError(f"{path}: not a list of colours ({error}); write a line RRGGBB,name for each") from error


def colours_beside(path: Path) -> tuple[Colour, ...]:
    """What the list of colours in the folder of a mask says; () where there is none."""
    file = path.parent / FILE_NAME
    return read_colours(file) if file.is_file() else ()


def by_colour(plane: npt.NDArray[Any], colours: Sequence[Colour], source: str | Path) -> npt.NDArray[np.int32]:
    """Values of an RGB mask (3, Y, X) uint8: position of the colour's name among all names, int32 (Y, X).

    "ignore" becomes -1. Raises `DataError` naming a colour that is not in the list.
    """
    names = list(dict.fromkeys(colour.name for colour in colours if colour.name != IGNORED))
    packed = (plane[0].astype(np.int64) << 16) | (plane[1].astype(np.int64) << 8) | plane[2].astype(np.int64)
    values = np.full(packed.shape, -2, np.int32)
    for colour in colours:
        red, green, blue = colour.rgb
        value = -1 if colour.name == IGNORED else names.index(colour.name)
        values[packed == (red << 16 | green << 8 | blue)] = value
    if (foreign := values == -2).any():
        first = int(packed[foreign][0])
        raise DataError(
            f"{source}: {int(foreign.sum())} pixels have colours that are not in the list, as {first:06x}; "
            f"add them to {FILE_NAME}, or save the mask without smoothing"
        )
    return values


def _rgb(text: str) -> tuple[int, int, int]:
    return int(text[:2], 16), int(text[2:4], 16), int(text[4:], 16)
