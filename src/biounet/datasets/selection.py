"""Naming some of the images: ``slices 20-23``, a folder, a list file or names with commas."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from biounet.errors import UsageError
from biounet.images.formats import known_suffix, stem_name

_RANGE = re.compile(r"\s*(?:slices?|frames?|images?|pages?)\s+(\d[\d\s,-]*)", re.IGNORECASE)
_PART = re.compile(r"(\d+)(?:-(\d+))?")
_SHOWN = 6


def select(names: Sequence[str], text: str, option: str) -> list[int]:
    """Positions in ``names`` that ``text`` names, in order.

    ``text``: ``slices 20-23`` or ``images 0,4,7`` (positions from 0, as in the printed list), an
    existing folder (the names of its images, those that are here), an existing text file (a name a
    line), or names separated by commas. The NAME of a stack stands for all its pages ``NAME[00]``,
    ``NAME[01]``, ... Raises `UsageError` naming ``option`` when something matches nothing.
    """
    if found := _RANGE.fullmatch(text):
        return _positions(found.group(1), len(names), option)
    called, path = _called(names), Path(text)
    if _is_there(text) and path.is_dir() and not known_suffix(path):
        inside = {_bare(entry.name) for entry in path.iterdir() if known_suffix(entry)}
        if chosen := [i for i, own in enumerate(called) if own & inside]:
            return chosen
        raise UsageError(f"{option} {text}: none of its files has the name of an image here ({_shown(names)})")
    wanted = _wanted(_listed(path, text, option))
    known = set().union(*called)
    missing = [written for name, written in wanted.items() if name not in known]
    if missing or not wanted:
        raise UsageError(f"{option} {_shown(missing) or repr(text)}: no image of this name; there are {_shown(names)}")
    return [i for i, own in enumerate(called) if own & wanted.keys()]


def text_of(names: Sequence[str], chosen: Sequence[int]) -> str:
    """What `select` reads as these positions: the names with commas between, or ``images 0,4`` where those mislead.

    They do where a name has a comma, stands for several images or reads as positions.
    """
    text = ",".join(names[index] for index in chosen)
    wanted = _wanted(text.split(",")).keys()
    if not _RANGE.fullmatch(text) and [i for i, own in enumerate(_called(names)) if own & wanted] == list(chosen):
        return text
    return f"images {','.join(map(str, chosen))}"


def _called(names: Sequence[str]) -> list[set[str]]:
    """What each image is called: by its name, and as a page by that of its stack."""
    return [{_bare(name), re.sub(r"\[\d+\]$", "", _bare(name))} for name in names]


def _wanted(written: Sequence[str]) -> dict[str, str]:
    """Each name that is not empty, without what tells a file, and as it was written."""
    return {_bare(line.strip()): line.strip() for line in written if line.strip()}


def _positions(text: str, count: int, option: str) -> list[int]:
    chosen: set[int] = set()
    for part in re.sub(r"\s*([,-])\s*", r"\1", text.strip()).split(","):
        found = _PART.fullmatch(part)
        if found is None:
            raise UsageError(f"{option} {text!r}: write positions as 20-23 or 0,4,7")
        first, last = int(found[1]), int(found[2] or found[1])
        if not first <= last < count:
            raise UsageError(f"{option} {text!r}: positions run from 0 to {count - 1}, the smaller one first")
        chosen.update(range(first, last + 1))
    return sorted(chosen)


def _listed(path: Path, text: str, option: str) -> list[str]:
    if not _is_there(text) or known_suffix(path):
        return text.split(",")
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{option} {text}: cannot be read as a list of names ({error}); give a text file") from error


def _is_there(text: str) -> bool:
    """Whether a file or folder is called so; False also for what is too long for a name."""
    try:
        return bool(text.strip()) and Path(text).exists()
    except (OSError, ValueError):
        return False


def _bare(name: str) -> str:
    return stem_name(name) if known_suffix(name) else name


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (" ..." if len(names) > _SHOWN else "")
