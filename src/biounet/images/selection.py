"""Naming some of the images: ``slices 20-23``, a folder, a list file or names with commas."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from biounet.errors import UsageError

_RANGE = re.compile(r"^\s*(?:slices?|frames?|images?|pages?)\s+([\d\s,-]+)$", re.IGNORECASE)


def select(names: Sequence[str], text: str, option: str) -> list[int]:
    """Positions in ``names`` that ``text`` names, in order.

    ``text``: ``slices 20-23`` or ``images 0,4,7`` (positions from 0, as in the printed list), an
    existing folder (all names of its files), an existing text file (a name a line), or names
    separated by commas. Raises `UsageError` naming ``option`` when one matches nothing.
    """
    if found := _RANGE.match(text):
        return _positions(found.group(1), len(names), option)
    path = Path(text)
    if path.is_dir():
        wanted = sorted({_bare(p.name) for p in path.iterdir() if p.is_file()})
        chosen = [i for i, name in enumerate(names) if _bare(name) in wanted]
        if not chosen:
            raise UsageError(f"{option} {text}: none of its files has the name of an image here")
        return chosen
    listed = path.read_text(encoding="utf-8").splitlines() if path.is_file() else text.split(",")
    wanted = [line.strip() for line in listed if line.strip()]
    missing = [w for w in wanted if not any(_matches(name, w) for name in names)]
    if missing or not wanted:
        raise UsageError(
            f"{option} {', '.join(missing) or repr(text)}: no image of this name; "
            f"there are {', '.join(names[:6])}{' ...' if len(names) > 6 else ''}"
        )
    return [i for i, name in enumerate(names) if any(_matches(name, w) for w in wanted)]


def _positions(text: str, count: int, option: str) -> list[int]:
    chosen: set[int] = set()
    for part in text.replace(" ", "").split(","):
        first, _, last = part.partition("-")
        if not first:
            raise UsageError(f"{option} {text!r}: write positions as 20-23 or 0,4,7")
        chosen.update(range(int(first), int(last or first) + 1))
    if not chosen or max(chosen) >= count:
        raise UsageError(f"{option} {text!r}: positions run from 0 to {count - 1}")
    return sorted(chosen)


def _bare(name: str) -> str:
    return re.sub(r"(\.ome)?\.[A-Za-z]{2,4}(\.gz)?$", "", name)


def _matches(name: str, wanted: str) -> bool:
    return name == wanted or _bare(name) == _bare(wanted)
