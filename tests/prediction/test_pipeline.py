"""What is wrong with one input is no matter of the others."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import tifffile

from biounet.errors import BiounetError, DataError
from biounet.inference.engines import make_engine
from biounet.prediction import pipeline
from biounet.prediction.predict import predict_files
from biounet.results.request import Request


@dataclass
class Refusing:
    """An engine that refuses tiles of one size."""

    engine: Any
    side: int

    def __getattr__(self, name):
        return getattr(self.engine, name)

    def __call__(self, batch):
        if batch.shape[-1] == self.side:
            raise BiounetError("the engine gave up")
        return self.engine(batch)


@pytest.fixture
def predicted(model, tmp_path):
    """Predict a.tif, b.tif and c.tif: errors by name, and what was said of failures; d.tif is what a file is alone."""
    made = model()
    engine = make_engine(made, engine="torch", device="cpu")

    def run(images, *, refused=0, save=("labels",)):
        lines, paths = [], []
        for name, image in zip("abc", images, strict=False):
            paths.append(tmp_path / f"{name}.tif")
            tifffile.imwrite(paths[-1], image, photometric="minisblack")
        request = Request(tmp_path / "out", save=save)
        done = predict_files(
            made, Refusing(engine, refused), paths, request, listen=lambda text, *_: lines.append(text)
        )
        alone = Request(tmp_path / "alone", save=save)
        for one, path in zip(done, paths, strict=True):
            if not one.error:
                predict_files(made, engine, [path], alone)
                assert one.files == [f"{one.name}_labels.tif"]
                found, expected = (tifffile.imread(folder.out / one.files[0]) for folder in (request, alone))
                assert np.array_equal(found, expected)
        assert not {f"{one.name}_labels.tif" for one in done if one.error} & {p.name for p in request.out.iterdir()}
        failed = [line for line in lines if line.startswith("failed")]
        assert failed == [f"failed: {one.error}" for one in done if one.error]
        return {one.name: one.error for one in done}

    return run


@pytest.mark.parametrize("stack", [False, True])
def test_an_image_that_cannot_be_normalised(predicted, image_of, tmp_path, stack):
    images = [image_of((3, 20, 24) if stack else (20, 24), seed=seed).astype(np.float64) for seed in range(3)]
    images[1][..., 5, 5] = 1e150
    errors = predicted(images)
    assert errors["a"] == errors["c"] == ""
    assert errors["b"].startswith(f"{tmp_path / 'b.tif'}: image holds NaN, infinite or absurdly large values")
    with pytest.raises(DataError, match="absurdly large"):
        predicted([images[1]])


def test_an_engine_that_fails_fails_the_images_of_that_size(predicted, image_of, model):
    side = model().geometry.input_size((40, 40))[0]
    errors = predicted([image_of((20, 20)), image_of((40, 40)), image_of((20, 20), seed=1)], refused=side)
    assert errors == {"a": "", "b": "the engine gave up", "c": ""}


def test_objects_that_cannot_be_found(predicted, image_of, monkeypatch):
    calls = []
    plain = pipeline.prediction_of

    def second_fails(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise BiounetError("no objects")
        return plain(*arguments)

    monkeypatch.setattr(pipeline, "prediction_of", second_fails)
    assert predicted([image_of((20, 20), seed=seed) for seed in range(3)]) == {"a": "", "b": "no objects", "c": ""}
