import re

import numpy as np
import pytest

from biounet.datasets.examples import Example
from biounet.report.page import page_html
from biounet.samples.synthetic import synthetic_cells
from biounet.training.pace import Seldom
from biounet.training.report import Progress, held_back_figures, smoothed, write_report
from biounet.training.run_files import RunFiles
from biounet.training.train import train


@pytest.fixture(scope="module")
def run(tmp_path_factory, cells, tiny):
    """A finished run: its model and its files."""
    out = tmp_path_factory.mktemp("run") / "model.safetensors"
    return train(cells, out, settings=tiny(), steps=8), RunFiles(out)


def text(files):
    return files.report.read_text(encoding="utf-8")


def test_a_run_writes_its_curves_decisions_settings_and_pictures(run):
    model, files = run
    page = text(files)
    assert "This training run is finished." in page
    for title in ("Loss", "Learning rate", "Scores of the held-back images", "Loss on the held-back images"):
        assert f'aria-label="{title}: ' in page
    for statement in model.training["statements"]:
        assert statement.split(":")[-1].strip().replace("'", "&#39;") in page
    assert "training.learning_rate" in page
    assert model.training["data_sha256"] in page
    assert f"{model.training['score']:.3f}" in page
    layers = re.findall(r'data-name="([^"]+)"|<button[^>]*>([^<]+)<', page)
    assert {"image", "truth", "prediction", "errors"} <= {name.strip() for pair in layers for name in pair}
    assert "1 of 1 are shown" in page


def test_an_interrupted_run_says_so_and_how_to_go_on(run, tmp_path):
    model, files = run
    write_report(tmp_path / "report.html", model, Progress(files.metrics()[:3], 3, 8, 1.5, interrupted=True), [])
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "interrupted at step 3 of 8; --resume goes on" in page
    assert "Scores of the held-back images" not in page


def test_the_report_is_there_while_it_trains_and_is_read_again(cells, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr("biounet.training.run._REPORT_SHARE", 1e9)  # always its turn
    out = tmp_path / "m.safetensors"
    pages = {}

    def keep(event):
        if type(event).__name__ == "StepDone" and RunFiles(out).report.exists():
            pages[event.step] = text(RunFiles(out))

    model = train(cells, out, settings=tiny(), steps=6, listen=keep)
    assert list(pages) == [4, 5, 6]  # validations are after steps 3 and 6
    early = pages[4]
    assert "This training run was at step 3 of 6 when this page was written" in early
    assert 'http-equiv="refresh" content="20"' in early
    for title in ("Loss", "Learning rate", "Scores of the held-back images"):
        assert f'aria-label="{title}: ' in early
    assert early.count('<figure class="viewer"') == 1
    assert "the weights of the last validation" in early
    assert "--steps 6 --seed 0" in early
    for statement in model.training["statements"]:
        assert statement.split(":")[-1].strip().replace("'", "&#39;") in early
    last = text(RunFiles(out))
    assert 'http-equiv="refresh"' not in last
    assert "This training run is finished." in last


def test_the_report_while_it_trains_takes_its_share_of_the_time():
    turn = Seldom(0.02)
    assert turn.is_due(0.0)
    turn.took(10.0, 10.5)
    assert not turn.is_due(35.4)
    assert turn.is_due(35.5)


def test_without_any_step_there_is_a_report_too(run, tmp_path):
    model, _ = run
    write_report(tmp_path / "report.html", model, Progress([], 0, 8, 0.1, interrupted=True), [])
    assert "No step was done." in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_images_judged_that_were_also_learnt_from_are_named(tiny, tmp_path):
    out = tmp_path / "model.safetensors"
    train([synthetic_cells((60, 120), seed=0, diameter_px=14)], out, settings=tiny(), steps=2)
    assert "Parts of the same images were learnt from: array 0" in text(RunFiles(out))


def figure(model, labels, foreground, image=None):
    image = np.zeros((1, *labels.shape), np.uint8) if image is None else image
    probabilities = np.stack([1 - foreground, foreground]).astype(np.float32)
    return held_back_figures(model, [Example("a", image, labels)], [probabilities])[0]


def test_errors_are_drawn_by_kind_and_not_where_nothing_is_known(run):
    labels = np.zeros((20, 40), np.int32)
    labels[2:8, 2:8], labels[10:18, 20:30] = 1, 2
    labels[:, 34:] = -1
    found = np.zeros(labels.shape)
    found[2:8, 2:8] = found[2:8, 36:40] = 1
    made = figure(run[0], labels, found)
    assert list(made.layers) == ["image", "probability", "truth", "prediction", "errors"]
    errors = made.layers["errors"]
    assert tuple(errors[4, 4, :3]) == made.legend["correct"]
    assert tuple(errors[14, 25, :3]) == made.legend["missed"]
    assert errors[4, 38, 3] == 0  # found where nobody knows
    page_html(title="t", lead="", sections=[])


def test_class_models_have_a_report(cells, tiny, tmp_path):
    out = tmp_path / "model.safetensors"
    pairs = [(image, (labels > 0).astype(int)) for image, labels in cells]
    train(pairs, out, settings=tiny(), steps=2)
    page = text(RunFiles(out))
    assert "wrong class" in page
    assert "mean Dice over classes" in page


def test_smoothing_starts_as_a_mean_and_goes_on_as_an_exponential_average():
    assert smoothed([4.0, 2.0, 0.0, 8.0], share=0.5) == pytest.approx([4.0, 3.0, 1.5, 4.75])
    assert smoothed([], share=0.5) == []
    assert smoothed([7.0] * 300) == pytest.approx([7.0] * 300)
