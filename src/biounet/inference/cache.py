"""What takes long to make and can be made again: kept in a cache folder, checked at every use.

An entry is a folder named by a hash of all it was made from. It appears whole, by one rename, and
holds a list of its files' SHA-256; an entry that does not match is made anew.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

_LIST = "sha256.json"
_LARGEST = 4_000_000_000  # bytes of all entries together; the least recently used ones go


def cache_folder() -> Path:
    """Where entries lie: the system's place for caches."""
    from platformdirs import user_cache_path

    return user_cache_path("biounet", appauthor=False) / "engines"


def cached(facts: Mapping[str, Any], make: Callable[[Path], None], *, folder: Path | None = None) -> Path:
    """The folder of the entry for these facts; ``make(folder)`` fills it where there is none.

    ``facts``: plain values, everything that the content depends on. Where the cache cannot be
    written to, a temporary folder is used.
    """
    place = folder or cache_folder()
    entry = place / hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]
    if _is_whole(entry):
        with suppress(OSError):
            os.utime(entry)
        return entry
    made = _new_folder(place)
    try:
        make(made)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise
    listed = {path.name: _digest(path) for path in made.iterdir()}
    (made / _LIST).write_text(json.dumps(listed), encoding="utf-8")
    if _kept_as(entry, made):
        _forget_oldest(place, keep=entry)
        return entry
    return made


def _kept_as(entry: Path, made: Path) -> bool:
    """Give a new folder its name; False where the cache does not take it.

    An entry that another process made meanwhile stays, as that process may be reading it, and the new folder goes. A
    damaged one is renamed before it is removed, so that the name never stands for a part of it.
    """
    try:
        if not _is_whole(entry):
            if entry.exists():
                aside = entry.rename(entry.with_name(f"{made.name}.old"))
                shutil.rmtree(aside, ignore_errors=True)
            made.rename(entry)
            return True
    except OSError:  # another process was faster, or the cache is a temporary folder
        if not _is_whole(entry):
            return False
    shutil.rmtree(made, ignore_errors=True)
    return True


def _new_folder(place: Path) -> Path:
    try:
        place.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=".part.", dir=place))
    except OSError:
        return Path(tempfile.mkdtemp(prefix="biounet."))


def _is_whole(entry: Path) -> bool:
    try:
        listed = json.loads((entry / _LIST).read_text(encoding="utf-8"))
        return bool(listed) and all(_digest(entry / name) == digest for name, digest in listed.items())
    except (OSError, ValueError, AttributeError):
        return False


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _forget_oldest(place: Path, *, keep: Path) -> None:
    """Drop the least recently used entries until all together are small enough."""
    with suppress(OSError):
        entries = sorted((e for e in place.iterdir() if e.is_dir()), key=lambda e: e.stat().st_mtime, reverse=True)
        total = 0
        for entry in entries:
            total += sum(file.stat().st_size for file in entry.iterdir())
            if total > _LARGEST and entry != keep:
                shutil.rmtree(entry, ignore_errors=True)
