"""A run ends when nothing improves, where the schedule allows it, at the same step whatever came in between."""

import pytest
import torch

from biounet.model_file import load_model
from biounet.settings import read_settings
from biounet.training.loop import validation_steps
from biounet.training.patience import is_in_vain, patience
from biounet.training.run_files import RunFiles
from biounet.training.state import TrainingState
from biounet.training.train import train

# Scores by step; with a patience of 2 the fourth validation ends a run: the best is the second.
_SCORES = {3: 0.1, 6: 0.5, 9: 0.4, 12: 0.3, 15: 0.9, 18: 1.0}


def settings(*overrides):
    return read_settings("standard", overrides=overrides).training


def state(step, gain_step):
    module = torch.nn.Identity()
    return TrainingState(module, module, None, {}, step=step, gain_step=gain_step)


def test_by_default_a_cosine_is_never_cut_short_and_a_constant_rate_after_half_of_the_validations():
    assert patience(settings()) is None
    assert patience(read_settings("paper").training) == 6
    assert patience(settings("training.schedule=constant", "training.validations=1")) == 1
    assert patience(settings("training.patience=3")) == 3


@pytest.mark.parametrize(
    ("step", "gain", "ends"), [(6, 6, False), (9, 6, False), (12, 6, True), (14, 6, True), (6, 0, True)]
)
def test_only_validations_since_the_last_gain_count(step, gain, ends):
    due = validation_steps(18, 6)  # 3, 6, 9, 12, 15, 18
    assert is_in_vain(state(step, gain), due, settings("training.patience=2")) == ends
    assert not is_in_vain(state(step, gain), due, settings())


@pytest.fixture
def scored(monkeypatch):
    """Held-back images whose scores are those of the table, by the number of the validation."""

    def plant(first=0):
        values = iter(list(_SCORES.values())[first:])
        monkeypatch.setattr(
            "biounet.training.run.Run.score", lambda self, network: {"selection": next(values), "loss": 1.0}
        )

    return plant


@pytest.fixture
def hasty(tiny):
    return tiny("training.patience=2", "training.validations=6", "training.state_seconds=1e-9")


def test_a_run_without_gain_ends_keeps_the_best_and_says_so(cells, hasty, tmp_path, record, metrics, scored):
    scored()
    out = tmp_path / "m.safetensors"
    model = train(cells, out, settings=hasty, steps=18, listen=record)
    assert (model.training["step"], model.training["steps"], model.training["steps_done"]) == (6, 18, 12)
    assert model.training["score"] == 0.5
    assert metrics(out)[-1] == ("Validated", 12)
    assert any("stopped early at step 12 of 18: no better score" in event.text for event in record.of("Noted"))
    assert not record.of("Finished")[0].interrupted
    assert not RunFiles(out).is_unfinished
    assert "finished early, at step 12 of 18" in RunFiles(out).report.read_text(encoding="utf-8")


@pytest.mark.parametrize("score", [0.0, 0.5])
def test_a_score_that_stands_still_is_no_gain_though_its_weights_are_kept(cells, hasty, monkeypatch, score):
    monkeypatch.setattr("biounet.training.run.Run.score", lambda self, network: {"selection": score, "loss": 1.0})
    facts = train(cells, settings=hasty, steps=18).training
    assert (facts["steps_done"], facts["step"]) == (9, 9)  # validations at 3, 6 and 9: two without gain


def test_resumed_among_equal_scores_a_run_ends_where_it_would_have(cells, hasty, tmp_path, monkeypatch, stop_at):
    monkeypatch.setattr("biounet.training.run.Run.score", lambda self, network: {"selection": 0.5, "loss": 1.0})
    out = tmp_path / "resumed"
    with pytest.raises(ZeroDivisionError):
        train(cells, out, settings=hasty, steps=18, listen=stop_at(8, ZeroDivisionError()))
    assert train(cells, out, settings=hasty, existing="resume").training["steps_done"] == 9


@pytest.mark.parametrize(("step", "seen"), [(4, 1), (11, 3)])
def test_resumed_before_its_early_end_a_run_gives_the_same_file(cells, hasty, tmp_path, scored, stop_at, step, seen):
    scored()
    train(cells, tmp_path / "whole", settings=hasty, steps=18)
    scored()
    out = tmp_path / "resumed"
    with pytest.raises(ZeroDivisionError):
        train(cells, out, settings=hasty, steps=18, listen=stop_at(step, ZeroDivisionError()))
    scored(first=seen)
    train(cells, out, settings=hasty, existing="resume")
    assert out.read_bytes() == (tmp_path / "whole").read_bytes()


def test_killed_after_its_early_end_a_run_takes_no_further_step(cells, hasty, tmp_path, scored, metrics, monkeypatch):
    scored()
    train(cells, tmp_path / "whole", settings=hasty, steps=18)
    scored()
    out = tmp_path / "killed"

    def fail(*_, **__):
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr("biounet.training.run.save_model", fail)
        with pytest.raises(ZeroDivisionError):
            train(cells, out, settings=hasty, steps=18)
    with monkeypatch.context() as patch:
        patch.setattr("biounet.training.loop.train_step", fail)
        train(cells, out, settings=hasty, existing="resume")
    assert out.read_bytes() == (tmp_path / "whole").read_bytes()
    assert load_model(out).training["steps_done"] == 12
    assert metrics(out) == metrics(tmp_path / "whole")
