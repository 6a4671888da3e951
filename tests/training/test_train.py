"""Whole runs on tiny data: same seed, same file; one file whatever comes in between; all kinds of data."""

import json
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import biounet
from biounet.checks.model import check_model
from biounet.cli import run as command_line
from biounet.errors import BiounetError, DataError, UsageError
from biounet.evaluation.objects import seg
from biounet.geometry import AxisGeometry, Geometry
from biounet.model_file import load_model
from biounet.samples.synthetic import synthetic_cells
from biounet.settings import read_settings
from biounet.training import train as training
from biounet.training.budget import Calibration
from biounet.training.run_files import RunFiles
from biounet.training.state import read_facts
from biounet.training.train import train

_REAL_DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"


class Blur(nn.Module):
    """A network of the user's own: two unpadded 3x3 convolutions."""

    def __init__(self, in_channels, classes):
        super().__init__()
        self.geometry = Geometry((AxisGeometry((2, 2), 1, 5, (2, 2)),) * 2)
        self.layers = nn.Sequential(nn.Conv2d(in_channels, 4, 3), nn.ReLU(), nn.Conv2d(4, classes, 3))

    def forward(self, x):
        return self.layers(x)


def stop_at(step, error):
    """A listener that raises after this step."""

    def listen(event):
        if type(event).__name__ == "StepDone" and event.step == step:
            raise error

    return listen


# --- the same file


def test_the_same_seed_gives_the_same_file_and_another_seed_another(finished):
    first, again = finished(name="first").read_bytes(), finished(name="again").read_bytes()
    assert first == again
    assert finished(name="other", seed=1).read_bytes() != first


def test_processes_that_make_samples_and_how_often_state_is_written_do_not_matter(finished):
    plain = finished(name="plain").read_bytes()
    assert finished("training.workers=1", "training.state_seconds=1e-9", name="other").read_bytes() == plain


@pytest.mark.parametrize("preset", ["paper", "standard"])
def test_an_error_in_between_does_not_change_the_file(cells, tiny, tmp_path, finished, metrics, preset):
    whole = finished(preset=preset)
    out, settings = tmp_path / "model.safetensors", tiny("training.state_seconds=1e-9", preset=preset)
    for step in (5, 6, 7):  # at step 6 scores are still to come
        with pytest.raises(ZeroDivisionError):
            train(cells, out, settings=settings, steps=12, existing="resume", listen=stop_at(step, ZeroDivisionError()))
        assert not out.exists()
        assert not [t for t in threading.enumerate() if t.name.startswith("samples")]
    train(cells, out, settings=settings, existing="resume")
    assert out.read_bytes() == whole.read_bytes()
    assert metrics(out) == metrics(whole)
    assert len(metrics(out)) == 12 + 2


def test_the_state_is_as_old_as_asked_for_and_the_metrics_as_old_as_the_state(cells, tiny, tmp_path, record, metrics):
    """State is written at the start only: the lines of the lost steps go, and are written again."""
    out = tmp_path / "model.safetensors"
    with pytest.raises(ZeroDivisionError):
        train(cells, out, settings=tiny(), steps=6, listen=stop_at(4, ZeroDivisionError()))
    assert read_facts(RunFiles(out).state)[1] == 0
    assert len(metrics(out)) == 5
    with (RunFiles(out).folder / "metrics.jsonl").open("a") as file:
        file.write('{"event": "StepDone", "st')  # a kill in the middle of a line
    train(cells, out, settings=tiny(), existing="resume", listen=record)
    assert record.of("Planned")[0].resumed_at == 0
    steps = [("StepDone", k) for k in (1, 2, 3)], [("StepDone", k) for k in (4, 5, 6)]
    assert metrics(out) == [*steps[0], ("Validated", 3), *steps[1], ("Validated", 6)]


def test_a_resume_says_where_it_goes_on_and_what_may_differ(cells, tiny, tmp_path, record, monkeypatch):
    out, settings = tmp_path / "model.safetensors", tiny("training.state_seconds=1e-9")
    with pytest.raises(ZeroDivisionError):
        train(cells, out, settings=settings, steps=9, listen=stop_at(4, ZeroDivisionError()))
    threads = torch.get_num_threads()
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads + 5)
    train(cells, out, settings=settings, existing="resume", budget=60.0, listen=record)
    planned = record.of("Planned")[0]
    assert (planned.resumed_at, planned.steps) == (3, 9)
    assert planned.statements[-1] == (
        "resumed at step 3 of 9; the number of steps stays as it was, whatever --budget says; "
        f"it began with threads {threads} (now {threads + 5}), so the result may differ in rounding"
    )


def test_a_resume_with_other_options_is_refused(cells, tiny, tmp_path):
    out = tmp_path / "model.safetensors"
    with pytest.raises(ZeroDivisionError):
        train(cells, out, settings=tiny(), steps=9, listen=stop_at(1, ZeroDivisionError()))
    with pytest.raises(UsageError, match="--steps 10: the run to resume has 9 steps"):
        train(cells, out, settings=tiny(), steps=10, existing="resume")
    with pytest.raises(UsageError, match=r"settings.loss.w0 10.0 \(now 3.0\)"):
        train(cells, out, settings=tiny("loss.w0=3"), existing="resume")
    with pytest.raises(UsageError, match=r"seed 0 \(now 1\)"):
        train(cells, out, settings=tiny(), existing="resume", seed=1)
    with pytest.raises(UsageError, match=r"was written with data '\w+' \(now"):
        train(cells[:3], out, settings=tiny(), existing="resume")


def test_resume_starts_a_run_that_was_never_begun(cells, tiny, tmp_path, finished):
    train(cells, tmp_path / "new.safetensors", settings=tiny(), steps=12, existing="resume")
    assert (tmp_path / "new.safetensors").read_bytes() == finished().read_bytes()


# --- killed and interrupted runs

_LIFE = """
from biounet.training.train import train
train(data, out, settings=settings, steps=steps, existing="resume")
"""

_KILLED_AT_RENAME = """
import os, signal
rename = os.replace
def replace(source, target):
    global number
    number -= str(target).endswith("state.safetensors")
    if number == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    rename(source, target)
os.replace = replace
"""

_COMMAND = """
from biounet.cli import main
main(arguments)
"""


def wait_for(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened for too long"
        time.sleep(0.002)


def last_written(path):
    return path.stat().st_mtime_ns if path.exists() else 0


def is_newer(path, than):
    return last_written(path) > than


def kill_again_and_again(spawn, values, kills, rng):
    """Kill resumed runs, every third between a temporary write and its rename; steps they resumed at."""
    state, steps = RunFiles(values["out"]).state, []
    for kill in range(kills):
        if kill % 3 == 2:
            process = spawn(_KILLED_AT_RENAME + _LIFE, number=int(rng.integers(2, 7)), **values)
        else:
            written = last_written(state)
            process = spawn(_LIFE, **values)
            wait_for(partial(is_newer, state, written))
            time.sleep(rng.uniform(0, 0.05))
            process.kill()
        process.join(60)
        assert process.exitcode == -signal.SIGKILL
        steps.append(read_facts(state)[1])
    return steps


@pytest.mark.parametrize(("kills", "steps"), [(3, 90), pytest.param(45, 900, marks=pytest.mark.slow)])
def test_killed_at_any_instant_and_resumed_the_model_is_the_same(spawn, cells, tiny, tmp_path, metrics, kills, steps):
    settings = tiny("training.state_seconds=1e-9", "training.validations=30")
    values = {"data": cells, "settings": settings, "steps": steps}
    whole, out = tmp_path / "whole.safetensors", tmp_path / "killed.safetensors"
    reference = spawn(_LIFE, out=whole, **values)
    resumed_at = kill_again_and_again(spawn, {"out": out, **values}, kills, np.random.default_rng(0))
    last = spawn(_LIFE, out=out, **values)
    for process in (reference, last):
        process.join(300)
        assert process.exitcode == 0
    assert sum(step > 0 for step in resumed_at) >= min(30, kills - 1)
    assert resumed_at == sorted(resumed_at)
    assert out.read_bytes() == whole.read_bytes()
    assert metrics(out) == metrics(whole)
    assert not list(tmp_path.rglob("*.part.*"))


@pytest.fixture
def arguments(cells, write_folder):
    """The command line of a run that takes a second or two, but for --out."""
    overrides = ["network.width=2", "network.depth=1", "training.tile=16", "training.validations=2"]
    options = [part for key in [*overrides, "training.precision=fp32"] for part in ("--set", key)]
    return ["train", str(write_folder(cells)), "--steps", "160", *options]


def assert_usable_and_resumable(out, arguments, whole):
    state = RunFiles(out).state
    step = read_facts(state)[1]
    assert 0 < step < 160
    assert check_model(out).passed
    assert json.loads((RunFiles(out).folder / "run.json").read_text())["step"] == step
    assert f"interrupted at step {step} of 160" in RunFiles(out).report.read_text(encoding="utf-8")
    assert command_line([*arguments, "--out", str(out), "--resume", "-q"]) == 0
    assert not state.exists()
    assert out.read_bytes() == whole.read_bytes()


@pytest.mark.skipif(sys.platform == "win32", reason="no signals to processes on Windows")
def test_ctrl_c_and_sigterm_leave_a_usable_model_and_exit_130(spawn, arguments, tmp_path, metrics):
    whole = tmp_path / "whole.safetensors"
    assert command_line([*arguments, "--out", str(whole), "-q"]) == 0
    out = tmp_path / "interrupted.safetensors"
    command = [sys.executable, "-m", "biounet", *arguments, "--out", str(out)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        wait_for(lambda: len(metrics(out)) > 2)
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
    assert process.returncode == 130
    assert "Traceback" not in said
    assert "--resume goes on" in said
    assert_usable_and_resumable(out, arguments, whole)

    out = tmp_path / "terminated.safetensors"
    process = spawn(_COMMAND, arguments=[*arguments, "--out", str(out), "-q"])
    wait_for(lambda: len(metrics(out)) > 2)
    process.terminate()
    process.join(60)
    assert process.exitcode == 130
    assert_usable_and_resumable(out, arguments, whole)


# --- what is written


def test_a_finished_run_leaves_models_metrics_report_and_facts_and_no_state(finished):
    out = finished()
    files = RunFiles(out)
    assert sorted(p.name for p in files.folder.iterdir()) == [
        "last.safetensors", "metrics.jsonl", "report.html", "run.json",
    ]  # fmt: skip
    best, last = load_model(out), load_model(files.last)
    lines = [line for line in files.metrics() if line["event"] == "Validated"]
    assert [line["step"] for line in lines] == [6, 12]
    assert best.training["step"] == max(line["step"] for line in lines if line["is_best"])
    assert best.training["score"] == max(line["scores"]["selection"] for line in lines)
    assert last.training["step"] == 12
    assert check_model(out).passed
    assert check_model(files.last).passed


def test_the_returned_model_is_the_one_in_the_file(cells, tiny, tmp_path, record):
    out = tmp_path / "model.safetensors"
    model = train(cells, out, settings=tiny(), steps=3, listen=record)
    assert model.sha256 == load_model(out).sha256
    assert record.of("Finished")[0].model is model
    assert record.of("Finished")[0].report.exists()


def test_without_out_nothing_is_written(cells, tiny, tmp_path, monkeypatch, finished):
    monkeypatch.chdir(tmp_path)
    model = train(cells, settings=tiny(), steps=12)
    assert list(tmp_path.iterdir()) == []
    expected = load_model(finished())
    assert all(np.array_equal(model.weights[name], value) for name, value in expected.weights.items())


def test_the_model_file_names_no_path_date_or_machine(cells, tiny, tmp_path, write_folder):
    folder = write_folder(cells)
    held = write_folder(cells[:1], name="held back") / "images"
    settings = tiny(f"data.validation={json.dumps(str(held))}")
    train(folder, tmp_path / "model.safetensors", settings=settings, steps=2)
    content = (tmp_path / "model.safetensors").read_bytes()
    assert str(tmp_path).encode() not in content
    assert b"held back/" not in content
    training = load_model(tmp_path / "model.safetensors").training
    assert training["validation_images"] == ["cell_0"]
    assert training["settings"]["data"]["validation"] == "cell_0"
    train(folder, tmp_path / "again.safetensors", settings=tiny("data.validation=cell_0"), steps=2)
    assert (tmp_path / "again.safetensors").read_bytes() == content


def test_a_budget_becomes_steps_once_and_they_are_printed_and_kept(
    cells, tiny, tmp_path, record, monkeypatch, finished
):
    calls = []

    def calibrated(*_, budget_s, **__):
        calls.append(budget_s)
        return Calibration(12, 0.25, 0.5)

    monkeypatch.setattr(training, "calibrate", calibrated)
    out = tmp_path / "model.safetensors"
    with pytest.raises(ZeroDivisionError):
        train(cells, out, settings=tiny(), budget=100.0, listen=stop_at(2, ZeroDivisionError()))
    train(cells, out, settings=tiny(), budget=5.0, existing="resume", listen=record)
    assert len(calls) == 1
    assert 90 < calls[0] < 100
    assert record.of("Planned")[0].steps == 12
    assert out.read_bytes() == finished().read_bytes()
    train(cells, settings=tiny(), budget=100.0, listen=record)
    said = record.of("Planned")[1].statements[-1]
    assert said == "a budget of 100 s buys 12 steps of 0.25 s and 2 validations of 0.5 s; --steps 12 repeats this run"


def test_a_real_budget_is_kept_about(cells, tiny, record):
    train(cells, settings=tiny(), budget=1.5, listen=record)
    steps = record.of("Planned")[0].steps
    assert f"buys {steps} steps" in record.of("Planned")[0].statements[-1]
    assert len(record.of("StepDone")) == steps > 1


# --- what is refused


def test_numbers_that_cannot_be_meant_are_refused(cells):
    for options, match in [
        ({"steps": 0}, "--steps 0: must be at least 1"),
        ({"budget": 0.0}, "--budget 0.0: must be a time"),
        ({"budget": float("nan")}, "--budget nan: must be a time"),
        ({"steps": 3, "budget": 9.0}, "exclude each other"),
        ({"seed": -1}, "--seed -1: must be at least 0"),
        ({"device": "tpu"}, "--device 'tpu' is not present"),
    ]:
        with pytest.raises(UsageError, match=match):
            train(cells, **options)


def test_what_is_there_is_not_replaced_unasked(cells, tiny, tmp_path, finished):
    out = finished()
    before = out.read_bytes()
    with pytest.raises(UsageError, match="is there already; --overwrite starts anew"):
        train(cells, out, settings=tiny(), steps=2)
    with pytest.raises(UsageError, match="its run is finished; --overwrite starts anew"):
        train(cells, out, settings=tiny(), steps=2, existing="resume")
    with pytest.raises(UsageError, match="is a folder; name a file"):
        train(cells, tmp_path, settings=tiny(), steps=2)
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot be written"):
        train(cells, tmp_path / "file" / "model.safetensors", settings=tiny(), steps=2)
    assert out.read_bytes() == before


def test_a_model_stays_until_the_new_one_is_complete(cells, tiny, finished):
    out = finished()
    before = out.read_bytes()
    with pytest.raises(DataError):
        train([(cells[0][0], cells[0][1] * 0)], out, settings=tiny(), steps=2, existing="overwrite")
    assert RunFiles(out).report.exists()
    with pytest.raises(ZeroDivisionError):
        train(cells, out, settings=tiny(), steps=2, existing="overwrite", listen=stop_at(1, ZeroDivisionError()))
    assert out.read_bytes() == before
    with pytest.raises(UsageError, match="--resume continues its run, --overwrite starts anew"):
        train(cells, out, settings=tiny(), steps=2)
    train(cells, out, settings=tiny(), existing="resume")
    assert load_model(out).training["steps"] == 2


@pytest.mark.parametrize("preset", ["paper", "standard"])
def test_a_training_that_diverges_is_one_line_with_the_remedy(arguments, tmp_path, capsys, preset):
    out = tmp_path / "model.safetensors"
    options = ["--preset", preset, "--set", "training.learning_rate=1e6", "--set", "training.averaging=0"]
    assert command_line([*arguments, *options, "--out", str(out), "-q"]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "the training diverged: after step" in said
    assert "lower the learning rate from 1e+06: --set training.learning_rate=1e+05 --overwrite" in said
    assert not out.exists()


def test_weights_that_are_no_numbers_are_never_a_model(cells, tiny, monkeypatch):
    """The loss of the last step was finite, but not what the step made of the weights."""

    def spoilt(state, *_, **__):
        for parameter in state.network.parameters():
            parameter.data.fill_(float("nan"))
        return 0.5

    monkeypatch.setattr("biounet.training.loop.train_step", spoilt)
    with pytest.raises(BiounetError, match="the training diverged: after step 1 "):
        train(cells, settings=tiny("training.validations=1"), steps=1)


# --- all kinds of data and networks


def test_a_network_of_one_s_own_is_trained_verified_and_needed_to_predict(cells, tiny, tmp_path):
    out = tmp_path / "own.safetensors"
    train(cells, out, settings=tiny(), steps=4, network=Blur)
    model = biounet.load(out)
    assert model.network == {"name": "foreign", "factory": "Blur"}
    assert model.geometry == Blur(1, 2).geometry
    with pytest.raises(UsageError, match=r"network of your own \(Blur\); pass it again as network=factory"):
        biounet.predict(model, cells[0][0])
    prediction = biounet.predict(model, cells[0][0], network=Blur)
    assert prediction.labels.shape == (48, 48)
    assert check_model(out, factory=Blur).passed


def test_a_network_that_declares_what_it_is_not_is_refused_before_any_file(cells, tiny, tmp_path):
    def narrow(in_channels, classes):
        network = Blur(in_channels, classes)
        network.geometry = Geometry((AxisGeometry((2, 2), 1, 5, (1, 2)),) * 2)
        return network

    with pytest.raises(UsageError, match=r"farther than the declared reach \(1, 2\)"):
        train(cells, tmp_path / "own.safetensors", settings=tiny(), steps=4, network=narrow)
    assert list(tmp_path.iterdir()) == []


def test_volumes(tiny, tmp_path):
    volumes = [synthetic_cells((24, 40, 40), seed=seed, diameter_px=14) for seed in range(3)]
    out = tmp_path / "volumes.safetensors"
    train(volumes, out, settings=tiny(), steps=3)
    model = biounet.load(out)
    assert model.ndim == 3
    prediction = biounet.predict(model, volumes[0][0][:10, :33])
    assert prediction.labels.shape == (10, 33, 40)
    assert prediction.probabilities.shape == (2, 10, 33, 40)
    assert "report" in RunFiles(out).report.name


def test_classes(cells, tiny, tmp_path):
    pairs = [(image, 100 * np.minimum(labels, 2)) for image, labels in cells]
    out = tmp_path / "classes.safetensors"
    train(pairs, out, settings=tiny("data.task=classes"), steps=4)
    model = biounet.load(out)
    assert (model.task, model.classes, model.values) == ("classes", ("0", "100", "200"), (0, 100, 200))
    assert dict(model.postprocessing) == {}
    prediction = biounet.predict(model, cells[0][0])
    assert np.array_equal(prediction.labels, prediction.probabilities.argmax(0))
    scores = next(line["scores"] for line in RunFiles(out).metrics() if line["event"] == "Validated")
    assert scores.keys() == {"selection", "loss", "dice", "pixel_error"}


def test_channels(cells, tiny):
    pairs = [(np.stack([image, 255 - image, image // 2]), labels) for image, labels in cells]
    model = train(pairs, settings=tiny(), steps=3)
    assert model.channels == ("0", "1", "2")
    assert biounet.predict(model, pairs[0][0]).labels.shape == (48, 48)
    with pytest.raises(DataError, match="the model takes 3 channel"):
        biounet.predict(model, cells[0][0])


def test_a_single_image_is_judged_by_a_block_of_itself(tiny, record):
    image, labels = synthetic_cells((60, 120), seed=0, diameter_px=14)
    model = train([(image, labels)], settings=tiny(), steps=3, listen=record)
    block = "array 0 from 90 to 120 on axis 1 (too few images to hold one back), 9 px before it left out as a guard"
    assert f"held back: {block}" in record.of("Planned")[0].statements
    assert model.training["validation_images"] == model.training["training_images"] == ["array 0"]


def test_partly_annotated_images(cells, tiny):
    pairs = [(image, np.where(np.arange(48) < 20, labels, -1)) for image, labels in cells]
    losses = []
    train(pairs, settings=tiny(), steps=5, listen=lambda event: losses.append(getattr(event, "loss", 0.0)))
    assert np.isfinite(losses).all()
    assert max(losses) > 0


# --- at size


@pytest.mark.slow
def test_it_learns():
    """Cells of an unseen image, after half a minute on one core; an untrained network has seg 0."""
    settings = read_settings("standard", overrides=["network.width=8", "network.depth=3", "training.tile=84"])
    pairs = [synthetic_cells((160, 160), seed=seed, diameter_px=28) for seed in range(6)]
    model = train(pairs, settings=settings, steps=400)
    image, labels = synthetic_cells((200, 200), seed=99, diameter_px=28)
    assert seg(biounet.predict(model, image).labels, labels) > 0.6


@pytest.mark.slow
def test_the_full_size_network_of_the_paper_takes_steps_on_its_own_data(tmp_path, record):
    folder = _REAL_DATA / "isbi2012_em"
    if not folder.is_dir():
        pytest.skip(f"real images are not there: {folder}")
    settings = read_settings("paper", overrides=["data.validation=slices 29", "training.validations=1"])
    assert (settings.network.width, settings.network.depth, settings.training.tile) == (64, 4, 388)
    train(folder, tmp_path / "paper.safetensors", settings=settings, steps=2, listen=record)
    model = load_model(tmp_path / "paper.safetensors")
    assert sum(value.size for value in model.weights.values()) == 31_030_658
    assert len(record.of("StepDone")) == 2
    assert any("388x388 pixels of output" in s for s in record.of("Planned")[0].statements)
    assert np.isfinite([event.loss for event in record.of("StepDone")]).all()
