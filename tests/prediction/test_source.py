"""Images whose channels lie in a file each, as those of nnU-Net's cases."""

import json
from dataclasses import replace

import numpy as np
import pytest
import tifffile

from biounet.errors import DataError
from biounet.inference.engines import make_engine
from biounet.prediction.calibrate import crops_of
from biounet.prediction.inputs import find_inputs
from biounet.prediction.predict import predict_files
from biounet.prediction.run_request import run_request
from biounet.prediction.source import source_of
from biounet.results.request import Request


@pytest.fixture
def case(tmp_path, image_of):
    """Two channels of one image in one file, and in a file each."""
    pixels = np.stack([image_of((60, 70), seed) for seed in (1, 2)])
    (tmp_path / "whole").mkdir()
    (tmp_path / "apart").mkdir()
    metadata = {"axes": "CYX"}
    tifffile.imwrite(tmp_path / "whole" / "cell.tif", pixels, imagej=True, metadata=metadata)
    for number, channel in enumerate(pixels):
        tifffile.imwrite(tmp_path / "apart" / f"cell_{number:04}.tif", channel)
    return tmp_path / "whole", tmp_path / "apart"


@pytest.mark.parametrize("options", [{}, {"pixel_size_um": (1.0,)}, {"channels": ("1", "0")}])
def test_a_case_is_predicted_as_the_image_of_its_channels(model, case, tmp_path, options):
    made = replace(model(in_channels=2), pixel_size_um=(1.0, 1.0))
    found = []
    for folder in case:
        request = Request(tmp_path / f"out {folder.name}", save=("labels", "probabilities"), **options)
        lines = []
        (done,) = run_request(made, [folder], request, listen=lambda text, *_, said=lines: said.append(text)).results
        assert (done.name, done.error) == ("cell", "")
        assert ("cell_0000.tif, cell_0001.tif: channels of one image" in lines) == (folder.name == "apart")
        found.append([tifffile.imread(request.out / f"cell_{kind}.tif") for kind in ("labels", "probabilities")])
    assert found[0][0].max() > 1
    for whole, apart in zip(*found, strict=True):
        np.testing.assert_array_equal(whole, apart)


def test_the_order_of_the_files_is_that_of_their_numbers(model, case):
    made = model(in_channels=2)
    source = source_of(case[1] / "cell_0000.tif", made)
    assert [file.name for file in source.files] == ["cell_0000.tif", "cell_0001.tif"]
    for number, file in enumerate(source.files):
        np.testing.assert_array_equal(source.image().array[number], tifffile.imread(file))


def test_frames_of_a_film_and_other_numbered_files_stay_images_of_their_own(model, case):
    folder = case[1]
    files = [folder / "cell_0000.tif", folder / "cell_0001.tif"]
    assert find_inputs([folder], model=model()) == files  # of one channel
    assert source_of(files[1], model(in_channels=2)).files == (files[1],)
    tifffile.imwrite(folder / "cell_0002.tif", np.zeros((60, 70), np.uint16))
    assert find_inputs([folder], model=model(in_channels=2)) == [*files, folder / "cell_0002.tif"]
    assert find_inputs([folder], model=model(in_channels=3)) == files[:1]
    for file in files:
        tifffile.imwrite(file, np.zeros((3, 60, 70), np.uint8), photometric="rgb", planarconfig="separate")
    assert find_inputs([folder], model=model(in_channels=3)) == [*files, folder / "cell_0002.tif"]


def test_channels_are_called_as_the_declaration_says(model, case, tmp_path):
    folder = case[1].rename(tmp_path / "imagesTs")
    (tmp_path / "dataset.json").write_text(json.dumps({"channel_names": {"0": "DNA", "1": "actin"}, "labels": {}}))
    made = replace(model(), channels=("actin",))  # learnt from one of the two
    source = source_of(folder / "cell_0000.tif", made)
    assert source.image().channel_names == ("DNA", "actin")
    tifffile.imwrite(tmp_path / "actin.tif", tifffile.imread(folder / "cell_0001.tif"))
    request = Request(tmp_path / "out", save=("labels",))
    engine = make_engine(made, engine="torch", device="cpu")
    predict_files(made, engine, [folder / "cell_0000.tif", tmp_path / "actin.tif"], request)
    labels = [tifffile.imread(tmp_path / "out" / f"{name}_labels.tif") for name in ("cell", "actin")]
    np.testing.assert_array_equal(*labels)
    plain = replace(made, channels=("0",))
    engine = make_engine(plain, engine="torch", device="cpu")
    with pytest.raises(DataError, match="2 channels, the model takes 1; choose them with --channels"):
        predict_files(plain, engine, [folder / "cell_0000.tif"], Request(tmp_path / "o", save=("labels",)))


def test_channels_that_do_not_fit_together(model, case):
    made = model(in_channels=2)
    tifffile.imwrite(case[1] / "cell_0001.tif", np.zeros((60, 71), np.uint16))
    with pytest.raises(DataError, match=r"cell_0001\.tif: is 60x71 \(YX\), but cell_0000\.tif, .*, 60x70 \(YX\)"):
        source_of(case[1] / "cell_0000.tif", made).header()


def test_crops_for_int8_are_taken_of_cases_too(model, case):
    made = model(in_channels=2)
    whole, apart = (crops_of(made, str(folder)) for folder in case)
    assert [crop.shape[0] for crop in apart] == [2] * len(apart)
    for one, other in zip(whole, apart, strict=True):
        np.testing.assert_array_equal(one, other)


def test_crops_for_int8_are_taken_at_the_pixel_size_of_the_model(model, tmp_path, image_of):
    coarse = image_of((60, 70))
    made = replace(model(), pixel_size_um=(1.0, 1.0))
    for name, pixels, size in (("a", coarse, 1.0), ("b", coarse.repeat(2, 0).repeat(2, 1), 0.5)):
        metadata = {"axes": "YX", "PhysicalSizeX": size, "PhysicalSizeY": size}
        tifffile.imwrite(tmp_path / f"{name}.ome.tif", pixels, metadata=metadata)
    own, finer = (crops_of(made, str(tmp_path / f"{name}.ome.tif")) for name in "ab")
    unscaled = crops_of(made, str(tmp_path / "b.ome.tif"), pixel_size_um=(1.0, 1.0))
    assert max(np.abs(one - other).max() for one, other in zip(own, finer, strict=True)) < 0.2  # smoothed a little
    assert [crop.shape for crop in finer] == [(1, 60, 35)] * 2
    assert [crop.shape for crop in unscaled] == [(1, 120, 70)] * 2
