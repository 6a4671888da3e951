import numpy as np
import pytest
import tifffile

from biounet.errors import BiounetError, UsageError
from biounet.images.formats import read_image
from biounet.images.regions import open_regions
from biounet.images.writing_large import label_dtype, write_large_labels, write_large_probabilities


def part_of(array, log=None):
    def read(start, stop):
        if log is not None:
            log.append((start, stop))
        return array[tuple(map(slice, start, stop))]

    return read


@pytest.fixture
def labels(rng):
    return rng.integers(0, 5000, (2300, 1100)).astype(np.int32)


def test_labels_and_their_pyramid_are_read_back(tmp_path, labels):
    path = tmp_path / "neuer Ordner" / "x_labels.tif"
    write_large_labels(path, part_of(labels), labels.shape, largest_id=5000, pixel_size_um=(0.5, 0.25), tile=256)
    with tifffile.TiffFile(path) as tif:
        assert tif.is_bigtiff
        assert tif.is_ome
        levels = tif.series[0].levels
        assert [level.shape for level in levels] == [(2300, 1100), (1150, 550), (575, 275)]
        for level, found in enumerate(levels):
            assert found.dtype == np.uint16
            assert np.array_equal(found.asarray(), labels[:: 2**level, :: 2**level])
            assert found.keyframe.compression == 8
            assert found.keyframe.tile == (256, 256)
    assert read_image(path).pixel_size_um == (0.5, 0.25)
    assert list(path.parent.iterdir()) == [path]
    with open_regions(path) as regions:
        assert [level.factors for level in regions.levels] == [(1, 1), (2, 2), (4, 4)]
        assert np.array_equal(regions.read(0, (300, 5), (900, 500), ndim=2)[0], labels[300:900, 5:500])
        found = regions.read(0, (300, 5), (575, 270), ndim=2, level=2)[0]
        assert np.array_equal(found, labels[::4, ::4][300:575, 5:270])
        assert regions.chunk == (256, 256)


def test_each_tile_is_asked_for_once_in_raster_order(tmp_path, labels):
    asked = []
    write_large_labels(tmp_path / "x.tif", part_of(labels, asked), labels.shape, largest_id=5000, tile=512)
    assert asked == [
        ((y, x), (min(y + 512, 2300), min(x + 512, 1100))) for y in range(0, 2300, 512) for x in range(0, 1100, 512)
    ]


@pytest.mark.parametrize(
    ("shape", "axes", "stored"),
    [
        ((3, 40, 2100), "ZYX", ((3, 40, 2100), (3, 20, 1050), (3, 10, 525))),
        ((2, 2, 33, 1029), "TZYX", ((2, 2, 33, 1029), (2, 2, 17, 515))),
        ((1, 5), "YX", ((1, 5),)),
        ((1500, 1), "YX", ((1500, 1), (750, 1))),
    ],
)
def test_volumes_times_and_thin_images(tmp_path, rng, shape, axes, stored):
    labels = rng.integers(0, 300, shape).astype(np.int32)
    write_large_labels(tmp_path / "x.tif", part_of(labels), shape, largest_id=300, axes=axes, tile=64)
    with tifffile.TiffFile(tmp_path / "x.tif") as tif:
        levels = tif.series[0].levels
        assert tuple(level.shape for level in levels) == stored
        for level, found in enumerate(levels):
            assert np.array_equal(found.asarray().reshape(stored[level]), labels[..., :: 2**level, :: 2**level])
    image = read_image(tmp_path / "x.tif")
    assert np.array_equal(image.array.reshape(shape), labels)
    assert image.axes == axes


def test_without_a_pyramid(tmp_path, labels):
    write_large_labels(tmp_path / "x.tif", part_of(labels), labels.shape, largest_id=5000, pyramid=False)
    with tifffile.TiffFile(tmp_path / "x.tif") as tif:
        assert len(tif.series[0].levels) == 1


@pytest.mark.parametrize(
    ("largest", "dtype"),
    [(0, "u2"), (65535, "u2"), (65536, "f4"), (2**24, "f4"), (2**24 + 1, "u4"), (2**31 - 1, "u4")],
)
def test_ids_are_kept_in_a_type_that_holds_them(tmp_path, largest, dtype):
    labels = np.array([[0, largest, largest], [max(largest - 1, 0), 0, 0]], np.int32)
    assert label_dtype(largest) == np.dtype(dtype)
    write_large_labels(tmp_path / "x.tif", part_of(labels), labels.shape, largest_id=largest)
    stored = tifffile.imread(tmp_path / "x.tif")
    assert stored.dtype == np.dtype(dtype)
    assert np.array_equal(stored.astype(np.int64), labels)


def test_the_range_to_show_is_said(tmp_path, labels):
    for largest in (5000, 70_000, 2**25):
        write_large_labels(tmp_path / "x.tif", part_of(labels[:20, :20]), (20, 20), largest_id=largest)
        with tifffile.TiffFile(tmp_path / "x.tif") as tif:
            tags = tif.pages[0].tags
            assert (tags["SMinSampleValue"].value, tags["SMaxSampleValue"].value) == (0, 255)


def test_probabilities(tmp_path, rng):
    maps = rng.random((3, 1100, 90)).astype(np.float32)
    write_large_probabilities(tmp_path / "x.tif", part_of(maps), maps.shape, pixel_size_um=(2, 2), tile=64)
    image = read_image(tmp_path / "x.tif")
    assert (image.axes, image.pixel_size_um) == ("CYX", (2, 2))
    assert np.array_equal(image.array, maps)
    with open_regions(tmp_path / "x.tif") as regions:
        assert np.array_equal(regions.read_item(0, ndim=2, level=1), maps[:, ::2, ::2])
    volume = rng.random((2, 5, 20, 30)).astype(np.float32)
    write_large_probabilities(tmp_path / "y.tif", part_of(volume), volume.shape)
    assert np.array_equal(read_image(tmp_path / "y.tif").array, volume)


def test_an_interrupted_file_does_not_appear(tmp_path, labels):
    (tmp_path / "x.tif").write_text("old")

    def interrupted(start, stop):
        if start[0]:
            raise KeyboardInterrupt
        return part_of(labels)(start, stop)

    with pytest.raises(KeyboardInterrupt):
        write_large_labels(tmp_path / "x.tif", interrupted, labels.shape, largest_id=5000)
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("x.tif", "old")]


def test_what_cannot_be_written_is_refused(tmp_path, labels):
    path = tmp_path / "x.tif"
    with pytest.raises(UsageError, match=r"ids from 0 to 49\d\d at \(0, 0\); between 0 and 10 was said"):
        write_large_labels(path, part_of(labels), labels.shape, largest_id=10)
    with pytest.raises(UsageError, match="ids from -1 to"):
        write_large_labels(path, part_of(labels - 1), labels.shape, largest_id=5000)
    with pytest.raises(UsageError, match="largest id -1: ids must lie between 0 and"):
        write_large_labels(path, part_of(labels), labels.shape, largest_id=-1)
    with pytest.raises(UsageError, match="tile 100: TIFF tiles have a multiple of 16"):
        write_large_labels(path, part_of(labels), labels.shape, largest_id=5000, tile=100)
    with pytest.raises(UsageError, match="axes 'XY' for shape"):
        write_large_labels(path, part_of(labels), labels.shape, largest_id=5000, axes="XY")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(BiounetError, match=r"x\.tif: cannot be written"):
        write_large_labels(tmp_path / "file" / "x.tif", part_of(labels), labels.shape, largest_id=5000)
    assert not path.exists()
