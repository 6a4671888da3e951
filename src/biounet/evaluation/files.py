"""Predicted label files paired with the truth by NAME, and scored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import fastremap
import numpy as np
import numpy.typing as npt

from biounet.datasets.annotation import as_labels, load_labels, object_kinds
from biounet.datasets.colours import colours_beside
from biounet.datasets.examples import Example
from biounet.datasets.layouts import label_stem
from biounet.datasets.selection import select
from biounet.errors import DataError
from biounet.evaluation.blocks import Scored, block_scores, blocks_per_image
from biounet.evaluation.intervals import FEWEST_VALUES
from biounet.evaluation.legend import (
    AS_THEY_ARE,
    Legend,
    Reading,
    choose_unlabelled,
    class_ids,
    joined,
    read_legend,
    reading_found,
    reading_told,
)
from biounet.evaluation.scores import Scores, Task, evaluate_pair
from biounet.evaluation.summary import summarise
from biounet.evaluation.truths import Truth, as_learnt, matching, read_truth, understand_truths
from biounet.images.formats import known_suffix, read_image, stem_name
from biounet.images.image import check_finite
from biounet.images.label_origin import is_zarr_written_here
from biounet.labels.flatness import AN_IMAGE, flatness
from biounet.labels.kinds import cell_classes
from biounet.labels.meaning import Meaning, encode

Labels = npt.NDArray[np.int32]

_PROBABILITIES = "_probabilities"
_NO_LABELS = ("_probabilities", "_overlay", "_classes")
_MANY_VALUES = 64  # in one file, from which on labels that are not flat are hardly labels


@dataclass(frozen=True)
class Pair:
    """A prediction beside its truth. ``probabilities``: (C, *spatial), where a file of them lies beside.

    ``kinds``: class of each object by id, of prediction and truth; None where either has no classes.
    ``image``: (C, *spatial), where the truth is a data folder. ``file``: of the predicted labels, where they have one.
    """

    name: str
    predicted: Labels
    true: Labels
    probabilities: npt.NDArray[np.float32] | None
    kinds: tuple[Mapping[int, str], Mapping[int, str]] | None = None
    image: npt.NDArray[Any] | None = None
    file: Path | None = None


@dataclass(frozen=True)
class Evaluation:
    """Scores of all pairs: ``result`` is ready for JSON (see `summary.summarise`)."""

    result: dict[str, Any]
    meaning: Meaning
    statements: tuple[str, ...]
    pairs: tuple[Pair, ...]


def evaluate_files(
    predicted: str | Path,
    true: str | Path,
    *,
    only: str | None = None,
    task: Task | None = None,
    ndim: int | None = None,
    unlabelled: str | None = None,
    object_classes: bool = True,
    warping: bool = True,
    seed: int = 0,
) -> Evaluation:
    """Score the label images of ``predicted`` (a folder or file) against ``true``.

    ``true``: a data folder in any known layout, whose rule of what is unknown then holds, a folder
    of label images, or one file. ``only``: some of the images (see `datasets.selection.select`).
    ``ndim``: whether stacks of the truth are planes (2) or volumes (3), instead of inferring it.
    ``unlabelled``: what undrawn pixels of the truth are, "background" or "unknown"; None: as the model learnt it that
    predicted, where ``run.json`` tells, else background. ``object_classes``: whether names of drawn objects are
    classes; else all objects are of one.
    Raises `DataError` where nothing pairs, a prediction is missing, or sizes differ.
    """
    read = read_truth(Path(true), ndim)
    legend = legend_of(Path(predicted))
    if legend is not None and ndim is None:
        read = as_learnt(read, Path(true), [legend])
    truths, dataset, statements = read
    unlabelled, rule = choose_unlabelled(unlabelled, {} if legend is None else {"the model that predicted": legend})
    truths, meaning = understand_truths(
        truths,
        dataset,
        task=task,
        object_classes=object_classes,
        unlabelled=unlabelled,
        legends=[] if legend is None else [legend],
    )
    if only is not None:
        truths = [truths[i] for i in select([t.name for t in truths], only, "--only")]
        statements.append(f"only {', '.join(t.name for t in truths)}")
    pairs = find_pairs(Path(predicted), truths, legend)
    reading = read_values(pairs, meaning, legend)
    statements += [meaning.reason, *rule, *reading.reasons]
    meaning = joined(meaning, [reading])
    pairs = encoded(pairs, reading, meaning)
    scored = score_pairs(pairs, meaning, warping=warping)
    result = summarise(scored.images, seed, blocks=scored.blocks)
    statements += _unlike_labels(pairs)
    return Evaluation({"task": meaning.task, **result}, meaning, tuple(statements), tuple(pairs))


def evaluate_arrays(predicted: npt.ArrayLike, true: npt.ArrayLike, *, task: Task) -> Scores:
    """All scores of one label array against another, (Z)YX integers; see `evaluate_pair`.

    Ids of objects are taken as they are; the values of classes are read as those of label files without ``run.json``.
    Raises `DataError` for arrays that do not fit.
    """
    found, wanted = as_labels(np.asarray(predicted), "predicted"), as_labels(np.asarray(true), "true")
    if task == "instances":
        return evaluate_pair(found, wanted, task=task)
    truths = [Truth(Example("array", np.empty((0, *wanted.shape), np.uint8), wanted), "array")]
    _, meaning = understand_truths(truths, None, task=task, object_classes=False, unlabelled="background", legends=[])
    pair = Pair("array", found, wanted, None)
    reading = read_values([pair], meaning, None)
    (pair,) = encoded([pair], reading, joined(meaning, [reading]))
    return evaluate_pair(pair.predicted, pair.true, task=task)


def _unlike_labels(pairs: Sequence[Pair]) -> list[str]:
    """A remark for each side that has images where labels should be."""
    said = []
    for side in ("predicted", "true"):
        names = [pair.name for pair in pairs if _looks_like_an_image(getattr(pair, side))]
        if names:
            said.append(
                f"{len(names)} of {len(pairs)} {side} label files look like images ({names[0]}): neighbouring pixels "
                "hardly ever have the same value, and the scores mean nothing if they are"
            )
    return said


def _looks_like_an_image(labels: Labels) -> bool:
    """Thin lines of a few classes are labels, too."""
    return flatness(labels) < AN_IMAGE and len(np.unique(labels)) > _MANY_VALUES


def score_pairs(pairs: Sequence[Pair], meaning: Meaning, *, warping: bool = True) -> Scored:
    """All scores of each pair, and of blocks of them where there are fewer than six."""
    names = list(meaning.class_names) if meaning.task == "classes" else _cell_names(pairs)
    unscored = [name for name, value in zip(names or (), meaning.values, strict=False) if value in meaning.foreign]
    images: list[tuple[str, Scores]] = []
    blocks: list[Scores] = []
    for pair in pairs:
        given: dict[str, Any] = {
            "task": meaning.task,
            "probabilities": pair.probabilities,
            "classes": names,
            "warping": warping,
            "kinds": pair.kinds,
            "unscored": unscored,
        }
        images.append((pair.name, evaluate_pair(pair.predicted, pair.true, **given)))
        if len(pairs) < FEWEST_VALUES:
            blocks += block_scores(pair.predicted, pair.true, blocks_per_image(len(pairs)), **given)
    return Scored(images, blocks)


def _cell_names(pairs: Sequence[Pair]) -> list[str] | None:
    names = cell_classes(kinds for pair in pairs for kinds in pair.kinds or ())
    return list(names) or None


def _predicted_kinds(file: Path, predicted: Labels, page: int, legend: Legend | None) -> dict[int, str] | None:
    """Classes of the predicted objects from ``NAME_classes.tif``, by the names of ``legend`` where there is one."""
    beside = file.with_name(f"{label_stem(file)}_classes.tif")
    if not beside.exists():
        return None
    classes = load_labels(beside, ndim=predicted.ndim)
    if page >= len(classes) or classes[page].shape != predicted.shape:
        raise DataError(f"{beside}: does not have the shape of {file.name}; predict again")
    names = () if legend is None else legend.classes
    kinds = object_kinds(predicted, classes[page])
    return {i: names[int(kind)] if int(kind) < len(names) else kind for i, kind in kinds.items()}


def legend_of(predicted: Path) -> Legend | None:
    """What ``run.json`` beside label files, a folder of them or one, says of their values; None where there is none."""
    return read_legend({file.parent for file in _predicted_files(predicted).values()})


def find_pairs(predicted: Path, truths: Sequence[Truth], legend: Legend | None) -> list[Pair]:
    """The prediction of each truth, with values as in the files; `encoded` makes ids of them.

    Raises `DataError` where a prediction is missing, or several truths or files share a NAME.
    """
    files = find_predicted(predicted, truths)
    return [_pair(files[t.stem], t, legend) for t in truths]


def read_values(pairs: Sequence[Pair], meaning: Meaning, legend: Legend | None) -> Reading:
    """What the predicted values of all pairs mean: by ``legend``, else decided from all of them (`reading_found`)."""
    if meaning.task == "instances":
        return AS_THEY_ARE
    found: dict[str, set[int]] = {}
    for pair in pairs:
        values = {int(value) for value in fastremap.unique(pair.predicted) if value >= 0}
        found.setdefault(str(pair.file or pair.name), set()).update(values)
    if legend is None or legend.task != "classes" or not legend.values:
        return reading_found(found, meaning)
    return reading_told(legend, meaning, found)


def encoded(pairs: Sequence[Pair], reading: Reading, meaning: Meaning) -> list[Pair]:
    """The same pairs with ids of objects or classes. ``meaning``: `joined` with ``reading``."""
    if meaning.task == "instances":
        return [replace(pair, true=encode(pair.true, meaning)) for pair in pairs]
    return [
        replace(pair, predicted=class_ids(pair.predicted, reading, meaning), true=encode(pair.true, meaning))
        for pair in pairs
    ]


def find_predicted(predicted: Path, truths: Sequence[Truth]) -> dict[str, Path]:
    """The file of predicted labels of each truth by its stem, none of them read; raises as `find_pairs` does.

    Of truths whose files share a NAME that is also found by it which is the only one of them, as where ``--only`` names
    one sequence.
    """
    files = _predicted_files(predicted)
    stems = {t.stem for t in truths}
    for shared in {t.file_stem for t in truths if t.file_stem is not None} & files.keys():
        if len(own := {t.stem for t in truths if t.file_stem == shared}) == 1:
            files.setdefault(own.pop(), files[shared])
    counts = Counter((t.stem, t.page) for t in truths)
    if twice := sorted({stem for (stem, _), count in counts.items() if count > 1}):
        raise DataError(f"several true images are called {', '.join(twice[:5])}; name the ones meant with --only")
    if len(files) == 1 and len(stems) == 1:  # nothing to choose between, whatever the names
        files = {next(iter(stems)): next(iter(files.values()))}
    missing = sorted(stems - set(files))
    if missing:
        raise DataError(
            f"{predicted}: no prediction for {', '.join(missing[:5])}{' ...' if len(missing) > 5 else ''} "
            f"(looked for NAME_labels.tif); predict them, or name others with --only"
        )
    return files


def _pair(file: Path, truth: Truth, legend: Legend | None) -> Pair:
    found = load_labels(file, ndim=truth.labels.ndim, colours=colours_beside(file))
    page = truth.page or 0
    if page >= len(found):
        raise DataError(f"{file}: has {len(found)} images, the truth asks for number {page}; predict all of them")
    predicted = found[page]
    if predicted.shape != truth.labels.shape:
        raise DataError(f"{file}: {predicted.shape} pixels, but the truth of {truth.name} has {truth.labels.shape}")
    probabilities = _probabilities(file, page, (len(found), *truth.labels.shape))
    found_kinds = _predicted_kinds(file, predicted, page, legend) if truth.kinds else None
    kinds = None if found_kinds is None else (found_kinds, truth.kinds)
    return Pair(truth.name, predicted, truth.labels, probabilities, kinds, truth.image, file)


def _probabilities(file: Path, page: int, shape: tuple[int, ...]) -> npt.NDArray[np.float32] | None:
    """Of one page: (C, *spatial), or (*spatial) of the inside alone. ``shape``: pages and spatial axes."""
    beside = file.with_name(f"{label_stem(file)}{_PROBABILITIES}.tif")
    if not beside.exists():
        return None
    image = read_image(beside)
    check_finite(image, beside)
    array = np.moveaxis(image.array, max(0, image.axes.find("C")), 0).astype(np.float32)
    sizes, expected = ([n for n in sides if n > 1] for sides in (array.shape, shape))  # files drop axes of size 1
    if sizes[len(sizes) - len(expected) :] != expected or len(sizes) > len(expected) + 1:
        raise DataError(f"{beside}: shape {array.shape} does not fit labels of {shape[1:]}; predict again")
    classes = array.reshape(-1, *shape)[:, page]
    return np.asarray(classes if len(classes) > 1 else classes[0])


def _predicted_files(predicted: Path) -> dict[str, Path]:
    files = matching(predicted)
    if not files and (predicted.is_file() or known_suffix(predicted)):
        return {label_stem(predicted): predicted}
    files = files or sorted(predicted.iterdir())
    files = [p for p in files if known_suffix(p) and not stem_name(p).endswith(_NO_LABELS)]
    if not files:
        raise DataError(f"{predicted}: holds no label images (NAME_labels.tif); predict first")
    groups: dict[str, list[Path]] = {}
    for path in files:
        groups.setdefault(label_stem(path), []).append(path)
    found = {}
    for stem, group in groups.items():
        named = [path for path in group if stem_name(path) != stem] or group  # not an image beside its labels
        named = [path for path in named if not _is_copy(path, named)]
        if len(named) > 1:
            raise DataError(f"{named[0]} and {named[1].name}: both are labels of {stem}; keep one of them there")
        found[stem] = named[0]
    return found


def _is_copy(path: Path, group: Sequence[Path]) -> bool:
    """Whether OME-Zarr labels, which nobody has changed, lie beside the same NAME in another format."""
    beside = any(stem_name(other) == stem_name(path) for other in group if other != path)
    return beside and known_suffix(path) == ".zarr" and is_zarr_written_here(path)
