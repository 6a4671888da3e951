"""Whole slides: MIRAX made by hand and opened by OpenSlide; SVS and NDPI as TIFFs, with OpenSlide as the witness."""

import io
import struct
import sys

import numpy as np
import pytest
import tifffile
from PIL import Image

from biounet.errors import DataError
from biounet.images.arrays import MissingPackageError
from biounet.images.formats import read_header, read_image
from biounet.images.regions import open_regions

SIDE = 64  # pixels of a MIRAX image
SLIDE_ID = "0123456789ABCDEF0123456789ABCDEF"
APERIO = "Aperio Image Library v11.2.1\r\n900x700 [0,0 900x700] (256x256) JPEG/RGB Q=90|AppMag = 20|MPP = 0.4990"


@pytest.fixture
def openslide():
    return pytest.importorskip("openslide", reason="openslide is not installed: pip install 'biounet[slides]'")


def smooth(height, width):
    """A colour picture that JPEG hardly changes."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 200 // width, y * 200 // height, (x + y) * 200 // (width + height)], -1).astype(np.uint8)


def write_mirax(path, pixels, missing=()):
    """A slide of images of 64 pixels a side as lossless PNG, two levels; ``missing``: images not scanned, (y, x)."""
    folder = path.with_suffix("")
    folder.mkdir()
    path.write_bytes(b"\xff\xd8\xff\xd9")  # in slides a small picture
    down, across = pixels.shape[0] // SIDE, pixels.shape[1] // SIDE
    data, pages = b"", []
    for step in (1, 2):
        page = []
        for y, x in np.ndindex(down // step, across // step):
            if step == 1 and (y, x) in missing:
                continue
            place = slice(y * SIDE * step, (y + 1) * SIDE * step), slice(x * SIDE * step, (x + 1) * SIDE * step)
            stored = io.BytesIO()
            Image.fromarray(np.ascontiguousarray(pixels[place][::step, ::step])).save(stored, "PNG")
            page.append((y * step * across + x * step, len(data), stored.tell(), 0))
            data += stored.getvalue()
        pages.append(page)
    (folder / "Data0000.dat").write_bytes(data)
    root = 5 + len(SLIDE_ID)
    records = root + 8 + 4 * len(pages)  # after the pointers to the roots and to the levels
    pointers, stored = b"", b""
    for page in pages:
        at = records + len(stored)
        pointers += struct.pack("<i", at)
        stored += struct.pack("<ii", 0, at + 8) + struct.pack("<ii", len(page), 0)
        stored += b"".join(struct.pack("<4i", *one) for one in page)
    (folder / "Index.dat").write_bytes(
        b"01.02" + SLIDE_ID.encode() + struct.pack("<ii", root + 8, 0) + pointers + stored
    )
    lines = [
        "[GENERAL]", "SLIDE_VERSION=01.02", f"SLIDE_ID={SLIDE_ID}", f"IMAGENUMBER_X={across}", f"IMAGENUMBER_Y={down}",
        "OBJECTIVE_MAGNIFICATION=20", "[HIERARCHICAL]", "HIER_COUNT=1", "NONHIER_COUNT=0", "INDEXFILE=Index.dat",
        "HIER_0_NAME=Slide zoom level", "HIER_0_COUNT=2", "HIER_0_VAL_0_SECTION=L0", "HIER_0_VAL_1_SECTION=L1",
        "[DATAFILE]", "FILE_COUNT=1", "FILE_0=Data0000.dat",
    ]  # fmt: skip
    for level in (0, 1):
        lines += [
            f"[L{level}]", f"IMAGE_CONCAT_FACTOR={level}", "OVERLAP_X=0", "OVERLAP_Y=0",
            f"MICROMETER_PER_PIXEL_X={0.25 * (1 + level)}", f"MICROMETER_PER_PIXEL_Y={0.5 * (1 + level)}",
            "IMAGE_FORMAT=PNG", "IMAGE_FILL_COLOR_BGR=16777215", f"DIGITIZER_WIDTH={SIDE}", f"DIGITIZER_HEIGHT={SIDE}",
        ]  # fmt: skip
    (folder / "Slidedat.ini").write_text("\n".join(lines) + "\n")
    return path


def test_mirax(openslide, tmp_path, rng, monkeypatch):
    monkeypatch.setattr("biounet.images.slides._TILE", 100)
    pixels = rng.integers(0, 255, (128, 256, 3), np.uint8)
    path = write_mirax(tmp_path / "a.mrxs", pixels, missing={(1, 2)})
    pixels[64:, 128:192] = 255  # not scanned: the background's colour
    image = read_image(path)
    assert (image.axes, image.pixel_size_um) == ("CYX", (0.5, 0.25))
    assert (image.array == np.moveaxis(pixels, -1, 0)).all()
    with open_regions(path) as regions:
        assert (regions.whole, regions.chunk) == (False, (100, 100))
        assert [level.shape for level in regions.levels] == [(128, 256), (64, 128)]
        part = regions.read(0, (30, 90), (110, 250), ndim=2)
        assert (part == np.moveaxis(pixels, -1, 0)[:, 30:110, 90:250]).all()
        reduced = regions.read(0, (10, 20), (30, 60), ndim=2, level=1)
        assert (reduced == np.moveaxis(pixels, -1, 0)[:, 20:60:2, 40:120:2]).all()


def test_a_damaged_slide_is_one_line(openslide, tmp_path, rng):
    path = write_mirax(tmp_path / "a.mrxs", rng.integers(0, 255, (128, 128, 3), np.uint8))
    index = tmp_path / "a" / "Index.dat"
    index.write_bytes(index.read_bytes()[:50])
    (tmp_path / "alone.mrxs").write_bytes(b"x")
    for file in (path, tmp_path / "alone.mrxs"):
        with pytest.raises(DataError, match=r"\.mrxs: cannot be read") as error:
            read_image(file)
        assert len(str(error.value).splitlines()) == 1


def test_without_the_package_one_line_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openslide", None)
    for name in ("a.mrxs", "a.scn", "a.bif", "a.vms", "a.svslide"):
        (tmp_path / name).write_bytes(b"x")
        with pytest.raises(MissingPackageError, match=rf"{name}: .* pip install 'biounet\[slides\]'$"):
            read_header(tmp_path / name)


def write_svs(path, pixels, compression):
    """As Aperio's scanners: tiles, a thumbnail, a level of every fourth pixel, label and macro."""
    options = {"photometric": "rgb", "metadata": None, "compression": compression}
    options |= {"compressionargs": {"level": 95}} if compression == "jpeg" else {}
    with tifffile.TiffWriter(path) as file:
        file.write(pixels, tile=(256, 256), description=APERIO, **options)
        file.write(pixels[::7, ::7], description="Aperio thumbnail", rowsperstrip=16, **options)
        file.write(pixels[::4, ::4], tile=(256, 256), description="Aperio level", **options)
        for kind, name in ((1, "label"), (9, "macro")):
            small = pixels[:64, :64]
            file.write(small, description=f"Aperio\r\n{name} 64x64", subfiletype=kind, rowsperstrip=16, **options)
    return path


@pytest.mark.parametrize("compression", ["jpeg", "lzw"])
def test_svs_without_any_extra(tmp_path, monkeypatch, compression):
    monkeypatch.setitem(sys.modules, "openslide", None)
    pixels = smooth(700, 900)
    path = write_svs(tmp_path / "a.svs", pixels, compression)
    image = read_image(path)
    assert (image.axes, image.pixel_size_um) == ("CYX", (0.499, 0.499))
    with open_regions(path) as regions:
        assert (regions.whole, regions.chunk) == (False, (256, 256))
        assert [level.shape for level in regions.levels] == [(700, 900), (175, 225)]
        part = regions.read(0, (250, 300), (600, 800), ndim=2)
        reduced = regions.read_item(0, ndim=2, level=1)
    assert (part == image.array[:, 250:600, 300:800]).all()
    allowed = 6 if compression == "jpeg" else 0
    whole = slice(0, 512), slice(0, 768)  # JPEG tiles that are not cut by the edge
    assert np.abs(np.moveaxis(image.array, 0, -1)[whole].astype(int) - pixels[whole]).max() <= allowed
    assert np.abs(np.moveaxis(reduced, 0, -1).astype(int) - pixels[::4, ::4])[:160, :208].max() <= allowed


def test_openslide_sees_the_same_svs(openslide, tmp_path):
    path = write_svs(tmp_path / "a.svs", smooth(700, 900), "jpeg")
    slide = openslide.OpenSlide(path)
    assert slide.properties["openslide.vendor"] == "aperio"
    assert (slide.level_dimensions, slide.properties["openslide.mpp-x"]) == (((900, 700), (225, 175)), "0.499")
    witness = np.asarray(slide.read_region((300, 250), 0, (500, 350)))[..., :3]
    with open_regions(path) as regions:
        assert (regions.read(0, (250, 300), (600, 800), ndim=2) == np.moveaxis(witness, -1, 0)).all()


def write_ndpi(path, levels):
    """As Hamamatsu's scanners: each level one JPEG with restart markers, and where they stand; a macro image.

    A TIFF but for offsets of 64 bits: that of the next directory, and four more bytes for each tag behind it.
    """
    data = b"II*\0" + bytes(8)
    pointer = 4
    images = [(level, 20.0 / 2**k) for k, level in enumerate(levels)] + [(smooth(60, 150), -1.0)]
    for pixels, lens in images:
        stored = io.BytesIO()
        picture = Image.fromarray(pixels)
        picture.save(stored, "JPEG", quality=95, subsampling=0, restart_marker_blocks=8)
        jpeg = stored.getvalue()
        starts = restarts(jpeg)
        at = len(data)
        data += jpeg
        starts_at, make_at, size_at = len(data), len(data) + 4 * len(starts), len(data) + 4 * len(starts) + 12
        data += struct.pack(f"<{len(starts)}I", *starts) + b"Hamamatsu\0\0\0" + struct.pack("<II", 40_000, 1)
        bits_at = len(data)
        data += struct.pack("<4H", 8, 8, 8, 0)
        height, width = pixels.shape[:2]
        tags = [
            (256, 4, 1, width), (257, 4, 1, height), (258, 3, 3, bits_at), (259, 3, 1, 7), (262, 3, 1, 6),
            (271, 2, 10, make_at), (273, 4, 1, at), (277, 3, 1, 3), (278, 4, 1, height), (279, 4, 1, len(jpeg)),
            (282, 5, 1, size_at), (283, 5, 1, size_at), (296, 3, 1, 3), (65420, 4, 1, 1),
            (65421, 11, 1, struct.unpack("<I", struct.pack("<f", lens))[0]), (65422, 9, 1, 0), (65423, 9, 1, 0),
            (65424, 9, 1, 0), (65426, 4, len(starts), starts_at),
        ]  # fmt: skip
        here = len(data)
        data = data[:pointer] + struct.pack("<Q", here) + data[pointer + 8 :]
        data += struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags)
        pointer = len(data)
        data += bytes(8 + 4 * len(tags))
    path.write_bytes(data)
    return path


def restarts(jpeg):
    """Where the data of a JPEG begin, and begin again after each restart marker."""
    at = jpeg.index(b"\xff\xda")
    first = at + 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
    return [first] + [k + 2 for k in range(first, len(jpeg) - 1) if jpeg[k] == 0xFF and 0xD0 <= jpeg[k + 1] <= 0xD7]


def test_ndpi_without_any_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openslide", None)
    pixels = smooth(256, 512)
    path = write_ndpi(tmp_path / "a.ndpi", [pixels, pixels[::2, ::2]])
    image = read_image(path)
    assert (image.axes, image.pixel_size_um) == ("CYX", (0.25, 0.25))
    with open_regions(path) as regions:
        assert not regions.whole
        assert regions.chunk == (8, 64)  # from one restart marker to the next
        assert [level.shape for level in regions.levels] == [(256, 512), (128, 256)]
        part = regions.read(0, (50, 100), (200, 400), ndim=2)
        reduced = regions.read_item(0, ndim=2, level=1)
    assert (part == image.array[:, 50:200, 100:400]).all()
    assert np.abs(np.moveaxis(image.array, 0, -1).astype(int) - pixels).max() <= 6
    assert np.abs(np.moveaxis(reduced, 0, -1).astype(int) - pixels[::2, ::2]).max() <= 6


def test_openslide_sees_the_same_ndpi(openslide, tmp_path):
    pixels = smooth(256, 512)
    path = write_ndpi(tmp_path / "a.ndpi", [pixels, pixels[::2, ::2]])
    slide = openslide.OpenSlide(path)
    assert (slide.properties["openslide.vendor"], slide.level_dimensions[0]) == ("hamamatsu", (512, 256))
    assert float(slide.properties["openslide.mpp-x"]) == 0.25
    witness = np.asarray(slide.read_region((100, 50), 0, (300, 150)))[..., :3]
    with open_regions(path) as regions:
        part = regions.read(0, (50, 100), (200, 400), ndim=2)
    assert np.abs(part.astype(int) - np.moveaxis(witness, -1, 0)).max() <= 1


def test_a_mistaken_pixel_size_of_a_slide_is_none(tmp_path):
    path = tmp_path / "a.svs"
    tifffile.imwrite(path, smooth(300, 300), tile=(256, 256), photometric="rgb", description="Aperio x|MPP = zero")
    assert read_header(path).pixel_size_um is None
