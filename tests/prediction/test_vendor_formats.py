"""Files of microscopes and scanners are predicted as a plain TIFF of the same pixels is, whole and block by block."""

import numpy as np
import pytest
import tifffile
from tests.images.test_nd2 import write_nd2
from tests.images.test_slides import write_mirax, write_ndpi, write_svs
from tests.prediction.test_large import files_of, through_memory

from biounet.images.formats import read_image
from biounet.results.request import Request


def write_czi(path, pixels):
    czi = pytest.importorskip("pylibCZIrw.czi")
    with czi.create_czi(str(path)) as file:
        file.write(pixels[..., None])


def write_grey_nd2(path, pixels):
    pytest.importorskip("nd2")
    write_nd2(path, pixels[None, ..., None])


def write_grey_as_mirax(path, pixels):
    pytest.importorskip("openslide")
    write_mirax(path, colour(pixels))


WRITERS = {
    "a.czi": write_czi,
    "a.nd2": write_grey_nd2,
    "a.mrxs": write_grey_as_mirax,
    "a.svs": lambda path, pixels: write_svs(path, colour(pixels), "lzw"),
    "a.ndpi": lambda path, pixels: write_ndpi(path, [colour(pixels)]),
}


def colour(pixels):
    return np.stack([pixels // 256, pixels // 300, pixels // 350], -1).astype(np.uint8)


@pytest.mark.parametrize("name", WRITERS)
def test_prediction(model, tmp_path, image_of, by_blocks, name):
    pixels = image_of((128, 192))
    WRITERS[name](tmp_path / name, pixels)
    image = read_image(tmp_path / name)  # of JPEGs not quite what was written
    if not name.endswith(".ndpi"):
        same = pixels if image.axes == "YX" else np.moveaxis(colour(pixels), -1, 0)
        assert np.array_equal(image.array, same)
    axes = {"photometric": "minisblack"} if image.axes == "YX" else {"photometric": "rgb"}
    (tmp_path / "plain").mkdir()
    plain = image.array if image.axes == "YX" else np.moveaxis(image.array, 0, -1)
    tifffile.imwrite(tmp_path / "plain" / "a.tif", plain, **axes)
    made = model(in_channels=image.array.shape[0] if image.axes == "CYX" else 1)
    through_memory(made, tmp_path / "plain" / "a.tif", Request(tmp_path / "tif", save=("probabilities",), tile=40))
    through_memory(made, tmp_path / name, Request(tmp_path / "whole", save=("probabilities",), tile=40))
    by_blocks(made, tmp_path / name, Request(tmp_path / "parts", save=("probabilities",), tile=40))
    wanted = files_of(tmp_path / "tif")
    assert list(wanted) == ["a_probabilities.tif"]
    assert files_of(tmp_path / "whole") == wanted
    assert files_of(tmp_path / "parts") == wanted
