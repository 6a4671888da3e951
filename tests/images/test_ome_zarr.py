import json
import sys

import numpy as np
import pytest
import tifffile
import yaozarrs

from biounet.datasets.layouts import find_dataset, load
from biounet.errors import DataError
from biounet.evaluation.files import evaluate_files
from biounet.images.arrays import MissingPackageError
from biounet.images.formats import known_suffix, read_header, read_image, stem_name
from biounet.images.image import planes
from biounet.images.regions import open_regions

RNG = np.random.default_rng(4)
PLANE = RNG.integers(0, 60000, (50, 70), np.uint16)
HYPER = RNG.integers(0, 256, (2, 3, 2, 50, 40), np.uint8)

KINDS = {
    "plane": (PLANE, "yx", {}),
    "floats": ((PLANE / 7).astype(np.float32), "yx", {}),
    "channels": (HYPER[0, :, 0], "cyx", {"names": ("DAPI", "GFP", "membrane")}),
    "hyperstack": (HYPER, "tczyx", {"names": ("DAPI", "GFP", "membrane")}),
    "big endian": (PLANE.astype(">u2"), "yx", {}),
}


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("kind", KINDS)
def test_images_are_read_whole_and_by_regions(tmp_path, write_zarr, kind, version):
    array, axes, options = KINDS[kind]
    path = write_zarr(tmp_path / "Präparat 1.ome.zarr", array, axes=axes, version=version, levels=2, **options)
    yaozarrs.validate_zarr_store(str(path))
    image = read_image(path)
    assert image.axes == axes.upper()
    assert image.array.dtype.isnative
    assert np.array_equal(image.array, array)
    assert image.pixel_size_um == (0.5,) * (3 if "z" in axes else 2)
    assert image.channel_names == options.get("names", ())
    assert read_header(path).shape == array.shape
    for ndim in (2, 3):
        expected = planes(image, ndim)
        with open_regions(path) as regions:
            assert regions.item_count(ndim) == len(expected)
            assert not regions.whole
            assert regions.chunk[-2:] == (16, 20)
            assert [level.factors[-2:] for level in regions.levels] == [(1, 1), (2, 2)]
            for item in {0, len(expected) - 1}:
                assert np.array_equal(regions.read_item(item, ndim=ndim), expected[item])
                start, stop = (0,) * (ndim - 2) + (13, 19), (1,) * (ndim - 2) + (34, 39)
                part = expected[item][(slice(None), *map(slice, start, stop))]
                assert np.array_equal(regions.read(item, start, stop, ndim=ndim), part)
                half = regions.read_item(item, ndim=ndim, level=1)
                assert np.array_equal(half, expected[item][..., ::2, ::2])


def test_shards(tmp_path, write_zarr):
    path = write_zarr(tmp_path / "x.zarr", PLANE, chunks=(8, 10), shards=(32, 40))
    assert np.array_equal(read_image(path).array, PLANE)
    with open_regions(path) as regions:
        assert regions.chunk == (8, 10)
        assert np.array_equal(regions.read(0, (3, 5), (44, 66), ndim=2)[0], PLANE[3:44, 5:66])


@pytest.mark.parametrize(("unit", "size"), [("nanometer", 5e-4), ("millimeter", 500.0), (None, None), ("parsec", None)])
def test_pixel_size_needs_a_unit_of_length(tmp_path, write_zarr, unit, size):
    path = write_zarr(tmp_path / "x.zarr", PLANE, unit=unit)
    assert read_header(path).pixel_size_um == (None if size is None else pytest.approx((size, size)))


def test_scales_of_image_and_level_multiply(tmp_path, write_zarr):
    path = write_zarr(tmp_path / "x.zarr", PLANE, version="0.4")
    attributes = json.loads((path / ".zattrs").read_text())
    attributes["multiscales"][0]["coordinateTransformations"] = [{"type": "scale", "scale": [4.0, 2.0]}]
    (path / ".zattrs").write_text(json.dumps(attributes))
    assert read_header(path).pixel_size_um == (2.0, 1.0)


@pytest.mark.parametrize(
    ("name", "suffix", "stem"),
    [
        ("a.zarr", ".zarr", "a"),
        ("a.b.OME.ZARR", ".zarr", "a.b"),
        ("plate.zarr/B/03/0", ".zarr", "plate_B03_0"),
        ("x.ome.zarr/1", ".zarr", "x_1"),
        ("x.zarr/zarr.json", "", "zarr"),
        ("x.zarr/inner.tif", ".tif", "inner"),
    ],
)
def test_a_folder_counts_as_one_file(name, suffix, stem):
    assert known_suffix(f"folder/{name}") == suffix
    assert stem_name(f"folder/{name}") == stem


def test_the_first_of_several_series_is_read(tmp_path, write_zarr):
    path = tmp_path / "x.zarr"
    for series in ("0", "1"):
        write_zarr(path / series, PLANE + np.uint16(series), version="0.4")
    (path / ".zattrs").write_text('{"bioformats2raw.layout": 3}')
    image = read_image(path)
    assert np.array_equal(image.array, PLANE)
    assert image.notes == ("only the first of 2 images in the folder is used",)
    assert np.array_equal(read_image(path / "1").array, PLANE + 1)


def changed(path, change):
    file = path / "zarr.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def ome(content):
    return content["attributes"]["ome"]


def dataset(content):
    return ome(content)["multiscales"][0]["datasets"][0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: ome(c).update(version="0.6"), r"x\.zarr: OME-Zarr 0\.6; versions 0\.4 and 0\.5 can be read"),
        (lambda c: c.update(attributes={}), r"x\.zarr: no OME-Zarr metadata; versions 0\.4 and 0\.5"),
        (lambda c: ome(c).pop("multiscales"), r"has no multiscales metadata; only OME-Zarr images"),
        (lambda c: ome(c).update(plate={}), r"is a plate, not an image; name its wells or one of its fields"),
        (lambda c: ome(c)["multiscales"][0]["axes"][0].update(name="q"), "axis 'q' of type 'space'; t, c, z, y and x"),
        (lambda c: ome(c)["multiscales"][0]["axes"].pop(), "axes Y cannot be told apart"),
        (lambda c: dataset(c).update(path="../y"), "name '../y', which is not in the"),
        (lambda c: dataset(c).update(path="s7"), r"s7: has no zarr\.json; the level"),
        (lambda c: ome(c)["multiscales"][0].update(datasets=[]), r"cannot be read as \.zarr \(IndexError"),
        (lambda c: ome(c).update(multiscales=3), r"cannot be read as \.zarr \(TypeError"),
        (
            lambda c: dataset(c)["coordinateTransformations"][0].update(scale=[1]),
            "a scale of 1 numbers for 2 axes",
        ),
    ],
)
def test_metadata_that_cannot_be_meant_are_one_line(tmp_path, write_zarr, change, message):
    path = write_zarr(tmp_path / "x.zarr", PLANE)
    changed(path, change)
    for reader in (read_image, open_regions):
        with pytest.raises(DataError, match=message) as caught:
            reader(path)
        assert "\n" not in str(caught.value)


def test_folders_that_are_none_are_refused(tmp_path, write_zarr):
    (tmp_path / "x.zarr").mkdir()
    with pytest.raises(DataError, match=r"x\.zarr: is no OME-Zarr group \(neither zarr\.json nor \.zattrs is in it\)"):
        read_image(tmp_path / "x.zarr")
    (tmp_path / "y.zarr").write_text("packed")
    with pytest.raises(DataError, match=r"y\.zarr: is a file, OME-Zarr is a folder; unpack it"):
        read_image(tmp_path / "y.zarr")
    with pytest.raises(DataError, match="there is no such"):
        read_image(tmp_path / "z.zarr")
    path = write_zarr(tmp_path / "v.zarr", PLANE)
    (path / "zarr.json").write_text("{")
    with pytest.raises(DataError, match=r"cannot be read as \.zarr \(JSONDecodeError"):
        read_image(path)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_pixels_packed_by_what_could_run_code_are_refused(tmp_path, write_zarr, version):
    path = write_zarr(tmp_path / "x.zarr", PLANE, version=version)
    file = path / "s0" / (".zarray" if version == "0.4" else "zarr.json")
    content = json.loads(file.read_text())
    if version == "0.4":
        content["filters"] = [{"id": "pickle", "protocol": 5}]
    else:
        content["codecs"].append({"name": "numcodecs.pickle", "configuration": {}})
    file.write_text(json.dumps(content))
    for reader in (read_image, read_header, open_regions):
        with pytest.raises(DataError, match=r"s0: pixels are packed by (numcodecs\.)?pickle; known are blosc, bytes"):
            reader(path)


def test_more_than_a_folder_can_hold_is_refused(tmp_path, write_zarr):
    path = write_zarr(tmp_path / "x.zarr", PLANE)

    def declare(shape, chunk):
        def change(content):
            content["shape"] = shape
            content["chunk_grid"]["configuration"]["chunk_shape"] = chunk

        return change

    changed(path / "s0", declare([10**7, 10**7], [16, 20]))
    for reader in (read_image, read_header, open_regions):
        with pytest.raises(DataError, match="declares 200000000000000 bytes of pixels"):
            reader(path)
    changed(path / "s0", declare([50, 70], [10**7, 10**7]))
    with pytest.raises(DataError, match=r"declares chunks of 200000000000000 bytes"):
        read_image(path)


def test_damaged_chunks_are_told_when_they_are_read(tmp_path, write_zarr):
    path = write_zarr(tmp_path / "x.zarr", PLANE)
    chunk = path / "s0" / "c" / "1" / "1"
    chunk.write_bytes(chunk.read_bytes()[:20] + bytes(9))
    with open_regions(path) as regions:
        assert np.array_equal(regions.read(0, (0, 0), (16, 20), ndim=2)[0], PLANE[:16, :20])
        with pytest.raises(DataError, match=r"x\.zarr: cannot be read as \.zarr .*damaged") as caught:
            regions.read_item(0, ndim=2)
        assert "\n" not in str(caught.value)


def test_chunks_that_are_not_there_hold_the_fill_value(tmp_path, write_zarr):
    path = write_zarr(tmp_path / "x.zarr", PLANE, fill_value=7)
    (path / "s0" / "c" / "0" / "0").unlink()
    expected = PLANE.copy()
    expected[:16, :20] = 7
    assert np.array_equal(read_image(path).array, expected)
    with open_regions(path) as regions:
        assert np.array_equal(regions.read_item(0, ndim=2)[0], expected)


def test_without_the_package_one_line_says_what_to_install(tmp_path, write_zarr, monkeypatch):
    path = write_zarr(tmp_path / "x.zarr", PLANE)
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(
        MissingPackageError, match=r"x\.zarr.*: OME-Zarr needs a package: pip install 'zarr>=3\.1,<3\.2'"
    ):
        read_image(path)


# -- as one file among others

CELLS = np.zeros((32, 40), np.uint16)
CELLS[3:9, 3:9], CELLS[12:22, 12:30] = 1, 2
GREY = (np.arange(32 * 40).reshape(32, 40) % 200).astype(np.uint8)


def pair_of(example):
    return np.array_equal(example.image[0], GREY) and np.array_equal(example.labels, CELLS)


@pytest.mark.parametrize("names", [("images/a.zarr", "masks/a.zarr"), ("a.ome.zarr", "a_masks.ome.zarr")])
@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_data_sets_of_folders_that_count_as_files(tmp_path, write_zarr, names, version):
    for name, array in zip(names, (GREY, CELLS), strict=True):
        write_zarr(tmp_path / name, array, version=version)
    for data in (
        find_dataset(tmp_path),
        find_dataset(tmp_path / names[0]),
        find_dataset(None, images=tmp_path / names[0], masks=tmp_path / names[1]),
    ):
        (example,) = load(data)
        assert pair_of(example)
        assert example.name == "a"


def test_labels_in_a_tiff_belong_to_an_image_in_a_folder(tmp_path, write_zarr):
    write_zarr(tmp_path / "images" / "a.zarr", GREY)
    (tmp_path / "masks").mkdir()
    tifffile.imwrite(tmp_path / "masks" / "a.tif", CELLS)
    (example,) = load(find_dataset(tmp_path))
    assert pair_of(example)


def test_evaluation_takes_folders_that_count_as_files(tmp_path, write_zarr):
    predicted = write_zarr(tmp_path / "predicted" / "a_labels.zarr", CELLS)
    true = write_zarr(tmp_path / "true" / "a_masks.zarr", CELLS)
    for paths in ((predicted, true), (predicted.parent, true.parent)):
        assert evaluate_files(*paths).result["mean"]["seg"] == 1
