import os
import tracemalloc

import numpy as np
import pytest
import tifffile
from PIL import Image as Picture

from biounet.datasets.annotation import load_labels
from biounet.errors import BiounetError, UsageError
from biounet.images.formats import read_image
from biounet.images.writing import (
    colour_table,
    whole_file,
    whole_folder,
    write_labels,
    write_labels_in_parts,
    write_png,
    write_probabilities,
    write_probabilities_in_parts,
)

LABELS = np.arange(40 * 50).reshape(40, 50) % 300


def test_a_file_appears_whole(tmp_path):
    path = tmp_path / "neuer Ordner" / "Zellen ü.txt"
    with whole_file(path) as temporary:
        temporary.write_text("half")
        assert not path.exists()
        assert temporary.parent == path.parent
        assert temporary.suffix == path.suffix
        temporary.write_text("whole")
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "x.txt"
    path.write_text("old")

    def interrupted():
        with whole_file(path) as temporary:
            temporary.write_text("new")
            raise error

    with pytest.raises(error):
        interrupted()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_content_is_on_disk_before_the_name_is(tmp_path, monkeypatch):
    order = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: (order.append("sync"), fsync(file)))
    monkeypatch.setattr(os, "replace", lambda a, b: (order.append("name"), replace(a, b)))
    with whole_file(tmp_path / "x.txt") as temporary:
        temporary.write_text("x")
    assert order[:2] == ["sync", "name"]


def test_a_disk_that_refuses_is_one_line(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(BiounetError, match=r"x\.tif: cannot be written \(.*\); free space or"):
        write_labels(tmp_path / "file" / "x.tif", LABELS)

    def full(path):
        with whole_file(path) as temporary:
            temporary.write_text("some")
            raise OSError(28, "No space left on device")

    with pytest.raises(BiounetError, match="No space left on device"):
        full(tmp_path / "y.txt")
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt, RuntimeError])
def test_a_folder_that_was_moved_away_comes_back_whatever_happens(tmp_path, monkeypatch, error):
    """Between the two steps there is no folder of that name."""
    path, replace, steps = tmp_path / "x.zarr", os.replace, []

    def interrupted(source, target):
        steps.append(target)
        if len(steps) == 2:
            raise error
        replace(source, target)

    def written():
        with whole_folder(path) as temporary:
            (temporary / "new").write_text("new")

    path.mkdir()
    (path / "old").write_text("old")
    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(BiounetError if error is OSError else error):
        written()
    assert steps[1:] == [path, path]
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.zarr"]
    assert (path / "old").read_text() == "old"


def test_new_files_have_the_permissions_of_others(tmp_path):
    (tmp_path / "plain").write_text("x")
    write_png(tmp_path / "x.png", np.zeros((4, 5), np.uint8))
    assert (tmp_path / "x.png").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize(("largest", "dtype"), [(1, np.uint16), (65535, np.uint16), (65536, np.float32)])
def test_labels_keep_their_ids(tmp_path, largest, dtype):
    labels = LABELS.copy()
    labels[labels == 7] = largest
    write_labels(tmp_path / "x_labels.tif", labels)
    stored = tifffile.imread(tmp_path / "x_labels.tif")
    assert stored.dtype == dtype
    assert np.array_equal(stored, labels)
    assert np.array_equal(load_labels(tmp_path / "x_labels.tif")[0], labels)


def test_labels_are_in_colour_with_a_range_that_shows_id_one(tmp_path):
    write_labels(tmp_path / "x.tif", (LABELS == 3).astype(np.int32), pixel_size_um=(0.5, 0.25))
    with tifffile.TiffFile(tmp_path / "x.tif") as tif:
        metadata = tif.imagej_metadata
        assert tif.pages[0].compression == 8
    assert (metadata["min"], metadata["max"], metadata["mode"]) == (0, 255, "color")
    assert metadata["Ranges"] == (0, 255)
    assert np.array_equal(metadata["LUTs"], colour_table())
    assert metadata["unit"] == "um"


def test_the_colour_table_has_black_for_zero_only():
    table = colour_table()
    assert (table.shape, table.dtype) == ((3, 256), np.uint8)
    assert table[:, 0].tolist() == [0, 0, 0]
    assert table[:, 1:].max(axis=0).min() > 150
    assert len({tuple(colour) for colour in table.T.tolist()}) == 256
    following = np.abs(np.diff(table[:, 1:].astype(int), axis=1)).sum(axis=0)
    assert following.min() > 90


@pytest.mark.parametrize(
    ("axes", "shape", "size"),
    [("YX", (20, 22), (0.5, 0.2)), ("ZYX", (5, 20, 22), (2, 0.5, 0.2)), ("TYX", (5, 20, 22), (0.5, 0.2))],
)
def test_stacks_keep_axes_and_pixel_size(tmp_path, axes, shape, size):
    labels = np.arange(np.prod(shape)).reshape(shape)
    write_labels(tmp_path / "x.tif", labels, axes=axes, pixel_size_um=size)
    image = read_image(tmp_path / "x.tif")
    assert image.axes == axes
    assert np.array_equal(image.array, labels)
    assert image.pixel_size_um == pytest.approx(size, rel=1e-6)


def test_labels_that_cannot_be_written(tmp_path):
    path = tmp_path / "x.tif"
    with pytest.raises(UsageError, match="labels from -1 to 299 .* ids must lie between 0 and 2"):
        write_labels(path, np.where(LABELS == 0, -1, LABELS))
    with pytest.raises(UsageError, match="ids must lie between 0 and 2"):
        write_labels(path, LABELS + 2**24)
    with pytest.raises(UsageError, match=r"axes '' for shape \(4,\)"):
        write_labels(path, np.zeros(4, int))
    with pytest.raises(UsageError, match="one size above 0 for each of YX"):
        write_labels(path, LABELS, pixel_size_um=(1, 1, 1))
    with pytest.raises(UsageError, match="one size above 0 for each of YX"):
        write_labels(path, LABELS, pixel_size_um=(0, 1))
    assert not path.exists()


@pytest.mark.parametrize("shape", [(2, 20, 22), (3, 20, 22), (4, 20, 22), (3, 5, 20, 22)])
def test_probabilities_keep_shape_and_values(tmp_path, rng, shape):
    probabilities = rng.random(shape).astype(np.float32)
    size = (2.0, 0.5, 0.2)[-(len(shape) - 1) :]
    write_probabilities(tmp_path / "x.tif", probabilities, pixel_size_um=size)
    stored = tifffile.imread(tmp_path / "x.tif")
    assert stored.dtype == np.float32
    assert np.array_equal(stored, probabilities)
    image = read_image(tmp_path / "x.tif")
    assert image.axes == ("CYX" if len(shape) == 3 else "CZYX")
    assert image.pixel_size_um == pytest.approx(size, rel=1e-6)


def test_beyond_imagej_a_big_ome_tiff_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr("biounet.images.writing._IMAGEJ_LIMIT", 1000)
    write_labels(tmp_path / "x.tif", LABELS, pixel_size_um=(0.5, 0.25))
    with tifffile.TiffFile(tmp_path / "x.tif") as tif:
        assert (tif.is_bigtiff, tif.is_ome, tif.is_imagej) == (True, True, False)
    image = read_image(tmp_path / "x.tif")
    assert np.array_equal(image.array, LABELS)
    assert image.pixel_size_um == (0.5, 0.25)


def peak_of(function):
    """Bytes of memory that a call takes at most."""
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_in_parts_the_files_are_the_same_and_little_is_in_memory(tmp_path):
    shape = (2, 2048, 2048)

    def read(start, stop):
        rows = np.arange(start[1], stop[1], dtype=np.int32)[:, None] % 50
        return np.broadcast_to(rows + start[0], (1, stop[1] - start[1], stop[2] - start[2]))

    def ids():
        write_labels_in_parts(tmp_path / "ids.tif", read, shape, largest_id=50)

    def probabilities():
        write_probabilities_in_parts(tmp_path / "p.tif", lambda a, b: read(a, b) / np.float32(50), shape)

    assert max(peak_of(ids), peak_of(probabilities)) < 2048 * 2048 * 4 * 1.2  # of 32 MB
    whole = np.concatenate([read((z, 0, 0), (z + 1, 2048, 2048)) for z in (0, 1)])
    write_labels(tmp_path / "whole.tif", whole)
    assert (tmp_path / "ids.tif").read_bytes() == (tmp_path / "whole.tif").read_bytes()
    write_probabilities(tmp_path / "whole.tif", (whole / 50).astype(np.float32))
    assert (tmp_path / "p.tif").read_bytes() == (tmp_path / "whole.tif").read_bytes()
    with pytest.raises(UsageError, match="ids from 0 to 49 at .*; between 0 and 48 was said"):
        write_labels_in_parts(tmp_path / "few.tif", read, shape, largest_id=48)
    with pytest.raises(UsageError, match=r"labels up to 16777217 .* ids must lie between 0 and 2\^24"):
        write_labels_in_parts(tmp_path / "few.tif", read, shape, largest_id=2**24 + 1)
    assert not (tmp_path / "few.tif").exists()


@pytest.mark.parametrize("shape", [(8, 9), (8, 9, 3)])
def test_pictures(tmp_path, rng, shape):
    picture = rng.integers(0, 256, shape, np.uint8)
    write_png(tmp_path / "x.png", picture)
    with Picture.open(tmp_path / "x.png") as stored:
        assert np.array_equal(np.asarray(stored), picture)
    with pytest.raises(UsageError, match="uint8"):
        write_png(tmp_path / "x.png", picture.astype(float))


@pytest.mark.parametrize("shape", [(2, 1, 1), (2, 9, 1), (2, 3, 5, 4), (2, 3, 2, 5, 4), (3, 4, 2, 5, 1)])
def test_probabilities_of_every_shape_are_read_back(tmp_path, shape):
    array = np.random.default_rng(0).random(shape, dtype=np.float32)
    write_probabilities(tmp_path / "p.tif", array)
    axes = {3: "CYX", 4: "CZYX", 5: "TCZYX"}[len(shape)]
    found = read_image(tmp_path / "p.tif")
    assert found.axes == axes
    assert np.array_equal(found.array, np.moveaxis(array, 0, 1) if len(shape) == 5 else array)
