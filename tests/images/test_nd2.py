"""ND2 files made by hand after the format's structure, read by the package nd2 itself.

No library writes ND2, and no file of a microscope may be shipped here: what NIS-Elements writes was not tried.
"""

import struct
import sys
import zlib

import numpy as np
import pytest

from biounet.errors import DataError
from biounet.images.arrays import MissingPackageError
from biounet.images.formats import read_header, read_image
from biounet.images.regions import open_regions

MAGIC = 0x0ABECEDA
RESERVED = 4072  # bytes that pixels lie after the head of their chunk


def entry(name, value):
    """A value with its name, as the metadata of ND2 hold them: truth, whole number, number, text, or a level."""
    named = name.encode("utf-16-le") + b"\0\0"
    kinds = {bool: (1, "<B"), int: (3, "<I"), float: (6, "<d")}
    if isinstance(value, dict):
        inner = b"".join(entry(key, one) for key, one in value.items())
        length = 2 + len(named) + 12 + len(inner)
        return (
            struct.pack("<BB", 11, len(name) + 1) + named + struct.pack("<IQ", len(value), length) + inner
            + bytes(8 * len(value))
        )  # fmt: skip
    if isinstance(value, str):
        return struct.pack("<BB", 8, len(name) + 1) + named + value.encode("utf-16-le") + b"\0\0"
    code, form = kinds[type(value)]
    return struct.pack("<BB", code, len(name) + 1) + named + struct.pack(form, value)


def loops(sizes, z_step):
    """Nested loops over time, positions and planes, as an experiment describes them."""
    described = None
    for axis, size in reversed(sizes.items()):
        if axis == "T":
            kind, parameters = 1, {"uiCount": size, "dStart": 0.0, "dPeriod": 1.0, "dDuration": 1.0}
        elif axis == "P":
            points = {f"i{k:010}": {"dPosX": 0.0, "dPosY": 0.0, "dPosZ": 0.0} for k in range(size)}
            kind, parameters = 2, {"uiCount": size, "Points": points}
        else:
            kind, parameters = 4, {"uiCount": size, "dZStep": z_step}
        inner = {"ppNextLevelEx": {"i0000000000": described}} if described else {}
        described = {"eType": kind, "uLoopPars": parameters, **inner}
    return described


def write_nd2(path, frames, *, sizes=None, names=("DAPI",), size_um=0.25, z_step=1.5, packed=False):
    """``frames``: (frame, Y, X, components); ``sizes`` of T, P and Z, outermost first; no names: one of colour."""
    count, height, width, components = frames.shape
    bits = frames.dtype.itemsize * 8
    attributes = {
        "uiWidth": width, "uiWidthBytes": width * components * bits // 8, "uiHeight": height, "uiComp": components,
        "uiBpcInMemory": bits, "uiBpcSignificant": bits, "uiSequenceCount": count, "eCompression": 0 if packed else 2,
        "dCompressionParam": 0.0,
    }  # fmt: skip
    each = components // len(names)
    probe = {"m_ExcitationSpectrum": {"uiCount": 0}, "m_EmissionSpectrum": {"uiCount": 0}}
    planes = {
        f"a{k}": {"uiCompCount": each, "sDescription": name, "pFluorescentProbe": probe} for k, name in enumerate(names)
    }
    picture = {
        "bCalibrated": size_um > 0, "dCalibration": float(size_um),
        "sPicturePlanes": {"uiCount": len(names), "uiCompCount": components, "sPlaneNew": planes},
    }  # fmt: skip
    chunks = {
        "ImageAttributesLV!": entry("SLxImageAttributes", attributes),
        "ImageMetadataSeqLV|0!": entry("SLxPictureMetadata", picture),
    }
    if sizes:
        chunks["ImageMetadataLV!"] = entry("SLxExperiment", loops(sizes, z_step))
    for number, frame in enumerate(frames):
        pixels = zlib.compress(frame.tobytes()) if packed else frame.tobytes()
        chunks[f"ImageDataSeq|{number}!"] = bytes(8) + pixels
    data = chunk("ND2 FILE SIGNATURE CHUNK NAME01!", b"Ver3.0".ljust(64, b"\0"), reserve=0)
    places = b""
    for name, content in chunks.items():
        places += name.encode() + struct.pack("<QQ", len(data), len(content))
        data += chunk(name, content)
    at = len(data)
    ending = b"ND2 CHUNK MAP SIGNATURE 0000001!" + struct.pack("<Q", at)
    data += chunk("ND2 FILEMAP SIGNATURE NAME 0001!", places + ending, reserve=0)
    path.write_bytes(data)
    return path


def chunk(name, content, reserve=RESERVED):
    head = name.encode().ljust(reserve, b"\0") if reserve else name.encode()
    return struct.pack("<IIQ", MAGIC, len(head), len(content)) + head + content


@pytest.fixture(autouse=True)
def _package(request):
    if "without" not in request.node.name:
        pytest.importorskip("nd2", reason="nd2 is not installed: pip install 'biounet[nd2]'")


@pytest.mark.parametrize("packed", [False, True])
def test_time_planes_and_channels(tmp_path, rng, packed):
    pixels = rng.integers(0, 4000, (2, 3, 40, 50, 2), np.uint16)  # TZYXC
    path = write_nd2(
        tmp_path / "a.nd2", pixels.reshape(6, 40, 50, 2), sizes={"T": 2, "Z": 3}, names=("DAPI", "GFP"), packed=packed
    )
    image = read_image(path)
    assert (image.axes, image.channel_names, image.notes) == ("TCZYX", ("DAPI", "GFP"), ())
    assert image.pixel_size_um == (1.5, 0.25, 0.25)
    assert (image.array == pixels.transpose(0, 4, 1, 2, 3)).all()
    with open_regions(path) as regions:
        assert not regions.whole
        assert regions.chunk == ((1, 40, 50) if packed else (1, 1, 1))
        part = regions.read(1, (1, 5, 7), (3, 30, 40), ndim=3)
        assert (part == pixels.transpose(0, 4, 1, 2, 3)[1, :, 1:3, 5:30, 7:40]).all()


def test_positions_are_separate_images(tmp_path, rng):
    pixels = rng.integers(0, 4000, (3, 40, 50, 1), np.uint16)
    image = read_image(write_nd2(tmp_path / "a.nd2", pixels, sizes={"P": 3}))
    assert (image.axes, image.notes) == ("IYX", ("axis P taken as separate images",))
    assert (image.array == pixels[..., 0]).all()
    assert image.pixel_size_um == (0.25, 0.25)


def test_colour(tmp_path, rng):
    pixels = rng.integers(0, 255, (1, 40, 50, 3), np.uint8)
    image = read_image(write_nd2(tmp_path / "a.nd2", pixels, names=("Brightfield",)))
    assert (image.axes, image.channel_names) == ("CYX", ())
    assert (image.array == np.moveaxis(pixels[0], -1, 0)).all()


def test_a_file_without_calibration_states_no_size(tmp_path):
    path = write_nd2(tmp_path / "a.nd2", np.zeros((1, 40, 50, 1), np.uint16), size_um=0.0)
    assert read_header(path).pixel_size_um is None


def test_damage_is_one_line(tmp_path, rng):
    path = write_nd2(tmp_path / "a.nd2", rng.integers(0, 4000, (1, 40, 50, 1), np.uint16))
    data = path.read_bytes()
    for damaged in (data[:100], b"x" * 4000, data[: len(data) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"a\.nd2: ") as error:
            read_image(path)
        assert len(str(error.value).splitlines()) == 1


def test_without_the_package_one_line_says_how_to_get_it(tmp_path, monkeypatch):
    (tmp_path / "a.nd2").write_bytes(b"x")
    monkeypatch.setitem(sys.modules, "nd2", None)
    with pytest.raises(MissingPackageError, match=r"a\.nd2: Nikon ND2 needs .* pip install 'biounet\[nd2\]'$"):
        read_header(tmp_path / "a.nd2")
