"""Which files of a folder belong together. A new layout is one function and one row in ``LAYOUTS``."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from biounet.datasets.cell_tracking import cell_tracking
from biounet.datasets.colours import FILE_NAME, parse_colours, read_colours
from biounet.datasets.dataset import IGNORED, Colour, Dataset, Found, Item, Layout, Problem, Source, refuse
from biounet.datasets.drawings import outline_files, outline_suffix
from biounet.datasets.drawn_layouts import masks_of_objects, outlines, rois_inside
from biounet.datasets.examples import Example, load, read_all
from biounet.datasets.listed import PAIRS, coco, coco_file, csv_of_pairs, pairs
from biounet.datasets.nnunet import nnunet
from biounet.datasets.pages import resolve
from biounet.datasets.pairing import MASK_SUFFIXES, annotation_files, extras_of, image_files, label_stem, paired
from biounet.datasets.zarr_annotations import zarr_annotations
from biounet.errors import DataError, UsageError
from biounet.images.foreign import advice
from biounet.images.formats import READERS, known_suffix, stem_name

__all__ = [
    "LAYOUTS",
    "OUTPUT_SUFFIXES",
    "Dataset",
    "Example",
    "Item",
    "Problem",
    "Source",
    "find_dataset",
    "is_data_file",
    "label_stem",
    "load",
    "survey",
]

_IMAGE_FOLDERS = ("images", "image", "imgs", "img")
_LABEL_FOLDERS = ("masks", "labels", "mask", "label", "rois", "roi", "annotations", "outlines", "geojson")
OUTPUT_SUFFIXES = ("_flows", "_outlines", "_overlay", "_probabilities", "_cp_output")


def find_dataset(
    path: str | Path | None,
    *,
    images: str | Path | None = None,
    masks: str | Path | None = None,
    ndim: int | None = None,
    colours: Sequence[str] | None = None,
    skip_bad: bool = False,
) -> Dataset:
    """Find images and their annotations in a folder, without renaming anything.

    ``path``: a folder, one annotated image or a pattern of several (``"data/a*.tif"``), a CSV of pairs or
    a COCO file. The layouts of ``LAYOUTS`` are tried in order; ``images`` and ``masks`` (two folders, files
    or patterns) override them. Files are paired by name, then compared by their headers: sizes, pages,
    channels. ``ndim`` overrides whether stacks are volumes (3) or separate images (2). Beside an image,
    ``NAME_ignore`` (unknown where not 0), ``NAME_region`` (unknown where 0) and ``NAME_classes`` (the class
    of every object) are taken along. ``colours``: what RGB masks mean, as ``RRGGBB=name``; by default what
    ``colours.csv`` beside the masks says.

    Raises `DataError` where there is no such folder, nothing to pair, or, without ``skip_bad``, any
    image that cannot be used, all of them listed; `UsageError` for options that do not fit together.
    """
    dataset = survey(path, images=images, masks=masks, ndim=ndim, colours=colours)
    if dataset.problems and (not skip_bad or not dataset.items):
        # everything that is wrong at once: also what only the pixels show
        problems = (*dataset.problems, *read_all(dataset)[1])
        raise refuse(dataset.root, problems, len(dataset.items) + len(dataset.problems))
    return dataset


def survey(
    path: str | Path | None,
    *,
    images: str | Path | None = None,
    masks: str | Path | None = None,
    ndim: int | None = None,
    colours: Sequence[str] | None = None,
) -> Dataset:
    """The same as `find_dataset`, but what cannot be used stands in ``problems`` and is no error, even where
    nothing else is left."""
    root, layout, found = _recognised(path, images, masks)
    if not found.items and not found.problems:
        raise DataError(f"{root}: no image has an annotation in this layout ({layout}); annotate some")
    meant, said = _colours(found, root, colours)
    if meant:
        names = tuple(dict.fromkeys(colour.name for colour in meant if colour.name != IGNORED))
        by = "the list of colours"
        found = replace(found, task="classes", values=tuple(range(len(names))), value_names=names, declared_by=by)
    resolved = resolve(found, root, ndim=ndim)
    return Dataset(
        root,
        resolved.items,
        layout,
        resolved.ndim,
        resolved.channels,
        (f"layout: {layout}", *found.reasons, *said, *resolved.reasons),
        resolved.problems,
        is_sequence=resolved.is_sequence,
        task=found.task,
        values=found.values,
        value_names=found.value_names,
        declared_by=found.declared_by,
        channel_names=found.channel_names,
        colours=meant,
    )


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
    if not root.exists() and glob.has_magic(str(path)):
        return _some(root.parent, [Path(name) for name in sorted(glob.glob(str(path)))], str(path))
    if not root.exists():
        raise DataError(f"{root}: there is no such folder; check the name")
    if not root.is_dir() or known_suffix(root):
        return _of_file(root)
    for folder in (root, root / "train"):
        for layout in LAYOUTS if folder.is_dir() else ():
            found = layout.recognise(folder)
            if found is not None:
                return folder, layout.name, found
    raise _nothing(root)


def is_data_file(path: str | Path) -> bool:
    """Whether a file, by its name, can stand for a data set: an image, a CSV of pairs, or COCO."""
    return bool(known_suffix(path)) or Path(path).suffix.lower() in (".csv", ".json")


def _of_file(path: Path) -> tuple[Path, str, Found]:
    """One annotated image, a CSV of pairs or a COCO file."""
    if what := advice([path]):
        raise DataError(f"{path}: {what}")
    if path.suffix.lower() == ".csv":
        return path.parent, "pairs", csv_of_pairs(path)
    if path.suffix.lower() == ".json":
        return path.parent, "COCO", coco_file(path)
    return _some(path.parent, [path], str(path))


def _some(folder: Path, wanted: list[Path], given: str) -> tuple[Path, str, Found]:
    """Those items of a folder whose image is among the wanted files."""
    names = {file.resolve() for file in wanted}
    for place in (folder, folder.parent):
        for layout in LAYOUTS if place.is_dir() else ():
            try:
                found = layout.recognise(place)
            except DataError:  # of files that are not meant
                continue
            chosen = [] if found is None else [item for item in found.items if _is_in(item.image.path, names)]
            if found is not None and chosen:
                reason = f"{len(chosen)} of {len(found.items)} pairs, as named by {Path(given).name}"
                meant = {name for file in wanted for name in (file.name, stem_name(file))}
                problems = tuple(problem for problem in found.problems if problem.name in meant)
                return place, layout.name, replace(found, items=tuple(chosen), problems=problems, reasons=(reason,))
    if not wanted:
        raise DataError(f"{given}: no file matches this pattern; check it")
    raise DataError(
        f"{given}: no annotation of this name beside or in it; name its folder, or give the pair as "
        "--images FILE --masks FILE"
    )


def _is_in(path: Path, names: set[Path]) -> bool:
    """Whether a file is one of these, or lies in one that is an OME-Zarr plate."""
    place = path.resolve()
    return place in names or any(parent in names for parent in place.parents)


def _nothing(root: Path) -> DataError:
    if not any(root.iterdir()):
        return DataError(f"{root}: the folder is empty; put images and their annotations there")
    entries = sorted(root.iterdir())
    if what := advice(entries):
        return DataError(f"{root}: {what}")
    names = [entry.name for entry in entries]
    seen = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    looked = "; ".join(layout.looks_for for layout in LAYOUTS)
    return DataError(
        f"{root}: no pairs of images and annotations (looked for {looked}; found {seen}); "
        "name them with --images and --masks"
    )


def _named(images: Path, masks: Path) -> Found:
    """Two files, two folders or two patterns that the user named."""
    patterns = [glob.has_magic(str(given)) and not given.exists() for given in (images, masks)]
    for option, given, pattern in (("--images", images, patterns[0]), ("--masks", masks, patterns[1])):
        if not given.exists() and not pattern:
            raise DataError(f"{given}: there is no such file or folder ({option}); check the name")
    if any(patterns):
        listed = [_matching(given) for given in (images, masks)]
        return paired(*listed)
    folders = [given.is_dir() and not known_suffix(given) for given in (images, masks)]
    if all(folders):
        found = paired(image_files(images), annotation_files(masks))
        if not found.items and not found.problems:
            raise DataError(f"{images} and {masks}: hold no image of a known format ({', '.join(READERS)})")
        return found
    if folders[0]:
        raise UsageError(f"--images {images} and --masks {masks}: give two folders or two files")
    item = Item(stem_name(images), (Source(images),), Source(masks))
    return Found((item,), (f"{images.name} with mask {masks.name}",))


def _matching(pattern: Path) -> list[Path]:
    files = annotation_files(pattern) if pattern.is_dir() else [Path(n) for n in sorted(glob.glob(str(pattern)))]
    found = [file for file in files if known_suffix(file) or outline_suffix(file)]
    if not found:
        raise DataError(f"{pattern}: no file of a known format matches this pattern; check it")
    return found


def _colours(found: Found, root: Path, given: Sequence[str] | None) -> tuple[tuple[Colour, ...], tuple[str, ...]]:
    """What the colours of masks mean, and who says so; nothing where nobody does."""
    if given is not None:
        return parse_colours(given), (f"colours of the masks as given: {', '.join(given)}",)
    places = dict.fromkeys([*(item.labels.path.parent for item in found.items[:1]), root])
    file = next((place / FILE_NAME for place in places if (place / FILE_NAME).is_file()), None)
    if file is None:
        return (), ()
    colours = read_colours(file)
    return colours, (f"colours of the masks by {file.name}: {', '.join(colour.name for colour in colours)}",)


def _subfolders(folder: Path) -> Found | None:
    """``images/`` with ``masks/`` or ``labels/`` (StarDist, Data Science Bowl)."""
    folders = {entry.name.lower(): entry for entry in sorted(folder.iterdir()) if entry.is_dir()}
    images = next((folders[name] for name in _IMAGE_FOLDERS if name in folders), None)
    labels = next((folders[name] for name in _LABEL_FOLDERS if name in folders), None)
    if images is None or labels is None:
        return None
    if not image_files(images) and (what := advice(sorted(images.iterdir()))):
        raise DataError(f"{images}: {what}")
    found = paired(image_files(images), annotation_files(labels))
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
    files = [file for file in image_files(folder) if not stem_name(file).lower().endswith(OUTPUT_SUFFIXES)]
    labels = [file for file in files if stem_name(file).lower().endswith(MASK_SUFFIXES)]
    images = [file for file in files if file not in labels]
    if not labels or not images:
        return None
    found = paired(images, labels)
    unused = [file.name for file in outline_files(folder)]
    reasons = (f"label images are used, outlines are not (as {unused[0]})",) if unused else ()
    return replace(found, reasons=(*found.reasons, *reasons))


LAYOUTS: tuple[Layout, ...] = (
    Layout("pairs", f"{PAIRS} (image,annotation)", pairs),
    Layout("nnU-Net", "imagesTr/ + labelsTr/ (nnU-Net)", nnunet),
    Layout("Cell Tracking Challenge", "01/ + 01_GT/SEG/ (Cell Tracking Challenge)", cell_tracking),
    Layout("COCO", "a JSON file of COCO annotations", coco),
    Layout("masks of objects", "ID/images/ID.png + ID/masks/*.png", masks_of_objects),
    Layout("folders", "images/ + masks/ or labels/", _subfolders),
    Layout("stacks", "X-volume.tif + X-labels.tif", _stacks),
    Layout("suffixes", "X.tif + X_masks.tif, X_labels.tif or X_seg.tif", _suffixes),
    Layout("OME-Zarr labels", "X.zarr with labels inside", zarr_annotations),
    Layout("outlines", "X.tif + X.zip, X.roi or X.geojson (ImageJ, QuPath)", outlines),
    Layout("ROIs inside TIFFs", "TIFFs with ROIs stored inside (ImageJ)", rois_inside),
)
