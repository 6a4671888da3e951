import json
import warnings

import numpy as np
import pytest
import yaozarrs

from biounet.datasets.annotation import load_labels
from biounet.errors import BiounetError, DataError, UsageError
from biounet.images.formats import read_image
from biounet.images.ome_zarr_labels import add_zarr_labels, write_zarr_labels
from biounet.images.regions import open_regions

IMAGE = np.random.default_rng(3).integers(0, 256, (2, 3, 40, 50), np.uint8)
LABELS = np.random.default_rng(4).integers(0, 300, (3, 40, 50)).astype(np.int32)


def part_of(array, log=None):
    def read(start, stop):
        if log is not None:
            log.append((start, stop))
        return array[tuple(map(slice, start, stop))]

    return read


def attributes(path):
    file = path / "zarr.json"
    if file.is_file():
        return json.loads(file.read_text())["attributes"]["ome"]
    return json.loads((path / ".zattrs").read_text())


def test_labels_of_their_own_are_valid_and_read_back(tmp_path, rng):
    labels = rng.integers(0, 300, (2100, 90)).astype(np.int32)
    path, asked = tmp_path / "neuer Ordner" / "x_labels.zarr", []
    write_zarr_labels(path, part_of(labels, asked), labels.shape, largest_id=300, pixel_size_um=(0.5, 0.25), tile=1024)
    yaozarrs.validate_zarr_store(str(path))
    assert asked == [((y, 0), (min(y + 1024, 2100), 90)) for y in (0, 1024, 2048)]
    image = read_image(path)
    assert (image.axes, image.array.dtype, image.pixel_size_um) == ("YX", np.uint16, (0.5, 0.25))
    assert np.array_equal(image.array, labels)
    assert np.array_equal(load_labels(path)[0], labels)
    with open_regions(path) as regions:
        assert [level.shape for level in regions.levels] == [(2100, 90), (1050, 45), (525, 23)]
        for level in range(3):
            found = regions.read_item(0, ndim=2, level=level)[0]
            assert np.array_equal(found, labels[:: 2**level, :: 2**level])
    colours = attributes(path)["image-label"]["colors"]
    assert len(colours) == 254
    assert len({tuple(colour["rgba"]) for colour in colours}) == 254
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(("largest", "dtype"), [(65535, "u2"), (65536, "u4"), (2**31 - 1, "u4")])
def test_ids_are_kept_in_a_type_that_holds_them(tmp_path, largest, dtype):
    labels = np.array([[[0, 1, largest]]], np.int32)
    write_zarr_labels(tmp_path / "x.zarr", part_of(labels), labels.shape, largest_id=largest)
    found = read_image(tmp_path / "x.zarr")
    assert found.axes == "ZYX"
    assert found.pixel_size_um is None
    assert found.array.dtype == np.dtype(dtype)
    assert np.array_equal(found.array.astype(np.int64), labels)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_labels_go_into_the_image_in_its_version(tmp_path, write_zarr, version):
    path = write_zarr(tmp_path / "x.zarr", IMAGE, axes="czyx", version=version, levels=2)
    before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    group = add_zarr_labels(path, "cells", part_of(LABELS), largest_id=300, tile=32)
    assert group == path / "labels" / "cells"
    yaozarrs.validate_zarr_store(str(path))
    assert attributes(path / "labels")["labels"] == ["cells"]
    found = read_image(group)
    assert (found.axes, found.pixel_size_um) == ("ZYX", (0.5, 0.5, 0.5))
    assert np.array_equal(found.array, LABELS)
    with open_regions(group) as regions:
        assert [level.shape for level in regions.levels] == [(3, 40, 50), (3, 20, 25)]
        assert np.array_equal(regions.read_item(0, ndim=3, level=1)[0], LABELS[:, ::2, ::2])
    assert {file: file.read_bytes() for file in before} == before
    assert {file.name for file in (path / "labels").iterdir()} <= {"cells", "zarr.json", ".zattrs", ".zgroup"}


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_other_labels_are_not_touched(tmp_path, write_zarr, version):
    path = write_zarr(tmp_path / "x.zarr", IMAGE, axes="czyx", version=version)
    add_zarr_labels(path, "by hand", part_of(LABELS), largest_id=300)
    file = path / "labels" / ("zarr.json" if version == "0.5" else ".zattrs")
    content = json.loads(file.read_text())
    content.setdefault("attributes", content)["note"] = "mine"
    if version == "0.4":
        content = {"labels": ["by hand"], "note": "mine"}
    file.write_text(json.dumps(content))
    before = {f: f.read_bytes() for f in (path / "labels" / "by hand").rglob("*") if f.is_file()}
    add_zarr_labels(path, "cells", part_of(LABELS), largest_id=300)
    assert attributes(path / "labels")["labels"] == ["by hand", "cells"]
    assert '"note": "mine"' in file.read_text()
    assert {f: f.read_bytes() for f in before} == before
    with pytest.raises(DataError, match="cells: labels of this name are there; choose another name or overwrite"):
        add_zarr_labels(path, "cells", part_of(LABELS * 0), largest_id=300)
    assert np.array_equal(read_image(path / "labels" / "cells").array, LABELS)
    add_zarr_labels(path, "cells", part_of(LABELS * 0), largest_id=300, overwrite=True)
    assert not read_image(path / "labels" / "cells").array.any()
    assert attributes(path / "labels")["labels"] == ["by hand", "cells"]
    yaozarrs.validate_zarr_store(str(path))


def test_translation_and_unit_are_those_of_the_image(tmp_path, write_zarr):
    path = write_zarr(tmp_path / "x.zarr", IMAGE[0, 0], unit="nanometer")
    content = json.loads((path / "zarr.json").read_text())
    steps = content["attributes"]["ome"]["multiscales"][0]["datasets"][0]["coordinateTransformations"]
    steps.append({"type": "translation", "translation": [7.0, 8.0]})
    (path / "zarr.json").write_text(json.dumps(content))
    group = add_zarr_labels(path, "cells", part_of(LABELS[0]), largest_id=300)
    label = attributes(group)["multiscales"][0]
    assert label["datasets"][0]["coordinateTransformations"] == steps
    assert [axis["unit"] for axis in label["axes"]] == ["nanometer", "nanometer"]
    assert attributes(group)["image-label"]["source"] == {"image": "../../"}


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_metadata_kept_in_one_place_list_the_new_labels(tmp_path, write_zarr, version):
    zarr = pytest.importorskip("zarr")
    path = write_zarr(tmp_path / "x.zarr", IMAGE, axes="czyx", version=version)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        zarr.consolidate_metadata(path)
    add_zarr_labels(path, "cells", part_of(LABELS), largest_id=300)
    assert np.array_equal(zarr.open_group(path, mode="r")["labels/cells/0"][...], LABELS)


def test_an_interrupted_label_image_does_not_appear(tmp_path, write_zarr):
    path = write_zarr(tmp_path / "x.zarr", IMAGE, axes="czyx")

    def interrupted(start, stop):
        if start[0]:
            raise KeyboardInterrupt
        return part_of(LABELS)(start, stop)

    for write in (
        lambda: add_zarr_labels(path, "cells", interrupted, largest_id=300),
        lambda: write_zarr_labels(tmp_path / "y.zarr", interrupted, LABELS.shape, largest_id=300),
    ):
        with pytest.raises(KeyboardInterrupt):
            write()
    assert not list((path / "labels").iterdir())
    assert [f.name for f in tmp_path.iterdir()] == ["x.zarr"]


def test_what_cannot_be_written_is_refused(tmp_path, write_zarr):
    path = write_zarr(tmp_path / "x.zarr", IMAGE, axes="czyx")
    for name in ("a/b", "", "../x", ".hidden"):
        with pytest.raises(UsageError, match="letters, digits, space"):
            add_zarr_labels(path, name, part_of(LABELS), largest_id=300)
    with pytest.raises(UsageError, match="ids from 0 to 299 at .*; between 0 and 5 was said"):
        add_zarr_labels(path, "cells", part_of(LABELS), largest_id=5)
    with pytest.raises(UsageError, match="axes 'CYX' for shape"):
        write_zarr_labels(tmp_path / "y.zarr", part_of(LABELS), LABELS.shape, largest_id=300, axes="CYX")
    levels = write_zarr(tmp_path / "z.zarr", IMAGE[0, 0], levels=2)
    content = json.loads((levels / "s1" / "zarr.json").read_text())
    (levels / "s1" / "zarr.json").write_text(json.dumps(content | {"shape": [10**9, 10**9]}))
    with pytest.raises(DataError, match=r"z\.zarr: level 1 is larger than the one before it"):
        add_zarr_labels(levels, "cells", part_of(LABELS[0]), largest_id=300)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(BiounetError, match=r"y\.zarr: cannot be written"):
        write_zarr_labels(tmp_path / "file" / "y.zarr", part_of(LABELS), LABELS.shape, largest_id=300)
