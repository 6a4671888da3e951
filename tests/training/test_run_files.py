import json
from pathlib import Path

import pytest

from biounet.errors import UsageError
from biounet.training.loop import StepDone, Validated
from biounet.training.run_files import RunFiles


@pytest.fixture
def files(tmp_path):
    """The files of a run whose names a pattern would misread."""
    made = RunFiles(tmp_path / "größe a b" / "model [1].safetensors")
    made.prepare("refuse")
    return made


def step(number):
    return StepDone(number, 9, 0.5, 1e-3, 0.1)


def scored(number):
    return Validated(number, 9, {"selection": 0.25, "seg": 0.25}, True, 0.2)


def test_events_are_lines_and_come_back(files):
    for event in (step(1), scored(1), step(2)):
        files.add_metric(event)
    lines = (files.folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 3
    assert files.metrics() == [json.loads(line) for line in lines]
    assert files.metrics()[1] == {
        "event": "Validated", "step": 1, "steps": 9, "scores": {"selection": 0.25, "seg": 0.25},
        "is_best": True, "seconds": 0.2,
    }  # fmt: skip


@pytest.mark.parametrize(("after", "left"), [(0, 0), (1, 2), (2, 3), (9, 3)])
def test_lines_beyond_a_step_are_forgotten_and_torn_ones_always(files, after, left):
    for event in (step(1), scored(1), step(2)):
        files.add_metric(event)
    with (files.folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"event": "StepDone", "step": 1')
    files.forget_metrics_after(after)
    assert len(files.metrics()) == left
    files.add_metric(step(7))
    assert files.metrics()[-1]["step"] == 7


def test_a_number_that_is_none_is_no_json_and_never_written(files):
    with pytest.raises(ValueError, match="JSON"):
        files.add_metric(StepDone(1, 9, float("nan"), 1e-3, 0.1))
    assert files.metrics() == []


def test_a_new_run_clears_what_an_earlier_one_left_but_not_the_model(files):
    for path in (files.state, files.last, files.report, files.out):
        path.touch()
    files.add_metric(step(1))
    files.write_facts({"seconds": 1.0})
    files.prepare("overwrite")
    assert list(files.folder.iterdir()) == []
    assert files.out.exists()


def test_a_resumed_run_keeps_everything_but_torn_temporary_files(files):
    for path in (files.state, files.last, files.out):
        path.touch()
    files.add_metric(step(1))
    torn = [files.folder / ".ab12.part.state.safetensors", files.out.parent / ".ab12.part.model [1].safetensors"]
    other = files.out.parent / ".ab12.part.another.safetensors"
    for path in (*torn, other):
        path.touch()
    files.prepare("resume")
    assert not any(path.exists() for path in torn)
    assert other.exists()
    assert sorted(p.name for p in files.folder.iterdir()) == ["last.safetensors", "metrics.jsonl", "state.safetensors"]


def test_resuming_where_only_old_metrics_are_left_starts_anew(files):
    files.add_metric(step(1))
    files.prepare("resume")
    assert files.metrics() == []


@pytest.mark.parametrize("existing", ["refuse", "resume", "overwrite"])
@pytest.mark.parametrize("model", [False, True])
@pytest.mark.parametrize("state", [False, True])
def test_what_is_refused(files, existing, model, state):
    if model:
        files.out.touch()
    if state:
        files.state.touch()
    refused = {"refuse": model or state, "resume": model and not state, "overwrite": False}[existing]
    if not refused:
        files.check(existing)
        return
    with pytest.raises(UsageError, match="--overwrite starts anew") as error:
        files.check(existing)
    assert ("--resume continues its run" in str(error.value)) == (existing == "refuse" and state)


def test_a_finished_run_has_no_state(files):
    files.state.touch()
    assert files.is_unfinished
    files.finish()
    assert not files.is_unfinished


def test_without_a_model_file_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = RunFiles(None)
    files.check("refuse")
    files.prepare("overwrite")
    files.add_metric(step(1))
    files.forget_metrics_after(0)
    files.write_facts({})
    files.finish()
    assert files.metrics() == []
    assert (files.state, files.last, files.report, files.is_unfinished) == (None, None, None, False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("out", ["", ".", "/"])
def test_a_model_needs_a_name(out):
    with pytest.raises(UsageError, match="names no file; write one such as model.safetensors"):
        RunFiles(Path(out))
