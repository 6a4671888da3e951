"""Stacks keep the axis that their file has, in every result, whichever way they were computed."""

import csv
import json
from itertools import product

import numpy as np
import pytest
import tifffile

from biounet.images.formats import read_image
from biounet.images.image import Image
from biounet.inference.engines import make_engine
from biounet.prediction.predict import predict_files
from biounet.results import write
from biounet.results.request import Request
from biounet.results.stack import Stack, place_in_stack, stack_of

SAVE = ("labels", "probabilities", "ome-zarr", "table")


@pytest.mark.parametrize(
    ("axes", "shape", "ndim", "items", "named"),
    [
        ("ZYX", (3, 4, 5), 2, 3, "ZYX"), ("TYX", (3, 4, 5), 2, 3, "TYX"), ("IYX", (3, 4, 5), 2, 3, "TYX"),
        ("TZYX", (1, 3, 4, 5), 2, 3, "ZYX"), ("TZYX", (2, 3, 4, 5), 2, 6, "TZYX"), ("TZYX", (3, 1, 4, 5), 2, 3, "TYX"),
        ("TZYX", (2, 3, 4, 5), 3, 2, "TZYX"), ("ZYX", (3, 4, 5), 3, 1, "ZYX"), ("ZYX", (1, 4, 5), 2, 1, "YX"),
        ("IZYX", (2, 3, 4, 5), 2, 6, "TZYX"),
    ],
)  # fmt: skip
def test_the_axis_of_a_stack(tmp_path, axes, shape, ndim, items, named):
    image = Image(np.zeros(shape), axes, (3.0, 0.5, 0.25) if "Z" in axes else (0.5, 0.25), tmp_path)
    size = (3.0, 0.5, 0.25) if "Z" in named else (0.5, 0.25)
    counts = tuple(n for n in shape[:-ndim] if n > 1)
    unknown = Image(image.array, axes, None, tmp_path)
    assert stack_of(image, ndim, items) == Stack(named, counts, size)
    assert stack_of(unknown, ndim, items) == Stack(named, counts, None)
    if ndim == 2:
        assert stack_of(image, ndim, items, (7.0,)) == Stack(named, counts, (*size[:-2], 7.0, 7.0))
        assert stack_of(unknown, ndim, items, (7.0,)) == Stack(named, counts, (7.0, 7.0))


def test_places_in_a_stack(tmp_path):
    image = Image(np.zeros((2, 3, 4, 5)), "TZYX", None, tmp_path)
    assert [place_in_stack(image, 2, index) for index in (0, 4, 5)] == [(0, 0), (1, 1), (2, 1)]
    assert place_in_stack(image, 3, 1) == (None, 1)
    assert place_in_stack(image, 2, None) == (None, None)


def test_windows_of_a_stack_are_those_of_the_whole():
    whole = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    items = [lambda start, stop, one=one: one[tuple(map(slice, start, stop))] for one in whole.reshape(6, 4, 5)]
    read = Stack("TZYX", (2, 3), None).read(items)
    for start, stop in (((0, 0, 0, 0), whole.shape), ((1, 1, 0, 2), (2, 3, 4, 4)), ((0, 2, 3, 0), (2, 3, 4, 1))):
        assert np.array_equal(read(start, stop), whole[tuple(map(slice, start, stop))])


@pytest.mark.parametrize("way", ["memory", "blocks", "large"])
@pytest.mark.parametrize(("axes", "shape"), [("ZYX", (3,)), ("TZYX", (2, 3))])
def test_planes_of_a_z_stack_are_z_in_every_result(model, tmp_path, image_of, by_blocks, monkeypatch, way, axes, shape):
    metadata, image = {"axes": axes, "spacing": 2.0, "unit": "um"}, image_of((*shape, 40, 50))
    tifffile.imwrite(tmp_path / "s.tif", image, imagej=True, metadata=metadata, resolution=(4, 4))
    request = Request(tmp_path / "o", save=SAVE, report=False)
    if way == "large":
        monkeypatch.setattr(write, "_SMALL", 0)
    if way == "memory":
        made = model()
        predict_files(made, make_engine(made, engine="torch", device="cpu"), [tmp_path / "s.tif"], request)
    else:
        by_blocks(model(), tmp_path / "s.tif", request)
    labels = {}
    for name, named in (("s_labels.tif", axes), ("s_probabilities.tif", f"C{axes}"), ("s_labels.ome.zarr", axes)):
        found = read_image(request.out / name)
        assert sorted(found.axes) == sorted(named)
        assert found.size("T") * found.size("Z") == np.prod(shape)
        assert found.pixel_size_um == pytest.approx((2.0, 0.25, 0.25))
        labels[name] = found.array
    (multiscale,) = json.loads((request.out / "s_labels.ome.zarr" / "zarr.json").read_text())["attributes"]["ome"][
        "multiscales"
    ]
    assert multiscale["axes"][-3] == {"name": "z", "type": "space", "unit": "micrometer"}
    assert np.array_equal(labels["s_labels.tif"], labels["s_labels.ome.zarr"])
    rows = list(csv.DictReader((request.out / "s_objects.csv").read_text().splitlines()))
    places = product(*([str(i) for i in range(count)] for count in shape))
    assert {tuple(row[a] for a in axes[:-2].lower()) for row in rows} == set(places)
    for at in np.ndindex(shape):
        place = dict(zip(axes[:-2].lower(), map(str, at), strict=True))
        assert labels["s_labels.tif"][at].max() == sum(row.items() >= place.items() for row in rows)


def test_times_are_times_in_every_result(model, tmp_path, image_of, by_blocks):
    metadata = {"axes": "TYX", "unit": "um"}
    tifffile.imwrite(tmp_path / "s.tif", image_of((3, 40, 50)), imagej=True, metadata=metadata, resolution=(4, 4))
    by_blocks(model(), tmp_path / "s.tif", Request(tmp_path / "o", save=SAVE, report=False))
    for name, axes in (("s_labels.tif", "TYX"), ("s_probabilities.tif", "TCYX"), ("s_labels.ome.zarr", "TYX")):
        found = read_image(tmp_path / "o" / name)
        assert found.axes == axes
        assert found.pixel_size_um == pytest.approx((0.25, 0.25))
