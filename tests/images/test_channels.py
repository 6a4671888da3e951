import numpy as np
import pytest
import tifffile

from biounet.errors import UsageError
from biounet.images.channels import find_channels, imagej_names, ome_names
from biounet.images.formats import read_image

NAMES = ("DAPI", "GFP", "gfp", "3")
STACK = np.zeros((2, 3, 20, 24), np.uint8)


def test_names_come_before_positions():
    assert find_channels(["GFP", "dapi", 1, "3"], NAMES, 4, "a.tif") == [1, 0, 1, 3]
    assert find_channels(["2"], (), 4, "a.tif") == [2]


@pytest.mark.parametrize(
    ("wanted", "names", "message"),
    [
        ("red", NAMES, "--channels red: not in a.tif, which has channels 0 'DAPI', 1 'GFP', 2 'gfp', 3 '3'"),
        ("Gfp", NAMES, "a.tif has 2 channels of this name"),
        ("4", (), "--channels 4: not in a.tif, which has channels 0 to 3, without names"),
        ("-1", (), "--channels -1: not in a.tif"),
    ],
)
def test_missing_and_ambiguous_ones_list_what_there_is(wanted, names, message):
    with pytest.raises(UsageError, match=message):
        find_channels([wanted], names, 4, "a.tif")


def test_ome_states_names(tmp_path):
    metadata = {"axes": "ZCYX", "Channel": {"Name": ["DAPI", "GFP", "actin"]}}
    tifffile.imwrite(tmp_path / "a.ome.tif", STACK, ome=True, metadata=metadata)
    tifffile.imwrite(tmp_path / "b.ome.tif", STACK, ome=True, metadata={"axes": "ZCYX"})
    assert read_image(tmp_path / "a.ome.tif").channel_names == ("DAPI", "GFP", "actin")
    assert read_image(tmp_path / "b.ome.tif").channel_names == ()


def test_imagej_labels_its_slices(tmp_path):
    labels = [f"c:{c + 1}/3 z:{z + 1}/2 - {name}" for z in range(2) for c, name in enumerate(["DAPI", "GFP", "actin"])]
    tifffile.imwrite(tmp_path / "a.tif", STACK, imagej=True, metadata={"axes": "ZCYX", "Labels": labels})
    assert read_image(tmp_path / "a.tif").channel_names == ("DAPI", "GFP", "actin")


@pytest.mark.parametrize("labels", [None, ["same", "same", "same"], ["a", "b"], ["a", "", "c"]])
def test_slice_labels_that_name_no_channels(labels):
    assert imagej_names(labels, 3) == ()


@pytest.mark.parametrize("xml", ["", "<OME>", "<OME/>", "<OME><Image><Pixels><Channel/></Pixels></Image></OME>"])
def test_metadata_without_names(xml):
    assert ome_names(xml) == ()


def test_colour_images_have_no_named_channels(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((20, 24, 3), np.uint8), photometric="rgb")
    assert read_image(tmp_path / "a.tif").channel_names == ()
