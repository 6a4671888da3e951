"""Each public set trains as it is, at the size that users train: no option but ``--out`` and ``--steps 2``."""

import re
import shlex

import pytest

from biounet.model_file import load_model

SETS = {  # folder: task, dimensions, channels
    "isbi2012_em": ("classes", 2, 1),
    "DIC-C2DH-HeLa": ("instances", 2, 1),
    "PhC-C2DH-U373": ("instances", 2, 1),
    "dsb2018_u2os": ("instances", 2, 1),
    "dsb2018_mixed": ("instances", 2, 3),
    "Dataset004_Hippocampus": ("classes", 3, 1),
}

pytestmark = pytest.mark.slow


def folder(real_data, name):
    if not (real_data / name).is_dir():
        pytest.skip(f"{name} is not among the real images")
    return real_data / name


@pytest.mark.parametrize("name", SETS)
def test_a_set_trains_without_options(biounet, real_data, tmp_path, name):
    out = tmp_path / "m.safetensors"
    done = biounet("train", folder(real_data, name), "--out", out, "--steps", "2")
    assert done.code == 0, done.err
    model = load_model(out)
    assert (model.task, model.network["ndim"], model.network["in_channels"]) == SETS[name]
    assert model.training["steps"] == 2


def test_a_set_of_two_kinds_is_refused_with_two_commands_that_work(biounet, real_data, tmp_path, monkeypatch):
    path = folder(real_data, "stardist_samples").resolve()
    refused = biounet("train", path, "--out", tmp_path / "m.safetensors", "--steps", "2")
    assert refused.code == 3
    commands = re.findall(r"biounet (train .*?) \(", refused.complaint)
    assert [command.split("model.safetensors ")[1] for command in commands] == ["--ndim 2", "--ndim 3 --skip-bad"]
    for ndim, command in zip((2, 3), commands, strict=True):
        (tmp_path / str(ndim)).mkdir()
        monkeypatch.chdir(tmp_path / str(ndim))
        done = biounet(*shlex.split(command), "--steps", "2")
        assert done.code == 0, done.err
        assert load_model("model.safetensors").network["ndim"] == ndim
