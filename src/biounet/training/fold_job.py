"""The training of one fold of a cross-validation: a run like any other, with files of its own."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from biounet.model_file import Model, load_model
from biounet.planning.data import TrainingData
from biounet.planning.fold_split import fold_splits
from biounet.planning.overlap import alike_groups
from biounet.planning.plan import balancing_weights, make_plan, planned_geometry
from biounet.planning.split import Split
from biounet.settings import Settings
from biounet.training.events import Listener
from biounet.training.interrupts import Stop
from biounet.training.run import Run
from biounet.training.run_files import RunFiles
from biounet.training.validate import Validator

Folds = int | Literal["each"]  # their number, or one for each image


@dataclass(frozen=True)
class FoldJob:
    """All that the folds have in common; it can be sent to another process.

    ``out``: the model file of the whole cross-validation, or None. ``origin``: the model that every fold goes on
    from. ``steps``: of each fold. Fold k, counted from 0, is a run with seed ``seed + k`` that holds back the images
    of ``splits[k]``. ``refit``: whether one more run learns from all images afterwards, with the next seed.
    """

    data: TrainingData
    settings: Settings
    splits: tuple[Split, ...]
    seed: int
    out: Path | None
    origin: Model | None = None
    steps: int = 0
    refit: bool = False

    @property
    def runs(self) -> int:
        """How many there are, that on all images included."""
        return len(self.splits) + self.refit

    @property
    def files(self) -> RunFiles:
        """Those of the whole."""
        return RunFiles(self.out)

    @property
    def origin_sha256(self) -> str | None:
        """Of the model that is gone on from."""
        return None if self.origin is None else self.origin.sha256

    def begun(self, fold: int, device: str, *, listen: Listener, files: RunFiles) -> Run:
        """The run of a fold, its plan made."""
        return self._begun(fold, self.splits[fold], device, listen, files)

    def run(self, fold: int, device: str, *, listen: Listener, stop: Stop) -> Model:
        """Train a fold, or go on with it, and return its model; a finished one is read from its file.

        Ends as `Run.go` does.
        """
        files = self.files.fold(fold + 1)
        return self._run(files, lambda: self.begun(fold, device, listen=listen, files=files), device, stop)

    def run_on_all(self, device: str, *, listen: Listener, stop: Stop) -> Model:
        """As `run`, but nothing is held back."""
        split = Split(tuple(self.data.examples), (), "nothing: every image is learnt from; the folds have judged")
        files, number = self.files.all_images, len(self.splits)
        return self._run(files, lambda: self._begun(number, split, device, listen, files), device, stop)

    def _begun(self, number: int, split: Split, device: str, listen: Listener, files: RunFiles) -> Run:
        start, seed = time.perf_counter(), self.seed + number
        plan = make_plan(self.data, self.settings, seed=seed, device=device, start=self.origin, fold=split)
        return Run(self.data, plan, seed=seed, files=files, listen=listen, start=start, is_fold=True)

    def _run(self, files: RunFiles, begun: Callable[[], Run], device: str, stop: Stop) -> Model:
        if files.out is not None and files.is_finished:
            return load_model(files.out)
        files.prepare("resume")
        run = begun()
        run.begin(device, self.steps, None, origin=self.origin_sha256)
        return run.go(stop)

    def validator(self, fold: int, model: Model) -> Validator:
        """Scores a network on what a fold held back."""
        return Validator(
            self.splits[fold].validation,
            model.normalisation,
            self.data.meaning.task,
            self.data.classes,
            "fp32",
            cell_classes=self.data.meaning.cell_classes,
        )

    def class_weights(self, fold: int | None) -> tuple[float, ...]:
        """Of the loss that a fold, or without one the network of all images, was trained with."""
        learnt = self.data.examples if fold is None else self.splits[fold].training
        return balancing_weights(self.data, self.settings, learnt)


def fold_job(
    data: TrainingData,
    settings: Settings,
    folds: Folds,
    *,
    seed: int,
    out: Path | None,
    origin: Model | None,
    refit: bool = False,
) -> FoldJob:
    """The folds of these data; images that show the same are held back together. Errors as of `fold_splits`."""
    groups = alike_groups([example.name for example in data.examples], data.thumbnails)
    splits = fold_splits(
        data.examples,
        planned_geometry(data, settings, start=origin),
        folds=None if folds == "each" else folds,
        sequence=data.sequence,
        groups=groups,
    )
    return FoldJob(data, settings, splits, seed, out, origin, refit=refit)
