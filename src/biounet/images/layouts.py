"""Which files of a folder belong together. A new layout is one function and one row in ``LAYOUTS``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from biounet.errors import DataError, UsageError
from biounet.images.cell_tracking import cell_tracking
from biounet.images.dataset import Dataset, Found, Item, Layout, Problem, Source, refuse
from biounet.images.examples import Example, load, read_all
from biounet.images.formats import READERS, stem_name
from biounet.images.nnunet import nnunet
from biounet.images.pages import resolve
from biounet.images.pairing import LABEL_SUFFIXES, extras_of, image_files, label_stem, paired

__all__ = ["LAYOUTS", "Dataset", "Example", "Item", "Problem", "Source", "find_dataset", "label_stem", "load"]

_IMAGE_FOLDERS = ("images", "image", "imgs", "img")
_LABEL_FOLDERS = ("masks", "labels", "mask", "label")
_OUTPUT_SUFFIXES = ("_flows", "_outlines", "_overlay", "_probabilities", "_cp_output")


def find_dataset(
    path: str | Path | None,
    *,
    images: str | Path | None = None,
    masks: str | Path | None = None,
    ndim: int | None = None,
    skip_bad: bool = False,
) -> Dataset:
    """Find images and their annotations in a folder, without renaming anything.

    The layouts of ``LAYOUTS`` are tried in order; ``images`` and ``masks`` (two folders or two files)
    override them. Files are paired by name, then compared by their headers: sizes, pages, channels.
    ``ndim`` overrides whether stacks are volumes (3) or separate images (2). Beside an image,
    ``NAME_ignore`` (unknown where not 0) and ``NAME_region`` (unknown where 0) are taken along.

    Raises `DataError` where there is no such folder, nothing to pair, or, without ``skip_bad``, any
    image that cannot be used, all of them listed; `UsageError` for options that do not fit together.
    """
    root, layout, found = _recognised(path, images, masks)
    if not found.items and not found.problems:
        raise DataError(f"{root}: no image has an annotation in this layout ({layout}); annotate some")
    resolved = resolve(found, root, ndim=ndim)
    dataset = Dataset(
        root,
        resolved.items,
        layout,
        resolved.ndim,
        resolved.channels,
        (f"layout: {layout}", *found.reasons, *resolved.reasons),
        resolved.problems,
        is_sequence=resolved.is_sequence,
        task=found.task,
        values=found.values,
    )
    if resolved.problems and (not skip_bad or not resolved.items):
        # everything that is wrong at once: also what only the pixels show
        problems = (*resolved.problems, *read_all(dataset)[1])
        raise refuse(root, problems, len(resolved.items) + len(resolved.problems))
    return dataset


def _recognised(
    path: str | Path | None, images: str | Path | None, masks: str | Path | None
) -> tuple[Path, str, Found]:
    if images is not None or masks is not None:
        if images is None or masks is None:
            raise UsageError("--images and --masks belong together; give both, two folders or two files")
        return Path(images), "--images and --masks", _named(Path(images), Path(masks))
    if path is None:
        raise UsageError("no data given; name a folder, or --images and --masks")
    root = Path(path)
    if not root.exists():
        raise DataError(f"{root}: there is no such folder; check the name")
    if not root.is_dir():
        raise DataError(f"{root}: is a file; name its folder, or give the pair as --images FILE --masks FILE")
    for folder in (root, root / "train"):
        for layout in LAYOUTS if folder.is_dir() else ():
            found = layout.recognise(folder)
            if found is not None:
                return folder, layout.name, found
    raise _nothing(root)


def _nothing(root: Path) -> DataError:
    if not any(root.iterdir()):
        return DataError(f"{root}: the folder is empty; put images and their annotations there")
    names = sorted(entry.name for entry in root.iterdir())
    seen = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    looked = "; ".join(layout.looks_for for layout in LAYOUTS)
    return DataError(
        f"{root}: no pairs of images and annotations (looked for {looked}; found {seen}); "
        "name them with --images and --masks"
    )


def _named(images: Path, masks: Path) -> Found:
    """Two files or two folders that the user named."""
    for option, given in (("--images", images), ("--masks", masks)):
        if not given.exists():
            raise DataError(f"{given}: there is no such file or folder ({option}); check the name")
    if images.is_dir() != masks.is_dir():
        raise UsageError(f"--images {images} and --masks {masks}: give two folders or two files")
    if images.is_dir():
        found = paired(image_files(images), image_files(masks))
        if not found.items and not found.problems:
            raise DataError(f"{images} and {masks}: hold no image of a known format ({', '.join(READERS)})")
        return found
    item = Item(stem_name(images), (Source(images),), Source(masks))
    return Found((item,), (f"{images.name} with mask {masks.name}",))


def _subfolders(folder: Path) -> Found | None:
    """``images/`` with ``masks/`` or ``labels/`` (StarDist, Data Science Bowl)."""
    folders = {entry.name.lower(): entry for entry in sorted(folder.iterdir()) if entry.is_dir()}
    images = next((folders[name] for name in _IMAGE_FOLDERS if name in folders), None)
    labels = next((folders[name] for name in _LABEL_FOLDERS if name in folders), None)
    if images is None or labels is None:
        return None
    found = paired(image_files(images), image_files(labels))
    if not found.items and not found.problems:
        raise DataError(f"{folder}: {images.name}/ and {labels.name}/ hold no image of a known format")
    return replace(found, reasons=(f"images in {images.name}/, masks in {labels.name}/", *found.reasons))


def _stacks(folder: Path) -> Found | None:
    """``X-volume.tif`` with ``X-labels.tif`` (ISBI 2012): every page is one 2D image."""
    files = {stem_name(file): file for file in image_files(folder)}
    volumes = {stem.removesuffix("-volume"): stem for stem in files if stem.endswith("-volume")}
    items, alone = [], []
    for name, stem in volumes.items():
        labels = files.get(f"{name}-labels")
        if labels is None:
            alone.append(files[stem].name)
            continue
        items.append(Item(stem, (Source(files[stem]),), Source(labels), extras_of(stem, files)))
    if not items:
        return None
    reasons = [f"{item.image.path.name} with {item.labels.path.name}" for item in items]
    reasons += [f"{name} has no labels and is not used" for name in alone]
    return Found(tuple(items), tuple(reasons), pages="images", sequence=True)


def _suffixes(folder: Path) -> Found | None:
    """``X.tif`` with ``X_masks.tif``, ``X_labels.tif`` or ``X_seg.tif`` in one folder (Cellpose)."""
    files = [file for file in image_files(folder) if not stem_name(file).lower().endswith(_OUTPUT_SUFFIXES)]
    labels = [file for file in files if stem_name(file).lower().endswith(LABEL_SUFFIXES)]
    images = [file for file in files if file not in labels]
    if not labels or not images:
        return None
    return paired(images, labels)


LAYOUTS: tuple[Layout, ...] = (
    Layout("nnU-Net", "imagesTr/ + labelsTr/ (nnU-Net)", nnunet),
    Layout("Cell Tracking Challenge", "01/ + 01_GT/SEG/ (Cell Tracking Challenge)", cell_tracking),
    Layout("folders", "images/ + masks/ or labels/", _subfolders),
    Layout("stacks", "X-volume.tif + X-labels.tif", _stacks),
    Layout("suffixes", "X.tif + X_masks.tif, X_labels.tif or X_seg.tif", _suffixes),
)
