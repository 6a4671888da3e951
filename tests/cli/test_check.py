import re
from dataclasses import replace

import numpy as np

from biounet.model_file import load_model, save_model
from biounet.report.methods import methods_text


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
    chosen = biounet("check", data, "--channels", "0", "--json").json
    assert (chosen["channels"], chosen["channel_names"]) == (1, ["0"])
    assert biounet("check", data, "--channels", "1").code == 2


def test_findings_end_with_exit_code_3_when_they_are_errors(biounet, make_data, tmp_path):
    pairs = {f"bild {k}": image_and_squares(k) for k in range(4)}
    image, mask = pairs["bild 1"]
    folder = make_data("verdreht", **pairs | {"bild 1": (image, np.ascontiguousarray(mask[::-1]))})
    done = biounet("check", folder)
    assert done.code == 3
    assert "bild 1.tif: the image explains" in done.complaint
    rows = [[cell.strip() for cell in line.split("│")] for line in done.out.splitlines() if "bild 1.tif" in line]
    assert rows[0][1:4] == ["error", "turned", "bild 1.tif"]
    assert "What to do: undo it in the mask" in done.out
    page = tmp_path / "faults.html"
    found = biounet("check", folder, "--json", "--report", page).json
    assert {tuple(finding) for finding in found["findings"]} == {
        ("kind", "severity", "file", "evidence", "why", "remedy")
    }
    assert (found["findings"][0]["kind"], found["findings"][0]["severity"]) == ("turned", "error")
    text = page.read_text(encoding="utf-8")
    assert page.stat().st_size < 5_000_000
    assert text.count("data:image/png") >= 2
    assert "mirrored along Y" in text
    assert not re.findall(r'(?:src|href)="https?:', text)


def test_warnings_and_hints_end_with_exit_code_0(biounet, make_data):
    pairs = {f"bild {k}": image_and_squares(k) for k in range(4)}
    image, mask = pairs["bild 1"]
    done = biounet("check", make_data("leer", **pairs | {"bild 1": (image, 0 * mask)}))
    assert (done.code, done.err) == (0, "")
    assert "warning" in done.out
    assert "empty masks" in done.out
    assert "no problems found" in biounet("check", make_data("gut", **pairs)).out


def test_advice_names_no_option_that_the_command_lacks(biounet, make_data):
    image, mask = image_and_squares(0)
    colours = np.array([[0, 0, 0], [255, 0, 0], [0, 0, 255]], np.uint8)[mask % 3]
    folder = make_data("bunt", a=(image, colours), b=(image[:40], mask))
    for done in (biounet("check", folder), biounet("evaluate", folder / "masks", folder)):
        assert done.code == 3
        assert "say what each colour means in colours.csv beside it" in done.complaint
        assert done.complaint.endswith("mend or remove them; train and show go on without them with --skip-bad")
        for option in re.findall(r"(?<!train )--[a-z-]+", done.out):
            assert option in ("--images", "--masks", "--task", "--json"), done.out


def image_and_squares(seed):
    """Cells at places of their own in each image."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((96, 96), np.uint16)
    for index, (row, column) in enumerate(rng.permutation(36)[:14, None] // [6, 1] % 6, start=1):
        mask[3 + 15 * row : 14 + 15 * row, 3 + 15 * column : 14 + 15 * column] = index
    return (60 + 120 * (mask > 0) + rng.normal(0, 10, mask.shape)).clip(0, 250).astype(np.uint8), mask


def test_a_model(biounet, model):
    done = biounet("check", model)
    assert done.code == 0
    for words in (
        f"checksum {load_model(model).sha256[:16]} as stated", "task instances; classes background, cell; 1 channel",
        "width 2", "with seed 0", "within the allowed 0.0001",
    ):  # fmt: skip
        assert words in done.out
    assert f"For the methods section, ready to paste:\n\n{methods_text(load_model(model))}\n" in done.out


def test_a_model_as_json(biounet, model):
    found = biounet("check", model, "--json").json
    assert found["passed"] is True
    assert 0 <= found["golden_difference"] <= found["golden_tolerance"] == 1e-4
    assert found["sha256"] == load_model(model).sha256
    assert found["training"]["steps"] == 2
    assert found["network"]["depth"] == 1
    assert found["methods"] == methods_text(load_model(model))
    assert "Ronneberger" in found["methods"]


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


def test_options_that_mean_nothing_are_refused(biounet, data, model):
    done = biounet("check", model, "--images", "gone", "--channels", "9")
    assert done.code == 2
    assert "--images, --channels: for a folder of data, not for a model; leave it out for" in done.complaint
    done = biounet("check", data, "--device", "cuda")
    assert done.code == 2
    assert "--device: for a model, not for a folder of data" in done.complaint
