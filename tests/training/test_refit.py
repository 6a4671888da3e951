"""One network on all images after the folds: what it learnt, what it took from the folds, and that it resumes."""

import signal

import numpy as np
import pytest
import torch
from tests.training.test_folds import in_fold

from biounet import predict
from biounet.checks.model import check_model
from biounet.errors import UsageError
from biounet.model_file import load_model
from biounet.networks.weight_standardisation import plain_weights
from biounet.planning.data import read_training_data
from biounet.planning.plan import make_plan
from biounet.planning.split import Split
from biounet.training.budget import Calibration
from biounet.training.estimate import trained_in_words
from biounet.training.loop import train_steps
from biounet.training.run_files import RunFiles
from biounet.training.state import new_state
from biounet.training.train import rehearse, train

_STEPS, _FOLDS = 6, 2


@pytest.fixture(scope="module")
def whole(tmp_path_factory, cells, tiny):
    """A cross-validation with a network on all images, without interruption: its file."""
    out = tmp_path_factory.mktemp("refit") / "whole.safetensors"
    train(cells, out, settings=tiny(), steps=_STEPS, folds=_FOLDS, refit=True)
    return out


def test_the_model_is_one_network_that_learnt_from_all_images_and_kept_its_last_weights(whole, cells, tiny):
    """The loop by itself, with the seed after those of the folds and nothing validated, gives the same weights."""
    model, settings = load_model(whole), tiny()
    data = read_training_data(cells, settings.data)
    everything = Split(tuple(data.examples), (), "nothing")
    plan = make_plan(data, settings, seed=_FOLDS, fold=everything)
    state = new_state(plan.network.to(memory_format=torch.channels_last), plan.settings.training, {})
    unvalidated = plan.settings.training.model_copy(update={"validations": 0})
    known = {"steps": _STEPS, "seed": _FOLDS, "precision": plan.precision, "dice": plan.settings.loss.dice or 0.0}
    for _ in train_steps(state, plan.sampler, lambda _: pytest.fail("validated"), unvalidated, **known):
        pass
    expected = plain_weights(state.average)
    assert model.network["name"] == "unet"
    assert model.training["training_images"] == [f"array {k}" for k in range(4)]
    assert model.weights.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(model.weights[name], values.numpy())
    assert check_model(whole).passed
    assert predict(model, cells[0][0]).labels.shape == cells[0][0].shape


def test_estimate_and_postprocessing_are_those_of_the_folds(whole, cells, tiny):
    model, ensemble = load_model(whole), train(cells, settings=tiny(), steps=_STEPS, folds=_FOLDS)
    assert model.training["estimate"] == ensemble.training["estimate"]
    assert model.training["score"] == ensemble.training["score"]
    assert model.postprocessing == ensemble.postprocessing
    assert model.normalisation == ensemble.normalisation
    assert (ensemble.training["refit"], model.training["refit"]) == (False, True)


def test_facts_and_report_say_so(whole):
    model = load_model(whole)
    assert trained_in_words(model.training).startswith(
        "trained 6 steps on all images, after 2 folds of as many (seed 2, of the folds 0 to 1); on 4 held-back images "
        "of the folds: dice "
    )
    page = RunFiles(whole).report.read_text(encoding="utf-8")
    assert f"--steps {_STEPS} --seed 0 --folds 2 --refit" in page
    assert "one network more, trained on all images as long as each member" in page
    assert "It was judged by 2 networks like it, one for each fold of a cross-validation" in page
    assert "the last averaged weights were kept (seed 2, of the folds 0 to 1)" in page
    own = RunFiles(whole).all_images
    assert "Nothing was held back" in own.report.read_text(encoding="utf-8")
    assert [line["event"] for line in own.metrics()] == ["StepDone"] * _STEPS
    assert load_model(own.out).training["score"] is None
    assert not RunFiles(whole).is_unfinished


@pytest.mark.parametrize(
    ("fold", "step", "how"), [(2, 6, "ctrl-c"), (3, 1, "ctrl-c"), (3, 2, "error"), (3, 6, "error")]
)
def test_an_interruption_does_not_change_the_file(cells, tiny, tmp_path, whole, fold, step, how):
    out = tmp_path / "model.safetensors"

    def act():
        if how == "error":
            raise ZeroDivisionError
        signal.raise_signal(signal.SIGINT)

    options = {"folds": _FOLDS, "refit": True}
    settings = tiny("training.state_seconds=1e-9")
    with pytest.raises((ZeroDivisionError, KeyboardInterrupt)):
        train(cells, out, settings=settings, steps=_STEPS, listen=in_fold(fold, step, act), **options)
    assert not out.exists()
    assert RunFiles(out).all_images.is_unfinished_run == (fold == 3)
    train(cells, out, settings=tiny(), existing="resume", **options)
    assert out.read_bytes() == whole.read_bytes()


def test_with_folds_side_by_side_it_is_the_same_file(cells, tiny, tmp_path, whole, record):
    out = tmp_path / "beside.safetensors"
    train(cells, out, settings=tiny(), steps=_STEPS, folds=_FOLDS, refit=True, device="cpu,cpu", listen=record)
    assert out.read_bytes() == whole.read_bytes()
    assert record.of("Planned")[0].steps == (_FOLDS + 1) * _STEPS
    assert {event.name for event in record.of("InFold")} == {"fold 1/2", "fold 2/2", "all images"}


@pytest.mark.parametrize(("device", "rounds"), [("cpu", 5), ("cpu,cpu", 3)])
def test_the_budget_is_for_the_folds_and_for_it(cells, tiny, monkeypatch, device, rounds):
    given = []

    def calibrated(run, budget_s):
        given.append(budget_s)
        run.pace.step_s = 0.5
        return Calibration(7, 0.5, 0.25, 2)

    monkeypatch.setattr("biounet.training.run.Run.calibrate", calibrated)
    planned = rehearse(cells, settings=tiny(), budget=8000.0, folds=4, refit=True, device=device)
    assert given[0] == pytest.approx(8000 / rounds, abs=60 / rounds)
    said = "a budget of 8000 s, shared by 4 folds and the network that learns from all images, buys each 7 steps"
    assert any(line.startswith(said) for line in planned.statements)


def test_it_needs_folds_and_is_kept_to(cells, tiny, tmp_path):
    with pytest.raises(UsageError, match="--refit: trains on all images after the folds .* give --folds too"):
        train(cells, settings=tiny(), steps=1, refit=True)
    out = tmp_path / "m.safetensors"
    listen = in_fold(1, 1, lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        train(cells, out, settings=tiny(), steps=3, folds=2, refit=True, listen=listen)
    with pytest.raises(UsageError, match=r"refit True \(now False\)"):
        train(cells, out, settings=tiny(), folds=2, existing="resume")
    train(cells, out, settings=tiny(), folds=2, refit=True, existing="resume")
    assert RunFiles(out).all_images.out.exists()
    train(cells, out, settings=tiny(), steps=1, existing="overwrite")
    assert not list(RunFiles(out).folder.glob("all-images*"))
