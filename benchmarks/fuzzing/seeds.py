"""Small valid files of every format that is read, each with the bytes that hold its structure."""

from __future__ import annotations

import gzip
import io
import json
import struct
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import nibabel
import numpy as np
import tifffile
import zarr
from PIL import Image
from roifile import ImagejRoi

from biounet.geometry import unet_geometry
from biounet.images.normalize import Normalisation
from biounet.images.ome_zarr_labels import add_zarr_labels
from biounet.model_file import Model, save_model

Ranges = list[tuple[int, int]]

_METADATA = (".zattrs", ".zarray", ".zgroup", "zarr.json")  # of zarr, format 2 and 3

IMAGE = (np.arange(24 * 32).reshape(24, 32) * 7 % 251).astype(np.uint8)
CELLS = np.zeros((24, 32), np.uint16)
CELLS[3:9, 3:9], CELLS[12:20, 12:28] = 1, 2
CORNERS = [[(3, 3), (9, 3), (9, 9), (3, 9)], [(12, 12), (28, 12), (28, 20), (12, 20)]]  # x, y


@dataclass(frozen=True)
class Seed:
    """A file to mutate: how it is read (a name of `readers.READERS`), its path in a folder, its bytes.

    ``structure``: byte ranges of headers, directories and metadata. ``others``: files that must lie beside it.
    ``wrap``: how mutated bytes become the file, as by compression; ``text``: JSON or CSV, changed by value too.
    """

    name: str
    reader: str
    path: str
    data: bytes
    structure: Ranges
    others: dict[str, bytes] = field(default_factory=dict)
    wrap: Callable[[bytes], bytes] | None = None
    text: str = ""


def all_seeds() -> list[Seed]:
    """The seeds in a fixed order, the same bytes every time."""
    return [*_tiffs(), *_pictures(), *_arrays(), *_zarrs(), *_outlines(), *_lists(), *_models()]


def tiff(array: np.ndarray, **options: object) -> bytes:
    """A TIFF in memory."""
    stored = io.BytesIO()
    tifffile.imwrite(stored, array, datetime=False, software="", **options)  # type: ignore[arg-type]
    return stored.getvalue()


def _tiffs() -> Iterable[Seed]:
    rois = [ImagejRoi.frompoints(np.array(corners), name=f"cell-{k}").tobytes() for k, corners in enumerate(CORNERS)]
    stack = np.stack([IMAGE] * 4)
    kinds = {
        "plain": tiff(IMAGE),
        "bigtiff": tiff(IMAGE, bigtiff=True),
        "big endian": tiff(IMAGE, byteorder=">"),
        "tiled": tiff(IMAGE, tile=(16, 16)),
        "deflate": tiff(IMAGE, compression="zlib", predictor=True),
        "lzw": tiff(IMAGE, compression="lzw"),
        "packbits": tiff(IMAGE, compression="packbits"),
        "jpeg": tiff(IMAGE, compression="jpeg"),
        "zstd": tiff(IMAGE, compression="zstd"),
        "labels": tiff(CELLS),
        "rgb": tiff(np.stack([IMAGE] * 3, -1), photometric="rgb"),
        "palette": tiff(IMAGE, photometric="palette", colormap=np.zeros((3, 256), np.uint16)),
        "imagej": tiff(
            stack.reshape(2, 2, 24, 32), imagej=True, metadata={"axes": "ZCYX", "spacing": 2.0, "unit": "um"}
        ),
        "ome": tiff(stack.reshape(2, 2, 24, 32), ome=True, metadata={"axes": "CZYX", "PhysicalSizeX": 0.5}),
        "float": tiff(IMAGE.astype(np.float32)),
        "pyramid": _pyramid(),
    }
    for name, data in kinds.items():
        yield Seed(f"tiff {name}", "image", "a.tif", data, _tiff_structure(data))
    overlay = tiff(IMAGE, imagej=True, metadata={"Overlays": rois})
    yield Seed("tiff with rois", "rois in tiff", "a.tif", overlay, _tiff_structure(overlay))


def _pyramid() -> bytes:
    stored = io.BytesIO()
    with tifffile.TiffWriter(stored) as file:
        file.write(IMAGE, subifds=1, datetime=False, software="")
        file.write(IMAGE[::2, ::2], subfiletype=1, datetime=False, software="")
    return stored.getvalue()


def _tiff_structure(data: bytes) -> Ranges:
    """The header, and of every page its directory and the values of its tags but pixels."""
    found: Ranges = [(0, 16)]
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        entry = 20 if file.is_bigtiff else 12
        for page in file.pages:
            for tag in page.tags:  # type: ignore[union-attr]
                found.append((tag.offset, tag.offset + entry))
                if tag.valueoffset > tag.offset + entry:
                    found.append((tag.valueoffset, min(len(data), tag.valueoffset + max(4, tag.valuebytecount))))
    return found


def _pictures() -> Iterable[Seed]:
    palette = Image.fromarray(IMAGE // 32).convert("P")
    pictures = {
        "png 8": (Image.fromarray(IMAGE), "a.png", {}),
        "png 16": (Image.fromarray(IMAGE.astype(np.uint16) * 200), "a.png", {}),
        "png rgba": (Image.fromarray(np.stack([IMAGE] * 4, -1)), "a.png", {}),
        "png palette": (palette, "a.png", {}),
        "png bits": (Image.fromarray(IMAGE > 99), "a.png", {}),
        "jpeg": (Image.fromarray(IMAGE), "a.jpg", {"quality": 90}),
        "jpeg rgb": (Image.fromarray(np.stack([IMAGE] * 3, -1)), "a.jpg", {"progressive": True}),
    }
    for name, (picture, path, options) in pictures.items():
        stored = io.BytesIO()
        picture.save(stored, "PNG" if path.endswith("png") else "JPEG", **options)
        data = stored.getvalue()
        yield Seed(name, "image", path, data, _png_structure(data) if path.endswith("png") else _jpeg_structure(data))


def _png_structure(data: bytes) -> Ranges:
    """Signature, and of every chunk length and name; IHDR and PLTE whole."""
    found: Ranges = [(0, 8)]
    at = 8
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        found.append((at, at + 12 + length if data[at + 4 : at + 8] in (b"IHDR", b"PLTE") else at + 8))
        at += 12 + length
    return found


def _jpeg_structure(data: bytes) -> Ranges:
    return [(0, data.index(b"\xff\xda") + 14)]


def _arrays() -> Iterable[Seed]:
    stored = io.BytesIO()
    np.save(stored, np.stack([IMAGE] * 3))
    yield Seed("npy", "image", "a.npy", stored.getvalue(), [(0, 128)])
    volume = np.stack([IMAGE.T] * 5, -1)
    for name, made in (("nifti", nibabel.Nifti1Image), ("nifti 2", nibabel.Nifti2Image)):
        data = made(volume, np.diag([1.0, 1, 2, 1])).to_bytes()
        size = 544 if name == "nifti 2" else 352
        yield Seed(name, "image", "a.nii", data, [(0, size)])
        yield Seed(f"{name} gz", "image", "a.nii.gz", data, [(0, size)], wrap=_gzipped)
    packed = _gzipped(nibabel.Nifti1Image(volume, np.eye(4)).to_bytes())
    yield Seed("gz itself", "image", "a.nii.gz", packed, [(0, 20), (len(packed) - 8, len(packed))])


def _zarrs() -> Iterable[Seed]:
    """OME-Zarr images with labels inside, of both versions: every file of metadata, and a chunk of each."""
    for version in ("0.4", "0.5"):
        with TemporaryDirectory() as temporary:
            image = Path(temporary) / "a.zarr"
            _write_zarr(image, version)
            files = {str(file.relative_to(temporary)): file.read_bytes() for file in image.rglob("*") if file.is_file()}
        chunks = {folder: [name for name in sorted(files) if _is_chunk(name, folder)] for folder in ("0", "labels")}
        described = [name for name in sorted(files) if Path(name).name in _METADATA and files[name].strip() != b"{}"]
        for name in (*described, *(found[0] for found in chunks.values())):
            others = {other: content for other, content in files.items() if other != name}
            data = files[name]
            text = "json" if name in described else ""
            yield Seed(f"ome-zarr {version} {name}", "zarr", name, data, [(0, len(data))], others, text=text)


def _is_chunk(name: str, folder: str) -> bool:
    """Whether a file holds pixels of the image ("0") or of its labels."""
    parts = Path(name).parts
    return parts[1] == folder and parts[-1].isdecimal()


def _write_zarr(path: Path, version: str) -> None:
    """A small image of two levels in two chunks, with labels that biounet writes."""
    axes = [{"name": axis, "type": "space", "unit": "micrometer"} for axis in "yx"]
    scales = [[{"type": "scale", "scale": [0.5 * step] * 2}] for step in (1, 2)]
    levels = [{"path": str(k), "coordinateTransformations": scale} for k, scale in enumerate(scales)]
    ome = {"multiscales": [{"version": version, "axes": axes, "datasets": levels}]}
    form, attributes = (2, ome) if version == "0.4" else (3, {"ome": {"version": "0.5", **ome}})
    names = {"name": "v2" if form == 2 else "default", "separator": "/"}
    group = zarr.open_group(path, mode="w", zarr_format=form, attributes=attributes)
    for level, pixels in enumerate((IMAGE, IMAGE[::2, ::2])):
        array = group.create_array(
            str(level), shape=pixels.shape, dtype=pixels.dtype, chunks=(12, 16), chunk_key_encoding=names
        )
        array[...] = pixels
    add_zarr_labels(path, "cells", lambda start, stop: CELLS[tuple(map(slice, start, stop))], largest_id=2)


def _gzipped(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


def _zipped(data: bytes) -> bytes:
    """A ROI set with this ROI among whole ones."""
    return _zip({"0001.roi": data, "0002.roi": ImagejRoi.frompoints(np.array(CORNERS[1])).tobytes()})


def _zip(entries: dict[str, bytes]) -> bytes:
    stored = io.BytesIO()
    with zipfile.ZipFile(stored, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in entries.items():
            file.writestr(zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0)), content, zipfile.ZIP_DEFLATED)
    return stored.getvalue()


def _outlines() -> Iterable[Seed]:
    roi = ImagejRoi.frompoints(np.array(CORNERS[0]), name="cell").tobytes()
    ring = np.array([(3.5, 3.25), (9.5, 3.25), (9.5, 9.75)], np.float32)
    floating = ImagejRoi.frompoints(ring, name="cell").tobytes()
    yield Seed("roi", "outlines", "a.roi", roi, [(0, 64), (64, len(roi))])
    yield Seed("roi in zip", "outlines", "a.zip", floating, [(0, len(floating))], wrap=_zipped)
    archive = _zipped(roi)
    yield Seed("zip", "outlines", "a.zip", archive, _zip_structure(archive))
    features = [
        {
            "type": "Feature",
            "geometry": {
                "type": "Polygon",
                "coordinates": [[*map(list, corners), list(corners[0])]],
                "plane": {"z": 0},
            },
            "properties": {"classification": {"name": "tumour"}},
        }
        for corners in CORNERS
    ]
    geojson = json.dumps({"type": "FeatureCollection", "features": features}).encode()
    yield Seed("geojson", "outlines", "a.geojson", geojson, [(0, len(geojson))], text="json")
    yield Seed("geojson gz", "outlines", "a.geojson.gz", geojson, [(0, len(geojson))], text="json", wrap=_gzipped)
    lines = ["index,shape-type,vertex-index,axis-0,axis-1"]
    lines += [f"{k},polygon,{n},{y},{x}" for k, corners in enumerate(CORNERS) for n, (x, y) in enumerate(corners)]
    shapes = "\n".join(lines).encode()
    yield Seed("napari shapes", "outlines", "a.csv", shapes, [(0, len(shapes))], text="csv")


def _zip_structure(data: bytes) -> Ranges:
    """Local headers, the directory and its end."""
    directory = data.index(b"PK\x01\x02")
    local = [at for at in range(directory) if data[at : at + 4] == b"PK\x03\x04"]
    return [(directory, len(data)), *((at, at + 40) for at in local)]


def _lists() -> Iterable[Seed]:
    image, mask = tiff(IMAGE), tiff(CELLS)
    content = json.dumps(
        {"channel_names": {"0": "MR"}, "labels": {"background": 0, "a": 1, "b": 2, "ignore": 9}}
    ).encode()
    others = {"imagesTr/a_0000.tif": image, "labelsTr/a.tif": mask}
    yield Seed("dataset.json", "folder", "dataset.json", content, [(0, len(content))], others, text="json")
    objects = [
        {"image_id": 4, "category_id": 1, "segmentation": [np.ravel(CORNERS[0]).tolist()]},
        {"image_id": 4, "category_id": 1, "segmentation": {"counts": [100, 50, 618], "size": [24, 32]}},
        {"image_id": 4, "category_id": 1, "segmentation": {"counts": "T3b1Zc0", "size": [24, 32]}, "iscrowd": 1},
    ]
    coco = {
        "images": [{"id": 4, "file_name": "a.tif"}],
        "annotations": objects[:2],
        "categories": [{"id": 1, "name": "c"}],
    }
    for name, chosen in (("coco", objects[:2]), ("coco compressed", [objects[0], objects[2]])):
        data = json.dumps(coco | {"annotations": chosen}).encode()
        yield Seed(name, "folder", "annotations.json", data, [(0, len(data))], {"a.tif": image}, text="json")
    pairs = b"image,labels,region\na.tif,m.tif,m.tif\nb.tif,m.tif,\n"
    files = {"a.tif": image, "b.tif": image, "m.tif": mask}
    yield Seed("pairs.csv", "folder", "pairs.csv", pairs, [(0, len(pairs))], files, text="csv")
    classes = b"id,class\n1,round\n2,long\n"
    files = {"images/a.tif": image, "masks/a.tif": mask}
    yield Seed("classes.csv", "folder", "masks/a_classes.csv", classes, [(0, len(classes))], files, text="csv")
    colours = b"000000,background\n010101,one\n020202,two\n"
    coloured = {
        "images/a.tif": image,
        "masks/a.tif": tiff(np.stack([CELLS.astype(np.uint8)] * 3, -1), photometric="rgb"),
    }
    yield Seed("colours.csv", "folder", "colours.csv", colours, [(0, len(colours))], coloured, text="csv")


def _models() -> Iterable[Seed]:
    weights = {"head.weight": np.ones((2, 1, 1, 1), np.float32), "head.bias": np.zeros(2, np.float32)}
    golden = np.zeros((1, 1, 8, 8), np.float32), np.zeros((1, 2, 4, 4), np.float32)
    model = Model(
        {"name": "unet", "width": 1, "depth": 0}, unet_geometry(0), weights, Normalisation("image"), "instances",
        ("background", "cell"), (), ("0",), (0.5, 0.5), {"threshold": 0.5}, {"steps": 1}, golden,
    )  # fmt: skip
    with TemporaryDirectory() as folder:
        save_model(Path(folder) / "m.safetensors", model)
        data = (Path(folder) / "m.safetensors").read_bytes()
    header = 8 + int.from_bytes(data[:8], "little")
    yield Seed("model", "model", "m.safetensors", data, [(0, header)])
    metadata = json.loads(json.loads(data[8:header])["__metadata__"]["biounet"])
    text = json.dumps(metadata).encode()
    # its metadata changed and the checksum made anew, as somebody might who means harm
    yield Seed(
        "model resealed", "resealed model", "m.json", text, [(0, len(text))], {"m.safetensors": data}, text="json"
    )
