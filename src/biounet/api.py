"""The commands as functions: `load`, `predict`, `evaluate`, `check`, `export` (`train` is `training.train.train`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from biounet.errors import UsageError
from biounet.model_file import Model

Paths = str | Path | Sequence[str | Path]


def load(path: str | Path) -> Model:
    """A model from its file, checksum verified, or from an exported form of it (``model.onnx``, ``model.xml``,
    ``model.pt2``, ``NAME.bioimageio.zip``). Raises `DataError` or `ModelFileError`."""
    from biounet.inference.exported import open_model

    return open_model(path)


def predict(
    model: Model | str | Path,
    image: npt.NDArray[Any] | Paths,
    out: str | Path | None = None,
    *,
    tile: int | None = None,
    memory: int | None = None,
    engine: str = "auto",
    precision: str = "fp32",
    device: str = "auto",
    tta: str = "none",
    network: Callable[..., Any] | None = None,
) -> Any:
    """Labels and probabilities of an array, or result files for image files.

    An array (C,)(Z)YX gives an `inference.predict.Prediction`. Paths with a folder ``out`` write
    labels and overlays there and return a list of `workflows.predict.Done`; `PartialError` after all
    where some of several inputs failed. ``tile``: side of a tile's output; ``memory``: limit in
    bytes; ``engine``: of `inference.engines.ENGINES`, or an exported file; ``precision``: "fp32"
    (exact), "bf16" or "int8"; ``tta``: "none", or average over "flips" or "all" (flips and quarter
    turns); ``network``: the factory of a foreign network.
    """
    from biounet.inference.engines import choose_engine
    from biounet.inference.predict import plan_for, predict_array, with_channels

    if not isinstance(model, Model):
        model = load(model)
    choice = choose_engine(model, engine=engine, device=device, precision=precision, factory=network)
    if isinstance(image, np.ndarray):
        if out is not None:
            raise UsageError("predict of an array returns its result and writes nothing; give no out, or image files")
        array = with_channels(image, model)
        plan = plan_for(array.shape[1:], choice.engine, tile=tile, memory=memory)
        return predict_array(model, choice.engine, array, plan=plan, tta=tta)
    if out is None:
        raise UsageError("predict of files needs out, the folder for the results; or give one array")
    from biounet.workflows.predict import Request, find_inputs, predict_files, refuse_failed

    given = [image] if isinstance(image, str | Path) else list(image)
    request = Request(Path(out), tile=tile, memory=memory, tta=tta)
    results = predict_files(model, choice, find_inputs(given), request)
    refuse_failed(results)
    return results


def evaluate(
    predicted: npt.NDArray[Any] | str | Path,
    true: npt.NDArray[Any] | str | Path,
    *,
    task: str | None = None,
    only: str | None = None,
) -> dict[str, Any]:
    """Scores of two label arrays (Z)YX of one ``task`` ("instances" by default), or of folders or files.

    Arrays give `evaluation.scores.evaluate_pair`, paths what ``biounet evaluate --json`` prints.
    """
    if task not in (None, "instances", "classes"):
        raise UsageError(f"task {task!r} is not known; choose instances or classes")
    if isinstance(predicted, np.ndarray) and isinstance(true, np.ndarray):
        from biounet.evaluation.scores import evaluate_pair

        return evaluate_pair(predicted, true, task=task or "instances")  # type: ignore[arg-type]
    if isinstance(predicted, np.ndarray) or isinstance(true, np.ndarray):
        raise UsageError("evaluate needs two arrays or two paths")
    from biounet.evaluation.files import evaluate_files

    return evaluate_files(predicted, true, only=only, task=task).result  # type: ignore[arg-type]


def check(path: str | Path, *, device: str = "cpu", network: Callable[..., Any] | None = None) -> Any:
    """A `checks.model.ModelCheck` of a model file or an exported form, or a `checks.data.DataCheck` of a folder."""
    from biounet.images.layouts import is_data_file

    if Path(path).is_dir() or is_data_file(path):
        from biounet.checks.data import check_data

        return check_data(path)
    from biounet.checks.model import check_model

    return check_model(path, device=device, factory=network)


def export(
    model: str | Path,
    to: str,
    out: str | Path,
    *,
    overwrite: bool = False,
    authors: Sequence[str] = (),
    license: str | None = None,
    network: Callable[..., Any] | None = None,
) -> Any:
    """Write a model file for other programs into the folder ``out``; a `workflows.export_model.Exporting`.

    ``to``: "onnx", "openvino", "torch" or "bioimageio". Each network is run before its file gets its name
    and must be within 1e-4 of the largest |logit| of torch. ``authors`` (names) and ``license`` (SPDX)
    stand in a BioImage.IO package; ``network``: the factory of a foreign network.
    """
    from biounet.workflows.export_model import export_model

    return export_model(model, to, out, overwrite=overwrite, authors=authors, licence=license, factory=network)
