"""What a data folder holds, in numbers and with the reason for each inference."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from biounet.images.dataset import Dataset
from biounet.images.examples import Example, load
from biounet.images.layouts import find_dataset
from biounet.labels.components import components
from biounet.labels.meaning import Meaning
from biounet.labels.understanding import understand


@dataclass(frozen=True)
class DataCheck:
    """A data set as found and understood. ``objects``: number in each image."""

    dataset: Dataset
    examples: tuple[Example, ...]
    meaning: Meaning
    objects: tuple[int, ...]

    @property
    def reasons(self) -> tuple[str, ...]:
        """Every inference in words."""
        return (*self.dataset.reasons, self.meaning.reason)


def check_data(
    path: str | Path | None,
    *,
    images: str | Path | None = None,
    masks: str | Path | None = None,
    task: str | None = None,
    ndim: int | None = None,
) -> DataCheck:
    """Find, read and understand a data folder as training would; raises `DataError` as training would."""
    dataset = find_dataset(path, images=images, masks=masks, ndim=ndim)
    examples, meaning = understand(load(dataset), dataset, task=task)
    return DataCheck(dataset, tuple(examples), meaning, tuple(_objects(e, meaning) for e in examples))


def _objects(example: Example, meaning: Meaning) -> int:
    if meaning.task == "instances" and not meaning.pieces:
        return int(np.count_nonzero(np.unique(example.labels) > 0))
    return int(components(example.labels).max(initial=0))
