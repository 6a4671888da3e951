"""The commands as functions: `load`, `predict`, `evaluate`, `check`, `export` (`train` is `training.train.train`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
import numpy.typing as npt

from biounet.errors import UsageError
from biounet.model_file import Model

if TYPE_CHECKING:
    from biounet.inference.predict import Prediction
    from biounet.prediction.options import Options
    from biounet.results.request import Request

Paths = str | Path | Sequence[str | Path]


def load(path: str | Path) -> Model:
    """A model from its file, checksum verified, or from an exported form of it (``model.onnx``, ``model.xml``,
    ``model.pt2``, ``NAME.bioimageio.zip``). Raises `DataError` or `ModelFileError`."""
    from biounet.inference.exported import open_model

    return open_model(path)


def predict(
    model: Model | str | Path,
    image: npt.ArrayLike | Paths,
    out: str | Path | None = None,
    *,
    network: Callable[..., Any] | None = None,
    **options: Unpack[Options],
) -> Any:
    """Labels and probabilities of an array, or result files for image files.

    An array (C,)(Z)YX, or what `numpy.asarray` makes one of, gives an `inference.predict.Prediction`.
    Paths with a folder ``out`` write there what
    ``biounet predict`` writes and return a list of `results.request.Done`; `PartialError` after all where some of
    several inputs failed. ``options`` are those of the command, by the same names and in the same words, or as Python
    values (`prediction.options.Options`): ``save="labels,table"``, ``memory="2GB"``, ``pixel_size=0.25``,
    ``region="auto"``, ``shard=(1, 4)``, ``in_place=True``. Of an array ``tile``, ``memory``, ``tta``, ``engine``,
    ``precision``, ``device``, ``calibrate`` and ``least_agreement`` can be given. ``network``: the factory of a foreign
    network. Raises the errors of the command, `UsageError` and `DataError`.
    """
    from biounet.prediction.options import request_of

    request = request_of(Path(out or "."), options)
    paths = _as_paths(image)
    if paths == []:
        raise UsageError("predict of no files: give an array, a path or a list of paths")
    if paths is None:
        return _predict_array(model, _as_array(image, "image"), out, request, options, network)
    if out is None:
        raise UsageError("predict of files needs out, the folder for the results; or give one array")
    from biounet.prediction.predict import refuse_failed
    from biounet.prediction.run_request import run_request

    done = run_request(model if isinstance(model, Model) else Path(model), paths, request, network=network)
    refuse_failed(done.results)
    return done.results


def _as_paths(given: Any) -> list[str | Path] | None:
    """The paths that an argument names, None where it is an array."""
    given = [given] if isinstance(given, str | Path) else given
    named = isinstance(given, list | tuple) and all(isinstance(path, str | Path) for path in given)
    return list(given) if named else None


def _as_array(given: Any, name: str) -> npt.NDArray[Any]:
    """An array of numbers of whatever holds them: lists, tensors, arrays of other libraries."""
    array = given if isinstance(given, np.ndarray) else np.asarray(given)
    if array.dtype.kind not in "biufc":
        raise UsageError(f"{name} is {type(given).__name__}: give paths, or an array of numbers")
    return array


_OF_ARRAYS = ("tile", "memory", "tta", "engine", "precision", "device", "calibrate", "least_agreement")


def _predict_array(
    model: Model | str | Path,
    image: npt.NDArray[Any],
    out: str | Path | None,
    request: Request,
    options: Options,
    network: Callable[..., Any] | None,
) -> Prediction:
    from biounet.inference.predict import plan_for, predict_array, with_channels
    from biounet.prediction.options import refuse_unknown
    from biounet.prediction.run_request import choose

    if out is not None:
        raise UsageError("predict of an array returns its result and writes nothing; give no out, or image files")
    refuse_unknown(options, _OF_ARRAYS, of="predict of an array")
    model = model if isinstance(model, Model) else load(model)
    engine = choose(model, request, network=network).engine
    array = with_channels(image, model)
    plan = plan_for(array.shape[1:], engine, tile=request.tile, memory=request.memory)
    return predict_array(model, engine, array, plan=plan, tta=request.tta)


def evaluate(
    predicted: npt.ArrayLike | Path,
    true: npt.ArrayLike | Path,
    *,
    task: str | None = None,
    only: str | None = None,
    ndim: int | None = None,
    unlabelled: str | None = None,
    object_classes: bool = True,
) -> dict[str, Any]:
    """Scores of two label arrays (Z)YX of one ``task`` ("instances" by default), or of folders or files.

    Arrays, or what `numpy.asarray` makes them of, give `evaluation.files.evaluate_arrays`, paths what
    ``biounet evaluate --json`` prints.
    Of paths ``ndim`` says whether stacks are planes or volumes, and ``unlabelled`` what undrawn pixels of the truth
    are, "background" or "unknown", instead of what they were to the model that predicted; ``object_classes`` whether
    names of drawn objects are classes, or all are of one.
    """
    if task not in (None, "instances", "classes"):
        raise UsageError(f"task {task!r} is not known; choose instances or classes")
    from biounet.evaluation.files import evaluate_arrays, evaluate_files

    paths = [given for given in (predicted, true) if isinstance(given, str | Path)]
    if not paths:
        if only is not None or ndim is not None or unlabelled is not None:
            raise UsageError("only, ndim and unlabelled are for paths: of arrays all is scored as it is, -1 is unknown")
        arrays = _as_array(predicted, "predicted"), _as_array(true, "true")
        return evaluate_arrays(*arrays, task=task or "instances")  # type: ignore[arg-type]
    if len(paths) < 2:
        raise UsageError("evaluate needs two arrays or two paths")
    found = evaluate_files(
        *paths,
        only=only,
        task=task,  # type: ignore[arg-type]
        ndim=ndim,
        unlabelled=unlabelled,
        object_classes=object_classes,
    )
    return found.result


def check(path: str | Path, *, device: str = "cpu", network: Callable[..., Any] | None = None) -> Any:
    """A `checks.model.ModelCheck` of a model file or an exported form, or a `checks.data.DataCheck` of a folder."""
    from biounet.datasets.layouts import is_data_file

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
