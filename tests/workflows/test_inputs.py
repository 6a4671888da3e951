import numpy as np
import pytest
import tifffile

from biounet.errors import DataError, UsageError
from biounet.workflows.inputs import find_inputs


@pytest.fixture
def folder(tmp_path):
    """Two TIFFs, a hidden one, and an OME-Zarr folder with more folders in it."""
    for name in ("b.tif", "a.tif", ".c.tif"):
        tifffile.imwrite(tmp_path / name, np.zeros((4, 5), np.uint8))
    (tmp_path / "d.ome.zarr" / "0" / "c").mkdir(parents=True)
    tifffile.imwrite(tmp_path / "d.ome.zarr" / "thumbnail.tif", np.zeros((4, 5), np.uint8))
    return tmp_path


def test_a_folder_stands_for_its_images(folder):
    expected = [folder / "a.tif", folder / "b.tif", folder / "d.ome.zarr"]
    assert find_inputs([folder]) == expected
    assert find_inputs([folder / "b.tif", folder]) == [expected[1], expected[0], expected[2]]
    assert find_inputs([str(folder / "?.tif")]) == expected[:2]


def test_an_ome_zarr_folder_counts_as_one_file(folder):
    assert find_inputs([folder / "d.ome.zarr"]) == [folder / "d.ome.zarr"]
    assert find_inputs([folder / "d.ome.zarr" / "0"]) == [folder / "d.ome.zarr" / "0"]
    assert find_inputs([str(folder / "*.zarr")]) == [folder / "d.ome.zarr"]


def test_what_stands_for_nothing_or_twice_is_refused(folder):
    with pytest.raises(DataError, match=r"x\.tif: there is no such file or folder"):
        find_inputs([folder / "x.tif"])
    (folder / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty: holds no image of a known format \(\.tif, .*\.zarr, .*\)"):
        find_inputs([folder / "empty"])
    for name in ("images", "more images", "none"):
        (folder / "set" / name).mkdir(parents=True)
    for name in ("images", "more images"):
        tifffile.imwrite(folder / "set" / name / "a.tif", np.zeros((4, 5), np.uint8))
    with pytest.raises(DataError, match=r"name a folder of images, as \S+set/images or '\S+set/more images'$"):
        find_inputs([folder / "set"])
    (folder / "a.zarr").mkdir()
    with pytest.raises(UsageError, match="would both be written as a; predict them apart"):
        find_inputs([folder])
