"""Files of images and files of masks, paired by their names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from biounet.datasets.dataset import Extras, Found, Item, Problem, Source
from biounet.datasets.drawings import outline_files, outline_suffix
from biounet.errors import DataError
from biounet.images.formats import known_suffix, stem_name

LABEL_SUFFIXES = ("_cp_masks", "_masks", "_mask", "_labels", "_label", "_seg", "_roiset", "_rois", "_roi")
# what labels called NAME_ignore, NAME_region and NAME_classes say of the image NAME
EXTRAS = {"ignore": "unknown where it is not 0", "region": "unknown outside", "classes": "the class of every object"}
# words that say what a file is, not which image it belongs to
_ROLES = {"image", "images", "img", "im", "raw", "mask", "masks", "label", "labels", "seg", "cp", "gt"}
_ROLES |= {"roi", "rois", "roiset", "outlines", "annotation", "annotations"}


def image_files(folder: Path) -> list[Path]:
    """Image files in the order of their names; hidden ones and Cellpose's pickles are left out."""
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed ({error.strerror}); name a folder of images") from error
    return [
        entry
        for entry in entries
        if known_suffix(entry) and not entry.name.startswith(".") and not entry.name.endswith("_seg.npy")
    ]


def label_stem(path: str | Path) -> str:
    """NAME of the image that a label file belongs to: `stem_name` without ``_masks``, ``_labels`` ..."""
    stem = _stem(path)
    suffix = next((suffix for suffix in LABEL_SUFFIXES if stem.lower().endswith(suffix)), "")
    return stem[: len(stem) - len(suffix)] or stem


def annotation_files(folder: Path) -> list[Path]:
    """Images and files of outlines that may be annotations, and lists of classes, in the order of names."""
    lists = [entry for entry in sorted(folder.iterdir()) if entry.name.endswith("_classes.csv")]
    return [*image_files(folder), *outline_files(folder), *lists]


def paired(images: Sequence[Path], labels: Sequence[Path]) -> Found:
    """Pair by equal NAME, and the rest by NAME without the words that say image or mask.

    Files called ``NAME_ignore``, ``NAME_region`` and ``NAME_classes``, in either list, go to the image NAME. What
    has no partner, or several, is a problem.
    """
    problems: list[Problem] = []
    extras = {_stem(file): file for file in (*images, *labels) if _is_extra(file)}
    by_image = _by_key(images, _stem, problems)
    by_mask = _by_key(labels, _stem, problems)
    pairs = {name: (by_image[name], by_mask[name]) for name in by_image.keys() & by_mask.keys()}
    loose_images = _by_key([f for name, f in by_image.items() if name not in pairs], _plain, problems)
    loose_masks = _by_key([f for name, f in by_mask.items() if name not in pairs], _plain, problems)
    for key, file in loose_images.items():
        if key in loose_masks:
            pairs[stem_name(file)] = (file, loose_masks.pop(key))
        else:
            problems.append(Problem(file.name, "has no mask of its name", "unpaired"))
    alone = "is a mask without an image of its name"
    problems += [Problem(mask.name, alone, "unpaired") for mask in loose_masks.values()]
    items = [
        Item(name, (Source(image),), Source(mask), extras_of(name, extras))
        for name, (image, mask) in sorted(pairs.items())
    ]
    return Found(tuple(items), _reasons(items), tuple(problems))


def _reasons(items: Sequence[Item]) -> tuple[str, ...]:
    other = [item for item in items if _stem(item.labels.path) != item.name]
    reasons = []
    if equal := len(items) - len(other):
        reasons.append(f"{equal} {'pair' if equal == 1 else 'pairs'} of equal names")
    if other:
        reasons.append(
            f"{len(other)} paired by name without the words for image and mask "
            f"({other[0].image.path.name} with {other[0].labels.path.name})"
        )
    for extra, rule in EXTRAS.items():
        if count := sum(getattr(item.extras, extra) is not None for item in items):
            reasons.append(f"{count} with NAME_{extra}: {rule}")
    return tuple(reasons)


def _by_key(files: Iterable[Path], key: Callable[[Path], str], problems: list[Problem]) -> dict[str, Path]:
    """Files by key; those that share one are problems, as nobody can tell which is meant."""
    groups: dict[str, list[Path]] = {}
    for file in files:
        if not _is_extra(file):
            groups.setdefault(key(file), []).append(file)
    for group in groups.values():
        if len(group) > 1:
            names = ", ".join(file.name for file in group)
            problems.append(Problem(group[0].name, f"is one of several files for one image ({names})", "unpaired"))
    return {name: group[0] for name, group in groups.items() if len(group) == 1}


def _is_extra(file: Path) -> bool:
    return _stem(file).endswith(tuple(f"_{extra}" for extra in EXTRAS))


def extras_of(name: str, files: dict[str, Path]) -> Extras:
    """``NAME_ignore``, ``NAME_region`` and ``NAME_classes`` among files by stem."""
    found = {extra: files.get(f"{name}_{extra}") for extra in EXTRAS}
    return Extras(**{extra: Source(path) for extra, path in found.items() if path})


def _stem(path: str | Path) -> str:
    """NAME of an image or a file of outlines; of labels inside an OME-Zarr image that of the image."""
    suffix = outline_suffix(path)
    if Path(path).parent.name == "labels" and known_suffix(path) == ".zarr":
        path = Path(path).parent.parent
    return Path(path).name[: -len(suffix)] if suffix else stem_name(path)


def _plain(path: Path) -> str:
    words = re.split(r"[_\-.\s]+", _stem(path).lower())
    return "_".join(word for word in words if word not in _ROLES)
