"""Files of images and files of masks, paired by their names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from biounet.datasets.dataset import Extras, Found, Item, Problem, Source
from biounet.datasets.drawings import outline_files, outline_suffix
from biounet.errors import DataError
from biounet.images.formats import known_suffix, stem_name

MASK_SUFFIXES = ("_cp_masks", "_masks", "_mask", "_labels", "_label", "_seg")
LABEL_SUFFIXES = (*MASK_SUFFIXES, "_roiset", "_rois", "_roi")
# what labels called NAME_ignore, NAME_region and NAME_classes say of the image NAME
EXTRAS = {"ignore": "unknown where it is not 0", "region": "unknown outside", "classes": "the class of every object"}
# words that say what a file is, not which image it belongs to
_ROLES = {"image", "images", "img", "im", "raw", "mask", "masks", "label", "labels", "seg", "cp", "gt"}
_ROLES |= {"roi", "rois", "roiset", "outlines", "annotation", "annotations", "ome"}
_FIRST = "0000"  # of a number that counts channels, which `stem_name` leaves out


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

    Files called ``NAME_ignore``, ``NAME_region`` and ``NAME_classes``, in either list, go to the image NAME, or to
    that with the mask NAME, unless there is an image and a mask of that name itself. What has no partner, or several,
    is a problem.
    """
    problems: list[Problem] = []
    masks = {stem for file in labels for stem in (_stem(file), label_stem(file))}
    own = {_stem(file) for file in images} & masks
    extras = {_key(_stem(file)): file for file in (*images, *labels) if is_extra(file) and _stem(file) not in own}
    by_image = _by_key([file for file in images if file not in extras.values()], _stem, problems)
    by_mask = _by_key([file for file in labels if file not in extras.values()], _stem, problems)
    pairs = {name: (by_image[name], by_mask[name]) for name in by_image.keys() & by_mask.keys()}
    loose_images = _by_key([f for name, f in by_image.items() if name not in pairs], plain_stem, problems)
    loose_masks = _by_key([f for name, f in by_mask.items() if name not in pairs], plain_stem, problems)
    for key, file in loose_images.items():
        if key in loose_masks:
            pairs[stem_name(file)] = (file, loose_masks.pop(key))
        else:
            problems.append(Problem(file.name, "has no mask of its name", "unpaired"))
    alone = "is a mask without an image of its name"
    problems += [Problem(mask.name, alone, "unpaired") for mask in loose_masks.values()]
    items = []
    for name, (image, mask) in sorted(pairs.items()):
        names = (name, _whole_stem(image), _stem(mask), label_stem(mask))
        of = [extras_of(one, extras) for one in names]
        first = {extra: next((one for e in of if (one := getattr(e, extra))), None) for extra in EXTRAS}
        items.append(Item(name, (Source(image),), Source(mask), Extras(**first)))
    used = {getattr(item.extras, extra) for item in items for extra in EXTRAS}
    lost = "says something of an image or mask of the name before it, and there is none; rename it, or remove it"
    problems += [Problem(file.name, lost, "unpaired") for file in extras.values() if Source(file) not in used]
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
        groups.setdefault(key(file), []).append(file)
    for group in groups.values():
        if len(group) > 1:
            names = ", ".join(file.name for file in group)
            problems.append(Problem(group[0].name, f"is one of several files for one image ({names})", "unpaired"))
    return {name: group[0] for name, group in groups.items() if len(group) == 1}


def is_extra(file: Path) -> bool:
    """Whether a file is called as one that says something of another."""
    return _stem(file).lower().endswith(tuple(f"_{extra}" for extra in EXTRAS))


def _key(stem: str) -> str:
    """A stem whose last word, where it is one of `EXTRAS`, is in lower case."""
    name, _, last = stem.rpartition("_")
    return f"{name}_{last.lower()}" if last.lower() in EXTRAS else stem


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


def _whole_stem(path: Path) -> str:
    """NAME with the number of the channel, where it has one."""
    stem = _stem(path)
    return f"{stem}_{_FIRST}" if path.name.startswith(f"{stem}_{_FIRST}") else stem


def plain_stem(path: Path) -> str:
    """NAME in lower case without the words that say image or mask, and without the number of the first channel."""
    words = [word for word in re.split(r"[_\-.\s]+", _stem(path).lower()) if word not in _ROLES]
    return "_".join(words[:-1] if words[1:] and words[-1] == _FIRST else words)
