"""Plates well by well, and labels as OME-Zarr: beside the others, or in the images themselves."""

from dataclasses import replace

import numpy as np
import pytest
import tifffile
import yaozarrs

from biounet.errors import DataError, UsageError
from biounet.images.formats import read_image
from biounet.inference.engines import make_engine
from biounet.prediction.inputs import find_inputs
from biounet.prediction.predict import predict_files
from biounet.results.request import Request


def predicted(model, inputs, request):
    return predict_files(model, make_engine(model, engine="torch", device="cpu"), inputs, request)


def names(paths):
    return ["/".join(path.parts[-3:]) for path in paths]


def test_plates_are_walked_by_well_and_field(plate, tmp_path):
    assert names(find_inputs([plate])) == ["B/03/0", "B/03/1", "B/04/0", "B/04/1", "C/03/0", "C/03/1"]
    assert names(find_inputs([plate], wells="c*, B04")) == ["B/04/0", "B/04/1", "C/03/0", "C/03/1"]
    assert find_inputs([plate.parent]) == find_inputs([plate])
    with pytest.raises(UsageError, match=r"--wells 'D\*': not in .*which has B03, B04, C03"):
        find_inputs([plate], wells="D*")
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((4, 5), np.uint8))
    with pytest.raises(UsageError, match="--wells 'B03': no input is an OME-Zarr plate; name one"):
        find_inputs([tmp_path / "a.tif"], wells="B03")


def test_labels_go_into_the_fields_and_nothing_else_changes(model, plate, tmp_path):
    made = model()
    inputs = find_inputs([plate], wells="B03")
    predicted(made, inputs, Request(tmp_path / "tif", save=("labels", "overlay")))
    before = {path: path.read_bytes() for path in plate.rglob("*") if path.is_file()}
    done = predicted(made, inputs, Request(tmp_path / "out", save=("labels", "overlay"), in_place=True))
    assert [one.name for one in done] == ["Platte 7_B03_0", "Platte 7_B03_1"]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "Platte 7_B03_0_overlay.png", "Platte 7_B03_1_overlay.png", "report.html", "run.json"
    ]  # fmt: skip
    for one, field in zip(done, inputs, strict=True):
        yaozarrs.validate_zarr_store(str(field / "labels" / "biounet"))
        found = read_image(field / "labels" / "biounet")
        assert np.array_equal(found.array, tifffile.imread(tmp_path / "tif" / f"{one.name}_labels.tif"))
        assert found.array.max() == one.objects > 1
        assert found.pixel_size_um == (0.5, 0.5)
    yaozarrs.validate_zarr_store(str(plate))
    assert {path: path.read_bytes() for path in before} == before
    assert not (plate / "B" / "04" / "0" / "labels").exists()


def test_other_labels_stay_and_those_of_the_name_are_not_replaced_unasked(model, plate, tmp_path):
    field = find_inputs([plate])[0]
    request = Request(tmp_path / "out", save=("labels",), in_place=True, label_name="nuclei")
    made = model()
    predicted(made, [field], request)
    kept = {path: path.read_bytes() for path in (field / "labels" / "nuclei").rglob("*") if path.is_file()}
    predicted(made, [field], replace(request, label_name="biounet", tile=12, shard=(1, 1)))
    predicted(made, [field], replace(request, label_name="biounet", tile=12, merge=True))
    assert {path: path.read_bytes() for path in kept} == kept
    own, other = (read_image(field / "labels" / name).array for name in ("biounet", "nuclei"))
    assert np.array_equal(own, other)
    other_model = replace(made, postprocessing={"threshold": 0.99})
    refused = "has labels 'nuclei' that this model did not make with these settings.*; choose another --label-name"
    with pytest.raises(DataError, match=refused):
        predicted(other_model, [field], request)
    predicted(other_model, [field], replace(request, overwrite=True))
    assert not np.array_equal(read_image(field / "labels" / "nuclei").array, other)
    assert np.array_equal(read_image(field / "labels" / "biounet").array, own)


@pytest.mark.parametrize(("axes", "shape", "ndim"), [("tczyx", (2, 1, 3, 20, 24), 2), ("czyx", (1, 6, 20, 24), 3)])
def test_stacks_and_volumes_in_place(model, tmp_path, write_zarr, image_of, axes, shape, ndim):
    pixels = image_of(shape)
    write_zarr(tmp_path / "a.zarr", pixels, axes=axes)
    made = model(ndim=ndim, depth=1)
    request = Request(tmp_path / "tif", save=("labels",))
    predicted(made, [tmp_path / "a.zarr"], request)
    plain = tifffile.imread(request.out / "a_labels.tif")
    inner = tuple(n for axis, n in zip(axes, shape, strict=True) if axis != "c")
    for way in ({}, {"tile": 8, "memory": None, "region": str(tmp_path / "mask.tif")}):
        tifffile.imwrite(tmp_path / "mask.tif", np.ones((20, 24), np.uint8))
        predicted(made, [tmp_path / "a.zarr"], replace(request, in_place=True, overwrite=True, **way))
        found = read_image(tmp_path / "a.zarr" / "labels" / "biounet").array
        assert found.shape == inner
        assert np.array_equal(found.reshape(plain.shape), plain)
        assert 0 < (plain > 0).mean() < 1
    yaozarrs.validate_zarr_store(str(tmp_path / "a.zarr" / "labels" / "biounet"))


def test_ome_zarr_beside_the_other_results(model, tmp_path, image_of):
    """From both ways: labels, and classes where there are several."""
    tifffile.imwrite(
        tmp_path / "a.tif", image_of((40, 50)), imagej=True, resolution=(4, 4), metadata={"unit": "um", "axes": "YX"}
    )
    made = model(classes=3)
    request = Request(tmp_path / "memory", save=("labels", "ome-zarr"))
    predicted(made, [tmp_path / "a.tif"], request)
    parts = replace(request, out=tmp_path / "blocks", tile=12)
    predicted(made, [tmp_path / "a.tif"], replace(parts, shard=(1, 1)))
    (done,) = predicted(made, [tmp_path / "a.tif"], replace(parts, merge=True))
    assert set(done.files) == {"a_labels.tif", "a_classes.tif", "a_labels.ome.zarr", "a_classes.ome.zarr"}
    for folder in (request.out, parts.out):
        for name in ("a_labels", "a_classes"):
            yaozarrs.validate_zarr_store(str(folder / f"{name}.ome.zarr"))
            found = read_image(folder / f"{name}.ome.zarr")
            assert np.array_equal(found.array, tifffile.imread(folder / f"{name}.tif"))
            assert found.pixel_size_um == (0.25, 0.25)
            assert found.array.max() > 1


def content(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_image_in_the_folder_of_results_stays_and_the_same_folder_is_predicted_again(
    model, tmp_path, write_zarr, image_of
):
    tifffile.imwrite(tmp_path / "a.tif", image_of((20, 20)))
    other = write_zarr(tmp_path / "a.ome.zarr", image_of((20, 20), seed=1))
    before, made = content(other), model()
    request = Request(tmp_path, save=("labels", "ome-zarr"))
    predicted(made, [tmp_path / "a.tif"], request)
    assert content(other) == before
    other.rename(tmp_path / "b.ome.zarr")
    for _ in range(2):
        inputs = find_inputs([tmp_path])
        assert inputs == [tmp_path / "a.tif", tmp_path / "b.ome.zarr"]
        predicted(made, inputs, request)


def test_a_folder_that_something_else_wrote_or_that_was_edited_is_not_replaced_unasked(
    model, tmp_path, write_zarr, image_of
):
    import zarr

    tifffile.imwrite(tmp_path / "a.tif", image_of((20, 20)))
    made, request = model(), Request(tmp_path / "out", save=("ome-zarr",))
    path = write_zarr(request.out / "a_labels.ome.zarr", image_of((20, 20), seed=1))
    refused = r"a_labels\.ome\.zarr: is there, and biounet did not write it, or it was edited since; move it away"
    before = content(path)
    with pytest.raises(DataError, match=refused):
        predicted(made, [tmp_path / "a.tif"], request)
    assert content(path) == before
    predicted(made, [tmp_path / "a.tif"], replace(request, overwrite=True))
    predicted(made, [tmp_path / "a.tif"], request)  # its own are replaced
    zarr.open_array(path / "0", mode="r+")[:5, :5] = 77
    with pytest.raises(DataError, match=refused):
        predicted(made, [tmp_path / "a.tif"], request)
    assert (read_image(path).array[:5, :5] == 77).all()


def test_what_cannot_be_written_is_refused_before_the_work(model, tmp_path, image_of):
    tifffile.imwrite(tmp_path / "a.tif", image_of((20, 20)))
    made = model()
    with pytest.raises(UsageError, match=r"a\.tif: --in-place writes into OME-Zarr images only"):
        predicted(made, [tmp_path / "a.tif"], Request(tmp_path / "o", in_place=True))
    with pytest.raises(UsageError, match="--in-place writes labels, --save overlay leaves them out: add labels"):
        Request(tmp_path, save=("overlay",), in_place=True)
