"""The whole story on a built-in sample: make, check, train, predict, evaluate, report.

Every number in the report is computed in that run.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile

from biounet.checks.model import ModelCheck, check_model
from biounet.datasets.annotation import load_labels
from biounet.errors import UsageError
from biounet.evaluation.objects import seg
from biounet.evaluation.scores import Scores, evaluate_pair
from biounet.images.writing import whole_file, write_labels, write_png
from biounet.inference.engines import make_engine
from biounet.labels.otsu import OtsuSettings, otsu_watershed, tune_otsu
from biounet.model_file import Model
from biounet.prediction.predict import Request, predict_files
from biounet.report.methods import methods_text
from biounet.report.page import Block, Code, Curve, Figure, Numbers, Section, Table, Text, write_page
from biounet.report.pictures import ERROR_COLOURS, error_layer, error_picture, heat, label_layer, to_rgb
from biounet.results.page import blocks_of_seams
from biounet.samples.synthetic import synthetic_cells
from biounet.settings import read_settings
from biounet.training.events import TrainEvent
from biounet.training.loop import StepDone, Validated
from biounet.training.repeat import repeat_command
from biounet.training.report import versions_text
from biounet.training.train import train

Labels = npt.NDArray[np.int32]
Picture = npt.NDArray[np.uint8]

TRAINING_IMAGES = 8
TRAINING_SHAPE = (256, 256)
UNSEEN_SHAPE = (640, 896)
_FIRST_IMAGE = Path("data", "images", "cells_0.tif")
_SETTINGS = ("network.width=16", "network.depth=3", "training.tile=228", "training.validations=6")


@dataclass(frozen=True)
class DemoResult:
    """Where everything is, and the scores on the unseen image."""

    folder: Path
    report: Path
    model: Path
    scores: Scores
    otsu: Scores
    seconds: float


def run_demo(
    out: str | Path,
    *,
    seed: int = 0,
    budget: float = 180.0,
    tell: Callable[[str], None],
    listen: Any,
    device: str = "auto",
    command: str = "",
) -> DemoResult:
    """Run the demo into the folder ``out``. ``tell(line)`` is told each stage, ``listen`` the training.

    ``device``: of training and prediction. ``command``: what was typed, for the report.
    """
    start = time.perf_counter()
    folder = Path(out)
    model_path = folder / "model.safetensors"
    _refuse_foreign(folder)
    tell(f"1 of 5: a sample of touching cells, {TRAINING_IMAGES} annotated images, in {folder / 'data'}")
    images, truths = make_sample(folder, seed)
    tell("2 of 5: training on it")
    events: list[TrainEvent] = []

    def record(event: TrainEvent) -> None:
        events.append(event)
        listen(event)

    settings = read_settings("standard", overrides=_SETTINGS)
    how: dict[str, Any] = {"budget": budget, "seed": seed, "device": device, "existing": "overwrite"}
    model = train(folder / "data", model_path, settings=settings, listen=record, **how)
    check = check_model(model_path)
    tell("3 of 5: segmenting an unseen image, larger than any it was trained on")
    found, done = predict_unseen(model, folder, device)
    image, truth = tifffile.imread(folder / "unseen.tif"), load_labels(folder / "unseen_truth.tif")[0]
    tell("4 of 5: scoring it, beside Otsu's threshold with a watershed")
    rival_settings = tune_otsu(images, truths, lambda p, t: seg(p, t) or 0.0)
    rival = otsu_watershed(image, **asdict(rival_settings))
    scores = evaluate_pair(found, truth, task="instances")
    rival_scores = evaluate_pair(rival, truth, task="instances")
    tell("5 of 5: writing the report")
    write_png(folder / "unseen_errors.png", error_picture(image, found, truth)[0])
    seconds = time.perf_counter() - start
    report = folder / "report.html"
    sections = [
        _result_section(scores, rival_scores, rival_settings),
        _picture_section(image, truth, found, rival, model, folder),
        _training_section(events, model, check, images, truths),
        _prediction_section(done, seconds),
        Section("How to repeat it", _repeated(model, folder, command)),
        _next_section(folder),
        Section("For the methods section", [Code(methods_text(model), "Ready to paste", wraps=True)]),
    ]
    learnt, held = (len(model.training[f"{side}_images"]) for side in ("training", "validation"))
    lead = (
        f"{learnt} images of {TRAINING_SHAPE[0]}x{TRAINING_SHAPE[1]} pixels were learnt from, {held} held back to "
        f"choose by; an unseen one of {UNSEEN_SHAPE[0]}x{UNSEEN_SHAPE[1]} was segmented. "
        "Every number here was computed in this run."
    )
    write_page(report, title="biounet demo", lead=lead, sections=sections)
    return DemoResult(folder, report, model_path, scores, rival_scores, seconds)


def make_sample(folder: Path, seed: int) -> tuple[list[Picture], list[Labels]]:
    """Write the training folder and the unseen image with its truth; returns the training pairs."""
    images, truths = [], []
    for index in range(TRAINING_IMAGES):
        image, truth = synthetic_cells(TRAINING_SHAPE, seed=1000 * seed + index)
        _write_image(folder / "data" / "images" / f"cells_{index}.tif", image)
        write_labels(folder / "data" / "masks" / f"cells_{index}.tif", truth)
        images.append(image)
        truths.append(truth)
    image, truth = synthetic_cells(UNSEEN_SHAPE, seed=1000 * seed + 999)
    _write_image(folder / "unseen.tif", image)
    write_labels(folder / "unseen_truth.tif", truth)
    return images, truths


def predict_unseen(model: Model, folder: Path, device: str = "auto") -> tuple[Labels, Any]:
    """Labels of the unseen image, written and read back as a user would have them."""
    request = Request(folder / "prediction", save=("labels", "probabilities", "overlay"), report=False)
    done = predict_files(model, make_engine(model, device=device), [folder / "unseen.tif"], request)[0]
    return load_labels(folder / "prediction" / "unseen_labels.tif")[0], done


def _refuse_foreign(folder: Path) -> None:
    """A demo writes over an earlier demo, and over nothing else."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--out {folder}: is a file; name a folder")
    if folder.exists() and any(folder.iterdir()) and not (folder / _FIRST_IMAGE).exists():
        raise UsageError(f"--out {folder}: holds other files than a demo's; name a new folder")


def _write_image(path: Path, image: Picture) -> None:
    with whole_file(path) as temporary:
        tifffile.imwrite(temporary, image, compression="zlib")


def _result_section(scores: Scores, rival: Scores, settings: OtsuSettings) -> Section:
    rows = [
        ("mean object IoU (seg)", scores["seg"], rival["seg"]),
        ("detection (det)", scores["det"], rival["det"]),
        ("average precision at IoU 0.50", scores["ap"]["0.50"], rival["ap"]["0.50"]),
        ("average precision at IoU 0.75", scores["ap"]["0.75"], rival["ap"]["0.75"]),
        ("panoptic quality (pq)", scores["pq"], rival["pq"]),
        ("Rand F-score (v_rand)", scores["v_rand"], rival["v_rand"]),
        ("pixel error", scores["pixel_error"], rival["pixel_error"]),
        *((kind, scores["errors"][kind], rival["errors"][kind]) for kind in scores["errors"]),
    ]
    return Section(
        "Result on the unseen image",
        [
            Numbers(
                [
                    ("biounet", f"{scores['seg']:.3f}", "mean object IoU (seg)"),
                    ("Otsu + watershed", f"{rival['seg']:.3f}", "mean object IoU (seg)"),
                    ("cells", scores["objects"]["true"], f"{scores['objects']['predicted']} found"),
                ]
            ),
            Table(
                "Scores",
                ["score", "biounet", "Otsu + watershed"],
                rows,
                note=f"Otsu's threshold with a watershed was tuned on the training images ({settings}).",
            ),
        ],
    )


def _picture_section(
    image: Picture, truth: Labels, found: Labels, rival: Labels, model: Model, folder: Path
) -> Section:
    probabilities = tifffile.imread(folder / "prediction" / "unseen_probabilities.tif")
    layers = {
        "image": to_rgb(image),
        "probability": heat(1 - probabilities[0], limits=(0.0, 1.0)),
        "biounet": label_layer(found),
        "truth": label_layer(truth),
        "errors": error_layer(found, truth),
        "Otsu + watershed": label_layer(rival),
    }
    return Section("Pictures", [Figure("The unseen image", layers, legend=ERROR_COLOURS)])


def _training_section(
    events: list[TrainEvent], model: Model, check: ModelCheck, images: list[Picture], truths: list[Labels]
) -> Section:
    steps = [e for e in events if isinstance(e, StepDone)]
    scored = [e for e in events if isinstance(e, Validated)]
    statements = [str(s) for s in model.training["statements"]]
    return Section(
        "Training",
        [
            Figure("One of the training images", {"image": to_rgb(images[0]), "truth": label_layer(truths[0])}),
            Curve("Loss", [e.step for e in steps], {"loss": [e.loss for e in steps]}, "step", "weighted cross-entropy"),
            Curve(
                "Score on the held-back images",
                [e.step for e in scored],
                {"seg": [e.scores["seg"] for e in scored]},
                "step",
                "mean object IoU",
            ),
            Table("What was inferred and decided", ["statement"], [[s] for s in statements]),
            Text(
                f"Model file: SHA-256 {model.sha256 or check.model.sha256}; golden sample computed again from the file "
                f"differs by {check.difference:.1e} of the largest logit (allowed 1e-4)."
            ),
        ],
    )


def _prediction_section(done: Any, seconds: float) -> Section:
    return Section(
        "Prediction",
        [
            Text(f"{done.plan}; {done.seconds:.1f} s with reading and writing. The whole demo took {seconds:.0f} s."),
            *blocks_of_seams([done]),
        ],
    )


def _repeated(model: Model, folder: Path, command: str) -> list[Block]:
    """The command, which trains for a time, and the one that trains for as many steps again."""
    blocks: list[Block] = [
        Code(repeat_command(model.training), f"The same training, where DATA is {folder / 'data'}"),
        versions_text(model.training),
    ]
    return [Code(command, "Command"), *blocks] if command else blocks


def _next_section(folder: Path) -> Section:
    return Section("With images of your own", [Code("\n".join(next_commands(folder)))])


def next_commands(folder: Path) -> list[str]:
    """What to type next."""
    images = shlex.quote(str(folder / "data"))
    return [
        f"biounet show {images} --out samples.png",
        "biounet train MY_FOLDER --out my.safetensors --budget 15min",
        "biounet predict my.safetensors NEW_IMAGES --out results",
        "biounet predict my.safetensors TEST_FOLDER --out test_results",
        "biounet evaluate test_results TEST_FOLDER",
    ]
