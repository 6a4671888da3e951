"""Same seed, same file, whatever comes in between: errors, Ctrl-C, SIGTERM and kills at any instant."""

import json
import signal
import subprocess
import sys
import threading
import time
from functools import partial

import numpy as np
import pytest
import torch

from biounet.checks.model import check_model
from biounet.cli import run as command_line
from biounet.errors import UsageError
from biounet.inference.torch_engine import torch_network
from biounet.model_file import load_model
from biounet.planning.data import read_training_data
from biounet.planning.plan import make_plan
from biounet.training.batch_statistics import settle_batch_norm
from biounet.training.run_files import RunFiles
from biounet.training.state import read_facts
from biounet.training.train import train


def test_the_same_seed_gives_the_same_file_and_another_seed_another(finished):
    first, again = finished(name="first").read_bytes(), finished(name="again").read_bytes()
    assert first == again
    assert finished(name="other", seed=1).read_bytes() != first


def test_processes_that_make_samples_and_how_often_state_is_written_do_not_matter(finished):
    plain = finished(name="plain").read_bytes()
    assert finished("training.workers=1", "training.state_seconds=1e-9", name="other").read_bytes() == plain


@pytest.mark.parametrize(
    ("preset", "overrides"),
    [
        ("paper", ["network.batch_norm=false"]),
        ("paper", ["network.batch_norm=true"]),
        ("standard", ["network.batch_norm=false"]),
        ("standard", ["network.batch_norm=true", "training.batch_statistics_until=1"]),
        ("standard", ["network.batch_norm=true", "training.batch_statistics_until=0.5"]),  # statistics kept from step 6
        ("standard", ["network.batch_norm=true", "training.batch_statistics_until=0.4"]),  # from step 5
    ],
)
def test_an_error_in_between_does_not_change_the_file(
    cells, tiny, tmp_path, finished, metrics, preset, overrides, stop_at
):
    whole = finished(*overrides, preset=preset)
    out, settings = tmp_path / "model.safetensors", tiny("training.state_seconds=1e-9", *overrides, preset=preset)
    for step in (5, 6, 7):  # at step 6 scores are still to come
        with pytest.raises(ZeroDivisionError):
            train(cells, out, settings=settings, steps=12, existing="resume", listen=stop_at(step, ZeroDivisionError()))
        assert not out.exists()
        assert not [t for t in threading.enumerate() if t.name.startswith("samples")]
    train(cells, out, settings=settings, existing="resume")
    assert out.read_bytes() == whole.read_bytes()
    assert metrics(out) == metrics(whole)
    assert len(metrics(out)) == 12 + 2


def test_a_run_resumed_near_its_end_knows_the_whole_curve(cells, tiny, tmp_path, record, stop_at):
    out, settings = tmp_path / "model.safetensors", tiny("training.validations=12", "training.state_seconds=1e-9")
    with pytest.raises(ZeroDivisionError):
        train(cells, out, settings=settings, steps=12, listen=stop_at(9, ZeroDivisionError()))
    train(cells, out, settings=settings, existing="resume", listen=record)
    assert record.of("Planned")[0].resumed_at == 8
    assert [step for step, _ in RunFiles(out).scores()] == list(range(1, 13))
    assert len(record.of("Finished")) == 1


def test_the_state_is_as_old_as_asked_for_and_the_metrics_as_old_as_the_state(
    cells, tiny, tmp_path, record, metrics, stop_at
):
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


def test_a_run_that_ends_between_a_step_and_its_scores_loses_neither(
    cells, tiny, tmp_path, finished, metrics, monkeypatch
):
    out, settings = tmp_path / "model.safetensors", tiny("training.state_seconds=1e-9")
    add_metric = RunFiles.add_metric

    def ends(files, event):
        if type(event).__name__ == "Validated":
            raise ZeroDivisionError
        add_metric(files, event)

    with monkeypatch.context() as patched:
        patched.setattr(RunFiles, "add_metric", ends)
        with pytest.raises(ZeroDivisionError):
            train(cells, out, settings=settings, steps=12)
    assert read_facts(RunFiles(out).state)[1] == 5
    train(cells, out, settings=settings, existing="resume")
    assert metrics(out) == metrics(finished())


@pytest.mark.parametrize(("step", "last"), [(5, ("StepDone", 5)), (6, ("Validated", 6))])
def test_ctrl_c_ends_a_run_after_its_step_and_the_scores_of_that_step(
    cells, tiny, tmp_path, finished, metrics, record, step, last
):
    out = tmp_path / "model.safetensors"

    def listen(event):
        record(event)
        if type(event).__name__ == "StepDone" and event.step == step:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(cells, out, settings=tiny(), steps=12, listen=listen)
    assert metrics(out)[-1] == last
    assert read_facts(RunFiles(out).state)[1] == step
    assert record.of("Finished")[0].interrupted
    assert load_model(out).training["step"] == step
    train(cells, out, settings=tiny(), existing="resume")
    assert out.read_bytes() == finished().read_bytes()


def test_an_interrupted_model_has_batch_statistics_of_its_own_weights(cells, tiny, tmp_path):
    """Interrupted before any score: running statistics would lag far behind after two steps."""
    out, settings = tmp_path / "model.safetensors", tiny("network.batch_norm=true")

    def listen(event):
        if type(event).__name__ == "StepDone" and event.step == 2:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(cells, out, settings=settings, steps=12, listen=listen)
    network = torch_network(load_model(out))
    plan = make_plan(read_training_data(cells, settings.data), settings, seed=0)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    settle_batch_norm(network, plan.sampler, seed=0, precision="fp32")
    assert all(torch.allclose(value, before[name], rtol=1e-5) for name, value in network.state_dict().items())


def test_ctrl_c_in_the_last_step_lets_the_run_finish(cells, tiny, tmp_path, finished):
    out = tmp_path / "model.safetensors"

    def listen(event):
        if type(event).__name__ == "StepDone" and event.step == 12:
            signal.raise_signal(signal.SIGINT)

    train(cells, out, settings=tiny(), steps=12, listen=listen)
    assert out.read_bytes() == finished().read_bytes()
    assert not RunFiles(out).is_unfinished


def test_a_resume_says_where_it_goes_on_and_what_may_differ(cells, tiny, tmp_path, record, monkeypatch, stop_at):
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


def test_a_resume_with_other_options_is_refused(cells, tiny, tmp_path, stop_at):
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


def test_a_resume_with_other_images_held_back_is_refused(cells, tiny, write_folder, tmp_path, stop_at):
    """The list keeps its name, and only its content changes."""
    data, out, held_back = write_folder(cells), tmp_path / "model.safetensors", tmp_path / "held back.txt"
    names = [example.name for example in read_training_data(data, tiny().data).examples]
    settings = tiny(f"data.validation={held_back}")
    held_back.write_text(names[0])
    with pytest.raises(ZeroDivisionError):
        train(data, out, settings=settings, steps=9, listen=stop_at(1, ZeroDivisionError()))
    held_back.write_text(names[2])
    changed = rf"split\.images\.{names[0]} 'held back' \(now 'learnt from'\), split\.images\.{names[2]} 'learnt from'"
    with pytest.raises(UsageError, match=changed):
        train(data, out, settings=settings, existing="resume")
    held_back.write_text(f"{names[0]}.tif")
    assert train(data, out, settings=settings, existing="resume").training["validation_images"] == names[:1]


def test_resume_starts_a_run_that_was_never_begun(cells, tiny, tmp_path, finished):
    train(cells, tmp_path / "new.safetensors", settings=tiny(), steps=12, existing="resume")
    assert (tmp_path / "new.safetensors").read_bytes() == finished().read_bytes()


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
