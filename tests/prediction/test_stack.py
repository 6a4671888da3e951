"""Stacks keep the axis that their file has, in every result, whichever way they were computed."""

import csv
import json

import numpy as np
import pytest
import tifffile

from biounet.images.formats import read_image
from biounet.images.image import Image
from biounet.inference.engines import make_engine
from biounet.prediction import results
from biounet.prediction.predict import predict_files
from biounet.prediction.request import Request
from biounet.prediction.stack import place_in_stack, stack_axes

SAVE = ("labels", "probabilities", "ome-zarr", "table")


@pytest.mark.parametrize(
    ("axes", "shape", "ndim", "items", "named"),
    [
        ("ZYX", (3, 4, 5), 2, 3, "ZYX"), ("TYX", (3, 4, 5), 2, 3, "TYX"), ("IYX", (3, 4, 5), 2, 3, "TYX"),
        ("TZYX", (1, 3, 4, 5), 2, 3, "ZYX"), ("TZYX", (2, 3, 4, 5), 2, 6, "TYX"), ("TZYX", (3, 1, 4, 5), 2, 3, "TYX"),
        ("TZYX", (2, 3, 4, 5), 3, 2, "TZYX"), ("ZYX", (3, 4, 5), 3, 1, "ZYX"), ("ZYX", (1, 4, 5), 2, 1, "YX"),
    ],
)  # fmt: skip
def test_the_axis_of_a_stack(tmp_path, axes, shape, ndim, items, named):
    image = Image(np.zeros(shape), axes, (3.0, 0.5, 0.25) if "Z" in axes else (0.5, 0.25), tmp_path)
    size = (3.0, 0.5, 0.25) if "Z" in named else (0.5, 0.25)
    assert stack_axes(image, ndim, items) == (named, size)
    assert stack_axes(Image(image.array, axes, None, tmp_path), ndim, items) == (named, None)
    if ndim == 2:
        assert stack_axes(image, ndim, items, (7.0,)) == (named, (*size[:-2], 7.0, 7.0))
    if axes == named == "ZYX" and ndim == 2:
        assert stack_axes(Image(image.array, axes, None, tmp_path), ndim, items, (7.0,)) == ("ZYX", (7.0, 7.0))


def test_places_in_a_stack(tmp_path):
    image = Image(np.zeros((2, 3, 4, 5)), "TZYX", None, tmp_path)
    assert [place_in_stack(image, 2, index) for index in (0, 4, 5)] == [(0, 0), (1, 1), (2, 1)]
    assert place_in_stack(image, 3, 1) == (None, 1)
    assert place_in_stack(image, 2, None) == (None, None)


@pytest.mark.parametrize("way", ["memory", "blocks", "large"])
def test_planes_of_a_z_stack_are_z_in_every_result(model, tmp_path, image_of, by_blocks, monkeypatch, way):
    metadata = {"axes": "ZYX", "spacing": 2.0, "unit": "um"}
    tifffile.imwrite(tmp_path / "s.tif", image_of((3, 40, 50)), imagej=True, metadata=metadata, resolution=(4, 4))
    request = Request(tmp_path / "o", save=SAVE, report=False)
    if way == "large":
        monkeypatch.setattr(results, "_SMALL", 0)
    if way == "memory":
        made = model()
        predict_files(made, make_engine(made, engine="torch", device="cpu"), [tmp_path / "s.tif"], request)
    else:
        by_blocks(model(), tmp_path / "s.tif", request)
    for name, axes in (("s_labels.tif", "ZYX"), ("s_probabilities.tif", "CZYX"), ("s_labels.ome.zarr", "ZYX")):
        found = read_image(request.out / name)
        assert found.axes == axes
        assert found.pixel_size_um == pytest.approx((2.0, 0.25, 0.25))
    (multiscale,) = json.loads((request.out / "s_labels.ome.zarr" / "zarr.json").read_text())["attributes"]["ome"][
        "multiscales"
    ]
    assert multiscale["axes"][0] == {"name": "z", "type": "space", "unit": "micrometer"}
    rows = list(csv.DictReader((request.out / "s_objects.csv").read_text().splitlines()))
    assert {(row["z"], row.get("t")) for row in rows} == {(z, None) for z in "012"}


def test_times_are_times_in_every_result(model, tmp_path, image_of, by_blocks):
    metadata = {"axes": "TYX", "unit": "um"}
    tifffile.imwrite(tmp_path / "s.tif", image_of((3, 40, 50)), imagej=True, metadata=metadata, resolution=(4, 4))
    by_blocks(model(), tmp_path / "s.tif", Request(tmp_path / "o", save=SAVE, report=False))
    for name, axes in (("s_labels.tif", "TYX"), ("s_probabilities.tif", "TCYX"), ("s_labels.ome.zarr", "TYX")):
        found = read_image(tmp_path / "o" / name)
        assert found.axes == axes
        assert found.pixel_size_um == pytest.approx((0.25, 0.25))
