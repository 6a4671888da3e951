"""What is predicted: the files that names, folders and patterns stand for, and the model's channels of each."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from biounet.datasets.layouts import OUTPUT_SUFFIXES, find_dataset
from biounet.datasets.pairing import LABEL_SUFFIXES
from biounet.errors import BiounetError, DataError, UsageError
from biounet.images.channels import find_channels
from biounet.images.foreign import advice, foreign_format
from biounet.images.formats import READERS, known_suffix, stem_name
from biounet.images.plates import is_plate, plate_fields
from biounet.model_file import Model
from biounet.prediction.source import merge_cases, source_of
from biounet.words import counted

_REPEATED = 3  # channels of a model that takes colours, to which grey is repeated
_COLOURS = ({"0", "1", "2"}, {"r", "g", "b"}, {"red", "green", "blue"})  # what its channels are called, as sets
_BESIDE = (  # how names end of what belongs to an image, and how that of the image ends
    *((suffix, "") for suffix in (*LABEL_SUFFIXES, *OUTPUT_SUFFIXES, "_region", "_classes")),
    ("-labels", "-volume"),
)
_MOST_NAMED = 3  # folders with images, where one without is given


def find_inputs(
    given: Sequence[str | Path],
    *,
    model: Model | None = None,
    wells: str | None = None,
    notes: list[str] | None = None,
) -> list[Path]:
    """The image files that names, folders and patterns stand for, each once, in order.

    Of a folder all images in it, but no annotations and no results of images beside them; of a data set's folder
    without images of its own the annotated ones; of an OME-Zarr plate the fields of all its wells, or of ``wells``,
    names or patterns with commas as ``"B03,C*"``. Of the files in which the channels of an image lie as the ``model``
    takes them, the first alone (`merge_cases`). ``notes`` takes what is to be said of that. Raises `DataError` where
    something stands for nothing, and `UsageError` where two inputs would have results of the same NAME, or ``wells``
    fits no input.
    """
    found: list[Path] = []
    notes = [] if notes is None else notes
    for item in given:
        path = Path(item)
        if path.is_dir() and not known_suffix(path):  # an OME-Zarr folder counts as one file
            found += _in_folder(path, notes, model)
        elif path.exists():
            found.append(path)
        elif matches := sorted(glob.glob(str(item))):
            found += [Path(m) for m in matches]
        else:
            raise DataError(f"{item}: there is no such file or folder; check the name")
    found = _fields(dict.fromkeys(found), wells)
    if model is not None:
        found, said = merge_cases(found, model)
        notes += said
    names: dict[str, Path] = {}
    for path in found:
        other = names.setdefault(stem_name(path), path)
        if other != path:
            raise UsageError(
                f"{other} and {path} would both be written as {stem_name(path)}; predict them apart, each into a "
                "folder of its own"
            )
    return found


def _in_folder(folder: Path, notes: list[str], model: Model | None) -> list[Path]:
    inside = sorted(p for p in folder.iterdir() if known_suffix(p) and not p.name.startswith("."))
    foreign = sorted(p for p in folder.iterdir() if foreign_format(p))
    if not inside and (what := advice(sorted(folder.iterdir()))):
        raise DataError(f"{folder}: {what}")
    if not inside:
        inside = _of_dataset(folder, model)
        notes.append(f"{folder}: a data set, of which the {len(inside)} annotated images are predicted")
    elif foreign:
        notes.append(f"{folder}: {_some(foreign)} left out: {advice(foreign)}")
    stems = {stem_name(p) for p in inside}
    beside = [p for p in inside if _image_of(stem_name(p)) - {stem_name(p)} & stems]
    if beside:
        notes.append(
            f"{folder}: {_some(beside)} left out: annotations or results of the images beside them; "
            "name files to predict them"
        )
    return [p for p in inside if p not in beside]


def _some(files: Sequence[Path]) -> str:
    return ", ".join(p.name for p in files[:_MOST_NAMED]) + (", ..." if len(files) > _MOST_NAMED else "")


def _of_dataset(folder: Path, model: Model | None) -> list[Path]:
    """The images of a data set that has them in folders of its own; of those whose channels are files the first."""
    try:
        items = find_dataset(folder).items
    except BiounetError:
        items = ()
    if not items:
        raise DataError(f"{folder}: holds no image of a known format ({', '.join(READERS)}); {_named(folder)}")
    for item in items:
        if model is not None and len(item.channels) > 1 == len(source_of(item.image.path, model).files):
            raise DataError(
                f"{folder}: {item.name} has {len(item.channels)} channels, in a file each; the model takes "
                f"{len(model.channels)}: name the files of those"
            )
    return list(dict.fromkeys(item.image.path for item in items))


def _image_of(stem: str) -> set[str]:
    """What an image may be called whose annotation or result a file of this name is."""
    return {stem[: -len(s)] + image for s, image in _BESIDE if stem.lower().endswith(s)}


def _named(folder: Path) -> str:
    """What to name instead of a folder without images: those inside that have some."""
    inside = [p for p in sorted(folder.iterdir()) if p.is_dir() and any(map(known_suffix, p.iterdir()))]
    named = [f"'{p}'" if " " in str(p) else str(p) for p in inside[:_MOST_NAMED]]
    return f"name a folder of images, as {' or '.join(named)}" if named else "name a folder of images"


def _fields(paths: Iterable[Path], wells: str | None) -> list[Path]:
    """The same paths, plates replaced by the images in them."""
    found: list[Path] = []
    plates = 0
    for path in paths:
        if known_suffix(path) == ".zarr" and is_plate(path):
            found += [field for _, field in plate_fields(path, wells)]
            plates += 1
        else:
            found.append(path)
    if wells is not None and not plates:
        raise UsageError(f"--wells {wells!r}: no input is an OME-Zarr plate; name one, or leave it out")
    return found


def select_channels(
    plane: npt.NDArray[Any],
    model: Model,
    channels: Sequence[int | str] | None,
    path: Path,
    *,
    stated: Sequence[str] = (),
) -> npt.NDArray[Any]:
    """The model's channels of an image (C, *spatial); grey is repeated for a model of red, green and blue.

    ``stated``: names of its channels, where its file states them.
    Without ``channels`` a model that learnt channels by name takes those of the same names, where the file
    names its channels; one that learnt from chosen positions (not the first few) takes the same ones. Raises
    `DataError` that lists what the file has where one is missing or stands there twice.
    """
    names = model.channels
    stated = stated if len(stated) == len(plane) else ()
    by_position = all(name.isdecimal() for name in names)
    if channels is None and ((stated and not by_position) or (by_position and not _are_the_first(names))):
        channels = names
    if channels is not None:
        try:
            plane = plane[find_channels(channels, stated, len(plane), path)]
        except UsageError as error:
            raise DataError(f"{error}; the model takes {', '.join(names)}: choose them with --channels") from error
    wanted = len(names)
    if len(plane) == 1 and wanted == _REPEATED and {name.casefold() for name in names} in _COLOURS:
        plane = np.repeat(plane, _REPEATED, axis=0)
    if len(plane) != wanted:
        takes = wanted if by_position else f"{wanted} ({', '.join(names)})"
        has = counted(len(plane), "channel")
        raise DataError(f"{path}: {has}, the model takes {takes}; choose them with --channels")
    return plane


def said_of_grey(model: Model, channels: int) -> list[str]:
    """What becomes of an image of one channel whose model takes three, of which `select_channels` makes them."""
    repeated = channels == 1 and len(model.channels) == _REPEATED
    return [f"grey, repeated to the model's {_REPEATED} channels"] if repeated else []


def _are_the_first(names: Sequence[str]) -> bool:
    return list(names) == list(map(str, range(len(names))))
