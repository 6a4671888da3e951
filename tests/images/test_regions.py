import nibabel
import numpy as np
import pytest
import tifffile
from PIL import Image as Picture

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
