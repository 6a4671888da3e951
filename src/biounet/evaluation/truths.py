"""Annotated images that predictions are scored against: of a data folder, a folder of label images, or one file."""

from __future__ import annotations

import glob
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from biounet.datasets.annotation import load_labels
from biounet.datasets.colours import colours_beside
from biounet.datasets.dataset import Dataset, Item
from biounet.datasets.examples import Example, load
from biounet.datasets.layouts import LAYOUTS, find_dataset, label_stem
from biounet.datasets.zarr_annotations import holds_annotation
from biounet.errors import DataError
from biounet.evaluation.legend import Legend
from biounet.images.formats import known_suffix, stem_name
from biounet.labels.meaning import Meaning
from biounet.labels.understanding import understand

Labels = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Truth:
    """One annotated image: NAME (``stem``) and page (None for a file of one) find its prediction.

    ``example``: of label images alone its image has no channels. ``file_stem``: NAME of its file, where others have the
    same and ``stem`` is therefore what the data set calls it.
    """

    example: Example
    stem: str
    page: int | None = None
    file_stem: str | None = None

    @property
    def name(self) -> str:
        """What the image is called."""
        return self.example.name

    @property
    def labels(self) -> Labels:
        """The annotation, int32 (*spatial)."""
        return self.example.labels

    @property
    def kinds(self) -> Mapping[int, str]:
        """Class of each object by id, where it has one."""
        return self.example.kinds

    @property
    def image(self) -> npt.NDArray[Any] | None:
        """(C, *spatial), None where the truth came as label images alone."""
        return self.example.image if len(self.example.image) else None


Read = tuple[list[Truth], Dataset | None, list[str]]


def read_truth(path: Path, ndim: int | None = None) -> Read:
    """All annotated images of a folder or file; the data set, None for label images alone; reasons.

    ``ndim``: whether the images of a data set are planes (2) or volumes (3), instead of inferring it.
    """
    if files := _label_files(path):
        truths = [truth for file in files for truth in _truths_of_file(file)]
        what = f"{path.name}: label images" if files == [path] else f"{len(files)} label files in {path}"
        return truths, None, [what]
    dataset = find_dataset(path, ndim=ndim)
    sharing = Counter(stem_name(file) for file in {item.image.path for item in dataset.items})
    truths = [
        Truth(example, *_names_of_results(item, alone=sharing[stem_name(item.image.path)] == 1))
        for item, example in zip(dataset.items, load(dataset, may_be_empty=True), strict=True)
    ]
    return truths, dataset, list(dataset.reasons)


def as_learnt(read: Read, path: Path, legends: Sequence[Legend]) -> Read:
    """What was read of a data set; read again where the models that predicted learnt planes of what are volumes here,
    or the other way round.
    """
    learnt = {legend.ndim for legend in legends if legend.ndim is not None}
    if read[1] is None or len(learnt) != 1 or read[1].ndim in learnt:
        return read
    ndim = learnt.pop()
    truths, dataset, reasons = read_truth(path, ndim)
    return truths, dataset, [*reasons, f"{ndim}D, as the model learnt that predicted"]


def _names_of_results(item: Item, *, alone: bool) -> tuple[str, int | None, str | None]:
    """What an image's results are called, its page, and NAME of its file where it is not ``alone`` in having it."""
    page, stem = item.image.page, stem_name(item.image.path)
    if alone:
        return stem, page, None
    return item.name if page is None else (item.name.rpartition("[")[0] or item.name), page, stem


def understand_truths(
    truths: Sequence[Truth],
    dataset: Dataset | None,
    *,
    task: str | None,
    object_classes: bool,
    unlabelled: str,
    legends: Sequence[Legend],
) -> tuple[list[Truth], Meaning]:
    """What the annotation means, and the truths with it; see `labels.understanding.understand`.

    ``legends``: of the predictions. Classes of drawn objects have the values that they have there, and are all one
    where the predictions know but one. Truths without any object are of the task that is asked for, or that the
    predictions are of.
    """
    if not any((t.labels > 0).any() for t in truths):
        legend = legends[0] if legends else None
        task = task or (legend.task if legend else "instances")
        values = (legend.values if legend else ()) or (0, 1)
        reason = "nothing is drawn in any mask: whatever was found is wrong"
        return list(truths), Meaning(task, values if task == "classes" else (), reason)  # type: ignore[arg-type]
    if legends and all(legend.is_of_one_class for legend in legends):
        object_classes = False
    known = {name: value for legend in reversed(legends) for name, value in legend.named.items()}
    learnt = _learnt_task(truths, dataset, legends) if task is None else None
    examples, meaning = understand(
        [t.example for t in truths],
        dataset,
        task=task or learnt,
        object_classes=object_classes,
        unlabelled=unlabelled,
        known=known,
    )
    if learnt is not None:
        reason = meaning.reason.replace("as asked for", "as the model learnt that predicted (--task overrides that)")
        meaning = replace(meaning, reason=reason)
    if unlabelled == "unknown" and meaning.values[:1] == (0,) and not any((e.labels == 0).any() for e in examples):
        meaning = replace(meaning, values=meaning.values[1:], value_names=meaning.value_names[1:])
    return [replace(t, example=example) for t, example in zip(truths, examples, strict=True)], meaning


def _learnt_task(truths: Sequence[Truth], dataset: Dataset | None, legends: Sequence[Legend]) -> str | None:
    """The task of the models that predicted, where they agree and the data set declares none; None otherwise.

    Of classes only where the annotation has no other values than the models, or two as they have.
    """
    tasks = {legend.task for legend in legends}
    if len(tasks) != 1 or (dataset is not None and dataset.task is not None):
        return None
    if tasks == {"classes"}:
        shown = {0}.union(*(np.unique(truth.labels[truth.labels >= 0]).tolist() for truth in truths))
        if not all(shown <= set(legend.values) or len(shown) == len(legend.values) == 2 for legend in legends):
            return None
    return tasks.pop()


def matching(path: Path) -> list[Path]:
    """The files that a pattern names, as those of ``*.zarr/labels/nuclei``; none where it is a file or folder.

    Raises `DataError` where it is neither, or a pattern that nothing matches.
    """
    if path.exists():
        return []
    files = [Path(name) for name in sorted(glob.glob(str(path)))]
    if not files:
        raise DataError(f"{path}: there is no such file or folder; check the name")
    return files


def _label_files(path: Path) -> list[Path]:
    """The label images that a path names; none where it is a data set."""
    if files := matching(path):
        return files
    if known_suffix(path) or path.is_file():
        return [] if holds_annotation(path) else [path]
    return [] if _is_data(path) else sorted(p for p in path.iterdir() if known_suffix(p))


def _is_data(path: Path) -> bool:
    folders = [folder for folder in (path, path / "train") if folder.is_dir()]
    return any(layout.recognise(folder) is not None for folder in folders for layout in LAYOUTS)


def _truths_of_file(path: Path) -> list[Truth]:
    pages = load_labels(path, colours=colours_beside(path))
    stem = label_stem(path)
    names = [stem] if len(pages) == 1 else [f"{stem}[{i:02d}]" for i in range(len(pages))]
    examples = [Example(name, np.empty((0, *p.shape), np.uint8), p) for name, p in zip(names, pages, strict=True)]
    return [Truth(example, stem, i if len(pages) > 1 else None) for i, example in enumerate(examples)]
