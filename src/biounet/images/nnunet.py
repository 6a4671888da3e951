"""The nnU-Net layout (version 2): ``imagesTr``, ``labelsTr``, ``dataset.json``."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from biounet.errors import DataError
from biounet.images.dataset import Found, Item, Problem, Source
from biounet.images.formats import known_suffix, stem_name
from biounet.images.pairing import image_files

_CHANNEL = re.compile(r"^(?P<case>.+)_(?P<channel>\d{4})$")


def nnunet(folder: Path) -> Found | None:
    """Cases of ``imagesTr/CASE_0000.*`` (one file per channel) with ``labelsTr/CASE.*``.

    ``dataset.json``, where it is there, declares the class values and an ignore label; stacks without
    axes are volumes.
    """
    images, labels = folder / "imagesTr", folder / "labelsTr"
    if not images.is_dir() or not labels.is_dir():
        return None
    values, ignore = _declared(folder / "dataset.json")
    masks = {stem_name(file): file for file in image_files(labels)}
    channels = _channels(images)
    counts = {len(files) for files in channels.values()}
    items, problems = [], []
    for case, files in sorted(channels.items()):
        sources = tuple(Source(files[channel]) for channel in sorted(files))
        if case not in masks:
            problems.append(Problem(case, "has no mask of its name in labelsTr", "unpaired"))
        elif sorted(files) != list(range(max(counts))):
            fault = f"has the channels {sorted(files)}, others {max(counts)} of them"
            problems.append(Problem(case, fault, "channels"))
        else:
            items.append(Item(case, sources, Source(masks[case]), ignore_value=ignore))
    alone = sorted(masks.keys() - channels.keys())
    problems += [Problem(name, "is a mask without an image in imagesTr", "unpaired") for name in alone]
    return Found(
        tuple(items),
        _reasons(len(items), max(counts, default=1), values, ignore),
        tuple(problems),
        pages="volume",
        task="classes" if values else None,
        values=values,
    )


def _reasons(cases: int, channels: int, values: tuple[int, ...], ignore: int | None) -> tuple[str, ...]:
    reasons = [f"{cases} cases of {channels} channel(s) in imagesTr with masks in labelsTr"]
    if values:
        reasons.append(f"dataset.json declares the classes {', '.join(map(str, values))}")
    if ignore is not None:
        reasons.append(f"dataset.json declares {ignore} as ignore label: unknown")
    return tuple(reasons)


def _channels(images: Path) -> dict[str, dict[int, Path]]:
    cases: dict[str, dict[int, Path]] = {}
    for file in image_files(images):
        name = file.name[: len(file.name) - len(known_suffix(file))]
        found = _CHANNEL.match(name)
        case, channel = (found["case"], int(found["channel"])) if found else (name, 0)
        cases.setdefault(case, {})[channel] = file
    return cases


def _declared(path: Path) -> tuple[tuple[int, ...], int | None]:
    """Class values and the ignore value of ``dataset.json``; regions count with all their values."""
    if not path.is_file():
        return (), None
    try:
        labels: dict[str, Any] = dict(json.loads(path.read_text(encoding="utf-8"))["labels"])
        if all(name.isdecimal() for name in labels):  # version 1 writes value: name
            labels = {name: int(value) for value, name in labels.items()}
        ignore = labels.pop("ignore", None)
        values = {_value(v) for value in labels.values() for v in (value if isinstance(value, list) else [value])}
        unknown = None if ignore is None else _value(ignore)
    except (OSError, KeyError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
        text = " ".join(str(error).split())[:80]
        raise DataError(
            f"{path}: not an nnU-Net dataset.json ({type(error).__name__}: {text}); it needs "
            '"labels": {name: value}: mend or remove it'
        ) from error
    return tuple(sorted(values)), unknown


def _value(stated: Any) -> int:
    """A label value; raises ValueError for one that no label image can hold."""
    value = int(stated)
    if not 0 <= value < 1 << 31:
        raise ValueError(f"label value {value} is not between 0 and 2^31 - 1")
    return value
