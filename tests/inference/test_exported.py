"""Exported forms are models: they predict, they prove themselves, and a changed byte is noticed."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from biounet.checks.model import check_model
from biounet.errors import BiounetError, DataError, ModelFileError, UsageError
from biounet.inference import proof as proof_module
from biounet.inference.convert import write_onnx
from biounet.inference.engines import choose_engine, make_engine, plain_engine
from biounet.inference.export import EXPORTERS, export_onnx, export_openvino, export_torch, refuse_unfit
from biounet.inference.exported import is_exported, open_model
from biounet.inference.predict import predict_array
from biounet.inference.proof import prove
from biounet.model_file import save_model

NETWORKS = [
    ({"depth": 1, "batch_norm": True}, "instances", "image"),
    ({"depth": 1, "in_channels": 3, "classes": 4, "stem": 2}, "classes", "percentile"),
    ({"depth": 1, "ndim": 3, "in_channels": 2, "classes": 3}, "classes", "dataset"),
]
TORCHS = [{"name": "patch_cnn", "window": 9, "width": 2}, {"name": "fcn32s", "width": 1}]


def put(files, folder):
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder / list(files)[-1]


def same_prediction(model, path):
    """Labels and probabilities of an exported form are those of the model file."""
    opened = open_model(path)
    for name in ("network", "geometry", "normalisation", "task", "classes", "values", "channels", "sha256"):
        assert getattr(opened, name) == getattr(model, name)
    assert opened.pixel_size_um == model.pixel_size_um
    assert len(opened.calibration) == len(model.calibration) > 0
    assert all(map(np.array_equal, opened.calibration, model.calibration))
    assert np.array_equal(opened.golden[1], model.golden[1])
    assert opened.weights == {}
    choice = choose_engine(opened, device="cpu")
    assert choice.agreement.is_exact
    image = np.random.default_rng(0).integers(0, 255, (len(model.channels), *(21, 33, 19)[: model.ndim]))
    found = predict_array(opened, choice.engine, image.astype(np.uint8))
    torchs = predict_array(model, make_engine(model, engine="torch", device="cpu"), image.astype(np.uint8))
    assert np.abs(found.probabilities - torchs.probabilities).max() < 1e-5
    assert np.array_equal(found.labels, torchs.labels)
    least = np.random.default_rng(0).standard_normal((1, len(model.channels), *model.geometry.smallest))
    smallest = [plain_engine(one)(least.astype(np.float32)) for one in (opened, model)]
    assert np.abs(smallest[0] - smallest[1]).max() <= 2e-5 * np.abs(smallest[1]).max()
    check = check_model(path)
    assert check.passed
    assert check.difference <= 1e-5
    return choice.engine.name, check.engine


@pytest.mark.parametrize(("arguments", "task", "kind"), NETWORKS)
def test_onnx_and_openvino(saved_model, tmp_path, arguments, task, kind):
    model = saved_model(task=task, kind=kind, **arguments)
    made = export_onnx(model)
    assert made.proofs[0].passed
    assert made.proofs[0].size != model.golden[0].shape[2:]
    assert same_prediction(model, put(made.files, tmp_path)) == ("openvino", "onnx")
    made = export_openvino(model)
    assert list(made.files) == ["model.bin", "model.xml"]
    assert same_prediction(model, put(made.files, tmp_path)) == ("openvino", "openvino")


@pytest.mark.parametrize("description", TORCHS[:1])
def test_what_the_unet_replaced(saved_model, tmp_path, description):
    model = saved_model(description)
    assert same_prediction(model, put(export_onnx(model).files, tmp_path)) == ("openvino", "onnx")


@pytest.mark.slow
@pytest.mark.parametrize("description", [*TORCHS, {"name": "fcn8s", "width": 2}])
@pytest.mark.parametrize("target", EXPORTERS)
def test_every_network_in_every_form(saved_model, tmp_path, description, target):
    model = saved_model(description)
    same_prediction(model, put(EXPORTERS[target](model).files, tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize(("arguments", "task", "kind"), NETWORKS[1:])
def test_torch_export_of_other_networks(saved_model, tmp_path, arguments, task, kind):
    model = saved_model(task=task, kind=kind, **arguments)
    same_prediction(model, put(export_torch(model).files, tmp_path))


def test_a_network_of_ones_own_needs_no_code_of_its_own_any_more(saved_model, tmp_path):
    """The export holds the whole network: nobody has to give its factory again."""
    model = saved_model(depth=0)

    def factory(in_channels, classes):
        network = torch.nn.Sequential(
            torch.nn.Conv2d(in_channels, 2, 3), torch.nn.ReLU(), torch.nn.Conv2d(2, classes, 3)
        )
        network.geometry = model.geometry
        return network

    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = factory(1, 2)
    weights = {name: value.detach().numpy() for name, value in network.state_dict().items()}
    foreign = replace(model, network={"name": "foreign", "factory": "mine"}, weights=weights)
    with torch.no_grad():
        foreign = foreign.with_golden(model.golden[0], network(torch.from_numpy(model.golden[0])).numpy())
    path = put(export_onnx(foreign, factory=factory).files, tmp_path)
    opened = open_model(path)
    batch = np.random.default_rng(0).standard_normal((2, 1, 17, 23)).astype(np.float32)
    engine = choose_engine(opened).engine
    assert np.abs(engine(batch) - network(torch.from_numpy(batch)).detach().numpy()).max() < 1e-5
    assert check_model(path).passed
    with pytest.raises(UsageError, match="the model was trained with a network of your own"):
        export_onnx(foreign)


def test_the_same_model_gives_the_same_bytes(saved_model):
    model = saved_model(depth=0)
    assert export_onnx(model).files == export_onnx(model).files


def test_a_changed_byte_is_noticed(saved_model, tmp_path):
    model = saved_model(depth=0)
    path = put(export_onnx(model).files, tmp_path)
    data = path.read_bytes()
    for place in (len(data) // 9, 200, len(data) - 9):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        with pytest.raises(ModelFileError, match=r"model\.onnx: .*(export it again|take another copy)"):
            open_model(path)
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(ModelFileError, match=r"cannot be read as an exported model .*truncated\); export it again"):
        open_model(path)


def test_the_pair_of_openvino_belongs_together(saved_model, tmp_path):
    path = put(export_openvino(saved_model(depth=0)).files, tmp_path)
    weights = path.with_suffix(".bin").read_bytes()
    path.with_suffix(".bin").write_bytes(weights[:-1] + b"\0\1")
    with pytest.raises(ModelFileError, match=r"model\.xml: the network does not match its checksum"):
        open_model(path)
    path.with_suffix(".bin").unlink()
    with pytest.raises(DataError, match=r"model\.bin: there is no such file"):
        open_model(path)


def test_files_that_are_no_exports(saved_model, tmp_path):
    model = saved_model(depth=0)
    write_onnx(model, tmp_path / "foreign.onnx")
    with pytest.raises(ModelFileError, match=r"foreign\.onnx: carries no model of biounet.* or give the model file"):
        open_model(tmp_path / "foreign.onnx")
    for name in ("a.onnx", "a.xml", "a.pt2", "a.bioimageio.zip"):
        assert is_exported(name)
        with pytest.raises(DataError, match="there is no such file"):
            open_model(tmp_path / name)
        (tmp_path / name).write_bytes(b"nothing")
        (tmp_path / "a.bin").write_bytes(b"")
        with pytest.raises(ModelFileError, match=r"a\.(onnx|xml|pt2|bioimageio\.zip): c"):
            open_model(tmp_path / name)
    assert not is_exported("a.safetensors")
    save_model(tmp_path / "a.safetensors", model)
    assert open_model(tmp_path / "a.safetensors").exported is None


def test_engines_that_do_not_read_it_are_refused(saved_model, tmp_path):
    model = open_model(put(export_openvino(saved_model(depth=0)).files, tmp_path))
    with pytest.raises(UsageError, match=r"--engine torch does not read model\.xml in fp32; choose auto, openvino"):
        choose_engine(model, engine="torch")
    assert choose_engine(model, precision="bf16").engine.precision == "bf16"
    assert choose_engine(model, precision="int8", least_agreement=0).engine.precision == "int8"
    onnx = open_model(put(export_onnx(saved_model(depth=0)).files, tmp_path))
    assert choose_engine(onnx, engine="onnx").engine.name == "onnx"
    with pytest.raises(UsageError, match=r"--engine onnx does not read model\.onnx in bf16"):
        choose_engine(onnx, engine="onnx", precision="bf16")


def test_what_computes_something_else_is_no_export(saved_model, monkeypatch):
    model = saved_model(depth=0)
    given, expected = model.golden
    with pytest.raises(BiounetError, match=r"does not compute what the model learnt: ONNX Runtime against torch: diff"):
        export_onnx(model.with_golden(given, expected * np.float32(1.001)))
    engine = make_engine(model, engine="torch", device="cpu")
    assert prove(model, "itself", engine, engine).other == 0

    def wrong(batch):
        return engine(batch) * np.float32(1.001 if len(batch) == 2 else 1)

    with pytest.raises(BiounetError, match=r"by 0\.001 on two images"):  # only the other size tells
        prove(model, "it", wrong, engine)
    monkeypatch.setattr(proof_module, "TOLERANCE", 1e-2)
    assert prove(model, "it", wrong, engine).passed


def test_what_cannot_be_exported(saved_model, tmp_path):
    model = saved_model(depth=0)
    with pytest.raises(DataError, match="holds no golden sample"):
        refuse_unfit(replace(model, golden=None))
    opened = open_model(put(export_onnx(model).files, tmp_path))
    with pytest.raises(UsageError, match=r"model\.onnx is an exported form already; export the model file"):
        refuse_unfit(opened)
