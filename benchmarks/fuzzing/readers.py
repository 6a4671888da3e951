"""What a user's command does with each kind of file: read all of it, as training and prediction would."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from safetensors.numpy import load, save

from biounet.datasets.annotation import load_labels
from biounet.datasets.dataset import Source
from biounet.datasets.drawings import INSIDE, drawn_planes, painted
from biounet.datasets.examples import load as load_examples
from biounet.datasets.layouts import find_dataset
from biounet.datasets.rois import has_rois
from biounet.images.formats import known_suffix, read_header, read_image
from biounet.images.image import Header, check_finite, planes
from biounet.images.regions import open_regions
from biounet.labels.understanding import understand
from biounet.model_file import _KEY, _canonical, _digest, load_model
from fuzzing.seeds import IMAGE, tiff


def read_picture(path: Path) -> None:
    """As an image, then as labels."""
    image = read_image(path)
    check_finite(image, path)
    for ndim in (2, 3):
        planes(image, ndim)
    image.pixel_size(2)
    if known_suffix(path) not in (".jpg", ".jpeg"):  # refused as labels, whatever it holds
        load_labels(path)


def read_outlines(path: Path) -> None:
    """Painted at the size of an image beside it."""
    _paint(Source(path), _header_beside(path))


def read_rois_inside(path: Path) -> None:
    """Those inside a TIFF, painted at its size."""
    if has_rois(path):
        _paint(Source(path, entry=INSIDE), read_header(path))


def _paint(source: Source, header: Header) -> None:
    drawn_planes(source, header)
    painted(source, header)


def _header_beside(path: Path) -> Header:
    image = path.parent / "image.tif"
    image.write_bytes(tiff(IMAGE))
    return read_header(image)


def read_zarr(path: Path) -> None:
    """The OME-Zarr image that holds the file: whole, a region of every level, and with its labels as a data set."""
    image = next(parent for parent in path.parents if parent.suffix == ".zarr")
    read_picture(image)
    with open_regions(image) as regions:
        for level in range(len(regions.levels)):
            regions.read_item(0, ndim=2, level=level)
    dataset = find_dataset(image.parent)
    understand(load_examples(dataset), dataset)


def read_folder(path: Path) -> None:
    """The data set in the topmost folder."""
    root = next(p for p in (path.parent, path.parent.parent) if (p / "masks").is_dir() or p == path.parent)
    root = path.parent.parent if path.parent.name == "masks" else root
    dataset = find_dataset(root)
    understand(load_examples(dataset), dataset)


def read_model(path: Path) -> None:
    """A model file."""
    load_model(path)


def read_resealed_model(path: Path) -> None:
    """A model file with other metadata and a checksum that fits."""
    try:
        metadata = json.loads(path.read_bytes())
        tensors = load((path.parent / "m.safetensors").read_bytes())
        metadata["sha256"] = _digest(tensors, metadata)
        resealed = save(tensors, {_KEY: _canonical(metadata)})
    except (ValueError, TypeError, RecursionError, UnicodeError):
        return  # no metadata to seal
    (path.parent / "m.safetensors").write_bytes(resealed)
    load_model(path.parent / "m.safetensors")


READERS: dict[str, Callable[[Path], None]] = {
    "image": read_picture,
    "rois in tiff": read_rois_inside,
    "zarr": read_zarr,
    "outlines": read_outlines,
    "folder": read_folder,
    "model": read_model,
    "resealed model": read_resealed_model,
}
