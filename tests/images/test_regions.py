import subprocess
import sys

import nibabel
import numpy as np
import pytest
import tifffile
from PIL import Image as Picture

from biounet.errors import DataError, UsageError
from biounet.images import sampling, tiff_regions
from biounet.images.formats import read_header, read_image
from biounet.images.image import planes
from biounet.images.regions import open_regions, regions_of

RNG = np.random.default_rng(5)
PLANE = RNG.integers(0, 60000, (50, 70), np.uint16)
STACK = RNG.integers(0, 60000, (5, 50, 70), np.uint16)
HYPER = RNG.integers(0, 256, (2, 3, 2, 50, 70), np.uint8)
RGB = RNG.integers(0, 256, (50, 70, 3), np.uint8)
RGBA = np.dstack([RGB, np.full((50, 70), 255, np.uint8)])
VARYING = np.dstack([RGB, RGB[..., 0]])
TILE = {"tile": (16, 32)}


def tiff(array, **options):
    return lambda path: tifffile.imwrite(path, array, **options)


def png(array):
    return lambda path: Picture.fromarray(array).save(path)


def palette_png(path):
    picture = Picture.fromarray(RGB[..., 0] % 7, "P")
    picture.putpalette(list(range(3 * 7)))
    picture.save(path)


def npy(array):
    return lambda path: np.save(path, array)


def nifti(array, slope=None):
    def write(path):
        image = nibabel.Nifti1Image(array, np.eye(4))
        image.header.set_slope_inter(slope, 0.5 if slope else None)
        nibabel.save(image, path)

    return write


def odd_pages(path):
    """Uncompressed pages that do not follow each other in the file."""
    with tifffile.TiffWriter(path) as writer:
        for page in STACK:
            writer.write(page, metadata=None, contiguous=False)


KINDS = {
    "contiguous.tif": tiff(PLANE),
    "big endian.tif": tiff(STACK, byteorder=">", metadata=None),
    "odd pages.tif": odd_pages,
    "strips.tif": tiff(PLANE, compression="zlib", rowsperstrip=8),
    "strips with predictor.tif": tiff(PLANE, compression="lzw", rowsperstrip=7, predictor=True),
    "one strip.tif": tiff(PLANE, compression="zlib"),
    "one strip a page.tif": tiff(STACK, compression="zlib", metadata=None),
    "tiles.tif": tiff(PLANE, **TILE),
    "compressed tiles.tif": tiff(PLANE, compression="zstd", byteorder=">", **TILE),
    "big tiles.tif": tiff(STACK, compression="zlib", bigtiff=True, **TILE),
    "hyperstack.tif": tiff(HYPER, imagej=True, metadata={"axes": "TZCYX"}),
    "hyperstack in tiles.ome.tif": tiff(HYPER, ome=True, metadata={"axes": "TZCYX"}, compression="zlib", **TILE),
    "volume.tif": tiff(STACK, imagej=True, metadata={"axes": "ZYX"}, compression="zlib"),
    "tiles of voxels.tif": tiff(STACK, volumetric=True, tile=(16, 16, 32), compression="zlib"),
    "colours.tif": tiff(RGB, photometric="rgb", compression="zlib", **TILE),
    "colours apart.tif": tiff(np.moveaxis(RGB, -1, 0), photometric="rgb", planarconfig="separate", compression="zlib"),
    "colours apart in tiles.tif": tiff(
        np.moveaxis(RGB, -1, 0), photometric="rgb", planarconfig="separate", compression="zlib", **TILE
    ),
    "jpeg.tif": tiff(RGB, photometric="rgb", compression="jpeg", **TILE),
    "transparency.tif": tiff(RGBA, photometric="rgb", extrasamples=["unassalpha"], compression="zlib", **TILE),
    "varying.tif": tiff(VARYING, photometric="rgb", extrasamples=["unassalpha"], compression="zlib", **TILE),
    "columns.tif": tiff(PLANE[:, :1], compression="zlib", rowsperstrip=9),
    "bilevel.tif": tiff(PLANE > 30000, compression="zlib", rowsperstrip=11),
    "plane.npy": npy(PLANE),
    "pages.npy": npy(STACK),
    "fortran.npy": npy(np.asfortranarray(STACK)),
    "colours.npy": npy(RGB),
    "truth.npy": npy(PLANE > 30000),
    "big endian.npy": npy(PLANE.astype(">f4")),
    "volume.nii": nifti(STACK.T.astype(np.int16)),
    "series.nii": nifti(HYPER[:, :, 0].T),
    "scaled.nii": nifti(STACK.T.astype(np.int16), 0.25),
    "packed.nii.gz": nifti(STACK.T.astype(np.int16)),
    "grey.png": png(RGB[..., 0]),
    "colours.png": png(RGB),
    "transparency.png": png(RGBA),
    "palette.png": palette_png,
}
WHOLE = {"one strip.tif", "packed.nii.gz", "grey.png", "colours.png", "transparency.png", "palette.png"}


def regions_to_try(shape, rng, count=4):
    """The whole, and some regions, one pixel among them."""
    yield (0,) * len(shape), shape
    for _ in range(count):
        start = tuple(int(rng.integers(0, size)) for size in shape)
        yield start, tuple(int(rng.integers(low + 1, size + 1)) for low, size in zip(start, shape, strict=True))
    yield tuple(size - 1 for size in shape), shape


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("ndim", [2, 3])
def test_regions_are_parts_of_the_planes(tmp_path, rng, name, ndim):
    KINDS[name](tmp_path / name)
    image = read_image(tmp_path / name)
    expected = planes(image, ndim)
    for regions in (open_regions(tmp_path / name), open_regions(tmp_path / name, cache_bytes=0), regions_of(image)):
        with regions:
            assert regions.item_count(ndim) == len(expected)
            assert regions.spatial_shape(ndim) == expected[0].shape[1:]
            assert regions.channels() == expected[0].shape[0]
            for item in {0, len(expected) // 2, len(expected) - 1}:
                for start, stop in regions_to_try(regions.spatial_shape(ndim), rng):
                    found = regions.read(item, start, stop, ndim=ndim)
                    part = expected[item][(slice(None), *map(slice, start, stop))]
                    assert found.dtype == part.dtype == (regions.dtype if image.palette is None else np.uint8)
                    assert found.dtype.isnative
                    assert np.array_equal(found, part)


@pytest.mark.parametrize("name", KINDS)
def test_what_is_said_is_what_the_header_says(tmp_path, name):
    KINDS[name](tmp_path / name)
    header = read_header(tmp_path / name)
    with open_regions(tmp_path / name) as regions:
        assert (regions.axes, regions.shape, regions.source) == (header.axes, header.shape, tmp_path / name)
        assert regions.pixel_size_um == header.pixel_size_um
        assert regions.channel_names == header.channel_names
        assert regions.notes[: len(header.notes)] == header.notes
        assert regions.whole == (name in WHOLE)
        assert len(regions.levels) == 1
        assert regions.levels[0].factors == (1.0,) * len(regions.levels[0].shape)


@pytest.mark.parametrize(
    ("name", "chunk"),
    [
        ("tiles.tif", (16, 32)),
        ("strips.tif", (8, 70)),
        ("one strip.tif", (50, 70)),
        ("one strip a page.tif", (50, 70)),
        ("tiles of voxels.tif", (5, 16, 32)),
        ("contiguous.tif", (1, 1)),
        ("volume.nii", (1, 1, 1)),
        ("grey.png", (50, 70)),
    ],
)
def test_what_is_decoded_together_is_said(tmp_path, name, chunk):
    KINDS[name](tmp_path / name)
    with open_regions(tmp_path / name) as regions:
        assert regions.chunk == chunk


# -- pyramids


def slide(kind, path, last):
    """600x800 pixels and two smaller levels; what they hold tells them apart."""
    levels = [RNG.integers(0, 256, (600 // f, 800 // f, 3), np.uint8) for f in (1, 2, last)]
    options = {"tile": (64, 64), "photometric": "rgb", "compression": "zlib"}
    if kind == "svs":
        with tifffile.TiffWriter(path, bigtiff=True) as writer:
            writer.write(
                levels[0],
                description="Aperio Image Library v11\n800x600|AppMag = 20|MPP = 0.5",
                metadata=None,
                **options,
            )
            writer.write(levels[2][:40, :40], photometric="rgb", metadata=None)  # the thumbnail
            for level in levels[1:]:
                writer.write(level, description="Aperio Image Library v11", metadata=None, **options)
        return levels
    with tifffile.TiffWriter(path, bigtiff=True, ome=kind == "ome") as writer:
        inner = {"subifds": 2} if kind != "pages" else {}
        metadata = {"axes": "YXS"} if kind == "ome" else None
        writer.write(levels[0], metadata=metadata, **inner, **options)
        for level in levels[1:]:
            writer.write(level, subfiletype=1, metadata=None, **options)
    return levels


@pytest.mark.parametrize(("kind", "last"), [("ome", 8), ("subifds", 4), ("pages", 4), ("svs", 8)])
def test_levels_of_a_pyramid(tmp_path, rng, kind, last):
    levels = slide(kind, tmp_path / "x.tif", last)
    smallest = (600 // last, 800 // last)
    with open_regions(tmp_path / "x.tif") as regions:
        assert [level.shape for level in regions.levels] == [(600, 800), (300, 400), smallest]
        assert [level.factors for level in regions.levels] == [(1, 1), (2, 2), (last, last)]
        assert [regions.spatial_shape(2, level) for level in range(3)] == [(600, 800), (300, 400), smallest]
        assert regions.factors(3, 2) == (1, last, last)
        for level, pixels in enumerate(levels):
            expected = np.moveaxis(pixels, -1, 0)
            for start, stop in regions_to_try(pixels.shape[:2], rng):
                found = regions.read(0, start, stop, ndim=2, level=level)
                assert np.array_equal(found, expected[(slice(None), *map(slice, start, stop))])
        with pytest.raises(UsageError, match="has the levels 0 to 2, not 3"):
            regions.spatial_shape(2, 3)


def test_factors_are_whole_where_sizes_are_rounded(tmp_path):
    with tifffile.TiffWriter(tmp_path / "x.ome.tif", ome=True) as writer:
        writer.write(np.zeros((101, 203), np.uint8), subifds=3, tile=(16, 16), metadata={"axes": "YX"})
        for size in ((50, 102), (26, 51), (18, 30)):
            writer.write(np.zeros(size, np.uint8), subfiletype=1, tile=(16, 16))
    with open_regions(tmp_path / "x.ome.tif") as regions:
        assert [level.factors for level in regions.levels] == [(1, 1), (2, 2), (4, 4), (101 / 18, 203 / 30)]


# -- what is held, what is refused


def test_neighbours_do_not_decode_twice(tmp_path, monkeypatch):
    tifffile.imwrite(tmp_path / "x.tif", PLANE, compression="zlib", **TILE)
    decoded = []
    read = tiff_regions._bytes
    monkeypatch.setattr(tiff_regions, "_bytes", lambda *given: (decoded.append(given[-1]), read(*given))[1])
    with open_regions(tmp_path / "x.tif") as regions:
        for row in range(50):
            regions.read(0, (row, 0), (row + 1, 70), ndim=2)
    assert sorted(decoded) == list(range(12))
    with open_regions(tmp_path / "x.tif", cache_bytes=16 * 32 * 2) as regions:  # one tile
        for row in range(16):
            regions.read(0, (row, 0), (row + 1, 70), ndim=2)
    assert len(decoded) == 12 + 16 * 3


def test_missing_tiles_hold_no_data(tmp_path):
    tifffile.imwrite(tmp_path / "x.tif", PLANE, compression="zlib", **TILE)
    with tifffile.TiffFile(tmp_path / "x.tif", mode="r+") as tif:
        counts = list(tif.pages[0].databytecounts)
        counts[4] = 0
        tif.pages[0].tags["TileByteCounts"].overwrite(counts)
        offsets = list(tif.pages[0].dataoffsets)
        offsets[4] = 0
        tif.pages[0].tags["TileOffsets"].overwrite(offsets)
    with open_regions(tmp_path / "x.tif") as regions:
        assert np.array_equal(regions.read_item(0, ndim=2)[0], read_image(tmp_path / "x.tif").array)
        assert not regions.read(0, (16, 32), (32, 64), ndim=2).any()


@pytest.mark.parametrize("compression", ["zlib", "zstd", "lzw"])
def test_damaged_tiles_are_told_when_they_are_read(tmp_path, compression):
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, PLANE, compression=compression, **TILE)
    with tifffile.TiffFile(path) as tif:
        offset, count = tif.pages[0].dataoffsets[5], tif.pages[0].databytecounts[5]
    data = bytearray(path.read_bytes())
    data[offset : offset + count] = bytes(count)
    path.write_bytes(data)
    with open_regions(path) as regions:
        assert np.array_equal(regions.read(0, (0, 0), (16, 70), ndim=2)[0], PLANE[:16])
        with pytest.raises(DataError, match=r"x\.tif: cannot be read as \.tif .*damaged") as caught:
            regions.read(0, (16, 64), (17, 70), ndim=2)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["tiles.tif", "strips.tif", "contiguous.tif", "odd pages.tif", "plane.npy"])
def test_a_file_that_became_shorter_is_told(tmp_path, name):
    KINDS[name](tmp_path / name)
    with open_regions(tmp_path / name, cache_bytes=0) as regions:
        last = regions.item_count(2) - 1
        with open(tmp_path / name, "r+b") as file:
            file.truncate((tmp_path / name).stat().st_size // 3)
        with pytest.raises(DataError, match=r"truncated|damaged") as caught:
            regions.read_item(last, ndim=2)
        assert "\n" not in str(caught.value)
        (tmp_path / name).unlink()
        with pytest.raises(DataError, match="there is no such file"):
            regions.read_item(last, ndim=2)


def test_what_cannot_be_meant_is_refused(tmp_path):
    np.save(tmp_path / "x.npy", PLANE)
    with open_regions(tmp_path / "x.npy") as regions:
        for start, stop in (((0, 0), (51, 70)), ((-1, 0), (5, 5)), ((5, 5), (5, 9)), ((0, 0, 0), (1, 5, 5))):
            with pytest.raises(UsageError, match=r"region .* does not lie in an image of \(50, 70\)"):
                regions.read(0, start, stop, ndim=2)
        with pytest.raises(UsageError, match="has the items 0 to 0, not 1"):
            regions.read(1, (0, 0), (1, 1), ndim=2)
        with pytest.raises(UsageError, match="has the levels 0 to 0, not 1"):
            regions.read(0, (0, 0), (1, 1), ndim=2, level=1)
    with pytest.raises(UsageError, match=r"x\.npy: is closed; open it again"):
        regions.read(0, (0, 0), (1, 1), ndim=2)
    for name in ("y.npy", "notes.txt"):
        with pytest.raises(DataError):
            open_regions(tmp_path / name)


def test_larger_than_memory_is_refused_only_where_all_of_it_is_needed(tmp_path, monkeypatch):
    monkeypatch.setattr("biounet.images.formats.allowed_memory", lambda: 4000)
    KINDS["tiles.tif"](tmp_path / "tiles.tif")
    KINDS["one strip.tif"](tmp_path / "strip.tif")
    with pytest.raises(DataError, match="this machine or container has"):
        read_image(tmp_path / "tiles.tif")
    with open_regions(tmp_path / "tiles.tif") as regions:
        assert np.array_equal(regions.read(0, (3, 4), (20, 30), ndim=2)[0], PLANE[3:20, 4:30])
    with pytest.raises(DataError, match=r"strip\.tif: needs .* GiB, this machine or container has"):
        open_regions(tmp_path / "strip.tif")


# -- transparency of large images


@pytest.mark.parametrize("constant", [True, False])
def test_transparency_of_a_large_image_is_judged_by_a_sample(tmp_path, monkeypatch, constant):
    for name, value in (("LARGE", 1000), ("_SAMPLE", 500), ("_WINDOW", 64)):
        monkeypatch.setattr(sampling, name, value)
    array = np.random.default_rng(8).integers(0, 256, (50, 70, 4), np.uint8)
    array[..., 3] = 255
    seen = sampling.sample_windows((50, 70))
    covered = np.zeros((50, 70), bool)
    for (y0, x0), (y1, x1) in seen:
        covered[y0:y1, x0:x1] = True
    assert 400 < covered.sum() < 700
    place = np.argwhere(covered != constant)[7]  # outside the sample, or in it
    array[(*place, 3)] = 9
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, array, photometric="rgb", extrasamples=["unassalpha"], compression="zlib", **TILE)
    expected = planes(read_image(path), 2)[0]
    assert len(expected) == (3 if constant else 4)
    with open_regions(path) as regions:
        assert regions.channels() == len(expected)
        assert np.array_equal(regions.read_item(0, ndim=2), expected)
        said = (
            "transparency is the same in a sample of all pixels and left out"
            if constant
            else "transparency is a channel"
        )
        assert regions.notes == (said,)


# -- memory


def test_a_large_image_is_read_in_little_memory(tmp_path):
    """400 million pixels in tiles: what a process holds grows by the cache and the region, not by the image."""
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, data=None, shape=(20_000, 20_000), dtype=np.uint8, tile=(512, 512), bigtiff=True)
    code = (
        "import resource, sys\n"
        "from biounet.images.regions import open_regions\n"
        "def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10\n"
        "with open_regions(sys.argv[1], cache_bytes=8 << 20) as regions:\n"
        "    before = peak()\n"
        "    for y in range(0, 20_000, 512):\n"
        "        for x in range(0, 20_000, 1024):\n"
        "            regions.read(0, (y, x), (min(y + 512, 20_000), min(x + 1024, 20_000)), ndim=2)\n"
        "    print(peak() - before)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=300)
    assert done.stderr == ""
    assert int(done.stdout) < 40 << 20
