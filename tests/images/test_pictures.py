import struct
import zlib

import numpy as np
import pytest
from PIL import Image as Picture

from biounet.errors import DataError
from biounet.images.formats import read_header, read_image

GREY = np.random.default_rng(3).integers(0, 256, (30, 33), np.uint8)


def save(path, array, mode=None, **options):
    picture = Picture.fromarray(array)
    (picture if mode is None else picture.convert(mode)).save(path, **options)
    return path


def png(width, height, bits, colour, rows):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize("name", ["x.png", "x.jpg"])
def test_a_picture_cut_short_is_refused_or_complete(tmp_path, name):
    path = save(tmp_path / name, GREY)
    whole, data = read_image(path).array, path.read_bytes()
    refusals = []
    for length in {1, 7, 9, 30, 40, *range(50, len(data), len(data) // 20), len(data) - 13}:
        path.write_bytes(data[:length])
        try:
            assert np.array_equal(read_image(path).array, whole)
        except DataError as error:
            refusals.append(str(error))
    assert len(refusals) >= 18
    assert all(text.startswith(str(path)) and "\n" not in text for text in refusals)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_png(tmp_path, dtype):
    array = GREY.astype(dtype) * (257 if dtype == np.uint16 else 1)
    image = read_image(save(tmp_path / "x.png", array))
    assert image.axes == "YX"
    assert image.array.dtype == dtype
    assert np.array_equal(image.array, array)


def test_palette_png_keeps_its_indices(tmp_path):
    picture = Picture.fromarray(GREY % 5)
    picture.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 9, 9, 9, 1, 2, 3])
    for bits in (4, 8):
        picture.save(tmp_path / "x.png", bits=bits)
        image = read_image(tmp_path / "x.png")
        assert np.array_equal(image.array, GREY % 5)
        assert image.palette[:3].tolist() == [[0, 0, 0], [255, 0, 0], [0, 255, 0]]
        assert image.palette.shape == (256, 3)


@pytest.mark.parametrize(
    ("bits", "rows", "values"), [(1, b"\0\xa0", [255, 0, 255, 0]), (4, b"\0\x01\x2f", [0, 17, 34, 255])]
)
def test_few_bits_are_spread_over_eight(tmp_path, bits, rows, values):
    (tmp_path / "x.png").write_bytes(png(4, 1, bits, 0, rows))
    assert read_image(tmp_path / "x.png").array.tolist() == [values]


def test_colour_and_transparency(tmp_path):
    rgba = np.dstack([GREY, GREY // 2, GREY // 3, np.full_like(GREY, 255)])
    image = read_image(save(tmp_path / "x.png", rgba))
    assert (image.axes, image.alpha) == ("CYX", True)
    assert np.array_equal(image.array, rgba.transpose(2, 0, 1))
    image = read_image(save(tmp_path / "y.png", rgba[..., [0, 3]]))
    assert (image.array.shape, image.alpha) == ((2, 30, 33), True)


def test_a_transparent_colour_adds_no_channel(tmp_path):
    path = save(tmp_path / "x.png", np.dstack([GREY] * 3), transparency=(1, 2, 3))
    assert read_image(path).array.shape == (3, 30, 33)
    assert read_image(save(tmp_path / "y.png", GREY, transparency=7)).array.shape == (30, 33)


def test_jpeg_grey_and_colour(tmp_path):
    smooth = np.tile(np.arange(64, dtype=np.uint8) * 3, (48, 1))
    grey = read_image(save(tmp_path / "x.jpg", smooth, quality=95))
    assert grey.axes == "YX"
    assert np.abs(grey.array.astype(int) - smooth).max() < 12
    colour = read_image(save(tmp_path / "y.JPEG", np.dstack([smooth] * 3), quality=95))
    assert (colour.axes, colour.array.shape) == ("CYX", (3, 48, 64))


def test_other_colour_modes_are_refused(tmp_path):
    save(tmp_path / "x.jpg", np.dstack([GREY] * 3), mode="CMYK")
    with pytest.raises(DataError, match="colour mode CMYK; grey or RGB"):
        read_image(tmp_path / "x.jpg")
    (tmp_path / "x.png").write_bytes(png(4, 1, 8, 5, b"\0\1\2\3\4"))
    with pytest.raises(DataError, match="colour type 5 and 8 bits does not exist"):
        read_image(tmp_path / "x.png")


def test_a_tiny_png_that_claims_a_trillion_pixels_is_refused(tmp_path):
    (tmp_path / "x.png").write_bytes(png(10**6, 10**6, 8, 0, b"\0\1"))
    with pytest.raises(DataError, match="declares 10{12} bytes of pixels"):
        read_header(tmp_path / "x.png")
