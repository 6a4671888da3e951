"""Annotations inside OME-Zarr through every command, and what was predicted into the images as annotation again."""

import numpy as np
import pytest
from tests.cli.conftest import image_and_mask

from biounet.datasets.layouts import find_dataset, load
from biounet.images.ome_zarr_labels import add_zarr_labels


@pytest.fixture(params=["0.4", "0.5"])
def folder(request, tmp_path, write_zarr):
    """Three images with labels ``nuclei``."""
    for count in (5, 9, 14):
        image, mask = image_and_mask(count, count)
        path = write_zarr(tmp_path / "data" / f"zelle {count}.ome.zarr", image, version=request.param)
        add_zarr_labels(path, "nuclei", lambda a, b, mask=mask: mask[tuple(map(slice, a, b))], largest_id=count)
    return tmp_path / "data"


def corrected(path, change):
    """Change stored labels as an annotation tool would, at full resolution."""
    import zarr

    array = zarr.open_array(path / "0", mode="r+")
    array[...] = change(array[...])
    return array[...]


def test_check_train_evaluate_and_the_way_back(biounet, train_tiny, folder, tmp_path):
    said = "labels 'nuclei' inside 3 OME-Zarr images are the annotation"
    checked = biounet("check", folder)
    assert checked.code == 0, checked.err
    assert said in checked.out + checked.err
    trained = train_tiny(folder, tmp_path / "m.safetensors")
    assert trained.code == 0, trained.err
    assert f"layout: OME-Zarr labels\n{said}\n" in trained.err.replace("  ", "")

    inputs = sorted(folder.iterdir())
    done = biounet("predict", tmp_path / "m.safetensors", *inputs, "--out", tmp_path / "out", "--in-place")
    assert done.code == 0, done.err
    scored = biounet("evaluate", f"{folder}/*.zarr/labels/biounet", folder, "--json").json
    assert [image["name"] for image in scored["images"]] == ["zelle 14", "zelle 5", "zelle 9"]

    drawn = [corrected(path / "labels" / "biounet", lambda ids: np.where(ids > 0, ids, 0) * 0 + 1) for path in inputs]
    again = find_dataset(None, images=f"{folder}/*.zarr", masks=f"{folder}/*.zarr/labels/biounet")
    for example, array in zip(load(again), drawn, strict=True):
        assert np.array_equal(example.labels, array)
    truth = biounet("evaluate", f"{folder}/*.zarr/labels/nuclei", folder, "--json").json
    assert truth["mean"]["seg"] == 1.0


def test_labels_of_their_own_folder_are_annotations_after_correction(biounet, model, folder, tmp_path):
    done = biounet("predict", model, folder, "--out", tmp_path / "out", "--save", "ome-zarr")
    assert done.code == 0, done.err
    path = tmp_path / "out" / "zelle 9_labels.ome.zarr"
    (mask,) = [mask for name, (_, mask) in {"zelle 9": image_and_mask(9, 9)}.items()]
    corrected(path, lambda _: mask)
    words = ["--images", f"{folder}/*.zarr", "--masks", f"{tmp_path}/out/*.zarr"]
    assert biounet("check", *words, "--json").json["layout"] == "--images and --masks"
    examples = {example.name: example for example in load(find_dataset(None, images=words[1], masks=words[3]))}
    assert sorted(examples) == ["zelle 14", "zelle 5", "zelle 9"]
    assert np.array_equal(examples["zelle 9"].labels, mask)
    scored = biounet("evaluate", path, folder / "zelle 9.ome.zarr", "--json")
    assert scored.json["mean"]["seg"] == 1.0
