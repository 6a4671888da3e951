"""What is said of images before they are predicted, whichever way they go."""

from dataclasses import replace

import numpy as np
import pytest
import tifffile
from PIL import Image

from biounet.errors import DataError
from biounet.inference.engines import make_engine
from biounet.prediction.predict import predict_files
from biounet.results.request import Request

COLOURS, STAINS = ("0", "1", "2"), ("DAPI", "GFP", "RFP")


@pytest.fixture
def predicted():
    """Predict files in memory: what became of them, and what was said."""

    def run(model, paths, request):
        lines = []
        engine = make_engine(model, engine="torch", device="cpu")
        done = predict_files(model, engine, paths, request, listen=lambda text, *_: lines.append(text))
        return done, lines

    return run


def sized(path, image, um):
    tifffile.imwrite(path, image, imagej=True, resolution=(1 / um, 1 / um), metadata={"unit": "um"})
    return path


def test_a_missing_size_is_said_once_and_kept_for_the_report(model, tmp_path, image_of, predicted):
    made = replace(model(), pixel_size_um=(0.5, 0.5))
    paths = [tmp_path / "a.tif", tmp_path / "b.tif"]
    for path in paths:
        tifffile.imwrite(path, image_of((40, 50)))
    sized(tmp_path / "c.tif", image_of((40, 50)), 0.5)
    done, lines = predicted(made, [*paths, tmp_path / "c.tif"], Request(tmp_path / "o"))
    said = "the file states no pixel size, the model learnt at 0.5 um: taken as equal; --pixel-size says what it is"
    assert [line for line in lines if "no pixel size" in line] == [f"a.tif: {said}"]
    assert [one.notes for one in done] == [[said], [said], []]


@pytest.mark.parametrize("um", [20.0, 0.01])
def test_sizes_that_cannot_be_meant_are_refused(model, tmp_path, image_of, predicted, um):
    made = replace(model(), pixel_size_um=(0.5, 0.5))
    path = sized(tmp_path / "a.tif", image_of((40, 50)), um)
    with pytest.raises(DataError, match=f"pixels of {um:g} um, the model learnt at 0.5 um: nothing is resampled by"):
        predicted(made, [path], Request(tmp_path / "o"))
    predicted(made, [path], Request(tmp_path / "o", pixel_size_um=(0.5,)))


def test_grey_is_repeated_for_colours_and_said_and_refused_for_stains(model, tmp_path, image_of, predicted, by_blocks):
    made = model(in_channels=3)
    tifffile.imwrite(tmp_path / "a.tif", image_of((40, 50)))
    for names in (COLOURS, ("R", "G", "B"), ("Red", "Green", "Blue")):
        coloured = replace(made, channels=names)
        _, lines = predicted(coloured, [tmp_path / "a.tif"], Request(tmp_path / "o"))
        assert "a.tif: grey, repeated to the model's 3 channels" in lines
    _, lines = by_blocks(replace(made, channels=COLOURS), tmp_path / "a.tif", Request(tmp_path / "o"))
    assert any("grey, repeated to the model's 3 channels" in line for line in lines)
    stained = replace(made, channels=STAINS)
    for request in (Request(tmp_path / "o"), Request(tmp_path / "o", channels=(0,))):
        with pytest.raises(DataError, match=r"(DAPI: not in .*a\.tif|1 channel, the model takes 3 \(DAPI, GFP, RFP\))"):
            predicted(stained, [tmp_path / "a.tif"], request)


def test_transparency_and_one_value_everywhere_are_said(model, tmp_path, image_of, predicted):
    made = model()
    grey = (image_of((40, 50)) >> 8).astype(np.uint8)
    Image.fromarray(np.stack([grey, np.full_like(grey, 255)], -1), mode="LA").save(tmp_path / "clear.png")
    tifffile.imwrite(tmp_path / "black.tif", np.zeros((40, 50), np.uint8))
    pages = np.stack([grey, grey * 0, grey])
    tifffile.imwrite(tmp_path / "pages.tif", pages, photometric="minisblack")
    paths = [tmp_path / name for name in ("clear.png", "black.tif", "pages.tif")]
    _, lines = predicted(made, paths, Request(tmp_path / "o"))
    nothing = "one value: there is nothing to see, and what is found means nothing"
    assert f"black.tif: all pixels have {nothing}" in lines
    assert f"pages.tif: in 1 of 3 planes all pixels have {nothing}" in lines
    assert any(line.startswith("clear.png: ") and "transparency" in line for line in lines)
    assert not any(line.startswith("clear.png") and nothing in line for line in lines)


@pytest.mark.parametrize("large", [False, True])
def test_both_ways_say_the_same_of_one_value_everywhere_and_of_nothing_found(
    model, tmp_path, image_of, predicted, by_blocks, monkeypatch, large
):
    if large:
        monkeypatch.setattr("biounet.images.sampling.LARGE", 100)
    made = model("classes", classes=3)
    sure = {**made.weights, "head.bias": np.array([1e3, 0, 0], np.float32)}  # of background everywhere
    image = image_of((40, 50))
    for name, pixels in (("a", image), ("b", image * 0), ("c", np.stack([image, image * 0 + 7, image * 0]))):
        tifffile.imwrite(tmp_path / f"{name}.tif", pixels, photometric="minisblack")
        for one in (made, replace(made, weights=sure)):
            (memory,), _ = predicted(one, [tmp_path / f"{name}.tif"], Request(tmp_path / "memory"))
            blocks, lines = by_blocks(one, tmp_path / f"{name}.tif", Request(tmp_path / "blocks"))
            assert (blocks.empty, blocks.notes) == (memory.empty, memory.notes)
            assert name == "b" or memory.empty == (one is not made)
            assert len(memory.notes) == (name != "a")
            assert [line for line in lines if "one value" in line] == [f"{name}.tif: {note}" for note in memory.notes]
