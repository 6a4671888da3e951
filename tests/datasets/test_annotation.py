import numpy as np
import pytest
import tifffile
from PIL import Image as Picture

from biounet.datasets.annotation import as_labels, load_labels, with_unknown
from biounet.errors import DataError

LABELS = np.array([[0, 1, 1], [0, 2, 70000]])


@pytest.mark.parametrize("dtype", [np.uint32, np.int64, np.float32, np.float64])
def test_whole_numbers_of_any_type_become_int32(tmp_path, dtype):
    np.save(tmp_path / "x.npy", LABELS.astype(dtype))
    (labels,) = load_labels(tmp_path / "x.npy")
    assert labels.dtype == np.int32
    assert np.array_equal(labels, LABELS)


def test_minus_one_is_kept_as_unknown():
    assert as_labels(np.array([[-1, 0, 3]], np.int16), "x").tolist() == [[-1, 0, 3]]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([0.0, 0.5, np.nan], "x: 2 of 3 label values are not whole numbers"),
        ([0, -2], "x: label values run from -2 to 0; allowed are -1"),
        ([0, 2**31], r"x: label values run from 0 to 2\.14748e\+09"),
    ],
)
def test_values_that_are_no_labels_are_refused(values, message):
    with pytest.raises(DataError, match=message):
        as_labels(np.array([values]), "x")


def test_palette_indices_are_the_ids(tmp_path):
    picture = Picture.fromarray(LABELS[:, :2].astype(np.uint8))
    picture.putpalette([0, 0, 0, 250, 7, 7, 1, 1, 1])
    picture.save(tmp_path / "x.png")
    assert load_labels(tmp_path / "x.png")[0].tolist() == [[0, 1], [0, 2]]


def test_grey_stored_as_colour_is_taken_other_colours_are_not(tmp_path):
    grey = np.zeros((5, 6), np.uint8)
    grey[2] = 9
    rgba = np.dstack([grey, grey, grey, np.full_like(grey, 255)])
    Picture.fromarray(rgba).save(tmp_path / "x.png")
    assert np.array_equal(load_labels(tmp_path / "x.png")[0], grey)
    rgba[0, 0, 0] = 1
    Picture.fromarray(rgba).save(tmp_path / "x.png")
    with pytest.raises(DataError, match="3 channels that differ .* in colours.csv beside it"):
        load_labels(tmp_path / "x.png")


def test_jpeg_labels_are_refused(tmp_path):
    with pytest.raises(DataError, match="labels in a JPEG are no longer exact"):
        load_labels(tmp_path / "x.jpg")


def test_stacks_are_pages_or_volumes(tmp_path):
    stack = np.arange(5 * 6 * 7, dtype=np.uint16).reshape(5, 6, 7)
    tifffile.imwrite(tmp_path / "pages.tif", stack)
    tifffile.imwrite(tmp_path / "volume.tif", stack, imagej=True, metadata={"axes": "ZYX"})
    assert len(load_labels(tmp_path / "pages.tif")) == 5
    assert np.array_equal(load_labels(tmp_path / "pages.tif", ndim=3)[0], stack)
    assert np.array_equal(load_labels(tmp_path / "volume.tif")[0], stack)
    assert np.array_equal(load_labels(tmp_path / "volume.tif", ndim=2)[4], stack[4])


def test_ignored_and_unregarded_parts_become_unknown():
    labels = np.array([[1, 1, 0, 0]], np.int32)
    ignore, region = np.array([[0, 9, 0, 0]], np.int32), np.array([[1, 1, 1, 0]], np.int32)
    assert with_unknown(labels, ignore=ignore, region=region).tolist() == [[1, -1, 0, -1]]
    assert with_unknown(labels).tolist() == labels.tolist()
    assert with_unknown(labels, ignore=ignore).dtype == np.int32
