"""Models and images for predictions block by block."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage
from tests.images.test_plates import group

from biounet.inference.engines import make_engine
from biounet.inference.memory import Budget, process_bytes
from biounet.inference.tiling import predict_tiled
from biounet.prediction.large import predict_large
from biounet.prediction.made_by import targets as targets_of

SETTINGS = {
    "threshold": 0.5, "smallest_px": 6, "fill_holes_px": 5, "give_back_px": 1,
    "split": {"seeds": "probability", "level": 0.6, "reach_px": 4, "smallest_seed_px": 2},
}  # fmt: skip


@pytest.fixture
def model(random_model):
    """Depth 2, so that tiles of any size have to start on multiples of 4; every class has its share of the pixels."""

    def make(task="instances", classes=2, **arguments):
        made = random_model(3, task, **{"depth": 2, "classes": classes, "in_channels": 1} | arguments)
        engine = make_engine(made, engine="torch", device="cpu")
        noise = made.normalisation.apply(
            image_of((80, 80) if made.ndim == 2 else (24,) * 3)[None].repeat(len(made.channels), 0)
        )
        (logits,) = predict_tiled(engine, noise, made.geometry)[None]
        flat = logits.reshape(classes, -1)
        bias = made.weights["head.bias"] - np.median(flat, axis=1)
        scale = 3 / flat.std(axis=1)
        weight = made.weights["head.weight"] * scale.reshape(-1, *(1,) * (made.ndim + 1))
        weights = {**made.weights, "head.bias": bias * scale, "head.weight": weight}
        made = replace(made, weights={name: np.asarray(value, np.float32) for name, value in weights.items()})
        return replace(made, postprocessing=SETTINGS if task == "instances" else {}, sha256="0" * 64)

    return make


def image_of(shape, seed=0):
    smooth = ndimage.gaussian_filter(np.random.default_rng(seed).random(shape), (0,) * (len(shape) - 2) + (2, 2))
    return np.asarray(1000 + 30_000 * (smooth - smooth.min()), np.uint16)


@pytest.fixture(name="image_of")
def _image_of():
    return image_of


@pytest.fixture
def by_blocks():
    """Predict a file block by block: what became of it, and what was said."""

    def run(model, path, request, **options):
        lines = []
        engine = make_engine(model, engine="torch", device="cpu")
        budget = options.pop("budget", None) or Budget(4 << 30, process_bytes())
        done = predict_large(
            model,
            engine,
            path,
            targets_of(model, engine, request),
            budget=budget,
            listen=lambda text, *_: lines.append(text),
            **options,
        )
        return done, [line for line in lines if line]

    return run


@pytest.fixture(params=["0.4", "0.5"])
def plate(request, tmp_path, write_zarr, image_of):
    """Wells B03, B04 and C03 with two fields each."""
    path, version = tmp_path / "in" / "Platte 7.ome.zarr", request.param
    wells = [{"path": f"{row}/{c}", "rowIndex": r, "columnIndex": i} for r, row, i, c in
             ((0, "B", 0, "03"), (0, "B", 1, "04"), (1, "C", 0, "03"))]  # fmt: skip
    for number, well in enumerate(wells):
        for field in ("0", "1"):
            pixels = image_of((30, 40), seed=2 * number + int(field))
            write_zarr(path / well["path"] / field, pixels, version=version, levels=2)
        group(path / well["path"], version, "well", {"images": [{"path": "0"}, {"path": "1"}]})
    rows, columns = [{"name": "B"}, {"name": "C"}], [{"name": "03"}, {"name": "04"}]
    group(path, version, "plate", {"rows": rows, "columns": columns, "wells": wells})
    for row in "BC":
        group(path / row, version, None, {})
    return path
