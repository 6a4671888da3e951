"""TensorBoard reads what a training wrote: every step once, whatever came in between."""

import json
import os
import signal

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from biounet.errors import UsageError
from biounet.training.run_files import RunFiles
from biounet.training.tensorboard import TensorBoard
from biounet.training.train import train


def read(folder):
    """Every series by its name, as (step, value)."""
    found = EventAccumulator(str(folder))
    found.Reload()
    return {tag: [(one.step, one.value) for one in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def expected(files):
    """The same from ``metrics.jsonl``."""
    lines = [json.loads(line) for line in (files.folder / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if line["event"] == "StepDone"]
    scored = [line for line in lines if line["event"] == "Validated"]
    series = {f"step/{name}": [(s["step"], s[name]) for s in steps] for name in ("loss", "learning_rate", "seconds")}
    return series | {
        f"held back/{name}": [(s["step"], s["scores"][name]) for s in scored] for name in scored[0]["scores"]
    }


def assert_same(found, wanted):
    assert found.keys() == wanted.keys()
    for name, values in wanted.items():
        assert [step for step, _ in found[name]] == [step for step, _ in values], name
        assert [value for _, value in found[name]] == pytest.approx([value for _, value in values], rel=1e-6)


def test_a_run_that_was_stopped_and_resumed_has_every_step_once(cells, tiny, tmp_path):
    out = tmp_path / "m.safetensors"
    files = RunFiles(out)
    first = TensorBoard(files.tensorboard)

    def stop(event):
        first(event)
        if type(event).__name__ == "StepDone" and event.step == 4:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        train(cells, out, settings=tiny(), steps=6, listen=stop)
    later = TensorBoard(files.tensorboard)
    train(cells, out, settings=tiny(), existing="resume", listen=later)
    assert_same(read(files.tensorboard), expected(files))
    train(cells, out, settings=tiny(), steps=1, existing="overwrite")
    assert not files.tensorboard.exists()


def test_folds_have_folders_of_their_own(cells, tiny, tmp_path):
    out = tmp_path / "m.safetensors"
    files = RunFiles(out)
    train(cells, out, settings=tiny(), steps=2, folds=2, listen=TensorBoard(files.tensorboard))
    for fold in (1, 2):
        assert_same(read(files.tensorboard / f"fold-{fold}"), expected(files.fold(fold)))


def test_without_the_package_one_line_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setattr("biounet.training.tensorboard.find_spec", lambda name: None)
    with pytest.raises(UsageError, match="pip install 'biounet.tensorboard.'"):
        TensorBoard(tmp_path)
