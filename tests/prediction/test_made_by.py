"""What tells results from others: whatever decides labels, and files by what is in them."""

from types import SimpleNamespace

import numpy as np
import pytest
import tifffile

from biounet.model_file import load_model, save_model
from biounet.prediction import made_by as module
from biounet.prediction.made_by import made_by
from biounet.results.request import Request

INT8 = SimpleNamespace(name="openvino", precision="int8")


@pytest.fixture
def folder(tmp_path):
    for number in range(20):
        (tmp_path / "cal").mkdir(exist_ok=True)
        tifffile.imwrite(tmp_path / "cal" / f"{number:02d}.tif", np.full((9, 9), number, np.uint16))
    return tmp_path


def test_images_that_int8_is_calibrated_on(random_model, folder):
    def found(engine=INT8, calibrate=str(folder / "cal")):
        return made_by(random_model(), engine, Request(folder, calibrate=calibrate))["calibration"]

    before = found()
    assert found() == before
    assert len(before) == 10  # every second one, so that there are 16 at most
    tifffile.imwrite(folder / "cal" / "01.tif", np.zeros((9, 9), np.uint16))
    assert found() == before  # no crop is taken from it
    tifffile.imwrite(folder / "cal" / "02.tif", np.zeros((9, 9), np.uint16))
    assert found() != before
    assert found(calibrate=None) is None
    assert found(engine=SimpleNamespace(name="openvino", precision="fp32")) is None


@pytest.mark.parametrize("changed", ["net.onnx", "net.xml", "net.bin"])
def test_the_file_of_an_engine(random_model, tmp_path, changed):
    for name in ("net.onnx", "net.xml", "net.bin"):
        (tmp_path / name).write_bytes(b"network")
    engine = SimpleNamespace(name="openvino", precision="fp32")

    def found(suffix):
        request = Request(tmp_path, engine=str(tmp_path / f"net{suffix}"))
        return made_by(random_model(), engine, request)["engine_file"]

    before = {suffix: found(suffix) for suffix in (".onnx", ".xml")}
    (tmp_path / changed).write_bytes(b"another")
    differ = [suffix for suffix in before if found(suffix) != before[suffix]]
    assert differ == ([".onnx"] if changed == "net.onnx" else [".xml"])
    assert made_by(random_model(), engine, Request(tmp_path))["engine_file"] is None


def test_version_and_model(random_model, tmp_path, monkeypatch):
    model = random_model()
    found = made_by(model, INT8, Request(tmp_path))
    assert found["model_sha256"] == save_model(tmp_path / "m.safetensors", model)
    assert made_by(load_model(tmp_path / "m.safetensors"), INT8, Request(tmp_path)) == found
    monkeypatch.setattr(module, "installed_version", lambda name: "9.9")
    assert made_by(model, INT8, Request(tmp_path)) == found | {"biounet": "9.9"}
