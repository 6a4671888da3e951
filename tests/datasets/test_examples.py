import numpy as np
import pytest
import tifffile

from biounet.datasets.layouts import Example, find_dataset, load
from biounet.errors import DataError


def test_examples_hold_the_files_as_they_are(write_pair, tmp_path):
    write_pair("a")
    tifffile.imwrite(
        tmp_path / "images" / "a.tif",
        np.arange(32 * 40, dtype=np.uint16).reshape(32, 40),
        imagej=True,
        resolution=(2, 2),
        metadata={"unit": "um"},
    )
    (example,) = load(find_dataset(tmp_path))
    assert example.name == "a"
    assert (example.image.dtype, example.image.shape) == (np.uint16, (1, 32, 40))
    assert (example.labels.dtype, example.labels.shape) == (np.int32, (32, 40))
    assert np.unique(example.labels).tolist() == [0, 1, 2]
    assert example.pixel_size_um == (0.5, 0.5)
    assert example.annotated_share == 1


def test_ignore_and_region_files_make_unknown(write_pair, tmp_path):
    write_pair("a")
    write_pair("b")
    part = np.zeros((32, 40), np.uint8)
    part[:, :10] = 255
    tifffile.imwrite(tmp_path / "masks" / "a_ignore.tif", part)
    tifffile.imwrite(tmp_path / "images" / "b_region.tif", part)
    ignored, regarded = load(find_dataset(tmp_path))
    assert (ignored.labels[:, :10] == -1).all()
    assert ignored.annotated_share == 0.75
    assert (regarded.labels[:, 10:] == -1).all()
    assert regarded.annotated_share == 0.25
    assert (regarded.labels[2:9, 3:9] == 1).all()


def test_every_image_that_cannot_be_read_is_listed_at_once(write_pair, tmp_path):
    for name in ("good", "nan", "half", "cut"):
        write_pair(name)
    tifffile.imwrite(tmp_path / "images" / "nan.tif", np.full((32, 40), np.nan, np.float32))
    tifffile.imwrite(tmp_path / "masks" / "half.tif", np.full((32, 40), 0.5, np.float32))
    noise = np.random.default_rng(0).integers(0, 255, (32, 40), np.uint8)
    tifffile.imwrite(tmp_path / "images" / "cut.tif", noise, compression="zlib")
    data = bytearray((tmp_path / "images" / "cut.tif").read_bytes())
    data[-600:-300] = bytes(300)  # the header is whole, the pixels are not
    (tmp_path / "images" / "cut.tif").write_bytes(data)
    dataset = find_dataset(tmp_path)
    with pytest.raises(DataError, match="3 of 4 images cannot be used") as caught:
        load(dataset)
    for text in ("1280 of 1280 pixels are NaN", "1280 of 1280 label values are not whole", "cut.tif: cannot be read"):
        assert text in str(caught.value)
    assert [example.name for example in load(dataset, skip_bad=True)] == ["good"]


def test_skipping_does_not_hide_that_nothing_is_left(write_pair, tmp_path):
    write_pair("nan")
    tifffile.imwrite(tmp_path / "images" / "nan.tif", np.full((32, 40), np.nan, np.float32))
    with pytest.raises(DataError, match="1 of 1 images cannot be used"):
        load(find_dataset(tmp_path), skip_bad=True)


def test_masks_without_any_object_are_refused_but_one_may_be_empty(write_pair, tmp_path):
    write_pair("a", value=0)
    write_pair("b", value=0)
    with pytest.raises(DataError, match="all 2 masks are empty, no object is drawn"):
        load(find_dataset(tmp_path))
    write_pair("b")
    assert [example.labels.max() for example in load(find_dataset(tmp_path))] == [0, 2]


def test_other_labels_for_the_same_image():
    example = Example("a", np.zeros((1, 2, 2)), np.zeros((2, 2), np.int32), (1.0, 1.0), ("note",))
    other = example.with_labels(np.full((2, 2), -1, np.int32))
    assert other.annotated_share == 0
    assert (other.name, other.image is example.image, other.notes) == ("a", True, ("note",))
    assert example.annotated_share == 1
