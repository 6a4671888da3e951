import json
import warnings

import numpy as np
import pytest

from biounet.images.ome_zarr_labels import add_zarr_labels
from biounet.images.ome_zarr_list import has_zarr_labels, list_zarr_labels, recover_zarr_labels

zarr = pytest.importorskip("zarr")


def ids(start, stop):
    return np.ones([e - a for a, e in zip(start, stop, strict=True)], np.int32)


@pytest.fixture(params=["0.4", "0.5"])
def image(request, tmp_path, write_zarr):
    """With labels "n", and all metadata listed at its top."""
    path = write_zarr(tmp_path / "a.zarr", np.ones((5, 6), np.uint8), version=request.param)
    with warnings.catch_warnings():  # that version 3 does not know it yet
        warnings.simplefilter("ignore")
        zarr.consolidate_metadata(path, zarr_format=2 if request.param == "0.4" else 3)
    add_zarr_labels(path, "n", ids, largest_id=1)
    return path


def files(image):
    return {path: path.read_bytes() for path in image.rglob("*") if path.is_file()}


def test_labels_in_the_list_or_as_a_folder_are_there(image):
    assert has_zarr_labels(image, "n")
    assert not has_zarr_labels(image, "m")
    (image / "labels" / "m").mkdir()
    assert has_zarr_labels(image, "m")


def test_what_was_interrupted_before_the_list_is_listed_wherever_it_should_be(image):
    before = files(image)
    listed = next(file for name in (".zattrs", "zarr.json") if (file := image / "labels" / name).is_file())
    top = next(file for name in (".zmetadata", "zarr.json") if (file := image / name).is_file())
    assert list_zarr_labels(image, "n") == image / "labels" / "n"
    assert files(image) == before
    listed.write_text(listed.read_text().replace('"n"', ""))
    content = json.loads(top.read_text())
    holder = content if top.name == ".zmetadata" else content["consolidated_metadata"]
    assert any(key.startswith("labels/n") for key in holder["metadata"])
    holder["metadata"] = {key: value for key, value in holder["metadata"].items() if "labels/n" not in key}
    top.write_text(json.dumps(content))
    list_zarr_labels(image, "n")
    assert {path: json.loads(text) for path, text in files(image).items() if path in (listed, top)} == {
        path: json.loads(before[path]) for path in (listed, top)
    }


def test_what_a_killed_writer_left_goes_and_what_it_moved_away_comes_back(image):
    before = files(image)
    labels = image / "labels"
    (labels / f".{'a' * 12}.part.n").mkdir()
    (labels / "n").rename(labels / f".{'b' * 12}.old.n")
    others = [labels / name for name in (f".{'a' * 12}.part.m", ".abc.part.n", "part.n")]
    for other in others:
        other.mkdir()
    recover_zarr_labels(image, "n")
    assert files(image) == before
    assert sorted(path for path in labels.iterdir() if path.is_dir()) == sorted([*others, labels / "n"])
    (labels / f".{'c' * 12}.old.n").mkdir()
    recover_zarr_labels(image, "n")  # the new one is there: the old one is of no use
    assert files(image) == before
    assert not (labels / f".{'c' * 12}.old.n").exists()
