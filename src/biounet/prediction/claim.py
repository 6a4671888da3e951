"""Whose work a folder of blocks is: the plan in it, agreed on by all processes that compute there."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from biounet.errors import BiounetError, DataError, UsageError
from biounet.images.writing import whole_file
from biounet.prediction.block_store import FolderStore

_NAMED = {  # what tells tiles from others, by the names of the command line
    "model": "model",
    "input": "image, or it was changed",
    "channels": "--channels",
    "level": "--pixel-size",
    "shape": "--pixel-size",
    "engine": "engine",
    "precision": "--precision",
    "tta": "--tta",
    "kept": "--save",
    "tile": "--tile",
    "region": "--region",
    "postprocessing": "post-processing",
}
_TOGETHER_S = 1.0  # within which processes begin together
_LONG = ("model", "input", "channels", "level", "shape", "kept", "region", "postprocessing")  # whose values say little


def identity_of(path: Path) -> dict[str, Any]:
    """What tells an input from another: its name, size and time of change."""
    try:
        facts = os.stat(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the name") from error
    return {"name": path.name, "bytes": facts.st_size, "changed": facts.st_mtime_ns}


def claim(
    store: FolderStore, identity: Mapping[str, Any], decide: Callable[[], dict[str, Any]], *, shared: bool
) -> dict[str, Any]:
    """What stands in the folder's plan; where there is none of this identity, one with what ``decide`` says.

    The tiles of another identity go, unless the folder is ``shared``: they may be the work of other shards.
    """
    path = store.folder / "plan.json"
    plain = json.loads(json.dumps(identity))
    for _ in range(100):
        try:
            stored: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            stored = {}
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: cannot be read ({error}); delete the folder and run again") from error
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


def _unlike(folder: Path, there: Mapping[str, Any], asked: Mapping[str, Any]) -> str:
    """What tells the tiles in a folder from those that are asked for."""
    known = [(key, name) for key, name in _NAMED.items() if there.get(key) != asked.get(key)]
    said = [
        name if key in _LONG else f"{name} {_shown(there.get(key))} (now {_shown(asked.get(key))})"
        for key, name in known
    ]
    return (
        f"{folder}: its tiles were made with another {' and another '.join(said) or 'plan'}; all shards and the merge "
        "take the same model, images and options: give those, or begin in another --out"
    )


def _shown(value: object) -> str:
    return "by itself" if value is None else f"'{value}'" if isinstance(value, str) else str(value)
