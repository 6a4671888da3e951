"""One image of files that hold a channel each."""

import imagecodecs
import numpy as np
import pytest
import tifffile

from biounet.errors import DataError
from biounet.images.image import planes
from biounet.images.merged import merged_header, open_merged, read_merged


@pytest.fixture
def volumes(tmp_path):
    """Two volumes of unlike dtype, one with an axis of channels, in tiles."""
    rng = np.random.default_rng(0)
    pixels = [rng.integers(0, 200, (5, 40, 50)).astype(kind) for kind in (np.uint8, np.uint16)]
    files = [tmp_path / f"{name}.ome.tif" for name in "ab"]
    for file, one in zip(files, pixels, strict=True):
        tifffile.imwrite(file, one, metadata={"axes": "ZYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5,
                                              "PhysicalSizeZ": 2.0}, tile=(16, 16))  # fmt: skip
    return files, np.stack([one.astype(np.uint16) for one in pixels])


def test_the_image_of_two_volumes(volumes):
    files, pixels = volumes
    header = merged_header(files, ("DNA", "actin"))
    assert (header.axes, header.shape, header.dtype) == ("CZYX", (2, 5, 40, 50), np.uint16)
    assert header.pixel_size_um == (2.0, 0.5, 0.5)
    image = read_merged(files, ("DNA", "actin"))
    assert (image.axes, image.channel_names, image.source) == ("CZYX", ("DNA", "actin"), files[0])
    np.testing.assert_array_equal(image.array, pixels)


@pytest.mark.parametrize("ndim", [2, 3])
def test_regions_are_those_of_the_image_in_memory(volumes, ndim):
    files, _ = volumes
    items = planes(read_merged(files), ndim)
    with open_merged(files) as regions:
        assert (regions.channels(), regions.item_count(ndim), regions.whole) == (2, len(items), False)
        assert regions.chunk == (1, 16, 16)
        for number, item in enumerate(items):
            start, stop = (1, 7, 20)[-ndim:], (4, 33, 50)[-ndim:]
            part = regions.read(number, start, stop, ndim=ndim)
            np.testing.assert_array_equal(part, item[(slice(None), *map(slice, start, stop))])


@pytest.mark.parametrize("ending", ["tif", "png", "zarr"])
def test_channels_stored_as_an_axis_of_one_or_whole(tmp_path, write_zarr, ending):
    pixels = np.random.default_rng(1).integers(0, 255, (2, 30, 40)).astype(np.uint8)
    files = [tmp_path / f"{number}.{ending}" for number in range(2)]
    for file, one in zip(files, pixels, strict=True):
        if ending == "tif":
            tifffile.imwrite(file, one[None], metadata={"axes": "CYX"}, ome=True)
        elif ending == "png":
            file.write_bytes(imagecodecs.png_encode(one))
        else:
            write_zarr(file, one, levels=2)
    np.testing.assert_array_equal(read_merged(files).array, pixels)
    with open_merged(files) as regions:
        assert len(regions.levels) == 1 + (ending == "zarr")
        np.testing.assert_array_equal(regions.read(0, (3, 4), (20, 21), ndim=2), pixels[:, 3:20, 4:21])


def test_a_file_of_several_channels_is_no_channel(tmp_path):
    files = [tmp_path / "a.tif", tmp_path / "b.tif"]
    for file in files:
        tifffile.imwrite(file, np.zeros((30, 40, 3), np.uint8), photometric="rgb")
    with pytest.raises(DataError, match=r"a\.tif: has more than one channel, and is one of the 2 files of one image"):
        read_merged(files)
