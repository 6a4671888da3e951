"""A cross-validation: its ensemble, its estimate, its budget, and that no interruption changes any of it."""

import signal
import time

import numpy as np
import pytest
import torch

from biounet import predict
from biounet.checks.model import check_model
from biounet.errors import BiounetError, UsageError
from biounet.inference.predict import softmax
from biounet.inference.torch_engine import TorchEngine, torch_network
from biounet.model_file import load_model
from biounet.planning.data import read_training_data
from biounet.training.budget import Calibration
from biounet.training.estimate import SCORE
from biounet.training.fold_job import fold_job
from biounet.training.folds import fold_devices
from biounet.training.priors import without_weights
from biounet.training.run_files import RunFiles
from biounet.training.train import rehearse, train

_STEPS, _FOLDS = 6, 2


@pytest.fixture(scope="module")
def whole(tmp_path_factory, cells, tiny):
    """A cross-validation without interruption: its file."""
    out = tmp_path_factory.mktemp("folds") / "whole.safetensors"
    train(cells, out, settings=tiny(), steps=_STEPS, folds=_FOLDS)
    return out


def resumed(cells, tiny, out, **options):
    return train(cells, out, settings=tiny(), folds=_FOLDS, existing="resume", **options)


def in_fold(fold, step, act):
    """A listener that acts after a step of a fold."""

    def listen(event):
        inner = getattr(event, "event", None)
        if type(inner).__name__ == "StepDone" and (event.fold, inner.step) == (fold, step):
            act()

    return listen


def test_the_model_is_the_mean_of_the_probabilities_of_its_folds(whole, cells):
    model = load_model(whole)
    members = [load_model(RunFiles(whole).fold(k).out) for k in (1, 2)]
    assert model.network["name"] == "ensemble"
    assert model.training["members"] == [member.sha256 for member in members]
    tile = np.random.default_rng(0).normal(size=(1, 1, *model.geometry.input_size((16, 16)))).astype(np.float32)
    found = [torch.softmax(torch.from_numpy(TorchEngine(torch_network(m))(tile)), 1) for m in (model, *members)]
    torch.testing.assert_close(found[0], (found[1] + found[2]) / 2)
    assert check_model(whole).passed
    assert predict(model, cells[0][0]).labels.shape == cells[0][0].shape


def test_each_image_is_judged_by_the_fold_that_did_not_learn_from_it(whole, cells, tiny):
    """The first fold's images, scored anew with its member and with post-processing tuned on the other fold's."""
    found = load_model(whole).training["estimate"]
    assert sorted(image["name"] for image in found["images"]) == [f"array {k}" for k in range(4)]
    data = read_training_data(cells, tiny().data)
    job = fold_job(data, tiny(), _FOLDS, seed=0, out=whole, origin=None)
    members = [load_model(RunFiles(whole).fold(k).out) for k in (1, 2)]
    for k, member in enumerate(members):
        held = [image["name"] for image in found["images"] if image["fold"] == k + 1]
        assert held == list(member.training["validation_images"])
        assert not set(held) & set(member.training["training_images"])
    validators = [job.validator(k, member) for k, member in enumerate(members)]
    others = validators[1].tune(validators[1].probabilities(torch_network(members[1])))
    scores = validators[0].scores_of_each(validators[0].probabilities(torch_network(members[0])), others)
    assert [s["selection"] for s in scores] == [i[SCORE] for i in found["images"] if i["fold"] == 1]
    assert found["mean"][SCORE] == pytest.approx(np.mean([i[SCORE] for i in found["images"]]))


def test_facts_statements_and_report_tell_of_the_folds(whole):
    training = load_model(whole).training
    assert (training["folds"], training["steps"], training["score"]) == (2, _STEPS, training["estimate"]["mean"][SCORE])
    assert (training["training_images"], training["validation_images"]) == ([f"array {k}" for k in range(4)], [])
    said = "\n".join(training["statements"])
    assert "cross-validation in 2 folds" in said
    assert "held back in fold 2: array 1, array 3: fold 2 of 2" in said
    assert "estimate for a new image: score" in said
    page = RunFiles(whole).report.read_text(encoding="utf-8")
    assert "This cross-validation in 2 folds is finished." in page
    assert f"--steps {_STEPS} --seed 0 --folds 2" in page
    assert "one for each fold of a cross-validation" in page
    assert not RunFiles(whole).is_unfinished


@pytest.mark.parametrize(("fold", "step"), [(1, 2), (1, 6), (2, 1), (2, 6)])
def test_an_error_in_the_middle_of_any_fold_does_not_change_the_file(cells, tiny, tmp_path, whole, fold, step):
    out = tmp_path / "model.safetensors"

    def fail():
        raise ZeroDivisionError

    settings = tiny("training.state_seconds=1e-9")
    with pytest.raises(ZeroDivisionError):
        train(cells, out, settings=settings, steps=_STEPS, folds=_FOLDS, listen=in_fold(fold, step, fail))
    assert not out.exists()
    resumed(cells, tiny, out)
    assert out.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize(("fold", "step"), [(1, 3), (1, 6), (2, 3)])
def test_ctrl_c_ends_a_cross_validation_also_in_the_last_step_of_a_fold(cells, tiny, tmp_path, whole, fold, step):
    out = tmp_path / "model.safetensors"
    listen = in_fold(fold, step, lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        train(cells, out, settings=tiny(), steps=_STEPS, folds=_FOLDS, listen=listen)
    assert load_model(RunFiles(out).fold(fold).out).training["steps"] == _STEPS
    assert RunFiles(out).fold(fold).is_finished == (step == _STEPS)
    resumed(cells, tiny, out)
    assert out.read_bytes() == whole.read_bytes()


def test_a_kill_while_the_model_of_all_is_written_does_not_matter(cells, tiny, tmp_path, whole, monkeypatch):
    out = tmp_path / "model.safetensors"

    def fail(*_, **__):
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr("biounet.training.folds.save_model", fail)
        with pytest.raises(ZeroDivisionError):
            train(cells, out, settings=tiny(), steps=_STEPS, folds=_FOLDS)
    with monkeypatch.context() as patch:
        patch.setattr("biounet.training.loop.train_step", fail)  # no fold is trained again
        resumed(cells, tiny, out)
    assert out.read_bytes() == whole.read_bytes()


_LIFE = """
from biounet.training.train import train
train(data, out, settings=settings, steps=60, folds=2, existing="resume")
"""


def test_killed_in_either_fold_and_resumed_the_model_is_the_same(spawn, cells, tiny, tmp_path):
    settings = tiny("training.state_seconds=1e-9")
    values = {"data": cells, "settings": settings}
    reference = spawn(_LIFE, out=tmp_path / "whole.safetensors", **values)
    reference.join(120)
    out = tmp_path / "killed.safetensors"
    for fold in (1, 2):
        process = spawn(_LIFE, out=out, **values)
        end = time.monotonic() + 60
        while not RunFiles(out).fold(fold).is_unfinished_run:
            assert time.monotonic() < end
            time.sleep(0.002)
        process.kill()
        process.join(60)
    assert not out.exists()
    last = spawn(_LIFE, out=out, **values)
    last.join(120)
    assert (reference.exitcode, last.exitcode) == (0, 0)
    assert out.read_bytes() == (tmp_path / "whole.safetensors").read_bytes()


def test_folds_side_by_side_give_the_same_file(cells, tiny, tmp_path, record):
    for name, device in (("alone", "cpu"), ("beside", "cpu,cpu")):
        train(cells, tmp_path / name, settings=tiny(), steps=_STEPS, folds=_FOLDS, device=device, listen=record)
    assert (tmp_path / "alone").read_bytes() == (tmp_path / "beside").read_bytes()
    assert any(line == "2 folds at a time, on cpu, cpu" for line in record.of("Planned")[1].statements)
    assert {event.fold for event in record.of("InFold")[-10:]} <= {1, 2}


def test_what_goes_wrong_in_a_process_is_said_and_the_others_are_ended(cells, tiny, tmp_path):
    settings = tiny("training.learning_rate=1e30", "training.clip=0", "training.optimizer=sgd")
    with pytest.raises(BiounetError, match=r"fold \d: the training diverged"):
        train(cells, tmp_path / "m", settings=settings, steps=40, folds=2, device="cpu,cpu")


@pytest.mark.parametrize(("device", "rounds"), [("cpu", 4), ("cpu,cpu", 2), ("cpu,cpu,cpu", 2)])
def test_the_budget_is_shared_by_the_folds_that_are_not_trained_at_once(cells, tiny, monkeypatch, device, rounds):
    given = []

    def calibrated(run, budget_s):
        given.append(budget_s)
        run.pace.step_s = 0.5
        return Calibration(7, 0.5, 0.25, 2)

    monkeypatch.setattr("biounet.training.run.Run.calibrate", calibrated)
    planned = rehearse(cells, settings=tiny(), budget=8000.0, folds=4, device=device)
    assert given[0] == pytest.approx(8000 / rounds, abs=60 / rounds)  # less what was spent on reading
    assert (
        "a budget of 8000 s, shared by 4 folds, buys each 7 steps of 0.5 s and 2 validations of 0.25 s; "
        "--steps 7 repeats this run"
    ) in planned.statements
    assert any(line.startswith("each fold, expected: 0.1 min for 7 steps") for line in planned.statements)


def test_a_resume_with_other_options_is_refused(cells, tiny, tmp_path):
    out = tmp_path / "m.safetensors"
    RunFiles(out).prepare("refuse")
    listen = in_fold(1, 1, lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        train(cells, out, settings=tiny(), steps=3, folds=2, listen=listen)
    with pytest.raises(UsageError, match="--steps 4: the folds to resume have 3 steps each"):
        resumed(cells, tiny, out, steps=4)
    with pytest.raises(UsageError, match=r"seed 0 \(now 1\)"):
        resumed(cells, tiny, out, seed=1)
    with pytest.raises(UsageError, match=r"folds 2 \(now 4\)"):
        train(cells, out, settings=tiny(), folds="each", existing="resume")
    with pytest.raises(UsageError, match="is a cross-validation: give its --folds too"):
        train(cells, out, settings=tiny(), existing="resume")


def test_a_single_run_is_not_gone_on_with_in_folds(cells, tiny, tmp_path, stop_at):
    with pytest.raises(ZeroDivisionError):
        train(cells, tmp_path / "m", settings=tiny(), steps=9, listen=stop_at(1, ZeroDivisionError()))
    with pytest.raises(UsageError, match="is a single run: leave out --folds"):
        train(cells, tmp_path / "m", settings=tiny(), folds=2, existing="resume")


def test_overwriting_takes_the_folds_away(cells, tiny, tmp_path):
    out = tmp_path / "m.safetensors"
    train(cells, out, settings=tiny(), steps=1, folds=2)
    assert RunFiles(out).fold(1).out.exists()
    train(cells, out, settings=tiny(), steps=1, existing="overwrite")
    assert not list(RunFiles(out).folder.glob("fold-*"))


def test_what_contradicts_folds_is_refused(cells, tiny):
    with pytest.raises(UsageError, match="--folds 2 and --validation 'array 1' exclude each other"):
        train(cells, settings=tiny("data.validation=array 1"), steps=1, folds=2)
    with pytest.raises(UsageError, match="--folds 1: give a number from 2 on, or each"):
        train(cells, settings=tiny(), steps=1, folds=1)
    with pytest.raises(UsageError, match="a network of one's own cannot be a member"):
        train(cells, settings=tiny(), steps=1, folds=2, network=lambda channels, classes: None)


def test_every_gpu_takes_folds_unless_one_is_named(monkeypatch):
    monkeypatch.setattr("biounet.training.folds.pick_device", lambda name: "cuda" if name == "auto" else name)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert fold_devices("auto") == ("cuda:0", "cuda:1", "cuda:2")
    assert fold_devices("cuda:1") == ("cuda:1",)
    assert fold_devices("cuda:0, cuda:2") == ("cuda:0", "cuda:2")


def test_folds_go_on_from_a_model_but_not_from_an_ensemble(whole, cells, tiny):
    with pytest.raises(UsageError, match="--from: the model is an ensemble of 2 networks; give one of its members"):
        train(cells, settings=tiny(), steps=1, start_from=whole)
    member = load_model(RunFiles(whole).fold(1).out)
    model = train(cells, settings=tiny(), steps=1, folds=2, start_from=member)
    assert model.training["from"] == member.sha256


def test_each_fold_that_lacks_a_class_is_warned_of(cells, tiny):
    """A class that the last image alone shows."""
    pairs = [(image, (labels > 0).astype(int) + ((labels == 1) & (k == 3))) for k, (image, labels) in enumerate(cells)]
    said = rehearse(pairs, settings=tiny("data.task=classes"), steps=2, folds="each").statements
    assert [line for line in said if "warning" in line] == [
        "warning: no image that fold 4 learns from shows 2: it never finds that"
    ]


def test_classes_are_cross_validated_too(cells, tiny):
    masks = [(image, (labels > 0).astype(np.uint8) * 255) for image, labels in cells]
    model = train(masks, settings=tiny(), steps=2, folds="each")
    assert (model.task, model.training["folds"], model.postprocessing) == ("classes", 4, {})
    assert set(model.training["estimate"]["mean"]) == {SCORE, "dice", "pixel_error"}


@pytest.mark.parametrize("refit", [False, True])
def test_how_far_class_weights_are_taken_back_is_chosen_on_the_images_of_the_other_folds(
    cells, tiny, tmp_path, monkeypatch, refit
):
    """The images of the first fold want a share of 0.25, those of the second 0.75; all together the lower of both."""
    masks = [(image, (labels > 0).astype(np.uint8) * 255) for image, labels in cells]
    wanted = iter([(0, 1, 0, 0, 0)] * 2 + [(0, 0, 0, 1, 0)] * 2)
    monkeypatch.setattr("biounet.training.fold_ending.share_scores", lambda *_: next(wanted))
    out = tmp_path / "m.safetensors"
    model = train(masks, out, settings=tiny(), steps=2, folds=2, refit=refit)
    job = fold_job(read_training_data(masks, tiny().data), tiny(), 2, seed=0, out=out, origin=None)
    folds = [load_model(RunFiles(out).fold(k).out) for k in (1, 2)]
    assert {(m.training["class_weights_taken_back"], m.training["tuned_on"]) for m in folds} == {(0.0, None)}
    assert model.training["class_weights_taken_back"] == 0.25
    assert model.training["tuned_on"] == "held-back images of all folds"
    for fold, share in enumerate((0.75, 0.25)):
        validator = job.validator(fold, folds[fold])
        found = validator.probabilities(torch_network(folds[fold]))
        scores = validator.scores_of_each([without_weights(p, job.class_weights(fold), share) for p in found], {})
        judged = [image[SCORE] for image in model.training["estimate"]["images"] if image["fold"] == fold + 1]
        assert judged == [score["selection"] for score in scores]
    made = {None: load_model(RunFiles(out).all_images.out)} if refit else dict(enumerate(folds))
    tile = np.random.default_rng(0).normal(size=(1, 1, *model.geometry.input_size((16, 16)))).astype(np.float32)
    found = {fold: softmax(TorchEngine(torch_network(m))(tile)[0]) for fold, m in made.items()}
    expected = np.mean([without_weights(p, job.class_weights(fold), 0.25) for fold, p in found.items()], axis=0)
    np.testing.assert_allclose(softmax(TorchEngine(torch_network(model))(tile)[0]), expected, rtol=1e-4)
    assert check_model(out).passed
