"""Headers of TIFF files of every kind: plain, ImageJ, OME, BigTIFF, SVS, NDPI, LSM, pyramids, any compression."""

from __future__ import annotations

import logging
import re
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from biounet.errors import DataError
from biounet.images.axes import known_axes, stated_size
from biounet.images.channels import first_pixels, imagej_names, ome_names, own_images
from biounet.images.image import Array, Header

# the most bytes one stored byte can become, by TIFF compression tag; others as `_OTHER_RATIO`
_RATIOS = {1: 8, 5: 1400, 8: 1040, 32946: 1040, 32773: 128}  # 1: bits may be stored eight to a byte
_OTHER_RATIO = 20_000
_UM = {
    "m": 1e6, "cm": 1e4, "mm": 1e3, "um": 1.0, "nm": 1e-3, "inch": 25400.0, "in": 25400.0, "a": 1e-4,
    "meter": 1e6, "centimeter": 1e4, "millimeter": 1e3, "micron": 1.0, "microns": 1.0, "micrometer": 1.0,
    "nanometer": 1e-3, "angstrom": 1e-4,
}  # fmt: skip
_MANY_WARNINGS = 1000
_CENTIMETER = 3  # TIFF's ResolutionUnit


def tiff_header(path: Path) -> Header:
    """The first image series of a TIFF, at full resolution.

    Axes are those of ImageJ, OME or the writer; a stack whose axes are not stated is "I". Samples are
    channels. Raises `DataError` for damaged structure, data truncated, or axes that cannot be resolved.
    """
    with opened_tiff(path) as tif:
        series = tif.series[0]
        axes, notes = known_axes(path, series.axes, series.shape)
        page = series.keyframe
        return Header(
            axes,
            tuple(series.shape),
            np.dtype(series.dtype),
            _capacity(path, series),
            lambda: _pixels(path),
            pixel_size_um=_pixel_size(tif, axes),
            alpha=series.axes.endswith("S") and any(sample in (1, 2) for sample in page.extrasamples),
            notes=notes + _other_series(tif),
            channel_names=_channel_names(tif, axes, series.shape),
        )


def _pixels(path: Path) -> Array:
    with opened_tiff(path) as tif:
        pixels: Array = tif.series[0].asarray(maxworkers=1)
        return pixels


@contextmanager
def opened_tiff(path: Path) -> Iterator[Any]:
    """The file, with damage that tifffile only logs (lost pages, cut metadata) raised as `DataError`.

    Of OME images in several files there are those that lie in this one alone.
    """
    complaints: list[str] = []
    with _listening(complaints), tifffile.TiffFile(path, _multifile=False) as tif:
        _check_chain(path, tif)
        own = own_images(tif.ome_metadata or "", path.name) if tif.is_ome else None
        if own is None:
            yield tif
        else:
            with tifffile.TiffFile(path, _multifile=False, omexml=own) as alone:
                yield alone
    fatal = [text for text in complaints if re.search("TiffPages|series|invalid value offset", text)]
    if fatal:
        raise DataError(f"{path}: the TIFF is damaged or truncated ({_short(fatal[0])}); copy or export it again")


def _check_chain(path: Path, tif: Any) -> None:
    """Raise `DataError` where the directories of a TIFF lead in a circle: tifffile would follow it for ever."""
    if tif.is_ndpi:
        return  # its offsets have a form of their own
    form, seen = tif.tiff, set[int]()
    with open(path, "rb") as file:
        place = 4 if form.offsetsize == 4 else 8
        while True:
            file.seek(place)
            stored = file.read(form.offsetsize)
            offset = int(struct.unpack(form.offsetformat, stored)[0]) if len(stored) == form.offsetsize else 0
            if offset in seen:
                raise DataError(f"{path}: the directories of the TIFF lead in a circle; export it again")
            seen.add(offset)
            file.seek(offset)
            tags = file.read(form.tagnosize)
            if offset == 0 or len(tags) < form.tagnosize:
                return
            place = offset + form.tagnosize + int(struct.unpack(form.tagnoformat, tags)[0]) * form.tagsize
            if place > 1 << 62:
                return


@contextmanager
def _listening(complaints: list[str]) -> Iterator[None]:
    handler = _Listener(complaints)
    logger = logging.getLogger("tifffile")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


class _Listener(logging.Handler):
    """Collects what tifffile complains of in this thread, and ends a reading that only complains."""

    def __init__(self, complaints: list[str]) -> None:
        super().__init__(logging.WARNING)
        self.complaints, self.reader, self.warnings = complaints, threading.get_ident(), 0

    def emit(self, record: logging.LogRecord) -> None:
        """Keep an error; raise at the thousandth message, where damage leads in circles."""
        if record.thread != self.reader:
            return
        self.warnings += 1
        if record.levelno >= logging.ERROR:
            self.complaints.append(record.getMessage())
        if self.warnings >= _MANY_WARNINGS:
            raise ValueError(f"{self.warnings} faults, the last is {_short(record.getMessage())}")


def _short(text: str) -> str:
    return " ".join(re.sub(r"^<[^>]*>\s*", "", text).split())[:100]


def _other_series(tif: Any) -> tuple[str, ...]:
    if tif.is_ome and tif.series[0].kind != "ome":
        return ("part of an OME image in several files: the pages in this file, without their axes",)
    if len(tif.series) < 2:
        return ()
    shapes = ", ".join("x".join(map(str, series.shape)) for series in tif.series[1:4])
    return (f"only the first of {len(tif.series)} images in the file is used (others: {shapes})",)


def _capacity(path: Path, series: Any) -> int:
    """Most bytes of pixels that the stored bytes can become; raises where they lie outside the file."""
    end = path.stat().st_size
    if series.dataoffset is not None:
        if series.dataoffset + series.nbytes > end:
            raise _cut_short(path, series.dataoffset + series.nbytes, end)
        return int(series.nbytes)
    stored = 0
    for page in series.pages:
        if page is None:
            raise DataError(f"{path}: pages that the OME metadata lists are not there; export it again as one file")
        for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
            if offset + count > end:
                raise _cut_short(path, offset + count, end)
        stored += sum(page.databytecounts)
    return int(stored) * _RATIOS.get(int(series.keyframe.compression), _OTHER_RATIO)


def _cut_short(path: Path, needed: int, size: int) -> DataError:
    return DataError(
        f"{path}: the TIFF is truncated: {needed} bytes are needed, {size} are there; copy or export it again"
    )


def _pixel_size(tif: Any, axes: str) -> tuple[float, ...] | None:
    """um per pixel in the order (Z)YX, where the file states it in a unit of length."""
    try:
        if tif.is_ome:
            sizes = _ome_sizes(tif.ome_metadata or "")
        elif tif.is_imagej:
            sizes = _imagej_sizes(tif)
        elif tif.is_svs:
            sizes = _aperio_sizes(tif.pages[0].description)
        elif tif.is_lsm:
            sizes = {axis: 1e6 * float(tif.lsm_metadata[f"VoxelSize{axis}"]) for axis in "ZYX"}
        else:
            sizes = _tagged_sizes(tif.pages[0])
    except (KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError):
        return None
    return stated_size(sizes, axes)


def _ome_sizes(xml: str) -> dict[str, float]:
    pixels = first_pixels(xml)
    stated = {} if pixels is None else pixels.attrib
    return {
        axis: float(stated[f"PhysicalSize{axis}"]) * _unit(stated.get(f"PhysicalSize{axis}Unit", "um"))
        for axis in "ZYX"
        if f"PhysicalSize{axis}" in stated
    }


def _imagej_sizes(tif: Any) -> dict[str, float]:
    """ImageJ leaves out a distance of planes of 1, and the units of Y and Z where they are those of X."""
    metadata = tif.imagej_metadata or {}
    unit = {axis: _unit(str(metadata.get(f"{axis.lower()}unit", metadata["unit"]))) for axis in "ZYX"}
    tags = tif.pages[0].tags
    sizes = {axis: unit[axis] * _per_pixel(tags[f"{axis}Resolution"].value) for axis in "YX"}
    return sizes | {"Z": unit["Z"] * abs(float(metadata.get("spacing", 1)))}


def _aperio_sizes(description: str) -> dict[str, float]:
    """From the item ``MPP`` of an SVS description, um per pixel."""
    stated = re.search(r"\|\s*MPP\s*=\s*([0-9.eE+-]+)", description)
    return dict.fromkeys("YX", float(stated[1])) if stated else {}


def _tagged_sizes(page: Any) -> dict[str, float]:
    """From the resolution tags, in centimetres only: inches there are mostly a screen's or printer's."""
    if int(page.tags["ResolutionUnit"].value) != _CENTIMETER:
        return {}
    return {axis: 1e4 * _per_pixel(page.tags[f"{axis}Resolution"].value) for axis in "YX"}


def _channel_names(tif: Any, axes: str, shape: tuple[int, ...]) -> tuple[str, ...]:
    """One a channel, as OME, ImageJ or LSM state them; () for one channel, samples of a colour, or no statement."""
    count = shape[axes.index("C")] if "C" in axes else 1
    if count == 1 or axes.endswith("C"):
        return ()
    names: tuple[str, ...] = ()
    if tif.is_ome:
        names = ome_names(tif.ome_metadata or "")
    elif tif.is_imagej:
        names = imagej_names((tif.imagej_metadata or {}).get("Labels"), count)
    elif tif.is_lsm:
        names = tuple(map(str, (tif.lsm_metadata.get("ChannelColors") or {}).get("ColorNames", ())))
    return names if len(names) == count else ()


def _per_pixel(rational: tuple[int, int]) -> float:
    return rational[1] / rational[0]


def _unit(name: str) -> float:
    plain = name.strip().lower().replace("\\u00b5", "u").replace("µ", "u").replace("μ", "u").replace("å", "a")
    return _UM[plain]
