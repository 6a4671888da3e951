"""Whose work a folder of blocks is: the plan in it, agreed on by all processes that compute there."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from biounet.errors import BiounetError, DataError, UsageError
from biounet.images.writing import whole_file
from biounet.prediction.block_store import FolderStore

_PLAN = "plan.json"
_NAMED = {  # what tells tiles from others, by the names of the command line
    "biounet": "version of biounet",
    "model_sha256": "model",
    "input": "image, or it was changed",
    "channels": "--channels",
    "level": "--pixel-size",
    "shape": "--pixel-size",
    "engine": "engine",
    "engine_file": "file of --engine",
    "precision": "--precision",
    "calibration": "--calibrate",
    "tta": "--tta",
    "kept": "--save",
    "tile": "--tile",
    "region": "--region",
    "postprocessing": "post-processing",
}
_TOGETHER_S = 1.0  # within which processes begin together
_SHOWN = ("biounet", "engine", "precision", "tta", "tile")  # whose values say something
_ADDED = "labels"  # the folder in OME-Zarr images that labels are written into
_LISTS = ("zarr.json", ".zmetadata")  # ends of names of what lists labels, too


def identity_of(path: Path) -> dict[str, Any]:
    """What tells an input from another: its name, and names, sizes and times of change of the files with its pixels.

    Those are all files of a folder, but for labels in it and what lists them; of a MIRAX slide also those of the
    folder beside it. Raises `DataError` where they cannot be read.
    """
    beside = path.with_suffix("")
    try:
        files = [*_files(path), *(_files(beside) if path.suffix.lower() == ".mrxs" and beside.is_dir() else ())]
        facts = [(file.relative_to(path.parent).as_posix(), file.stat()) for file in files]
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the name") from error
    lines = [f"{name} {fact.st_size} {fact.st_mtime_ns}\n" for name, fact in facts]
    return {
        "name": path.name,
        "bytes": sum(fact.st_size for _, fact in facts),
        "files": hashlib.sha256("".join(sorted(lines)).encode()).hexdigest(),
    }


def _files(path: Path) -> Iterator[Path]:
    """The file itself, or the files in a folder that hold pixels."""
    if not path.is_dir():
        yield path
    for folder, inner, names in os.walk(path):
        inner[:] = [name for name in inner if name != _ADDED]
        yield from (Path(folder, name) for name in names if not name.endswith(_LISTS))


def claim(
    store: FolderStore, identity: Mapping[str, Any], decide: Callable[[], dict[str, Any]], *, shared: bool
) -> dict[str, Any]:
    """What stands in the folder's plan; where there is none of this identity, one with what ``decide`` says.

    The tiles of another identity go, unless the folder is ``shared``: they may be the work of other shards.
    """
    path = store.folder / _PLAN
    plain = json.loads(json.dumps(identity))
    for _ in range(100):
        stored = _read(path)
        if stored and stored.get("identity") == plain:
            return stored
        if stored and shared:
            raise UsageError(_unlike(store.folder, stored.get("identity") or {}, plain))
        if stored:
            store.clear()
        decided = decide()
        mine = path.with_name(f"plan.{os.getpid()}.{time.time_ns()}.json")
        with whole_file(mine) as temporary:
            temporary.write_text(json.dumps({"identity": identity, **decided}, indent=1), encoding="utf-8")
        try:
            os.link(mine, path)  # fails where another process was faster
        except FileExistsError:
            continue
        except OSError:  # a file system without links: the last of those who begin together decides
            os.replace(mine, path)
            time.sleep(_TOGETHER_S)
        finally:
            mine.unlink(missing_ok=True)
    raise BiounetError(f"{path}: other processes work in this folder on something else; give each its own --out")


def claimed(store: FolderStore) -> dict[str, Any]:
    """What stands in the folder's plan, for work that another process began. Raises `DataError` where there is none."""
    stored = _read(store.folder / _PLAN)
    if not stored:
        raise DataError(f"{store.folder}: no work was begun here, or it is not the folder that all see; check --out")
    return stored


def _read(path: Path) -> dict[str, Any]:
    """A plan; empty where there is none."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}); delete the folder and run again") from error


def _unlike(folder: Path, there: Mapping[str, Any], asked: Mapping[str, Any]) -> str:
    """What tells the tiles in a folder from those that are asked for."""
    known = [(key, name) for key, name in _NAMED.items() if there.get(key) != asked.get(key)]
    said = [
        f"{name} {_shown(there.get(key))} (now {_shown(asked.get(key))})" if key in _SHOWN else name
        for key, name in known
    ]
    return (
        f"{folder}: its tiles were made with another {' and another '.join(said) or 'plan'}; all shards and the merge "
        "take the same model, images and options: give those, or begin in another --out"
    )


def _shown(value: object) -> str:
    return "by itself" if value is None else f"'{value}'" if isinstance(value, str) else str(value)
