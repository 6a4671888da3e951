"""Layouts whose annotations are drawn: outlines beside or inside images, and a mask for every object."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from biounet.datasets.dataset import Found, Item, Problem, Source
from biounet.datasets.drawings import INSIDE, outline_files, outline_suffix
from biounet.datasets.pairing import extras_of, image_files, is_extra, paired, plain_stem
from biounet.datasets.rois import has_rois
from biounet.images.formats import known_suffix, stem_name


def masks_of_objects(folder: Path) -> Found | None:
    """``ID/images/ID.png`` with ``ID/masks/*.png``, one mask for every object (Data Science Bowl 2018)."""
    items, problems = [], []
    for entry in [folder, *sorted(folder.iterdir())]:
        images, masks = entry / "images", entry / "masks"
        if not images.is_dir() or not masks.is_dir():
            continue
        beside = {stem_name(file): file for file in image_files(images)}
        image, objects = [file for file in beside.values() if not is_extra(file)], image_files(masks)
        if len(image) != 1:
            continue
        of_its_name = [file for file in objects if plain_stem(file) == plain_stem(image[0]) or is_extra(file)]
        if entry == folder and (len(objects) < 2 or of_its_name):
            continue
        if of_its_name:
            fault = f"its mask {of_its_name[0].name} is called as the image, as one of all objects is; rename it"
            problems.append(Problem(entry.name, fault, "unpaired"))
            continue
        items.append(Item(entry.name, (Source(image[0]),), Source(masks), extras_of(stem_name(image[0]), beside)))
    if not any(image_files(item.labels.path) for item in items):
        return None
    reason = f"{len(items)} images with a mask for every object in masks/"
    return Found(tuple(items), (reason,), tuple(problems), pages="images")


def outlines(folder: Path) -> Found | None:
    """``X.tif`` with ``X.zip``, ``X_rois.zip``, ``X.roi``, ``X.geojson`` or a CSV of napari shapes."""
    images, drawn = image_files(folder), outline_files(folder)
    if not images or not drawn:
        return None
    found = paired(images, drawn)
    images = [file for file in images if not is_extra(file)]
    if not found.items and len(images) == len(drawn) == 1:  # one image and one RoiSet.zip
        item = Item(stem_name(images[0]), (Source(images[0]),), Source(drawn[0]))
        return Found((item,), (f"{images[0].name} with {drawn[0].name}, the only ones",))
    if not found.items:
        return None
    outlines = [problem for problem in found.problems if not outline_suffix(problem.name)]
    return replace(found, problems=tuple(outlines))


def rois_inside(folder: Path) -> Found | None:
    """TIFFs in which ImageJ stored ROIs (an overlay or a selection); the others are not used."""
    files = [file for file in image_files(folder) if known_suffix(file) in (".tif", ".tiff")]
    drawn = [file for file in files if has_rois(file)]
    if not drawn:
        return None
    items = [Item(stem_name(file), (Source(file),), Source(file, entry=INSIDE)) for file in drawn]
    reasons = [f"ROIs stored inside {len(items)} TIFFs"]
    if without := len(files) - len(drawn):
        reasons.append(f"{without} TIFFs without ROIs are not used")
    return Found(tuple(items), tuple(reasons))
