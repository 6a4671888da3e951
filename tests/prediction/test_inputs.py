import numpy as np
import pytest
import tifffile

from biounet.errors import DataError, UsageError
from biounet.prediction.inputs import find_inputs


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


def write(path, value=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, np.full((20, 20), value, np.uint8))
    return path


def test_annotations_and_results_beside_their_images_are_left_out_of_a_folder(tmp_path):
    kept = [write(tmp_path / f"{name}.tif") for name in ("a", "b_mask", "c_labels", "t-volume")]
    for name in ("a_labels", "a_probabilities", "a_overlay", "a_cp_masks", "a_region", "t-labels"):
        write(tmp_path / f"{name}.tif")
    notes = []
    assert find_inputs([tmp_path], notes=notes) == kept
    assert "a_cp_masks.tif, a_labels.tif, a_overlay.tif, ... left out: annotations or results" in notes[0]
    assert find_inputs([tmp_path / "a_labels.tif"]) == [tmp_path / "a_labels.tif"]


def test_a_data_set_stands_for_its_annotated_images(tmp_path):
    images = [write(tmp_path / "set" / "images" / f"{name}.tif") for name in "ab"]
    for name in "ab":
        write(tmp_path / "set" / "masks" / f"{name}.tif", 1)
    notes = []
    assert find_inputs([tmp_path / "set"], notes=notes) == images
    assert notes == [f"{tmp_path / 'set'}: a data set, of which the 2 annotated images are predicted"]


def test_a_data_set_of_cases_stands_for_the_first_file_of_each(random_model, tmp_path):
    for name in ("imagesTr/c_0000", "imagesTr/c_0001", "labelsTr/c"):
        write(tmp_path / "nn" / f"{name}.tif", 1)
    first = [tmp_path / "nn" / "imagesTr" / "c_0000.tif"]
    assert find_inputs([tmp_path / "nn"]) == first
    assert find_inputs([tmp_path / "nn"], model=random_model(in_channels=2)) == first
    with pytest.raises(DataError, match=r"nn: c has 2 channels, in a file each; the model takes 1: name the files"):
        find_inputs([tmp_path / "nn"], model=random_model(in_channels=1))
