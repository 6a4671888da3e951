from dataclasses import replace

import numpy as np

from biounet.model_file import load_model, save_model


def test_a_data_folder(biounet, data):
    done = biounet("check", data)
    assert done.code == 0
    assert done.err == ""
    assert "images in images/, masks in masks/" in done.out
    assert "3 annotated images" in done.out
    row = next(line for line in done.out.splitlines() if "zelle 14" in line)
    assert row.strip("│ ").split() == ["zelle", "14", "│", "48x48", "│", "1", "│", "uint8", "│", "14", "│", "100%"]


def test_a_data_folder_as_json(biounet, data):
    found = biounet("check", data, "--json").json
    assert found["data"] == str(data)
    assert (found["layout"], found["ndim"], found["channels"], found["task"]) == ("folders", 2, 1, "instances")
    assert found["classes"] == []
    images = {image["name"]: image["objects"] for image in found["images"]}
    assert images == {"zelle 5": 5, "zelle 9": 9, "zelle 14": 14}
    assert found["images"][0]["size"] == [48, 48]
    assert any("instances" in reason for reason in found["reasons"])


def test_what_was_inferred_can_be_overridden(biounet, data):
    found = biounet("check", data, "--task", "classes", "--json").json
    assert found["task"] == "classes"
    assert found["classes"] == list(range(15))
    named = biounet("check", data, "--images", data / "images", "--masks", data / "masks", "--json").json
    assert named["layout"] == "--images and --masks"


def test_a_model(biounet, model):
    done = biounet("check", model)
    assert done.code == 0
    for words in (
        f"checksum {load_model(model).sha256[:16]} as stated", "task instances; classes background, cell; 1 channel",
        "width 2", "with seed 0", "within the allowed 0.0001",
    ):  # fmt: skip
        assert words in done.out


def test_a_model_as_json(biounet, model):
    found = biounet("check", model, "--json").json
    assert found["passed"] is True
    assert 0 <= found["golden_difference"] <= found["golden_tolerance"] == 1e-4
    assert found["sha256"] == load_model(model).sha256
    assert found["training"]["steps"] == 2
    assert found["network"]["depth"] == 1


def test_a_model_that_computes_something_else(biounet, model, tmp_path):
    known = load_model(model)
    bias = {"head.bias": known.weights["head.bias"] + 1}
    save_model(tmp_path / "m.safetensors", replace(known, weights={**known.weights, **bias}))
    done = biounet("check", tmp_path / "m.safetensors", "--json")
    assert done.code == 3
    assert done.json["passed"] is False
    assert "does not compute what it computed when it was made" in done.complaint
    assert "MORE than the allowed 0.0001" in biounet("check", tmp_path / "m.safetensors").out


def test_a_model_that_proves_nothing(biounet, model, tmp_path):
    save_model(tmp_path / "m.safetensors", replace(load_model(model), golden=None))
    done = biounet("check", tmp_path / "m.safetensors", "--json")
    assert done.code == 3
    assert done.json["golden_difference"] is None
    assert "holds no golden sample" in done.complaint
    nan = {"head.bias": np.full(2, np.nan, np.float32)}
    known = load_model(model)
    save_model(tmp_path / "m.safetensors", replace(known, weights={**known.weights, **nan}))
    done = biounet("check", tmp_path / "m.safetensors", "--json")
    assert (done.code, done.json["passed"], done.json["golden_difference"]) == (3, False, None)
