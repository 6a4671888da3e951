"""Annotations inside OME-Zarr images: their ``labels`` groups, of single images and of the fields of plates.

Source: https://ngff.openmicroscopy.org, versions 0.4 and 0.5.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from biounet.datasets.dataset import Found, Item, Problem, Source
from biounet.datasets.pairing import EXTRAS, extras_of, image_files
from biounet.errors import DataError
from biounet.images.arrays import MissingPackageError
from biounet.images.formats import known_suffix, reading, stem_name
from biounet.images.ome_zarr import path_inside, read_multiscale
from biounet.images.ome_zarr_list import read_label_list
from biounet.images.plates import is_plate, plate_fields

PREDICTED = "biounet"  # what `predict --in-place` calls its labels unless told otherwise

_Groups = dict[str, Path]


def zarr_annotations(folder: Path) -> Found | None:
    """OME-Zarr images in a folder that hold labels; the labels of one name are the annotation.

    Of several names it is the one that most images have, what biounet predicts coming last. Labels called
    ``NAME_ignore``, ``NAME_region`` and ``NAME_classes`` say more of those called NAME.
    """
    paths = [path for file in image_files(folder) if known_suffix(file) == ".zarr" for path in _images_of(file)]
    groups, problems = _all_groups(paths)
    name = _chosen(groups.values())
    if name is None:
        return None
    annotated = {path: inside for path, inside in groups.items() if name in inside}
    items = [
        Item(stem_name(path), (Source(path),), Source(inside[name]), extras_of(name, inside))
        for path, inside in annotated.items()
    ]
    return Found(tuple(items), tuple(_reasons(name, annotated, groups)), tuple(problems))


def label_groups(image: Path) -> _Groups:
    """The labels inside an OME-Zarr image by name, in the order of its list; none for a plate or damaged metadata.

    Raises `DataError` where the image cannot be read.
    """
    with reading(image):
        source = read_multiscale(image)
        labels = source.group / "labels"
        return {name: labels / path_inside(labels, name) for name in read_label_list(labels, source.version)[0]}


def holds_annotation(path: Path) -> bool:
    """Whether a path is an OME-Zarr image with labels inside, or a plate of such."""
    if known_suffix(path) != ".zarr" or not path.is_dir():
        return False
    return _chosen(_all_groups(_images_of(path))[0].values()) is not None


def _images_of(path: Path) -> list[Path]:
    return [field for _, field in plate_fields(path)] if is_plate(path) else [path]


def _all_groups(paths: Iterable[Path]) -> tuple[dict[Path, _Groups], list[Problem]]:
    """The labels of every image, and which images cannot be read."""
    found, problems = {}, []
    for path in paths:
        try:
            found[path] = label_groups(path)
        except MissingPackageError:
            raise  # the same for every file: one line is enough
        except DataError as error:
            problems.append(Problem(stem_name(path), str(error)))
    return found, problems


def _chosen(groups: Iterable[_Groups]) -> str | None:
    """The name of the labels that are the annotation, None where no image has any."""
    counts = Counter(name for inside in groups for name in inside if not _says_more(name, inside))
    return max(counts, key=lambda name: (name != PREDICTED, counts[name]), default=None)


def _says_more(name: str, inside: _Groups) -> bool:
    """Whether labels are ``NAME_ignore`` and the like of other labels."""
    base, _, role = name.rpartition("_")
    return role in EXTRAS and base in inside


def _reasons(name: str, annotated: dict[Path, _Groups], groups: dict[Path, _Groups]) -> list[str]:
    count = len(annotated)
    reasons = [f"labels {name!r} inside {count} OME-Zarr {'image' if count == 1 else 'images'} are the annotation"]
    others = dict.fromkeys(other for inside in groups.values() for other in inside)
    others = {other: None for other in others if other != name and not other.startswith(f"{name}_")}
    if others:
        images, labels = _patterns(*next(iter(annotated.items())))
        option = f"--images {shlex.quote(images)} --masks {shlex.quote(f'{labels}/NAME')}"
        reasons.append(f"other labels there: {', '.join(others)}; take one of them by {option}")
    if without := len(groups) - count:
        reasons.append(f"{without} OME-Zarr images without labels {name!r} are not used")
    for extra, rule in EXTRAS.items():
        if held := sum(f"{name}_{extra}" in inside for inside in annotated.values()):
            reasons.append(f"{held} with labels {name}_{extra}: {rule}")
    return reasons


def _patterns(image: Path, inside: _Groups) -> tuple[str, str]:
    """Patterns of all images like this one, and of the groups of their labels."""
    labels = next(iter(inside.values())).parent
    outer = next(path for path in (image, *image.parents) if path.suffix.lower() == ".zarr")
    inner = ["*" if part != "0" or image != outer else part for part in labels.relative_to(outer).parts[:-1]]
    images = "/".join([f"{outer.parent.as_posix()}/*.zarr", *inner])
    return images, f"{images}/labels"
