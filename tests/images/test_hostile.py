"""Files that mean harm: sizes that are only claimed, circles, values that no reader expects. One line, at once."""

import json
import struct
import tracemalloc
import zipfile

import nibabel
import numpy as np
import pytest
import tifffile

from biounet.datasets.drawings import OUTLINES
from biounet.datasets.layouts import find_dataset, load
from biounet.errors import DataError
from biounet.images.formats import read_header, read_image
from biounet.images.ome_zarr import path_inside
from biounet.images.ome_zarr_labels import add_zarr_labels

IMAGE = np.zeros((24, 32), np.uint8)


def refused(read, path, match):
    """It raises this in one line and takes less than 50 MB meanwhile."""
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=match) as caught:
            read(path)
        assert tracemalloc.get_traced_memory()[1] < 50e6
    finally:
        tracemalloc.stop()
    assert "\n" not in str(caught.value)


def npy(path):
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (1000000, 1000000)}".ljust(117) + b"\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)


def nifti(path):
    header = nibabel.Nifti2Header()
    header.set_data_dtype(np.uint8)
    header.set_data_shape((10**6, 10**6, 1))
    header["magic"] = b"n+2\0\r\n\x1a\n"
    header["vox_offset"] = 544
    path.write_bytes(header.binaryblock + bytes(8))


def png(path):
    chunk = b"IHDR" + struct.pack(">IIBBBBB", 10**6, 10**6, 8, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + bytes(20))


CLAIMS = {"a.npy": npy, "a.nii": nifti, "a.png": png}


@pytest.mark.parametrize("name", CLAIMS)
def test_a_trillion_pixels_that_are_only_claimed(tmp_path, name):
    CLAIMS[name](tmp_path / name)
    assert (tmp_path / name).stat().st_size < 600
    for read in (read_header, read_image):
        refused(read, tmp_path / name, rf"{name}: ")


def test_a_zip_of_much_more_than_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr("biounet.datasets.rois._LARGEST_SET", 64 << 20)  # of the 512 MiB, which take long to make
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as file, file.open("a.roi", "w") as entry:
        for _ in range(65):
            entry.write(bytes(1 << 20))
    assert (tmp_path / "a.zip").stat().st_size < 1 << 20
    refused(OUTLINES[".zip"], tmp_path / "a.zip", "claims more than 64 MiB of ROIs")


@pytest.mark.parametrize("bigtiff", [False, True])
def test_a_tiff_whose_directories_lead_in_a_circle(tmp_path, bigtiff):
    tifffile.imwrite(tmp_path / "a.tif", IMAGE, bigtiff=bigtiff, metadata=None)
    data = bytearray((tmp_path / "a.tif").read_bytes())
    form = "Q" if bigtiff else "I"
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        first, tags = tif.pages[0].offset, len(tif.pages[0].tags)
    end = first + (8 + 20 * tags if bigtiff else 2 + 12 * tags)
    data[end : end + struct.calcsize(form)] = struct.pack("<" + form, first)
    (tmp_path / "a.tif").write_bytes(data)
    refused(read_image, tmp_path / "a.tif", "directories of the TIFF lead in a circle")


@pytest.mark.parametrize("value", ["x" * 300, [1], {}, -1, 10**12, 1e400, "../../../etc/passwd"])
@pytest.mark.parametrize("key", ["ignore", "cell"])
def test_dataset_json_with_values_that_are_none(tmp_path, key, value):
    (tmp_path / "imagesTr").mkdir()
    (tmp_path / "labelsTr").mkdir()
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"background": 0, key: value}}))
    if key == "cell" and value == [1]:
        pytest.skip("a region of several values")
    refused(find_dataset, tmp_path, "not an nnU-Net dataset.json .*mend or remove it")


@pytest.mark.parametrize("segmentation", [
    {"counts": [10**30, 1], "size": [24, 32]}, {"counts": "o" * 400, "size": [24, 32]},
    {"counts": [1], "size": [10**9, 10**9]}, [[1e400, 2, 3, 4, 5, 6]], [[1, 2, 3]],
])  # fmt: skip
def test_coco_with_objects_that_are_none(tmp_path, segmentation):
    tifffile.imwrite(tmp_path / "a.tif", IMAGE)
    content = {
        "images": [{"id": 1, "file_name": "a.tif"}],
        "annotations": [{"image_id": 1, "segmentation": segmentation}],
    }
    (tmp_path / "c.json").write_text(json.dumps(content))
    refused(lambda path: load(find_dataset(path)), tmp_path, "not COCO annotations|absurdly far|masks are empty")


def test_names_that_no_file_can_have(tmp_path):
    for name in ("x" * 300, "a\x00b"):
        content = {"images": [{"id": 1, "file_name": name}], "annotations": []}
        (tmp_path / "c.json").write_text(json.dumps(content))
        refused(find_dataset, tmp_path / "c.json", "is listed in c.json and not there")
    (tmp_path / "pairs.csv").write_text(f"image,labels\n{'x' * 300},b.tif\n")
    refused(find_dataset, tmp_path / "pairs.csv", "is not there")


def test_what_is_too_long_for_a_name_is_told_shortened(tmp_path):
    refused(
        lambda path: path_inside(path, "x" * 300), tmp_path, "the metadata name 'x{80}...', which is not in the folder"
    )
    assert path_inside(tmp_path, "x" * 200) == "x" * 200  # not there, but it could be


@pytest.mark.parametrize("name", ["x" * 300, "a\x00b", "/".join(["x" * 200] * 30)])
@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_labels_inside_zarr_whose_names_no_folder_can_have(tmp_path, write_zarr, version, name):
    path = tmp_path / "a.zarr"
    write_zarr(path, IMAGE, version=version)
    add_zarr_labels(path, "cells", lambda start, stop: np.ones(np.subtract(stop, start), np.int32), largest_id=1)
    file = path / "labels" / (".zattrs" if version == "0.4" else "zarr.json")
    file.write_text(file.read_text().replace('"cells"', json.dumps(name)))
    refused(lambda folder: load(find_dataset(folder)), tmp_path, "no pairs of images|1 of 1 images cannot be used")


def test_an_outline_that_crosses_every_row_again_and_again(tmp_path):
    ring = [[k % 7, (k % 2) * 10**7] for k in range(4000)]
    (tmp_path / "a.geojson").write_text(
        json.dumps({"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]}})
    )
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((8000, 16), np.uint8))
    refused(
        lambda path: load(find_dataset(path)), tmp_path, "crosses 32000000 pixel rows with its 4000 points; simplify it"
    )


def test_shapes_far_away(tmp_path):
    rows = [f"0,ellipse,{k},{y},{x}" for k, (y, x) in enumerate([(0, 0), (0, 1e300), (1e300, 1e300), (1e300, 0)])]
    (tmp_path / "a.csv").write_text("\n".join(["index,shape-type,vertex-index,axis-0,axis-1", *rows]))
    refused(OUTLINES[".csv"], tmp_path / "a.csv", "lies absurdly far away")
