"""An ensemble is a network like any other: in every engine, precision and exported form."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import biounet
from biounet.checks.model import check_model
from biounet.errors import UsageError
from biounet.inference.convert import onnx_of, read_network
from biounet.inference.cost import cost_of
from biounet.inference.engines import ENGINES, choose_engine, make_engine
from biounet.inference.export import EXPORTERS
from biounet.inference.exported import open_model
from biounet.inference.predict import predict_array
from biounet.inference.quantize import convolution_ends
from biounet.inference.torch_engine import torch_network
from biounet.inference.unet_graph import is_plain_unet
from biounet.model_file import save_model
from biounet.networks.build import build

UNET = {"name": "unet", "in_channels": 1, "classes": 2, "width": 3, "depth": 1}
ALIKE = {"name": "ensemble", "members": [build(UNET).description, build(UNET | {"batch_norm": True}).description]}
WINDOW = {"name": "patch_cnn", "window": 9, "width": 2}
UNLIKE = {"name": "ensemble", "members": [build(UNET).description, build(WINDOW).description]}


def test_only_unets_of_one_geometry_need_no_exporter():
    assert is_plain_unet(ALIKE)
    assert not is_plain_unet(UNLIKE)
    assert not is_plain_unet({"name": "ensemble", "members": [UNET, build(UNET | {"depth": 2}).description]})


@pytest.mark.parametrize("description", [ALIKE, UNLIKE], ids=["alike", "unlike"])
@pytest.mark.parametrize("name", ENGINES)
def test_every_engine_gives_the_logarithm_of_the_mean(saved_model, name, description):
    model = saved_model(description)
    engine = make_engine(model, engine=name, device="cpu")
    size = model.geometry.input_size((21, 30))
    batch = np.random.default_rng(0).standard_normal((2, 1, *size)).astype(np.float32)
    with torch.no_grad():
        expected = torch_network(model)(torch.from_numpy(batch)).numpy()
    assert engine.geometry == model.geometry
    assert np.abs(engine(batch) - expected).max() <= 2e-5 * np.abs(expected).max()
    assert np.exp(expected).sum(1) == pytest.approx(1, rel=1e-5)


@pytest.mark.parametrize("target", EXPORTERS)
@pytest.mark.parametrize("description", [ALIKE, UNLIKE], ids=["alike", "unlike"])
def test_it_is_exported_and_predicts_the_same(saved_model, tmp_path, target, description):
    model = saved_model(description, task="classes")
    made = EXPORTERS[target](model)
    for name, data in made.files.items():
        (tmp_path / name).write_bytes(data)
    opened = open_model(tmp_path / list(made.files)[-1])
    image = np.random.default_rng(0).integers(0, 255, (1, 45, 38)).astype(np.uint8)
    engines = choose_engine(opened, device="cpu").engine, make_engine(model, engine="torch", device="cpu")
    found, expected = (predict_array(m, e, image) for m, e in zip((opened, model), engines, strict=True))
    assert np.abs(found.probabilities - expected.probabilities).max() < 1e-5


def test_int8_leaves_the_ends_of_every_member_in_fp32(saved_model):
    """A first convolution and a head each, of 4 convolutions at two levels, an up-convolution and a decoder's two."""
    model = saved_model(ALIKE)
    network = read_network(onnx_of(model))
    convolutions = [op for op in network.get_ordered_ops() if op.get_type_name().startswith("Convolution")]
    assert len(convolutions) == 2 * (4 + 1 + 2 + 1)
    ends = [op.get_friendly_name() for op in convolutions if op.get_friendly_name() in convolution_ends(network)]
    assert len(ends) == 4
    shapes = [tuple(op.input_value(1).shape) for op in convolutions if op.get_friendly_name() in ends]
    assert sorted(shapes) == [(2, 3, 1, 1)] * 2 + [(3, 1, 3, 3)] * 2


def test_int8_agrees(saved_model):
    model = saved_model(ALIKE, task="classes")
    choice = choose_engine(model, engine="openvino", precision="int8", device="cpu", least_agreement=0.0)
    assert choice.agreement.labels > 0.9


def test_the_cost_is_that_of_its_members():
    one, both = cost_of(UNET | {"pooling": [[2, 2]]}), cost_of(ALIKE)
    size = (188, 204)
    assert both.work(size) == 2 * one.work(size)
    assert both.memory(size) == one.memory(size) + 3 * 2 * 4 * 188 * 204  # two found and their sum, of two classes


# -- ensembles of given models


def test_given_models_become_one_file(saved_model, tmp_path):
    models = [replace(saved_model(seed=seed), training=training(seed)) for seed in (0, 1)]
    for index, model in enumerate(models):
        save_model(tmp_path / f"{index}.safetensors", model)
    files = [tmp_path / "0.safetensors", str(tmp_path / "1.safetensors")]
    made = biounet.ensemble(files, tmp_path / "both.safetensors")
    loaded = biounet.load(tmp_path / "both.safetensors")
    assert loaded.sha256 == made.sha256
    assert check_model(tmp_path / "both.safetensors").passed
    assert loaded.training["members"] == [biounet.load(file).sha256 for file in files]
    assert loaded.training["training_images"] == ["a", "b", "learnt 0", "learnt 1"]
    assert loaded.training["validation_images"] == ["c"]  # the one that no member learnt from
    assert loaded.training["score"] is None
    image = np.random.default_rng(0).integers(0, 255, (1, 45, 38)).astype(np.uint8)
    alone = [biounet.predict(file, image).probabilities for file in files]
    assert np.allclose(biounet.predict(loaded, image).probabilities, np.mean(alone, axis=0), atol=1e-5)


def test_members_may_state_nearly_the_same_pixel_size_or_none(saved_model):
    one = saved_model()
    near, silent = replace(one, pixel_size_um=(0.51, 0.5)), replace(one, pixel_size_um=None)
    assert biounet.ensemble([one, near, silent]).pixel_size_um == (0.5, 0.5)


def training(seed):
    learnt = ["a", f"learnt {seed}"] if seed else ["b", f"learnt {seed}"]
    held = ["b", "c"] if seed else ["a", "c"]
    return {"steps": 3, "step": 3, "score": 0.5, "training_images": learnt, "validation_images": held}


def test_models_that_do_not_fit_are_refused(saved_model, tmp_path):
    one = saved_model()
    with pytest.raises(UsageError, match="task differs: instances and classes"):
        biounet.ensemble([one, saved_model(task="classes")])
    with pytest.raises(UsageError, match="normalisation differs"):
        biounet.ensemble([one, saved_model(kind="percentile")])
    with pytest.raises(UsageError, match=r"differ in ndim: \[2, 3\]"):
        biounet.ensemble([one, saved_model(ndim=3)])
    for size in ((0.5, 0.55), (2.0, 2.0)):
        with pytest.raises(UsageError, match=r"pixel size \(um\) differs: 0.5, 0.5 and .*; average models that"):
            biounet.ensemble([one, replace(one, pixel_size_um=None), replace(one, pixel_size_um=size)])
    with pytest.raises(UsageError, match="an ensemble of 0 models"):
        biounet.ensemble([])
    with pytest.raises(UsageError, match="network of one's own"):
        biounet.ensemble([one, replace(one, network={"name": "foreign"})])
    (tmp_path / "there").write_text("x")
    with pytest.raises(UsageError, match="is there already"):
        biounet.ensemble([one], tmp_path / "there")
