from pathlib import Path

import numpy as np
import pytest

from biounet.model_file import load_model
from biounet.workflows.demo import next_commands


@pytest.mark.parametrize("there", ["eigene Bilder.tif", "model.safetensors"])
def test_a_demo_writes_over_nothing_but_a_demo(biounet, tmp_path, there):
    (tmp_path / there).write_bytes(b"mine")
    done = biounet("demo", "--out", tmp_path)
    assert done.code == 2
    assert f"--out {tmp_path}: holds other files than a demo's; name a new folder" in done.complaint
    assert [path.name for path in tmp_path.iterdir()] == [there]
    done = biounet("demo", "--out", tmp_path / there)
    assert done.code == 2
    assert "is a file; name a folder" in done.complaint


def test_a_bad_budget(biounet, tmp_path):
    done = biounet("demo", "--out", tmp_path / "d", "--budget", "soon")
    assert done.code == 2
    assert "--budget 'soon': write a time such as 15min" in done.complaint
    assert not (tmp_path / "d").exists()


def test_a_device_that_there_is_not(biounet, tmp_path):
    done = biounet("demo", "--out", tmp_path / "d", "--device", "abacus")
    assert done.code == 2
    assert "abacus" in done.complaint


def test_what_to_type_next_can_be_typed():
    commands = next_commands(Path("mein Ordner") / "demo")
    assert commands[0] == "biounet show 'mein Ordner/demo/data' --out samples.png"
    assert [line.split()[1] for line in commands] == ["show", "train", "predict", "predict", "evaluate"]


@pytest.mark.slow
def test_the_whole_story_in_ten_seconds_twice(biounet, tmp_path):
    out = tmp_path / "eine Vorführung"
    for _ in range(2):  # the second one writes over the first
        done = biounet("demo", "--out", out, "--budget", "10s", "--json")
        assert done.code == 0
        assert done.json["report"] == str(out / "report.html")
        assert 0 <= done.json["otsu"]["seg"] < 0.6
        assert np.isfinite(done.json["scores"]["pixel_error"])
        assert load_model(done.json["model"]).task == "instances"
        page = (out / "report.html").read_text(encoding="utf-8")
        assert "Objects (cell) were segmented one by one with biounet" in page
        assert f"{done.json['scores']['seg']:.3f}" in page
        assert f"{done.json['otsu']['seg']:.3f}" in page
    assert (out / "prediction" / "unseen_labels.tif").exists()
    assert biounet("check", out / "data").code == 0
