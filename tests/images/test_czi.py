"""CZI files that Zeiss' own library wrote: axes, colours, sizes, names and regions come back as they were."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from biounet.errors import DataError
from biounet.images.arrays import MissingPackageError
from biounet.images.czi import _reductions
from biounet.images.formats import read_header, read_image
from biounet.images.regions import open_regions

SCALE = {"scale_x": 0.1e-6, "scale_y": 0.2e-6, "scale_z": 0.5e-6}  # metres


@pytest.fixture
def czi():
    return pytest.importorskip("pylibCZIrw.czi", reason="pylibCZIrw is not installed: pip install 'biounet[czi]'")


@pytest.fixture
def stack(czi, tmp_path, rng):
    """Two channels of three planes, of which the first pixel is not at (0, 0); and its pixels, CZYX."""
    pixels = rng.integers(0, 60000, (2, 3, 70, 90), np.uint16)
    path = tmp_path / "stack.czi"
    with czi.create_czi(str(path)) as file:
        for c, z in np.ndindex(2, 3):
            file.write(pixels[c, z, ..., None], plane={"C": c, "Z": z, "T": 0}, location=(-10, 20))
        file.write_metadata("stack", channel_names={0: "DAPI", 1: "GFP"}, **SCALE)
    return path, pixels


def test_channels_planes_sizes_and_names(stack):
    path, pixels = stack
    image = read_image(path)
    assert (image.axes, image.channel_names, image.notes) == ("CZYX", ("DAPI", "GFP"), ())
    assert image.pixel_size_um == pytest.approx((0.5, 0.2, 0.1))
    assert image.array.dtype == np.uint16
    assert (image.array == pixels).all()


def test_a_part_of_a_stack_whose_planes_do_not_begin_at_0(czi, tmp_path, rng):
    pixels = rng.integers(0, 255, (2, 3, 20, 30), np.uint8)
    path = tmp_path / "part.czi"
    with czi.create_czi(str(path)) as file:
        for t, z in np.ndindex(2, 3):
            file.write(pixels[t, z, ..., None], plane={"C": 0, "Z": 4 + z, "T": 7 + t})
    image = read_image(path)
    assert image.axes == "TZYX"
    assert (image.array == pixels).all()


def test_regions_are_read_where_they_lie(stack):
    path, pixels = stack
    with open_regions(path) as regions:
        assert not regions.whole
        assert regions.item_count(2) == 3
        assert (regions.read(2, (5, 7), (40, 60), ndim=2) == pixels[:, 2, 5:40, 7:60]).all()
        assert (regions.read(0, (1, 5, 7), (3, 40, 60), ndim=3) == pixels[:, 1:, 5:40, 7:60]).all()


def test_a_mosaic_larger_than_a_tile_reads_without_seams_and_gaps_are_zero(czi, tmp_path, rng, monkeypatch):
    monkeypatch.setattr("biounet.images.czi._TILE", 48)
    pixels = rng.integers(1, 255, (100, 160), np.uint8)
    path = tmp_path / "mosaic.czi"
    with czi.create_czi(str(path)) as file:
        for y, x in [(0, 0), (0, 80), (50, 80)]:  # the fourth tile is missing
            file.write(np.ascontiguousarray(pixels[y : y + 50, x : x + 80, None]), location=(x, y))
    pixels[50:, :80] = 0
    assert (read_image(path).array == pixels).all()
    with open_regions(path) as regions:
        assert regions.chunk == (48, 48)
        assert (regions.read(0, (30, 40), (90, 150), ndim=2)[0] == pixels[30:90, 40:150]).all()


@pytest.mark.parametrize("compression", ["uncompressed:", "zstd0:", "zstd1:"])
def test_colours_are_red_green_blue_whatever_the_compression(czi, tmp_path, rng, compression):
    bgr = rng.integers(0, 255, (40, 50, 3), np.uint8)  # what the format stores
    path = tmp_path / "colour.czi"
    with czi.create_czi(str(path), compression_options=compression) as file:
        file.write(bgr)
    image = read_image(path)
    assert (image.axes, image.channel_names) == ("CYX", ())
    assert (image.array == np.moveaxis(bgr[..., ::-1], -1, 0)).all()


def test_scenes_of_one_size_are_separate_images(czi, tmp_path, rng):
    pixels = rng.integers(0, 255, (2, 40, 50), np.uint8)
    path = tmp_path / "scenes.czi"
    with czi.create_czi(str(path)) as file:
        for scene in (0, 1):
            file.write(pixels[scene, ..., None], location=(300 * scene, 0), scene=scene)
    image = read_image(path)
    assert (image.axes, image.notes) == ("IYX", ("2 scenes taken as separate images",))
    assert (image.array == pixels).all()


def test_of_scenes_that_differ_the_first_is_used_and_said(czi, tmp_path, rng):
    first = rng.integers(0, 255, (40, 50), np.uint8)
    path = tmp_path / "scenes.czi"
    with czi.create_czi(str(path)) as file:
        file.write(first[..., None], scene=0)
        file.write(np.zeros((60, 50, 1), np.uint8), location=(300, 0), scene=1)
    image = read_image(path)
    assert image.notes == ("only the first of 2 scenes, which differ in size, is used",)
    assert (image.array == first).all()


def test_channels_of_several_types_are_refused(czi, tmp_path):
    path = tmp_path / "mixed.czi"
    with czi.create_czi(str(path)) as file:
        file.write(np.zeros((40, 50, 1), np.uint8), plane={"C": 0})
        file.write(np.zeros((40, 50, 1), np.uint16), plane={"C": 1})
    with pytest.raises(DataError, match=r"mixed\.czi: channels of types Gray16, Gray8; .*OME-TIFF"):
        read_header(path)


def test_levels_of_a_pyramid(stack, monkeypatch):
    """The library writes no pyramids, so one is made believe: the reader reduces on the fly what is not stored."""
    path, pixels = stack
    monkeypatch.setattr("biounet.images.czi._reductions", lambda document: [2])
    with open_regions(path) as regions:
        assert [level.shape for level in regions.levels] == [(3, 70, 90), (3, 35, 45)]
        part = regions.read(1, (3, 4), (30, 40), ndim=2, level=1)
    assert (part == pixels[:, 1, 6:60:2, 8:80:2]).all()  # nearest neighbour


def test_reductions_are_those_of_the_blocks_that_are_stored():
    zooms = (1.0, 1.0, 0.5, 0.2501, 1 / 128)

    def enumerate_subblocks(function):
        for number, zoom in enumerate(zooms):
            assert function(number, SimpleNamespace(get_zoom=lambda zoom=zoom: zoom))

    scene = SimpleNamespace(width=100, height=60)
    reader = SimpleNamespace(enumerate_subblocks=enumerate_subblocks)
    assert _reductions(SimpleNamespace(scenes=[scene], reader=reader)) == [2, 4]


def test_damage_is_one_line(stack):
    path, _ = stack
    data = path.read_bytes()
    for damaged in (data[:100], b"x" * 4000, data[: len(data) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"stack\.czi: ") as error:
            read_image(path)
        assert len(str(error.value).splitlines()) == 1


def test_without_the_package_one_line_says_how_to_get_it(tmp_path, monkeypatch):
    (tmp_path / "a.czi").write_bytes(b"ZISRAWFILE")
    monkeypatch.setitem(sys.modules, "pylibCZIrw.czi", None)
    with pytest.raises(MissingPackageError, match=r"a\.czi: Zeiss CZI needs .* pip install 'biounet\[czi\]'$"):
        read_header(tmp_path / "a.czi")
