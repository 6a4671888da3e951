import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
from tests.cli.conftest import TINY

from biounet.model_file import load_model


def entries(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_model_and_its_run_folder(train_tiny, data, tmp_path):
    out = tmp_path / "neue Modelle" / "größe.safetensors"
    done = train_tiny(data, out, "--seed", "5")
    assert done.code == 0
    assert done.out == ""
    model = load_model(out)
    assert (model.task, model.classes, model.network["width"]) == ("instances", ("background", "cell"), 2)
    assert (model.training["seed"], model.training["steps"]) == (5, 2)
    run = out.with_name("größe.safetensors.run")
    assert {"last.safetensors", "metrics.jsonl", "run.json"} <= set(entries(run))
    assert "state.safetensors" not in entries(run)
    assert json.loads((run / "run.json").read_text())["steps"] == 2
    assert load_model(run / "last.safetensors").training["step"] == 2


def test_what_was_inferred_is_said(train_tiny, data, tmp_path):
    err = train_tiny(data, tmp_path / "m.safetensors").err
    for words in (
        "images in images/, masks in masks/",
        "instances",
        "held back: ",
        "16x16 pixels",
        "2 steps, as asked",
        "disk: a model of about ",
    ):
        assert words in err
    assert "memory: about" not in err  # no step was timed


def test_memory_and_disk_are_said_before_the_first_step_of_a_budget(biounet, data, tmp_path):
    err = biounet("train", data, "--out", tmp_path / "m.safetensors", "--budget", "2s", *SMALL).err
    needed, bought = (err.index(words) for words in ("memory: about ", "a budget of 2 s buys "))
    assert needed < err.index("; disk: a model of about ") < bought < err.index("finished step")


def test_json_is_one_object(train_tiny, data, tmp_path):
    out = tmp_path / "m.safetensors"
    found = train_tiny(data, out, "--json").json
    assert found["model"] == str(out)
    assert found["sha256"] == load_model(out).sha256
    assert (found["step"] in (1, 2), found["steps"], found["interrupted"]) == (True, 2, False)
    assert found["task"] == "instances"
    assert "2D: every image is one plane" in found["statements"]


def test_quiet_says_nothing(train_tiny, data, tmp_path):
    done = train_tiny(data, tmp_path / "m.safetensors", "-q")
    assert (done.code, done.out, done.err) == (0, "", "")


def test_the_same_command_the_same_bytes(train_tiny, data, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert train_tiny(data, tmp_path / name, "--seed", seed, "-q").code == 0
    same, again, other = ((tmp_path / name).read_bytes() for name in "abc")
    assert same == again
    assert same != other


def test_the_model_file_tells_nothing_of_this_machine(train_tiny, data, tmp_path):
    """Two folders, two names, two host names: the same bytes."""
    import shutil

    copy = tmp_path / "anderswo" / "kopie"
    shutil.copytree(data, copy)
    assert train_tiny(data, tmp_path / "a.safetensors", "-q").code == 0
    assert train_tiny(copy, tmp_path / "b.safetensors", "-q").code == 0
    content = (tmp_path / "a.safetensors").read_bytes()
    assert content == (tmp_path / "b.safetensors").read_bytes()
    text = content[8 : 8 + int.from_bytes(content[:8], "little")].decode()
    for secret in (str(data), data.name, os.uname().nodename if hasattr(os, "uname") else "hostname", "anderswo"):
        assert secret not in text


def test_a_finished_model_is_not_overwritten_unasked(train_tiny, data, tmp_path):
    out = tmp_path / "m.safetensors"
    assert train_tiny(data, out, "--seed", "1").code == 0
    before = out.read_bytes()
    refused = train_tiny(data, out, "--seed", "2")
    assert refused.code == 2
    assert f"--out {out}: is there already" in refused.complaint
    assert "--overwrite" in refused.complaint
    assert out.read_bytes() == before
    assert train_tiny(data, out, "--seed", "2", "--overwrite").code == 0
    assert out.read_bytes() != before


def test_a_finished_run_cannot_be_resumed(train_tiny, data, tmp_path):
    out = tmp_path / "m.safetensors"
    assert train_tiny(data, out).code == 0
    done = train_tiny(data, out, "--resume")
    assert done.code == 2
    assert "its run is finished" in done.complaint


def test_resume_starts_where_there_is_no_run(train_tiny, data, tmp_path):
    assert train_tiny(data, tmp_path / "m.safetensors", "--resume").code == 0


def test_settings_from_a_file_and_from_options(train_tiny, data, tmp_path):
    config = tmp_path / "meine Einstellungen.toml"
    config.write_text("[network]\nwidth = 9\n[loss]\nw0 = 3.5\n[data]\nunlabelled = 'background'\n")
    out = tmp_path / "m.safetensors"
    done = train_tiny(
        data, out, "--config", config, "--preset", "paper", "--task", "classes", "--validation", "zelle 9"
    )
    assert done.code == 0
    stored = load_model(out).training["settings"]
    assert stored["preset"] == "paper"
    assert stored["loss"]["w0"] == 3.5
    assert stored["network"]["width"] == 2  # --set wins over the file
    assert stored["data"]["task"] == "classes"
    assert load_model(out).training["validation_images"] == ["zelle 9"]
    assert load_model(out).task == "classes"


def test_images_and_masks_by_name(train_tiny, biounet, data, tmp_path):
    done = train_tiny(data, tmp_path / "m", "--images", data / "images", "--masks", data / "masks", "--json")
    assert done.code == 0
    assert any("--images and --masks" in line for line in done.json["statements"])


def test_bad_pairs_are_listed_and_can_be_skipped(train_tiny, make_data, tmp_path):
    folder = make_data()
    (folder / "images" / "zelle 5.tif").write_bytes(b"II*\0")
    (folder / "masks" / "zelle 9.tif").unlink()
    done = train_tiny(folder, tmp_path / "m")
    assert done.code == 3
    assert "zelle 5" in done.complaint
    assert "zelle 9" in done.complaint
    assert "--skip-bad" in done.complaint
    assert not (tmp_path / "m").exists()
    planned = train_tiny(folder, tmp_path / "m", "--skip-bad", "--dry-run")
    assert planned.code == 0
    assert not (tmp_path / "m").exists()
    assert train_tiny(folder, tmp_path / "m", "--skip-bad").code == 0
    assert load_model(tmp_path / "m").training["training_images"] == ["zelle 14"]


def test_a_budget_is_turned_into_steps(train_tiny, data, tmp_path):
    done = train_tiny(data, tmp_path / "m", "--budget", "1s", "--set", "training.validations=1", "--json")
    assert done.code == 0
    assert done.json["steps"] >= 1
    assert f"--steps {done.json['steps']} repeats this run" in done.err


def test_workers_make_the_same_samples(train_tiny, data, tmp_path):
    """Started by spawn, they import what they need and nothing runs twice."""
    assert train_tiny(data, tmp_path / "a", "-q").code == 0
    assert train_tiny(data, tmp_path / "b", "-q", "--set", "training.workers=1").code == 0
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is sent to a process group there, this one included")
def test_ctrl_c_leaves_a_model_and_resume_goes_on(biounet, data, tmp_path):
    out = tmp_path / "m.safetensors"
    settings = ["network.width=2", "network.depth=1", "training.tile=16", "training.validations=1"]
    common = ["train", str(data), "--out", str(out), "--device", "cpu", *(f"--set={text}" for text in settings)]
    process = subprocess.Popen(
        [sys.executable, "-m", "biounet", *common, "--steps", "2000", "--json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    wait_for(out.with_name("m.safetensors.run") / "metrics.jsonl", process)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert stderr.splitlines()[-1] == "biounet: interrupted"
    assert "Traceback" not in stderr
    found = json.loads(stdout)
    assert found["interrupted"]
    step = int(next(line for line in stderr.splitlines() if "interrupted at step" in line).split()[3])
    assert 1 <= step < 2000
    assert np.isfinite(next(iter(load_model(out).weights.values()))).all()
    assert biounet("check", out).code == 0
    refused = biounet(*common, "--steps", "2000")
    assert refused.code == 2
    assert "--resume continues its run" in refused.complaint
    other = biounet(*common, "--steps", "7", "--resume")
    assert other.code == 2
    assert "the run to resume has 2000 steps" in other.complaint


def wait_for(path: Path, process, seconds=60):
    end = time.monotonic() + seconds
    while not (path.exists() and path.stat().st_size > 200):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)


def test_from_goes_on_from_a_model(train_tiny, data, tmp_path):
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    train_tiny(data, first)
    done = train_tiny(data, second, "--from", str(first))
    assert done.code == 0
    assert "goes on from the model" in done.err
    assert load_model(second).training["from"] == load_model(first).sha256
    assert train_tiny(data, tmp_path / "x.safetensors", "--from", str(tmp_path / "none.safetensors")).code == 3


def test_images_and_masks_as_ome_zarr(train_tiny, data, tmp_path):
    zarr = pytest.importorskip("zarr")
    axes = [{"name": name, "type": "space"} for name in "yx"]
    levels = [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1.0, 1.0]}]}]
    attributes = {"ome": {"version": "0.5", "multiscales": [{"axes": axes, "datasets": levels}]}}
    for file in data.glob("*/*.tif"):
        group = zarr.open_group(tmp_path / file.parent.name / f"{file.stem}.zarr", mode="w", attributes=attributes)
        group.create_array("0", data=tifffile.imread(file))
    for name, folder in (("zarr", tmp_path), ("tiff", data)):
        assert train_tiny(folder, tmp_path / f"{name}.safetensors", "--seed", "3").code == 0
    models = [load_model(tmp_path / f"{name}.safetensors") for name in ("zarr", "tiff")]
    assert all(np.array_equal(models[0].weights[name], value) for name, value in models[1].weights.items())


SMALL = ("--set", "network.width=2", "--set", "network.depth=1", "--set", "training.tile=16", "--device", "cpu")


def test_a_dry_run_prints_the_plan_and_writes_nothing(biounet, data, tmp_path):
    out = tmp_path / "m.safetensors"
    done = biounet("train", data, "--out", out, "--steps", 3, *SMALL, "--dry-run", "--json")
    assert done.code == 0
    assert done.json["steps"] == 3
    said = done.json["statements"]
    assert any(line.startswith("expected: 0.0 min for 3 steps of ") for line in said)
    assert any(line.startswith("memory: about ") and "disk: a model of about" in line for line in said)
    assert not list(tmp_path.iterdir())
    done = biounet("train", data, "--out", out, "--budget", "2s", *SMALL, "--dry-run", "-q")
    assert "network.stem = 1" in done.out  # the plan is what was asked for, so also when quiet
    assert "a budget of 2 s buys " in done.out
    assert not list(tmp_path.iterdir())


def test_folds_are_told_of_estimated_and_predicted_with(train_tiny, biounet, data, tmp_path):
    out = tmp_path / "m.safetensors"
    done = train_tiny(data, out, "--folds", "2", "--json", "-v")
    assert done.code == 0
    assert "2 steps in each of 2 folds, as asked" in done.err
    assert "fold 2/2: step 2/2" in done.err
    assert "estimate for a new image: score" in done.err
    assert done.json["folds"] == 2
    assert done.json["score"] == done.json["estimate"]["mean"]["score"]
    assert biounet("predict", out, data / "images", "--out", tmp_path / "labels", "-q").code == 0
    assert len(list((tmp_path / "labels").glob("*_labels.tif"))) == len(list((data / "images").iterdir()))
    assert f"{len(done.json['estimate']['images'])} held-back images" in biounet("check", out).out


@pytest.mark.parametrize("given", ["all", "1", "0", "-3", "2.5"])
def test_folds_that_are_no_number_from_2_on_are_refused(train_tiny, data, tmp_path, given):
    done = train_tiny(data, tmp_path / "m.safetensors", f"--folds={given}")
    assert done.code == 2
    assert f"--folds {given}" in done.err.replace("'", "")
    assert "each to leave out one image at a time" in done.err


def test_several_processes_are_refused_where_they_mean_nothing(biounet, data, tmp_path):
    done = biounet("train", data, "--out", tmp_path / "m", "--dry-run", "--processes", "2")
    assert (done.code, "--dry-run and --processes 2" in done.err) == (2, True)
    done = biounet("train", data, "--out", tmp_path / "m", "--processes", "2")
    assert (done.code, "--set training.batch_size=2" in done.err) == (2, True)
    assert not list(tmp_path.iterdir())


def test_a_course_for_tensorboard_lies_in_the_run_folder(train_tiny, data, tmp_path):
    assert train_tiny(data, tmp_path / "m.safetensors", "--tensorboard").code == 0
    (events,) = (tmp_path / "m.safetensors.run" / "tensorboard").iterdir()
    assert events.stat().st_size > 0


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")
def test_on_a_terminal_a_table_grows_with_every_validation_and_stays(data, tmp_path):
    import fcntl
    import pty
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    out = tmp_path / "m.safetensors"
    command = [sys.executable, "-m", "biounet", "train", data, "--out", out, *TINY, "--steps", "4",
               "--set", "training.validations=2"]  # fmt: skip
    env = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")} | {"TERM": "xterm"}
    process = subprocess.Popen(command, stdin=theirs, stdout=subprocess.DEVNULL, stderr=theirs, env=env)
    os.close(theirs)
    said = b""
    try:
        while part := os.read(ours, 65536):
            said += part
    except OSError:  # the other side is closed
        pass
    os.close(ours)
    assert process.wait(60) == 0
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", said.decode())
    last = shown[shown.rindex("┏") :]
    assert [cell.strip() for cell in last.splitlines()[1].strip("┃\r").split("┃")] == [
        "step", "loss", "held back loss", "held back seg", "held back pq", "held back dice", "best"
    ]  # fmt: skip
    rows = [[cell.strip() for cell in line.strip("│\r").split("│")] for line in last.splitlines() if "│" in line]
    metrics = [json.loads(line) for line in (tmp_path / "m.safetensors.run/metrics.jsonl").read_text().splitlines()]
    scored = [line for line in metrics if line["event"] == "Validated"]
    assert [(row[0], row[3], row[-1]) for row in rows] == [
        (str(line["step"]), f"{line['scores']['seg']:.4f}", "*" * line["is_best"]) for line in scored
    ]
    assert "finished step 4 of 4" in shown
