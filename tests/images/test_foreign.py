"""Formats that are not read: each way to meet one says what it is and what to do."""

import numpy as np
import pytest
import tifffile

from biounet.datasets.layouts import find_dataset
from biounet.errors import DataError
from biounet.images.foreign import advice
from biounet.images.formats import READERS, read_header
from biounet.prediction.inputs import find_inputs

SAID = r"Leica LIF is not read; open it in Fiji \(Bio-Formats\) and save it as OME-TIFF$"


@pytest.fixture
def lif(tmp_path):
    path = tmp_path / "images" / "x.LIF"
    path.parent.mkdir()
    path.write_bytes(b"p")
    return path


def test_the_file_itself_as_image_or_as_data(lif):
    for read in (read_header, find_dataset):
        with pytest.raises(DataError, match=rf"x\.LIF: {SAID}"):
            read(lif)


def test_a_folder_that_holds_nothing_else(lif):
    for read in (lambda path: find_inputs([path]), find_dataset):
        with pytest.raises(DataError, match=rf"images: {SAID}"):
            read(lif.parent)


def test_a_folder_of_such_images_beside_masks(lif, tmp_path):
    (tmp_path / "masks").mkdir()
    tifffile.imwrite(tmp_path / "masks" / "x.tif", np.zeros((20, 20), np.uint8))
    with pytest.raises(DataError, match=rf"images: {SAID}"):
        find_dataset(tmp_path)


def test_what_is_read_needs_no_advice(tmp_path):
    assert advice(tmp_path / f"x{suffix}" for suffix in READERS) == ""


def test_beside_images_that_are_read_it_is_said(lif):
    tifffile.imwrite(lif.with_name("a.tif"), np.zeros((4, 4), np.uint8))
    notes = []
    assert [path.name for path in find_inputs([lif.parent], notes=notes)] == ["a.tif"]
    assert notes == [
        f"{lif.parent}: x.LIF left out: Leica LIF is not read; open it in Fiji (Bio-Formats) and save it as OME-TIFF"
    ]
