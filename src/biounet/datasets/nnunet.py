"""The nnU-Net layout (versions 1 and 2): ``imagesTr``, ``labelsTr``, ``dataset.json``."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from biounet.datasets.dataset import Found, Item, Problem, Source
from biounet.datasets.pairing import image_files
from biounet.errors import DataError
from biounet.images.formats import known_suffix, stem_name
from biounet.words import counted

DECLARATION = "dataset.json"
_CHANNEL = re.compile(r"^(?P<case>.+)_(?P<channel>\d{4})$")


@dataclass(frozen=True)
class _Declared:
    """What ``dataset.json`` says: names by class value, the value that is unknown, names of channels in order."""

    classes: dict[int, str]
    ignore: int | None = None
    channels: tuple[str, ...] = ()


def nnunet(folder: Path) -> Found | None:
    """Cases of ``imagesTr/CASE_0000.*`` (one file per channel) with ``labelsTr/CASE.*``.

    ``dataset.json``, where it is there, declares the classes and channels by name and an ignore label;
    stacks without axes are volumes.
    """
    images, labels = folder / "imagesTr", folder / "labelsTr"
    if not images.is_dir() or not labels.is_dir():
        return None
    declared = _declared(folder / DECLARATION)
    channels = _channels(images)
    masks = {_case(file, channels): file for file in image_files(labels)}
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
            items.append(Item(case, sources, Source(masks[case]), ignore_value=declared.ignore))
    alone = sorted(masks.keys() - channels.keys())
    problems += [Problem(name, "is a mask without an image in imagesTr", "unpaired") for name in alone]
    return Found(
        tuple(items),
        _reasons(len(items), max(counts, default=1), declared),
        tuple(problems),
        pages="volume",
        task="classes" if declared.classes else None,
        values=tuple(declared.classes),
        value_names=tuple(declared.classes.values()),
        declared_by=DECLARATION,
        channel_names=declared.channels if len(declared.channels) == max(counts, default=1) else (),
    )


def channel_number(path: Path) -> tuple[str, int] | None:
    """Case and channel of a file called ``CASE_0000.*``; None for another name."""
    found = _CHANNEL.match(path.name[: len(path.name) - len(known_suffix(path))])
    return (found["case"], int(found["channel"])) if found else None


def case_files(path: Path) -> tuple[Path, ...]:
    """The files of the channels of a case, in their order, where ``path`` is its first, ``CASE_0000.*``; else ()."""
    first = channel_number(path)
    if first is None or first[1] != 0:
        return ()
    suffix = path.name.removeprefix(f"{first[0]}_0000")
    files = [path]
    while (following := path.with_name(f"{first[0]}_{len(files):04}{suffix}")).exists():
        files.append(following)
    return tuple(files)


def declared_channels(folder: Path) -> tuple[str, ...]:
    """The channels that ``dataset.json`` in a folder names, in their order; () without one that can be read."""
    try:
        return _declared(folder / DECLARATION).channels
    except DataError:
        return ()


def _case(file: Path, cases: Collection[str]) -> str:
    """The case of a mask, whose name may end as that of a first channel does."""
    whole = file.name[: len(file.name) - len(known_suffix(file))]
    return whole if whole in cases else stem_name(file)


def _reasons(cases: int, channels: int, declared: _Declared) -> tuple[str, ...]:
    reasons = [f"{counted(cases, 'case')} of {counted(channels, 'channel')} in imagesTr with masks in labelsTr"]
    if declared.classes:
        listed = ", ".join(f"{value} {name}" for value, name in declared.classes.items())
        reasons.append(f"{DECLARATION} declares the classes {listed}")
    if declared.ignore is not None:
        reasons.append(f"{DECLARATION} declares {declared.ignore} as ignore label: unknown")
    if declared.channels and len(declared.channels) != channels:
        count = len(declared.channels)
        reasons.append(f"{DECLARATION} names {count} channels, the cases have {channels}: by position")
    elif declared.channels:
        reasons.append(f"{DECLARATION} names the channels {', '.join(declared.channels)}")
    return tuple(reasons)


def _channels(images: Path) -> dict[str, dict[int, Path]]:
    cases: dict[str, dict[int, Path]] = {}
    for file in image_files(images):
        case, channel = channel_number(file) or (stem_name(file), 0)
        cases.setdefault(case, {})[channel] = file
    return cases


def _declared(path: Path) -> _Declared:
    """The content of ``dataset.json``; a class value of several regions has all their names."""
    if not path.is_file():
        return _Declared({})
    with _one_line(path):
        content = json.loads(path.read_text(encoding="utf-8"))
        labels: dict[str, Any] = dict(content["labels"])
        if all(name.isdecimal() for name in labels):  # version 1 writes value: name
            labels = {name: int(value) for value, name in labels.items()}
        ignore = labels.pop("ignore", None)
        names: dict[int, list[str]] = {}
        for name, value in labels.items():
            for one in value if isinstance(value, list) else [value]:
                names.setdefault(_value(one), []).append(str(name))
        channels = dict(content.get("channel_names") or content.get("modality") or {})
        numbers = {int(number): str(name).strip() for number, name in channels.items()}
        listed = tuple(numbers[number] for number in sorted(numbers))
        named = sorted(numbers) == list(range(len(numbers))) and all(listed) and len(set(listed)) == len(listed)
        unknown = None if ignore is None else _value(ignore)
        return _Declared(_unique({value: " + ".join(names[value]) for value in sorted(names)}), unknown,
                         listed if named else ())  # fmt: skip


def _unique(names: dict[int, str]) -> dict[int, str]:
    """Names with their value where several values, as those of one region, are called the same."""
    called = list(names.values())
    return {value: f"{name} {value}" if called.count(name) > 1 else name for value, name in names.items()}


@contextmanager
def _one_line(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, KeyError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
        text = " ".join(str(error).split())[:80]
        raise DataError(
            f"{path}: not an nnU-Net dataset.json ({type(error).__name__}: {text}); it needs "
            '"labels": {name: value}: mend or remove it'
        ) from error


def _value(stated: Any) -> int:
    """A label value; raises ValueError for one that no label image can hold."""
    value = int(stated)
    if not 0 <= value < 1 << 31:
        raise ValueError(f"label value {value} is not between 0 and 2^31 - 1")
    return value
